"""Was the plan that ``advise`` named a good one? All plans of its field again, with seeds that it has not seen.

    lessonplan advise --data folder:clothing --per-class 20 ... --time 20min --out clothing     # before
    python benchmarks/advise_later.py clothing --out later            # trains, goes on where it stopped
    python benchmarks/advise_later.py clothing cifar10 digits --out later --table

Each plan trains on all labelled samples that the tournament had, for as long as the tournament's own last
training does, with ten seeds from 1000 on, and is judged on the test part. Nothing is decided by that any more.
``--out`` has a file a tournament with every answer. What is paired are seeds and test samples; intervals (95%)
allow for both, as those of the tournament. Every class counts alike (balanced accuracy), as in the rounds, which
are judged on as many samples of each class.
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


def train(folder: Path, file: Path, seeds: int, jobs: int) -> None:
    """Whatever is missing."""
    answers = stored(file)
    if not _record(folder).sizes["test"]:
        raise SystemExit(f"{folder} has no test part to judge plans by: give advise --test-fraction 0.5")
    waiting = [
        Again(folder, name, FIRST + number)
        for number in range(seeds)
        for name in field(_record(folder))
        if str(FIRST + number) not in answers.get(name, {})
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


def table(folders: list[Path], out: Path) -> str:
    """What each plan is worth, and how far the named one is from the best, from plain training and from mixup."""
    told, gaps = [], []
    for folder in folders:
        record, answers = _record(folder), stored(out / f"{folder.name}.json.gz")
        seeds = sorted(set.intersection(*(set(found) for found in answers.values())), key=int)
        weights = _weights(record)
        right = {n: np.array([found[seed] for seed in seeds]) * weights for n, found in answers.items()}
        plain_mean = {n: 100 * np.mean([found[seed] for seed in seeds]) for n, found in answers.items()}
        worth = {name: 100 * found.mean() for name, found in right.items()}
        order = sorted(worth, key=lambda name: -worth[name])
        named, verdict = record.verdict["plan"], record.verdict["kind"]
        told += [
            f"{folder.name}: {record.sizes['labelled']} labelled samples, {len(weights)} test samples,"
            f" {len(seeds)} seeds from {seeds[0]} on, {record.plans[PLAIN]['content']['budget']} in a round",
            f"{'plan':>14}  accuracy %  balanced %  deviation over seeds  balanced, against plain, points",
        ]
        for name in order:
            against = "" if name == PLAIN else _difference(right[name], right[PLAIN])
            spread = 100 * right[name].mean(1).std(ddof=1)
            mark = f"  <- named by advise ({verdict})" if name == named else ""
            told.append(
                f"{name:>14}  {plain_mean[name]:>10.2f}  {worth[name]:>10.2f}  {spread:>20.2f}  {against}{mark}"
            )
        gaps.append(
            {
                "the best of the field": worth[named] - worth[order[0]],
                "the one that other seeds and samples call best": _by_halves(right, named),
                "always plain training": worth[named] - worth[PLAIN],
                "always mixup": worth[named] - worth["mixup"],
                "a plan drawn at random": worth[named] - float(np.mean(list(worth.values()))),
            }
        )
        behind = _difference(right[named], right[order[0]]) if named != order[0] else "it is the best one"
        told += [f"the named plan against the best of the field ({order[0]}): {behind}", ""]
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
    parser.add_argument("--table", action="store_true", help="train nothing, print the table")
    given = parser.parse_args()
    if not given.table:
        for folder in given.folders:
            train(folder, given.out / f"{folder.name}.json.gz", given.seeds, given.jobs)
    print(table(given.folders, given.out))


if __name__ == "__main__":
    main()
