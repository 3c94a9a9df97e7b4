"""``lessonplan doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from lessonplan.commands.answer import TALK, Answer, Talk
from lessonplan.commands.common import Flat
from lessonplan.errors import visible


@dataclass(frozen=True)
class Doctor:
    """Options of ``lessonplan doctor``."""

    imports: bool = False
    """import every package that is there, each in a process of its own, and say which cannot be imported"""
    talk: Annotated[Talk, Flat] = TALK

    def run(self) -> Answer:
        """Look at the installation; 1 if something that is needed is missing or broken."""
        from lessonplan.doctor import examine

        found = examine(self.imports)
        return Answer(found, lambda: print(visible("\n".join(lines(found)))), 1 if found["problems"] else 0)


_NOT_INSTALLED = "unknown: lessonplan is not installed, but imported from a folder"


def lines(found: dict[str, Any]) -> list[str]:
    """What ``examine`` found, a line each."""
    versions, machine, threads = found["versions"], found["machine"], found["threads"]
    devices = f" ({', '.join(machine['devices'])})" if machine["devices"] else ""
    cuda = f", CUDA {versions['cuda']}" if versions["cuda"] else ""
    load = f", load {threads['load']}" if threads["load"] is not None else ""
    omp = f", OMP_NUM_THREADS={threads['OMP_NUM_THREADS']}" if threads["OMP_NUM_THREADS"] else ""
    taken = threads["torch"] if threads["torch"] is not None else "unknown"
    said = [
        f"lessonplan   {versions['lessonplan']} in {found['installed_at']}",
        f"Python       {versions['python']} ({found['python_at']}), {machine['platform']}",
        f"PyTorch      {versions['torch'] or 'missing'}{cuda}",
        f"device       {machine['device'] or 'unknown'}{devices}",
        f"memory       {machine['memory_free_gib']} of {machine['memory_gib']} GiB free",
        f"threads      {taken} of {threads['cores']} cores{load}{omp}",
        f"needed       {_packages(found['needed']) or _NOT_INSTALLED}",
    ]
    for name, extra in found["extras"].items():
        install = f": {extra['install']}" if extra["install"] else ""
        said.append(f"[{name}]".ljust(15) + f"{_packages(extra['packages'])}{install}")
    if threads["advice"]:
        said.append(f"note         {threads['advice']}")
    return said + [f"PROBLEM: {problem}" for problem in found["problems"]]


def _packages(rows: list[dict[str, Any]]) -> str:
    return ", ".join(f"{row['name']} {row['words']}" for row in rows)
