"""What happens to training samples, batched on the device and keyed by sample: the same pixels in any batch."""

from __future__ import annotations

import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lessonplan.data.augmentation.change import Change
from lessonplan.data.augmentation.policies import Policy
from lessonplan.data.augmentation.warp import WORDS as MOVES
from lessonplan.data.augmentation.warp import Pad, Warp
from lessonplan.data.augmentation.words import CHANGES, EXAMPLES, read_change
from lessonplan.data.keyed import keyed_uniform, stream_key
from lessonplan.errors import ConfigError, DataError, unknown
from lessonplan.parts.identity import describe_function

Transform = Callable[[Tensor], Tensor]
_TRANSFORM = 0x5452_414E_53  # keeps a transform's random numbers apart from those of flips and crops
_CHANGE = 0x4348_414E_47  # and those of every other word apart from both


@dataclass(frozen=True)
class Augment:
    """How training samples are changed each epoch.

    Args:
        flip: mirror left and right with probability 1/2.
        crop: pixels of padding on every side before a crop of the original size; 0 is no crop.
        pad: what the padding holds.
        shift: columns that a sample is moved left or right at most, blank where it leaves; for spectrograms,
            whose columns are time.
        warp: one resampling that turns, slants, shifts, zooms and cuts, after flip and crop.
        changes: what comes after the moves, in their order: colours, filters, noise, published policies. They
            are defined on 8-bit pictures.
        transform: a function of one raw sample (uint8 ``(C, H, W)``, or float32 ``(F,)`` for features) that
            returns one of the same shape and type. It is applied first and may use the global generators of
            torch, NumPy and ``random``: they are seeded from (seed, epoch, row) for it and put back after.
    """

    flip: bool = False
    crop: int = 0
    pad: Pad = "reflect"
    transform: Transform | None = None
    shift: int = 0
    warp: Warp = field(default_factory=Warp)
    changes: tuple[Change, ...] = ()

    @classmethod
    def parse(cls, text: str, shape: tuple[int, ...] | None = None, *, audio: bool = False) -> Augment:
        """Read ``"none"``, ``"auto"`` (see :func:`auto`) or a list such as ``"flip,crop:4,rotate:15,trivial"``.

        Moves are made first, whatever their place in the list; the rest in the order in which it is written.

        Raises:
            ConfigError: a word nobody knows or that is given twice, a number out of its range, or ``"auto"``
                without a shape.

        >>> str(Augment.parse("jitter:.4/.4,flip,rotate:15,crop:4"))
        'flip,crop:4,rotate:15,jitter:0.4/0.4'
        """
        if text == "none":
            return cls()
        if text == "auto":
            if shape is None:
                raise ConfigError("augment 'auto' depends on the data: give the shape of a sample")
            return auto(shape, audio=audio)
        words = [word.strip().partition(":")[::2] for word in text.split(",")]
        twice = [name for name, count in Counter(name for name, _ in words).items() if count > 1]
        if twice and twice[0] in (*_FIRST, *MOVES):
            raise ConfigError(f"augment '{text}': {twice[0]} is there twice, give it once")
        values = dict(words)
        alone = next((name for name in ("auto", "none") if name in values), None)
        if alone is not None:
            raise ConfigError(f"augment '{text}': {alone} stands alone; without it the other words are a choice")
        pad = _padding(values.get("pad", "reflect"))
        warp, changes = Warp(), []
        for name, value in words:
            if name in MOVES:
                warp = warp.with_word(name, value)
            elif name in CHANGES:
                changes.append(read_change(name, value, pad))
            elif name not in _FIRST or (name == "flip" and value):
                given = f"{name}:{value}" if value else name
                raise unknown(
                    "augmentation", given, ["auto", "none", *_FIRST.values(), *MOVES.values(), *EXAMPLES]
                )
        augment = cls(
            flip="flip" in values,
            crop=_pixels("crop", values),
            pad=pad,
            shift=_pixels("shift", values),
            warp=replace(warp, pad=pad) if warp.moves else warp,
            changes=tuple(changes),
        )
        if "pad" in values and not augment._pads:
            raise ConfigError(
                f"augment '{text}': pad says what lies outside of moved pictures, and nothing here moves them: add"
                " crop:4, say"
            )
        return augment

    @property
    def _pads(self) -> bool:
        """Whether anything outside of a picture may be seen; a shift leaves blanks whatever is given."""
        return bool(self.crop) or self.warp.moves or any(isinstance(change, Policy) for change in self.changes)

    def __str__(self) -> str:
        """The text that :meth:`parse` reads.

        >>> str(Augment(flip=True, crop=4)), str(Augment())
        ('flip,crop:4', 'none')
        """
        words = ["flip"] * self.flip + [f"crop:{self.crop}"] * (self.crop > 0)
        words += [f"shift:{self.shift}"] * (self.shift > 0)
        words += [str(self.warp)] * self.warp.moves
        words += map(str, self.changes)
        if self.pad == "zeros" and self._pads:
            words.append("pad:zeros")
        if self.transform is not None:
            words.append(f"transform={describe_function(self.transform)}")
        return ",".join(words) or "none"

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ConfigError where samples of this shape cannot be changed so."""
        if len(shape) != 3 and str(replace(self, transform=None)) != "none":
            raise ConfigError(f"augment '{self}' needs images; samples here have shape {shape}: use 'none'")
        if self.crop < 0:
            raise ConfigError(f"augment crop:{self.crop}: the padding must be 0 or more pixels")
        if self.crop and self.shift:
            raise ConfigError(f"augment '{self}': a crop moves samples already, give crop or shift")
        if not 0 <= self.shift < shape[-1]:
            raise ConfigError(f"augment shift:{self.shift}: move samples by 0 to {shape[-1] - 1} columns")
        if self.crop and self.crop >= min(shape[1:]):
            raise ConfigError(
                f"augment crop:{self.crop} is too large for images of {shape[1]} x {shape[2]} pixels: "
                f"use at most {min(shape[1:]) - 1}"
            )
        for change in self.changes:
            change.check(shape)

    @property
    def resamples(self) -> bool:
        """Whether values of pixels are computed, not only taken from other places."""
        return self.warp.moves or bool(self.changes)

    def __call__(self, x: Tensor, rows: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Change a batch (the transform, if any, is :func:`apply_transform`'s business).

        Args:
            x: ``(B, C, H, W)``, any dtype where it is flipped, cropped and shifted, floating or uint8 where it is
                warped, uint8 for all else; features pass unchanged when nothing is to be done.
            rows: ``(B,)`` int64 on the device of ``x``, the source rows that key the random numbers.
            seed: key of the whole run's augmentation.
            epoch: number of the epoch.

        Returns:
            A batch of the same shape and dtype; ``x`` itself where there is nothing to do.

        Raises:
            ConfigError: changes of what is no 8-bit picture.
        """
        if self.flip or self.crop or self.shift:
            x = self._gather(x, rows, seed, epoch)
        return self._resample(x, rows, seed, epoch) if self.resamples else x

    def _gather(self, x: Tensor, rows: Tensor, seed: int, epoch: int) -> Tensor:
        """Flip, crop and shift: every pixel is one of the sample's own."""
        u = keyed_uniform(seed, epoch, rows, 3)
        high, wide = (_side(*side, x.device) for side in zip(x.shape[2:], self._moves, strict=True))
        down, right = (_whole(u[:, d : d + 1], most) for d, most in enumerate(self._moves))
        ys = high.places + down
        # The picture is mirrored after the crop: column j of the output is column w - 1 - j of the crop.
        xs = (torch.where(u[:, 2:] < 0.5, wide.mirrored, wide.places) if self.flip else wide.places) + right
        index = (high.inside[ys] * x.shape[3])[:, :, None] + wide.inside[xs][:, None, :]
        # One gather over flat pixels: of the ways measured (advanced indexing 2.0 ms, a loop over samples
        # 1.2 ms, sliding windows 0.9 ms, this 0.3 ms for 100 x 3 x 32 x 32 on one core) the fastest.
        out = x.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, x.shape[1], -1)).view_as(x)
        if self.shift or (self.crop and self.pad == "zeros"):
            outside = high.outside[ys][:, :, None] | wide.outside[xs][:, None, :]
            out = out.masked_fill_(outside[:, None], 0)
        return out

    @property
    def _moves(self) -> tuple[int, int]:
        """Pixels by which a picture is moved at most, up or down and left or right."""
        return self.crop, self.crop + self.shift

    def _resample(self, x: Tensor, rows: Tensor, seed: int, epoch: int) -> Tensor:
        """Warp, and then one change after the other, rounded to whole numbers once at the end."""
        whole = x.dtype == torch.uint8
        if not whole and (self.changes or not x.is_floating_point()):
            what = "colours are changed" if self.changes else "pictures are resampled"
            raise ConfigError(f"augment '{self}': {what} in 8-bit pictures; these samples are {x.dtype}")
        out = x.float() if whole else x
        seen: Counter[str] = Counter()
        for change in (*([self.warp] if self.warp.moves else []), *self.changes):
            name = type(change).__name__
            # by name, so that the draws of a word stay when others come or go
            key = stream_key(seed, _CHANGE, zlib.crc32(name.encode()), seen[name])
            seen[name] += 1
            out = change(out, keyed_uniform(key, epoch, rows, change.draws(tuple(x.shape[1:]))))
        return out.round_().clamp_(0, 255).to(torch.uint8) if whole else out


_FIRST = {"flip": "flip", "crop": "crop:4", "pad": "pad:zeros", "shift": "shift:3"}
"""Words of what is done by a gather, each as one may write it."""


def _padding(value: str) -> Pad:
    if value not in ("reflect", "zeros"):
        raise unknown("padding", value, ["reflect", "zeros"])
    return "zeros" if value == "zeros" else "reflect"


def _pixels(name: str, values: dict[str, str]) -> int:
    """The number of pixels behind a word; 0 where it is not given."""
    value = values.get(name)
    if value is None:
        return 0
    if not re.fullmatch(r"[0-9]{1,6}", value):
        raise ConfigError(
            f"augment {f'{name}:{value}' if value else name!r}: write a number of pixels, such as '{name}:4'"
        )
    return int(value)


def _whole(u: Tensor, most: int) -> Tensor:
    """Uniform numbers in [0, 1) to whole ones from 0 to twice ``most``."""
    return (u * (2 * most + 1)).long().clamp_(max=2 * most)


@dataclass(frozen=True)
class _Side:
    """Rows or columns of a picture that is moved by up to ``most``; positions begin that far outside of it.

    Attributes:
        places, mirrored: ``(size,)``, positions of a picture that is moved by ``-most``, in order and reversed.
        inside: ``(size + 2 most,)``, which row or column is seen at a position: mirrored into ``[0, size)``, the
            border itself not repeated.
        outside: ``(size + 2 most,)``, whether a position lies outside.
    """

    places: Tensor
    mirrored: Tensor
    inside: Tensor
    outside: Tensor


@lru_cache(maxsize=32)
def _side(size: int, most: int, device: torch.device) -> _Side:
    """Made once for all batches, which are small and many."""
    places = torch.arange(size)
    at = torch.arange(-most, size + most)
    inside = size - 1 - (size - 1 - at.abs()).abs()
    made = places, size - 1 - places, inside, (at < 0) | (at >= size)
    return _Side(*(values.to(device) for values in made))


def auto(shape: tuple[int, ...], *, audio: bool = False) -> Augment:
    """The augmentation for samples of a shape when the user says nothing.

    Colour images of 28 pixels and more: flip, and crop with padding of an eighth of the height. Other images
    (digits, letters, scans, where left and right may matter): the crop alone. Features: none.
    Spectrograms: a shift by up to a tenth of their time; mirrored in time or moved in pitch, a word is another.

    >>> str(auto((3, 32, 32))), str(auto((1, 28, 28))), str(auto((5,))), str(auto((1, 32, 32), audio=True))
    ('flip,crop:4', 'crop:3', 'none', 'shift:3')
    """
    if len(shape) != 3:
        return Augment()
    if audio:
        return Augment(shift=shape[2] // 10)
    channels, h, w = shape
    return Augment(flip=channels == 3 and min(h, w) >= 28, crop=min(h // 8, min(h, w) - 1))


@contextmanager
def seeded_globals() -> Iterator[Callable[[int], None]]:
    """Lend the global CPU generators: seed them at will inside, find them untouched after."""
    state = torch.random.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002

    def seed(key: int) -> None:
        # torch.manual_seed would seed accelerators too, whose state is not saved here.
        torch.default_generator.manual_seed(key)
        np.random.seed(key & 0xFFFFFFFF)  # noqa: NPY002
        random.seed(key)

    try:
        yield seed
    finally:
        torch.random.set_rng_state(state[0])
        np.random.set_state(state[1])  # noqa: NPY002
        random.setstate(state[2])


def apply_transform(transform: Transform, x: Tensor, rows: Tensor, *, seed: int, epoch: int) -> Tensor:
    """Apply a user's function to each raw sample under generators keyed by (seed, epoch, row).

    Args:
        transform: takes and returns one sample.
        x: ``(B, *shape)`` on the CPU.
        rows: ``(B,)`` int64 source rows.
        seed: key of the run's augmentation.
        epoch: number of the epoch.

    Raises:
        DataError: the function returned another shape or type.
    """
    out = torch.empty_like(x)
    with seeded_globals() as reseed:
        for i, row in enumerate(rows.tolist()):
            reseed(stream_key(seed, epoch, _TRANSFORM, row) >> 1)
            sample = transform(x[i].clone())
            if not isinstance(sample, Tensor) or sample.shape != x.shape[1:] or sample.dtype != x.dtype:
                got = f"{sample.dtype} {tuple(sample.shape)}" if isinstance(sample, Tensor) else type(sample)
                raise DataError(
                    f"the transform returned {got} for sample {row}: it must return a tensor of type "
                    f"{x.dtype} and shape {tuple(x.shape[1:])}, as it was given"
                )
            out[i] = sample
    return out
