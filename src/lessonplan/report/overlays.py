"""Curves of methods that a comparison lays over each other: ASSIST figures 4.1 to 4.8 and 6, thesis 2.3 to 2.5."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lessonplan.report.axes import SECONDS, Axis
from lessonplan.report.reading import Floats, Json, Run, known_at

Stored = dict[str, list[Run]]
Points = Callable[[Run, Axis], tuple[Floats, Floats]]
PARTS = {"val": "validation", "test": "test", "train_set": "training set"}
MEASURES = (
    ("accuracy", "accuracy", "accuracy"),
    ("loss", "mean loss", "loss"),
    ("loss_q90", "90% quantile of the loss", "loss"),
    ("loss_worst", "worst loss", "loss"),
)
"""Key, title and unit of what is judged of a part."""


@dataclass(frozen=True)
class Overlay:
    """A figure with a curve a method.

    Attributes:
        name: its part of the figure's id, ``[a-z0-9-]+``.
        title: headline.
        ylabel: what is drawn, with its unit.
        points: a run's curve against an axis.
        caption: what a reader has to know.
        percent: values are shares, drawn in percent.
        line_at: a value to which a thin line is drawn.
        not_against: axes against which it says nothing.
    """

    name: str
    title: str
    ylabel: str
    points: Points
    caption: str = ""
    percent: bool = False
    line_at: float | None = None
    not_against: tuple[Axis, ...] = ()


@dataclass(frozen=True)
class Group:
    """Figures that belong together, drawn in three columns."""

    title: str
    about: str = ""
    overlays: list[Overlay] = field(default_factory=list)


def groups(stored: Stored) -> list[Group]:
    """The figures that these runs have values for, in the order of a page."""
    found = [_judged(stored), _run(stored)]
    runs = [run for of_method in stored.values() for run in of_method]
    if any(run.has("select") for run in runs):
        found.append(_selection())
    part = watched_part(stored)
    # heads that are solved in one go know their beliefs on what they were fitted to, others know none there
    if part in PARTS and any(len(run.curve(part, "margin_q50")[0]) for run in runs):
        found.append(_beliefs(part))
    return [group for group in found if group.overlays]


def watched_part(stored: Stored) -> str:
    """The held-out part whose curves there are: validation, else test data that were watched, else training."""
    return next((part for part in ("val", "test") if _has(stored, part)), "train")


def _has(stored: Stored, part: str) -> bool:
    return any(len(run.curve(part, "accuracy")[0]) for runs in stored.values() for run in runs)


def _judged(stored: Stored) -> Group:
    """A row a measure: held-out parts, the training set, and their ratio."""
    parts = [part for part in PARTS if _has(stored, part)]
    overlays = []
    for key, title, unit in MEASURES:
        for part in parts:
            overlays.append(_measure(part, key, title, unit))
        held_out = [part for part in parts if part != "train_set"]
        if held_out and "train_set" in parts:
            overlays.append(_ratio(held_out[-1], key, title))
    about = "Each part judged whole, as it is, by the network of that moment."
    if "train_set" in parts and len(parts) > 1:
        about += " A ratio of 1 means that the network does as well on images that it was not trained on."
    return Group("Accuracy and losses", about if parts else "", overlays)


def _measure(part: str, key: str, title: str, unit: str) -> Overlay:
    where, percent = PARTS[part], key == "accuracy"
    name = f"{part}-{key}".replace("_", "-")
    label = f"{where} {unit}" + (" (%)" if percent else "")
    headline = f"{where}: {title}" if part == "train_set" else f"{where} {title}"
    return Overlay(name, headline[0].upper() + headline[1:], label, _curve(part, key), percent=percent)


def _ratio(part: str, key: str, title: str) -> Overlay:
    def ratio(line: Json) -> float | None:
        trained, seen = known_at(line, "train_set", key), known_at(line, part, key)
        return seen / trained if trained and seen is not None else None

    label = f"{PARTS[part]} / training"
    return Overlay(
        f"ratio-{key}".replace("_", "-"),
        f"Ratio: {title}",
        label,
        lambda run, axis: run.points(ratio, axis),
        line_at=1.0,
    )


def _run(stored: Stored) -> Group:
    """What the updates saw, what the weights became, and how long it took."""
    seen = (
        "On the samples as they were trained on: mixed, or selected for being hard. Levels are not comparable"
        " between methods."
    )
    overlays = [Overlay("train-loss", "Loss of the updates", "training loss", _curve("train", "loss"), seen)]
    if watched_part(stored) == "train":
        accuracy = _curve("train", "accuracy")
        overlays.insert(
            0, Overlay("train-accuracy", "Accuracy of the updates", "training accuracy (%)", accuracy, seen, True)
        )
    overlays.append(
        Overlay("param-norm", "Norm of the weights", "L2 norm", _curve("param_norm"), "L2 norm of all parameters.")
    )
    clock = _curve("system", "seconds")
    said = "Of training and scores, without evaluation. Runs that share a machine slow each other down."
    overlays.append(Overlay("clock", "Wall clock", "seconds", clock, said, not_against=(SECONDS,)))
    return Group("Training", "", overlays)


def _selection() -> Group:
    """ASSIST figure 6, and whether the same samples are chosen again and again (section 5.1)."""
    return Group(
        "Selection",
        "Epochs without an update count towards the next one that has some.",
        [
            Overlay(
                "acceptance", "Acceptance", "kept (%)", _rate("accepted", "candidates"),
                "Share of the candidates that was kept.", percent=True,
            ),
            Overlay(
                "raw-batches", "Raw batches per update", "raw batches", _rate("raw_batches", "updates"),
                "Batches of candidates that it took to fill one.",
            ),
            Overlay(
                "overflow", "Overflow per update", "samples", _rate("overflow", "updates"),
                "Accepted samples that were left when a batch was full.",
            ),
            Overlay(
                "top-tenth", "Choices of the most chosen tenth", "of all choices so far (%)",
                _curve("select", "choices", "top_tenth"),
                "Share of all choices so far that went to the tenth of the samples that was chosen most.",
                percent=True,
            ),
            Overlay(
                "never", "Never chosen", "of the training samples (%)", _curve("select", "choices", "never"),
                "Samples that no update has seen so far.", percent=True,
            ),
            Overlay(
                "gini", "Inequality of choices", "Gini coefficient", _curve("select", "choices", "gini"),
                "0: all samples were chosen equally often; near 1: a few got all choices.",
            ),
        ],
    )  # fmt: skip


def _beliefs(part: str) -> Group:
    """How sure the network is, by quantiles over the samples of a part."""
    places = (("q10", "a tenth is less sure"), ("q50", "median"), ("q90", "a tenth is surer"))
    return Group(
        "Beliefs",
        f"Of the {PARTS[part]} samples, right or wrong. Confidence is the highest probability, the margin its lead"
        " over the second.",
        [
            Overlay(f"{name}-{place}", f"{name.capitalize()}: {words}", name, _curve(part, f"{name}_{place}"))
            for name in ("confidence", "margin")
            for place, words in places
        ],
    )


def _curve(*keys: str) -> Points:
    return lambda run, axis: run.curve(*keys, against=axis)


def _rate(top: str, bottom: str) -> Points:
    """A ratio of sums over an epoch and the ones before it that lack the denominator."""

    def points(run: Run, axis: Axis) -> tuple[Floats, Floats]:
        rates = dict(_rates(run.epochs, top, bottom))
        return run.points(lambda line: rates.get(id(line)), axis)

    return points


def _rates(lines: Iterable[Json], top: str, bottom: str) -> Iterable[tuple[int, float]]:
    above, below = 0.0, 0.0
    for line in lines:
        over, under = known_at(line, "select", top), known_at(line, "select", bottom)
        if over is None or under is None:
            continue
        above, below = above + over, below + under
        if below:
            yield id(line), above / below
            above, below = 0.0, 0.0
