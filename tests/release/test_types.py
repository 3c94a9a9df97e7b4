"""What type checkers see from outside: the example is right, and mistakes in it are found."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
EXAMPLE = HERE / "public_surface.py"
PYRIGHT = shutil.which("pyright", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
MISTAKES = """

def mistaken(folder: Path) -> None:
    lp.fit(3)
    lp.mix.Mixup(alpha="much")
    number: int = lp.load(folder)
    lp.compare(data="digits", out=folder)
    lp.fit("tiny").accuracy
"""


def lines_of(text: str) -> set[int]:
    """Lines of the file under test that a checker complains of."""
    return {int(line) for line in re.findall(r"surface\w*\.py:(\d+)", text)}


@pytest.fixture
def mistaken(tmp_path: Path) -> tuple[Path, set[int]]:
    """The example with mistakes at its end, and the lines that they are in."""
    text = EXAMPLE.read_text() + MISTAKES
    file = tmp_path / "surface_mistaken.py"
    file.write_text(text)
    last = len(text.splitlines())
    return file, set(range(last - 4, last + 1))


@pytest.mark.slow
def test_mypy_strict(mistaken: tuple[Path, set[int]], tmp_path: Path) -> None:
    file, wrong = mistaken
    (tmp_path / "mypy.ini").write_text("[mypy]\n")  # of another project
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", str(tmp_path / "mypy.ini"), "--cache-dir",
         str(tmp_path / "cache"), "--follow-imports", "silent", str(file)],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "MYPYPATH": str(SOURCE)},
    )  # fmt: skip
    assert lines_of(done.stdout) == wrong, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(PYRIGHT is None, reason="pyright is not there (make test-types installs it)")
def test_pyright_strict(mistaken: tuple[Path, set[int]], tmp_path: Path) -> None:
    file, wrong = mistaken
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(SOURCE)], "include": [file.name]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [str(PYRIGHT), "--outputjson", "--pythonpath", sys.executable],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    found = [d for d in json.loads(done.stdout)["generalDiagnostics"] if d["severity"] == "error"]
    assert {d["range"]["start"]["line"] + 1 for d in found} == wrong, [
        (d["range"]["start"]["line"] + 1, d["message"]) for d in found
    ]
