"""The operations that the published policies choose from, one of its own for each picture of a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lessonplan.data.augmentation import pixelwise
from lessonplan.data.augmentation.warp import Pad, resample

_MOVES = ("shear-x", "shear-y", "translate-x", "translate-y", "rotate")
_BY_FACTOR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": pixelwise.brightness,
    "saturation": pixelwise.saturation,
    "contrast": pixelwise.contrast,
    "sharpness": pixelwise.sharpness,
}
_BY_LEVEL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "posterize": pixelwise.posterize,
    "solarize": pixelwise.solarize,
}
_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "autocontrast": pixelwise.autocontrast,
    "equalize": pixelwise.equalize,
    "invert": pixelwise.invert,
}
OPERATIONS = ("identity", *_MOVES, *_BY_FACTOR, *_BY_LEVEL, "autocontrast", "equalize", "invert")
SIGNED = (*_MOVES, *_BY_FACTOR)
"""Operations whose amount is turned round half of the time."""


def apply(x: Tensor, operation: Tensor, amount: Tensor, pad: Pad) -> Tensor:
    """Each picture by its operation.

    Args:
        x: ``(B, C, H, W)`` float32 in [0, 255]; C is 1 or 3.
        operation: ``(B,)`` int64, places in ``OPERATIONS``.
        amount: ``(B,)``: of a shear its tangent, of a translation pixels, of a rotation degrees, of brightness,
            saturation, contrast and sharpness what is added to the factor 1, of posterize bits, of solarize the
            threshold; the others take none.
        pad: what lies outside a moved picture.
    """
    out = x.clone()
    # one question to the device for all: which pictures have which operation
    present = torch.bincount(operation, minlength=len(OPERATIONS)).tolist()
    moved = (operation >= 1) & (operation <= len(_MOVES))
    if any(present[1 : len(_MOVES) + 1]):
        at = moved.nonzero()[:, 0]
        out[at] = resample(x[at], _matrices(operation[at], amount[at], tuple(x.shape[2:])), pad)
    for number, name in enumerate(OPERATIONS):
        if not present[number] or name == "identity" or name in _MOVES:
            continue
        at = (operation == number).nonzero()[:, 0]
        some, much = x[at], amount[at]
        if name in _BY_FACTOR:
            out[at] = _BY_FACTOR[name](some, 1 + much)
        elif name in _BY_LEVEL:
            out[at] = _BY_LEVEL[name](some, much)
        else:
            out[at] = _PLAIN[name](some)
    return out


def _matrices(operation: Tensor, amount: Tensor, size: tuple[int, ...]) -> Tensor:
    """Where pixels of moved pictures come from, for :func:`resample`.

    Shears leave the first row or column where it is, as the policies' authors had them, so they also shift what
    is measured from the centre; translations are by whole pixels.
    """
    h, w = size
    zero, one = torch.zeros_like(amount), torch.ones_like(amount)

    def of(name: str) -> Tensor:
        return torch.where(operation == OPERATIONS.index(name), amount, zero)

    angle = torch.deg2rad(of("rotate"))
    cos, sin, slant_x, slant_y = torch.cos(angle), torch.sin(angle), of("shear-x"), of("shear-y")
    right, down = of("translate-x").trunc(), of("translate-y").trunc()
    first = torch.stack([cos, sin + slant_x, slant_x * (h / 2) - right], 1)
    second = torch.stack([slant_y - sin, cos * one, slant_y * (w / 2) - down], 1)
    return torch.stack([first, second], 1)
