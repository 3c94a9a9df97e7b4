"""A comparison on a Ray cluster of two node processes of this machine, one of which is killed in the middle.

``python benchmarks/ray_cluster.py OUT``; needs Ray. OUT is a folder that does not exist yet. Printed: what
happened when, and whether anything was lost, done twice to the end, or came out otherwise than without a cluster.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from lessonplan.files import read_json_lines
from lessonplan.lease import holder_of

PORT = 6399
OPTIONS = ["--methods", "erm,mixup", "--seeds", "3", "--model", "fcnet-64", "--budget", "100k samples"]
OPTIONS += ["--per-class", "20", "--threads", "1"]
RAY = [str(Path(sys.executable).with_name("ray")), "start", "--num-cpus=1", "--object-store-memory=100000000"]
BEGAN = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.0f} s  {text}", flush=True)


def start(out: Path, name: str, *options: str) -> subprocess.Popen[bytes]:
    with (out / f"{name}.log").open("wb") as log:
        return subprocess.Popen([*RAY, *options, "--block"], stdout=log, stderr=log, start_new_session=True)


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    return []


def kill(process: subprocess.Popen[bytes]) -> int:
    found = family(process)
    for one in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
    return len(found)


def compare(out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "lessonplan", "compare", "--out", str(out), *OPTIONS, *more]


def scores(out: Path) -> dict[str, float | None]:
    results = json.loads((out / "results.json").read_bytes())
    return {run["folder"]: run["test_accuracy"] for method in results["methods"] for run in method["runs"]}


def main() -> None:
    out = Path(sys.argv[1]).resolve()
    out.mkdir(parents=True)
    address = f"127.0.0.1:{PORT}"
    os.environ |= {"RAY_worker_niceness": "0"}  # Ray's own is 15: beside other work its runs would hardly begin
    head = start(out, "head", "--head", f"--port={PORT}", "--include-dashboard=false")
    second = None
    try:
        while "Ray runtime started" not in (out / "head.log").read_text(errors="replace") and head.poll() is None:
            time.sleep(0.5)
        second = start(out, "second", f"--address={address}")
        say("two node processes started, one core each")
        with (out / "compare.log").open("wb") as log:
            comparison = subprocess.Popen(
                compare(out / "there", "--run-on", f"ray:address={address}"), stdout=log, stderr=log
            )
        finished: dict[Path, set[int]] = {}
        killed = None
        while comparison.poll() is None:
            runs = list((out / "there" / "runs").glob("*"))
            for result in (run / "result.json" for run in runs):
                with contextlib.suppress(FileNotFoundError):
                    written = result.stat().st_mtime_ns
                    if result.parent not in finished:
                        say(f"{result.parent.name} done")
                    finished.setdefault(result.parent, set()).add(written)
            if killed is None:
                pids = {one.pid for one in family(second)}
                for run in runs:
                    holder, epochs = holder_of(run), len(read_json_lines(run / "metrics.jsonl"))
                    unfinished = not (run / "result.json").exists()
                    if holder is not None and holder.pid in pids and epochs > 2 and unfinished:
                        count = kill(second)
                        killed = run
                        say(f"second node killed ({count} processes) while it trained {run.name}, epoch {epochs}")
                        break
            time.sleep(0.1)
        say(f"comparison over, exit status {comparison.returncode}")
    finally:
        for node in (second, head):
            if node is not None:
                kill(node)
    subprocess.run(compare(out / "here", "--jobs", "1"), check=True, stdout=subprocess.DEVNULL)
    there, here = scores(out / "there"), scores(out / "here")
    for run in (out / "there" / "runs").glob("*/result.json"):
        finished.setdefault(run.parent, set()).add(run.stat().st_mtime_ns)
    ended = sum(value is not None for value in there.values())
    twice = sum(len(times) > 1 for times in finished.values())
    say(f"killed: {killed is not None}; {ended} of {len(here)} runs finished; done twice to the end: {twice}")
    say(f"scores as without a cluster: {there == here}")


if __name__ == "__main__":
    main()
