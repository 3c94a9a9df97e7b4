"""Exact resume: runs of every mix with every schedule, killed with SIGKILL at random moments.

Prints one table. A run counts as identical if its weights are the same bit for bit, and its metrics and result but
for times and memory, as those of the same run that nobody killed.

    python benchmarks/resume_kills.py [KILLS]
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from lessonplan.data import load
from lessonplan.train import fit

MIXES = (
    "none", "sum:k=2", "sum:k=3,pairing=permute", "sum:k=2,coefficients=dirichlet", "sum:k=2,draw=mixed",
    "cascade:k=4,patience=1,shares=none", "cascade:k=4,patience=none", "gradual:k=4",
    "gradual:k=4,granularity=epoch", "mixup", "cutmix", "cutout", "sample-pairing", "mixup|cutmix",
    "mixup:p=0.5", "sum:k=2,until=80%",
)  # fmt: skip
SCHEDULES = ("constant", "cosine", "step", "exponential", "stagnation:patience=10")
RUNS = [(mix, schedule) for mix in MIXES for schedule in SCHEDULES]
LONGEST_WAIT = 0.1
NEVER_THE_SAME = ("seconds", "environment", "system")


def train(data: Any, folder: Path, number: int, seed: int, tell: int | None = None) -> None:
    """One run; its number is told when it begins."""
    if tell is not None:
        os.write(tell, bytes([number]))
    mix, schedule = RUNS[number]
    fit(
        "fcnet-16", data, mix, "40 steps", seed=seed, out=folder / str(number), schedule=schedule, batch_size=10,
        evaluate_every=1, ema=0.9, checkpoint_every="3 steps", threads=1,
    )  # fmt: skip


def kill_one(data: Any, folder: Path, seed: int, moments: random.Random) -> int | None:
    """Train what is left of a round in a process and kill it; which run it was in, None if all was done."""
    left = [i for i in range(len(RUNS)) if not (folder / str(i) / "result.json").exists()]
    if not left:
        return None
    moments.shuffle(left)
    listen, tell = os.pipe()
    child = os.fork()
    if child == 0:
        for number in left:
            train(data, folder, number, seed, tell)
        os._exit(0)
    os.close(tell)
    begun = os.read(listen, 1)
    time.sleep(moments.uniform(0, LONGEST_WAIT))
    os.kill(child, signal.SIGKILL)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    begun += os.read(listen, len(RUNS))
    os.close(listen)
    return begun[-1] if killed else None


def outcome(folder: Path) -> tuple[bytes, list[dict[str, Any]]]:
    """Weights, and the lines of result and metrics without what differs from run to run."""
    lines = [(folder / "result.json").read_text(), *(folder / "metrics.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in json.loads(line).items() if k not in NEVER_THE_SAME} for line in lines]
    return (folder / "weights.safetensors").read_bytes(), kept


def main(wanted: int) -> int:
    # The first update of an optimizer imports this; done here, it is not done in each process again.
    importlib.import_module("torch._dynamo")
    torch.set_num_threads(1)
    data = load("digits", per_class=10, val_fraction=0.2)
    moments, kills = random.Random(0), dict.fromkeys(range(len(RUNS)), 0)
    runs, identical = dict.fromkeys(MIXES, 0), dict.fromkeys(MIXES, 0)
    seed = 0
    with tempfile.TemporaryDirectory() as folder:
        while sum(kills.values()) < wanted:  # a round is all runs of one seed
            killed, whole = Path(folder) / f"killed-{seed}", Path(folder) / f"whole-{seed}"
            while sum(kills.values()) < wanted and (number := kill_one(data, killed, seed, moments)) is not None:
                kills[number] += 1
            for number, (mix, _) in enumerate(RUNS):
                train(data, killed, number, seed)
                train(data, whole, number, seed)
                runs[mix] += 1
                identical[mix] += outcome(killed / str(number)) == outcome(whole / str(number))
            seed += 1
    table = Table("mix", "runs", "kills", "identical", title="SIGKILL at random moments, then the same call again")
    for mix in MIXES:
        deaths = sum(kills[i] for i, run in enumerate(RUNS) if run[0] == mix)
        table.add_row(mix, str(runs[mix]), str(deaths), str(identical[mix]))
    table.add_section()
    table.add_row("all", str(sum(runs.values())), str(sum(kills.values())), str(sum(identical.values())))
    Console().print(table)
    return 0 if identical == runs else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
