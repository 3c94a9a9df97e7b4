"""The range test against a loop by hand, and that it leaves no trace."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import nn

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.train.lr_curve import smoothing_width

QUICK: dict[str, Any] = {"batch_size": 8, "threads": 1}


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
        )


def plain(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3))


def test_it_is_a_loop_with_a_rising_learning_rate(data) -> None:
    found = lp.find_lr(plain(), data, None, 1e-4, 1.0, 25, seed=3, **QUICK)
    model = plain()
    optimizer = torch.optim.SGD(model.parameters(), lr=1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    rates, losses = iter(1e-4 * (1.0 / 1e-4) ** (k / 24) for k in range(25)), []
    loop = lp.batches(model, data, batch_size=8, epochs=5, seed=3, optimizer=optimizer)
    while len(losses) < 25:
        for x, target, _ in loop:
            if len(losses) == 25:
                break
            optimizer.param_groups[0]["lr"] = next(rates)
            loss = F.cross_entropy(model(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    np.testing.assert_allclose(found.lr, np.geomspace(1e-4, 1.0, 25), rtol=1e-12)
    np.testing.assert_allclose(found.loss, losses, rtol=1e-4)
    assert found.ended == "range"


class Watched(torch.optim.SGD):
    """Keeps the learning rates of its groups, an update a row."""

    seen: list[list[float]] = []  # noqa: RUF012

    def step(self, closure: Any = None) -> Any:
        Watched.seen.append([group["lr"] for group in self.param_groups])
        return super().step(closure)


@pytest.mark.parametrize("lr", [0.5, 0.002])
def test_groups_keep_their_ratios_whatever_the_optimizers_own_rate(data, lr: float) -> None:
    Watched.seen = []
    found = lp.find_lr(
        network(), data, None, 1e-5, 1e-2, 12,
        optimizer=lambda groups: Watched(groups, lr=lr), head_lr="10x", layer_decay=0.5, **QUICK,
    )  # fmt: skip
    seen = np.array(Watched.seen)
    assert seen.shape == (12, 2)
    np.testing.assert_allclose(seen[:, 1], 10 * found.lr, rtol=1e-12)  # the head
    np.testing.assert_allclose(seen[:, 0], 0.5 * found.lr, rtol=1e-12)  # one stage before it, with its norm


def test_the_module_the_plan_and_random_numbers_stay_as_they_are(data) -> None:
    model = network()
    model.train()
    model[2].eval()
    model[1].bias.requires_grad_(False)
    model(torch.rand(4, 64)).sum().backward()
    mix = lp.mix.Cascade(k=2)
    before = copy.deepcopy(model)
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    places = [p.data_ptr() for p in model.parameters()]
    state = torch.get_rng_state()
    lp.find_lr(model, data, lp.Plan(mix=mix), steps=20, tune="head", **QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    assert [p.data_ptr() for p in model.parameters()] == places
    for (name, ours), (_, theirs) in zip(model.state_dict().items(), before.state_dict().items(), strict=True):
        assert torch.equal(ours, theirs), name
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert (mix.num_classes, mix.k) == (None, 2)
    lp.fit(model, data, budget="1 steps", **QUICK)  # and fit does not take it for trained (warnings are errors)


def test_one_seed_one_curve(data) -> None:
    ours, theirs, other = (
        lp.find_lr(network(), data, "mixup", steps=20, seed=seed, **QUICK) for seed in (0, 0, 1)
    )
    assert np.array_equal(ours.loss, theirs.loss)
    assert ours.suggested == theirs.suggested
    assert not np.array_equal(ours.loss[:5], other.loss[:5])


def test_it_ends_where_the_smoothed_loss_is_four_times_its_best(data) -> None:
    calls: list[int] = []

    def growing(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """By a twentieth from step to step, so that 4 times is not 5 times."""
        calls.append(1)
        return 1.05 ** len(calls) * F.cross_entropy(logits, target)

    found = lp.find_lr(plain(), data, None, 1e-6, 1e-4, 120, loss=growing, **QUICK)
    assert found.ended == "diverged"
    width = smoothing_width(1e-6, 1e-4, 120)

    def known_then(n: int) -> float:
        ones, loss = np.ones(n), found.loss[:n]
        bell = [ndimage.gaussian_filter1d(v, width, mode="constant", radius=int(4 * width)) for v in (loss, ones)]
        return float(bell[0][-1] / bell[1][-1])

    running = np.array([known_then(n) for n in range(1, len(found.loss) + 1)])
    over = running > 4 * np.minimum.accumulate(running)
    assert over.tolist() == [False] * (len(running) - 1) + [True]


def test_losses_that_are_not_finite_end_it(data) -> None:
    broken = plain()
    with torch.no_grad():
        broken[1].weight.fill_(float("nan"))
    found = lp.find_lr(broken, data, **QUICK)
    assert (found.ended, found.suggested, len(found.loss)) == ("not finite", None, 0)
    calls = []

    def until_the_seventh(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return F.cross_entropy(logits, target) * (float("inf") if len(calls) == 7 else 1.0)

    found = lp.find_lr(plain(), data, loss=until_the_seventh, **QUICK)
    assert (found.ended, len(found.loss), len(found.smoothed)) == ("not finite", 6, 6)
    assert np.isfinite(found.loss).all()


def test_a_cascade_stays_at_its_beginning(data) -> None:
    """``fit`` with as many steps ends on one image a sample."""
    mixed: list[bool] = []

    def heard(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        mixed.append(bool((target.max(1).values < 1).any()))
        return F.cross_entropy(logits, target, reduction="none")

    lp.fit(plain(), data, "cascade:k=4", "24 steps", loss=heard, **QUICK)
    assert mixed[0]
    assert not mixed[-1]
    mixed.clear()
    lp.find_lr(plain(), data, "cascade:k=4", 1e-5, 1e-2, 24, loss=heard, **QUICK)
    assert len(mixed) == 24
    assert all(mixed)


class Untouchable:
    """A view that may only be closed."""

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the view was asked for {name}")


def test_validation_and_test_samples_are_not_read(data) -> None:
    guarded = dataclasses.replace(data, val=Untouchable(), test=Untouchable())
    found = lp.find_lr(plain(), guarded, "select:topk:0.5", 1e-5, 1e-1, 20, keep="best", evaluate_every=1, **QUICK)
    assert len(found.loss) == 20


def test_a_selection_that_keeps_nothing_is_named(data) -> None:
    class Nothing(lp.select.Filter):
        name = "nothing"

        def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(logits), dtype=torch.bool)

    with pytest.raises(ConfigError, match="the selection kept nothing"):
        lp.find_lr(plain(), data, lp.Plan(select=Nothing()), **QUICK)


def test_a_head_rate_in_numbers_is_told_as_its_ratio(data) -> None:
    found = lp.find_lr(plain(), data, steps=12, lr=0.01, head_lr="0.05", **QUICK)
    assert any("--head-lr 5x" in note for note in found.notes)
    assert not any("head" in note for note in lp.find_lr(plain(), data, steps=12, head_lr="5x", **QUICK).notes)


class NotCopied(nn.Linear):
    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("no copies")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest": 0}, "from 0 to 10 is none"),
        ({"lowest": 1, "highest": 1}, "from 1 to 1 is none"),
        ({"highest": float("inf")}, "to inf is none"),
        ({"highest": float("nan")}, "to nan is none"),
        ({"steps": 9}, "give at least 10"),
        ({"stepps": 9}, "unknown setting 'stepps'"),
        ({"optimizer": lambda p: torch.optim.SGD(p, lr=0.0)}, "made with a learning rate of 0"),
        ({"model": NotCopied(2, 2)}, "NotCopied cannot be copied \\(no copies\\)"),
    ],
)
def test_mistakes(data, options: dict[str, Any], message: str) -> None:
    options = {"model": "fcnet-8", **QUICK, **options}
    with pytest.raises(ConfigError, match=message):
        lp.find_lr(options.pop("model"), data, **options)


def test_what_is_stored_and_where(data, tmp_path) -> None:
    found = lp.find_lr("fcnet-8", data, "mixup", 1e-4, 1, 30, out=tmp_path / "lr", **QUICK)
    stored = json.loads((tmp_path / "lr/lr.json").read_text())
    assert stored["loss"] == found.loss.tolist()
    assert (stored["suggested"], stored["tenth"], stored["steps"]) == (found.suggested, found.tenth, 30)
    assert stored["config"]["range"] == {"from": 1e-4, "to": 1, "steps": 30}
    assert stored["config"]["plan"]["mix"]["name"] == "mixup"
    assert "schedule" not in stored["config"]["settings"]
    lp.fit("fcnet-8", data, budget="1 steps", out=tmp_path / "run", **QUICK)
    with pytest.raises(ConfigError, match="holds something else"):
        lp.find_lr("fcnet-8", data, out=tmp_path / "run", **QUICK)
