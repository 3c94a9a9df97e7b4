"""Runs on the device end with the weights of runs on the CPU, whatever they are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import lessonplan as lp
from lessonplan.mix.text import MIXES as REGISTERED_MIXES
from lessonplan.models import model_names
from lessonplan.order.lookahead.table import METHODS
from lessonplan.order.text import ORDERS as REGISTERED_ORDERS
from lessonplan.select.text import PARTS as REGISTERED_PARTS
from test_same_weights import MIXES, ORDERS, RUNS, SELECTIONS, weights_of


def close(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    """Equal but for how sums are put together: scores are computed in other chunks on an accelerator."""
    return all(torch.allclose(x.cpu(), y.cpu(), rtol=1e-4, atol=1e-5) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("plan", "settings"), RUNS, ids=[f"{plan} ({settings})" for plan, settings in RUNS])
def test_weights_are_those_of_the_cpu(plan: str, settings: str, device: str) -> None:
    there = weights_of(plan, settings, device)
    assert there[0].device.type == device
    if "fp16" in settings:  # which the CPU computes in another way
        assert all(t.isfinite().all() for t in there)
    else:
        assert close(there, weights_of(plan, settings))


@pytest.mark.parametrize("plan", ["puzzle:borders=whole", "puzzle:moves=whole"])
def test_the_whole_objectives_of_a_puzzle(plan: str, device: str) -> None:
    """One adds up costs where the images are, the other solves on the CPU and brings the moves back."""
    assert close(weights_of(plan, "plain", device), weights_of(plan, "plain"))


def test_all_that_is_registered_takes_part() -> None:
    """A new mix, selection, order or look-ahead has to come by here."""
    for names, tried in (
        (REGISTERED_MIXES, MIXES),
        (set(REGISTERED_PARTS) - {"rho-loss"}, SELECTIONS),  # which has a test of its own
        (set(REGISTERED_ORDERS) - {"teacher"}, ORDERS),  # as has this
        (set(METHODS) - {"exact", "stacked"}, ORDERS),
    ):
        missing = [name for name in names if not any(name in text for text in tried)]
        assert not missing


@pytest.mark.parametrize("plan", ["select:rho-loss:0.5,holdout=RUN", "order:teacher:RUN,k=3"])
def test_plans_that_ask_another_network(plan: str, device: str, tmp_path: Path) -> None:
    data = lp.data.load("digits", per_class=12, device=device)
    lp.fit("tiny", data, "none", "4 steps", batch_size=16, threads=1, out=tmp_path / "run")
    run = lp.fit("tiny", data, plan.replace("RUN", str(tmp_path / "run")), "4 steps", batch_size=8, threads=1)
    assert run.result["steps"] == 4


MODELS = [name for name in model_names() if not name.startswith(("vgg", "dla", "timm"))]
SMALLER = {"wrn-28-10": "wrn-10-1", "densenet-bc-100-12": "densenet-bc-10-4", "fcnet-100": "fcnet-16"}


@pytest.mark.parametrize("plan", ["none", "manifold", "puzzle"])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_with_the_mixes_that_look_into_it(model: str, plan: str, device: str) -> None:
    if model.startswith("fcnet") and plan == "puzzle":
        plan = "mixup"
    x = torch.randint(0, 256, (12, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    data = lp.data.load((x, torch.arange(12) % 3), test=(x[:3], torch.arange(3)), val_fraction=0, device=device)
    run = lp.fit(SMALLER.get(model, model), data, plan, "2 steps", batch_size=4, threads=1)
    assert all(p.device.type == device and p.isfinite().all() for p in run.model.parameters())


@pytest.mark.parametrize("mix", ["none", "mixup"])
def test_stacked_look_ahead(mix: str, device: str) -> None:
    found = []
    for where in ("cpu", device):
        data = lp.data.load("digits", per_class=10, val_fraction=0.2, device=where)
        plan = f"order:loss-delta:candidates=3,on=external,external=16,method=stacked + {mix}"
        run = lp.fit("fcnet-16", data, plan, "6 steps", batch_size=8, threads=1, device=where)
        found.append(list(run.model.parameters()))
    assert close(*found)


RESUMED = [
    ("mixup", {}),
    ("cascade:k=3,patience=1", {"evaluate_every": 1}),
    ("puzzle", {}),
    ("manifold", {"ema": 0.9, "keep": "best", "evaluate_every": 1}),
    ("select:accuracy", {}),
    ("select:infobatch >> epochwise", {}),
    ("select:recency-bias", {}),
    ("order:loss-delta:candidates=3", {}),
    ("order:loss-delta:candidates=3,on=external,external=8,method=kept-gradients", {}),
    ("order:loss-delta:candidates=2,on=external,external=8,method=per-sample", {}),
    ("select:topk:0.5 + order:multi-attempt:k=3 + mixup", {"precision": "fp16"}),
    ("none", {"precision": "fp16", "clip": 0.1, "optimizer": "adam"}),
    ("none", {"precision": "bf16", "channels_last": True}),
]


class Stop(lp.Callback):
    """Ends a run in the middle of an epoch."""

    def on_batch_end(self, trainer: lp.train.Trainer) -> None:
        if trainer.counters.steps == 7:
            raise InterruptedError


@pytest.mark.parametrize(("plan", "settings"), RESUMED, ids=[f"{plan} {settings}" for plan, settings in RESUMED])
def test_resumed_bit_for_bit(plan: str, settings: dict[str, Any], device: str, tmp_path: Path) -> None:
    def run(**more: Any) -> lp.Run:
        data = lp.data.load("digits", per_class=10, val_fraction=0.2, device=device)
        model = "tiny" if "select" in plan else "wrn-10-1:dropout=0.3"
        chosen = {"batch_size": 8, "threads": 1, "checkpoint_every": "3 steps", **settings, **more}
        return lp.fit(model, data, plan, "16 steps", **chosen)

    whole = run(out=tmp_path / "whole")
    with pytest.raises(InterruptedError):
        run(out=tmp_path / "parts", callbacks=[Stop()])
    resumed = run(out=tmp_path / "parts")
    for a, b in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole.history, resumed.history, strict=True):
        a, b = ({k: v for k, v in record.items() if k != "system"} for record in (a, b))
        assert a == b
    finished = run(out=tmp_path / "parts")
    assert next(finished.model.parameters()).device.type == device


def test_runs_on_the_second_of_two(device: str) -> None:
    data = lp.data.load("digits", per_class=10, val_fraction=0.2)
    look = "order:loss-delta:candidates=3,method=first-order,on=external"
    for plan in ("puzzle", "select:accuracy + manifold", look):
        run = lp.fit("tiny", data, plan, "4 steps", batch_size=8, threads=1, device=f"{device}:1")
        assert {p.device for p in run.model.parameters()} == {torch.device(device, 1)}


def test_auto_is_the_device_and_data_follow(device: str) -> None:
    data = lp.data.load("digits", per_class=10)
    run = lp.fit("tiny", data, None, "2 steps", batch_size=8)
    assert next(run.model.parameters()).device.type == device
    assert data.train.device.type == "cpu", "the caller's own data stay where they are"


def test_files_are_read_ahead_for_the_device(device: str, tmp_path: Path) -> None:
    from PIL import Image

    for place in range(24):
        folder = tmp_path / f"class{place % 2}"
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (40, 32), (place * 10, 255 - place * 10, 128)).save(folder / f"{place}.png")
    found = []
    for workers in (0, 2):
        data = lp.data.load(
            f"folder:{tmp_path}", image_size=16, workers=workers, memory_limit=0, test_fraction=0.2, device=device
        )
        run = lp.fit("tiny", data, "mixup", "6 steps", batch_size=4, threads=1)
        found.append(list(run.model.parameters()))
        data.close()
    assert close(*found)
