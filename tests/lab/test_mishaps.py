"""Which failures are the machine's and not the task's own, here and in other processes."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
import torch

from lessonplan.errors import ConfigError
from lessonplan.files import disk_error
from lessonplan.lab.executor import InProcess, LocalProcesses
from lessonplan.lab.task import Mishap, reason
from lessonplan.lease import FolderHeld

FULL = disk_error(Path("runs/a"), OSError(errno.ENOSPC, "No space left on device"))
NO_THREAD = RuntimeError("can't start new thread")


@pytest.mark.parametrize(
    ("error", "suspect"),
    [
        (FULL, False),
        (FolderHeld(Path("a"), None), False),
        (MemoryError(), True),
        (NO_THREAD, True),
        (ImportError("x.so: failed to map segment from shared object"), True),
        (ImportError("No module named 'optuna'"), None),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), None),  # no other has that memory
        (ConfigError("mix=nothing"), None),
        (RuntimeError("shapes differ"), None),
    ],
)
def test_the_machine_is_to_blame_for(error: Exception, suspect: bool | None) -> None:
    said = reason(error)
    assert (said.suspect if isinstance(said, Mishap) else None) == suspect
    copied = pickle.loads(pickle.dumps(said))
    assert (type(copied), copied, vars(copied) if suspect is not None else {}) == (
        type(said),
        said,
        {"suspect": suspect} if suspect is not None else {},
    )


class Refused:
    """A task that the disk does not take."""

    label = "refused"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def do(self) -> None:
        raise disk_error(self.folder, OSError(errno.ENOSPC, "No space left on device"))


def test_an_executor_in_this_process_says_so(tmp_path: Path) -> None:
    found: list[str | None] = []
    InProcess().run([Refused(tmp_path)], lambda job, error: found.append(error))
    assert [error.suspect for error in found if isinstance(error, Mishap)] == [False]


@pytest.mark.slow
def test_other_processes_say_so(tmp_path: Path) -> None:
    found: list[str | None] = []
    LocalProcesses(1, 1, tmp_path / "log.txt").run([Refused(tmp_path)], lambda job, error: found.append(error))
    assert [error.suspect for error in found if isinstance(error, Mishap)] == [False]
