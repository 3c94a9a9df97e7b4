"""What weights ask of the input that they were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lessonplan.data.preprocess import Preprocessing

_INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest")


@dataclass(frozen=True)
class InputNeeds:
    """Size, resizing and normalisation that belong to a network's weights.

    Attributes:
        size: height and width in pixels; None leaves the data's own.
        mean: per channel in units of ``[0, 1]`` pixels; None measures the training data.
        std: the same.
        interpolation: how images are resized: bilinear, bicubic, lanczos or nearest.
        crop: share of a resized image's sides that is kept around its centre, in (0, 1].
        pad: height and width of a black frame around images of that size; None is none.
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str = "bilinear"
    crop: float = 1.0
    pad: tuple[int, int] | None = None

    def statistics(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and deviation for images of so many channels; grey ones take the mean over the colours'.

        >>> InputNeeds(mean=(0.2, 0.4, 0.6), std=(0.5, 0.5, 0.5)).statistics(1)
        ((0.4,), (0.5,))
        """
        if self.mean is None or self.std is None:
            return None
        return _for(self.mean, channels), _for(self.std, channels)

    @classmethod
    def of_run(cls, prepared: Preprocessing) -> InputNeeds:
        """What a run of ours does to its images."""
        frame = (prepared.shape[1], prepared.shape[2]) if len(prepared.shape) == 3 else None
        size = frame if prepared.image is None else (prepared.image[0], prepared.image[1])
        decoding = prepared.decoding
        interpolation = decoding.interpolation or "bilinear"
        pad = None if prepared.image is None else frame
        return cls(size, prepared.mean, prepared.std, interpolation, decoding.crop or 1.0, pad)

    @classmethod
    def of_timm(cls, config: dict[str, Any]) -> InputNeeds:
        """From what timm's ``pretrained_cfg`` says."""
        interpolation = config.get("interpolation") or "bilinear"
        _, height, width = config.get("input_size") or (3, 224, 224)
        return cls(
            size=(int(height), int(width)),
            mean=tuple(float(m) for m in config["mean"]) if config.get("mean") else None,
            std=tuple(float(s) for s in config["std"]) if config.get("std") else None,
            interpolation=interpolation if interpolation in _INTERPOLATIONS else "bicubic",
            crop=float(config.get("crop_pct") or 1.0),
        )


def _for(values: Sequence[float], channels: int) -> tuple[float, ...]:
    if len(values) == channels:
        return tuple(values)
    return (round(sum(values) / len(values), 12),) * channels
