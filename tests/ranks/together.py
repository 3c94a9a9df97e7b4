"""Functions of tests that run on two ranks, each a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

_SECONDS = 300


class Raised(AssertionError):
    """What a rank has raised, in words."""


def on_ranks(work: Callable[..., Any], *arguments: Any, count: int = 2, fails: bool = False) -> list[Any]:
    """What ``work(*arguments)`` gives on each rank of a gloo group.

    Args:
        work: a function of a module; it asks ``torch.distributed`` for its rank.
        arguments: what can be pickled.
        count: how many ranks.
        fails: give what was raised too, as it is, instead of raising it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lessonplan.train", "lessonplan.lab", "ranks.cases"])
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        processes = [
            context.Process(target=_one, args=(rank, count, port, folder, work, arguments))
            for rank in range(count)
        ]
        for process in processes:
            process.start()
        until = time.monotonic() + _SECONDS
        for process in processes:
            process.join(max(0.1, until - time.monotonic()))
        for process in processes:
            if process.is_alive():
                process.kill()
        given = [_given(Path(folder) / str(rank)) for rank in range(count)]
    for rank, (gave, raised, told) in enumerate(given):
        if raised is not None and not fails:
            raise Raised(f"rank {rank}: {told}")
        if raised is not None:
            given[rank] = (raised, None, "")
        del gave
    return [gave for gave, _, _ in given]


def _given(file: Path) -> tuple[Any, BaseException | None, str]:
    if not file.exists():
        return None, Raised("it ended without a word"), "it ended without a word"
    found: tuple[Any, BaseException | None, str] = pickle.loads(file.read_bytes())
    return found


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def _one(
    rank: int, count: int, port: int, folder: str, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ.pop("WORLD_SIZE", None)
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=count,
        timeout=timedelta(seconds=_SECONDS),
    )
    gave, raised, told = None, None, ""
    try:
        gave = work(*arguments)
    except Exception as error:
        error.__cause__ = error.__context__ = None
        raised, told = error, traceback.format_exc()
    file = Path(folder) / f"{rank}.part"
    file.write_bytes(pickle.dumps((gave, raised, told)))
    file.replace(Path(folder) / str(rank))
    if raised is None:
        dist.destroy_process_group()
    else:
        os._exit(1)
