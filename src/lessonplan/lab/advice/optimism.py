"""How much better the best of several looks than it is, because it was picked for looking best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def optimism(scores: Mapping[str, Mapping[int, float]], candidates: Sequence[str]) -> float | None:
    """The winner's score minus that of what would have been picked without the round in which it is scored.

    In each round the best of the other rounds is scored; that is the nested estimate of what picking gives
    (S. Varma and R. Simon, Bias in error estimation when using cross-validation for model selection, 2006), here
    over rounds that all candidates have done.

    Args:
        scores: by plan and round.
        candidates: what could be picked.

    Returns:
        in shares, usually 0 or more; None with fewer than three rounds that all candidates share.

    >>> round(optimism({"a": {0: 0.9, 1: 0.5, 2: 0.5}, "b": {0: 0.6, 1: 0.6, 2: 0.6}}, ["a", "b"]), 3)
    0.1
    """
    shared = sorted(set.intersection(*(set(scores[name]) for name in candidates))) if candidates else []
    if len(shared) < 3:
        return None

    def best(rounds: Sequence[int]) -> str:
        return max(candidates, key=lambda name: sum(scores[name][r] for r in rounds))

    apparent = max(sum(scores[name][r] for r in shared) for name in candidates) / len(shared)
    honest = [scores[best([other for other in shared if other != r])][r] for r in shared]
    return apparent - sum(honest) / len(honest)
