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
_AT_END = 0.15  # of what is allowed, for the training at the end


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
    if is_chosen(entry, each):
        return replace(entry, budget=f"{round(3 * epochs * samples)} cost")
    if settings.fit_head != "train":
        return replace(entry, budget="1 steps")
    return entry if entry.budget is not None else replace(entry, budget=each or HEAD_BUDGET)


def is_chosen(entry: PlanFile, each: str | None) -> bool:
    """Whether ``with_length`` decides how long the plan's network trains."""
    settings = Settings.make(**entry.method.settings)
    head = settings.fit_head != "train" or (
        Tune.parse(settings.tune).kind == "head" and settings.features != "off"
    )
    return not head and entry.budget is None and each is None


def stretch(epochs: float, pretrained: bool, end: float, total: float) -> float:
    """How many times as long as in a round what is named trains at the end, 1 or more.

    Rounds are short so that there can be many; the classifier need not be.

    Args:
        epochs: of a round's run.
        pretrained: whether there are weights.
        end: what the training at the end takes if it is as long as a round's, in seconds or cost.
        total: what is allowed.

    >>> stretch(5.0, True, 40.0, 1200.0), stretch(30.0, True, 200.0, 1200.0)
    (4.5, 1.0)
    """
    return max(1.0, min(_LONGEST[pretrained] / epochs, _AT_END * total / end))


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
