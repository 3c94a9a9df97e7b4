"""Processes that are killed, told to end, or left behind by those that started them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from lessonplan import cli
from lessonplan.errors import DataError, RunFailed
from lessonplan.lab.ordering import search_orderings
from lessonplan.lab.ordering.job import TreeJob
from lessonplan.report.render import page_text
from lessonplan.signals import no_interrupt_lost, sigterm_interrupts

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are stopped by POSIX signals")


def _heed_signals() -> None:
    """A shell's background jobs ignore Ctrl-C, and so would all that these tests start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait_for(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


PARENT = """
import subprocess, sys, time
from lessonplan.lab.executor import LocalProcesses
from lessonplan.lab import executor
slow = "import time; time.sleep(60); from lessonplan.lab.worker"
executor._WORK = executor._WORK.replace("from lessonplan.lab.worker", slow)
pool = LocalProcesses(1, 1, __import__("pathlib").Path(sys.argv[1]))
worker = pool._worker()
print(worker.pid, flush=True)
time.sleep(60)
"""


def test_a_worker_whose_parent_is_killed_while_it_imports_leaves(tmp_path: Path) -> None:
    """Before, it trained on, held its run's folder, and the next command was refused it."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "log")], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    assert _wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 30)


WATCHED = "import os, time; from lessonplan.watch import leave_with; leave_with({}); time.sleep({})"


def test_leave_with() -> None:
    """With a parent that is gone already at once; with one that is there not at all."""
    gone = subprocess.run([sys.executable, "-c", WATCHED.format(2**22 + 1, 60)], timeout=30, check=False)
    assert gone.returncode == 1
    kept = subprocess.run([sys.executable, "-c", WATCHED.format(os.getpid(), 0.5)], timeout=30, check=False)
    assert kept.returncode == 0


HOLDER = """
import os, sys, time
from pathlib import Path
from lessonplan.lock import sole_user
with sole_user(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        time.sleep(60)
    print(child, flush=True)
    time.sleep(60)
"""


def test_a_lock_dies_with_its_owner_though_a_forked_reader_lives(tmp_path: Path) -> None:
    from lessonplan.errors import ConfigError
    from lessonplan.lock import sole_user

    owner = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    child = psutil.Process(int(owner.stdout.readline()))
    try:
        owner.kill()
        owner.wait()
        owner.stdout.close()
        assert child.is_running()
        deadline = time.monotonic() + 10  # a child that has only just been forked may not have let go yet
        while True:
            try:
                with sole_user(tmp_path):
                    break
            except ConfigError:
                assert time.monotonic() < deadline, "the child keeps its parent's lock"
                time.sleep(0.05)
        assert child.is_running()
    finally:
        child.kill()


def test_a_forked_process_does_not_unlock_its_parents_folder(tmp_path: Path) -> None:
    from lessonplan.errors import ConfigError
    from lessonplan.lock import sole_user

    with sole_user(tmp_path):
        child = os.fork()
        if child == 0:
            try:
                raise RuntimeError("out of the block")
            except RuntimeError:
                os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(ConfigError, match="another process"), sole_user(tmp_path):
            pass


def test_sigterm_is_as_ctrl_c_inside_and_as_before_behind() -> None:
    def asked_to_end() -> None:
        with sigterm_interrupts():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        asked_to_end()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:  # somebody else has plans for it
        with sigterm_interrupts():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, previous)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_a_library_takes_for_an_error_is_one(tmp_path: Path, number: int) -> None:
    """Matplotlib's C code calls Python back, and tells of a wrong matrix where that raised."""

    def drawn() -> dict[str, Any]:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except KeyboardInterrupt:
            raise ValueError("Invalid affine transformation matrix") from None
        return {}

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
        page_text(tmp_path, "run.html", drawn)
    assert signal.getsignal(signal.SIGINT) is before
    with sigterm_interrupts(), pytest.raises(DataError, match="cannot be shown"):  # an error of its own stays one
        page_text(tmp_path, "run.html", lambda: {"run": float("matrix")})


def test_an_interrupt_that_a_library_swallows_comes_behind_it() -> None:
    done = []

    def swallowed() -> None:
        with no_interrupt_lost():
            with suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
            done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        swallowed()
    assert done


@pytest.mark.slow
@pytest.mark.parametrize("command", ["compare", "order"])
def test_sigterm_saves_and_the_same_command_goes_on(tmp_path: Path, command: str) -> None:
    """Before, the parent died at once and its workers without a checkpoint."""
    out = tmp_path / "out"
    words = {
        "compare": ["--methods", "erm,mixup", "--model", "fcnet-16", "--seeds", "1", "--jobs", "2",
                    "--checkpoint-every", "10min", "--budget", "1G samples"],
        "order": ["--data", "digits", "--per-class", "4", "--classes", "0,1", "--batch", "2", "--epochs", "400",
                  "--jobs", "2", "--max-permutations", "24", "--survivors", "4", "--evaluate", "64"],
    }[command]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "lessonplan", command, *words, "--out", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_signals,
    )  # fmt: skip

    def begun() -> bool:
        if command == "order":
            return (out / "ordering.json").exists()  # the last thing of an epoch
        files = list(out.glob("runs/*/metrics.jsonl"))
        return len(files) == 2 and all(file.stat().st_size for file in files)

    assert _wait_for(lambda: begun() or process.poll() is not None, 120)
    assert process.poll() is None, process.communicate()
    workers = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "lessonplan: stopped; run the same command again to go on\n")
    assert not any(worker.is_running() for worker in workers)
    if command == "compare":
        steps = [int(file.stem.removeprefix("step-")) for file in out.glob("runs/*/checkpoints/*.ckpt")]
        assert sum(step > 0 for step in steps) == 2
    else:
        assert json.loads((out / "ordering.json").read_text())["runs"] > 0


def test_trees_that_fail_are_no_mistake_of_the_users(tmp_path, monkeypatch, capsys) -> None:
    """Exit code 1, as for runs of a comparison; what is finished is kept."""
    monkeypatch.setattr(TreeJob, "do", lambda self: (_ for _ in ()).throw(OSError("its process was killed")))
    options = {"per_class": 2, "batch_size": 2, "classes": ("0", "1"), "evaluate": 16, "survivors": 2}
    with pytest.raises(RunFailed, match="trees failed"):
        search_orderings("digits", out=tmp_path / "a", epochs=1, model="fcnet-4", jobs=1, **options)
    words = "--data digits --per-class 2 --batch 2 --classes 0,1 --evaluate 16 --survivors 2 --epochs 1"
    with pytest.raises(SystemExit) as ended:
        cli.main(["order", *words.split(), "--model", "fcnet-4", "--jobs", "1", "--out", str(tmp_path / "b")])
    assert ended.value.code == cli.FAILED == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), 1),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"), 1),
        (PermissionError(13, "Permission denied", "/there"), 2),
    ],
)
def test_what_a_machine_refuses_is_one_line(monkeypatch, said, tmp_path, error: Exception, code: int) -> None:
    monkeypatch.setattr("lessonplan.train.fit", lambda *_, **__: (_ for _ in ()).throw(error))
    found, errors = said("train", "--out", tmp_path / "run", "--budget", "1 steps")
    assert (found, errors.count("\n")) == (code, 1)
    assert ("/there: Permission denied" in errors) == (code == 2)
    monkeypatch.setattr("lessonplan.train.fit", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # a mistake of ours is shown whole
        cli.main(["train", "--out", str(tmp_path / "run")])


def test_memory_that_is_really_short(tmp_path: Path) -> None:
    """The allocator's own error, as PyTorch raises it."""
    import torch

    from lessonplan.errors import out_of_memory

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.uint8)
    assert out_of_memory(caught.value)
