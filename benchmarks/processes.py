"""Claims: two local processes do a comparison 1.8 times as fast as one; Ray takes at most a tenth more than they.

``python benchmarks/processes.py [--runs 20] [--seconds 30] [--repetitions 1] [--sides one two ray]``. A comparison
of two methods, half of the runs each, on a machine of two cores, one thread a run. A first run tells which budget
takes so many seconds. ``ray`` needs Ray, of which a node with two processes is started before. Two times are told:
of the whole command, and from the moment when its first run began to the one when its last had ended (start-up
aside).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from lessonplan import fit
from lessonplan.data import load
from timing import show, spread

ADDRESS = "127.0.0.1:6398"
SETTINGS = ["--model", "wrn-10-1", "--data", "digits", "--per-class", "20", "--threads", "1", "--batch-size", "32"]
MORE = {"one": ["--jobs", "1"], "two": ["--jobs", "2"], "ray": ["--run-on", f"ray:address={ADDRESS}"]}


@dataclass(frozen=True)
class Took:
    """Seconds of a command, and of its runs from the first one's begin to the last one's end."""

    whole: float
    runs: float


def calibrated(seconds: float) -> int:
    """How many samples a run of so many seconds trains on."""
    few, data = 8000, load("digits", per_class=20)
    for samples in (few // 8, few):  # the first warms up
        run = fit("wrn-10-1", data, budget=f"{samples} samples", batch_size=32, threads=1)
    rate = few / run.result["seconds"]
    return 1000 * round(seconds * rate / 1000)


def compared(side: str, runs: int, samples: int) -> Took:
    """A comparison, from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "lessonplan", "compare", "--methods", "erm,mixup"]
        command += [
            "--seeds",
            str(runs // 2),
            *SETTINGS,
            "--budget",
            f"{samples} samples",
            "--out",
            str(out),
            *MORE[side],
        ]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        whole = time.perf_counter() - began
        folders = list((out / "runs").iterdir())
        results = [run / "result.json" for run in folders]
        if len([path for path in results if path.exists()]) != runs:
            sys.exit(f"{side}: {len(folders)} runs are there, and not each of {runs} was finished")
        first = min((run / "config.yaml").stat().st_mtime for run in folders)
        return Took(whole, max(path.stat().st_mtime for path in results) - first)


@contextlib.contextmanager
def ray_node():
    """A node of Ray with two cores."""
    os.environ |= {"RAY_worker_niceness": "0"}  # Ray's own is 15
    ray = Path(sys.executable).with_name("ray")
    command = [ray, "start", "--head", "--port=6398", "--num-cpus=2", "--include-dashboard=false", "--block"]
    with tempfile.TemporaryFile() as log:
        node = subprocess.Popen([*map(str, command)], stdout=log, stderr=log, start_new_session=True)
        time.sleep(15)
        try:
            yield
        finally:
            for one in [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            node.wait()


def main() -> None:
    """Measure the sides in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="an even number (default: 20)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of a run alone (default: 30)")
    parser.add_argument("--repetitions", type=int, default=1, help="of each side (default: 1)")
    parser.add_argument("--sides", nargs="+", choices=list(MORE), default=list(MORE), help="(default: all)")
    given = parser.parse_args()
    samples = calibrated(given.seconds)
    took: dict[str, list[Took]] = {side: [] for side in given.sides}
    for _ in range(given.repetitions):
        for side in given.sides:
            with ray_node() if side == "ray" else contextlib.nullcontext():
                took[side].append(compared(side, given.runs, samples))
    rows = [
        [{"one": "one process", "two": "two processes", "ray": "Ray, two cores"}[side],
         spread([t.whole for t in found]), spread([t.runs for t in found])]
        for side, found in took.items()
    ]  # fmt: skip
    show(
        f"{given.runs} runs of {samples} samples, {given.seconds:g} s each by themselves",
        ["", "the command, seconds", "its runs, seconds"],
        rows,
    )


if __name__ == "__main__":
    main()
