"""Local processes see one GPU each, the one with the fewest others, and work with the threads they were given."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from lessonplan.lab.executor import LocalProcesses, visible_gpus


@dataclass
class Look:
    """Says what its process sees, when all have begun."""

    folder: Path
    together: int
    label: str = "look"

    def do(self) -> None:
        self.folder.mkdir()
        deadline = time.monotonic() + 120
        while len(list(self.folder.parent.iterdir())) < self.together and time.monotonic() < deadline:
            time.sleep(0.05)
        seen = (os.environ.get("CUDA_VISIBLE_DEVICES", "none"), os.environ["OMP_NUM_THREADS"], str(os.getpid()))
        (self.folder / "saw").write_text(" ".join(seen))


def look(tmp_path, monkeypatch, devices) -> list[list[str]]:
    monkeypatch.syspath_prepend(Path(__file__).parent)  # where workers import from, too
    monkeypatch.setattr(Look, "__module__", Path(__file__).stem)
    monkeypatch.setitem(sys.modules, Path(__file__).stem, sys.modules[test_each_process_sees_one.__module__])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    root = tmp_path / "all"
    root.mkdir()
    errors = []
    jobs = [Look(root / str(number), 3) for number in range(3)]
    LocalProcesses(3, 2, tmp_path / "log", devices).run(jobs, lambda job, error: errors.append(error))
    assert errors == [None] * 3, (tmp_path / "log").read_text()
    return [(root / str(number) / "saw").read_text().split() for number in range(3)]


@pytest.mark.slow
def test_each_process_sees_one(tmp_path, monkeypatch):
    seen = look(tmp_path, monkeypatch, ["4", "GPU-7f"])
    assert sorted(Counter(device for device, _, _ in seen).values()) == [1, 2]
    assert {device for device, _, _ in seen} == {"4", "GPU-7f"}
    assert {threads for _, threads, _ in seen} == {"2"}
    assert len({process for _, _, process in seen}) == 3


@pytest.mark.slow
def test_without_gpus_the_environment_stays(tmp_path, monkeypatch):
    assert {device for device, _, _ in look(tmp_path, monkeypatch, [])} == {"none"}


@pytest.mark.parametrize(
    ("count", "given", "found"),
    [(2, None, ["0", "1"]), (2, "5, 7", ["5", "7"]), (0, None, []), (1, "GPU-a", ["GPU-a"])],
)
def test_which_gpus_there_are(monkeypatch, count, given, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible_gpus() == found
