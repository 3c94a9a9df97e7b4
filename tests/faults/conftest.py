"""A finished run to be damaged, and commands of which only one line may be left."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lessonplan as lp
from lessonplan import cli

OPTIONS = [
    "--data",
    "digits",
    "--per-class",
    "6",
    "--model",
    "fcnet-8",
    "--budget",
    "4 steps",
    "--batch-size",
    "12",
]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps on digits, made by the command line."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", *OPTIONS, "--threads", "1", "--out", str(folder)])
    assert ended.value.code == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "digit.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    return path


Said = Callable[..., tuple[int, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Give a command; its exit code and what it wrote to standard error, which holds no traceback."""

    def give(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        errors = capsys.readouterr().err
        assert "Traceback" not in errors
        return int(ended.value.code or 0), errors

    return give


@pytest.fixture
def again(said: Said) -> Said:
    """Train once more in a folder."""
    return lambda folder, *more: said("train", *OPTIONS, "--out", folder, *more)


@pytest.fixture(scope="session")
def data() -> lp.data.Data:
    return lp.data.load("digits", per_class=6, val_fraction=0.2)
