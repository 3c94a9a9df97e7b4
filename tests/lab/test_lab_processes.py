"""Comparisons done by other processes: the same results, and nothing left behind when something dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from lessonplan.lab import compare
from lessonplan.lab.executor import LocalProcesses

needs_signals = pytest.mark.skipif(os.name != "posix", reason="processes are stopped by POSIX signals")

SELF_DESTRUCTION = '''
"""A network whose process is killed at its fifth batch, once."""
import os, signal
from pathlib import Path
from torch import nn

class Fragile(nn.Sequential):
    batches = 0

    def forward(self, x):
        self.batches += 1
        if self.batches == 5:
            try:
                Path(__file__).with_name("bomb").unlink()
            except FileNotFoundError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)

def make():
    return Fragile(nn.Flatten(), nn.Linear(64, 10))
'''


@pytest.mark.slow
def test_parallel_processes_find_the_same_bit_for_bit(
    tmp_path: Path, small: dict[str, Any], no_pages: None, outcome: Callable[[Path], Any]
) -> None:
    alone = compare(out=tmp_path / "alone", **small)
    together = compare(out=tmp_path / "together", **{**small, "jobs": 2})
    assert outcome(tmp_path / "alone") == outcome(tmp_path / "together")
    for a, b in zip(alone["methods"], together["methods"], strict=True):
        assert (a["mean"], a["ci_t"], a["difference"]) == (b["mean"], b["ci_t"], b["difference"])


@pytest.mark.slow
@needs_signals
def test_a_killed_process_costs_one_run(
    tmp_path: Path, small: dict[str, Any], no_pages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fragile_network.py").write_text(SELF_DESTRUCTION)
    (tmp_path / "bomb").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    import fragile_network

    given = {**small, "model": fragile_network.make, "jobs": 2}
    results = compare(out=tmp_path / "out", **given)
    [failure] = results["failures"]
    assert "code -9" in failure["error"]
    assert sum(method["n"] for method in results["methods"]) == 3
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored["failures"] == results["failures"]
    assert f"{failure['method']},{failure['seed']},failed" in (tmp_path / "out" / "results.csv").read_text()

    again = compare(out=tmp_path / "out", **given)
    assert again["failures"] == []
    assert [method["n"] for method in again["methods"]] == [2, 2]


def heed_interrupts() -> None:
    """A shell's background jobs ignore Ctrl-C, and so would all that these tests start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class CommandLine:
    """A ``lessonplan compare`` that would go on for hours, in a process of its own."""

    def __init__(self, out: Path) -> None:
        self.out = out
        options = {
            "--methods": "erm,mixup",
            "--model": "fcnet-16",
            "--seeds": "1",
            "--jobs": "2",
            "--checkpoint-every": "20 steps",
            "--budget": "1G samples",
            "--out": str(out),
        }
        words = [word for option in options.items() for word in option]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lessonplan", "compare", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_interrupts,
        )

    def wait_for_training(self, epochs: int) -> list[psutil.Process]:
        """Wait until both runs have so many epochs in their metrics; the processes below this one."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            files = list(self.out.glob("runs/*/metrics.jsonl"))
            if len(files) == 2 and all(len(f.read_bytes().splitlines()) > epochs for f in files):
                return psutil.Process(self.process.pid).children(recursive=True)
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.process.kill()
        raise AssertionError(f"training did not begin: {self.process.communicate()}")


def first_records(out: Path) -> dict[str, str]:
    return {f.parent.name: f.read_text().splitlines()[0] for f in sorted(out.glob("runs/*/metrics.jsonl"))}


def steps_saved(out: Path) -> dict[str, int]:
    """The newest checkpoint of each run."""
    newest: dict[str, int] = {}
    for file in out.glob("runs/*/checkpoints/*.ckpt"):
        run = file.parent.parent.name
        newest[run] = max(newest.get(run, 0), int(file.stem.removeprefix("step-")))
    return newest


@pytest.mark.slow
@needs_signals
def test_ctrl_c_ends_it_in_two_seconds_and_it_goes_on_later(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = CommandLine(out)
    workers = command.wait_for_training(epochs=2)
    assert len(workers) >= 2
    began = time.monotonic()
    command.process.send_signal(signal.SIGINT)
    _, errors = command.process.communicate(timeout=20)
    assert time.monotonic() - began < 2.0
    assert command.process.returncode == 130
    assert errors == "lessonplan: stopped; run the same command again to go on\n"
    assert not any(worker.is_running() for worker in workers)
    saved, records = steps_saved(out), first_records(out)
    assert len(saved) == 2
    assert min(saved.values()) > 0
    stored = json.loads((out / "results.json").read_text())
    assert [run["status"] for method in stored["methods"] for run in method["runs"]] == ["waiting", "waiting"]

    epochs = max(len(f.read_bytes().splitlines()) for f in out.glob("runs/*/metrics.jsonl"))
    command = CommandLine(out)
    workers = command.wait_for_training(epochs + 2)
    command.process.kill()  # no chance to tell the workers
    _, alive = psutil.wait_procs(workers, timeout=5)
    command.process.communicate()
    assert alive == []
    assert first_records(out) == records  # with their times: they were kept, not made again
    assert all(step > saved[run] for run, step in steps_saved(out).items())


def test_processes_that_could_not_all_begin_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = LocalProcesses(2, 1, tmp_path / "log.txt")
    begun: list[subprocess.Popen[bytes]] = []
    start = executor._start

    def second_fails(*arguments: str) -> subprocess.Popen[bytes]:
        if begun:
            raise OSError("cannot allocate memory")
        begun.append(start(*arguments))
        return begun[0]

    monkeypatch.setattr(executor, "_start", second_fails)
    with pytest.raises(OSError, match="cannot allocate memory"), executor:
        raise AssertionError("nothing is to be done")
    assert begun[0].poll() is not None
