"""Image classifiers of the transformers library, loaded only when one is asked for."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

from torch import Tensor, nn

from lessonplan.errors import ConfigError, first_line
from lessonplan.extras import refuse_other_versions
from lessonplan.models.beside_torchvision import import_beside_torchvision

_RESAMPLE = "interpolate_pos_encoding"
_UNCROPPED_FROM = 384  # pixels; larger images are resized to the whole by ConvNeXt's processor


class ImageClassifier(nn.Module):
    """A classifier of transformers whose forward pass gives the logits alone.

    Args:
        model: what ``AutoModelForImageClassification`` made.
        channels: of the images that it takes; grey ones are shown to it in each of them, which is what summing
            its first layer over the colours gives.
        resampled: whether its position embeddings are resampled to images of another size than its own.
    """

    def __init__(self, model: nn.Module, channels: int, *, resampled: bool = False) -> None:
        super().__init__()
        self.model, self._channels = model, channels
        self._more: dict[str, Any] = {_RESAMPLE: True} if resampled else {}

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` to logits ``(N, classes)``."""
        if x.shape[1] == 1:
            x = x.expand(-1, self._channels, -1, -1)
        logits: Tensor = self.model(pixel_values=x, **self._more).logits
        return logits

    def get_classifier(self) -> nn.Module | None:
        """The head, under the name that most of them have."""
        head = getattr(self.model, "classifier", None)
        return head if isinstance(head, nn.Module) else None


def build_transformers(
    name: str, *, in_channels: int, num_classes: int, image_size: tuple[int, int], pretrained: bool = False
) -> nn.Module:
    """A classifier of transformers with a head for ``num_classes``.

    Args:
        name: of a model on Hugging Face, or a folder with its ``config.json``.
        in_channels, num_classes, image_size: of the data.
        pretrained: with its weights; else its architecture alone.

    Raises:
        ConfigError: transformers is missing, there is no such model, or it takes other images.
    """
    library = _import()
    try:
        config = library.AutoConfig.from_pretrained(name, num_labels=num_classes)
        for option, value in (("num_channels", in_channels), ("image_size", image_size[0])):
            if not pretrained and hasattr(config, option):
                setattr(config, option, value)
        make = library.AutoModelForImageClassification
        if pretrained:
            model = make.from_pretrained(name, num_labels=num_classes, ignore_mismatched_sizes=True)
        else:
            model = make.from_config(config)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = first_line(error)
        raise ConfigError(
            f"transformers cannot make an image classifier of {name!r} ({reason}): give the name of one, or a"
            " folder with its config.json and model.safetensors"
        ) from error
    takes = getattr(model.config, "num_channels", in_channels)
    if in_channels not in (1, takes):
        raise ConfigError(f"{name!r} takes images of {takes} channels and these have {in_channels}: convert them")
    own = getattr(model.config, "image_size", None)
    own = _pair(own) if own is not None else tuple(image_size)
    resampled = own != tuple(image_size) and _RESAMPLE in inspect.signature(model.forward).parameters
    return ImageClassifier(model.float(), takes, resampled=resampled)


def _pair(size: Any) -> tuple[int, int]:
    """Height and width as configurations write them: one number, or both."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def transformers_input(name: str) -> dict[str, Any]:
    """What the model's image processor does, in the words of timm's ``pretrained_cfg``.

    Raises:
        ConfigError: transformers is missing, or the model has no image processor.
    """
    library = _import()
    try:
        known, _ = library.ImageProcessingMixin.get_image_processor_dict(name)
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise ConfigError(
            f"{name!r} has no preprocessor_config.json that could be read ({reason}): give the name of a model, or"
            " its folder"
        ) from error
    edge = _side(known.get("size")) or 224
    cut = _side(known.get("crop_size"))
    final = cut or edge
    share = min(1.0, final / edge) if known.get("do_center_crop", cut is not None) else 1.0
    if cut is None and known.get("crop_pct") and edge < _UNCROPPED_FROM:  # ConvNeXt's
        share = float(known["crop_pct"])
    return {
        "input_size": (3, final, final),
        "interpolation": {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}.get(known.get("resample", 2)),
        "crop_pct": share,
        "mean": known.get("image_mean") if known.get("do_normalize", True) else (0.0, 0.0, 0.0),
        "std": known.get("image_std") if known.get("do_normalize", True) else (1.0, 1.0, 1.0),
        "num_classes": library.AutoConfig.from_pretrained(name).num_labels,
    }


def _side(size: Any) -> int | None:
    """A side in pixels as image processors write it: a number, or one of several names for it."""
    if isinstance(size, int):
        return size
    found = next((size[name] for name in ("shortest_edge", "height") if size and name in size), None)
    return None if found is None else int(found)


def _import() -> Any:
    refuse_other_versions("transformers")
    try:
        with contextlib.suppress(ImportError, RuntimeError, OSError):
            import_beside_torchvision("torchvision")  # which transformers imports later, class by class
        return import_beside_torchvision("transformers")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "transformers models need transformers: pip install 'lessonplan[transformers]'"
        ) from error
