"""Exact resume, in one process: every mix with every schedule, and every option, stopped at random events."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import lessonplan as lp


def _steep(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Its gradients overflow in fp16 at first, until the scaler has found its scale."""
    return 10_000 * F.cross_entropy(logits, target, reduction="none")


def _rmsprop(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(parameters, lr=0.01, momentum=0.9)


def _text(value: Any) -> str:
    """An option's value in a test's name, the same in every process."""
    return getattr(value, "__name__", str(value))


MIXES = [
    "none",
    "sum:k=2",
    "sum:k=3,pairing=permute",
    "sum:k=2,coefficients=dirichlet",
    "sum:k=2,draw=mixed",
    "cascade:k=4,patience=1,shares=none",
    "cascade:k=4,patience=none",
    "cascade:k=3,patience=1,steps=decrement,draw=mixed,reset_optimizer=false,lr_at_switch=keep",
    "cascade:k=4,patience=1,shares=none,pairing=permute,layers=input/hidden",
    "gradual:k=3",
    "gradual:k=3,granularity=epoch,draw=mixed",
    "gradual:k=3,pairing=permute,layers=input/hidden",
    "mixup",
    "mixup:per_sample=true",
    "cutmix",
    "cutmix:per_sample=true",
    "cutout",
    "sample-pairing",
    "mixup|cutmix|sum:k=2",
    "mixup:p=0.5",
    "mixup:until=60%",
    "cascade:k=4,patience=1,until=80%",
    "cascade:k=4,patience=1,p=0.7",
]
SCHEDULES = ["constant", "cosine:warmup=0.2", "step", "step:at=1ep/2ep", "exponential", "stagnation:patience=4"]
OPTIONS = [
    {"precision": "fp16"},
    {"precision": "fp16", "loss": _steep, "lr": 1e-7},
    {"precision": "bf16"},
    {"ema": 0.9},
    {"ema": 0.9, "keep": "best"},
    {"clip": 0.1},
    {"keep": "best", "watch": "loss"},
    {"optimizer": "adam"},
    {"optimizer": "adamw"},
    {"optimizer": _rmsprop},
    {"loss": "sum-bce"},
    {"batch_size": 1},
    {"batch_size": 7},
    {"batch_size": "all"},
    {"evaluate_every": 2},
    {"channels_last": True, "model": "tiny", "budget": "8 steps"},
    {"budget": "3.7ep"},
    {"budget": "70 samples"},
    {"budget": "300 cost"},
]
EVENTS = ("on_epoch_start", "on_batch_start", "on_batch_end", "on_epoch_end", "on_train_end")


class Stop(lp.Callback):
    """Raises at the n-th event of a run."""

    def __init__(self, after: int) -> None:
        self.left = after
        for event in EVENTS:
            setattr(self, event, self.count)

    def count(self, trainer) -> None:
        self.left -= 1
        if self.left == 0:
            raise InterruptedError


@pytest.fixture
def resumed(quick, tmp_path):
    """A run that is stopped again and again; it also checks that it was."""

    def run(key: str, plan=None, budget="24 steps", model=lambda: "fcnet-8", **options) -> lp.Run:
        moments, stops = random.Random(key), 0
        while True:
            # 10 events are at least 2 updates: each attempt gets one checkpoint further.
            stop = Stop(moments.randint(10, 20))
            try:
                finished = quick(
                    plan,
                    budget,
                    model=model(),
                    out=tmp_path,
                    checkpoint_every="2 steps",
                    callbacks=[stop],
                    **options,
                )
            except InterruptedError:
                stops += 1
                continue
            assert stops >= 1
            assert lp.train.run_folder.read_metrics(tmp_path) == finished.history
            return finished

    return run


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("mix", MIXES)
def test_every_mix_with_every_schedule(quick, resumed, same_run, mix: str, schedule: str) -> None:
    whole = quick(mix, "24 steps", schedule=schedule, evaluate_every=1)
    same_run(whole, resumed(mix + schedule, mix, schedule=schedule, evaluate_every=1))


def test_the_stages_are_really_passed(quick) -> None:
    """The matrix means something only if its cascades switch and its mixes end within its 24 updates."""
    stages = {m: [r["mix"] for r in quick(m, "24 steps", evaluate_every=1).history] for m in MIXES if m != "none"}
    assert all(
        stages[m][-1]["k"] < stages[m][0]["k"]
        for m in MIXES
        if m.startswith(("cascade", "gradual")) and "p=0" not in m
    )
    assert not stages["mixup:until=60%"][-1]["active"]


@pytest.mark.parametrize(
    "options", OPTIONS, ids=lambda options: ",".join(f"{k}={_text(v)}" for k, v in options.items())
)
@pytest.mark.parametrize("mix", ["cascade:k=2,patience=1", "mixup"])
def test_every_option(quick, resumed, same_run, mix: str, options: dict) -> None:
    if options.get("batch_size") == 1 and mix.startswith("cascade"):
        mix = "sum:k=2,draw=mixed"
    options = {"budget": "24 steps", **options}
    model = options.pop("model", "fcnet-8")
    whole = quick(mix, model=model, **options)
    same_run(whole, resumed(mix + str(sorted(options)), mix, model=lambda: model, **options))


def test_dropout(quick, resumed, same_run, make_network) -> None:
    """A module of the user's own, which starts from other weights each time: the first ones count."""
    whole = quick("mixup", "24 steps", model=make_network(0), ema=0.9)
    seeds = iter(range(100))
    same_run(whole, resumed("dropout", "mixup", model=lambda: make_network(next(seeds)), ema=0.9))


def test_the_same_plan_and_module_object(quick, resumed, same_run, make_network) -> None:
    """In a notebook the failed cell is run again, with everything that it changed."""
    whole = quick("cascade:k=4,patience=1", "24 steps", model=make_network(0))
    plan, network = lp.Plan(mix=lp.mix.Cascade(k=4, patience=1)), make_network(0)
    same_run(whole, resumed("objects", plan, model=lambda: network))


def test_augmentation(quick, resumed, same_run, arrays) -> None:
    data = lp.data.load(arrays(20, 0), test=arrays(10, 1), val_fraction=0.2, augment="flip,crop:2")
    plain = lp.data.load(arrays(20, 0), test=arrays(10, 1), val_fraction=0.2, augment="none")
    whole = quick("cutmix", "24 steps", data=data)
    assert not torch.equal(
        whole.model.classifier.weight, quick("cutmix", "24 steps", data=plain).model.classifier.weight
    )
    same_run(whole, resumed("augment", "cutmix", data=data))


def test_a_stream_read_by_worker_processes(quick, resumed, same_run, arrays, tmp_path_factory) -> None:
    root = tmp_path_factory.mktemp("images")
    for i, (image, label) in enumerate(zip(*arrays(16, 0), strict=True)):
        (root / str(label.item())).mkdir(exist_ok=True)
        Image.fromarray(image.numpy()).save(root / str(label.item()) / f"{i}.png")
    data = lp.data.load(f"folder:{root}", val_fraction=0.2, memory_limit=0, workers=1, augment="crop:1")
    assert not data.train.source.in_memory
    whole = quick("mixup|sum:k=2", "12 steps", data=data, batch_size=4)
    same_run(whole, resumed("stream", "mixup|sum:k=2", "12 steps", data=data, batch_size=4))


def test_no_validation_and_no_test_data(quick, resumed, same_run, data) -> None:
    data = dataclasses.replace(data, val=None, test=None)
    whole = quick("cascade:k=4", "24 steps", data=data)
    assert "val" not in whole.result
    assert "test" not in whole.result
    same_run(whole, resumed("bare", "cascade:k=4", data=data))


def test_a_stop_by_a_callback(quick, resumed, same_run, hook, tmp_path) -> None:
    """Stopped for good, then killed before the result was written: it stays stopped."""

    def enough(trainer) -> None:
        if trainer.counters.steps == 10:
            trainer.state.stop_reason = "enough"

    whole = quick(None, "24 steps", callbacks=[hook(on_batch_end=enough)])
    quick(None, "24 steps", callbacks=[hook(on_batch_end=enough)], out=tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    again = quick(None, "24 steps", out=tmp_path / "run")
    assert again.result["stopped"] == "enough"
    same_run(whole, again)
