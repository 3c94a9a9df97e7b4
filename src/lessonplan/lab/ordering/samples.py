"""From a source of data to the few samples that a search trains on, and those that it is evaluated on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from lessonplan.data.base import Options, Parts, Source, content_keys, groups_of
from lessonplan.data.join import aligned
from lessonplan.data.normalise import measure
from lessonplan.data.some_classes import class_numbers
from lessonplan.data.sources import open_parts
from lessonplan.data.split import keyed_order, stratified_split
from lessonplan.errors import DataError
from lessonplan.lab.ordering.config import OrderingConfig
from lessonplan.progress import say
from lessonplan.seeds import fold_seed


@dataclass(frozen=True)
class Samples:
    """Everything a search reads.

    Attributes:
        x: training samples ``(N, ...)`` float32, normalised by their own statistics.
        y: class numbers ``(N,)`` int64, among all classes of the source.
        x_eval: samples for evaluation ``(V, ...)``.
        y_eval: their class numbers ``(V,)``.
        outputs: outputs of the network.
        class_names: of the classes that take part.
    """

    x: Tensor
    y: Tensor
    x_eval: Tensor
    y_eval: Tensor
    outputs: int
    class_names: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Hash of all samples and labels."""
        digest = hashlib.sha256()
        for tensor in (self.x, self.y, self.x_eval, self.y_eval):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def load_samples(config: OrderingConfig) -> Samples:
    """Draw training and evaluation samples.

    With ``evaluate_on="val"`` the evaluation samples are drawn from what training left of the same source, without
    copies of training samples; with ``"test"`` from the test part, without such copies either.

    Raises:
        DataError: too few samples, no test part, multi-label data. ConfigError: unknown classes, or one alone.
    """
    parts = open_parts(config.data, Options())
    source = parts.train
    if source.labels.ndim != 1:
        raise DataError("samples of several classes at once have no order of classes: give single-label data")
    chosen = class_numbers(config.classes or source.class_names, source.class_names)
    outputs = config.outputs or len(source.class_names)
    if outputs <= max(chosen):
        raise DataError(
            f"outputs={outputs}, but the classes are numbered up to {max(chosen)}: give at least {max(chosen) + 1}"
        )
    rows = _rows_of(source, chosen)
    for number in chosen:
        there = int((source.labels == number).sum())
        if there < config.per_class:
            raise DataError(
                f"class {source.class_names[number]!r} has {there} samples where {config.per_class} are wanted:"
                f" give per_class of at most {there}"
            )
    keys = content_keys(source)
    groups = groups_of(keys) if keys is not None else None
    train, rest = stratified_split(source.labels, [config.per_class], seed=config.seed, rows=rows, groups=groups)
    if config.evaluate_on == "test":
        other = _test_source(config, parts)
        rest = _without_copies(other, _rows_of(other, chosen), source, train)
    else:
        other = source
    wanted = len(rest) if config.evaluate is None else min(config.evaluate, len(rest))
    if wanted == 0:
        raise DataError(
            f"no sample is left for evaluation: give per_class below {config.per_class}, or evaluate_on='test'"
        )
    if config.evaluate is not None and wanted < config.evaluate:
        say(f"orders are judged on {wanted} samples, all that are left: evaluate asks for {config.evaluate}")
    held = keyed_order(rest, fold_seed(config.seed, "evaluate"), torch.arange(len(other.labels)))[:wanted]
    normalise = measure(source, train, seed=config.seed, at_most=None)
    return Samples(
        x=normalise(source.read(train)),
        y=source.labels[train],
        x_eval=normalise(other.read(held)),
        y_eval=other.labels[held],
        outputs=outputs,
        class_names=tuple(source.class_names[number] for number in chosen),
    )


def _rows_of(source: Source, classes: list[int]) -> Tensor:
    return torch.isin(source.labels, torch.tensor(classes)).nonzero()[:, 0]


def _test_source(config: OrderingConfig, parts: Parts) -> Source:
    if config.test is not None:
        other = open_parts(config.test, Options())
        return aligned(other.test if other.test is not None else other.train, parts.train)
    if parts.test is None:
        raise DataError(
            f"{config.data} has no test part: give test data of their own, or evaluate_on='val', which takes"
            " samples that nothing else uses"
        )
    return aligned(parts.test, parts.train)


def _without_copies(test: Source, rows: Tensor, source: Source, train: Tensor) -> Tensor:
    """Test rows whose content is not among the training rows, where finding that is cheap."""
    test_keys, keys = content_keys(test), content_keys(source)
    if test_keys is None or keys is None:
        return rows
    seen = {keys[row] for row in train.tolist()}
    return rows[torch.tensor([test_keys[row] not in seen for row in rows.tolist()], dtype=torch.bool)]
