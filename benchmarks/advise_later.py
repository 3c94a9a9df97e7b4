"""Was the plan that ``advise`` named a good one? All plans of its field again, with seeds that it has not seen.

    lessonplan advise --data folder:clothing --per-class 20 ... --time 20min --out clothing     # before
    python benchmarks/advise_later.py clothing --out later            # trains, goes on where it stopped
    python benchmarks/advise_later.py clothing cifar10 digits --out later --table

Each plan trains on all labelled samples that the tournament had, for as long as the tournament's own last
training does, with ten seeds from 1000 on, and is judged on the test part. Nothing is decided by that any more.
``--out`` has a file a tournament with every answer. What is paired are seeds and test samples; intervals (95%)
allow for both, as those of the tournament. Every class counts alike (balanced accuracy), as in the rounds, which
are judged on as many samples of each class.

The best of ten plans by ten seeds owes some of its lead to luck: ``--further 20`` trains it and the named one with
as many seeds more, which had no say in which is best.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from lessonplan import fit
from lessonplan.lab.advice.evidence import weigh
from lessonplan.lab.advice.field import PLAIN
from lessonplan.lab.advice.labelled import Labelled
from lessonplan.lab.advice.length import on_all
from lessonplan.lab.advice.record import Record, read_record
from lessonplan.lab.plan_file import plan_from
from lessonplan.settings import Settings

FIRST = 1000
Answers = dict[str, dict[str, list[int]]]  # by plan and seed, 1 for each test sample that was answered rightly


@dataclass(frozen=True)
class Again:
    """A plan of a tournament, trained once more."""

    folder: Path
    name: str
    seed: int

    def right(self) -> list[int]:
        """1 for each test sample that is answered rightly."""
        torch.set_num_threads(1)
        record = _record(self.folder)
        about = record.plans[self.name]
        plan = plan_from(about["content"], self.name)
        settings = {**plan.method.settings, "threads": 1}
        source = _source(record)
        data = source.whole(source.opened(plan.model, Settings.make(**settings)), decides=about["decides"])
        budget = on_all(plan.budget, about["at_end"] / about["in_round"])
        with tempfile.TemporaryDirectory() as out:
            fit(plan.model, data, plan.method.fresh_plan(), budget, seed=self.seed, out=out, **settings)
            with (Path(out) / "predictions.csv").open(encoding="utf-8", newline="") as lines:
                return [int(row["true"] == row["predicted"]) for row in csv.DictReader(lines)]


def _record(folder: Path) -> Record:
    record = read_record(folder)
    if record is None:
        raise SystemExit(f"{folder} holds no advice.json: run lessonplan advise first")
    return record


def _source(record: Record) -> Labelled:
    given = record.identity
    return Labelled(given["data"], given["options"], given["val_fraction"], given["seed"], record.together)


def field(record: Record) -> list[str]:
    """The plans that could run."""
    return [name for name, about in record.plans.items() if about.get("budgeted")]


def stored(file: Path) -> Answers:
    return json.loads(gzip.decompress(file.read_bytes())) if file.exists() else {}


def train(folder: Path, file: Path, plans: list[str], seeds: range, jobs: int) -> None:
    """Whatever is missing."""
    answers = stored(file)
    if not _record(folder).sizes["test"]:
        raise SystemExit(f"{folder} has no test part to judge plans by: give advise --test-fraction 0.5")
    waiting = [
        Again(folder, name, seed) for seed in seeds for name in plans if str(seed) not in answers.get(name, {})
    ]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(again.right): again for again in waiting}
        for future in as_completed(running):
            again = running[future]
            try:
                right = future.result()
            except Exception:
                pool.shutdown(cancel_futures=True)
                raise
            answers.setdefault(again.name, {})[str(again.seed)] = right
            print(f"{folder.name}, {again.name}, seed {again.seed}: {100 * np.mean(right):.1f}", flush=True)
            file.parent.mkdir(parents=True, exist_ok=True)
            written = file.with_suffix(".part")
            written.write_bytes(gzip.compress(json.dumps(answers).encode(), mtime=0))
            written.replace(file)


@dataclass
class Judged:
    """The plans of a tournament on all samples of the test part.

    Attributes:
        seeds: that all plans have, of the first ones.
        accuracy: of each plan in percent, every sample counting alike.
        right: ``(seeds, samples)`` of each plan, so that the mean is its balanced accuracy.
        further: ``(samples,)`` of each plan by further seed.
    """

    record: Record
    seeds: list[str]
    accuracy: dict[str, float]
    right: dict[str, np.ndarray]
    further: dict[str, dict[str, np.ndarray]]

    @classmethod
    def of(cls, folder: Path, out: Path, seeds: int) -> Judged:
        """From the stored answers; ``seeds`` first ones judge all plans."""
        record, answers = _record(folder), stored(out / f"{folder.name}.json.gz")
        first = {str(FIRST + number) for number in range(seeds)}
        shared = sorted(first.intersection(*(set(found) for found in answers.values())), key=int)
        weights = _weights(record)
        return cls(
            record,
            shared,
            {name: 100 * float(np.mean([found[seed] for seed in shared])) for name, found in answers.items()},
            {name: np.array([found[seed] for seed in shared]) * weights for name, found in answers.items()},
            {
                name: {seed: np.array(found[seed]) * weights for seed in found if seed not in first}
                for name, found in answers.items()
            },
        )

    @property
    def worth(self) -> dict[str, float]:
        """Balanced accuracy of each plan in percent, the best one first."""
        worth = {name: 100 * float(found.mean()) for name, found in self.right.items()}
        return {name: worth[name] for name in sorted(worth, key=lambda name: -worth[name])}

    @property
    def named(self) -> str:
        """The plan that the tournament named."""
        return str(self.record.verdict["plan"])


def table(folders: list[Path], out: Path, seeds: int) -> str:
    """What each plan is worth, and how far the named one is from the best, from plain training and from mixup."""
    told, gaps = [], []
    for folder in folders:
        judged = Judged.of(folder, out, seeds)
        record, right, worth, named = judged.record, judged.right, judged.worth, judged.named
        best = next(iter(worth))
        length = record.plans[PLAIN]["content"]["budget"]
        told += [
            f"{folder.name}: {record.sizes['labelled']} labelled samples, {record.sizes['test']} test samples,"
            f" {len(judged.seeds)} seeds from {judged.seeds[0]} on, {length} in a round",
            f"{'plan':>14}  accuracy %  balanced %  deviation over seeds  balanced, against plain, points",
        ]
        for name, balanced in worth.items():
            against = "" if name == PLAIN else _difference(right[name], right[PLAIN])
            spread = 100 * right[name].mean(1).std(ddof=1)
            mark = f"  <- named by advise ({record.verdict['kind']})" if name == named else ""
            told.append(
                f"{name:>14}  {judged.accuracy[name]:>10.2f}  {balanced:>10.2f}  {spread:>20.2f}  {against}{mark}"
            )
        gaps.append(
            {
                "the best of the field": worth[named] - worth[best],
                "the one that other seeds and samples call best": _by_halves(right, named),
                "always plain training": worth[named] - worth[PLAIN],
                "always mixup": worth[named] - worth["mixup"],
                "a plan drawn at random": worth[named] - float(np.mean(list(worth.values()))),
            }
        )
        behind = _difference(right[named], right[best]) if named != best else "it is the best one"
        told.append(f"the named plan against the best of the field ({best}): {behind}")
        both = [seed for seed in judged.further[named] if seed in judged.further[best]]
        if named != best and len(both) > 1:
            mine, other = (np.array([judged.further[name][seed] for seed in both]) for name in (named, best))
            told.append(f"the same two with {len(both)} further seeds: {_difference(mine, other)}")
        told.append("")
    told.append("what advise names, in points of balanced accuracy:")
    for what in gaps[0]:
        each = ", ".join(f"{folder.name} {gap[what]:+.2f}" for folder, gap in zip(folders, gaps, strict=True))
        told.append(f"  against {what}: {np.mean([gap[what] for gap in gaps]):+.2f} ({each})")
    return "\n".join(told)


def _weights(record: Record) -> np.ndarray:
    """Of the test samples, so that every class counts alike, as among the samples that judge a round."""
    about = record.plans[PLAIN]
    entry = plan_from(about["content"], PLAIN)
    test = _source(record).opened(entry.model, Settings.make(**entry.method.settings)).test
    labels = test.labels.numpy()
    counts = np.bincount(labels)
    return len(labels) / ((counts > 0).sum() * counts[labels])


def _by_halves(right: dict[str, np.ndarray], named: str, halvings: int = 2000) -> float:
    """How far a plan is from the best one, in points, without what luck gives the best of many.

    Half of the seeds and of the samples say which plan is best, the other halves how far it is ahead; the mean
    over random halvings. Halves find the best plan less surely than the whole does.
    """
    every, mine = np.array(list(right.values())), list(right).index(named)
    _, seeds, samples = every.shape
    rng, gaps = np.random.default_rng(0), []
    for _ in range(halvings):
        seed, sample = rng.permutation(seeds), rng.permutation(samples)
        judge = every[:, seed[: seeds // 2]][:, :, sample[: samples // 2]].mean((1, 2))
        other = every[:, seed[seeds // 2 :]][:, :, sample[samples // 2 :]].mean((1, 2))
        gaps.append(other[mine] - other[judge.argmax()])
    return 100 * float(np.mean(gaps))


def _difference(one: np.ndarray, other: np.ndarray) -> str:
    evidence = weigh(one - other)
    low, high = evidence.interval(0.05)
    return f"{100 * float(evidence.mean):+.2f} ({100 * float(low):+.2f} to {100 * float(high):+.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="of tournaments")
    parser.add_argument("--out", type=Path, required=True, help="folder for the answers")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--further", type=int, default=0, help="seeds for the named plan and the best of the field"
    )
    parser.add_argument("--table", action="store_true", help="train nothing, print the table")
    given = parser.parse_args()
    if not given.table:
        for folder in given.folders:
            file, seeds = given.out / f"{folder.name}.json.gz", range(FIRST, FIRST + given.seeds)
            train(folder, file, field(_record(folder)), seeds, given.jobs)
            judged = Judged.of(folder, given.out, given.seeds)
            both = list(dict.fromkeys([judged.named, *list(judged.worth)[:1]]))
            if len(both) > 1:
                train(folder, file, both, range(seeds.stop, seeds.stop + given.further), given.jobs)
    print(table(given.folders, given.out, given.seeds))


if __name__ == "__main__":
    main()
