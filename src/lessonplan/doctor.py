"""What is installed, what is missing, and where training would happen: for bug reports and for beginners.

Nothing here imports PyTorch: a broken one is what a doctor is called for. It is asked in a process of its own.
"""

from __future__ import annotations

import contextlib
import importlib.metadata as metadata
import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lessonplan.child import python
from lessonplan.extras import declared, fits
from lessonplan.machine import crowded, load, usable_cores
from lessonplan.progress import step
from lessonplan.version import __version__

_PATIENCE_SECONDS = 120.0
_OWN = "lessonplan"
_MODULES = {  # where they are imported by other names
    "scikit-learn": "sklearn", "pillow": "PIL", "pyyaml": "yaml", "mkdocs-material": "material",
}  # fmt: skip

_ASK_TORCH = """
import json, torch
there = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
names = []
if there is not None:
    for i in range(torch.accelerator.device_count()):
        try:
            names.append(torch.get_device_module(there).get_device_name(i))
        except Exception:
            names.append(there.type)
print(json.dumps({"device": "cpu" if there is None else there.type, "devices": names,
    "threads": torch.get_num_threads(), "cuda": torch.version.cuda}))
"""


@dataclass(frozen=True)
class Package:
    """A package that lessonplan needs, or may use.

    Attributes:
        name: of the distribution.
        wanted: the versions that do, as declared; empty for any.
        found: the version that is installed, or None.
        fits: whether it is one of those.
        problem: why it cannot be imported, where that was tried and failed.
    """

    name: str
    wanted: str
    found: str | None
    fits: bool
    problem: str | None = None

    @property
    def sound(self) -> bool:
        """Whether it can be used, as far as is known."""
        return self.found is not None and self.fits and self.problem is None

    @property
    def words(self) -> str:
        """Its state in a few words."""
        if self.found is None:
            return "missing"
        if not self.fits:
            return f"{self.found}, needs {self.wanted}"
        return self.found if self.problem is None else f"{self.found}, cannot be imported: {self.problem}"


def examine(try_imports: bool = False) -> dict[str, Any]:
    """Look at this installation.

    Args:
        try_imports: import every package that is there, each in a process of its own.

    Returns:
        plain values: ``versions``, ``machine``, ``threads``, ``needed`` and ``extras`` (by name: ``packages``,
        ``installed`` and the line that installs what is missing), ``problems`` (sentences; none if all is well).
    """
    core, extras = declared()
    asked, problem = ask(_ASK_TORCH)
    with step("importing packages", len(core) + sum(map(len, extras.values())), "packages") as line:

        def look(requirement: Requirement) -> Package:
            line.update(what=requirement.name)
            package = _package(requirement, try_imports)
            line.update(advance=1)
            return package

        needed = [look(requirement) for requirement in core]
        found = {
            extra: [look(requirement) for requirement in requirements] for extra, requirements in extras.items()
        }
    if problem is not None:
        needed = [
            Package(p.name, p.wanted, p.found, p.fits, problem) if p.name == "torch" and p.found else p
            for p in needed
        ]
    return {
        "versions": {
            _OWN: __version__,
            "python": platform.python_version(),
            "torch": next((p.found for p in needed if p.name == "torch"), None),
            "cuda": asked.get("cuda"),
        },
        "installed_at": str(Path(__file__).parent),
        "python_at": sys.executable,
        "machine": _machine(asked),
        "threads": _threads(asked),
        "needed": [_row(package) for package in needed],
        "extras": {
            name: {
                "packages": [_row(package) for package in packages],
                "installed": all(package.sound for package in packages),
                "install": None if all(package.sound for package in packages) else _line(name),
            }
            for name, packages in found.items()
        },
        "problems": [
            f"{package.name} is {package.words}: pip install '{package.name}{package.wanted}'"
            for package in needed
            if not package.sound
        ],
    }


def ask(script: str) -> tuple[dict[str, Any], str | None]:
    """What a script prints as JSON in a process of its own, or why it does not."""
    try:
        done = subprocess.run(
            python(script, options=("-W", "ignore")),
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {}, f"no answer within {_PATIENCE_SECONDS:.0f} s"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"its process ended with code {done.returncode}"])[-1]
        return {}, last[:300]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer, None


def _package(requirement: Requirement, try_import: bool) -> Package:
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Package(requirement.name, str(requirement.specifier), None, False)
    problem = None
    if try_import:
        name = canonicalize_name(requirement.name)
        module = _MODULES.get(name) or re.sub(r"[-.]", "_", name)
        _, problem = ask(
            f"from lessonplan.doctor import import_as_we_do; import_as_we_do({module!r}); print('{{}}')"
        )
    return Package(requirement.name, str(requirement.specifier), found, fits(requirement, found), problem)


def import_as_we_do(module: str) -> None:
    """Import a package, where torchvision is in its way (or in that of what it imports) as the adapters do."""
    from lessonplan.models.beside_torchvision import import_beside_torchvision

    with contextlib.suppress(ImportError, RuntimeError, OSError):
        import_beside_torchvision("torchvision")
    import_beside_torchvision(module)


def _row(package: Package) -> dict[str, Any]:
    return {
        "name": package.name,
        "wanted": package.wanted or None,
        "version": package.found,
        "sound": package.sound,
        "words": package.words,
    }


def _line(extra: str) -> str:
    return f"pip install '{_OWN}[{extra}]'"


def _machine(asked: dict[str, Any]) -> dict[str, Any]:
    memory = psutil.virtual_memory()
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "memory_gib": round(memory.total / 2**30, 1),
        "memory_free_gib": round(memory.available / 2**30, 1),
        "device": asked.get("device"),
        "devices": asked.get("devices", []),
    }


def _threads(asked: dict[str, Any]) -> dict[str, Any]:
    """How many cores there are for us, how busy they are, and what PyTorch takes of them."""
    wanted, threads = load(), asked.get("threads")
    told = crowded(threads or 1) if asked.get("device") == "cpu" else None
    return {
        "cores": usable_cores(),
        "load": None if wanted is None else round(wanted, 1),
        "torch": threads,
        "advice": f"{told}: training takes 1 thread, unless --threads says otherwise" if told else None,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }
