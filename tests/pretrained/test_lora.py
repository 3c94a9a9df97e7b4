"""Adapters: which layers have one, what trains, what it costs, and that the weights they end in are plain ones."""

from __future__ import annotations

import csv
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.models import build_model
from lessonplan.network.untouched import train_mode
from lessonplan.pretrained.lora import Lora, adapt, adapted_layers, merge
from lessonplan.seeds import fold_seed
from lessonplan.train.tuning import Tune, Tuning

pytestmark = pytest.mark.skipif(find_spec("peft") is None, reason="needs peft")


def net() -> nn.Sequential:
    """Two convolutions, two linear layers, and what cannot be adapted between them."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, stride=2),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 6, 1),
        nn.Sequential(nn.Conv2d(6, 6, 3, groups=2, padding=1), nn.Conv2d(6, 6, 3, dilation=2, padding=2)),
        nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect"),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, affine=False), nn.ReLU()),
        nn.Linear(5, 10),
    )


ADAPTED = ["0", "2", "8.0"]


class Before(lp.Callback):
    """The network as it is at the end of training, before adapters become a part of it."""

    def on_train_end(self, trainer: lp.train.Trainer) -> None:
        state = trainer.state.evaluated_model.state_dict()
        self.state = {name: value.clone() for name, value in state.items()}
        self.trained = [p.numel() for p in trainer.model.parameters() if p.requires_grad]


@pytest.fixture(scope="module")
def digits() -> lp.data.Data:
    return lp.data.load("digits", per_class=10, val_fraction=0.2)


def fit(model: Any, data: lp.data.Data, tune: str, plan: str = "none", **settings: Any) -> lp.Run:
    return lp.fit(model, data, plan, "9 steps", batch_size=8, tune=tune, threads=1, **settings)


def by_hand(state: dict[str, Tensor], layer: str, scale: float) -> Tensor:
    """``W + alpha / rank * B @ A`` in float64; of a convolution the sum over the channels between A and B."""
    w, a, b = (
        state[f"{layer}.{part}.weight"].double()
        for part in ("base_layer", "lora_A.lessonplan", "lora_B.lessonplan")
    )
    product = b @ a if a.ndim == 2 else torch.einsum("or,rikl->oikl", b[:, :, 0, 0], a)
    return w + scale * product


@pytest.mark.parametrize("ema", [None, 0.5])
def test_only_adapters_and_head_train_and_the_weights_end_as_their_sum(
    ema: float | None, digits: lp.data.Data
) -> None:
    model, before = net(), Before()
    begun = {name: value.clone() for name, value in model.state_dict().items()}
    run = fit(model, digits, "lora:rank=3,alpha=5", callbacks=[before], ema=ema)
    frozen = {name.replace(".base_layer", ""): v for name, v in before.state.items() if "lora_" not in name}
    assert list(frozen) == list(begun) == list(run.model.state_dict()) == list(model.state_dict())
    moved = {name for name in begun if not torch.equal(begun[name], frozen[name])}
    assert moved == {"9.weight", "9.bias"}, "running statistics stay too"
    end = run.model.state_dict()
    for layer in ADAPTED:
        assert before.state[f"{layer}.lora_B.lessonplan.weight"].any(), "it trains"
        expected = by_hand(before.state, layer, 5 / 3)
        torch.testing.assert_close(end[f"{layer}.weight"].double(), expected, atol=1e-6, rtol=1e-5)
        assert not torch.equal(end[f"{layer}.weight"], begun[f"{layer}.weight"])
    others = set(begun) - {f"{layer}.weight" for layer in ADAPTED}
    assert all(torch.equal(end[name], frozen[name]) for name in others)
    # A and B of 9 x 3 x 3 + 3 x 4, 4 x 3 + 3 x 6 and 6 x 3 + 3 x 5, and the head
    assert run.result["parameters"] == sum(before.trained) == (27 + 12) + (12 + 18) + (18 + 15) + 60
    assert {type(m) for m in model.modules()} == {type(m) for m in net().modules()}


def test_the_stored_network_is_a_plain_one(tmp_path: Path, digits: lp.data.Data) -> None:
    run = fit("tiny", digits, "lora:rank=2", out=tmp_path, lr=0.1)
    plain = build_model("tiny", shape=digits.shape, num_classes=10, seed=5)
    plain.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
    loaded = lp.load(tmp_path).model
    again = fit("tiny", digits, "lora:rank=2", out=tmp_path, lr=0.1)
    assert again.result == run.result
    x, _ = digits.test.fetch(torch.arange(len(digits.test)))
    with torch.no_grad():
        told = [network.eval()(x) for network in (run.model, plain, loaded, again.model)]
    assert all(torch.equal(told[0], other) for other in told)
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["predicted"] for row in rows] == [digits.class_names[i] for i in told[0].argmax(1).tolist()]


@pytest.mark.parametrize(
    ("plan", "settings"),
    [
        ("none", {"ema": 0.5, "keep": "best", "evaluate_every": 1}),
        ("manifold", {"clip": 1.0, "optimizer": "adamw", "head_lr": "3x", "layer_decay": 0.5}),
        ("cascade:k=2,patience=1", {"evaluate_every": 1, "keep": "best"}),
        ("order:loss-delta:candidates=2", {"channels_last": True}),
    ],
)
def test_runs_resume_bit_for_bit(plan: str, settings: Any, tmp_path: Path, digits: lp.data.Data) -> None:
    class Stop(lp.Callback):
        def on_batch_end(self, trainer: lp.train.Trainer) -> None:
            if trainer.counters.steps == 5:
                raise InterruptedError

    def run(out: str, *callbacks: lp.Callback) -> lp.Run:
        return lp.fit(
            "tiny", digits, plan, "22 steps", batch_size=8, tune="lora:rank=2,dropout=0.2", threads=1,
            checkpoint_every="2 steps", out=tmp_path / out, callbacks=callbacks, **settings,
        )  # fmt: skip

    whole = run("whole")
    with pytest.raises(InterruptedError):
        run("parts", Stop())
    resumed = run("parts")
    ends = [r.model.state_dict() for r in (whole, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert whole.result["cost"] == resumed.result["cost"]


def test_an_interrupted_network_is_a_plain_one_and_can_go_on(digits: lp.data.Data) -> None:
    class Stop(lp.Callback):
        def on_batch_end(self, trainer: lp.train.Trainer) -> None:
            raise InterruptedError

    model = net()
    with pytest.raises(InterruptedError):
        fit(model, digits, "lora", callbacks=[Stop()])
    assert list(model.state_dict()) == list(net().state_dict())
    with pytest.warns(lp.errors.LessonplanWarning, match="has trained this network object before"):
        fit(model, digits, "lora")
    fresh = net()
    with pytest.raises(ConfigError, match="head_lr"):
        fit(fresh, digits, "lora", head_lr="fast")
    assert list(fresh.state_dict()) == list(net().state_dict())


def drawn(seed: int) -> dict[str, Tensor]:
    network = net()
    adapt(network, Lora(2), "9", seed=seed, example=torch.zeros(1, 1, 8, 8))
    return {name: value for name, value in network.state_dict().items() if "lora_" in name}


def test_adapters_are_drawn_by_the_seed_and_change_nothing_at_first() -> None:
    network, x = net().eval(), torch.randn(4, 1, 8, 8)
    weights, logits = [p.clone() for p in network.parameters()], network(x)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert adapt(network, Lora(2), "9", seed=1, example=torch.zeros(1, 1, 8, 8)) == ADAPTED
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(network(x), logits)
    kept = [p for name, p in network.named_parameters() if "lora_" not in name]
    assert all(torch.equal(p, kept) for p, kept in zip(weights, kept, strict=True))
    first, same, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert all(torch.equal(first[name], other[name]) == ("lora_B" in name) for name in first)


def test_runs_of_another_seed_draw_other_adapters(digits: lp.data.Data) -> None:
    class First(lp.Callback):
        def on_train_start(self, trainer: lp.train.Trainer) -> None:
            self.a = adapted_layers(trainer.model)["2"].lora_A.lessonplan.weight.clone()

    seen = []
    for seed in (0, 0, 1):
        first = First()
        fit(net(), digits, "lora", seed=seed, callbacks=[first])
        seen.append(first.a)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_batch_norms_of_frozen_parts_stay_in_evaluation_mode() -> None:
    network = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False)), nn.Linear(4, 2))
    adapt(network, Lora(2, dropout=0.5), "1", seed=0, example=torch.zeros(1, 4))
    Tuning(network, Tune.parse("lora"), "1")
    train_mode(network)
    assert not network[0][1].training
    assert network[0][0].lora_dropout.lessonplan.training


def test_costs_are_those_of_the_passes_that_are_made() -> None:
    """By hand, for three linear layers and a head, where the first one is not adapted."""
    network = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 40), nn.Linear(40, 50), nn.Linear(50, 10))
    example, rank = torch.zeros(1, 20), 4
    adapt(network, Lora(rank, targets=("1", "2")), "3", seed=0, example=example)
    tuning = Tuning(network, Tune.parse(f"lora:rank={rank}"), "3", example)
    plain = 20 * 30 + 30 * 40 + 40 * 50 + 50 * 10
    adapters = rank * (30 + 40) + rank * (40 + 50)
    to_inputs = (50 * 10) + (40 * 50 + rank * (40 + 50)) + rank * 40  # head, third layer, B of the second one
    to_weights = 50 * 10 + adapters
    update = (plain + adapters + to_inputs + to_weights) / plain
    assert tuning.passes(1000).cost == round(1000 * update)
    assert tuning.priced(lp.network.passes.Passes.forward(1000)).cost == pytest.approx(
        1000 * (1 + adapters / plain), abs=1
    )
    assert all(p.grad is None for p in network.parameters())


def test_a_transformer_of_timm(timm: Any, tmp_path: Path, digits: lp.data.Data) -> None:
    network = timm.models.VisionTransformer(
        img_size=8, patch_size=4, in_chans=1, num_classes=10, embed_dim=16, depth=2, num_heads=2
    )
    begun = {name: value.clone() for name, value in network.state_dict().items()}
    before = Before()
    run = fit(network, digits, "lora:rank=2,targets=qkv/fc1", callbacks=[before], out=tmp_path)
    moved = {name for name, value in run.model.state_dict().items() if not torch.equal(value, begun[name])}
    layers = [f"blocks.{i}.{name}" for i in (0, 1) for name in ("attn.qkv", "mlp.fc1")]
    assert moved == {f"{layer}.weight" for layer in layers} | {"head.weight", "head.bias"}
    for layer in layers:
        expected = by_hand(before.state, layer, 2.0)
        torch.testing.assert_close(network.get_submodule(layer).weight.double(), expected, atol=1e-6, rtol=1e-5)
    everything = adapt(network, Lora(2), "head", seed=0, example=torch.zeros(1, 1, 8, 8))
    each = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert everything == ["patch_embed.proj", *(f"blocks.{i}.{name}" for i in (0, 1) for name in each)]
    merge(network)
    assert list(network.state_dict()) == list(begun)
    assert run.result["cost"] < 3 * run.result["samples"]


class Twice(nn.Module):
    """A layer in two places, or weights that are read past their layer."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.first, self.head, self.how = nn.Linear(4, 4), nn.Linear(4, 2), how
        self.second = self.first if how == "twice" else nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.how == "past":
            return self.head(nn.functional.linear(x, self.second.weight))
        return self.head(self.second(x))


@pytest.mark.parametrize("how", ["twice", "past"])
@torch.no_grad()
def test_adapters_that_would_be_another_network_are_refused(how: str) -> None:
    network = Twice(how)
    for parameter in network.head.parameters():
        parameter.zero_()  # as a new head begins
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ConfigError, match="another one with its adapters merged"):
        adapt(network, Lora(2), "head", seed=0, example=torch.zeros(1, 4))
    assert list(network.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    if how == "past":
        assert adapt(network, Lora(2, targets=("first",)), "head", seed=0, example=torch.zeros(1, 4)) == ["first"]
        with pytest.raises(ConfigError, match="has adapters of peft already"):
            adapt(network, Lora(2), "head", seed=0, example=torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ("3.0", "targets=3.0 of tune=lora is no linear layer, and no convolution without groups"),
        ("9", "targets=9 of tune=lora is no linear layer.* before the head: give one of 0, 2"),
        ("qkv", r"unknown target of lora 'qkv' \(known: 0, 2\)"),
    ],
)
def test_wrong_targets(targets: str, said: str, digits: lp.data.Data) -> None:
    with pytest.raises(ConfigError, match=said):
        fit(net(), digits, f"lora:targets={targets}")


def test_a_network_without_a_layer_to_adapt(digits: lp.data.Data) -> None:
    with pytest.raises(ConfigError, match="the network has no layer before its head that can be adapted"):
        fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), digits, "lora")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lora:rank=0", "give rank=1 or more"),
        ("lora:alpha=0", "alpha above 0"),
        ("lora:dropout=1", r"dropout in \[0, 1\)"),
        ("lora:targets=a//b", "names with slashes between"),
        ("lora:rang=3", "unknown option of lora 'rang': did you mean 'rank'"),
        ("lorra", r"unknown tune 'lorra': did you mean 'lora'\?.*gradual, head, last:N, lora, norm"),
    ],
)
def test_what_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Tune.parse(text)


def test_without_peft_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, digits: lp.data.Data) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"^tune=lora needs peft: pip install 'lessonplan\[lora\]'$"):
        fit("tiny", digits, "lora:rank=8")


def test_the_default_weight_is_twice_the_rank() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    lora = Tune.parse("lora:rank=5").lora
    assert lora is not None
    adapt(network, lora, "1", seed=fold_seed(0, "lora"), example=torch.zeros(1, 4))
    layer = adapted_layers(network)["0"]
    w, a, b = network[0].base_layer.weight, layer.lora_A.lessonplan.weight, layer.lora_B.lessonplan.weight
    with torch.no_grad():
        b.normal_()
        expected = w + 2 * b @ a
        merge(network)
    torch.testing.assert_close(network[0].weight, expected)
