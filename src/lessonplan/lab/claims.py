"""What became of a source's claims: held, did not hold, undecided or not measured, with the interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lessonplan.lab.measures import Measure, in_unit, measured
from lessonplan.lab.recipe import Claim, Pair, Trend
from lessonplan.lab.statistics import Difference, compare_paired, correct_together

Judged = dict[str, str]
_VERDICTS = {"better": "held", "worse": "did not hold", "undecided": "undecided"}
_NOT_MEASURED = "not measured"


def judge(claims: Sequence[Claim], results: dict[str, Any]) -> list[Judged]:
    """Whether each claim held in the runs of one comparison, paired by seed.

    The p-values are corrected for the number of claims (Holm), and no claim is decided whose interval
    contains 0.
    """
    found = {
        claim.text: _difference(
            _scores(results, claim, claim.than, claim.than_measure), _scores(results, claim, claim.method), results
        )
        for claim in claims
    }
    decided = correct_together({text: d for text, d in found.items() if d is not None}, results["level"])
    names = {method["name"] for method in results["methods"]}
    judged = []
    for claim in claims:
        absent = [name for name in (claim.method, claim.than) if name not in names]
        missing = f"{_both(absent)} did not take part at this scale" if absent else None
        other = f" ({claim.than_measure.replace('_', ' ')})" if claim.than_measure is not None else ""
        subject = f"{claim.method} minus {claim.than}{other}"
        judged.append(_verdict(claim, decided.get(claim.text), subject, missing))
    return judged


def judge_trends(trends: Sequence[Trend], parts: Mapping[str, dict[str, Any]]) -> list[Judged]:
    """Whether differences between methods change from part to part as the source says, paired by seed.

    Args:
        trends: the source's sentences.
        parts: what ``results.json`` holds, for each comparison that was run.
    """
    found: dict[str, Difference] = {}
    for trend in trends:
        if trend.part in parts and trend.than_part in parts:
            less, more = (_margins(parts[name], trend) for name in (trend.than_part, trend.part))
            difference = _difference(less, more, parts[trend.part])
            if difference is not None:
                found[trend.text] = difference
    level = next((results["level"] for results in parts.values()), 0.95)
    decided = correct_together(found, level)
    judged = []
    for trend in trends:
        absent = [name for name in (trend.part, trend.than_part) if name not in parts]
        missing = f"no results of {_both(absent)}" if absent else None
        subject = f"{trend.method} minus {trend.than}, {trend.part} against {trend.than_part}"
        judged.append(_verdict(trend, decided.get(trend.text), subject, missing))
    return judged


def across_parts(parts: Mapping[str, Sequence[Judged]]) -> list[str]:
    """A sentence a claim: in which parts it held.

    Args:
        parts: for each part what ``judge`` said.

    >>> held, open_ = {"text": "A wins.", "verdict": "held"}, {"text": "A wins.", "verdict": "undecided"}
    >>> across_parts({"small": [held], "large": [held], "huge": [open_]})
    ['held in 2 of 3 parts (small; large), undecided in 1 (huge): A wins.']
    """
    found: dict[str, dict[str, list[str]]] = {}
    for part, claims in parts.items():
        for claim in claims:
            by_verdict = found.setdefault(
                claim["text"], {verdict: [] for verdict in (*_VERDICTS.values(), _NOT_MEASURED)}
            )
            by_verdict[claim["verdict"]].append(part)
    return [f"{_where(by_verdict)}: {text}" for text, by_verdict in found.items()]


def _where(by_verdict: Mapping[str, Sequence[str]]) -> str:
    """In which parts a claim got each verdict, the first with the number of all parts."""
    total = sum(map(len, by_verdict.values()))
    parts = "part" if total == 1 else "parts"
    counted = [(verdict, names) for verdict, names in by_verdict.items() if names]
    clauses = [
        f"{verdict} in {len(names)}{'' if i else f' of {total} {parts}'} ({'; '.join(names)})"
        for i, (verdict, names) in enumerate(counted)
    ]
    return ", ".join(clauses)


def _scores(results: dict[str, Any], claim: Pair, name: str, measure: Measure | None = None) -> dict[int, float]:
    """The claim's measure (or another one) by seed, for one method."""
    measure = measure or claim.measure
    runs = [run for method in results["methods"] if method["name"] == name for run in method["runs"]]
    return {run["seed"]: value for run in runs if (value := measured(run, measure)) is not None}


def _margins(results: dict[str, Any], claim: Pair) -> dict[int, float]:
    """Method minus the other by seed."""
    more, less = _scores(results, claim, claim.method), _scores(results, claim, claim.than, claim.than_measure)
    return {seed: value - less[seed] for seed, value in more.items() if seed in less}


def _difference(less: dict[int, float], more: dict[int, float], results: dict[str, Any]) -> Difference | None:
    return compare_paired(less, {"more": more}, results["level"])["more"]


def _verdict(claim: Pair, difference: Difference | None, subject: str, missing: str | None) -> Judged:
    """What became of a claim; ``missing`` says what it is about that was not run."""
    if missing is not None:
        return {"text": claim.text, "verdict": _NOT_MEASURED, "detail": missing}
    if difference is None or difference.ci_t is None:
        return {"text": claim.text, "verdict": "undecided", "detail": "too few finished runs"}
    factor, unit = in_unit(claim.measure)
    low, high = (factor * bound for bound in difference.ci_t)
    what = "" if claim.measure == "test_accuracy" else f"{claim.measure.replace('_', ' ')}, "
    digits = 2 if unit else 3
    return {
        "text": claim.text,
        "verdict": _VERDICTS[difference.verdict],
        "detail": (
            f"{what}{subject}: {factor * difference.mean:+.{digits}f}{unit}"
            f" ({low:+.{digits}f} to {high:+.{digits}f}), Holm p {difference.p_holm:.3g}, {difference.n} seeds"
        ),
    }


def _both(names: Sequence[str]) -> str:
    return " and ".join(names)
