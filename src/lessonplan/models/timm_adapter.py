"""Models of the timm library and their weights, loaded only when one is asked for."""

from __future__ import annotations

import difflib
from typing import Any

from torch import nn

from lessonplan.errors import ConfigError, first_line
from lessonplan.extras import refuse_other_versions
from lessonplan.models.beside_torchvision import import_beside_torchvision


def build_timm(
    name: str, *, in_channels: int, num_classes: int, image_size: tuple[int, int], pretrained: bool = False
) -> nn.Module:
    """A timm model for images of ``image_size`` (height, width).

    Args:
        name: as timm spells it, ``NAME`` or ``NAME.TAG``, or ``hf-hub:ORG/NAME``.
        in_channels, num_classes, image_size: of the data.
        pretrained: with the weights that timm has for it, from its cache or the internet; the tag says which.

    Raises:
        ConfigError: timm is missing or cannot be imported, knows no model of that name, cannot build it, or cannot
            fetch the weights.
    """
    timm = _import_timm()
    plain, _, tag = name.partition(".")
    if tag and not pretrained and not name.startswith("hf-hub:"):
        raise ConfigError(
            f"'timm:{name}' names pretrained weights ({tag}), and none were asked for: give weights='pretrained'"
            f" (--weights pretrained), or write 'timm:{plain}' for random ones"
        )
    if not name.startswith("hf-hub:") and not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=1, cutoff=0.5)
        hint = f"did you mean 'timm:{near[0]}'?" if near else "timm.list_models() lists them"
        raise ConfigError(f"unknown timm model {name!r}: {hint}")
    options: dict[str, Any] = {"pretrained": pretrained, "in_chans": in_channels, "num_classes": num_classes}
    try:
        try:  # transformers fix their grid of patches when they are built
            model = timm.create_model(name, img_size=image_size, **options)
        except TypeError:  # convolutional networks have no such argument
            model = timm.create_model(name, **options)
    except (RuntimeError, ValueError, AssertionError) as error:  # wrong tag, or a size that does not fit
        if pretrained and _is_of_the_net(error):
            raise _unfetched(name, error) from error
        height, width = image_size
        raise ConfigError(
            f"timm cannot build {name!r} for {height} x {width} images ({error}): choose another model or size"
        ) from error
    except Exception as error:  # each library between timm and the net has errors of its own
        if pretrained:
            raise _unfetched(name, error) from error
        if not (name.startswith("hf-hub:") and _is_of_the_net(error)):
            raise
        raise ConfigError(
            f"{name} says in a config.json which architecture it is, and that cannot be fetched"
            f" ({first_line(error)}): give the architecture itself, timm:NAME"
        ) from error
    if not isinstance(model, nn.Module):
        raise ConfigError(f"timm model {name!r} is no torch module: choose another one")
    return model


def timm_input(name: str) -> dict[str, Any]:
    """What timm says of the input of a model's weights: its ``pretrained_cfg`` as plain data.

    Raises:
        ConfigError: timm is missing, or knows no such model.
    """
    timm = _import_timm()
    if name.startswith("hf-hub:"):
        from timm.models import load_model_config_from_hf

        try:
            return dict(load_model_config_from_hf(name.removeprefix("hf-hub:"))[0])
        except Exception as error:
            raise _unfetched(name, error) from error
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if config is None:
        raise ConfigError(f"timm has no weights for {name!r}: timm.list_pretrained() lists those that it has")
    return dict(config.to_dict())


def timm_names() -> list[str]:
    """Models that timm can build."""
    return list(_import_timm().list_models())


def timm_families() -> list[list[str]]:
    """Models that timm can build, those of one file of timm together."""
    timm = _import_timm()
    families = [list(timm.list_models(module=module)) for module in timm.list_modules()]
    return [names for names in families if names]


def _is_of_the_net(error: Exception) -> bool:
    """Whether an error, or what caused it, is of a connection or of a file that is not there."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _unfetched(name: str, error: Exception) -> ConfigError:
    """What to bring where weights cannot be downloaded."""
    reason = first_line(error)
    timm = _import_timm()
    of_hub = name.startswith("hf-hub:")
    shown = name if of_hub else f"timm:{name}"
    where = f"https://huggingface.co/{name.removeprefix('hf-hub:')}"
    config = None if of_hub else timm.get_pretrained_cfg(name)
    if config is not None and config.hf_hub_id:
        where = f"https://huggingface.co/{config.hf_hub_id}"
    elif config is not None and config.url:
        return ConfigError(
            f"the weights of {shown} cannot be fetched ({reason}): bring {config.url} and give it with"
            " --weights FILE"
        )
    return ConfigError(
        f"the weights of {shown} cannot be fetched ({reason}): bring model.safetensors from {where} and give"
        " it with --weights FILE"
    )


def _import_timm() -> Any:
    refuse_other_versions("timm")
    try:
        return import_beside_torchvision("timm")
    except ModuleNotFoundError as error:
        if error.name in (None, "timm"):
            raise ConfigError("timm models need timm: pip install 'lessonplan[timm]'") from error
        raise _broken(error) from error
    except (ImportError, RuntimeError, OSError) as error:
        raise _broken(error) from error


def _broken(error: Exception) -> ConfigError:
    # nearly always a torchvision that is missing or was built for another torch
    reason = first_line(error)
    return ConfigError(
        f"timm is installed but cannot be imported ({reason}): "
        "install what is missing, torchvision in the build that belongs to your torch"
    )
