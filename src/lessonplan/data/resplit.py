"""The labelled samples of a set cut anew into training and validation, again and again; its test part stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lessonplan.data.augment import Augment
from lessonplan.data.base import content_keys, digest, groups_of
from lessonplan.data.bundle import MEASURED_ROWS, Data
from lessonplan.data.normalise import Normalise, measure, scale_of
from lessonplan.data.split import stratified_split
from lessonplan.data.view import View
from lessonplan.errors import ConfigError, DataError

FEW = 3
"""Labelled samples of a class without which repeated splits say nothing.

Of two, every split trains on one and judges by the other: what helps a network that saw a single sample of a
class, half of what there is, is no answer for both. Of three it trains on two.
"""

Together = Sequence[Sequence[int]]


def labelled(data: Data) -> Tensor:
    """Rows ``(n,)`` of the training source that may be trained on or decide: all but the test part's, sorted."""
    rows = [data.train.rows, *([data.val.rows] if data.val is not None else [])]
    return torch.cat(rows).sort().values


def check_labelled(data: Data) -> None:
    """Whether every class has samples to train on and to judge.

    Raises:
        DataError: a class has fewer than ``FEW``.
    """
    counts = torch.bincount(data.train.source.labels[labelled(data)], minlength=data.num_classes).tolist()
    least = min(range(data.num_classes), key=counts.__getitem__)
    if counts[least] < FEW:
        raise DataError(
            f"class {data.class_names[least]!r} has {counts[least]} labelled sample{'s' * (counts[least] != 1)}:"
            f" at least {FEW} of every class are needed, {FEW - 1} to train on and one to judge by in every split;"
            " label more, leave the class out, or give a validation part (--val-per-class, or data that have one)"
        )


def resplit(data: Data, fraction: float, seed: int, *, keep_test: bool = False, together: Together = ()) -> Data:
    """A stratified split of the labelled samples; copies of one stay on one side.

    Args:
        data: opened once, so that its test part stays what it is.
        fraction: of the labelled samples of each class that validates, in (0, 1).
        seed: key of the split and of the augmentation.
        keep_test: whether the test part stays in sight.
        together: rows of the training source, group by group, that stay on one side too, such as near copies;
            a group holds all equal samples of its members. Those that find no room on their side are on none.

    Returns:
        the same data with other training and validation parts.

    Raises:
        ConfigError: the fraction is out of range.
        DataError: all samples of a class are copies of one another.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"val_fraction={fraction!r}: give a fraction above 0 and below 1")
    source, rows = data.train.source, labelled(data)
    keys = content_keys(source)
    groups = groups_of(keys) if keys is not None else None
    if together:
        groups = torch.arange(len(source)) if groups is None else groups
        for members in together:
            groups[list(members)] = groups[min(members)].item()
    val, train = stratified_split(source.labels, [float(fraction)], seed=seed, rows=rows, groups=groups)
    left = torch.bincount(source.labels[train], minlength=data.num_classes)
    had = torch.bincount(source.labels[rows], minlength=data.num_classes)
    if bool(((left == 0) & (had > 1)).any()):
        name = data.class_names[int(((left == 0) & (had > 1)).nonzero()[0])]
        raise DataError(
            f"the samples of class {name!r} are copies of one another, so that none of them can judge what was"
            " trained on the others: give others, or leave the class out"
        )
    return _cut(data if keep_test else replace(data, test=None), train, val, seed)


def held_back(data: Data, fraction: float, seed: int, *, decides: bool, together: Together = ()) -> Data:
    """A split whose held-back samples are a test part, so that nothing in a training can be decided by them.

    Args:
        data: opened once; a validation part that it has is what is held back, else a stratified draw.
        fraction: of the labelled samples of each class that is held back, in (0, 1).
        seed: key of the splits.
        decides: whether what is left is split again, for trainings that decide by validation.
        together: see ``resplit``.

    Returns:
        training, perhaps validation, and what is held back as the test part, in place of the data's own.
    """
    outer = replace(data, test=None) if data.val is not None else resplit(data, fraction, seed, together=together)
    judged = outer.val
    assert judged is not None
    left = replace(outer, val=None)
    inner = resplit(left, fraction, seed, together=together) if decides else left
    normalise = Normalise(inner.mean, inner.std, scale_of(inner.shape))
    deciding = len(inner.val) if inner.val is not None else 0
    sizes = {"train": len(inner.train), "val": deciding, "test": len(judged)}
    description = {**inner.description, "sizes": sizes, "cut": "labelled samples, some held back to judge by"}
    return replace(inner, test=judged.normalised(normalise), description=description)


def all_labelled(data: Data) -> Data:
    """The same data with all labelled samples to train on and none to validate; the test part stays."""
    if data.val is None:
        return data
    return _cut(data, labelled(data), torch.zeros(0, dtype=torch.int64), data.train.seed)


def _cut(data: Data, train: Tensor, val: Tensor, seed: int) -> Data:
    source = data.train.source
    normalise = Normalise(data.mean, data.std, scale_of(data.shape))
    if "normalised_as" not in data.description:
        most = None if source.in_memory else MEASURED_ROWS
        normalise = measure(source, train, seed=seed, at_most=most)

    def view(rows: Tensor, augment: Augment | None) -> View:
        first = data.train
        return View(
            source,
            rows,
            normalise=normalise,
            augment=augment,
            seed=seed,
            device=first.device,
            workers=first.workers,
            prefetch=first.prefetch,
        )

    mean, std = normalise.mean, normalise.std
    sizes = {**data.description["sizes"], "train": len(train), "val": len(val)}
    pieces = [data.fingerprint.encode(), train.numpy().tobytes(), val.numpy().tobytes()]
    return replace(
        data,
        train=view(train, data.train.augment),
        val=view(val, None) if len(val) else None,
        test=data.test.normalised(normalise) if data.test is not None else None,
        mean=mean,
        std=std,
        fingerprint=digest(pieces, size=8).hex(),
        description={**data.description, "sizes": sizes, "seed": seed, "cut": "labelled samples cut anew"},
        preprocessing=replace(data.preprocessing, mean=tuple(mean.tolist()), std=tuple(std.tolist())),
    )
