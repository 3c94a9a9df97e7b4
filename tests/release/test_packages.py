"""Wheel and source archive: they hold what they should, and work where only the core dependencies are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import lessonplan
from release.isolated import ROOT, closure, core_requirements, make_environment

pytestmark = pytest.mark.slow
SOURCES = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*") if path.is_file()}
SOURCES = {name for name in SOURCES if "__pycache__" not in name and not name.endswith(".pyc")}
EXTRAS = ("pyarrow", "timm", "transformers", "peft", "onnx", "onnxruntime", "pandas", "hypothesis", "pytest")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel that is built from it."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return out


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    [wheel] = built.glob("*.whl")
    return make_environment(tmp_path_factory.mktemp("environment") / "env", wheel)


def run(python: Path, *arguments: str, where: Path | None = None) -> str:
    """What a command of the environment prints; nothing of this process' settings reaches it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), *arguments], capture_output=True, text=True, env=environment, cwd=where or python.parent
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_hold_the_package_and_no_tests(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    [archive] = built.glob("*.tar.gz")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == SOURCES
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {f"src/{name}" for name in SOURCES} <= names
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "SECURITY.md"} <= names
    assert sum(path.stat().st_size for path in built.iterdir()) < 8 * 2**20


def test_the_metadata_say_what_is_needed(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        [place] = [name for name in file.namelist() if name.endswith(".dist-info/METADATA")]
        text = file.read(place).decode()
    needed = [line for line in text.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert len(needed) == len(core_requirements()) >= 14
    assert f"Version: {lessonplan.__version__}" in text
    assert "License-Expression: Apache-2.0" in text


def test_the_environment_has_no_extras(python: Path) -> None:
    code = f"import importlib.util as u; print([n for n in {EXTRAS!r} if u.find_spec(n)])"
    assert run(python, "-c", code) == "[]\n"
    assert "torch" in closure(core_requirements())
    assert str(python.parent.parent) in run(python, "-c", "import lessonplan; print(lessonplan.__file__)")


def test_it_works_with_the_core_alone(python: Path, tmp_path: Path) -> None:
    command = ["-m", "lessonplan"]
    found = json.loads(run(python, *command, "doctor", "--json"))["result"]
    assert found["problems"] == []
    assert not found["extras"]["timm"]["installed"]
    assert found["extras"]["timm"]["install"] == "pip install 'lessonplan[timm]'"
    script = python.parent / "lessonplan"
    assert run(python, str(script), "--version") == f"lessonplan {lessonplan.__version__}\n"
    small = ["--per-class", "10", "--model", "fcnet-8", "--threads", "1"]
    run(python, "-W", "error", *command, "train", *small, "--budget", "2ep", "--out", str(tmp_path / "run"))
    run(python, *command, "compare", *small, "--methods", "erm,sum:k=2", "--seeds", "2", "--budget", "1ep",
        "--out", str(tmp_path / "compared"))  # fmt: skip
    run(python, *command, "preview", "--out", str(tmp_path / "mixed.png"))
    run(python, *command, "recipes")
    for page in ("run/index.html", "compared/index.html"):
        assert (tmp_path / page).stat().st_size > 10_000
