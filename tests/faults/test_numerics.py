"""Odd numbers of samples, classes, labels and pixels: each works, or says why not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import lessonplan as lp
from lessonplan.errors import LessonplanError
from lessonplan.train import fit

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 8, 8)).astype(np.uint8)
LABELS = np.arange(40) % 2
WORKS = {"budget": "6 steps", "threads": 1, "batch_size": 8}


def _finite(run: Any) -> None:
    assert all(torch.isfinite(p).all() for p in run.model.parameters())
    assert math.isfinite(run.result["param_norm"])


@pytest.mark.parametrize(
    "kind", ["int8", "int16", "int32", "int64", "uint8", "uint64", "bool", "float16", "float64"]
)
def test_labels_of_every_kind(kind: str) -> None:
    """The same classes, whatever they are written as."""
    data = lp.data.load((PIXELS, LABELS.astype(kind)), test_fraction=0)
    assert data.train.labels.tolist() == LABELS.tolist()
    assert torch.equal(data.train.labels, lp.data.load((PIXELS, LABELS), test_fraction=0).train.labels)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("layout", ["contiguous", "strided", "fortran", "reversed", "channels last"])
def test_pixels_of_every_kind_and_layout(kind: str, layout: str) -> None:
    """The same bytes, whatever they are written as and however they lie in memory."""
    x: Any = PIXELS.astype(kind)
    x = {
        "contiguous": lambda: x,
        "strided": lambda: np.repeat(x, 2, axis=2)[:, :, ::2],
        "fortran": lambda: np.asfortranarray(x),
        "reversed": lambda: x[::-1, ::-1][::-1, ::-1],
        "channels last": lambda: np.stack([x] * 3, -1),
    }[layout]()
    found = lp.data.load((x, LABELS), test_fraction=0).train.raw(torch.arange(40))
    assert torch.equal(found[:, :1], torch.from_numpy(PIXELS)[:, None])


def test_constant_images() -> None:
    """Each of one grey level; nothing is divided by the deviation within them."""
    x = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None], (40, 8, 8))
    _finite(fit("fcnet-8", lp.data.load((x, LABELS)), **WORKS))


ODD_SETS = {
    "one class": (PIXELS, np.zeros(40)),
    "one sample": (PIXELS[:1], LABELS[:1]),
    "no sample": (PIXELS[:0], LABELS[:0]),
    "two samples": (PIXELS[:2], LABELS[:2]),
    "a class of one": (PIXELS, (np.arange(40) == 7).astype(int)),
    "a class a sample": (PIXELS, np.arange(40)),
    "all the same": (np.zeros((40, 8, 8), np.uint8), LABELS),
    "one feature": (RNG.normal(size=(40, 1)), LABELS),
    "constant features": (np.ones((40, 3)), LABELS),
    "huge features": (RNG.normal(size=(40, 3)) * 1e30, LABELS),
}


@pytest.mark.parametrize("mix", ["none", "mixup", "sum:k=2"])
@pytest.mark.parametrize("name", ODD_SETS)
def test_odd_sets(name: str, mix: str) -> None:
    try:
        data = lp.data.load(ODD_SETS[name], test_fraction=0)
        run = fit("fcnet-8", data, mix, **{**WORKS, "batch_size": "auto"})
    except LessonplanError:  # any other error is a failure of the test
        return
    _finite(run)


def test_a_class_in_ten_thousand() -> None:
    """Trained, judged, and the rare class is in every number of its own."""
    y = np.zeros(10_001, np.int64)
    y[5000] = 1
    x, other = RNG.normal(size=(10_001, 4)), RNG.normal(size=(10_001, 4))
    run = fit("fcnet-8", lp.data.load((x, y), test=(other, y)), budget="20 steps", threads=1)
    _finite(run)
    assert run.result["test"]["accuracy"] > 0.5
    assert len(run.result["class_names"]) == 2


@pytest.mark.parametrize("plan", ["select:accuracy >> topk:0.5", "order:multi-attempt:k=3", "mix:mixup"])
def test_a_class_in_ten_thousand_with_a_plan(plan: str) -> None:
    """It goes on where a batch holds no sample of the rare class."""
    y = np.zeros(10_001, np.int64)
    y[5000] = 1
    run = fit(
        "fcnet-8", lp.data.load((RNG.normal(size=(10_001, 4)), y), test_fraction=0), plan, "5 steps", threads=1
    )
    _finite(run)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("mix", ["none", "mixup", "cutmix", "sum:k=2", "cascade:k=4,patience=none", "manifold"])
def test_half_precision(precision: str, mix: str, data: lp.data.Data) -> None:
    """Weights stay float32 and finite; what is kept is float32."""
    run = fit("fcnet-8", data, mix, precision=precision, **WORKS)
    _finite(run)
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}


PLANS = {
    "puzzle": "mix:puzzle",
    "a filter": "select:accuracy",
    "top-k": "select:topk:0.5",
    "quantile": "select:quantile:0.5",
    "one behind another": "select:accuracy >> topk:0.5",
    "attempts": "order:multi-attempt:k=3",
    "look-ahead": "order:loss-delta:candidates=3,on=external",
    "all three": "select:topk:0.5 + order:multi-attempt:k=2 + mix:cascade:k=2,patience=none",
}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_plans_in_half_precision(precision: str, plan: str, data: lp.data.Data) -> None:
    """Weights stay float32 and finite, and what is trained with is what was asked for."""
    run = fit("fcnet-8", data, plan, precision=precision, **{**WORKS, "batch_size": 4})
    _finite(run)
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}
    assert math.isfinite(run.result["test"]["loss"])


def test_images_of_the_least_and_the_largest_numbers() -> None:
    """What float32 cannot hold is refused, what it can is trained with."""
    for scale in (1e-40, 1e30, 1e37):
        _finite(fit("fcnet-8", lp.data.load((RNG.normal(size=(40, 3)) * scale, LABELS)), **WORKS))
    for odd in (np.nan, np.inf, 1e300):
        x = RNG.normal(size=(40, 3))
        x[7, 1] = odd
        with pytest.raises(LessonplanError):
            lp.data.load((x, LABELS))


def _steep(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Its gradients overflow in fp16 until the scaler has found its scale."""
    return 10_000 * torch.nn.functional.cross_entropy(logits, target, reduction="none")


def test_the_scaler_leaves_out_updates_that_overflow(data: lp.data.Data) -> None:
    """The scale falls until gradients fit; the updates before it change nothing."""
    states: list[float] = []

    class Watch(lp.Callback):
        def on_batch_end(self, trainer: Any) -> None:
            states.append(trainer.state.scaler.get_scale())

    run = fit("fcnet-8", data, loss=_steep, lr=1e-7, precision="fp16", callbacks=[Watch()], **WORKS)
    _finite(run)
    assert states[0] < 65536.0
    assert states == sorted(states, reverse=True)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_loss_that_is_not_finite_ends_the_run_with_a_sentence(data: lp.data.Data, precision: str) -> None:
    def broken(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return logits.sum(1) * torch.nan

    with pytest.raises(LessonplanError, match=r"NaN or infinite at step 0.*likely cause"):
        fit("fcnet-8", data, loss=broken, precision=precision, **WORKS)


def test_a_budget_too_short_for_a_batch(data: lp.data.Data) -> None:
    for budget in ("0ep", "0 steps", "-1ep", "0 samples"):
        with pytest.raises(LessonplanError, match="budget"):
            fit("fcnet-8", data, budget=budget, threads=1)
