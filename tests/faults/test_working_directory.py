"""Python files among data are not imported, in whichever folder a command is given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from lessonplan import doctor
from lessonplan.child import python
from lessonplan.data.base import Options
from lessonplan.data.svhn import from_svhn
from lessonplan.lab.executor import LocalProcesses
from lessonplan.lab.task import Task


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; a file that comes to be there was written by code that is not ours."""
    for name in ("json", "numpy", "scipy", "signal", "torch", "threading"):
        code = f"import pathlib; pathlib.Path({str(tmp_path)!r}, 'ran-{name}').touch()"
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    assert "" not in sys.path
    return tmp_path


def ran(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("ran-*"))


def test_a_process_of_ours_imports_what_this_one_does(hostile: Path) -> None:
    plainly = [sys.executable, "-c", "import json"]
    subprocess.run(plainly, check=True)
    assert ran(hostile) == ["ran-json"]  # the danger
    (hostile / "ran-json").unlink()
    found = subprocess.run(
        python("import json, os; print(json.__file__); print(sys.argv[1:], flush=True)", "a", "b"),
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert found.stdout.splitlines()[1] == "['a', 'b']"
    assert not ran(hostile)


def test_matlab_files_and_the_doctor(hostile: Path) -> None:
    savemat(hostile / "train_32x32.mat", {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[1], [10]])})
    assert from_svhn(hostile, Options()).train.labels.tolist() == [1, 0]
    assert doctor.ask("import json, threading; print(json.dumps({'fine': True}))") == ({"fine": True}, None)
    assert not ran(hostile)


class Nothing:
    """A task."""

    label = "nothing"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def do(self) -> None:
        (self.folder / "done").touch()


@pytest.mark.slow
def test_workers(hostile: Path) -> None:
    errors: list[str | None] = []
    task: Task = Nothing(hostile)
    LocalProcesses(1, 1, hostile / "log.txt").run([task], lambda job, error: errors.append(error))
    assert errors == [None]
    assert (hostile / "done").exists()
    assert not ran(hostile)
