"""The results store: 1,000 simulated workers write to one, and the table of 100,000 runs is opened.

``python benchmarks/store.py [OUT] [--runs 100000] [--workers 1000]``; OUT is a folder for the stores, which are
removed afterwards.

The simulation: processes of this machine, in each some threads, take runs as a cluster's machines do: a run's
folder is held (``sole_user``) and finished by a result. Some processes are killed in the middle and begun again.
What counts: every run is finished once, with its own content.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORKER = r"""
import json, os, random, sys, threading, time
from pathlib import Path
from lessonplan.files import write_json
from lessonplan.lease import FolderHeld, wait_for_the_dead
from lessonplan.lock import sole_user

root, first, threads, workers, runs = Path(sys.argv[1]), *map(int, sys.argv[2:])

def work(number):
    # a worker's own runs, and those of its neighbour, which may have died: two want each run
    for run in [*range(number, runs, workers), *range((number + 1) % workers, runs, workers)]:
        folder = root / "runs" / f"run-{run}"
        for _ in range(50):
            try:
                with sole_user(folder):
                    if not (folder / "result.json").exists():
                        with (folder / "log").open("a") as log:
                            log.write("began\n")
                        time.sleep(random.random() * 0.02)
                        write_json(folder / "result.json", {"run": run, "test": {"accuracy": run / runs}})
                        with (folder / "log").open("a") as log:
                            log.write("ended\n")
                break
            except FolderHeld as held:
                wait_for_the_dead(held.folder)

crew = [threading.Thread(target=work, args=(first + n,)) for n in range(threads)]
[one.start() for one in crew]
[one.join() for one in crew]
"""


def simulate(root: Path, workers: int, runs: int, threads: int = 50, killed: int = 4) -> str:
    """Many workers, some killed; a sentence with what was found."""
    began = time.perf_counter()
    firsts = list(range(0, workers, threads))

    def start(first: int) -> subprocess.Popen[bytes]:
        count = min(threads, workers - first)
        command = [sys.executable, "-c", WORKER, *map(str, (root, first, count, workers, runs))]
        return subprocess.Popen(command)

    crew = [start(first) for first in firsts]
    dead = crew[1 :: max(1, len(crew) // killed)][:killed]
    for place, process in enumerate(dead):  # each in the middle of its work
        least = (place + 1) * runs // (4 * len(dead))
        while _finished(root) < least and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    codes = [process.wait() for process in crew]
    again = [start(firsts[crew.index(process)]) for process in dead]
    codes_again = [process.wait() for process in again]
    folders = [root / "runs" / f"run-{run}" for run in range(runs)]
    lost = [f for n, f in enumerate(folders) if _result(f) != {"run": n, "test": {"accuracy": n / runs}}]
    logs = [(folder / "log").read_text().splitlines() for folder in folders]
    begun_again = sum(log.count("began") > 1 for log in logs)
    ended_twice = sum(log.count("ended") > 1 for log in logs)
    left = len(list(root.glob("runs/*/.lease*")))
    seconds = time.perf_counter() - began
    died = sum(code == -signal.SIGKILL for code in codes)
    assert not any(codes_again), codes_again
    assert sum(code != 0 for code in codes) == died, codes
    return (
        f"{workers} workers in {len(crew)} processes, {died} processes ({died * threads} workers) killed and begun"
        f" again, {runs} runs, each wanted by two: {len(lost)} lost or damaged, {begun_again} begun again after"
        f" a kill, {ended_twice} done twice to the end, {left} leases left, {seconds:.0f} s"
    )


def _finished(root: Path) -> int:
    try:
        return sum((Path(entry.path) / "result.json").exists() for entry in os.scandir(root / "runs"))
    except FileNotFoundError:
        return 0


def _result(folder: Path) -> object:
    try:
        return json.loads((folder / "result.json").read_bytes())
    except (OSError, ValueError) as error:
        return repr(error)


def say(line: str) -> None:
    print(f"  {line}", flush=True)


def table(root: Path, runs: int) -> None:
    """How long it takes to make and open the table of a store of many runs."""
    from lessonplan.lab.config import Comparison
    from lessonplan.lab.job import Job
    from lessonplan.lab.kept_rows import KeptRows
    from lessonplan.lab.methods import read_methods
    from lessonplan.lab.results import summarise, write_results
    from lessonplan.report.reading import read_results

    methods = read_methods(",".join(["erm", *(f"mixup-{number}=mixup" for number in range(1, 100))]))
    comparison = Comparison.make(
        data="digits", model="tiny", budget="1ep", seeds=(0, 1), data_options={}, settings={}, level=0.95
    )
    jobs = []
    for number in range(runs):
        method, seed = methods[number % 100], number // 100
        folder = root / "runs" / f"{method.name}-seed{seed}"
        folder.mkdir(parents=True)
        accuracy = 0.5 + (number * 7919 % 1000) / 4000
        result = {
            "test": {"accuracy": accuracy, "loss": 1.0},
            "val": {"accuracy": accuracy},
            "cost": 9,
            "steps": 3,
        }
        (folder / "result.json").write_text(json.dumps({**result, "seconds": 1.5, "epochs": 2}))
        lines = [json.dumps({"epoch": e, "cost": e, "val": {"accuracy": accuracy}}) for e in (1, 2)]
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        jobs.append(Job(method, seed, folder, "tiny", "digits", "1ep"))

    def opened(name: str) -> dict[str, object]:
        began = time.perf_counter()
        kept = KeptRows(root)
        rows = {id(job): kept.row(job, None) for job in jobs}
        there = time.perf_counter()
        results = summarise("many", comparison, "erm", jobs, {}, lambda job, error: rows[id(job)])
        say(f"{name}: {there - began:.2f} s, the statistics {time.perf_counter() - there:.2f} s")
        return results

    first = opened("the rows of all runs from their folders, as nobody has read them before")
    second = opened("opened again, every row checked against its run's files")
    began = time.perf_counter()
    write_results(root, second)
    say(f"results.json and results.csv written: {time.perf_counter() - began:.2f} s")
    began = time.perf_counter()
    read_results(root)
    say(f"results.json read: {time.perf_counter() - began:.2f} s")
    first.pop("created"), second.pop("created")
    assert json.dumps(first) == json.dumps(second)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1000)
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="store-", dir=given.out))
    try:
        if given.workers:
            print(simulate(root / "many", given.workers, 4 * given.workers), flush=True)
        if given.runs:
            print(f"a store of {given.runs} runs of 100 methods:", flush=True)
            table(root / "large", given.runs)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
