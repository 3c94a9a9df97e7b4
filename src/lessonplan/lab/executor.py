"""Where the runs of a comparison are done: in this process, or in several beside it."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

from lessonplan.child import python
from lessonplan.data.sources import opening_once
from lessonplan.errors import ConfigError
from lessonplan.lab.task import Mishap, Task, do_task, reason
from lessonplan.lab.turns import AsTheyCome, LongestFirst
from lessonplan.lab.worker import LENGTH_BYTES
from lessonplan.progress import saying_once
from lessonplan.signals import sigterm_interrupts
from lessonplan.watch import leave_with

T = TypeVar("T", bound=Task)

_GRACE_SECONDS = 1.3
# The watch begins before PyTorch is imported, which takes seconds: whoever started it may be gone by then.
_WORK = f"from {leave_with.__module__} import leave_with; leave_with(int(sys.argv[1]));"
_WORK += " from lessonplan.lab.worker import main; main(sys.argv[2:] == ['soon'])"


class Executor(Protocol):
    """Does jobs and reports each one as it is over; a job that fails does not stop the others."""

    def run(self, jobs: Iterable[T], report: Callable[[T, str | None], None]) -> None:
        """Return when all jobs are over.

        Args:
            jobs: what is to be done; those that come from an iterator are taken as there is room for them.
            report: called with each job that is over, and None or what went wrong: a ``Mishap`` where the machine
                is to blame.
        """


class InProcess:
    """One job after the other, here."""

    def room(self) -> int:
        """Jobs at a time: 1."""
        return 1

    def run(self, jobs: Iterable[T], report: Callable[[T, str | None], None]) -> None:
        """See ``Executor``."""
        with opening_once(), saying_once():
            for job in jobs:
                try:
                    do_task(job)
                except Exception as error:
                    report(job, reason(error))
                else:
                    report(job, None)


class LocalProcesses:
    """Jobs in parallel processes of this machine; inside ``with`` they begin at once and stay.

    Outside they begin with the first jobs and end with the last.

    Jobs that come from an iterator are taken as processes become free; those of a sequence are begun so that the
    ones whose ``kind`` takes longest do not come last.

    Args:
        processes: how many at a time, at least 1.
        threads: CPU threads of each.
        log: file that takes what the runs print.
        devices: GPUs as ``CUDA_VISIBLE_DEVICES`` names them: each process sees one, the one that the fewest
            others have; none of them leaves the environment as it is.
    """

    def __init__(self, processes: int, threads: int, log: Path, devices: Sequence[str] = ()) -> None:
        if processes < 1 or threads < 1:
            raise ConfigError(f"jobs={processes} and threads={threads}: give at least 1 of each")
        self.processes, self.threads, self.log, self.devices = processes, threads, log, tuple(devices)
        self._device_of: dict[int, str] = {}
        self._workers: list[subprocess.Popen[bytes]] = []
        self._idle: list[subprocess.Popen[bytes]] = []
        self._kept = False
        self._starting = threading.Lock()
        self._stopping = False

    def room(self) -> int:
        """Jobs at a time."""
        return self.processes

    def run(self, jobs: Iterable[T], report: Callable[[T, str | None], None]) -> None:
        """See ``Executor``.

        Raises:
            ConfigError: a job holds something that cannot be sent to another process.
        """
        packed = ((job, _pack(job)) for job in jobs)
        turns: AsTheyCome[tuple[T, bytes]] | LongestFirst[tuple[T, bytes]] = AsTheyCome(packed)
        if isinstance(jobs, Sequence):  # what cannot be sent is refused before the first is begun
            kinds = [(pair, getattr(pair[0], "kind", "")) for pair in packed]
            turns = LongestFirst(kinds, self.processes)
        self._stopping = False
        with sigterm_interrupts(), ThreadPoolExecutor(self.processes) as pool:
            try:
                running: dict[Future[str | None], tuple[tuple[T, bytes], float]] = {}
                while True:
                    while len(running) < self.processes and (following := turns.next()) is not None:
                        running[pool.submit(self._do, following[1])] = following, time.monotonic()
                    if not running:
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        over, began = running.pop(future)
                        turns.over(over, time.monotonic() - began)
                        report(over[0], future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                with self._starting:  # from here on no thread starts another worker
                    self._stopping = True
                self._interrupt()
                self._close()
                raise
        if not self._kept:
            self._close()

    def __enter__(self) -> LocalProcesses:
        self._kept = True
        try:
            for _ in range(self.processes):
                self._idle.append(self._start("soon"))
        except BaseException as error:  # as where there is no memory for another one
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kept = False
        if kind is not None:
            for worker in self._idle:  # they have nothing to save
                worker.kill()
        self._close()

    def _do(self, payload: bytes) -> str | None:
        """Have a free worker do a job; None or what went wrong."""
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
            self._idle.append(worker)
            answer = json.loads(line)
            error: str | None = answer["error"]
            return error if answer["suspect"] is None else Mishap(str(error), answer["suspect"])
        code = worker.wait()
        return Mishap(
            f"its process ended with code {code} (killed or out of memory?); see {self.log}", suspect=True
        )

    def _worker(self) -> subprocess.Popen[bytes]:
        worker = self._idle.pop() if self._idle else None
        return self._start() if worker is None or worker.poll() is not None else worker

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(self.threads),
            "MKL_NUM_THREADS": str(self.threads),
        }
        device = self._free_device()
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            worker = subprocess.Popen(
                python(_WORK, str(os.getpid()), *arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._workers.append(worker)
        if device is not None:
            self._device_of[worker.pid] = device
        return worker

    def _free_device(self) -> str | None:
        taken = [self._device_of[worker.pid] for worker in self._workers if worker.poll() is None and self.devices]
        return min(self.devices, key=taken.count, default=None)

    def _interrupt(self) -> None:
        """Let the runs save a checkpoint, then end them."""
        for worker in self._workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGINT)
        deadline = time.monotonic() + _GRACE_SECONDS
        for worker in self._workers:
            try:
                worker.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()

    def _close(self) -> None:
        for worker in self._workers:  # all of them first: each takes a while to end
            assert worker.stdin is not None
            worker.stdin.close()
        for worker in self._workers:
            assert worker.stdout is not None
            worker.wait()
            worker.stdout.close()
        self._workers.clear()
        self._idle.clear()


def visible_gpus() -> list[str]:
    """This machine's GPUs that a process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


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
