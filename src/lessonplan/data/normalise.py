"""Channel statistics of training data, and the normalisation made from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lessonplan.data.base import Source
from lessonplan.data.keyed import keyed_bits, stream_key
from lessonplan.progress import step

_STATISTICS = 0x5354_4154


@dataclass(frozen=True)
class Normalise:
    """``(x - mean) / std`` per channel, from raw samples to what a network sees.

    Args:
        mean: ``(C,)`` float32, in units of ``[0, 1]`` pixels for images; ``(F,)`` for features.
        std: the same, all positive.
        scale: what one unit is in raw values: 255 for images, 1 for features.

    >>> white = torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)
    >>> Normalise(torch.tensor([0.5]), torch.tensor([0.25]), 255.0)(white)
    tensor([[[[2.]]]])
    """

    mean: Tensor
    std: Tensor
    scale: float

    def to(self, device: torch.device) -> Normalise:
        """The same with its tensors on a device."""
        return Normalise(self.mean.to(device), self.std.to(device), self.scale)

    def __call__(self, x: Tensor) -> Tensor:
        """Raw ``(B, C, H, W)`` or ``(B, F)`` to float32; the input is left as it was."""
        shift, factor = self._applied
        if x.ndim > 2:
            shift, factor = (value.view(-1, *(1,) * (x.ndim - 2)) for value in (shift, factor))
        # Two rounded operations, not a fused one: the same bits whatever the batch and the vector width.
        return (x.to(torch.float32) - shift).mul_(factor)

    @cached_property
    def _applied(self) -> tuple[Tensor, Tensor]:
        """What is subtracted from raw values, and by what the rest is multiplied."""
        return self.mean * self.scale, 1.0 / (self.std * self.scale)


def scale_of(shape: tuple[int, ...]) -> float:
    """255 for images (C, H, W), 1 for features (F,)."""
    return 255.0 if len(shape) == 3 else 1.0


def measure(source: Source, rows: Tensor, *, seed: int, at_most: int | None, chunk: int = 1024) -> Normalise:
    """Mean and standard deviation of some rows of a source, per channel or feature.

    Args:
        source: where the samples are.
        rows: ``(n,)`` rows to measure, n >= 1.
        seed: which rows are drawn where there are more than ``at_most``.
        at_most: measure no more rows than this (decoding a streamed set costs); None: all.

    Returns:
        The population mean and deviation in float64 rounded to float32; a constant channel or feature gets
        deviation 1, so that it becomes 0 and not a division by 0.
    """
    if at_most is not None and len(rows) > at_most:
        order = torch.argsort(keyed_bits(stream_key(seed, _STATISTICS), rows, 1)[:, 0])
        rows = rows[order[:at_most]]
    scale, width = scale_of(source.shape), source.shape[0]
    # Sums around the first sample's values: no cancellation where the mean is large beside the spread.
    centre = source.read(rows[:1]).cpu().to(torch.float64).reshape(width, -1).mean(1)
    total, square = torch.zeros(2, width, dtype=torch.float64)
    count = 0
    with step("measuring samples", len(rows), "samples") as line:
        for part in rows.split(chunk):
            x = source.read(part).cpu().to(torch.float64).reshape(len(part), width, -1) - centre[:, None]
            total, square = total + x.sum((0, 2)), square + x.square().sum((0, 2))
            count += len(part) * x.shape[2]
            line.update(advance=len(part))
    offset = total / count
    std = (square / count - offset.square()).clamp_(min=0).sqrt() / scale
    mean = (centre + offset) / scale
    std = torch.where(std > 1e-7 * mean.abs().clamp(min=1e-6), std, torch.ones_like(std))
    return Normalise(mean.to(torch.float32), std.to(torch.float32), scale)
