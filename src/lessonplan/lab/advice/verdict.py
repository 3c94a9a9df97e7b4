"""From the record of a tournament to its verdict, in numbers; ``report/advice_words.py`` has the words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lessonplan.lab.advice.expectation import expected
from lessonplan.lab.advice.field import PLAIN
from lessonplan.lab.advice.optimism import optimism
from lessonplan.lab.advice.record import Record
from lessonplan.lab.advice.tournament import Tournament


def verdict_of(tournament: Tournament, workers: int) -> dict[str, Any]:
    """What the looks so far say.

    Args:
        tournament: with its record.
        workers: trials at a time, for how long more rounds take.

    Returns:
        ``plan``, which to take: the best that is in, plain training where no gain is to be expected of it;
        ``kind``: "better" (decided), "undecided" (above, perhaps by chance) or "plain"; ``expected`` gains of
        all that were compared, see ``expectation``; ``rounds`` of the reference; ``scores``, mean
        validation accuracy by plan; ``optimism`` of picking; ``more``, what would decide an open verdict:
        ``rounds`` and ``seconds`` in all, or labelled ``samples``.
    """
    record = tournament.record
    running = sorted(record.running, key=lambda name: -record.standing.get(name, {}).get("mean", -1.0))
    hoped = _expected(record)
    best = next((name for name in running if _gains(name, record, hoped)), None)
    scores = {name: tournament.scores(name) for name in (PLAIN, *tournament.contenders())}
    kind = "plain" if best is None else "undecided"
    if best is not None and (record.standing[best]["decided"] or {}).get("verdict") == "better":
        kind = "better"
    candidates = [name for name, found in scores.items() if len(found) >= 2]
    return {
        "plan": best or PLAIN,
        "kind": kind,
        "expected": hoped,
        "rounds": len(scores[PLAIN]),
        "scores": {
            name: float(np.mean(list(found.values()))) if found else None for name, found in scores.items()
        },
        "by_round": {name: {str(r): found[r] for r in sorted(found)} for name, found in scores.items()},
        "optimism": optimism(scores, candidates) if len(candidates) > 1 else None,
        "more": _more(tournament, best, workers) if kind == "undecided" and best is not None else None,
    }


def _gains(name: str, record: Record, hoped: Mapping[str, float]) -> bool:
    """Whether a plan is to be taken: it was found better, or is above plain training and expected to be."""
    about = record.standing.get(name)
    if about is None:
        return False
    return (about["decided"] or {}).get("verdict") == "better" or min(about["mean"], hoped[name]) > 0


def _expected(record: Record) -> dict[str, float]:
    if not record.standing:
        return {}
    mean, error = (np.array([about[key] for about in record.standing.values()]) for key in ("mean", "error"))
    return dict(zip(record.standing, expected(mean, error).tolist(), strict=True))


def _more(tournament: Tournament, best: str, workers: int) -> dict[str, Any]:
    standing = tournament.record.standing[best]
    need = standing["need"] or {"rounds": None, "samples": None}
    if need["rounds"] is None:
        return {"rounds": None, "seconds": None, "samples": need["samples"]}
    missing = max(need["rounds"] - standing["rounds"], 0)
    each = (tournament.seconds(PLAIN) + tournament.seconds(best)) / max(min(workers, 2), 1)
    return {"rounds": need["rounds"], "seconds": missing * each, "samples": None}
