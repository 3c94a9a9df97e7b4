"""Image classifiers of the transformers library, loaded only when one is asked for."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lessonplan.errors import ConfigError, first_line
from lessonplan.models.beside_torchvision import import_beside_torchvision


class ImageClassifier(nn.Module):
    """A classifier of transformers whose forward pass gives the logits alone.

    Args:
        model: what ``AutoModelForImageClassification`` made.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` to logits ``(N, classes)``."""
        logits: Tensor = self.model(pixel_values=x).logits
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
    if takes != in_channels:
        raise ConfigError(f"{name!r} takes images of {takes} channels and these have {in_channels}: convert them")
    return ImageClassifier(model.float())


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
    return {
        "input_size": (3, final, final),
        "interpolation": {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}.get(known.get("resample", 2)),
        "crop_pct": min(1.0, final / edge) if known.get("do_center_crop", cut is not None) else 1.0,
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
    try:
        return import_beside_torchvision("transformers")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "transformers models need transformers: pip install 'lessonplan[transformers]'"
        ) from error
