"""Does the tournament of ``advise`` pick better plans than random search over the same field at equal cost?

    python benchmarks/advise_replay.py                 # replays the stored runs, prints the table
    python benchmarks/advise_replay.py --make FILE     # trains the runs again, some minutes of one core

Stored: every plan of the default field on scikit-learn's digits, ten labelled images a class, in 22 rounds, as the
tournament trains them (same splits, seeds and judged samples), and besides each network's accuracy on the test
part, which no search sees: its mean over rounds is what a plan is worth. A replay draws an order of the rounds and
lets the tournament's own code run on it (halving, looks, verdict) until a budget of runs is spent. Random search
spends the same budget on runs of a plan and a round drawn at random, none twice, and takes the plan with the best
mean, or that of the best single run. All plans cost the same.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from lessonplan.data.normalise import Normalise, scale_of
from lessonplan.lab.advice import tournament as advising_tournament
from lessonplan.lab.advice.allowance import Allowance
from lessonplan.lab.advice.field import PLAIN, field_of
from lessonplan.lab.advice.labelled import Labelled
from lessonplan.lab.advice.pace import Pace
from lessonplan.lab.advice.power import Need
from lessonplan.lab.advice.record import Record
from lessonplan.lab.advice.tournament import Tournament
from lessonplan.lab.advice.trial import Trial
from lessonplan.lab.advice.verdict import verdict_of
from lessonplan.lab.executor import InProcess
from lessonplan.lab.plan_file import PlanFile
from lessonplan.settings import Settings
from lessonplan.train import fit

STORED = Path(__file__).parent / "advise_replay.json.gz"
MODEL, EPOCHS, ROUNDS = "fcnet-32", 25, 22
SETTINGS = {"batch_size": 20}
BUDGETS = (36, 46, 55, 65, 79)  # where the tournament of eight contenders has its looks
REPLAYS = 100


def make(path: Path) -> None:
    """Train every plan in every round, and keep what was right."""
    labelled = Labelled("digits", {"per_class": 10}, 0.2, 0)
    general = Settings.make(**SETTINGS)
    opened = labelled.opened(MODEL, general)
    assert opened.test is not None
    found: dict = {"data": "digits, 10 a class", "model": MODEL, "epochs": EPOCHS, "plans": {}}
    torch.set_num_threads(1)
    for entry in field_of(None, general):
        runs = []
        for number in range(ROUNDS):
            cut = labelled.of_round(opened, number)
            budget = f"{3 * EPOCHS * len(cut.train)} cost"
            settings = {**SETTINGS, **entry.method.settings, "threads": 1}
            run = fit(MODEL, cut, entry.method.fresh_plan(), budget, seed=number, **settings)
            test = opened.test.normalised(Normalise(cut.mean, cut.std, scale_of(cut.shape)))
            right, tested = (_right(run.model, view) for view in (cut.test, test))
            runs.append({"samples": cut.test.rows.tolist(), "right": right, "test": float(np.mean(tested))})
        found["plans"][entry.name] = runs
        print(f"{entry.name}: {100 * np.mean([r['test'] for r in runs]):.2f}", flush=True)
    path.write_bytes(gzip.compress(json.dumps(found).encode(), mtime=0))


def _right(model: torch.nn.Module, view) -> list[int]:
    with torch.no_grad():
        x, y = view.fetch(torch.arange(len(view)))
        return (model(x).argmax(1) == y).int().tolist()


class _Done(InProcess):
    """Trials that were done before."""

    def __init__(self) -> None:
        self.done: set[tuple[str, int]] = set()

    def run(self, jobs, report) -> None:
        for job in jobs:
            self.done.add((job.entry.name, job.round))
            report(job, None)


class _Record(Record):
    def store(self, folder: Path) -> None:
        """Nothing of a replay is kept."""


class _Replayed(Tournament):
    """The tournament, its runs read from the table in an order of rounds of its own."""

    table: dict
    order: np.ndarray

    def trial(self, name: str, number: int) -> Trial:
        return Trial(self.entries[name], number, self.root / "none", self.labelled)

    def outcome(self, name: str, number: int):
        if (name, number) not in self.executor.done:
            return None
        return {**self.table[name][self.order[number]], "seconds": 1.0}


@cache
def _entries() -> dict[str, PlanFile]:
    return {e.name: PlanFile(e.method, MODEL, "1 steps") for e in field_of(None, Settings.make(**SETTINGS))}


def tournament(table: dict, order: np.ndarray, budget: int, root: Path) -> str:
    """The plan that the tournament names."""
    entries = _entries()
    assert set(entries) == set(table)
    pace = Pace(1.0, 0.0, 1.0, 1.0, 1.0).as_json()  # a run is an update that costs 1
    record = _Record({})
    record.plans = {n: {"content": e.content(), "pace": pace, "decides": False} for n, e in entries.items()}
    record.running = [name for name in entries if name != PLAIN]
    allowed = Allowance(float(budget), "cost")
    replayed = _Replayed(
        entries,
        Labelled("digits"),
        root,
        record,
        allowed,
        lambda prices: 0.0,
        _Done(),
        0.95,
        1,
        say=lambda line: None,
    )
    replayed.table, replayed.order = table, order
    advising_tournament.needed = lambda *evidence: Need(None, None)  # decides nothing, and takes half of the time
    replayed.run()
    assert len(replayed.executor.done) <= budget
    return verdict_of(replayed, 1)["plan"]


def random_search(table: dict, order: np.ndarray, budget: int, rng: np.random.Generator) -> tuple[str, str]:
    """The plan with the best mean, and that of the best single run; equals are drawn."""
    names = list(table)
    pairs = [(name, number) for name in names for number in range(ROUNDS)]
    scores: dict[str, list[float]] = {}
    for at in rng.permutation(len(pairs))[:budget]:
        name, number = pairs[at]
        scores.setdefault(name, []).append(float(np.mean(table[name][order[number]]["right"])))
    shuffled = [list(scores)[i] for i in rng.permutation(len(scores))]
    return max(shuffled, key=lambda n: np.mean(scores[n])), max(shuffled, key=lambda n: max(scores[n]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make", type=Path, help="train the runs again, into this file")
    parser.add_argument("--replays", type=int, default=REPLAYS)
    given = parser.parse_args()
    if given.make:
        make(given.make)
        return
    stored = json.loads(gzip.decompress(STORED.read_bytes()))
    table = stored["plans"]
    worth = {name: 100 * float(np.mean([run["test"] for run in runs])) for name, runs in table.items()}
    print(f"{stored['data']}, {stored['model']}, {stored['epochs']} epochs, {ROUNDS} rounds of {len(table)} plans")
    print("what the plans are worth (mean test accuracy %): ", end="")
    print(", ".join(f"{name} {worth[name]:.2f}" for name in sorted(worth, key=lambda n: -worth[n])))
    spread = np.mean([[np.mean(r["right"]) for r in runs] for runs in table.values()], 0)
    print(
        f"a plan drawn at random: {np.mean(list(worth.values())):.2f}; judged samples a round: "
        f"{len(table[PLAIN][0]['samples'])}; standard deviation of a round {100 * spread.std(ddof=1):.1f} points"
    )
    print(
        f"\n{given.replays} replays; worth of the plan that is picked, in test accuracy %, and what the tournament"
    )
    print("gains on random search in points (95% interval over replays of this table)\n")
    print(
        f"{'runs':>4}  {'tournament':>10}  {'random, mean':>12}  {'random, best run':>16}  {'gain on mean':>24}"
        f"  {'gain on best run':>24}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for budget in BUDGETS:
            picked = []
            for replay in range(given.replays):
                rng = np.random.default_rng([replay, budget])
                order = rng.permutation(ROUNDS)
                ours = tournament(table, order, budget, Path(folder))
                picked.append([worth[name] for name in (ours, *random_search(table, order, budget, rng))])
            found = np.array(picked)
            gains = [_interval(found[:, 0] - found[:, column]) for column in (1, 2)]
            means = found.mean(0)
            print(
                f"{budget:>4}  {means[0]:>10.2f}  {means[1]:>12.2f}  {means[2]:>16.2f}"
                f"  {gains[0]:>24}  {gains[1]:>24}"
            )


def _interval(differences: np.ndarray) -> str:
    mean = differences.mean()
    reach = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return f"{mean:+.2f} ({mean - reach:+.2f} to {mean + reach:+.2f})"


if __name__ == "__main__":
    main()
