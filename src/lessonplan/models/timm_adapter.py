"""Models of the timm library, loaded only when one is asked for."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from torch import nn

from lessonplan.errors import ConfigError


def build_timm(name: str, *, in_channels: int, num_classes: int, image_size: tuple[int, int]) -> nn.Module:
    """A timm model without pretrained weights, for images of ``image_size`` (height, width).

    Raises:
        ConfigError: timm is missing or cannot be imported, knows no model of that name, or cannot build it.
    """
    timm = _import_timm()
    plain, _, tag = name.partition(".")
    if tag:
        raise ConfigError(
            f"'timm:{name}' names pretrained weights ({tag}), which are not loaded here: write 'timm:{plain}'"
            " for random ones"
        )
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=1, cutoff=0.5)
        hint = f"did you mean 'timm:{near[0]}'?" if near else "timm.list_models() lists them"
        raise ConfigError(f"unknown timm model {name!r}: {hint}")
    options: dict[str, Any] = {"pretrained": False, "in_chans": in_channels, "num_classes": num_classes}
    try:
        try:  # transformers fix their grid of patches when they are built
            model = timm.create_model(name, img_size=image_size, **options)
        except TypeError:  # convolutional networks have no such argument
            model = timm.create_model(name, **options)
    except (RuntimeError, ValueError, AssertionError) as error:  # wrong tag, or a size that does not fit
        height, width = image_size
        raise ConfigError(
            f"timm cannot build {name!r} for {height} x {width} images ({error}): choose another model or size"
        ) from error
    if not isinstance(model, nn.Module):
        raise ConfigError(f"timm model {name!r} is no torch module: choose another one")
    return model


def _import_timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name in (None, "timm"):
            raise ConfigError("timm models need timm: pip install 'lessonplan[timm]'") from error
        raise _broken(error) from error
    except (ImportError, RuntimeError, OSError) as error:
        raise _broken(error) from error


def _broken(error: Exception) -> ConfigError:
    # nearly always a torchvision that is missing or was built for another torch
    reason = str(error).partition("\n")[0]
    return ConfigError(
        f"timm is installed but cannot be imported ({reason}): "
        "install what is missing, torchvision in the build that belongs to your torch"
    )
