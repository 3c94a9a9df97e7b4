"""An environment that holds the core dependencies of the package, and nothing else that is installed here."""

from __future__ import annotations

import importlib.metadata as metadata
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def core_requirements() -> list[Requirement]:
    """What ``pip install lessonplan`` installs, as pyproject.toml says it, whatever was installed before."""
    lines = (ROOT / "pyproject.toml").read_text().partition("\ndependencies = [")[2].partition("\n]")[0]
    return [Requirement(line.strip().strip('",')) for line in lines.splitlines() if line.strip()]


def extra_requirements(name: str) -> list[Requirement]:
    """What an extra adds, which pyproject.toml says on one line; an unknown one is an error."""
    extras = (ROOT / "pyproject.toml").read_text().partition("\n[project.optional-dependencies]\n")[2]
    [line] = [line for line in extras.partition("\n\n")[0].splitlines() if line.startswith(f"{name} = [")]
    return [Requirement(text) for text in line.partition("= [")[2].strip(" ]").replace('"', "").split(", ")]


def closure(requirements: list[Requirement]) -> dict[str, metadata.Distribution]:
    """The distributions that requirements bring, by name."""
    found: dict[str, metadata.Distribution] = {}
    waiting = list(requirements)
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in found or (wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})):
            continue
        found[name] = metadata.distribution(name)
        waiting.extend(map(Requirement, found[name].requires or []))
    return found


def make_environment(folder: Path, wheel: Path) -> Path:
    """A new environment with the wheel in it, and links to its core dependencies. They are large (torch), so they
    are not installed a second time.

    Returns:
        its Python.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    for distribution in closure(core_requirements()).values():
        for first in {Path(file).parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            there = Path(str(distribution.locate_file(first)))
            if there.exists() and not (site / first).exists():
                (site / first).symlink_to(there)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    return folder / "bin" / "python"
