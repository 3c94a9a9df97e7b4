"""Runs as SLURM jobs, by submitit."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

from lessonplan.errors import ConfigError, first_line
from lessonplan.lab.elsewhere import absolute, at_least, attempt_after_the_dead, load_package, outcome
from lessonplan.lab.executor import T
from lessonplan.lab.task import Task

_POLL_SECONDS = 2.0
_LARGEST_ARRAY = 1000  # SLURM's own limit, unless its MaxArraySize says otherwise
_NOTICE_SECONDS = 90  # between the signal and the end of a job; a checkpoint takes seconds


class SlurmExecutor:
    """Runs as a job array; one that is preempted or reaches its time limit is queued again and goes on.

    It saves a checkpoint when it is told to leave. A run may reach its time limit four times, and be preempted
    any number of times.

    Args:
        folder: for scripts and logs; on a file system that all machines see.
        cpus: cores of a run.
        hours: time limit of a run, above 0.
        gpus: GPUs of a run.
        memory: of a run, in GiB; None leaves it to SLURM.
        partition: where to queue; None is SLURM's default.
        account: who pays; None is the user's default.
        constraint: features that a node must have, as SLURM writes them.
        at_once: runs at a time; None lets SLURM decide.
        on: ``"slurm"``, or ``"local"``: the same way with processes of this machine, to try it without SLURM.

    Raises:
        ConfigError: a value cannot be used, submitit is missing, or this machine has no SLURM.
    """

    def __init__(
        self,
        folder: Path,
        cpus: int = 1,
        hours: float = 24.0,
        gpus: int = 0,
        memory: float | None = None,
        partition: str | None = None,
        account: str | None = None,
        constraint: str | None = None,
        at_once: int | None = None,
        on: str = "slurm",
    ) -> None:
        if not 0 < hours < float("inf"):
            raise ConfigError(f"slurm:hours={hours:g}: give the time limit of a run, above 0")
        at_least("slurm:cpus", cpus, 1)
        at_least("slurm:gpus", gpus, 0)
        if on not in ("slurm", "local"):
            raise ConfigError(f"slurm:on={on}: give slurm, or local to try it with processes of this machine")
        submitit = load_package("submitit", "slurm")
        if on == "slurm" and shutil.which("sbatch") is None:
            raise ConfigError(
                "this machine has no SLURM (no sbatch on the path): run on a login node of the cluster, try"
                " --run-on slurm:on=local, or leave --run-on out"
            )
        cores = os.cpu_count() or 1
        self._at_once = at_once if on == "slurm" else at_once or max(1, cores // cpus)
        self._queued = on == "slurm"
        if self._queued:
            watch = importlib.import_module("lessonplan.lab.slurm_states")  # needs submitit, as we do by now
            watch.watch_the_queue_without_accounting()
        self._submitit = submitit
        self._executor = submitit.AutoExecutor(folder=str(folder), cluster=on)
        minutes = max(1, round(60 * hours))
        self._executor.update_parameters(
            name="lessonplan",
            timeout_min=minutes,
            cpus_per_task=cpus,
            tasks_per_node=1,
            gpus_per_node=gpus or None,
            mem_gb=memory,
            slurm_partition=partition,
            slurm_account=account,
            slurm_constraint=constraint,
            slurm_signal_delay_s=min(_NOTICE_SECONDS, 15 * minutes),
            slurm_array_parallelism=at_once,
            # of the whole node, or of SLURM itself: queued again by SLURM, and resumed
            slurm_additional_parameters={"requeue": True},
        )

    def run(self, jobs: Iterable[T], report: Callable[[T, str | None], None]) -> None:
        """See ``Executor``.

        Raises:
            ConfigError: SLURM does not take the jobs.
        """
        coming = iter(jobs)
        running: list[tuple[T, Any]] = []
        # What is known from the start waits in SLURM's queue, an array for all of it.
        most = _LARGEST_ARRAY if self._queued and isinstance(jobs, Sequence) else self.room() or _LARGEST_ARRAY
        try:
            while True:
                if taken := list(islice(coming, most - len(running))):
                    running += self._submit(taken)
                if not running:
                    return
                over = [(job, submitted) for job, submitted in running if submitted.done()]
                for job, submitted in over:
                    running.remove((job, submitted))
                    report(job, outcome(partial(self._result, submitted)))
                if not over:
                    time.sleep(_POLL_SECONDS)
        except BaseException:
            for _, submitted in running:
                submitted.cancel(check=False)  # their checkpoints stay
            raise

    def room(self) -> int | None:
        """Runs at a time: as many as were asked for; None where SLURM decides."""
        return self._at_once

    def _result(self, submitted: Any) -> str | None:
        """What a job said; of one that said nothing, what is known."""
        try:
            said: str | None = submitted.result()
        except self._submitit.core.utils.UncompletedJobError:
            raise RuntimeError(
                f"job {submitted.job_id} left no result, its state is {submitted.state}; its log, if it came to"
                f" one, is {submitted.paths.stderr}"
            ) from None
        return said

    def _submit(self, jobs: list[T]) -> list[tuple[T, Any]]:
        """One array."""
        try:
            with self._executor.batch():
                submitted = [self._executor.submit(Preemptible(self._submitit), absolute(job)) for job in jobs]
        except self._submitit.core.utils.FailedJobError as error:
            said = [line for line in str(error).splitlines() if "error:" in line or "fatal:" in line]
            why = " ".join((said[-1] if said else first_line(error)).split())
            raise ConfigError(
                f"SLURM did not take the runs ({why}): mend the options of --run-on slurm, run on a login node of"
                " the cluster, or try --run-on slurm:on=local"
            ) from None
        return list(zip(jobs, submitted, strict=True))


class Preemptible:
    """A run that is told to leave saves a checkpoint first, and is then queued again to go on from it.

    Args:
        submitit: the package, whose handler of the signal queues again.
    """

    def __init__(self, submitit: Any) -> None:
        self._signal = getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}")
        self._submission = submitit.helpers.DelayedSubmission

    def __call__(self, task: Task) -> str | None:
        queue_again = signal.getsignal(self._signal)
        told: list[tuple[int, FrameType | None]] = []

        def leave(number: int, frame: FrameType | None) -> None:
            told.append((number, frame))
            interrupt = signal.getsignal(signal.SIGINT)  # a run's own saves a checkpoint at its next batch
            if not callable(interrupt):
                raise KeyboardInterrupt
            interrupt(signal.SIGINT, frame)

        signal.signal(self._signal, leave)
        try:
            return attempt_after_the_dead(task)
        except KeyboardInterrupt:
            if not told or not callable(queue_again):
                raise
            queue_again(*told[0])  # the process ends, or says why it cannot be queued
            raise
        finally:
            signal.signal(self._signal, queue_again)

    def checkpoint(self, task: Task) -> Any:
        """What is to be done when the job runs again: the same, which goes on from the newest checkpoint."""
        return self._submission(self, task)
