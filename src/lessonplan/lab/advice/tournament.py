"""The tournament: rounds of paired trials, looks at rungs, and plans that leave."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lessonplan.errors import ConfigError, RunFailed
from lessonplan.lab.advice.allowance import Allowance
from lessonplan.lab.advice.evidence import Array, Evidence, weigh
from lessonplan.lab.advice.field import PLAIN
from lessonplan.lab.advice.labelled import Labelled
from lessonplan.lab.advice.looks import rungs, share_of_look, step_down
from lessonplan.lab.advice.pace import Pace
from lessonplan.lab.advice.power import needed
from lessonplan.lab.advice.record import Record
from lessonplan.lab.advice.trial import Trial
from lessonplan.lab.config import content_hash
from lessonplan.lab.executor import Executor
from lessonplan.lab.plan_file import PlanFile
from lessonplan.lab.task import Mishap, go_on
from lessonplan.progress import Line
from lessonplan.progress_words import per_time
from lessonplan.report import file_stem
from lessonplan.report.formatting import shown

MOST_ROUNDS = 250
_ATTEMPTS = 2  # a process may be killed once for reasons that are not the plan's


@dataclass
class Tournament:
    """Trains, looks, lets plans leave; all that it decides is in its record.

    In every round each plan that is still in trains on the same labelled samples from the same seed. After 4, 6,
    9, 14, ... rounds is looked: what is surely worse than plain training leaves, and of the others the better half
    stays. Plain training never leaves. Runs are whole: a run of more epochs would not begin as a shorter one does
    (its learning rate falls later), so plans go on by rounds, not by epochs.

    Args:
        entries: the plans by name with their budgets, the reference among them.
        labelled: the samples.
        root: folder of the tournament.
        record: what was decided so far; written anew at every look.
        allowance: what may be spent.
        reserve: seconds or cost to keep for the training at the end, see ``prepare_plans``.
        executor: where trials are done.
        level: confidence level of all looks and plans together.
        threads: CPU threads of a trial whose plan names none.
        say: takes a line at every look.
        line: shows how much of what is allowed is gone.
    """

    entries: Mapping[str, PlanFile]
    labelled: Labelled
    root: Path
    record: Record
    allowance: Allowance
    reserve: Callable[[Sequence[float]], float]
    executor: Executor
    level: float
    threads: int
    say: Any = print
    line: Line = field(default_factory=lambda: Line("tournament", quiet=True), repr=False)
    _outcomes: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict, repr=False)
    _failures: dict[tuple[str, int], int] = field(default_factory=dict, repr=False)
    _over: bool = False
    _committed: float = 0.0
    _done_here: int = 0
    _handed_out: dict[Path, float] = field(default_factory=dict, repr=False)
    _ways: list[float] = field(default_factory=list, repr=False)
    _began: float = field(default_factory=time.monotonic, repr=False)

    # -- trials --------------------------------------------------------------------------------------

    def trial(self, name: str, number: int) -> Trial:
        """A plan in a round."""
        stem = f"{file_stem(name)}-{content_hash(self.record.plans[name]['content'])[:6]}"
        folder = self.root / "runs" / f"{stem}-round{number}"
        decides = self.record.plans[name]["decides"]
        return Trial(self.entries[name], number, folder, self.labelled, self.threads, decides)

    def outcome(self, name: str, number: int) -> dict[str, Any] | None:
        """What a plan found in a round, or None."""
        key = (name, number)
        if key not in self._outcomes:
            trial = self.trial(name, number)
            if not trial.finished:
                return None
            self._outcomes[key] = trial.outcome()
        return self._outcomes[key]

    def scores(self, name: str) -> dict[int, float]:
        """Shares of right answers by round."""
        found = {number: self.outcome(name, number) for number in range(MOST_ROUNDS)}
        return {number: float(np.mean(o["right"])) for number, o in found.items() if o is not None}

    def seconds(self, name: str) -> float:
        """What a trial of a plan takes, the way to where it is done included: as they took, or as measured."""
        done = [o["seconds"] for (plan, _), o in self._outcomes.items() if plan == name]
        inside = float(np.mean(done)) if done else self._pace(name).time(self._budget(name))
        return inside + (float(np.median(self._ways)) if self._ways else 0.0)

    def cost(self, name: str) -> float:
        """What a trial costs, as measured before the first one, so that the same is affordable next time."""
        return self._pace(name).price(self._budget(name))

    def stretch(self, name: str) -> float:
        """How many times as long as in a round a plan trains at the end."""
        found: float = self.record.plans[name].get("stretch", 1.0)
        return found

    def _budget(self, name: str) -> str:
        budget = self.entries[name].budget
        assert budget is not None
        return budget

    def _pace(self, name: str) -> Pace:
        return Pace(**self.record.plans[name]["pace"])

    # -- the course ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Go on until what is allowed is spent, or nothing is left to decide."""
        for number in range(MOST_ROUNDS):  # what was done before, in earlier parts
            for name in self.entries:
                if self.outcome(name, number) is not None:
                    self.trial(name, number).tidy()
                    self._committed += self.cost(name)
        while not self._nothing_left():
            rung = next(rung for rung in rungs(2 * MOST_ROUNDS) if rung > self.record.rung)
            if rung > MOST_ROUNDS:
                break
            self._train(rung)
            done = all(self.outcome(n, r) is not None for n in (PLAIN, *self.record.running) for r in range(rung))
            self._look(rung if done else None)
            if not done:
                break

    def _nothing_left(self) -> bool:
        running = self.record.running
        return not running or (
            len(running) == 1 and self.record.standing.get(running[0], {}).get("decided") is not None
        )

    def _train(self, rung: int) -> None:
        """All trials up to a rung, as far as they can be afforded."""
        for _ in range(_ATTEMPTS):
            waiting = [
                self.trial(name, number)
                for number in range(rung)
                for name in (PLAIN, *self._in_order())
                if self.outcome(name, number) is None
            ]
            if not waiting or self._over:
                return
            self.executor.run(self._affordable(waiting), self._report)

    def _in_order(self) -> list[str]:
        """Contenders that are in, the most promising first."""
        means = {name: self.record.standing.get(name, {}).get("mean") or 0.0 for name in self.record.running}
        return sorted(self.record.running, key=lambda name: -means[name])

    def _affordable(self, trials: list[Trial]) -> Iterator[Trial]:
        """Trials one by one as they are asked for, while they fit into what is left."""
        for trial in trials:
            name = trial.entry.name
            if name not in (PLAIN, *self.record.running):  # it failed meanwhile
                continue
            if not self._fits(name):
                self._over = True
                if name == PLAIN:  # without it later trials have no partner
                    return
                continue
            self._committed += self.cost(name)
            self._handed_out[trial.folder] = time.monotonic()
            yield trial

    def _fits(self, name: str) -> bool:
        by_cost = self.allowance.unit == "cost"
        price = self.cost if by_cost else self.seconds
        kept = self.reserve([price(plan) * self.stretch(plan) for plan in (PLAIN, *self.record.running)])
        return self.spent + price(name) + kept <= self.allowance.total

    def _report(self, trial: Trial, error: str | None) -> None:
        name, number = trial.entry.name, trial.round
        assert number is not None
        if error is None:
            outcome = self.outcome(name, number)
            if outcome is not None:
                passed = time.monotonic() - self._handed_out[trial.folder]
                self._ways.append(max(0.0, passed - outcome["seconds"]))
            self.record.plans[name].pop("suspected", None)
        else:
            self._failures[name, number] = self._failures.get((name, number), 0) + 1
            self._committed -= self.cost(name)
            if self._failures[name, number] >= _ATTEMPTS:
                self._stop_at_mishap(trial, error)
                if name == PLAIN:
                    raise ConfigError(f"plain training failed in round {number + 1}: {error}")
                self.say(f"{name} leaves: {error}")
                self.record.left_out(name, error)
        self._show(trial)
        self.record.seconds = self.allowance.seconds
        self.record.store(self.root)

    def _stop_at_mishap(self, trial: Trial, error: str) -> None:
        """End this part where the machine kept a trial from being done, so that it is done later.

        Raises:
            RunFailed: it did. What may be the plan's own fault (the memory it needs) is, if it comes again.
        """
        plan = self.record.plans[trial.entry.name]
        if not isinstance(error, Mishap) or (error.suspect and plan.get("suspected")):
            return
        if error.suspect:
            plan["suspected"] = str(error)
            self.record.store(self.root)
        raise RunFailed(f"{trial.label}: {error}; {go_on(error, 'plan')}")

    @property
    def spent(self) -> float:
        """What is gone of what is allowed, in its unit."""
        return self._committed if self.allowance.unit == "cost" else self.allowance.seconds

    def _show(self, trial: Trial) -> None:
        self._done_here += 1
        if not self.line.shown:
            return
        passed = time.monotonic() - self._began
        means = {
            name: float(np.mean(list(found.values()))) for name in self.entries if (found := self.scores(name))
        }
        best = max(means, key=means.__getitem__, default=None)
        assert trial.round is not None
        self.line.update(
            self.spent,
            what=shown(f"round {trial.round + 1}, {trial.entry.name}"),
            rate=per_time(self._done_here / max(passed, 1e-9), "trials"),
            best=shown(f"best val accuracy {means[best]:.3f} ({best})") if best is not None else None,
        )

    # -- looks ---------------------------------------------------------------------------------------

    def contenders(self) -> list[str]:
        """All plans but the reference that could run, whether they are out or not."""
        return [name for name in self.entries if name != PLAIN and not self.record.plans[name].get("left_out")]

    def against(self, name: str, other: str = PLAIN) -> Evidence | None:
        """A plan's evidence against another one; None with fewer than two rounds of both."""
        both = [
            (a, b)
            for number in range(MOST_ROUNDS)
            if (a := self.outcome(name, number)) is not None and (b := self.outcome(other, number)) is not None
        ]
        if len(both) < 2:
            return None
        return weigh(_differences(both))

    def _look(self, rung: int | None) -> None:
        """Weigh all contenders; at a rung let plans leave."""
        names = self.contenders()
        found = {name: self.against(name) for name in names}
        before = {name: self.record.standing.get(name, {}) for name in names}
        grown = any(e is not None and int(e.rounds) > before[n].get("rounds", 0) for n, e in found.items())
        if grown:
            self._weigh(names, found, before)
        left = self._leave() if rung is not None else {}
        if grown or left:
            rounds = max((len(self.scores(PLAIN)), 0))
            self.record.looks.append({"rounds": rounds, "rung": rung, "counted": grown, "left": left})
        if rung is not None:
            self.record.rung = rung
        self.record.seconds = self.allowance.seconds
        self.record.store(self.root)
        if grown and self.record.running:
            best = self._in_order()[0]
            gain = 100 * self.record.standing[best]["mean"]
            self.say(
                f"after {len(self.scores(best))} rounds {best} leads, {gain:+.2f} points against plain training;"
                f" {len(self.record.running)} of {len(names)} plans are in"
            )

    def _weigh(
        self, names: list[str], found: Mapping[str, Evidence | None], before: Mapping[str, dict[str, Any]]
    ) -> None:
        look = 1 + sum(entry["counted"] for entry in self.record.looks)
        alpha = (1 - self.level) * share_of_look(look)
        p = np.array([1.0 if (e := found[name]) is None else float(e.p) for name in names])
        open_ = np.array([before[name].get("decided") is None for name in names])
        rejected, tested = step_down(p, open_, alpha)
        still = max(int((open_ & ~rejected).sum()), 1)
        for name, gone, level in zip(names, rejected, tested, strict=True):
            evidence = found[name]
            if evidence is None:
                continue
            low, high = evidence.interval(float(level))
            mean, decided = float(evidence.mean), before[name].get("decided")
            if gone:
                decided = {
                    "verdict": "better" if mean > 0 else "worse",
                    "rounds": int(evidence.rounds),
                    "look": look,
                }
            need = needed(evidence, look + 1, still, 1 - self.level)
            self.record.standing[name] = {
                "mean": mean,
                "interval": [max(float(low), -1.0), min(float(high), 1.0)],
                "level": 1 - float(level),
                "error": float(evidence.error),
                "rounds": int(evidence.rounds),
                "samples": int(evidence.samples),
                "decided": decided,
                "need": None if decided is not None else {"rounds": need.rounds, "samples": need.samples},
            }

    def _leave(self) -> dict[str, str]:
        """Who leaves at a rung, with the reason."""
        standing = self.record.standing
        running = self._in_order()
        left = {
            name: "worse than plain training"
            for name in running
            if (standing[name]["decided"] or {}).get("verdict") == "worse"
        }
        rest = [name for name in running if name not in left]
        keep = math.ceil(len(rest) / 2)
        left |= dict.fromkeys(rest[keep:], "in the lower half")
        self.record.running = rest[:keep]
        return left


def _differences(both: list[tuple[dict[str, Any], dict[str, Any]]]) -> Array:
    """``(R, N)`` for ``weigh``, from what two plans found in the rounds that both did."""
    samples = sorted({sample for a, _ in both for sample in a["samples"]})
    place = {sample: at for at, sample in enumerate(samples)}
    found = np.full((len(both), len(samples)), np.nan)
    for row, (a, b) in enumerate(both):
        at = [place[sample] for sample in a["samples"]]
        found[row, at] = np.subtract(a["right"], b["right"])
    return found
