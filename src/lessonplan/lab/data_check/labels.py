"""Which labelled samples are suspected of a wrong label, on which features, or why none can be."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import cohen_kappa_score
from torch import Tensor

from lessonplan.cache import cache_folder
from lessonplan.data import Data
from lessonplan.data.base import Keyed, Source
from lessonplan.data.normalise import Normalise, scale_of
from lessonplan.data.view import View
from lessonplan.lab.data_check.glance import Glance
from lessonplan.lab.data_check.parts import Samples
from lessonplan.lab.data_check.suspects import ENOUGH, Suspects, confident_learning, out_of_fold
from lessonplan.pretrained import find_head
from lessonplan.pretrained.features import Backbone, FeatureCache, FeatureKey, NoFeatures
from lessonplan.train.origin import origin_of

MOST = 20_000
"""Labelled samples that are judged; of more a draw is."""
_TRIED = 64  # samples by which the time of all is told


class LeftOut(Exception):
    """Why labels are not doubted."""


@dataclass(frozen=True)
class Weights:
    """A network whose features pictures are judged by.

    Attributes:
        model: its spelling.
        weights: where its weights are, see ``lessonplan.train.origin.origin_of``.
        cache: folder of kept features; None is the usual one.
    """

    model: str
    weights: str
    cache: str | None = None


def doubted(
    data: Data,
    samples: Samples,
    groups: Tensor,
    seen: Glance | None,
    weights: Weights | None,
    seed: int,
    seconds: float | None,
) -> tuple[dict[str, Any], Tensor, Suspects]:
    """Judge the labels of training and validation samples; test samples are not looked at by any model.

    Args:
        data: where they are from.
        samples: the used ones of ``data``.
        groups: ``(N,)`` int64, the same number for copies.
        seen: thumbnails, for pictures without weights.
        weights: None: tables by their own numbers, pictures by their thumbnails.
        seed: of folds, and of the draw where there are more than 20,000.
        seconds: how long the features may take.

    Returns:
        ``on`` (which features), ``accuracy`` and ``kappa`` of the predictions, ``samples``; which samples were
        judged; and the suspects among them.

    Raises:
        LeftOut: too few samples, no features, or predictions that are too weak.
    """
    chosen = samples.of("training", "validation").nonzero().flatten()
    if len(chosen) > MOST:
        order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed))
        chosen = chosen[order[:MOST].sort().values]
    labels = samples.labels[chosen].numpy()
    counts = np.bincount(labels, minlength=data.num_classes)
    if min(counts[counts > 0]) < 2 or (counts > 0).sum() < 2:
        raise LeftOut("this needs two classes, and two labelled samples of each")
    on, features = _features(data, samples, chosen, seen, weights, seconds)
    found = out_of_fold(features.numpy(), labels, data.num_classes, groups[chosen].numpy(), seed)
    predicted = found.argmax(1)
    accuracy, kappa = float((predicted == labels).mean()), float(cohen_kappa_score(labels, predicted))
    # Kappa is (accuracy - chance) / (1 - chance); few samples may reach it by luck.
    stretch = (1 - kappa) / (1 - accuracy) if accuracy < 1 else 0.0
    luck = 1.96 * stretch * math.sqrt(accuracy * (1 - accuracy) / len(labels))
    if not kappa - luck >= ENOUGH:
        pictures = len(data.shape) == 3 and data.preprocessing.audio is None
        better = (
            "; features of pretrained weights tell more: give --weights" if pictures and weights is None else ""
        )
        raise LeftOut(
            f"{on} tell the classes of samples that were not learned from right in {100 * accuracy:.0f}% of cases"
            f" (kappa {kappa:.2f} in {len(labels):,} samples), too seldom to doubt labels by{better}"
        )
    about = {"on": on, "accuracy": accuracy, "kappa": kappa, "samples": len(chosen)}
    return about, chosen, confident_learning(found, labels)


def _features(
    data: Data,
    samples: Samples,
    chosen: Tensor,
    seen: Glance | None,
    weights: Weights | None,
    seconds: float | None,
) -> tuple[str, Tensor]:
    if len(data.shape) != 3:
        return "the numbers of each sample", samples_read(samples, chosen).flatten(1)
    if weights is not None:
        return f"features of {weights.model}", _of_network(data, samples, chosen, weights, seconds)
    if seen is None:
        raise LeftOut("there was no time to look at the pictures")
    return "small spectrograms" if data.preprocessing.audio is not None else "small pictures", seen.thumbnails[
        chosen
    ].flatten(1).float()


def samples_read(samples: Samples, chosen: Tensor) -> Tensor:
    """Raw samples ``(n, ...)`` by their numbers, which ascend."""
    return _by_part(samples, chosen, lambda source, rows: source.read(rows))


def _by_part(samples: Samples, chosen: Tensor, read: Callable[[Source, Tensor], Tensor]) -> Tensor:
    found = []
    for number, part in enumerate(samples.parts):
        inside = chosen[samples.part[chosen] == number]
        if len(inside):
            found.append(read(part.source, samples.rows[inside]))
    return torch.cat(found)


def _of_network(data: Data, samples: Samples, chosen: Tensor, weights: Weights, seconds: float | None) -> Tensor:
    """Features ``(n, F)`` of the network, kept where heads on features look for them."""
    network, _ = origin_of(weights.model, weights.weights).network(
        shape=data.shape, num_classes=data.num_classes, seed=0
    )
    backbone = Backbone(network.to(data.train.device).eval(), find_head(network, None, data.num_classes))
    try:
        length = backbone.length(data.train.fetch(torch.arange(min(2, len(data.train))))[0])
    except NoFeatures as reason:
        raise LeftOut(f"{weights.model} has no features to judge by: {reason}") from None
    key = FeatureKey(backbone.identity(data.shape), data.preprocessing.to_dict())
    normalise = Normalise(data.mean, data.std, scale_of(data.shape))
    with tempfile.TemporaryDirectory() as forgotten:

        def read(source: Source, rows: Tensor) -> Tensor:
            known = source.in_memory or isinstance(source, Keyed)
            place = cache_folder("features", weights.cache) if known else Path(forgotten)
            cache = FeatureCache(place / key.name(source.fingerprint), len(source), length)

            def of(some: Tensor) -> Tensor:
                view = View(
                    source, some, normalise=normalise, device=data.train.device, workers=data.train.workers
                )
                return cache.read(view, backbone)[0].float()

            of(rows[:1])  # what is loaded when it is first used is not to count
            begun = time.monotonic()
            first = of(rows[:_TRIED])
            each = (time.monotonic() - begun) / len(first)
            if seconds is not None and each * len(rows) > seconds:
                raise LeftOut(
                    f"features of {len(rows):,} pictures would take {each * len(rows):.0f} seconds, more than this"
                    " look may take: lessonplan check does it without haste"
                )
            return of(rows)

        return _by_part(samples, chosen, read)
