"""Where the runs of a comparison are done: in this process, or in several beside it."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Protocol, TypeVar

from lessonplan.errors import ConfigError, LessonplanError
from lessonplan.lab.task import Task, do_task
from lessonplan.lab.worker import LENGTH_BYTES

T = TypeVar("T", bound=Task)

_GRACE_SECONDS = 1.3


class Executor(Protocol):
    """Does jobs and reports each one as it is over; a job that fails does not stop the others."""

    def run(self, jobs: Iterable[T], report: Callable[[T, str | None], None]) -> None:
        """Return when all jobs are over.

        Args:
            jobs: what is to be done.
            report: called with each job that is over, and None or what went wrong.
        """


class InProcess:
    """One job after the other, here."""

    def run(self, jobs: Iterable[T], report: Callable[[T, str | None], None]) -> None:
        """See ``Executor``."""
        for job in jobs:
            try:
                do_task(job)
            except Exception as error:
                text = str(error) if isinstance(error, LessonplanError) else f"{type(error).__name__}: {error}"
                report(job, text)
            else:
                report(job, None)


class LocalProcesses:
    """Jobs in parallel processes of this machine.

    Args:
        processes: how many at a time, at least 1.
        threads: CPU threads of each.
        log: file that takes what the runs print.
    """

    def __init__(self, processes: int, threads: int, log: Path) -> None:
        if processes < 1 or threads < 1:
            raise ConfigError(f"jobs={processes} and threads={threads}: give at least 1 of each")
        self.processes, self.threads, self.log = processes, threads, log
        self._workers: dict[int, subprocess.Popen[bytes]] = {}
        self._starting = threading.Lock()
        self._stopping = False

    def run(self, jobs: Iterable[T], report: Callable[[T, str | None], None]) -> None:
        """See ``Executor``.

        Raises:
            ConfigError: a job holds something that cannot be sent to another process.
        """
        packed = [(job, _pack(job)) for job in jobs]
        self._stopping = False
        with ThreadPoolExecutor(self.processes) as pool:
            try:
                futures = {pool.submit(self._do, payload): job for job, payload in packed}
                for future in as_completed(futures):
                    report(futures[future], future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                with self._starting:  # from here on no thread starts another worker
                    self._stopping = True
                self._interrupt()
                raise
            finally:
                self._close()

    def _do(self, payload: bytes) -> str | None:
        """Have this thread's worker do a job; None or what went wrong."""
        with self._starting:
            if self._stopping:
                return "stopped before it began"
            worker = self._worker()
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(len(payload).to_bytes(LENGTH_BYTES, "big") + payload)
            worker.stdin.flush()
            line = worker.stdout.readline()
        except BrokenPipeError:
            line = b""
        if line:
            error: str | None = json.loads(line)["error"]
            return error
        code = worker.wait()
        return f"its process ended with code {code} (killed or out of memory?); see {self.log}"

    def _worker(self) -> subprocess.Popen[bytes]:
        key = threading.get_ident()
        worker = self._workers.get(key)
        if worker is None or worker.poll() is not None:
            environment = {
                **os.environ,
                "OMP_NUM_THREADS": str(self.threads),
                "MKL_NUM_THREADS": str(self.threads),
            }
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("ab") as log:
                worker = subprocess.Popen(
                    [sys.executable, "-c", "from lessonplan.lab.worker import main; main()"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                )
            self._workers[key] = worker
        return worker

    def _interrupt(self) -> None:
        """Let the runs save a checkpoint, then end them."""
        for worker in self._workers.values():
            if worker.poll() is None:
                worker.send_signal(signal.SIGINT)
        deadline = time.monotonic() + _GRACE_SECONDS
        for worker in self._workers.values():
            try:
                worker.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()

    def _close(self) -> None:
        for worker in self._workers.values():
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.close()
            worker.wait()
            worker.stdout.close()
        self._workers.clear()


def _pack(job: Task) -> bytes:
    try:
        payload = pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{job.label} cannot be sent to another process ({error}): define its functions and classes in a"
            " module, or give jobs=1"
        ) from None
    if b"__main__" in payload:
        raise ConfigError(
            f"{job.label} uses something defined in the script that is running, which another process does not"
            " know: move it to a module, or give jobs=1"
        )
    return payload
