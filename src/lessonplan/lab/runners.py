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
) -> Executor:
    """What does the runs.

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
    if isinstance(given, str):
        return cluster_executor(given, root, threads, jobs)
    if given is not None:
        return given
    gpus = visible_gpus() if kind == "cuda" and not named else []
    wanted = jobs or (usable_cores() if kind == "cpu" else max(1, len(gpus)))
    wanted = wanted if most is None else max(1, min(wanted, most))
    return InProcess() if wanted == 1 else LocalProcesses(wanted, threads, root / "log.txt", gpus)


def runs_at_a_time(executor: Executor, jobs: int | None) -> int | None:
    """How many runs an executor does at a time; None where neither it nor the user says.

    Args:
        executor: one of ours says so itself.
        jobs: what the user asked for, of whom an executor may be.

    Raises:
        ConfigError: it is a cluster's, which does not answer.
    """
    room: int | None = executor.room() if hasattr(executor, "room") else None
    return room if room is not None else jobs
