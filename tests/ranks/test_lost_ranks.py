"""A rank that dies or hangs ends the others within 30 seconds, and they say which one it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ranks.together import free_port

SECONDS = 30
TRAIN = [
    "-m", "lessonplan", "train", "--data", "digits", "--model", "fcnet-8", "--budget", "10h", "--device", "cpu",
    "--checkpoint-every", "20 steps",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "more"), [(0, []), (1, []), (1, ["--shard"])])
def test_killed_under_torchrun(tmp_path: Path, rank: int, more: list[str]) -> None:
    out = tmp_path / "run"
    started = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    torchrun = _start([*started, *TRAIN, *more, "--out", str(out)], {})
    try:
        _wait_for_training(out, [torchrun])
        ranks = {int(child.environ()["RANK"]): child for child in psutil.Process(torchrun.pid).children()}
        ranks[rank].send_signal(signal.SIGKILL)
        began = time.monotonic()
        _, said = torchrun.communicate(timeout=2 * SECONDS)
        assert time.monotonic() - began < SECONDS
    finally:
        _end([torchrun])
    assert torchrun.returncode == 1
    assert f"rank {1 - rank}: rank {rank} of 2 (process {ranks[rank].pid} on " in said, said
    assert "start all of them again with the same command" in said
    assert not [child for child in ranks.values() if child.is_running()]


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_nobody_is_left_when_torchrun_is_killed(tmp_path: Path, training: bool) -> None:
    out = tmp_path / "run"
    started = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    torchrun = _start([*started, *TRAIN, "--out", str(out)], {})
    ranks: list[psutil.Process] = []
    try:
        if training:
            _wait_for_training(out, [torchrun])
        until = time.monotonic() + 300
        while len(ranks) < 2 or not all("lessonplan" in " ".join(rank.cmdline()) for rank in ranks):
            assert time.monotonic() < until, "no rank was started"
            time.sleep(0.05)
            ranks = psutil.Process(torchrun.pid).children()
        if not training:
            time.sleep(1)  # Python has begun, PyTorch is being imported
        torchrun.kill()
        _, left = psutil.wait_procs(ranks, timeout=SECONDS)
        assert not left
    finally:
        torchrun.kill()
        torchrun.communicate()
        for rank in ranks:
            if rank.is_running():
                rank.kill()


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "number"), [(0, signal.SIGKILL), (1, signal.SIGKILL), (1, signal.SIGSTOP)])
def test_killed_or_stopped_with_nobody_above(tmp_path: Path, rank: int, number: int) -> None:
    out, port = tmp_path / "run", str(free_port())
    ranks = [
        _start(
            [*TRAIN, "--out", str(out)],
            {
                "RANK": str(r),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "LOCAL_RANK": "0",
            },
        )
        for r in range(2)
    ]
    other = ranks[1 - rank]
    try:
        _wait_for_training(out, ranks)
        ranks[rank].send_signal(number)
        began = time.monotonic()
        _, said = other.communicate(timeout=2 * SECONDS)
        assert time.monotonic() - began < SECONDS
    finally:
        _end(ranks)
    assert other.returncode == 1
    assert f"rank {1 - rank}: rank {rank} of 2 (process {ranks[rank].pid} on " in said, said


def _start(arguments: list[str], more: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **more},
    )


def _wait_for_training(out: Path, processes: list[subprocess.Popen[str]]) -> None:
    """Until some updates have been made on all ranks: a checkpoint behind the first one is there."""
    until = time.monotonic() + 300
    while len(list(out.glob("checkpoints/step-*[1-9]?.ckpt"))) == 0:
        ended = [process for process in processes if process.poll() is not None]
        assert not ended, ended[0].communicate()[1]
        assert time.monotonic() < until, "training has not begun"
        time.sleep(0.2)


def _end(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.communicate()
