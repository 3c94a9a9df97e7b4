"""Pairs of a batch in one pass over memory, into memory that is given: what ``functional`` says, bit for bit.

On a CPU moving a batch takes longer than mixing it, and memory that was never touched longer than both. Partners
are read where they are, in blocks that stay in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from lessonplan.mix import functional as F
from lessonplan.mix.memory import as_rows, direct, ordinary
from lessonplan.rows import rows_of

Room = Callable[[Tensor], Tensor]
"""Gives memory for a batch like the one it is given."""

Partners = Tensor | int
"""Each sample's partner: its place, ``(N,)`` int64, or how many places before the sample it lies, in a circle."""

_BLOCK = 2**22  # bytes: few calls, what is written twice lies in the cache, and two threads have a huge page each
_LONG = 48 * 1024  # bytes of a sample from which on a call for each costs less than a block's second pass
_GRAIN = 2**15  # elements that PyTorch gives a thread at least
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def partners_of(x: Tensor, partners: Partners) -> Tensor:
    """Each sample's partner, as new memory ``(N, ...)``.

    >>> partners_of(torch.tensor([1, 2, 3]), 1)
    tensor([3, 1, 2])
    """
    return x.roll(partners, 0) if isinstance(partners, int) else rows_of(x, partners)


def interpolate(x: Tensor, partners: Partners, lam: Tensor, room: Room) -> Tensor:
    """``functional.interpolate`` of a batch and the samples' partners.

    Args:
        x: batch ``(N, ...)``, floating point.
        partners: see ``Partners``.
        lam: scalar tensor, or ``(N,)``.
        room: asked for memory where the batch can be mixed into some (``memory.direct``).

    >>> interpolate(torch.tensor([1.0, 3.0]), torch.tensor([1, 0]), torch.tensor(0.25), torch.empty_like)
    tensor([2.5000, 1.5000])
    """
    if not direct(x):
        return F.interpolate(x, partners_of(x, partners), lam)
    out = room(x)
    rows, into, lam = as_rows(x), as_rows(out), lam.to(x.dtype)
    if isinstance(partners, int):
        for own, other in _turned(len(x), partners):
            torch.lerp(rows[other], rows[own], lam[own].unsqueeze(1) if lam.ndim else lam, out=into[own])
        return out
    if _one_by_one(rows):
        each = lam.unbind() if lam.ndim else [lam] * len(x)
        for row, partner, share, place in zip(rows, partners.tolist(), each, into, strict=True):
            torch.lerp(rows[partner], row, share, out=place)
        return out
    lam = lam.unsqueeze(1) if lam.ndim else lam
    for part in _blocks(rows):
        torch.index_select(rows, 0, partners[part], out=into[part])
        into[part].lerp_(rows[part], lam[part] if lam.ndim else lam)
    return out


def paste_box(x: Tensor, partners: Partners, box: tuple[int, int, int, int], room: Room) -> Tensor:
    """The same box for all, from each one's partner: nothing but the box is read of it.

    Args:
        x: images ``(N, ..., H, W)``.
        partners: see ``Partners``.
        box: top, bottom, left, right in pixels; bottom and right exclusive.
        room: see ``interpolate``.
    """
    fast = direct(x)
    out = room(x).copy_(x) if fast else x.clone()
    window, into = _window(x, box), _window(out, box)
    if not window.numel():
        return out
    if not fast:
        into.copy_(partners_of(window, partners))
    elif isinstance(partners, int):
        for own, other in _turned(len(x), partners):
            into[own].copy_(window[other])
    else:
        torch.index_select(window, 0, partners, out=into)
    return out


def pair_label_mass(y: Tensor, partners: Partners, lam: Tensor, num_classes: int) -> Tensor:
    """``functional.pair_label_mass`` of a batch's integer labels and those of the samples' partners.

    By NumPy, whose calls cost a third of PyTorch's on so few numbers: after a batch has gone through the cache
    each call is dear.

    Args:
        y: integer labels ``(N,)`` in [0, num_classes).
        partners: see ``Partners``.
        lam: scalar tensor, or ``(N,)``, in [0, 1].
        num_classes: C.

    >>> pair_label_mass(torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor(0.75), 2)
    tensor([[0.7500, 0.2500],
            [0.0000, 1.0000]])
    """
    read = (y, lam) if isinstance(partners, int) else (y, lam, partners)
    if not all(map(ordinary, read)):
        return F.pair_label_mass(y, partners_of(y, partners), lam, num_classes)
    labels, share = y.numpy(), lam.to(torch.float32).numpy()
    if isinstance(partners, int):
        others = np.concatenate((labels[len(y) - partners :], labels[: len(y) - partners]))
    else:
        others = labels[partners.numpy()]
    target = torch.zeros(len(y), num_classes, dtype=torch.float32, device="cpu")
    flat, rows = target.view(-1).numpy(), np.arange(0, target.numel(), num_classes)
    flat[rows + labels] = share
    flat[rows + others] += np.float32(1.0) - share  # of the same label: lam + (1 - lam) is 1 in float32, too
    return target


def _window(x: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    top, bottom, left, right = box
    return x.narrow(-2, top, bottom - top).narrow(-1, left, right - left)


def paste_boxes(x: Tensor, partners: Partners, boxes: Tensor, room: Room) -> Tensor:
    """A box of its own for each image, from its partner; the images of ``functional.paste_boxes``.

    Args:
        x: images ``(N, ..., H, W)``.
        partners: see ``Partners``.
        boxes: ``(N, 4)``, top, bottom, left, right.
        room: see ``interpolate``.
    """
    if not direct(x):
        return F.paste_boxes(x, partners_of(x, partners), boxes)[0]
    out = room(x)
    at = (torch.arange(len(x), device="cpu") - partners) % len(x) if isinstance(partners, int) else partners
    if _one_by_one(x):
        out.copy_(x)
        for place, partner, (top, bottom, left, right) in zip(out, at.tolist(), boxes.tolist(), strict=True):
            place[..., top:bottom, left:right] = x[partner][..., top:bottom, left:right]
        return out
    rows, into = as_rows(x), as_rows(out)
    for part in _blocks(x):
        torch.index_select(rows, 0, at[part], out=into[part])
        torch.where(_masks(x, boxes[part]), out[part], x[part], out=out[part])
    return out


def fill_boxes(x: Tensor, value: float, boxes: Tensor, room: Room) -> Tensor:
    """A box of each image filled with one value; the images of ``functional.paste_boxes``.

    Args:
        x: images ``(N, ..., H, W)``.
        value: what fills the boxes.
        boxes: ``(N, 4)``, top, bottom, left, right.
        room: see ``interpolate``.
    """
    if not direct(x):
        return F.paste_boxes(x, value, boxes)[0]
    out = room(x)
    if _one_by_one(x):
        out.copy_(x)
        for place, (top, bottom, left, right) in zip(out, boxes.tolist(), strict=True):
            place[..., top:bottom, left:right] = value
        return out
    zero = value == 0 and math.copysign(1.0, value) > 0
    if zero and x.element_size() in _BITS:
        return _zero_boxes(x, boxes, out)
    filling = torch.tensor(value, dtype=x.dtype, device="cpu")
    for part in _blocks(x):
        torch.where(_masks(x, boxes[part]), filling, x[part], out=out[part])
    return out


def _zero_boxes(x: Tensor, boxes: Tensor, out: Tensor) -> Tensor:
    """All bits of a pixel kept, or none: half the time of choosing numbers by a mask."""
    bits, (height, width) = _BITS[x.element_size()], x.shape[-2:]
    top, bottom, left, right = (edge.unsqueeze(1) for edge in boxes.unbind(1))
    columns, lines = torch.arange(width, device="cpu"), torch.arange(height, device="cpu")
    # Bits to keep, all or none: of columns beside the box, and of lines above and below it.
    planes = (1,) * (x.ndim - 4)
    beside = ((columns < left) | (columns >= right)).to(bits).neg_().view(-1, *planes, 1, width)
    around = ((lines < top) | (lines >= bottom)).to(bits).neg_().view(-1, *planes, height, 1)
    old, new = x.view(bits), out.view(bits)
    old, new = (old.unsqueeze(1), new.unsqueeze(1)) if x.ndim == 3 else (old, new)
    for part in _blocks(x):
        if not x.is_contiguous():
            torch.bitwise_and(old[part], (around[part] | beside[part]).unsqueeze(1), out=new[part])
            continue
        keep = new[part, -1]  # the last channel's place, written last: memory that is touched anyway
        torch.bitwise_or(around[part].expand_as(keep), beside[part], out=keep)
        torch.bitwise_and(old[part, :-1], keep.unsqueeze(1), out=new[part, :-1])
        keep.bitwise_and_(old[part, -1])
    return out


def _masks(x: Tensor, boxes: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    return F.box_mask(boxes, height, width).view(len(boxes), *(1,) * (x.ndim - 3), height, width)


def _one_by_one(x: Tensor) -> bool:
    """Whether samples are so long that a call for each is cheaper, and all threads have work in each."""
    length, threads = x[0].numel(), torch.get_num_threads()
    return length * x.element_size() >= _LONG and (threads == 1 or length >= threads * _GRAIN)


def _turned(count: int, places: int) -> tuple[tuple[slice, slice], ...]:
    """Runs of samples, and of their partners ``places`` before them in a circle: nothing is gathered.

    >>> _turned(5, 2)
    ((slice(2, 5, None), slice(0, 3, None)), (slice(0, 2, None), slice(3, 5, None)))
    """
    first = slice(places, count), slice(0, count - places)
    return (first, (slice(0, places), slice(count - places, count))) if places else (first,)


def _blocks(x: Tensor) -> Iterator[slice]:
    size = max(1, _BLOCK // (x[0].numel() * x.element_size()))
    for start in range(0, len(x), size):
        yield slice(start, start + size)
