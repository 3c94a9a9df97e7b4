"""Mixes of features: what a method mixed where its head alone was trained, on features that were kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lessonplan.report.reading import Json

MIXED = "Features were mixed, not pixels: manifold mixup at the last layer."


def mixes_features(mixes: bool, runs: Sequence[Json]) -> bool:
    """Whether all finished runs of a method that mixes did so with features.

    Args:
        mixes: whether its plan has a mix.
        runs: its finished runs, rows of ``results.json``.
    """
    return mixes and bool(runs) and all(run.get("at") == "features" for run in runs)


def of_features(methods: Sequence[Json]) -> list[str]:
    """The names of those methods of ``results.json`` that mixed features.

    >>> of_features([{"name": "probe"}, {"name": "sum", "mixes": "features"}])
    ['sum']
    """
    named: list[Any] = [method["name"] for method in methods if method.get("mixes") == "features"]
    return named
