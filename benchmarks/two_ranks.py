"""Claim: two ranks on two cores train at least 1.8 times as fast as one process on one of them.

WRN-16-1 on synthetic colour images of 32 x 32 pixels, one thread a process, the same global batch for both sides:
plain training, a mix over the global batch, and a selection whose scores are shared out. Batch normalisation has
each rank's own statistics, as is the default. What is timed is training: the updates, what is between them and the
epochs' measures, but neither the start of the processes nor the end of the run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import torch.distributed as dist

import lessonplan as lp
from synthetic import colour_images
from timing import ratio, repetitions, show, spread

SAMPLES, STEPS = 2000, 40
CASES = {
    "plain, batches of 128": ("", 128),
    "plain, batches of 32": ("", 32),
    "cutmix over the global batch of 128": ("cutmix", 128),
    "accuracy filter, batches of 128": ("select:accuracy:margin=0.2", 128),
}


def train(plan: str, batch_size: int, out: str) -> None:
    """Train, on one of two ranks where torchrun has started two, and write how long it took."""
    together = dist.is_torchelastic_launched()
    if together:
        dist.init_process_group("gloo")
    lp.fit("wrn-16-1", colour_images(SAMPLES), plan or None, "3 steps", batch_size=batch_size, lr=0.01, threads=1)
    run = lp.fit(
        "wrn-16-1",
        colour_images(SAMPLES),
        plan or None,
        f"{STEPS} steps",
        batch_size=batch_size,
        lr=0.01,
        threads=1,
    )
    if not together or dist.get_rank() == 0:
        keys = ("seconds", "steps", "cost")
        Path(out).write_text(json.dumps({key: run.result[key] for key in keys}))
    if together:
        dist.destroy_process_group()


def measured(ranks: int, plan: str, batch_size: int) -> dict[str, float]:
    """Start it in a process of its own, or two."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        started = torchrun if ranks > 1 else []
        command = [sys.executable, *started, __file__, "train", plan, str(batch_size), str(out)]
        ran = subprocess.run(
            command, stderr=subprocess.PIPE, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        if ran.returncode:
            sys.exit(f"{' '.join(command)} ended with {ran.returncode}:\n{ran.stderr[-5000:]}")
        result: dict[str, float] = json.loads(out.read_text())
        return result


def main() -> None:
    """Measure, and print the table."""
    count = repetitions(__doc__, 5)
    rows = []
    load = psutil.getloadavg()[0]
    for name, (plan, batch_size) in CASES.items():
        times: dict[str, list[float]] = {"one": [], "two": []}
        for _ in range(count):
            one, two = measured(1, plan, batch_size), measured(2, plan, batch_size)
            assert one["steps"] == two["steps"] == STEPS
            times["one"].append(one["seconds"])
            times["two"].append(two["seconds"])
        rows.append([name, spread(times["one"]), spread(times["two"]), spread(ratio(times, "one", "two"))])
    show(
        f"{STEPS} updates of WRN-16-1 by one process and by two ranks",
        ["", "one, seconds", "two, seconds", "times as fast"],
        rows,
        ["to reach: 1.8 times as fast", f"load before: {load:.1f} on {psutil.cpu_count()} cores"],
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["train"]:
        train(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        main()
