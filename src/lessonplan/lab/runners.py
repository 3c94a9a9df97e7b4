"""How many runs are done at a time, and by whom."""

from __future__ import annotations

from pathlib import Path

from lessonplan.data import Data
from lessonplan.errors import ConfigError
from lessonplan.lab.clusters import cluster_executor
from lessonplan.lab.executor import Executor, InProcess, LocalProcesses, visible_gpus
from lessonplan.machine import usable_cores


def check_jobs(jobs: int | None) -> None:
    """Refuse a number of runs at a time below 1.

    Raises:
        ConfigError: it is.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs={jobs}: give at least 1 run at a time, or leave it out")


def runner(
    given: Executor | str | None,
    jobs: int | None,
    threads: int,
    data: Data,
    root: Path,
    *,
    most: int | None = None,
    named: bool = False,
) -> tuple[int, Executor]:
    """Runs at a time, and what does them.

    Args:
        given: an executor, the text of a cluster, or None for this machine.
        jobs: runs at a time; None: one a core on the CPU, one a GPU.
        threads: CPU threads of each.
        data: where they train.
        root: folder for logs.
        most: runs that there are; None: nobody knows.
        named: whether a GPU was named (``cuda:1``), which is meant then; ``cuda`` alone is any, and each process
            is shown one.

    Raises:
        ConfigError: ``jobs`` is below 1, or the cluster is unknown or not there.
    """
    check_jobs(jobs)
    kind = data.train.device.type
    gpus = visible_gpus() if kind == "cuda" and not named else []
    wanted = jobs or (usable_cores() if kind == "cpu" else max(1, len(gpus)))
    if isinstance(given, str):
        return wanted, cluster_executor(given, root, threads, jobs)
    if given is not None:
        return wanted, given
    wanted = wanted if most is None else max(1, min(wanted, most))
    if wanted == 1:
        return 1, InProcess()
    return wanted, LocalProcesses(wanted, threads, root / "log.txt", gpus)
