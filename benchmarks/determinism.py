"""What of a run decides its weights: the same run in other circumstances, compared bit for bit.

    python benchmarks/determinism.py [--steps 12] [--plans plain,cascade]

Each network is trained by each plan on pictures in files that are read as they are needed, with one CPU thread and
no worker; then again, with two threads, with two workers, interrupted and resumed, and in bf16. A cell says
"equal", or the largest difference of a weight, and how it compares with what training changed at most. Below that
runs of a comparison, with one and with two at a time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import lessonplan as lp
from lessonplan.lab import compare
from lessonplan.models import build_model
from timing import show

MODELS = ("fcnet-16", "tiny", "wrn-10-1")
PLANS = {
    "plain": None,
    "cascade": "mix:cascade:k=4,patience=none",
    "select": "select:topk:0.5",
    "look-ahead": "order:loss-delta:candidates=3",
    "all three": "select:topk:0.5 + order:loss-delta:candidates=3 + mix:mixup",
}
Weights = dict[str, Tensor]


class _Stop(lp.Callback):
    """Ends a run in its middle, as Ctrl-C does."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_batch_end(self, trainer: Any) -> None:
        if trainer.counters.steps == self.steps:
            raise KeyboardInterrupt


def pictures(root: Path) -> Path:
    """Eighty pictures of two classes, the second of them brighter."""
    rng = np.random.default_rng(0)
    for number in range(80):
        folder = root / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(60 * (number % 2), 150 + 60 * (number % 2), (12, 12)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def difference(found: Weights, base: Weights, first: Weights) -> str:
    """ "equal", or by how much, beside what training changed."""
    if all(torch.equal(found[name], base[name]) for name in base):
        return "equal"
    floats = [name for name in base if base[name].is_floating_point()]
    apart = max((found[name] - base[name]).abs().max().item() for name in floats)
    moved = max((base[name] - first[name]).abs().max().item() for name in floats)
    return f"{apart:.1e} of {moved:.1e}"


def rows_of(root: Path, work: Path, steps: int, plans: list[str]) -> list[list[str]]:
    """A row a plan and network."""
    rows = []
    for name in plans:
        plan = PLANS[name]
        for model in MODELS:

            def run(threads: int = 1, workers: int = 0, out: Path | None = None, model: str = model,
                    plan: str | None = plan, **more: Any) -> Weights:  # fmt: skip
                data = lp.data.load(root, workers=workers, memory_limit=1, val_fraction=0.2, test_fraction=0.2)
                settings = {"threads": threads, "batch_size": 8, **more}
                trained = lp.fit(model, data, plan, f"{steps} steps", out=out, **settings)
                return {key: value.clone() for key, value in trained.model.state_dict().items()}

            def resumed(run: Callable[..., Weights] = run, name: str = name, model: str = model) -> Weights:
                folder = work / f"{model} {name}"
                try:
                    run(out=folder, checkpoint_every="1 steps", callbacks=[_Stop(steps // 2)])
                except KeyboardInterrupt:
                    return run(out=folder, checkpoint_every="1 steps")
                raise SystemExit("the run that was to be interrupted ended by itself")

            base = run()
            torch.manual_seed(0)
            first = build_model(model, shape=(1, 12, 12), num_classes=2).state_dict()
            others = (
                run(),
                resumed(),
                run(workers=2),
                run(threads=2),
                run(threads=2, workers=2),
                run(precision="bf16"),
            )
            rows.append([f"{model}, {name}", *(difference(found, base, first) for found in others)])
            print(*rows[-1], sep="; ", file=sys.stderr, flush=True)
    return rows


def jobs_row(work: Path) -> list[str]:
    """Whether runs of a comparison are the same with one and with two at a time."""
    kept = {}
    for jobs in (1, 2):
        out = work / f"jobs {jobs}"
        methods = "erm,mixup,filter=select:accuracy"
        compare(methods, "digits", out=out, jobs=jobs, model="tiny", seeds=1, budget="8 steps", per_class=10)
        files = sorted(out.glob("runs/*/weights.safetensors"))
        kept[jobs] = {file.parent.name: file.read_bytes() for file in files}
    same = sum(kept[1][name] == kept[2].get(name) for name in kept[1])
    return ["runs of a comparison, --jobs 1 and 2", f"{same} of {len(kept[1])} equal"]


def main() -> None:
    """Train, and print the tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--steps", type=int, default=12, help="of a run (default: 12)")
    parser.add_argument("--plans", default=",".join(PLANS), help=f"some of {', '.join(PLANS)}")
    given = parser.parse_args()
    steps = given.steps
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        rows = rows_of(pictures(work / "pictures"), work, steps, given.plans.split(","))
        jobs = jobs_row(work)
    columns = ["", "again", "resumed", "2 workers", "2 threads", "both", "bf16"]
    show(
        "Weights beside those with one thread and no worker, in fp32",
        columns,
        rows,
        [f"{steps} steps of 8 samples", ": ".join(jobs)],
        '"equal" is bit for bit; else the largest difference of a weight, of the most that training changed one',
    )


if __name__ == "__main__":
    main()
