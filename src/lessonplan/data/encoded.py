"""Encoded images (files, or bytes in a buffer) to sources: decoded once where they fit, streamed otherwise."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from lessonplan.data.arrays import TensorSource
from lessonplan.data.base import Options, Parts, Source, digest, fingerprint_of
from lessonplan.data.boxes import placed
from lessonplan.data.join import with_parts
from lessonplan.data.labels import Unlabelled
from lessonplan.data.pixels import (
    BROKEN,
    Decoding,
    Pixels,
    background_of,
    decoding_of,
    from_pil,
    has_deep_colours,
    is_deep,
    is_grey,
    is_transparent,
    open_image,
    range_of,
    size_of,
    visible,
)
from lessonplan.errors import DataError, LessonplanWarning
from lessonplan.progress import Line, step

T = TypeVar("T")
DEFAULT_SIZE = 64  # the shorter side where images differ in size and the user says nothing
_PIECE = 4096
_LOOKED_AT = 256  # transparent images, to choose what is put behind them
_PLAIN = frozenset({".bmp", ".ppm", ".pgm", ".tif", ".tiff"})  # may be uncompressed: equal pieces prove little
_SMALL = 128 * 128  # below so many pixels threads cost more than they bring (measured on 32 x 32 PNGs)


class StorageChanged(DataError):
    """What images are read from is not what it was: no fault of a single image."""


class Encoded(Protocol):
    """A sequence of encoded images."""

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """What to call image i in a message."""
        ...

    def load(self, i: int) -> Path | bytes:
        """Where image i is: a path, or its bytes."""
        ...


@runtime_checkable
class Indexed(Encoded, Protocol):
    """Images of which an index keeps what there is to know before they are decoded."""

    def headers(self) -> list[Header | str]:
        """The header of every image, or why there is none."""
        ...

    def keys(self, rows: Sequence[int]) -> list[bytes]:
        """The keys (:func:`file_key`) of some."""
        ...

    def ahead(self, rows: Sequence[int]) -> Sequence[int]:
        """Prepare for loading these; returns in which order that is best, as positions among them."""
        ...


class Files:
    """Image files.

    Args:
        root: the folder that names are relative to.
        paths: the files.
    """

    def __init__(self, root: Path, paths: Sequence[Path]) -> None:
        self.root, self.paths = root, list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, i: int) -> str:
        """The path below the root."""
        return self.paths[i].relative_to(self.root).as_posix()

    def load(self, i: int) -> Path:
        """The path."""
        return self.paths[i]


class Buffer:
    """Images that lie one after the other in memory or in a mapped file.

    Args:
        data: all bytes, ``(total,)`` uint8.
        ends: ``(N + 1,)`` int64: image i is ``data[ends[i]:ends[i + 1]]``.
        names: a name for each.
    """

    def __init__(
        self, data: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64], names: Callable[[int], str]
    ) -> None:
        self.data, self.ends, self.names = data, ends, names

    def __len__(self) -> int:
        return len(self.ends) - 1

    def name(self, i: int) -> str:
        """The name that was given."""
        return self.names(i)

    def load(self, i: int) -> bytes:
        """The bytes."""
        return self.data[self.ends[i] : self.ends[i + 1]].tobytes()


@dataclass(frozen=True)
class Labelled:
    """Encoded images of one part with their classes.

    ``boxes`` is None or ``(N, 4)`` or ``(N, B, 4)`` float32: left, top, right, bottom of the object (of each of
    them, see ``lessonplan.data.boxes``) in the image's own pixels.
    """

    images: Encoded
    labels: Tensor
    class_names: tuple[str, ...]
    boxes: Tensor | None = None


@dataclass(frozen=True)
class Header:
    """What an image says before it is decoded: height, width, and whether it is grey, deep, or transparent.

    ``deep_colours``: whether its colours are stored in 16 bits.
    """

    size: tuple[int, int]
    grey: bool
    deep: bool = False
    transparent: bool = False
    deep_colours: bool = False

    @classmethod
    def of(cls, image: Image.Image) -> Header:
        """The header of an open image."""
        deep_colours = has_deep_colours(image)
        return cls(size_of(image), is_grey(image), is_deep(image), is_transparent(image), deep_colours)


class ImageSource:
    """Images decoded when they are read (a streamed :class:`~lessonplan.data.Source`).

    Args:
        images: where they are.
        keep: ``(N,)`` int64, which of them belong to the source.
        labels: ``(N,)`` int64 of those.
        class_names: one name per class.
        shape: ``(C, H, W)`` they are brought to.
        boxes: where the objects are, see ``lessonplan.data.boxes``. None: unknown.
        decoding: of deep and transparent pixels.
        sizes: ``(N, 2)`` int64, height and width of the images as they are. None: unknown.
    """

    in_memory = False

    def __init__(
        self,
        images: Encoded,
        keep: Tensor,
        labels: Tensor,
        class_names: tuple[str, ...],
        shape: tuple[int, ...],
        boxes: Tensor | None = None,
        decoding: Decoding = Decoding(),  # noqa: B008
        sizes: Tensor | None = None,
    ) -> None:
        self.decoding, self.sizes = decoding, sizes
        self.images, self.keep, self.labels = images, keep, labels
        self.class_names, self.shape, self.boxes = class_names, shape, boxes
        # Keys that an index has are asked of it again: a list of a million takes as much as the whole index.
        self._keys = [] if isinstance(images, Indexed) else _keys_of(images, keep.tolist())
        self.fingerprint = fingerprint_of(
            [*self.content_keys(), repr(shape).encode(), *_decided(decoding)], labels, class_names
        )

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, rows: Tensor) -> Tensor:
        """Decode images ``(B, C, H, W)``; a broken one is a DataError that names it."""
        out = np.empty((len(rows), *self.shape), dtype=np.uint8)
        wanted = self.keep[rows].tolist()
        order = self.images.ahead(wanted) if isinstance(self.images, Indexed) else range(len(wanted))
        for place in order:
            i = wanted[place]
            try:
                out[place] = decode(self.images.load(i), self.shape, self.decoding)
            except StorageChanged:
                raise
            except BROKEN as e:
                raise bad_images([(self.images.name(i), why(e))], len(self)) from e
        return torch.from_numpy(out)

    def file_names(self, rows: Tensor) -> list[str]:
        """The names of the images of rows ``(B,)``."""
        return [self.images.name(i) for i in self.keep[rows].tolist()]

    def content_keys(self) -> list[bytes]:
        """One key per image, from its file (:func:`file_key`)."""
        if isinstance(self.images, Indexed):
            return self.images.keys(self.keep.tolist())
        return self._keys


def _keys_of(images: Encoded, rows: Sequence[int]) -> list[bytes]:
    with step("telling pictures apart", len(rows), "pictures") as line:
        keys = []
        for i in rows:
            keys.append(file_key(images.load(i)))
            line.update(advance=1)
        return keys


def _decided(decoding: Decoding) -> list[bytes]:
    """What was decided on pixels, where it was anything."""
    return [repr(decoding.to_dict()).encode()] if decoding.to_dict() else []


def decode(where: Path | bytes, shape: tuple[int, ...], decoding: Decoding = Decoding()) -> Pixels:  # noqa: B008
    """One encoded image as ``(C, H, W)`` uint8."""
    with open_image(where) as image:
        return from_pil(image, shape[0], (shape[1], shape[2]), decoding)


def file_key(where: Path | bytes) -> bytes:
    """A key for an encoded image: its length and its bytes.

    Of compressed files above 12 KiB only the first, middle and last 4 KiB are read; two different pictures
    that agree in those and in their length are not to be expected, and large sets start minutes sooner.
    """
    if isinstance(where, bytes):
        return b"f" + digest([where])
    with where.open("rb") as file:

        def read(start: int, size: int) -> bytes:
            file.seek(start)
            return file.read(size)

        return _key(where.suffix, file.seek(0, 2), read)


def key_as_file(content: bytes, ending: str) -> bytes:
    """The key that a file of this content and with this ending has."""
    return _key(ending, len(content), lambda start, size: content[start : start + size])


def _key(ending: str, size: int, read: Callable[[int, int], bytes]) -> bytes:
    if size <= 3 * _PIECE or ending.lower() in _PLAIN:
        return b"f" + digest([read(0, size)])
    pieces = (read(start, _PIECE) for start in (0, size // 2, size - _PIECE))
    return b"f" + digest([str(size).encode(), *pieces])


def why(error: BaseException) -> str:
    """An exception in a few words."""
    return (str(error) or type(error).__name__).split("\n")[0][:200]


def bad_images(bad: Sequence[tuple[str, str]], total: int, what: str = "images") -> DataError:
    """The error for images (or recordings) that cannot be read: names of the first five, and what to do."""
    return DataError(f"{_listed(bad, total, what)}: repair or remove them, or leave them out with on_bad='skip'")


def _listed(bad: Sequence[tuple[str, str]], total: int, what: str) -> str:
    named = ", ".join(f"{name} ({reason})" for name, reason in bad[:5])
    more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    return f"{len(bad)} of {total} {what} cannot be read: {named}{more}"


def report_bad(bad: Sequence[tuple[str, str]], total: int, on_bad: str, what: str = "images") -> None:
    """Stop at bad images, or warn that they are left out."""
    if not bad:
        return
    if on_bad == "error" or len(bad) == total:
        raise bad_images(bad, total, what)
    warnings.warn(f"{_listed(bad, total, what)}: left out", LessonplanWarning, stacklevel=2)


def each(work: Callable[[int], T], rows: Sequence[int], threads: int, line: Line) -> list[T | str]:
    """``work(i)`` for every row, in threads; where it fails for a broken file, the reason as text.

    The line, which others show and take away, hears of every row that is done.
    """

    def attempt(i: int) -> T | str:
        try:
            return work(i)
        except StorageChanged:
            raise
        except BROKEN as e:
            return why(e)

    found: list[T | str] = []
    with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
        for result in map(attempt, rows) if pool is None else pool.map(attempt, rows, chunksize=16):
            found.append(result)
            line.update(advance=1)
    return found


def scan(part: Labelled, threads: int) -> list[Header | str]:
    """The header of every image, or why there is none."""
    if isinstance(part.images, Indexed):
        return part.images.headers()

    def header(i: int) -> Header:
        with open_image(part.images.load(i)) as image:
            return Header.of(image)

    rows = range(len(part.images))
    # Headers of files wait for the disk, those of bytes for nothing.
    with step("reading headers", len(rows), "pictures") as line:
        return each(header, rows, threads if isinstance(part.images, Files) else 1, line)


def build_parts(
    files: Mapping[str, Sequence[Path]], read: Callable[[Sequence[Path]], Labelled], options: Options
) -> Parts:
    """Sources of a set whose parts are groups of files; those without labels are left out, and noted.

    Args:
        files: by the names of the parts: train, and perhaps test and validation. Without a test part the
            validation part is for testing.
        read: what some files hold.
        options: see ``build``.

    Raises:
        Unlabelled: the training part has no labels.
    """
    train = read(files["train"])
    parts, unlabelled = {}, []
    for name in ("test", "validation"):
        try:
            if files.get(name):
                parts[name] = read(files[name])
        except Unlabelled:
            unlabelled.append(name)
    judged = parts.pop("test", None) or parts.pop("validation", None)
    found = build(train, judged, options, parts.get("validation"))
    found.notes |= {"unlabelled_parts": unlabelled} if unlabelled else {}
    return found


def build(train: Labelled, test: Labelled | None, options: Options, validation: Labelled | None = None) -> Parts:
    """Sources from encoded images: one size and channel count for all parts, in memory if they fit.

    Raises:
        DataError: unreadable images, unless ``options.on_bad`` is ``"skip"``; or no images.
    """
    parts = [part for part in (train, test, validation) if part is not None]
    for part in parts:
        if len(part.images) == 0:
            raise DataError("the data hold no images")
    headers = [scan(part, options.workers) for part in parts]
    found = [h for part in headers for h in part if isinstance(h, Header)]
    size, resized = choose_size(found, options.image_size)
    channels = options.channels or (1 if all(h.grey for h in found) else 3)
    shape = (channels, *size)
    decoding = options.decoding or options.decided(decide(parts, headers))
    fits = len(found) * int(np.prod(shape)) <= options.memory_limit
    pixels = sum(h.size[0] * h.size[1] for h in found) / max(1, len(found))
    threads = options.workers if pixels >= _SMALL else 1
    sources, unreadable = [], []
    for part, heads in zip(parts, headers, strict=True):
        source, bad = _source(part, heads, shape, fits, threads, options, decoding)
        unreadable += bad
        sources.append(source)
    notes: dict[str, Any] = {"images": resized, **decoding.words()}
    if unreadable:
        notes["unreadable_left_out"] = len(unreadable)
    named = dict(zip(["train", *(["test"] if test is not None else []), "validation"], sources, strict=False))
    return with_parts(Parts(named.pop("train"), None, notes, decoding=decoding, unreadable=unreadable), named)


def decide(parts: Sequence[Labelled], headers: Sequence[Sequence[Header | str]]) -> Decoding:
    """What the deep and the transparent images of all parts call for, one rule for the whole set.

    Raises:
        DataError: grey levels that cannot be used, or colours of which the bits that are used cannot be read.
    """
    colours = [
        (part.images, i)
        for part, heads in zip(parts, headers, strict=True)
        for i, header in enumerate(heads)
        if isinstance(header, Header) and header.deep_colours
    ]
    upper = [
        found[2] for images, i in colours[:: -(-len(colours) // _LOOKED_AT) or 1] if (found := _range(images, i))
    ]
    if upper and max(upper) < 16:
        raise DataError(
            f"the colours are stored in 16 bits of which 12 or fewer are used (of {len(upper)} images none is"
            f" brighter than {max(upper):g} of 255): only the upper 8 bits are read, so scale them up, or convert"
            " the images to 8 bits"
        )
    known = [
        (part.images, i, header)
        for part, heads in zip(parts, headers, strict=True)
        for i, header in enumerate(heads)
        if isinstance(header, Header) and (header.deep or header.transparent)
    ]
    ranges = [found for images, i, header in known if header.deep and (found := _range(images, i)) is not None]
    clear = [(images, i) for images, i, header in known if header.transparent]
    background = background_of(_shown(images, i) for images, i in clear[:: -(-len(clear) // _LOOKED_AT) or 1])
    return decoding_of(ranges, background)


def _range(images: Encoded, i: int) -> tuple[str, float, float] | None:
    try:
        with open_image(images.load(i)) as image:
            return range_of(np.asarray(image))
    except BROKEN:  # told of when it is decoded
        return None


def _shown(images: Encoded, i: int) -> tuple[float, float, int]:
    try:
        with open_image(images.load(i)) as image:
            return visible(image)
    except BROKEN:
        return 0.0, 0.0, 0


def choose_size(headers: Sequence[Header], wanted: tuple[int, int] | None) -> tuple[tuple[int, int], str]:
    """The size images are brought to, and a sentence on it."""
    sizes = {h.size for h in headers}
    size = wanted or (next(iter(sizes)) if len(sizes) == 1 else (DEFAULT_SIZE, DEFAULT_SIZE))
    if sizes <= {size}:
        return size, f"{size[0]} x {size[1]} pixels as they are"
    return size, f"resized to cover {size[0]} x {size[1]} pixels and cropped to the centre"


def _source(
    part: Labelled,
    headers: Sequence[Header | str],
    shape: tuple[int, ...],
    fits: bool,
    threads: int,
    options: Options,
    decoding: Decoding,
) -> tuple[Source, list[tuple[str, str]]]:
    """One part: decoded into memory, or checked as far as asked and left to be streamed; and what was left out."""
    images = part.images
    rows = [i for i, header in enumerate(headers) if isinstance(header, Header)]
    reasons = {i: header for i, header in enumerate(headers) if isinstance(header, str)}
    data = np.empty((len(rows) if fits else 0, *shape), dtype=np.uint8)

    def into(place: int) -> None:
        pixels = decode(images.load(rows[place]), shape, decoding)
        if fits:
            data[place] = pixels

    good = list(range(len(rows)))
    if fits or options.on_bad == "skip":  # to leave out what is broken, every image has to be decoded once
        with step("decoding pictures", len(good), "pictures") as line:
            results = each(into, good, threads, line)
        reasons |= {rows[p]: result for p, result in enumerate(results) if result is not None}
        good = [p for p, result in enumerate(results) if result is None]
    bad = [(images.name(i), reasons[i]) for i in sorted(reasons)]
    report_bad(bad, len(images), options.on_bad)
    keep = torch.tensor([rows[p] for p in good], dtype=torch.int64)
    boxes = _placed(part, headers, keep, (shape[1], shape[2]), decoding.crop or 1.0)
    heads = [headers[i] for i in keep.tolist()]
    sizes = torch.tensor([h.size for h in heads if isinstance(h, Header)], dtype=torch.int64).view(-1, 2)
    if not fits:
        streamed = ImageSource(images, keep, part.labels[keep], part.class_names, shape, boxes, decoding, sizes)
        return streamed, bad
    decoded = torch.from_numpy(data if len(good) == len(data) else data[good])
    files = [images.name(i) for i in keep.tolist()]
    return TensorSource(decoded, part.labels[keep], part.class_names, boxes, files, sizes), bad


def _placed(
    part: Labelled, headers: Sequence[Header | str], keep: Tensor, size: tuple[int, int], crop: float
) -> Tensor | None:
    """Boxes in the pixels of the resized and cropped images."""
    if part.boxes is None:
        return None
    kept = [headers[i] for i in keep.tolist()]
    return placed(part.boxes[keep], [h.size for h in kept if isinstance(h, Header)], size, crop)
