"""Who is trained on, who decides and who is tested on: the rows of each part, copies kept together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lessonplan.data.base import Parts, content_keys, digest, groups_of
from lessonplan.data.split import share, stratified_split
from lessonplan.errors import ConfigError, DataError


@dataclass(frozen=True)
class Sizes:
    """How much of a set goes where; see :func:`lessonplan.data.load`."""

    per_class: int | None = None
    val_per_class: int | None = None
    val_fraction: float | None = None
    test_fraction: float = 0.5

    def check(self) -> None:
        """Raise ConfigError where the numbers make no sense."""
        for name in ("per_class", "val_per_class"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(f"{name}={value!r}: give a whole number of at least 1, or leave it out")
        for name in ("val_fraction", "test_fraction"):
            value = getattr(self, name) or 0.0
            if not 0.0 <= value < 1.0:
                raise ConfigError(f"{name}={value!r}: give a fraction of at least 0 and below 1")
        if self.val_per_class is not None and self.val_fraction:
            raise ConfigError("give val_per_class or val_fraction, not both")
        if self.per_class == 1 and self.val_fraction:
            raise ConfigError(
                "per_class=1 leaves nothing for val_fraction: use val_per_class or a larger per_class"
            )


@dataclass(frozen=True)
class Cut:
    """Rows of the training source (those of ``test``: of the test source, where there is one).

    ``left_out`` counts rows that are in no part because a copy of them is in another one; ``checked`` tells
    whether copies could be found, which in a streamed set of unknown objects they cannot.
    """

    train: Tensor
    val: Tensor
    test: Tensor
    left_out: int
    checked: bool

    def fingerprint(self, parts: Parts) -> str:
        """Hash of the sources and of who is in which part."""
        prints = [parts.train.fingerprint, parts.test.fingerprint if parts.test is not None else ""]
        rows = [part.numpy().tobytes() for part in (self.train, self.val, self.test)]
        return digest([*(p.encode() for p in prints), *rows], size=8).hex()


def cut(parts: Parts, sizes: Sizes, seed: int) -> Cut:
    """Choose the rows of every part; a validation part that the set has is used for what is asked of one.

    Raises:
        DataError: a class has too few samples for what is asked; or nothing is left to train on.
    """
    source, labels, names = parts.train, parts.train.labels, parts.train.class_names
    keys = content_keys(source)
    checked = keys is not None
    groups = groups_of(keys) if keys is not None else torch.arange(len(source))
    if parts.test is not None:
        test = torch.arange(len(parts.test))
        test_keys = content_keys(parts.test)
        checked = keys is not None and test_keys is not None and keys[0][:1] == test_keys[0][:1]
        tested = set(test_keys or ())
        pool = torch.tensor([r for r, key in enumerate(keys or ()) if key not in tested], dtype=torch.int64)
        pool = pool if keys is not None else torch.arange(len(source))
        _check_emptied(labels, pool, names)
        if parts.val is not None:
            train, val, used = _with_own_validation(parts, pool, groups, sizes, seed)
            return Cut(train, val, test, len(source) - used, checked)
        kept = len(pool)
    else:
        test, pool = stratified_split(labels, [float(sizes.test_fraction)], seed=seed, groups=groups)
        kept = len(pool) + len(test)
    if sizes.per_class is not None:
        val_each = sizes.val_per_class or share(sizes.val_fraction or 0.0, sizes.per_class)
        train_each = sizes.per_class - (0 if sizes.val_per_class else val_each)
        _check_enough(labels[pool], train_each + val_each, names, sizes, aside=parts.test is None)
        train, val, rest = stratified_split(
            labels, [train_each, val_each], seed=seed, rows=pool, groups=groups, class_names=names
        )
    else:
        if sizes.val_per_class is not None:
            _check_enough(labels[pool], sizes.val_per_class + 1, names, sizes, aside=parts.test is None)
        wanted = sizes.val_per_class or float(sizes.val_fraction or 0.0)
        val, train = stratified_split(labels, [wanted], seed=seed, rows=pool, groups=groups, class_names=names)
        rest = pool[:0]
    if len(train) == 0:
        raise DataError("no samples are left to train on: lower val_fraction, val_per_class or test_fraction")
    left_out = len(source) - kept + len(pool) - len(train) - len(val) - len(rest)
    return Cut(train, val, test, left_out, checked)


def _with_own_validation(
    parts: Parts, pool: Tensor, groups: Tensor, sizes: Sizes, seed: int
) -> tuple[Tensor, Tensor, int]:
    """Training and validation rows of a set with a validation part of its own, and how many rows were free.

    The part is used whole, or as many of each class as are asked for; copies of its samples leave training.
    """
    labels, names = parts.train.labels, parts.train.class_names
    own = torch.zeros(len(labels), dtype=torch.bool)
    own[parts.val] = True
    reserved, pool = pool[own[pool]], pool[~own[pool]]
    pool = pool[~torch.isin(groups[pool], groups[reserved])]
    val, train, used = reserved, pool, len(reserved) + len(pool)
    each = sizes.val_per_class
    if sizes.per_class is not None:
        within = 0 if sizes.val_per_class is not None else share(sizes.val_fraction or 0.0, sizes.per_class)
        each = each or within or None
        _check_enough(labels[pool], sizes.per_class - within, names, sizes, aside=False)
        train, _ = stratified_split(
            labels, [sizes.per_class - within], seed=seed, rows=pool, groups=groups, class_names=names
        )
    if each is not None:
        val, _ = stratified_split(labels, [each], seed=seed, rows=reserved, groups=groups, class_names=names)
    elif sizes.val_fraction == 0:
        val = reserved[:0]
    if len(train) == 0:
        raise DataError("no samples are left to train on: the set's validation and test parts hold them all")
    return train, val, used


def _check_enough(labels: Tensor, wanted: int, names: Sequence[str], sizes: Sizes, *, aside: bool) -> None:
    """Name the class that has too few samples, with what a user needs to mend it."""
    counts: Counter[Any] = Counter(labels.tolist())
    c = min(range(len(names)), key=lambda number: counts[number])
    if counts[c] >= wanted:
        return
    asked = [f"{n}={getattr(sizes, n)}" for n in ("per_class", "val_per_class") if getattr(sizes, n) is not None]
    after = " once the test samples are set aside" if aside else ""
    raise DataError(
        f"class {names[c]!r} has {counts[c]} samples for training{after}, but {' and '.join(asked)} "
        f"{'needs' if len(asked) == 1 else 'need'} {wanted}: lower the number, add samples of this class, or "
        "leave the class out"
    )


def _check_emptied(labels: Tensor, pool: Tensor, names: Sequence[str]) -> None:
    """Raise where a class had samples and all of them are copies of test samples."""
    for c in sorted(set(labels.tolist()) - set(labels[pool].tolist())):
        raise DataError(
            f"every training sample of class {names[c]!r} is also in the test set: give another test set"
        )
