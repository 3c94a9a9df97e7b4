"""Runs as tasks of Ray."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from lessonplan.errors import ConfigError, LessonplanWarning, first_line
from lessonplan.lab.elsewhere import absolute, at_least, attempt_after_the_dead, load_package, outcome
from lessonplan.lab.executor import T

CONNECT_SECONDS = 5.0
"""For a machine to answer at all."""
ANSWER_SECONDS = 18.0
"""For Ray to answer there, the former included."""
_GRACE_SECONDS = 3.0
_PORT = 6379


class RayExecutor:
    """Jobs as Ray tasks, placed by what they need; those whose worker or machine died are done again.

    A run that was begun goes on from its newest checkpoint, so all machines must see the comparison's folder.

    Args:
        cpus: cores that Ray keeps for a run, above 0.
        gpus: GPUs that it keeps for a run, 0 or more; below 1, runs share one.
        memory: in GiB that it keeps for a run; None is none.
        address: ``HOST:PORT`` of the cluster's head, ``ray://HOST:PORT`` of its client server, or ``auto`` for the
            one that runs on this machine. None: as ``RAY_ADDRESS`` says, else the one on this machine, which is
            begun if there is none.
        retries: how often a run is begun again whose worker died, 0 or more.
        at_once: runs at a time; None lets Ray decide.

    Raises:
        ConfigError: a value cannot be used, Ray is missing, or nothing answers at the address.
    """

    def __init__(
        self,
        cpus: float = 1,
        gpus: float = 0,
        memory: float | None = None,
        address: str | None = None,
        retries: int = 3,
        at_once: int | None = None,
    ) -> None:
        if not 0 < cpus < float("inf"):
            raise ConfigError(f"ray:cpus={cpus:g}: give the cores of a run, above 0")
        at_least("ray:gpus", gpus, 0)
        at_least("ray:retries", retries, 0)
        self._address = address or os.environ.get("RAY_ADDRESS") or None
        if self._address is not None:
            check_address(self._address)
        self._ray = load_package("ray", "ray")
        self._needs: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": retries}
        if memory is not None:
            self._needs["memory"] = round(memory * 2**30)
        self._at_once = at_once

    def run(self, jobs: Iterable[T], report: Callable[[T, str | None], None]) -> None:
        """See ``Executor``.

        Raises:
            ConfigError: nothing answers at the address.
        """
        ray = self._ray
        connect(ray, self._address)
        self._warn_of_room()
        task = ray.remote(**self._needs)(attempt_after_the_dead)
        coming: Iterator[T] = iter(jobs)
        # What is known from the start waits in Ray, which may start machines for it.
        at_once = self._at_once if isinstance(jobs, Sequence) else self.room()
        running: dict[Any, T] = {}
        try:
            while True:
                room = None if at_once is None else at_once - len(running)
                for job in islice(coming, room):
                    running[task.remote(absolute(job))] = job
                if not running:
                    return
                over, _ = ray.wait(list(running), num_returns=1)
                for reference in over:
                    report(running.pop(reference), outcome(partial(ray.get, reference)))
        except BaseException:
            for reference in running:  # as Ctrl-C: a checkpoint is saved
                ray.cancel(reference)
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=_GRACE_SECONDS)
            raise

    def reach(self) -> None:
        """Join the cluster, before anything is written.

        Raises:
            ConfigError: nothing answers at the address.
        """
        connect(self._ray, self._address)

    def room(self) -> int:
        """Runs at a time: as many as were asked for, or as the cluster's machines can hold together, at least 1.

        Raises:
            ConfigError: nothing answers at the address.
        """
        if self._at_once is not None:
            return self._at_once
        connect(self._ray, self._address)
        needs = {kind: least for kind, least in self._kinds().items() if least > 0}
        there = [node["Resources"] for node in self._ray.nodes() if node.get("Alive")]
        return max(1, sum(int(min(node.get(kind, 0) / least for kind, least in needs.items())) for node in there))

    def _kinds(self) -> dict[str, float]:
        """What a run needs, as Ray names what machines have (memory in bytes)."""
        kinds = {"CPU": self._needs["num_cpus"], "GPU": self._needs["num_gpus"]}
        return kinds | {"memory": self._needs["memory"]} if "memory" in self._needs else kinds

    def _warn_of_room(self) -> None:
        """Ray waits in silence for a machine that can hold a run: none may ever come."""
        wanted = self._kinds()
        there = [node["Resources"] for node in self._ray.nodes() if node.get("Alive")]
        if there and not any(all(node.get(kind, 0) >= least for kind, least in wanted.items()) for node in there):
            most = ", ".join(_counted(max(node.get(kind, 0) for node in there), kind) for kind in wanted)
            asked = " and ".join(_counted(least, kind) for kind, least in wanted.items())
            warnings.warn(
                f"no machine of the Ray cluster has {asked} (at most {most}): runs wait until one joins that has;"
                " give smaller cpus=, gpus= and memory= in --run-on ray:...",
                LessonplanWarning,
                stacklevel=3,
            )


def _counted(number: float, kind: str) -> str:
    if kind == "memory":
        return f"{number / 2**30:.3g} GiB of memory"
    return f"{number:g} {kind}{'' if number == 1 else 's'}"


def check_address(address: str) -> None:
    """Refuse an address where nothing listens, within seconds: Ray itself would try for minutes.

    Raises:
        ConfigError: it is no address, or nothing listens there.
    """
    if address in ("auto", "local"):
        return
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None:
        raise ConfigError(f"ray:address={address!r} is no address: write HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from None


def connect(ray: Any, address: str | None) -> None:
    """Join the cluster, unless this process has.

    Raises:
        ConfigError: it does not answer in time, or refuses.
    """
    if ray.is_initialized():
        return
    failed: list[BaseException] = []

    def join() -> None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except BaseException as error:
            failed.append(error)

    if address is None:  # this machine's own, which may have to be begun: that takes what it takes
        join()
    else:
        began = time.monotonic()
        joining = threading.Thread(target=join, daemon=True)
        joining.start()
        joining.join(ANSWER_SECONDS - CONNECT_SECONDS)
        if joining.is_alive():
            raise _silent(address, time.monotonic() - began)
    if failed:
        where = "this machine" if address in (None, "auto") else str(address)
        raise _unreachable(where, first_line(str(failed[0])))


def _silent(address: str, seconds: float) -> ConfigError:
    """Something listens there, which may be what was left of a cluster, be busy, or want a token."""
    if address == "auto":
        return ConfigError(
            f"no Ray cluster of this machine answered in {seconds:.0f} seconds: start one with 'ray start --head"
            f" --port={_PORT}' (after 'ray stop' if one was killed), or leave the address out"
        )
    return ConfigError(
        f"something listens at {address}, but Ray did not answer there in {seconds:.0f} seconds: try again if its"
        " machine is busy, and set RAY_AUTH_MODE=token if the cluster wants a token (its log is"
        " /tmp/ray/session_latest/logs there)"
    )


def _unreachable(address: str, why: str) -> ConfigError:
    port = address.rpartition(":")[2] if address.rpartition(":")[2].isdigit() else str(_PORT)
    start = f"ray start --head --port={_PORT if address.startswith('ray://') else port}"
    return ConfigError(
        f"no Ray cluster answers at {address} ({why}): start one there with '{start}', or leave the address out"
        " for Ray on this machine"
    )
