"""Two processes never train in one folder."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lessonplan.errors import ConfigError
from lessonplan.lab import compare
from lessonplan.train import fit
from lessonplan.train.lock import sole_user

HOLD = "import sys, time; from pathlib import Path; from lessonplan.train.lock import sole_user\n"
HOLD += "with sole_user(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


@pytest.fixture
def held(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield tmp_path
    process.kill()
    process.wait()
    process.stdout.close()
    with sole_user(tmp_path):  # a killed process holds nothing
        pass


def test_a_second_process_is_refused(held):
    with pytest.raises(ConfigError, match="another process is at work"):
        fit("fcnet-16", "digits", budget="1ep", out=held, threads=1)
    with pytest.raises(ConfigError, match="another process is at work"):
        compare("erm", out=held, model="fcnet-16", seeds=1, budget="1ep", jobs=1)
