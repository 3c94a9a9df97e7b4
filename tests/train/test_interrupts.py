from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lessonplan.cli import main
from lessonplan.train.interrupt import GracefulInterrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 6, 11, 12])
def test_ctrl_c_saves_and_resumes(quick, hook, same_run, tmp_path, number: int, step: int) -> None:
    """Also at an epoch's last batch (6) and at the run's last one (12)."""

    def press(trainer) -> None:
        if trainer.counters.steps == step:
            os.kill(os.getpid(), number)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        quick("cascade:k=2,patience=1", out=tmp_path, callbacks=[hook(on_batch_end=press)])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert not (tmp_path / "result.json").exists()
    resumed: list[int] = []
    run = quick(
        "cascade:k=2,patience=1",
        out=tmp_path,
        callbacks=[hook(on_train_start=lambda trainer: resumed.append(trainer.counters.steps))],
    )
    assert resumed == [step]
    same_run(quick("cascade:k=2,patience=1"), run)


def test_a_long_batch_is_left_within_a_second() -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), GracefulInterrupt():
        _press_and_sleep(presses=1)
    assert 0.9 < time.monotonic() - started < 2


def test_a_second_press_interrupts_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), GracefulInterrupt():
        _press_and_sleep(presses=2)
    assert time.monotonic() - started < 0.9


def _press_and_sleep(presses: int) -> None:
    for _ in range(presses):
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)


@pytest.mark.slow
def test_the_command_line_exits_within_two_seconds_and_resumes(outcome, tmp_path: Path) -> None:
    """Ctrl-C in a terminal: a real process, whose whole group gets the signal; then the same command again."""

    def command(out: str) -> list[str]:
        options = ["--data", "digits", "--per-class", "10", "--model", "fcnet-16", "--batch-size", "10"]
        return ["train", *options, "--threads", "1", "--budget", "1500 steps", "--out", str(tmp_path / out)]

    process = subprocess.Popen(
        [sys.executable, "-m", "lessonplan", *command("run")],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    pressed = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert time.monotonic() - pressed < 2
    assert process.returncode == 130
    assert said.splitlines()[-1] == "lessonplan: stopped; run the same command again to go on"
    assert "Traceback" not in said
    assert list((tmp_path / "run" / "checkpoints").iterdir())
    assert not (tmp_path / "run" / "result.json").exists()
    for out in ("run", "whole"):
        with pytest.raises(SystemExit) as exited:
            main(command(out))
        assert exited.value.code == 0
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
