"""What a data source is: raw samples by row number, their labels, and a hash of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from lessonplan.data.pixels import Decoding

if TYPE_CHECKING:
    from lessonplan.data.spectrogram import Spectrogram


@runtime_checkable
class Source(Protocol):
    """Raw samples, never augmented and never normalised.

    Attributes:
        labels: ``(N,)`` int64 on the CPU, each in ``[0, len(class_names))``.
        class_names: one name per class.
        shape: ``(C, H, W)`` for images, ``(F,)`` for features.
        in_memory: whether :meth:`read` merely indexes a tensor; otherwise samples are streamed.
        fingerprint: short hash of the content.
    """

    labels: Tensor
    class_names: tuple[str, ...]
    shape: tuple[int, ...]
    in_memory: bool
    fingerprint: str

    def __len__(self) -> int:
        """How many samples there are."""
        ...

    def read(self, rows: Tensor) -> Tensor:
        """Samples ``(B, *shape)`` of the rows ``(B,)`` int64: uint8 for images, float32 for features."""
        ...


@runtime_checkable
class Keyed(Protocol):
    """A source that knows cheaply which of its samples are the same."""

    def content_keys(self) -> list[bytes]:
        """One key per sample; two samples of equal content have equal keys."""
        ...


@dataclass(frozen=True)
class Options:
    """How files become sources.

    Args:
        image_size: wanted ``(H, W)``; None takes it from the images.
        channels: wanted number of channels, 1 or 3; None takes it from the images.
        on_bad: ``"error"`` stops at an unreadable image, ``"skip"`` leaves it out with a warning.
        workers: threads or processes that decode.
        memory_limit: decoded sets of at most this many bytes are kept in memory.
        clip_seconds: length of recordings.
        audio: how recordings become images; None: at their own rate, ``image_size`` (32 x 32), ``clip_seconds``.
        decoding: how deep and transparent pixels become bytes, and how images are resized; None: what the set
            calls for.
        interpolation: how images are resized; None is bilinear. See ``Decoding``.
        crop: share of a resized image that is kept; None is all.
    """

    image_size: tuple[int, int] | None = None
    channels: int | None = None
    on_bad: Literal["error", "skip"] = "error"
    workers: int = 2
    memory_limit: int = 2 * 2**30
    clip_seconds: float = 1.0
    audio: Spectrogram | None = None
    decoding: Decoding | None = None
    interpolation: str | None = None
    crop: float | None = None

    def decided(self, found: Decoding) -> Decoding:
        """What a set's pixels call for, with how they are to be resized."""
        return replace(found, interpolation=self.interpolation, crop=self.crop)


@dataclass
class Parts:
    """What a data specification holds: a training source, perhaps a test source, and notes on both.

    ``val`` are rows ``(n,)`` int64 of the training source that a set with a test part keeps for validation;
    ``audio`` tells how recordings became samples, ``decoding`` how deep and transparent pixels did, ``unreadable``
    the files that were left out, each with the reason; ``columns`` what the features of a table are called.
    """

    train: Source
    test: Source | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    val: Tensor | None = None
    audio: Spectrogram | None = None
    decoding: Decoding = field(default_factory=Decoding)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    columns: tuple[str, ...] | None = None


def digest(pieces: Iterable[bytes], size: int = 16) -> bytes:
    """BLAKE2b of several byte strings; their lengths count, so ``ab, c`` differs from ``a, bc``."""
    h = hashlib.blake2b(digest_size=size)
    for piece in pieces:
        h.update(len(piece).to_bytes(8, "little"))
        h.update(piece)
    return h.digest()


def fingerprint_of(keys: Iterable[bytes], labels: Tensor, class_names: Sequence[str]) -> str:
    """Hash of samples (by their keys), labels and class names: 16 hexadecimal digits."""
    named = "\0".join(class_names).encode("utf-8", "backslashreplace")
    return digest([b"".join(keys), labels.numpy().tobytes(), named], size=8).hex()


def row_keys(data: Tensor) -> list[bytes]:
    """A key for every row of a tensor ``(N, ...)`` from its bytes, shape and dtype.

    >>> a, b, c = row_keys(torch.tensor([[1, 2], [3, 4], [1, 2]], dtype=torch.uint8))
    >>> a == c, a == b
    (True, False)
    """
    rows = data.contiguous().numpy()
    kind = f"{data.dtype}{tuple(data.shape[1:])}".encode()
    # Adding 0 turns the float -0.0 into 0.0: equal values must have equal bytes.
    rows = rows + 0 if data.is_floating_point() else rows
    return [b"p" + hashlib.blake2b(row.data, digest_size=16, key=kind[:64]).digest() for row in rows]


def content_keys(source: Source, chunk: int = 4096) -> list[bytes] | None:
    """Keys of a source's samples, or None where finding them would mean decoding a streamed set."""
    if isinstance(source, Keyed):
        return source.content_keys()
    if not source.in_memory:
        return None
    rows = torch.arange(len(source))
    return [key for part in rows.split(chunk) for key in row_keys(source.read(part).cpu())]


def file_names(source: Source, rows: Tensor) -> list[str] | None:
    """What the files of rows ``(B,)`` are called, as paths below their folder; None where a source has none."""
    known = getattr(source, "file_names", None)
    names: list[str] | None = known(rows) if known is not None else None
    return names


def original_sizes(source: Source) -> Tensor | None:
    """Height and width ``(N, 2)`` int64 of a source's images before they were resized; None where not known."""
    sizes: Tensor | None = getattr(source, "sizes", None)
    return sizes


def groups_of(keys: Sequence[bytes]) -> Tensor:
    """Number keys so that equal keys share a number (the first row that has it).

    >>> groups_of([b"x", b"y", b"x"])
    tensor([0, 1, 0])
    """
    first: dict[bytes, int] = {}
    return torch.tensor([first.setdefault(key, row) for row, key in enumerate(keys)], dtype=torch.int64)
