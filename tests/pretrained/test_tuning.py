"""What trains, what it costs, and how fast its parts go."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lessonplan as lp
from lessonplan.errors import ConfigError, LessonplanWarning
from lessonplan.models import build_model
from lessonplan.network.untouched import train_mode
from lessonplan.seeds import fold_seed
from lessonplan.settings import Settings
from lessonplan.train.identity import identity_settings
from lessonplan.train.optimizer import build_optimizer, parameter_groups
from lessonplan.train.stages import stages
from lessonplan.train.tuning import Tune, Tuning


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


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, whose network others begin with."""
    folder = tmp_path_factory.mktemp("earlier") / "run"
    data = lp.data.load("digits", per_class=10)
    lp.fit("wrn-10-1", data, budget="4 steps", batch_size=20, threads=1, out=folder)
    return folder


def statistics(network: nn.Module) -> list[torch.Tensor]:
    return [buffer.clone() for name, buffer in network.named_buffers() if "running" in name]


@pytest.mark.parametrize(("given", "frozen"), [("auto", True), ("frozen", True), ("train", False)])
@pytest.mark.parametrize(
    "plan", ["none", "manifold", "puzzle", "select:accuracy", "order:loss-delta:candidates=2"]
)
def test_batch_norm_keeps_the_statistics_of_weights_from_elsewhere(
    given: str, frozen: bool, plan: str, earlier: Path
) -> None:
    data = lp.data.load("digits", per_class=10)
    before = lp.load(earlier).model
    run = lp.fit(
        "wrn-10-1", data, plan, "3 steps", weights=str(earlier), batch_norm=given, batch_size=20, threads=1
    )
    pairs = list(zip(statistics(before), statistics(run.model), strict=True))
    assert pairs
    assert all(torch.equal(a, b) for a, b in pairs) == frozen
    scales = [(m.weight, n.weight) for m, n in zip(before.modules(), run.model.modules(), strict=True)
              if isinstance(m, nn.BatchNorm2d)]  # fmt: skip
    assert all(not torch.equal(a, b) for a, b in scales), "scale and shift train all the same"


def test_an_update_with_frozen_statistics_is_one_of_the_network_in_evaluation_mode(earlier: Path) -> None:
    data = lp.data.load("digits", per_class=10)
    given: dict[str, Any] = {"weights": str(earlier), "batch_size": "all", "optimizer": "sgd", "momentum": 0.0}
    run = lp.fit("wrn-10-1", data, "none", "1 steps", weight_decay=0.0, lr=0.1, schedule="constant", threads=1,
                 nesterov=False, **given)  # fmt: skip
    by_hand = lp.load(earlier).model.eval()
    x, y = data.train.fetch(torch.arange(len(data.train)))
    loss = nn.functional.cross_entropy(by_hand(x), y)
    names, parameters = zip(*by_hand.named_parameters(), strict=True)
    for name, p, g in zip(names, parameters, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(run.model.get_parameter(name), p - 0.1 * g, rtol=1e-4, atol=1e-6)


def test_networks_from_scratch_train_their_statistics_unless_told_otherwise() -> None:
    data = lp.data.load("digits", per_class=10)
    begun = build_model("wrn-10-1", shape=data.shape, num_classes=10, seed=fold_seed(0, "weights"))
    for given, same in (("auto", False), ("train", False), ("frozen", True)):
        run = lp.fit("wrn-10-1", data, "none", "2 steps", batch_norm=given, batch_size=20, threads=1)
        pairs = zip(statistics(begun), statistics(run.model), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) == same


@pytest.mark.parametrize("statistics_of", ["restore", "follow"])
def test_scores_in_training_mode_leave_frozen_statistics_frozen(statistics_of: str, earlier: Path) -> None:
    """The scoring pass is the network's as it trains: normalised by the statistics that stay."""
    from lessonplan.network.untouched import asked, followed

    network = lp.load(earlier).model
    x = lp.data.load("digits", per_class=10).train.fetch(torch.arange(16))[0]
    train_mode(network, frozen_statistics=True)
    expected = network(x)
    before = statistics(network)
    with (asked if statistics_of == "restore" else followed)(network, "train"):
        torch.testing.assert_close(network(x), expected)
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(network), strict=True))
    train_mode(network)
    with (asked if statistics_of == "restore" else followed)(network, "train"):
        assert not torch.allclose(network(x), expected)


class Rates(lp.Callback):
    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_batch_end(self, trainer: Any) -> None:
        self.rates.append(trainer.state.optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize(
    ("options", "rises"),
    [({}, True), ({"tune": "gradual"}, True), ({"tune": "norm"}, False), ({"schedule": "cosine"}, False)],
)
def test_the_learning_rate_rises_first_where_weights_from_elsewhere_train(
    options: dict[str, str], rises: bool, earlier: Path
) -> None:
    data = lp.data.load("digits", per_class=10)
    heard = Rates()
    lp.fit("wrn-10-1", data, "none", "20 steps", weights=str(earlier), lr=1.0, batch_size=20, threads=1,
           callbacks=[heard], **options)  # fmt: skip
    by_cosine = [(1 + math.cos(math.pi * i / 20)) / 2 for i in range(20)]
    after_rising = [0.0, 0.5, *((1 + math.cos(math.pi * i / 18)) / 2 for i in range(18))]
    assert heard.rates == pytest.approx(after_rising if rises else by_cosine)


def test_the_schedule_that_is_meant_tells_runs_apart() -> None:
    """Runs from scratch, and runs from weights of before there was a warm-up, are stored as cosine."""
    assert identity_settings(Settings()) == identity_settings(Settings(schedule="cosine"))
    fresh, before = (identity_settings(Settings(weights="w", schedule=text)) for text in ("auto", "cosine"))
    assert fresh != before
    assert fresh == identity_settings(Settings(weights="w", schedule="cosine:warmup=10%"))


def test_a_run_whose_only_update_learned_nothing_says_so(earlier: Path) -> None:
    data = lp.data.load("digits", per_class=10)
    with pytest.warns(LessonplanWarning, match="learning rate of 0, where the schedule cosine:warmup=10% begins"):
        lp.fit("wrn-10-1", data, "none", "1 steps", weights=str(earlier), batch_size=20, threads=1)
