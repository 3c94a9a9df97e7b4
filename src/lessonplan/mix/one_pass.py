"""Pairs of a batch in one pass over memory, into memory that is given: what ``functional`` says, bit for bit.

On a CPU moving a batch takes longer than mixing it, and memory that was never touched longer than both. Partners
are read where they are, in blocks that stay in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lessonplan.mix import functional as F
from lessonplan.mix.memory import as_rows, direct
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
    top, bottom, left, right = box
    window = x[..., top:bottom, left:right]
    if not direct(x):
        mixed = x.clone()
        mixed[..., top:bottom, left:right] = partners_of(window, partners)
        return mixed
    out = room(x)
    into = out[..., top:bottom, left:right]
    if isinstance(partners, int):
        out.copy_(x)
        for own, other in _turned(len(x), partners):
            into[own].copy_(window[other])
        return out
    for part in _blocks(x):
        out[part].copy_(x[part])
        if window.numel():
            torch.index_select(window, 0, partners[part], out=into[part])
    return out


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
