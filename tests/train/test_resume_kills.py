"""Exact resume of real processes, killed with SIGKILL at random moments.

``benchmarks/resume_kills.py`` does the same at length.
"""

from __future__ import annotations

import os
import random
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

SCRIPT = Path(__file__).with_name("train_until_killed.py")
RUNS = ("cascade", "gradual", "choice", "until", "empty", "permuted")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments(tmp_path: Path, outcome) -> None:
    digits = load_digits()
    np.savez(tmp_path / "digits.npz", x=(digits.images * 15).astype(np.uint8), y=digits.target)
    moments = random.Random(0)
    # One falls anywhere in a process' life, into its imports most likely.
    process = _start(tmp_path, "killed")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=moments.uniform(0, 2))
    process.kill()
    process.communicate()
    killed, _ = _start(tmp_path, "killed", "20", "1").communicate()
    assert int(killed) >= 10, "the runs were over too soon for their kills: make them longer"
    assert list((tmp_path / "killed").glob("*/checkpoints/step-*[1-9]?.ckpt")), "no kill fell into training"
    process = _start(tmp_path, "killed")
    process.communicate()
    assert process.returncode == 0
    runpy.run_path(str(SCRIPT))["main"](str(tmp_path / "digits.npz"), str(tmp_path / "whole"), ",".join(RUNS))
    for name in RUNS:
        assert outcome(tmp_path / "killed" / name) == outcome(tmp_path / "whole" / name), name
        assert not list((tmp_path / "killed" / name).rglob(".*.tmp"))


def _start(tmp_path: Path, folder: str, *kills: str) -> subprocess.Popen[str]:
    paths = [str(tmp_path / "digits.npz"), str(tmp_path / folder)]
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *paths, ",".join(RUNS), *kills],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
