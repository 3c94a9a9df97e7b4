"""Two processes never train in one folder."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time

import pytest

from lessonplan.errors import ConfigError
from lessonplan.lab import compare
from lessonplan.lock import in_turn, sole_user
from lessonplan.train import fit

HOLD = "import sys, time; from pathlib import Path; from lessonplan.lock import sole_user\n"
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


def test_what_killed_processes_left_half_written_goes(tmp_path):
    (tmp_path / ".tune.json.2103.tmp").write_text("{")
    (tmp_path / "tune.json").write_text("{}")
    (tmp_path / ".notes.tmp").write_text("the user's own")
    (tmp_path / ".folder.1.tmp").mkdir()
    with sole_user(tmp_path):
        assert not list(tmp_path.glob(".tune*"))
    assert (tmp_path / "tune.json").read_text() == "{}"
    assert (tmp_path / ".notes.tmp").exists()
    assert (tmp_path / ".folder.1.tmp").is_dir()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here")
@pytest.mark.parametrize("hold", [sole_user, in_turn])
def test_a_forked_reader_does_not_keep_the_folder(tmp_path, hold):
    with hold(tmp_path):
        reader = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        reader.start()
    try:
        with sole_user(tmp_path):
            pass
    finally:
        reader.kill()
        reader.join()
