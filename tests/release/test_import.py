"""What an import costs, and that nothing warns."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

import lessonplan

ROOT = Path(__file__).parents[2]


def processor_seconds(code: str) -> float:
    """Of a new process, so that a busy machine decides nothing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_import_takes_less_than_three_tenths_of_a_second() -> None:
    assert min(processor_seconds("import lessonplan; lessonplan.__all__") for _ in range(3)) < 0.3


def test_the_import_brings_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "matplotlib", "pydantic", "rich"}
    code = f"import sys, lessonplan; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_comparing_brings_nothing_that_its_runs_would_wait_for() -> None:
    """A second for PyTorch's compiler, half a one for figures, and most of one for SciPy's distributions."""
    late = {"torch._dynamo", "matplotlib", "scipy.stats"}
    code = f"import sys, lessonplan.lab.comparison, lessonplan.train; print(sorted({late} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_help_and_a_short_training_warn_of_nothing(tmp_path: Path) -> None:
    for line in (
        "--help",
        "train --help",
        f"train --per-class 10 --model fcnet-8 --budget 2ep --threads 1 --out {tmp_path}/run",
    ):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "lessonplan", *line.split()], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, ""), line


def test_changelog_and_citation_name_this_version() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert f"## {lessonplan.__version__}" in changes
    import yaml

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == lessonplan.__version__
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors", "license"} <= set(citation)


def test_every_public_name_is_there_and_typed() -> None:
    """The example that type checkers read (``make test-types``) uses all of them."""
    example = (ROOT / "tests" / "release" / "public_surface.py").read_text()
    for name in lessonplan.__all__:
        assert getattr(lessonplan, name) is not None
        assert f"lp.{name}" in example, name
    assert (Path(lessonplan.__file__).parent / "py.typed").exists()
