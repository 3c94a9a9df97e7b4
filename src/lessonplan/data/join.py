"""Sources put together: a test source under the training classes, and validation samples of a set's own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lessonplan.data.arrays import TensorSource
from lessonplan.data.base import Parts, Source, content_keys, digest, file_names, original_sizes
from lessonplan.data.boxes import boxes_of, boxes_of_both
from lessonplan.data.labels import one_spelling
from lessonplan.errors import DataError

VALIDATION = ("validation", "val", "valid", "dev")
"""Names of a part that decides during training."""


class _Relabelled:
    """A source under the class numbers of another."""

    def __init__(self, source: Source, labels: Tensor, class_names: tuple[str, ...]) -> None:
        self.source, self.labels, self.class_names = source, labels, class_names
        self.shape, self.in_memory, self.fingerprint = source.shape, source.in_memory, source.fingerprint
        self.boxes = boxes_of(source)
        self.sizes = original_sizes(source)

    def __len__(self) -> int:
        return len(self.source)

    def read(self, rows: Tensor) -> Tensor:
        return self.source.read(rows)

    def file_names(self, rows: Tensor) -> list[str] | None:
        return file_names(self.source, rows)

    def content_keys(self) -> list[bytes] | None:
        return content_keys(self.source)


class _Joined:
    """One source behind the other."""

    def __init__(self, first: Source, second: Source) -> None:
        self.first, self.second = first, second
        self.labels = torch.cat([first.labels, second.labels])
        self.class_names, self.shape = first.class_names, first.shape
        self.in_memory = first.in_memory and second.in_memory
        self.fingerprint = digest([first.fingerprint.encode(), second.fingerprint.encode()], size=8).hex()
        self.boxes = boxes_of_both(first, second)
        self.sizes = _both_sizes(first, second)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, rows: Tensor) -> Tensor:
        behind = rows >= len(self.first)
        first, second = self.first.read(rows[~behind]), self.second.read(rows[behind] - len(self.first))
        out = torch.empty(len(rows), *self.shape, dtype=first.dtype)
        out[~behind], out[behind] = first, second
        return out

    def file_names(self, rows: Tensor) -> list[str] | None:
        behind = rows >= len(self.first)
        first = file_names(self.first, rows[~behind])
        second = file_names(self.second, rows[behind] - len(self.first))
        if first is None or second is None:
            return None
        ahead, after = iter(first), iter(second)
        return [next(after) if late else next(ahead) for late in behind.tolist()]

    def content_keys(self) -> list[bytes] | None:
        keys = [content_keys(source) for source in (self.first, self.second)]
        return None if keys[0] is None or keys[1] is None else keys[0] + keys[1]


def joined(first: Source, second: Source) -> Source:
    """The samples of two sources of the same classes and shape, one after the other."""
    if isinstance(first, TensorSource) and isinstance(second, TensorSource):
        labels = torch.cat([first.labels, second.labels])
        files = None if first.files is None or second.files is None else [*first.files, *second.files]
        sizes = _both_sizes(first, second)
        data, boxes = torch.cat([first.data, second.data]), boxes_of_both(first, second)
        return TensorSource(data, labels, first.class_names, boxes, files, sizes)
    return _Joined(first, second)


def _both_sizes(first: Source, second: Source) -> Tensor | None:
    one, other = original_sizes(first), original_sizes(second)
    return None if one is None or other is None else torch.cat([one, other])


def with_parts(parts: Parts, named: Mapping[str, Source]) -> Parts:
    """A training source with the other parts that a set has.

    The test part is for testing and a validation part decides during training. Without a test part the validation
    part is for testing.

    Args:
        parts: of the training samples.
        named: the others by name, ``"test"`` or one of ``VALIDATION``.

    Raises:
        DataError: samples of another shape, or classes that training does not know.
    """
    test, validation = named.get("test"), next((name for name in VALIDATION if name in named), None)
    if test is None:
        if validation is not None:
            parts.test = named[validation]
        return parts
    parts.test = test
    if validation is not None:
        own = aligned(named[validation], parts.train, "validation")
        parts.val = torch.arange(len(parts.train), len(parts.train) + len(own))
        parts.train = joined(parts.train, own)
    return parts


def aligned(source: Source, train: Source, what: str = "test") -> Source:
    """A source with the training source's class numbers, matched by name.

    Names that are one to the eye (é as a letter, or as e and an accent) are one.

    Raises:
        DataError: samples of another shape, or a class that training does not know.
    """
    if source.shape != train.shape:
        raise DataError(
            f"{what} samples have shape {source.shape}, training samples {train.shape}: they must agree"
        )
    if source.class_names == train.class_names:
        return source
    number = {one_spelling(name): i for i, name in enumerate(train.class_names)}
    known = [number.get(one_spelling(name)) for name in source.class_names]
    strange = [name for name, found in zip(source.class_names, known, strict=True) if found is None]
    if strange:
        classes = "1 class" if len(strange) == 1 else f"{len(strange)} classes"
        raise DataError(
            f"the {what} set has {classes} that the training set lacks, such as {strange[0]!r} (training has"
            f" {', '.join(train.class_names[:5])}{', ...' if len(number) > 5 else ''}): take them out of the"
            f" {what} set, or give training samples of them"
        )
    table = torch.tensor(known, dtype=torch.int64)
    return _Relabelled(source, table[source.labels], train.class_names)
