"""What a run takes: a few updates of each plan, measured before the tournament."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

from lessonplan.data import Data
from lessonplan.errors import ConfigError
from lessonplan.lab.plan_file import PlanFile
from lessonplan.settings import Settings
from lessonplan.train.budget import Budget
from lessonplan.train.callbacks import Callback
from lessonplan.train.fitting import fit
from lessonplan.train.trainer import Trainer
from lessonplan.train.tuning import Tune

_WARM_UP = 1
_LEAST, _MOST, _SECONDS = 3, 30, 0.3  # updates; more where they are so quick that a clock says little


@dataclass(frozen=True)
class Pace:
    """What an update of a plan takes, and what a run takes besides.

    Attributes:
        seconds: of an update, in this process alone.
        apart: seconds of a run that are no updates: building the network, judging it.
        cost, samples, raw: of an update, see ``Budget``; ``raw`` in epochs.
        once: cost of a run that is no update's (features of a head).
        size: bytes of the network's weights.
    """

    seconds: float
    apart: float
    cost: float
    samples: float
    raw: float
    once: float = 0.0
    size: int = 0

    def updates(self, budget: str) -> int:
        """How many updates a run makes: the last one may go beyond the budget."""
        asked = Budget.parse(budget)
        of_one = {
            "steps": 1.0,
            "epochs": self.raw,
            "samples": self.samples,
            "seconds": self.seconds,
            "cost": self.cost,
        }[asked.unit]
        return max(1, math.ceil(asked.amount / max(of_one, 1e-12) - 1e-6))

    def time(self, budget: str) -> float:
        """Seconds of a run."""
        return self.apart + self.seconds * self.updates(budget)

    def price(self, budget: str) -> float:
        """Cost of a run."""
        return self.once + self.cost * self.updates(budget)

    def as_json(self) -> dict[str, float]:
        """For the record."""
        return asdict(self)


class _Clock(Callback):
    def __init__(self) -> None:
        self.marks: list[tuple[float, int, int, float]] = []

    def on_train_start(self, trainer: Trainer) -> None:
        self.on_batch_end(trainer)

    def on_batch_end(self, trainer: Trainer) -> None:
        c = trainer.counters
        self.marks.append((time.perf_counter(), c.cost, c.samples, c.epochs))
        if len(self.marks) > _LEAST and self.marks[-1][0] - self.marks[_WARM_UP][0] > _SECONDS:
            trainer.state.stop_reason = "measured"


def measure(entry: PlanFile, data: Data, threads: int) -> Pace:
    """Train a few updates on a round's samples, and judge once.

    Args:
        entry: the plan; its budget has no say.
        data: of a round.
        threads: CPU threads where the plan names none, those that its runs will have.

    Raises:
        ConfigError, NotFinite and whatever else stops a run of this plan.
    """
    assert entry.model is not None
    settings: dict[str, Any] = {**entry.method.settings}
    settings["threads"] = settings.get("threads") or threads
    clock = _Clock()
    started = time.perf_counter()
    plan = entry.method.fresh_plan()
    run = fit(entry.model, data, plan, f"{_MOST} steps", seed=0, callbacks=[clock], **settings)
    whole = time.perf_counter() - started
    size = 4 * int(run.result["parameters"])
    if Settings.make(**settings).fit_head != "train":  # all of it is one update
        return Pace(0.0, whole, 0.0, 1.0, 1.0, once=float(run.result["cost"]), size=size)
    if len(clock.marks) <= _LEAST:
        raise ConfigError(f"it stopped after {len(clock.marks) - 1} updates ({run.result['stopped']})")
    first, last = clock.marks[_WARM_UP], clock.marks[-1]
    seconds = (last[0] - first[0]) / (len(clock.marks) - 1 - _WARM_UP)
    # Of as many updates as are always made, so that cost is the same on a slow day.
    counted = clock.marks[_LEAST]
    cost, samples, raw = ((b - a) / (_LEAST - _WARM_UP) for a, b in zip(first[1:], counted[1:], strict=True))
    inside = clock.marks[-1][0] - clock.marks[0][0]
    once = float(clock.marks[0][1]) if Tune.parse(Settings.make(**settings).tune).kind == "head" else 0.0
    return Pace(seconds, max(whole - inside, 0.0), cost, samples, raw, once, size)
