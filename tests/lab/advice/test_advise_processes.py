"""Tournaments by other processes, killed at random, and the executor that takes trials as it goes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lessonplan.lab.executor import LocalProcesses

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals")]

TOURNAMENT = """
import sys, torch
from pathlib import Path
import lessonplan as lp
generator = torch.Generator().manual_seed(0)
y = torch.arange(120) % 2
x = torch.randn(120, 4, generator=generator) + 1.6 * y[:, None]
plans = {"mixup": "mixup", "slow": {"settings": {"lr": 1e-3}}}
lp.advise((x, y), out=sys.argv[1], model="fcnet-4", plans=plans, each="240 cost", budget="8k cost",
          jobs=int(sys.argv[2]), threads=1, settings={"batch_size": 8, "lr": 0.1})
"""


def start(root: Path, jobs: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", TOURNAMENT, str(root), str(jobs)], stderr=subprocess.PIPE, start_new_session=True
    )


def test_killed_ten_times_it_decides_the_same(tmp_path: Path, decisions: Callable[[Path], dict[str, Any]]) -> None:
    began = time.monotonic()
    assert start(tmp_path / "whole", 1).wait() == 0
    took = time.monotonic() - began
    chance = random.Random(0)
    for _ in range(10):
        process = start(tmp_path / "killed", 1)
        try:
            process.wait(chance.uniform(0.3, 0.9) * took)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    last = start(tmp_path / "killed", 2)  # and by two processes at last
    assert last.wait() == 0, last.stderr.read().decode() if last.stderr else ""
    assert decisions(tmp_path / "killed") == decisions(tmp_path / "whole")
    weights = [(tmp_path / name / "model" / "weights.safetensors").read_bytes() for name in ("killed", "whole")]
    assert weights[0] == weights[1]


@dataclass
class Note:
    """Writes down its process."""

    folder: Path
    number: int

    @property
    def label(self) -> str:
        return f"note {self.number}"

    def do(self) -> None:
        (self.folder / f"{self.number}").write_text(str(os.getpid()))


def test_jobs_of_an_iterator_are_taken_as_processes_become_free_and_processes_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(__file__).read_text()
    (tmp_path / "notes_of_a_test.py").write_text("from __future__ import annotations\n" + source.split("\n", 3)[3])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(tmp_path))
    from notes_of_a_test import Note as Sent  # a module that other processes know

    finished: list[int] = []
    ahead: list[int] = []

    def jobs(numbers: range) -> Iterator[Any]:
        for number in numbers:
            ahead.append(number - len(finished))
            yield Sent(tmp_path, number)

    def report(job: Any, error: str | None) -> None:
        assert error is None
        finished.append(job.number)

    with LocalProcesses(2, 1, tmp_path / "log.txt") as executor:
        assert [worker.poll() for worker in executor._workers] == [None, None]  # they begin before there is work
        executor.run(jobs(range(6)), report)
        executor.run(jobs(range(6, 9)), report)
        workers = list(executor._workers)
        assert all(worker.poll() is None for worker in workers)
    assert all(worker.poll() is not None for worker in workers)
    assert sorted(finished) == list(range(9))
    assert max(ahead) <= 2
    assert len({(tmp_path / str(number)).read_text() for number in range(9)}) <= 2
