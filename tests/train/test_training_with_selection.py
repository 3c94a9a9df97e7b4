"""Runs that select: what they cost, that nothing else changes, and that they go on exactly where they were."""

from __future__ import annotations

import dataclasses
import json
import random
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.select import Filter, Selector, epochwise
from lessonplan.supply.epoch import HANDLED


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch) -> None:
    """Epochwise scores come in pieces of 10 samples."""
    monkeypatch.setattr(epochwise, "_CHUNK", 10)


@pytest.fixture
def alone(data):
    """48 training samples and nothing else, so that all passes are those of training."""
    return dataclasses.replace(data, val=None, test=None)


def network(*between: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), *between, nn.ReLU(), nn.Linear(16, 3))


class Count:
    """Rows that pass through a network, forwards and backwards, until training ends."""

    def __init__(self, model: nn.Sequential, hook: Any) -> None:
        self.forwarded = self.backpropagated = 0
        model.register_forward_hook(self.forward)
        model[-1].register_full_backward_hook(self.backward)
        self.counts = True
        self.callback = hook(on_train_end=self.end)

    def forward(self, module: nn.Module, args: Any, out: Tensor) -> None:
        self.forwarded += len(out) * self.counts

    def backward(self, module: nn.Module, below: Any, above: tuple[Tensor]) -> None:
        self.backpropagated += len(above[0])

    def end(self, trainer: Any) -> None:
        self.counts = False


@pytest.mark.parametrize("layer", [nn.Identity, lambda: nn.Dropout(0.3), lambda: nn.BatchNorm1d(16)])
@pytest.mark.parametrize(
    "plan",
    [
        "erm",
        "sum:k=2",
        "select:accuracy:margin=0.3",
        "select:accuracy:margin=1",
        "select:accuracy:margin=0.3 >> batchwise:overflow=discard,raw_batch_size=8",
        "select:accuracy:margin=0.5 >> batchwise:max_age=0,raw_batch_size=20",
        "select:accuracy:margin=0.4 >> batchwise:batch_size=none",
        "select:accuracy:margin=0.9 >> batchwise:batch_size=none",
        "select:accuracy:margin=0.9 >> batchwise:reuse=always",
        "select:accuracy:margin=0.9 >> batchwise:reuse=always,raw_batch_size=5",
        "select:accuracy:margin=0.4 >> batchwise:refresh=3,mode=train",
        "select:accuracy:margin=0.4 >> epochwise:every=2",
        "select:topk:0.5 >> epochwise >> accuracy:margin=0.5",
        "select:weighted:0.5,importance=true + mixup",
        "select:accuracy:margin=0.3 + sum:k=2",
        "select:infobatch >> epochwise",
        "select:infobatch + mixup",
        "select:recency-bias:0.5 + sum:k=2",
        "select:gradient-norm:0.5",
        "select:selective-backprop",
        "select:random:0.5",
    ],
)
def test_counters_against_hooks(quick, alone, hook, plan: str, layer: Any) -> None:
    """Samples forwarded and backpropagated, to the sample; cost is 1 and 2 for them."""
    model = network(layer())
    count = Count(model, hook)
    run = quick(plan, "4ep", model=model, data=alone, lr=0.02, callbacks=[count.callback])
    last = run.history[-1]
    assert last["forwarded"] == last["samples"] == count.forwarded > 0
    assert last["backpropagated"] == count.backpropagated > 0
    assert last["cost"] == count.forwarded + 2 * count.backpropagated
    assert last["raw_samples"] == 4 * 48
    for record in run.history:
        if "select" in record:
            told = record["select"]
            exact = "batch_size=none" in plan or isinstance(model[2], nn.Identity)
            assert told["reused"] == 0 or exact or "always" in plan


def test_the_single_pass_is_used_and_changes_nothing(quick, alone) -> None:
    """Most are accepted: the scoring pass is the training pass, and training ends with the same weights."""
    text = "select:accuracy:margin=0.9 >> batchwise:reuse="
    options = {"data": alone, "lr": 0.05, "schedule": "constant"}
    once, twice = (quick(text + reuse, "6ep", model=network(), **options) for reuse in ("auto", "never"))
    assert sum(r["select"]["reused"] for r in once.history) > 100
    assert sum(r["select"]["reused"] for r in twice.history) == 0
    assert once.history[-1]["cost"] < 0.9 * twice.history[-1]["cost"]
    assert once.history[-1]["step"] == twice.history[-1]["step"]
    for a, b in zip(once.model.parameters(), twice.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "select",
    [
        "accuracy:margin=1 >> batchwise:reuse=never",
        "accuracy:margin=1 >> batchwise:reuse=never,mode=train,refresh=2",
        "accuracy:margin=1",
        "selective-backprop:beta=1e-9 >> batchwise:precision=bf16",
    ],
)
def test_to_select_all_is_to_select_nothing(quick, data, select: str, precision: str) -> None:
    """Bit for bit, with batch norm, dropout and validation: scoring leaves no trace in a run."""
    model = lambda: network(nn.BatchNorm1d(16), nn.Dropout(0.2))  # noqa: E731
    plain = quick(None, "20 steps", model=model(), precision=precision, evaluate_train=True, ema=0.9)
    run = quick(f"select:{select}", "20 steps", model=model(), precision=precision, ema=0.9)
    assert all(record["select"]["acceptance"] == 1.0 for record in run.history)
    ours, theirs = run.model.state_dict(), plain.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert run.result["train_set"] == plain.result["train_set"]


# -- select, then mix ----------------------------------------------------------------------------------


@dataclass(eq=False)
class Weighs(Selector):
    """Keeps all; the weight of a sample is a function of its index."""

    name: ClassVar[str] = "weighs"
    size: int | float = 1.0
    slope: float = 1.0

    def score(self, scored):
        return scored.indices.float()

    def __call__(self, scores, size, generator):
        return torch.arange(len(scores)), 3 + self.slope * scores


def triple(logits: Tensor, target: Tensor) -> Tensor:
    return 3 * F.cross_entropy(logits, target, reduction="none")


def test_weights_reach_the_loss(quick, alone) -> None:
    """Three times the weight is three times the loss."""
    options = {"data": alone, "optimizer": "sgd", "lr": 0.01}
    heavy = quick(lp.Plan(Weighs(slope=0.0)), "18 steps", **options)
    plain = quick(None, "18 steps", loss=triple, **options)
    unweighted = quick(None, "18 steps", **options)
    for a, b, c in zip(*(run.model.parameters() for run in (heavy, plain, unweighted)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
        assert not torch.allclose(a, c, rtol=1e-3)


@pytest.mark.parametrize("mix", [None, "sum:k=2", "mixup", "cutmix", "sum:k=3,coefficients=dirichlet"])
def test_weights_go_through_mixes(quick, alone, mix: str | None, monkeypatch) -> None:
    """Losses are linear in the target: each partner's part of it carries that partner's weight."""
    handed, targets = [], []
    plain_mix = lp.mix.parse_mix(mix) if mix else None
    if plain_mix is not None:
        mixed = type(plain_mix).__call__

        def spy(self, x, target):
            out = mixed(self, x, target)
            if target.is_floating_point():  # and not the rehearsal before training
                handed.append((target, out[1]))
            return out

        monkeypatch.setattr(type(plain_mix), "__call__", spy)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        targets.append(target)
        return F.cross_entropy(logits, target, reduction="none")

    plan = lp.Plan(Weighs(), mix=plain_mix)
    run = quick(plan, "6 steps", data=alone, loss=loss, lr=1e-3)
    trained = [t for t in targets if t.requires_grad is False][-1]
    if mix is None:
        assert set(trained.sum(1).tolist()) == {1.0}
        return
    for given, out in handed:
        weights = given.sum(1)
        assert len(set(weights.tolist())) == len(weights)  # each its own
        assert ((weights - 3) % 1 == 0).all()
        assert given.count_nonzero() == len(given)
        share = len(out) / len(given)
        if mix in ("sum:k=2", "mixup"):  # every sample takes part with the same total
            torch.testing.assert_close(out.sum(), weights.sum() * share)
        assert (out.sum(1) >= weights.min() - 1e-4).all()
        assert (out.sum(1) <= weights.max() + 1e-4).all()
        assert out.sum(1).std() > 0.5
    assert handed
    assert 0 <= run.history[-1]["train"]["accuracy"] <= 1


def test_only_selected_samples_are_mixed(quick, data) -> None:
    """A sum of three draws three times as many accepted samples for an update."""
    run = quick("select:accuracy:margin=0.9 + sum:k=3,draw=mixed", "6 steps", data=data)
    told = [record["select"] for record in run.history]
    assert sum(t["trained"] for t in told) == 6 * 24
    assert sum(t["updates"] for t in told) == 6


# -- when nothing is left ------------------------------------------------------------------------------


@dataclass(eq=False)
class UpTo(Filter):
    """Keeps all for some calls, then nothing."""

    name: ClassVar[str] = "up-to"
    calls: int = 0
    fails: bool = False

    def __call__(self, logits, targets):
        self.calls -= 1
        return torch.full((len(targets),), self.calls >= 0)


@pytest.mark.parametrize("when", [lp.select.Batchwise, lp.select.Epochwise])
@pytest.mark.parametrize("budget", ["1000 steps", "10000ep", "1G samples"])
def test_every_sample_is_handled(quick, alone, when: Any, budget: str) -> None:
    """Training ends after an epoch in which nothing was kept, and says why; numbers stay numbers."""
    run = quick(lp.Plan(when(UpTo(11))), budget, data=alone)
    assert run.result["stopped"] == HANDLED
    assert run.history[-1]["select"]["accepted"] == 0
    assert run.history[-1]["step"] == run.history[-2]["step"] > 0
    json.dumps(run.history, allow_nan=False)


def test_nothing_from_the_start(quick, data, tmp_path) -> None:
    """A run without an update is not finished; what it has noted is there."""
    with pytest.raises(ConfigError, match="no update was made"):
        quick(lp.Plan(UpTo(0)), "10ep", data=data, out=tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert json.loads(text)["select"]["updates"] == 0


# -- augmented samples, of which no two epochs have the same ----------------------------------------------


@dataclass(eq=False)
class InEpochs(Filter):
    """Keeps all in some epochs of one raw batch each, and nothing in others."""

    name: ClassVar[str] = "in-epochs"
    keeps: str = ""
    epoch: int = -1

    def __call__(self, logits, targets):
        self.epoch += 1
        return torch.full((len(targets),), self.keeps[self.epoch : self.epoch + 1] == "1")


@pytest.mark.parametrize("when", [lp.select.Batchwise, lp.select.Epochwise])
def test_another_augmentation_may_have_errors_again(quick, monkeypatch, when: Any) -> None:
    """An epoch of nothing ends no training; a hundred in a row do, though updates alone would never end it."""
    monkeypatch.setattr(epochwise, "_CHUNK", 40)
    keeps = "1" + "0" * 99 + "1" + "0" * 100 + "1"
    epochs = {}
    for augment in ("crop:1", "none"):
        data = lp.data.load("digits", per_class=4, val_fraction=0, augment=augment)
        run = quick(lp.Plan(when(InEpochs(keeps))), "1000 steps", data=data, batch_size=40)
        assert run.result["stopped"] == HANDLED
        epochs[augment] = [record["select"]["accepted"] for record in run.history]
    assert epochs == {"crop:1": [40, *[0] * 99, 40, *[0] * 100], "none": [40, 0]}


# -- exact resume ---------------------------------------------------------------------------------------

RESUMED = [
    "accuracy:margin=0.4",
    "accuracy:margin=1",
    "accuracy:margin=0.4 >> batchwise:overflow=discard,raw_batch_size=5",
    "accuracy:margin=0.6 >> weighted:0.8,importance=true >> batchwise:max_age=0,raw_batch_size=20",
    "accuracy:margin=0.5 >> epochwise:every=2",
    "accuracy:margin=0.5 >> batchwise:statistics=follow",
    "accuracy:margin=0.5 >> epochwise:statistics=follow",
    "weighted:0.7,power=2->0.5,importance=true >> epochwise:resample=true >> accuracy:margin=0.8",
    "infobatch >> epochwise + mixup",
    "selective-backprop + cascade:k=4,patience=1",
    "gradient-norm:0.5",
    "recency-bias:0.5",
]


class Killed(nn.Module):
    """A network that dies in the middle of a forward pass."""

    def __init__(self, passes: int = 10**9) -> None:
        super().__init__()
        self.net, self.passes = network(nn.BatchNorm1d(16), nn.Dropout(0.1)), passes

    def forward(self, x: Tensor) -> Tensor:
        self.passes -= 1
        if self.passes == 0:
            raise InterruptedError
        out: Tensor = self.net(x)
        return out


@pytest.mark.parametrize("text", RESUMED)
def test_killed_in_any_pass(quick, alone, same_run, tmp_path, text: str) -> None:
    """In a scoring pass, an epoch's scoring or an update, again and again: the same run in the end."""
    options = {"budget": "4ep", "data": alone, "lr": 0.02}
    whole = quick(f"select:{text}", model=Killed(), **options)
    moments, stops = random.Random(text), 0
    while True:
        try:
            run = quick(
                f"select:{text}",
                model=Killed(moments.randint(2, 6)),
                out=tmp_path,
                checkpoint_every="0.000001s",
                **options,
            )
            break
        except InterruptedError:
            stops += 1
    assert stops >= 2
    same_run(whole, run)


def test_weights_go_through_a_mix_with_any_loss():
    """Factors within targets, or beside them for other losses: for cross-entropy the same."""
    data = lp.data.load("digits", per_class=10)
    plan = "select:weighted:0.5,importance=true + sum:k=2"
    assert lp.fit("fcnet-8", data, plan, budget="1ep", loss="sum-bce").result["steps"]
    within = lp.fit("fcnet-8", data, plan, budget="2ep", threads=1)
    own = lambda logits, target: nn.functional.cross_entropy(logits, target, reduction="none")  # noqa: E731
    beside = lp.fit("fcnet-8", data, plan, budget="2ep", threads=1, loss=own)
    for a, b in zip(within.model.parameters(), beside.model.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)
