"""Processes for the tests to kill: each trains several runs one after the other.

``train_until_killed.py DATA.npz OUT RUN,RUN,...`` trains until the end. With a number and a seed as well it forks
that many processes, which train, kills each at a random moment, and says how many were killed before all was done.
Forked, a process need not import PyTorch again.
"""

from __future__ import annotations

import importlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

RUNS: dict[str, dict[str, Any]] = {
    "cascade": {"plan": "cascade:k=4,patience=1", "schedule": "stagnation:patience=20", "ema": 0.9},
    "gradual": {"plan": "gradual:k=4", "schedule": "step", "keep": "best"},
    "choice": {
        "plan": "mixup|cutmix|sum:k=2",
        "schedule": "exponential",
        "optimizer": "adamw",
        "precision": "bf16",
    },
    "until": {"plan": "mixup:p=0.5,until=80%", "schedule": "cosine", "clip": 0.5, "model": "fcnet-32"},
    "empty": {"plan": "erm", "schedule": "constant", "precision": "fp16"},
    "permuted": {"plan": "sum:k=3,pairing=permute,coefficients=dirichlet", "loss": "sum-bce"},
}


def train(data: Any, out: str, names: list[str], ready: Callable[[], None] = lambda: None) -> None:
    """Train all runs; ``ready`` is called at each one's start."""
    from lessonplan.train import Callback, fit

    callback = Callback()
    callback.on_train_start = lambda trainer: ready()
    for name in names:
        options = {"model": "fcnet-16", **RUNS[name]}
        fit(
            options.pop("model"),
            data,
            options.pop("plan"),
            "200 steps",
            out=Path(out) / name,
            batch_size=10,
            checkpoint_every="3 steps",
            threads=1,
            callbacks=[callback],
            **options,
        )


def train_and_kill(data: Any, out: str, names: list[str], kills: int, seed: int) -> int:
    """How many processes were killed before they were done."""
    # What training imports, here and not in each process again; the second by the first update of an optimizer.
    importlib.import_module("lessonplan.train")
    importlib.import_module("torch._dynamo")
    moments = random.Random(seed)
    for done in range(kills):
        listen, tell = os.pipe()
        child = os.fork()
        if child == 0:
            train(data, out, names, ready=lambda: os.write(tell, b"."))  # noqa: B023
            os._exit(0)
        os.close(tell)
        if moments.random() < 0.8:  # the others are killed before or while they find out where they were
            os.read(listen, 1)
        _work(psutil.Process(child), moments.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        os.close(listen)
        if not os.WIFSIGNALED(status):
            return done
    return kills


def _work(process: psutil.Process, seconds: float) -> None:
    """Wait until it has had a processor for so long: on a busy machine that is later."""
    begun, give_up = sum(process.cpu_times()[:2]), time.monotonic() + 20
    time.sleep(seconds)
    while (
        process.status() != psutil.STATUS_ZOMBIE
        and sum(process.cpu_times()[:2]) - begun < seconds
        and time.monotonic() < give_up
    ):
        time.sleep(0.002)


def main(npz: str, out: str, names: str, kills: str = "0", seed: str = "0") -> None:
    import lessonplan as lp

    data = lp.data.load(f"npz:{npz}", per_class=10, val_fraction=0.2)
    if int(kills):
        print(train_and_kill(data, out, names.split(","), int(kills), int(seed)))
    else:
        train(data, out, names.split(","))


if __name__ == "__main__":
    main(*sys.argv[1:])
