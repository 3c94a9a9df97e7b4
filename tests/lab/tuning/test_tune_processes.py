"""Searches by other processes, killed at random: they try what they would have tried."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals")]

SEARCH = """
import sys, torch
import lessonplan as lp
generator = torch.Generator().manual_seed(0)
y = torch.arange(120) % 2
x = torch.randn(120, 4, generator=generator) + 1.6 * y[:, None]
lp.tune("lr=1e-4..1 log, mix.k=2|4", (x, y), "sum:k=2", out=sys.argv[1], model="fcnet-4", budget="2400 cost",
        trials=16, jobs=int(sys.argv[2]), settings={"batch_size": 8})
"""


def start(root: Path, jobs: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", SEARCH, str(root), str(jobs)], stderr=subprocess.PIPE, start_new_session=True
    )


def done(root: Path) -> int:
    """Trials that were trained to their ends."""
    return len(list(root.glob("runs/*/result.json")))


def trials(root: Path) -> list[dict[str, Any]]:
    found = json.loads((root / "tune.json").read_text())["trials"]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def test_killed_five_times_it_tries_the_same(tmp_path: Path) -> None:
    assert start(tmp_path / "whole", 1).wait() == 0
    chance = random.Random(0)
    killed = 0
    for _ in range(5):
        before = done(tmp_path / "killed")
        process = start(tmp_path / "killed", 1)
        while process.poll() is None and done(tmp_path / "killed") == before:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.2))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
    assert killed
    last = start(tmp_path / "killed", 2)  # and by two processes at last
    assert last.wait() == 0, last.stderr.read().decode() if last.stderr else ""
    assert trials(tmp_path / "killed") == trials(tmp_path / "whole")
    assert (tmp_path / "killed/best.yaml").read_text() == (tmp_path / "whole/best.yaml").read_text()
