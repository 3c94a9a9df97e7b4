"""Claims: a long run's memory grows by less than 5 MB; its page opens in 10 seconds, however many lines it has.

    python benchmarks/long_run.py [--plain 200000] [--combined 20000] [--lines 1000000] [--only PART]

A run is a process of its own that calls ``lp.fit`` on digits. After a tenth of its steps, and nine more times, the
garbage is collected and the process' resident memory, open files and threads are read; growth is the last value
minus the first. What is first needed later, such as the code of a look-ahead, is there by then. An epoch leaves a
record in memory, so that a run of more epochs in as many steps grows more; "a record" divides the two.

For the page, ``metrics.jsonl`` of the plain run is repeated with other epochs until it is long enough, and
``lessonplan report`` is called as a command, as is the same in a run of 1,000 lines, which shows what starting it
costs.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from timing import show

MOST_GROWTH, MOST_SECONDS = 5.0, 10.0
SHOWN = {"size": 0, "seconds": 1, "cpu": 1, "memory": 0, "page": 2}  # of a page, and digits
PLANS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "plain": (None, {}),
    "combined": (
        "select:topk:0.5 + order:loss-delta:candidates=3 + mix:cascade:k=4,patience=none",
        {"batch_size": 10, "ema": 0.99, "keep": "best", "checkpoint_every": "500 steps"},
    ),
}


def main() -> int:
    """Measure, print the tables, and end with 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--plain", type=int, default=200_000, help="steps of the plain run (default: 200000)")
    parser.add_argument("--combined", type=int, default=20_000, help="of the combined one (default: 20000)")
    parser.add_argument("--lines", type=int, default=1_000_000, help="of metrics.jsonl (default: 1000000)")
    parser.add_argument("--only", choices=["plain", "combined", "page"], help="one of the three")
    parser.add_argument("--run", help=argparse.SUPPRESS)  # a run, in a process of its own
    given = parser.parse_args()
    if given.run:
        _train(*json.loads(given.run))
        return 0
    kept = True
    with tempfile.TemporaryDirectory() as work:
        chosen = [name for name in PLANS if given.only in (None, name)]
        if chosen:
            kept &= memory_table(
                {name: _measured(name, getattr(given, name), Path(work) / name) for name in chosen}
            )
        if given.only in (None, "page"):
            if given.only:
                _measured("plain", 1000, Path(work) / "plain")
            kept &= page_table([_opened(Path(work) / "plain", lines) for lines in (1000, given.lines)])
    return 0 if kept else 1


def memory_table(ran: dict[str, list[dict[str, Any]]]) -> bool:
    """Show what runs read off themselves; whether it is what is claimed."""
    rows, kept = [], True
    for name, marks in ran.items():
        first, last = marks[0], marks[-1]
        grown = last["memory"] - first["memory"]
        each = grown * 2**20 / max(last["epochs"] - first["epochs"], 1)
        same = (first["files"], first["threads"]) == (last["files"], last["threads"])
        kept &= grown < MOST_GROWTH and same
        path = " ".join(f"{mark['memory']:.1f}" for mark in marks)
        counted = [f"{first[what]} to {last[what]}" for what in ("files", "threads")]
        steps = f"{first['steps']:,} to {last['steps']:,}"
        rows.append([name, steps, f"{last['epochs']:,}", path, f"{grown:.1f}", f"{each:.0f}", *counted])
    show(
        "Memory of a long run, MB",
        ["", "steps", "epochs", "at ten marks", "grown", "a record, bytes", "open files", "threads"],
        rows,
        [f"to reach: less than {MOST_GROWTH:g} MB, no more files and threads"],
        "single runs",
    )
    return kept


def page_table(opened: list[dict[str, Any]]) -> bool:
    """Show what pages took; whether the last one is what is claimed."""
    show(
        "lessonplan report",
        ["lines", "metrics, MB", "seconds", "of a processor", "most memory, MB", "page, MB", "said on the page"],
        [
            [f"{page['lines']:,}", *(f"{page[what]:.{digits}f}" for what, digits in SHOWN.items()), page["said"]]
            for page in opened
        ],
        [f"to reach: {MOST_SECONDS:g} seconds, of a processor where others keep the machine busy"],
        "single calls",
    )
    return opened[-1]["cpu"] < MOST_SECONDS and bool(opened[-1]["said"])


# -- a run ------------------------------------------------------------------------------------------


def _measured(name: str, steps: int, out: Path) -> list[dict[str, Any]]:
    """What a run in a process of its own read off itself."""
    command = [sys.executable, __file__, "--run", json.dumps([name, steps, str(out)])]
    marks = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(name, line, end="", file=sys.stderr, flush=True)
            marks.append(json.loads(line))
    if process.returncode:
        raise SystemExit(f"the {name} run ended with {process.returncode}")
    return marks


def _train(name: str, steps: int, out: str) -> None:
    import lessonplan as lp

    class Marks(lp.Callback):
        """Prints a line at each of ten marks."""

        def on_batch_end(self, trainer: Any) -> None:
            if trainer.counters.steps % (steps // 10) == 0:
                gc.collect()
                now = {"steps": trainer.counters.steps, "epochs": trainer.counters.epoch, **_process()}
                print(json.dumps(now), flush=True)

    plan, settings = PLANS[name]
    data = lp.data.load("digits", val_fraction=0.2)
    lp.fit("fcnet-8", data, plan, f"{steps} steps", out=out, callbacks=[Marks()], threads=1, **settings)


def _process() -> dict[str, float]:
    """Memory in MB, open files and threads of this process, as Linux counts them."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


# -- a page -----------------------------------------------------------------------------------------


def _opened(run: Path, lines: int) -> dict[str, Any]:
    """What it takes to write the page of a run with so many lines."""
    folder = run.with_name(f"{lines} lines")
    shutil.copytree(run, folder)
    _lengthen(folder / "metrics.jsonl", lines)
    command = [sys.executable, "-m", "lessonplan", "report", str(folder)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"lessonplan report ended with {os.waitstatus_to_exitcode(status)}")
    page = (folder / "index.html").read_text() if (folder / "index.html").exists() else ""
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page))
    said = re.search(r"Curves are drawn from [^.]*\.", words)
    return {
        "lines": lines,
        "size": (folder / "metrics.jsonl").stat().st_size / 2**20,
        "seconds": seconds,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss / 2**10,
        "page": len(page) / 2**20,
        "said": said.group() if said else "",
    }


def _lengthen(metrics: Path, lines: int) -> None:
    """Repeat a run's lines; what they count goes on counting."""
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    counted = [
        {k: v / (record["epoch"] + 1) for k, v in record.items() if isinstance(v, int)} for record in records
    ]
    rest = [json.dumps({k: v for k, v in record.items() if not isinstance(v, int)})[1:] for record in records]
    with metrics.open("w") as file:
        for epoch in range(lines):
            at = epoch % len(records)
            numbers = {**{k: int(v * (epoch + 1)) for k, v in counted[at].items()}, "epoch": epoch}
            file.write(json.dumps(numbers)[:-1] + ", " + rest[at] + "\n")


if __name__ == "__main__":
    sys.exit(main())
