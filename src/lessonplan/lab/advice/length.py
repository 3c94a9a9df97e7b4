"""How long each run of a tournament trains, so that the tournament fits into what it may take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from lessonplan.lab.advice.field import HEAD_BUDGET
from lessonplan.lab.advice.looks import rungs
from lessonplan.lab.plan_file import PlanFile
from lessonplan.settings import Settings
from lessonplan.train.budget import Budget
from lessonplan.train.tuning import Tune

_LONGEST = {False: 150.0, True: 30.0}  # epochs, by whether weights are pretrained
_LEAST = {False: (10.0, 50_000), True: (3.0, 5_000)}  # epochs, or sample passes where those are fewer
_STEP = 0.8


def shortest(samples: int, pretrained: bool) -> float:
    """Epochs below which a run says little of a longer one."""
    epochs, passes = _LEAST[pretrained]
    return max(1.0, min(epochs, passes / samples))


def lengths(samples: int, pretrained: bool) -> list[float]:
    """Numbers of epochs to choose from, longest first."""
    least, most = shortest(samples, pretrained), _LONGEST[pretrained]
    found = [most]
    while found[-1] * _STEP > least:
        found.append(round(found[-1] * _STEP, 1))
    return [*found, least] if found[-1] > least else [max(most, least)]


def with_length(entry: PlanFile, epochs: float, samples: int, each: str | None) -> PlanFile:
    """The plan with a budget, unless it has one: equal cost for all that train the network.

    Args:
        entry: the plan.
        epochs: of plain training.
        samples: in a round's training part.
        each: a budget for all, or None.
    """
    settings = Settings.make(**entry.method.settings)
    if settings.fit_head != "train":
        return replace(entry, budget="1 steps")
    if entry.budget is not None:
        return entry
    if each is not None:
        return replace(entry, budget=each)
    if Tune.parse(settings.tune).kind == "head" and settings.features != "off":
        return replace(entry, budget=HEAD_BUDGET)
    return replace(entry, budget=f"{round(3 * epochs * samples)} cost")


def on_all(budget: str, ratio: float) -> str:
    """The same training on ``ratio`` times as many samples: as many passes over each of them.

    >>> on_all("3000 cost", 1.25), on_all("20 epochs", 1.25)
    ('3750 cost', '20 epochs')
    """
    asked = Budget.parse(budget)
    if asked.unit == "epochs":
        return str(asked)
    amount = asked.amount * ratio
    return str(Budget(amount if asked.unit == "seconds" else float(math.ceil(amount)), asked.unit))


def course(contenders: int) -> Iterator[tuple[int, int]]:
    """New rounds and contenders from rung to rung, until one has been alone for a rung.

    >>> list(course(8))
    [(4, 8), (2, 4), (3, 2), (5, 1)]
    """
    before = 0
    for rung in rungs(10_000):
        yield rung - before, contenders
        if contenders <= 1:
            return
        before, contenders = rung, math.ceil(contenders / 2)


def whole(price: Callable[[PlanFile], float], reference: PlanFile, others: Sequence[PlanFile]) -> float:
    """What a tournament takes to leave one contender beside the reference.

    Args:
        price: of a run of a plan.
        reference: runs in all rounds.
        others: the contenders; half of them leave at each rung, nobody knows which.
    """
    mean = sum(price(entry) for entry in others) / len(others)
    return sum(new * (price(reference) + running * mean) for new, running in course(len(others)))
