"""What each method of a comparison confuses over its seeds: matrices, scores of classes, calibration, samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lessonplan.confusion import ClassScores, class_scores, frequent_confusions
from lessonplan.report import plots
from lessonplan.report.answers import WORST, find_answers
from lessonplan.report.bands import reach
from lessonplan.report.class_panels import named
from lessonplan.report.formatting import MISSING, count, fixed, interval, listing, number, percent, points
from lessonplan.report.palette import Style
from lessonplan.report.panels import Panel, legend_entries, panel
from lessonplan.report.pictures import SMOOTH, small_picture
from lessonplan.report.reading import Floats, Json
from lessonplan.report.sections.section import Column, Rows
from lessonplan.report.zoom import Level, zoom_levels

_PAIRS = 10
_ROWS, _FEWEST_ROWS, _MOST_ROWS = 500, 10, 100  # classes in the tables of all methods together, and of one
_SAMPLES, _FEWEST_SAMPLES = 96, 2  # worst samples of all methods together, and of one
_NAMED = 3  # classes that a sample is taken for


@dataclass(frozen=True)
class Value:
    """A number of a table: as text, what stands below it, and what it is sorted by."""

    text: str
    below: str = ""
    sort: float | None = None


@dataclass(frozen=True)
class Sample:
    """One of the worst samples; ``picture`` is the number of its picture on the page, None without one."""

    true: str
    taken_for: str
    about: str
    where: str
    picture: int | None


@dataclass(frozen=True)
class Answers:
    """A method's part of the section.

    Attributes:
        name, about: the method's, and what its runs answered, in a sentence.
        summary: balanced accuracy, macro F1 and calibration error, then its most frequent confusion.
        levels: of its confusion matrix, summed over seeds.
        pairs: its most frequent confusions.
        scores: of each class its name, and F1, precision, recall, recall minus the reference's if ``paired``, and
            samples a seed.
        paired: whether recall stands beside the reference's, and ``gained``, a sentence on where it differs most.
        hidden: how many classes are not in the table.
        worst: its worst samples.
    """

    name: str
    about: str
    summary: tuple[Value, Value, Value, str]
    levels: Sequence[Level]
    pairs: Rows | None
    scores: Sequence[tuple[str, Sequence[Value]]]
    paired: bool
    gained: str
    hidden: int
    worst: Sequence[Sample]


@dataclass
class _Pictures:
    """Pictures of the page, each once."""

    png: dict[str, str]
    shown: list[dict[str, Any]] = field(default_factory=list)
    _places: dict[str, int | None] = field(default_factory=dict)

    def place(self, name: str) -> int | None:
        if name not in self._places:
            uri, width, height = small_picture(self.png.get(name))
            self._places[name] = None if uri is None else len(self.shown)
            if uri is not None:
                sharp = max(width, height) < SMOOTH
                self.shown.append({"uri": uri, "width": width, "height": height, "sharp": sharp})
        return self._places[name]


def class_section(
    folder: Path, methods: Sequence[Json], reference: str | None, looks: dict[str, Style], level: float
) -> dict[str, Any] | None:
    """What the template shows of classes; None where no run tells.

    Args:
        folder: the comparison's.
        methods: of ``results.json``.
        reference: the method that the others are compared with, if any.
        looks: per method.
        level: coverage of the intervals.
    """
    found = find_answers(folder, methods)
    answers: dict[str, Json] = found["methods"]
    if not answers:
        return None
    pictures = _Pictures(found["pictures"])
    rows = min(_MOST_ROWS, max(_FEWEST_ROWS, _ROWS // len(answers)))
    samples = min(WORST, max(_FEWEST_SAMPLES, _SAMPLES // len(answers)))
    shown = [
        _method(name, found, answers.get(reference or ""), reference, level, rows, samples, pictures)
        for name, found in answers.items()
    ]
    return {
        "parts": listing(list(dict.fromkeys(str(found["part"]) for found in answers.values()))),
        "reference": reference if reference in answers and len(answers) > 1 else None,
        "methods": shown,
        "calibration": _calibration(answers, looks),
        "pictures": pictures.shown,
        "left_out": [str(method["name"]) for method in methods if method["name"] not in answers],
    }


def _method(
    name: str,
    found: Json,
    base: Json | None,
    reference: str | None,
    level: float,
    rows: int,
    samples: int,
    pictures: _Pictures,
) -> Answers:
    runs = found["runs"]
    names = named([str(one) for one in found["class_names"]], len(runs[0]["true"]))
    confusion = _matrix(found["confusion"], len(names))
    scores = [class_scores(run["right"], run["true"], run["taken"]) for run in runs]
    pairs = frequent_confusions(confusion, _PAIRS)
    first = (
        f"{names[pairs[0].true]} for {names[pairs[0].predicted]}, {percent(pairs[0].share, 1)}%" if pairs else ""
    )
    gains = _gains(found, base) if base is not None and name != reference else None
    errors = [number(run["calibration_error"]) for run in runs]
    table = _class_rows(names, scores, runs, gains, level)
    return Answers(
        name,
        f"{_seeds(len(runs))}, {count(int(confusion.sum()))} answers, {count(int(confusion.trace()))} right",
        (
            _mean([one.balanced_accuracy for one in scores], level),
            _mean([one.macro_f1 for one in scores], level),
            _mean([error for error in errors if error is not None], level),
            first or MISSING,
        ),
        zoom_levels(confusion, names),
        Rows(
            f"Most frequent confusions of {name}",
            (Column("True class", "text"), Column("Taken for", "text"), Column("Samples"), Column("Share, %")),
            [(names[p.true], names[p.predicted], count(p.count), percent(p.share, 1)) for p in pairs],
        )
        if pairs
        else None,
        table[:rows],
        gains is not None,
        _gained(names, gains, reference),
        len(table) - len(table[:rows]),
        [_sample(sample, pictures) for sample in found["worst"][:samples]],
    )


def _matrix(stored: Json, classes: int) -> NDArray[np.int64]:
    confusion = np.zeros((classes, classes), dtype=np.int64)
    confusion[stored["rows"], stored["columns"]] = stored["counts"]
    return confusion


def _seeds(runs: int) -> str:
    return "1 seed" if runs == 1 else f"{runs} seeds"


def _mean(shares: Sequence[float], level: float) -> Value:
    """Of a share over seeds, with its interval below."""
    if not shares:
        return Value(MISSING)
    mean, half = float(np.mean(shares)), reach(np.asarray(shares)[:, None], level)[0]
    below = interval((mean - half, mean + half)) if np.isfinite(half) else ""
    return Value(percent(mean), below, 100 * mean)


def _class_rows(
    names: Sequence[str], scores: Sequence[ClassScores], runs: Sequence[Json], gains: Floats | None, level: float
) -> list[tuple[str, list[Value]]]:
    """A row a class, worst F1 first, those without one last."""
    columns = []
    for key in ("f1", "precision", "recall"):
        values = np.array([getattr(one, key) for one in scores], dtype=np.float64)  # None is nan
        columns.append((*_over_seeds(values), values))
    order = np.argsort(columns[0][0], kind="stable")  # nan goes last
    support = np.mean([run["true"] for run in runs], axis=0)
    half = reach(gains, level) if gains is not None else None
    rows = []
    for i in order.tolist():
        cells = [
            Value(fixed(mean[i], 3), f"± {spread[i]:.3f}" if np.isfinite(spread[i]) else "", number(mean[i]))
            for mean, spread, _ in columns
        ]
        if gains is not None and half is not None:
            cells.append(_gain(gains[:, i], half[i]))
        samples = float(support[i])
        cells.append(Value(count(samples) if samples == round(samples) else fixed(samples, 1), "", samples))
        rows.append((names[i], cells))
    return rows


def _gain(values: Floats, half: float) -> Value:
    known = values[~np.isnan(values)]
    if not len(known):
        return Value(MISSING)
    mean = float(known.mean())
    bounds = interval((mean - half, mean + half), signed=True) if np.isfinite(half) else ""
    return Value(points(mean), bounds, 100 * mean)


def _over_seeds(values: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation ``(C,)`` of ``(S, C)`` over the seeds that know; nan where too few do."""
    known = ~np.isnan(values)
    seeds = known.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(known, values, 0).sum(0) / seeds
        spread = np.sqrt(np.where(known, (values - mean) ** 2, 0).sum(0) / (seeds - 1))
    return np.where(seeds > 0, mean, np.nan), np.where(seeds > 1, spread, np.nan)


def _gains(found: Json, base: Json) -> Floats | None:
    """Recall of each class minus the reference's at the same seed, ``(S, C)``; None where they share no seed."""
    theirs = {run["seed"]: run for run in base["runs"]}
    pairs = [(run, theirs[run["seed"]]) for run in found["runs"] if run["seed"] in theirs]
    if not pairs or found["class_names"] != base["class_names"]:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.array([_recall(ours) - _recall(other) for ours, other in pairs])


def _recall(run: Json) -> Floats:
    return np.asarray(run["right"], dtype=np.float64) / np.asarray(run["true"], dtype=np.float64)


def _gained(names: Sequence[str], gains: Floats | None, reference: str | None) -> str:
    """Where recall rose and fell most, in a sentence."""
    if gains is None:
        return ""
    mean = _over_seeds(gains)[0]
    known = np.flatnonzero(~np.isnan(mean))
    if not len(known):
        return ""
    best, last = known[mean[known].argmax()], known[mean[known].argmin()]
    told = [
        f"{word} most in {names[i]} ({points(mean[i], 1)} points)"
        for word, i, true in (("gained", best, mean[best] > 0), ("lost", last, mean[last] < 0))
        if true
    ]
    return f"Against {reference} recall {' and '.join(told)}." if told else ""


def _sample(found: Json, pictures: _Pictures) -> Sample:
    others = found["taken_for"]
    shown = [str(name) if len(others) == 1 else f"{name} ({times})" for name, times in others[:_NAMED]]
    name = str(found["name"])
    return Sample(
        true=str(found["true"]),
        taken_for=listing([*shown, "others"] if len(others) > _NAMED else shown),
        about=f"wrong in {found['wrong']} of {_seeds(found['runs'])}, mean loss {fixed(found['loss'])}",
        where=name if found["is_file"] else f"index {name}",
        picture=pictures.place(name),
    )


def _calibration(answers: dict[str, Json], looks: dict[str, Style]) -> list[Panel]:
    """Accuracy against confidence, all answers of a method's seeds together."""
    drawn = {}
    for name, found in answers.items():
        bins = [run["reliability"] for run in found["runs"] if run["reliability"]]
        if not bins:
            continue
        counts = np.array([b["count"] for b in bins], dtype=np.float64)
        totals = counts.sum(0)
        confidence, accuracy = (
            np.nansum(np.array([b[key] for b in bins], dtype=np.float64) * counts, axis=0) / np.maximum(totals, 1)
            for key in ("confidence", "accuracy")
        )
        drawn[name] = (confidence, accuracy, totals)
    figure = panel(
        "Calibration",
        "Accuracy of predictions of like confidence, those of all seeds together. Below the line: too sure; above:"
        f" too modest. Points of fewer than {plots.FEW_ANSWERS} predictions are left out.",
        plots.calibration(drawn, looks),
    )
    return [{**one, "legend": legend_entries([(name, looks[name]) for name in drawn])} for one in figure]
