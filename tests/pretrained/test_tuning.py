"""What trains, what it costs, and how fast its parts go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.models import build_model
from lessonplan.network.untouched import train_mode
from lessonplan.seeds import fold_seed
from lessonplan.settings import Settings
from lessonplan.train.optimizer import build_optimizer, parameter_groups
from lessonplan.train.tuning import Tune, Tuning, stages


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def trained(network: nn.Module) -> set[str]:
    return {name for name, p in network.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("tune", "names"),
    [
        ("all", {"0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias", "3.weight", "3.bias"}),
        ("head", set()),
        ("last:1", {"2.weight", "2.bias", "3.weight", "3.bias"}),
        ("last:2", {"0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias", "3.weight", "3.bias"}),
        ("norm", {"1.weight", "1.bias", "3.weight", "3.bias"}),
    ],
)
def test_what_trains(tune: str, names: set[str]) -> None:
    network = net()
    tuning = Tuning(network, Tune.parse(tune))
    assert trained(network) == names | {"6.weight", "6.bias"}
    assert {id(p) for p in tuning.will_train()} == {id(p) for p in network.parameters() if p.requires_grad}


def test_gradual_thaws_at_shares_of_the_budget() -> None:
    network = net()
    tuning = Tuning(network, Tune.parse("gradual:parts=2,until=0.5"))
    train_mode(network)
    seen = []
    for progress in (0.0, 0.2, 0.25, 0.49, 0.5, 0.9):
        tuning.advance(progress)
        seen.append(len(trained(network)))
    assert seen == [2, 2, 6, 6, 10, 10]
    tuning.advance(0.3)
    assert (network[1].training, network[3].training) == (False, True), "frozen statistics move"
    assert len(tuning.will_train()) == 10


def test_the_stages_of_a_real_network(timm: Any) -> None:
    network = build_model("timm:tf_efficientnet_lite0", shape=(3, 64, 64), num_classes=4)
    parts = stages(network, "classifier")
    assert len(parts) == 1 + 16 + 1 + 1  # stem, blocks, last convolution, head
    assert sum(p.numel() for part in parts for p in part) == sum(p.numel() for p in network.parameters())
    with pytest.raises(ConfigError, match="the network has 18 stages before its head"):
        Tuning(network, Tune.parse("last:99"))


@pytest.mark.parametrize(
    "text", ["heads", "last", "last:0", "last:x", "gradual:parts=0", "gradual:until=2", "head:3"]
)
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(ConfigError, match="tune"):
        Tune.parse(text)


def test_costs_are_those_of_the_passes_that_are_made() -> None:
    """By hand: multiplications of both convolutions (8 x 8 pixels, 4 filters) and of the head."""
    example = torch.zeros(1, 1, 8, 8)
    forward = {"0": 2 * 64 * 4 * 9, "2": 2 * 64 * 4 * 36, "6": 2 * 4 * 3}
    total = sum(forward.values())

    def cost(tune: str) -> int:
        return Tuning(net(), Tune.parse(tune), example=example).passes(1000).cost

    assert cost("all") == 3000
    assert cost("head") == 1000 + round(1000 * forward["6"] / total)
    trained = forward["6"] + forward["2"]
    assert cost("last:1") == pytest.approx(1000 * (1 + (trained + forward["6"]) / total), abs=1)
    assert cost("norm") == pytest.approx(1000 * (2 + forward["6"] / total), abs=1)


def test_groups_of_the_optimizer() -> None:
    network = net()
    settings = Settings.make(lr=0.1, head_lr="10x", layer_decay=0.5, weights="some.pth", weight_decay=0.01)
    optimizer = build_optimizer(parameter_groups(network, list(network.parameters()), settings), settings)
    found = {
        id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]
    }
    rates = {name: found[id(p)] for name, p in network.named_parameters()}
    assert rates["6.weight"] == (1.0, 0.01)
    assert rates["6.bias"] == (1.0, 0.0)
    assert rates["3.weight"] == (0.05, 0.0)
    assert rates["2.weight"] == (0.05, 0.01)
    assert rates["0.weight"] == (0.025, 0.01)
    plain = Settings.make()
    assert (
        len(build_optimizer(parameter_groups(network, list(network.parameters()), plain), plain).param_groups) == 1
    )
    with pytest.raises(ConfigError, match="head_lr='fast'"):
        parameter_groups(network, [], Settings.make(head_lr="fast"))


@pytest.mark.parametrize("tune", ["head", "gradual:parts=2", "last:1", "norm"])
@pytest.mark.parametrize(
    "plan", ["none", "manifold", "puzzle", "select:accuracy", "order:loss-delta:candidates=2"]
)
def test_frozen_parts_stay_and_runs_resume_bit_for_bit(tune: str, plan: str, tmp_path: Path) -> None:
    data = lp.data.load("digits", per_class=10, val_fraction=0.2)

    class Stop(lp.Callback):
        def on_batch_end(self, trainer: lp.train.Trainer) -> None:
            if trainer.counters.steps == 5:
                raise InterruptedError

    def run(out: str, *callbacks: lp.Callback) -> lp.Run:
        return lp.fit(
            "tiny", data, plan, "9 steps", batch_size=8, tune=tune, out=tmp_path / out, threads=1,
            checkpoint_every="2 steps", callbacks=callbacks, ema=0.5, head_lr="2x",
        )  # fmt: skip

    whole = run("whole")
    with pytest.raises(InterruptedError):
        run("parts", Stop())
    resumed = run("parts")
    for a, b in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    begun = build_model("tiny", shape=data.shape, num_classes=10, seed=fold_seed(0, "weights"))
    moved = {
        name
        for (name, a), b in zip(begun.state_dict().items(), whole.model.state_dict().values(), strict=True)
        if not torch.equal(a, b)
    }
    if tune == "head":
        assert moved == {"classifier.weight", "classifier.bias"}
    elif tune == "last:1":
        assert {name.partition(".")[0] for name in moved} == {"classifier", "stage3", "norm"}
    if plan == "none":
        assert (whole.result["cost"] < 3 * whole.result["samples"]) == (tune != "none")
