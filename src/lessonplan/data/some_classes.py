"""Some of a set's classes, and the samples of those alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lessonplan.data.base import Parts, Source, content_keys, digest, file_names, original_sizes
from lessonplan.data.boxes import boxes_of
from lessonplan.data.labels import one_spelling
from lessonplan.errors import ConfigError, unknown


class _SomeClasses:
    """The samples of some classes of a source, numbered anew in its order of classes.

    Args:
        source: any.
        chosen: numbers of its classes, rising.
    """

    def __init__(self, source: Source, chosen: Sequence[int]) -> None:
        self._source = source
        self.rows = torch.isin(source.labels, torch.tensor(chosen)).nonzero()[:, 0]
        number = torch.full((len(source.class_names),), -1, dtype=torch.int64)
        number[list(chosen)] = torch.arange(len(chosen))
        self.labels = number[source.labels[self.rows]]
        self.class_names = tuple(source.class_names[place] for place in chosen)
        self.shape, self.in_memory = source.shape, source.in_memory
        self.fingerprint = digest([source.fingerprint.encode(), *(b"%d" % n for n in chosen)], size=8).hex()
        boxes = boxes_of(source)
        sizes = original_sizes(source)
        self.boxes = None if boxes is None else boxes[self.rows]
        self.sizes = None if sizes is None else sizes[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, rows: Tensor) -> Tensor:
        return self._source.read(self.rows[rows])

    def file_names(self, rows: Tensor) -> list[str] | None:
        return file_names(self._source, self.rows[rows])

    def content_keys(self) -> list[bytes] | None:
        keys = content_keys(self._source)
        return None if keys is None else [keys[row] for row in self.rows.tolist()]


def of_classes(parts: Parts, classes: int | str | Sequence[str] | None) -> Parts:
    """Parts with the samples of some classes alone; all of them where None is given.

    Args:
        parts: the test part numbered as the training part.
        classes: how many, the first ones; or their names, as a list or separated by commas.

    Raises:
        ConfigError: fewer than two, more than there are, or a name that no class has.
    """
    if classes is None:
        return parts
    chosen = class_numbers(classes, parts.train.class_names)
    train = _SomeClasses(parts.train, chosen)
    val = parts.val
    if val is not None:
        place = torch.full((len(parts.train),), -1, dtype=torch.int64)
        place[train.rows] = torch.arange(len(train))
        val = place[val][place[val] >= 0]
    test = _SomeClasses(parts.test, chosen) if parts.test is not None else None
    return replace(parts, train=train, val=val, test=test)


def class_numbers(classes: int | str | Sequence[str], names: Sequence[str]) -> list[int]:
    """Which classes are meant, rising.

    >>> class_numbers(2, ["cat", "dog", "owl"]), class_numbers("owl,cat", ["cat", "dog", "owl"])
    ([0, 1], [0, 2])
    """
    if isinstance(classes, str):
        written = [name.strip() for name in classes.split(",") if name.strip()]
        lone = len(written) == 1 and written[0].isdecimal() and len(written[0]) < 8
        classes = int(written[0]) if lone else written
    if isinstance(classes, bool) or not isinstance(classes, (int, Sequence)):
        raise ConfigError(f"classes={classes!r}: give how many, or names separated by commas")
    if isinstance(classes, int):
        if not 2 <= classes <= len(names):
            raise ConfigError(f"classes={classes}: give 2 to {len(names)}, or names separated by commas")
        return list(range(classes))
    there = {one_spelling(name): place for place, name in enumerate(names)}
    wanted = [one_spelling(str(name)) for name in classes]
    for name in wanted:
        if name not in there:
            raise unknown("class", name, there)
    found = sorted({there[name] for name in wanted})
    if len(found) < 2:
        raise ConfigError(f"classes={','.join(wanted)!r} leaves nothing to tell apart: give two or more")
    return found
