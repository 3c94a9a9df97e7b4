"""Runs on many machines: through Ray, or through SLURM by submitit."""

from __future__ import annotations

import copy
import importlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lessonplan.errors import ConfigError, unknown
from lessonplan.lab.executor import Executor, T
from lessonplan.lab.task import do_task
from lessonplan.text_options import read_pairs, read_values

_POLL_SECONDS = 2.0


def cluster_executor(text: str, folder: Path, threads: int = 1) -> Executor:
    """The executor of a cluster; every machine must see the comparison's folder under the same path.

    Args:
        text: ``"ray"``, or ``"slurm:hours=24"`` with the time limit of a run.
        folder: of the comparison; SLURM's scripts and logs go into ``slurm/`` in it.
        threads: CPU threads, and cores asked for, of each run.

    Raises:
        ConfigError: the name is unknown, or the package is not installed.
    """
    name, _, options = text.partition(":")
    if name not in ("ray", "slurm"):
        raise unknown("cluster", name, ["ray", "slurm"])
    given = read_values(name, read_pairs(name, options), {"hours": float} if name == "slurm" else {})
    return SlurmExecutor(folder / "slurm", threads, **given) if name == "slurm" else RayExecutor(threads)


class RayExecutor:
    """Jobs as Ray tasks, on the cluster that ``RAY_ADDRESS`` names, else on this machine.

    Args:
        threads: cores that Ray keeps for a run.
    """

    def __init__(self, threads: int = 1) -> None:
        self._ray = _load("ray", "ray")
        self._threads = threads

    def run(self, jobs: Iterable[T], report: Callable[[T, str | None], None]) -> None:
        """See ``Executor``."""
        ray = self._ray
        if not ray.is_initialized():
            ray.init(log_to_driver=False)
        task = ray.remote(num_cpus=self._threads, max_retries=0)(do_task)
        waiting = {task.remote(_absolute(job)): job for job in jobs}
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1)
            for reference in done:
                report(waiting.pop(reference), _outcome(lambda reference=reference: ray.get(reference)))


class SlurmExecutor:
    """Jobs as SLURM jobs; where no SLURM is found, submitit runs them on this machine.

    Args:
        folder: for scripts and logs.
        threads: cores of a run.
        hours: time limit of a run, above 0.
    """

    def __init__(self, folder: Path, threads: int = 1, hours: float = 24.0) -> None:
        if not hours > 0:
            raise ConfigError(f"slurm:hours={hours:g}: give the time limit of a run, above 0")
        submitit = _load("submitit", "slurm")
        self._executor = submitit.AutoExecutor(folder=str(folder))
        minutes = max(1, round(60 * hours))
        self._executor.update_parameters(timeout_min=minutes, cpus_per_task=threads, tasks_per_node=1)

    def run(self, jobs: Iterable[T], report: Callable[[T, str | None], None]) -> None:
        """See ``Executor``."""
        waiting = [(job, self._executor.submit(do_task, _absolute(job))) for job in jobs]
        while waiting:
            for job, submitted in [pair for pair in waiting if pair[1].done()]:
                waiting.remove((job, submitted))
                report(job, _outcome(submitted.result))
            if waiting:
                time.sleep(_POLL_SECONDS)


def _load(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(f"{module} is not installed: pip install 'lessonplan[{extra}]'") from None


def _absolute(job: T) -> T:
    """The same job for a process that works in another folder."""
    moved = copy.copy(job)
    moved.folder = job.folder.resolve()
    return moved


def _outcome(get: Any) -> str | None:
    """None, or what went wrong on the other machine, in one line."""
    try:
        get()
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return lines[-1] if lines else type(error).__name__
    return None
