"""Which features separate best, middle and worst orders: within every tree, epoch by epoch, corrected together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lessonplan.lab.ordering.explain.groups import Group, by_epoch, plain, ranked, tenths
from lessonplan.lab.statistics import compare_paired

CONTRASTS = ("best_minus_worst", "best_minus_middle")


def contrast_features(groups: Sequence[Group], names: Sequence[str]) -> list[dict[str, Any]]:
    """Compare the best, the middle and the worst tenth of each tree in every feature.

    Trees of an epoch share its batches and nearly its networks, so that they are one observation: they are
    averaged, and intervals and p-values are over epochs. All contrasts of all features are corrected together
    (Holm).

    Args:
        groups: one a tree.
        names: of the features.

    Returns:
        A row for each feature that differs between orders: ``best``, ``middle``, ``worst`` (means over the epochs
        of its mean in the tenth, in standard deviations of the tree), each of `CONTRASTS` (``Difference`` as plain
        data; ``better`` is more in the best orders), ``by_epoch`` (best minus worst), ``rank_correlation`` with
        the loss, and ``same_sign``, the share of trees in which best minus worst has the sign of its mean. The row
        with the largest contrast stands first.
    """
    rows: dict[str, dict[str, Any]] = {}
    contrasts: dict[str, dict[int, float]] = {}
    sorted_rows = [tenths(group.loss) for group in groups]
    ranks = [group.ranks for group in groups]
    for name in names:
        levels: list[tuple[float, ...] | None] = [
            tuple(float(group.features[name][rows].mean()) for rows in parts) if name in group.features else None
            for group, parts in zip(groups, sorted_rows, strict=True)
        ]
        if all(level is None for level in levels):
            continue
        means = [
            by_epoch(groups, [None if level is None else level[place] for level in levels]) for place in range(3)
        ]
        best, middle, worst = means
        contrasts[f"{name}/{CONTRASTS[0]}"] = {epoch: best[epoch] - worst[epoch] for epoch in best}
        contrasts[f"{name}/{CONTRASTS[1]}"] = {epoch: best[epoch] - middle[epoch] for epoch in best}
        correlations = by_epoch(
            groups,
            [
                float(np.corrcoef(ranked(group.features[name]), rank)[0, 1]) if name in group.features else None
                for group, rank in zip(groups, ranks, strict=True)
            ],
        )
        signs = np.array([np.sign(level[0] - level[2]) for level in levels if level is not None])
        rows[name] = {
            "name": name,
            **{word: _mean(values) for word, values in zip(("best", "middle", "worst"), means, strict=True)},
            "rank_correlation": _mean(correlations),
            "by_epoch": {str(epoch): value for epoch, value in contrasts[f"{name}/{CONTRASTS[0]}"].items()},
            "trees": len(signs),
            "same_sign": float((signs == np.sign(_mean(contrasts[f"{name}/{CONTRASTS[0]}"]))).mean()),
        }
    epochs = {epoch: 0.0 for values in contrasts.values() for epoch in values}
    for key, difference in compare_paired(epochs, contrasts).items():
        name, _, contrast = key.rpartition("/")
        assert difference is not None  # every contrast has an epoch
        rows[name][contrast] = plain(difference)
    return sorted(rows.values(), key=lambda row: -abs(row[CONTRASTS[0]]["mean"]))


def _mean(values: dict[int, float]) -> float:
    return float(np.mean(list(values.values())))
