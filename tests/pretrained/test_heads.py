"""A head alone on features that were computed once, against the same on pixels and against loops by hand."""

from __future__ import annotations

import copy
import errno
import math
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lessonplan as lp
from lessonplan.errors import ConfigError, LessonplanWarning
from lessonplan.evaluate.classification import classification_metrics
from lessonplan.lab.methods import Method
from lessonplan.models import build_model
from lessonplan.train.metrics import predict_view
from lessonplan.train.origin import origin_of


class Halved(nn.Module):
    """Numbers that half precision holds as they are."""

    def forward(self, x: Tensor) -> Tensor:
        return x.half().float()


def net(last: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, last or nn.Linear(16, 10))


def exact() -> nn.Sequential:
    """A network whose features are the same computed in any batch, and kept without a loss."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), Halved(), nn.Linear(64, 10))


@pytest.fixture(scope="module")
def data() -> lp.data.Data:
    return lp.data.load("digits", per_class=10, val_fraction=0.2, test_fraction=0.1, augment="none")


@pytest.fixture(scope="module")
def augmented() -> lp.data.Data:
    return lp.data.load("digits", per_class=10, val_fraction=0.2, test_fraction=0.1, augment="crop:2")


def run(
    network: nn.Module | str, data: lp.data.Data, plan: Any = None, budget: str = "9 steps", **given: Any
) -> lp.Run:
    return lp.fit(network, data, plan, budget, **{"tune": "head", "batch_size": 8, "threads": 1, **given})


def same(a: nn.Module, b: nn.Module) -> bool:
    mine, others = a.state_dict(), b.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(mine[name], others[name]) for name in mine)


def passes_of(network: nn.Module) -> list[int]:
    seen: list[int] = []
    network.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    return seen


@pytest.mark.parametrize("given", [{}, {"ema": 0.5}, {"keep": "best"}, {"fit_head": "logreg"}, {"fit_head": "ncm"},
                                   {"fit_head": "logreg", "ema": 0.9}])  # fmt: skip
def test_what_is_judged_is_the_whole_network_on_pixels(
    given: dict[str, Any], data: lp.data.Data, tmp_path: Path
) -> None:
    kept = run("tiny", data, None, "60 steps", out=tmp_path / "run", lr=0.5, **given)
    assert kept.result["at"] == "features"
    logits, labels = predict_view(kept.model, data.test)
    expected = classification_metrics(logits, labels)
    assert kept.result["test"]["accuracy"] == pytest.approx(expected["accuracy"], abs=0.01)
    assert kept.result["test"]["loss"] == pytest.approx(expected["loss"], rel=0.01)
    assert expected["accuracy"] > 0.3
    raw = data.test.raw(torch.arange(len(data.test)))
    loaded = lp.load(tmp_path / "run")
    torch.testing.assert_close(loaded.predict(raw), logits.softmax(1), atol=1e-5, rtol=1e-4)
    assert loaded.classify(raw[:20]) == [data.class_names[i] for i in logits[:20].argmax(1)]
    again = run("tiny", data, None, "60 steps", out=tmp_path / "run", lr=0.5, **given)
    assert same(again.model, kept.model)
    assert again.result == kept.result


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_head_learns_as_a_loop_by_hand_does(noise: float) -> None:
    """The whole set as one batch, so that its order is of no account."""
    data = lp.data.load("digits", per_class=8, augment="none", label_noise=noise)
    network = net()
    x, y = data.train.fetch(torch.arange(len(data.train)))
    assert bool(data.train.corrupted.any()) == bool(noise)
    with torch.no_grad():
        features = network.eval()[:-1](x).half().float()
    head = nn.Linear(16, 10)
    head.load_state_dict(network[-1].state_dict())
    velocity = [torch.zeros_like(p) for p in head.parameters()]
    for _ in range(12):
        head.zero_grad()
        F.cross_entropy(head(features), y).backward()
        with torch.no_grad():
            for p, v in zip(head.parameters(), velocity, strict=True):
                assert p.grad is not None
                v.mul_(0.8).add_(p.grad + 0.01 * p)
                p -= 3 * 0.1 * (v if _ else p.grad + 0.01 * p)
    found = run(network, data, None, "12 steps", batch_size="all", lr=0.1, head_lr="3x", weight_decay=0.01,
                momentum=0.8, nesterov=False, schedule="constant")  # fmt: skip
    for p, q in zip(head.parameters(), found.model[-1].parameters(), strict=True):
        torch.testing.assert_close(q, p, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "plan",
    ["none", "select:accuracy", "select:topk:0.5", "select:random:0.5 >> epochwise",
     "order:loss-delta:candidates=2"],
)  # fmt: skip
@pytest.mark.parametrize("given", [{}, {"ema": 0.5, "keep": "best", "optimizer": "adamw", "head_lr": "5x"}])
def test_features_train_the_same_weights_as_pixels(plan: str, given: dict[str, Any]) -> None:
    """Bit for bit, where half precision loses nothing; labels with noise are the same too."""
    data = lp.data.load("digits", per_class=10, val_fraction=0.2, augment="none", label_noise=0.2)
    kept, pixels = (run(exact(), data, plan, "15 steps", features=f, **given) for f in ("cached", "off"))
    assert "at" in kept.result
    assert "at" not in pixels.result
    assert same(kept.model, pixels.model)
    assert not same(kept.model, exact())
    assert kept.result["test"]["loss"] == pytest.approx(pixels.result["test"]["loss"])


def test_real_weights_train_nearly_as_on_pixels(timm: Any, lite0: Path, photos: Path) -> None:
    data = lp.data.load(f"folder:{photos}", image_size=64, augment="none", val_fraction=0.2)
    given: dict[str, Any] = {"weights": str(lite0), "batch_size": "all"}
    kept = run("timm:tf_efficientnet_lite0", data, None, "3 steps", **given)
    pixels = run("timm:tf_efficientnet_lite0", data, None, "3 steps", features="off", **given)
    for name in ("weight", "bias"):
        a, b = (r.model.get_submodule("classifier").get_parameter(name) for r in (kept, pixels))
        # adamw's steps have the size of the learning rate, whatever small gradients are.
        assert ((a - b).abs() < 2e-4).float().mean() > 0.97
    seen = data.as_asked(origin_of("timm:tf_efficientnet_lite0", str(lite0)).needs)
    logits, labels = predict_view(kept.model, seen.test)
    assert classification_metrics(logits, labels)["loss"] == pytest.approx(kept.result["test"]["loss"], rel=1e-2)


class Stop(lp.Callback):
    def on_batch_end(self, trainer: lp.train.Trainer) -> None:
        if trainer.counters.steps == 5:
            raise InterruptedError


@pytest.mark.parametrize("plan", ["none", "mixup", "cascade:k=2,patience=none", "select:accuracy"])
def test_a_run_goes_on_bit_for_bit(plan: str, augmented: lp.data.Data, tmp_path: Path, own_cache: Path) -> None:
    given: dict[str, Any] = {"feature_views": 3, "ema": 0.5, "keep": "best", "checkpoint_every": "2 steps"}
    whole = run(net(), augmented, plan, "25 steps", out=tmp_path / "whole", **given)
    with pytest.raises(InterruptedError):
        run(net(), augmented, plan, "25 steps", out=tmp_path / "parts", callbacks=[Stop()], **given)
    for file in own_cache.rglob("*.bin"):
        file.unlink()
    resumed = run(net(), augmented, plan, "25 steps", out=tmp_path / "parts", **given)
    assert same(whole.model, resumed.model)
    for name in ("cost", "samples", "forwarded", "steps", "test"):
        assert resumed.result[name] == whole.result[name], name
    stored = [safetensors.torch.load_file(tmp_path / x / "weights.safetensors") for x in ("whole", "parts")]
    assert all(torch.equal(stored[0][k], stored[1][k]) for k in stored[0])


def test_cold_and_warm_caches_give_the_same_weights(augmented: lp.data.Data, own_cache: Path) -> None:
    given: dict[str, Any] = {"feature_views": 2}
    cold, seen = net(), passes_of(net())
    first = run(cold, augmented, **given)
    assert any(own_cache.iterdir())
    warm = net()
    seen = passes_of(warm)
    second = run(warm, augmented, **given)
    assert same(first.model, second.model)
    assert sum(seen) < 10, "a warm cache computes features"


def test_two_seeds_share_what_they_have_in_common(tmp_path: Path, own_cache: Path) -> None:
    """From the same weights, with the same preprocessing, other splits of the same samples."""
    lp.fit("tiny", "digits", None, "2 steps", out=tmp_path / "base", threads=1)
    parts = [
        lp.data.load("digits", per_class=40, test_fraction=0.2, augment="none", seed=s).as_asked(
            origin_of("tiny", str(tmp_path / "base")).needs
        )
        for s in (0, 1)
    ]
    rows = [{*d.train.rows.tolist(), *d.test.rows.tolist()} for d in parts]
    computed: list[int] = []
    from lessonplan.pretrained import features

    whole = features._computed

    def counting(view: Any, number: int, missing: Tensor, backbone: Any) -> Any:
        computed.append(len(missing))
        return whole(view, number, missing, backbone)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "_computed", counting)
        for seed, data in enumerate(parts):
            run("tiny", data, weights=str(tmp_path / "base"), seed=seed)
    assert sum(computed[:2]) == len(rows[0])
    assert sum(computed[2:]) == len(rows[1] - rows[0]) < len(rows[1]) - 100
    assert len(list(own_cache.iterdir())) == 1


def test_costs_are_those_of_the_head_and_the_features_once(augmented: lp.data.Data, tmp_path: Path) -> None:
    """By hand: multiplications of the convolution (8 x 8 pixels, 4 filters) and of the head."""
    network, views = net(), 3
    share = 2 * 16 * 10 / (2 * 64 * 4 * 9 + 2 * 16 * 10)
    found = run(network, augmented, feature_views=views, out=tmp_path / "run")
    n = len(augmented.train)
    assert found.result["cost"] == views * n + 9 * math.ceil(3 * 8 * share)
    assert found.result["forwarded"] == views * n + 9 * 8
    assert found.result["samples"] == 9 * 8
    solved = run(net(), augmented, feature_views=views, fit_head="ncm")
    assert (solved.result["cost"], solved.result["steps"]) == (views * n, 0)


@pytest.mark.parametrize("plan", ["cutmix", "puzzle", "manifold", "mixup|cutmix", "cutmix:until=50%"])
def test_what_needs_pixels_trains_on_them(
    plan: str, data: lp.data.Data, capsys: pytest.CaptureFixture[str]
) -> None:
    network = build_model("tiny", shape=data.shape, num_classes=10)
    seen = passes_of(network)
    found = run(network, data, plan)
    said = [line for line in capsys.readouterr().err.splitlines() if "not cached" in line]
    assert len(said) == 1
    assert "mixes pixels" in said[0]
    assert "at" not in found.result
    assert sum(seen) > 9 * 8
    with pytest.raises(ConfigError, match=r"features cannot be computed once and kept: .* mixes pixels"):
        run("tiny", data, plan, features="cached")


@pytest.mark.parametrize("plan", ["mixup", "sum:k=3", "cascade:k=4,patience=none", "mixup:until=50%"])
def test_other_mixes_mix_features(plan: str, data: lp.data.Data) -> None:
    network = net()
    seen = passes_of(network)
    found = run(network, data, plan, features="cached", budget="30 steps")
    assert found.result["at"] == "features"
    assert sum(seen) < 500, "the whole network trains"
    assert not torch.equal(found.model[-1].weight, net()[-1].weight)


@pytest.mark.parametrize(
    ("given", "plan", "said"),
    [
        ({"features": "cached", "tune": "all"}, None, "tune=all changes what features come from"),
        ({"fit_head": "ncm", "tune": "all"}, None, "tune=all changes what features come from"),
        ({"fit_head": "logreg", "tune": "last:1"}, None, "tune=last:1 changes"),
        ({"fit_head": "logreg", "features": "off"}, None, "fit_head needs features"),
        ({"fit_head": "logreg"}, "mixup", "fit_head=logreg takes all samples as they are"),
        ({"fit_head": "ncm"}, "select:accuracy", "fit_head=ncm takes all samples as they are"),
        ({"fit_head": "ncm"}, "order:loss-delta:candidates=2", "fit_head=ncm takes all samples as they are"),
    ],
)
def test_what_cannot_be_had_is_said_before_anything_is_done(
    given: dict[str, Any], plan: Any, said: str, data: lp.data.Data, tmp_path: Path, own_cache: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        run(net(), data, plan, out=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()
    assert not own_cache.exists()
    settings = {"tune": "head", "batch_size": 8, **given}
    method = Method("mine", lp.Plan.parse(plan or "none"), settings)
    with pytest.raises(ConfigError, match=f"method mine: {said}"):
        lp.compare([method], "digits", out=tmp_path / "compared", seeds=1, budget="2 steps", jobs=1, threads=1)


@pytest.mark.parametrize("given", [{}, {"fit_head": "logreg"}])
def test_a_head_of_several_layers(
    given: dict[str, Any], data: lp.data.Data, tmp_path: Path, own_cache: Path
) -> None:
    last = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 10))
    if given:
        with pytest.raises(ConfigError, match="a linear layer with a bias, and the head is Sequential"):
            run(net(last), data, head="5", out=tmp_path / "run", **given)
        assert not own_cache.exists()
        assert not (tmp_path / "run").exists()
        return
    found = run(net(last), data, head="5", budget="50 steps")
    assert found.result["at"] == "features"
    assert sum(p.requires_grad for p in found.model.parameters()) == 4
    logits, labels = predict_view(found.model, data.test)
    expected = classification_metrics(logits, labels)["loss"]
    assert found.result["test"]["loss"] == pytest.approx(expected, rel=0.01)


def test_a_scale_behind_a_new_head_is_no_reason_to_forget_it(
    data: lp.data.Data, capsys: pytest.CaptureFixture[str]
) -> None:
    head = nn.Linear(16, 10)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    network = nn.Sequential(*list(net())[:-1], head, nn.LeakyReLU(0.1))
    found = run(network, data, head="5")
    assert "features are not cached: something comes behind its head" in capsys.readouterr().err
    logits, labels = predict_view(found.model, data.test)
    assert found.result["test"]["loss"] == pytest.approx(classification_metrics(logits, labels)["loss"], rel=1e-5)
    with pytest.raises(ConfigError, match="something comes behind its head"):
        run(copy.deepcopy(network), data, head="5", features="cached")


def test_what_was_frozen_in_the_head_stays_so(data: lp.data.Data) -> None:
    network = net()
    network[-1].bias.requires_grad_(False)
    before = network[-1].bias.clone()
    found = run(network, data)
    assert torch.equal(found.model[-1].bias, before)
    assert not torch.equal(found.model[-1].weight, net()[-1].weight)


def test_a_disk_that_is_full_is_no_reason_to_stop(
    data: lp.data.Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right, opened = run(net(), data), os.open

    def full(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith(".bin"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", full)
    with pytest.warns(LessonplanWarning, match="features cannot be kept in .*No space left"):
        found = run(net(), data, feature_cache=str(tmp_path))
    assert same(found.model, right.model)


@pytest.mark.parametrize("kind", ["logreg", "ncm"])
def test_solved_heads_by_hand(kind: str, augmented: lp.data.Data) -> None:
    """On features of all views, kept and judged."""
    from lessonplan.pretrained.closed_form import logistic_regression, nearest_class_mean

    network, train = net(), augmented.train
    every = torch.arange(len(train))
    with torch.no_grad():
        views = [train.with_augment(None).fetch(every)[0], train.fetch(every, 1)[0]]
        x = torch.cat([network.eval()[:-1](v) for v in views]).half().float()
        assert augmented.val is not None
        val_x, val_y = augmented.val.fetch(torch.arange(len(augmented.val)))
        val = network[:-1](val_x).half().float(), val_y
    y = train.labels.repeat(2)
    expected = nearest_class_mean(x, y, 10) if kind == "ncm" else logistic_regression(x, y, 10, val, 0)[:2]
    found = run(network, augmented, fit_head=kind, feature_views=2)
    test_x, _ = augmented.test.fetch(torch.arange(len(augmented.test)))
    with torch.no_grad():
        logits = network[:-1](test_x) @ expected[0].T + expected[1]
        close = (found.model(test_x).softmax(1) - logits.softmax(1)).abs().max()
    assert close < 0.02
    assert found.history[-1]["head"]["fit"] == kind
    assert found.result["stopped"] == f"{kind}: nothing to train"


def test_a_holdout_run_sees_pixels(data: lp.data.Data, tmp_path: Path) -> None:
    """RHO-LOSS asks another whole network, which takes no features of this one."""
    lp.fit("tiny", data, None, "5 steps", out=tmp_path / "holdout", threads=1)
    found = run(net(), data, f"select:rho-loss:0.5,holdout={tmp_path / 'holdout'}", features="cached")
    assert found.result["at"] == "features"


@pytest.mark.slow
def test_heads_are_compared(tmp_path: Path, own_cache: Path) -> None:
    lp.fit("tiny", "digits", None, "60 steps", out=tmp_path / "base", threads=1)
    results = lp.compare(
        "probe=tune:head + lr:0.01, logreg, ncm, ft=tune:all + lr:3e-4", "digits", out=tmp_path / "compared",
        seeds=1, budget="20 steps", jobs=1, threads=1, per_class=10,
        settings={"weights": str(tmp_path / "base"), "batch_size": 8, "ema": 0.5},
    )  # fmt: skip
    assert not results["failures"]
    rows = [method["name"] for method in results["methods"]]
    assert rows == ["probe", "logreg", "ncm", "ft"]
    folders = {name: next((tmp_path / "compared" / "runs").glob(f"{name}-*")) for name in rows}
    body = {name: safetensors.torch.load_file(f / "weights.safetensors") for name, f in folders.items()}
    for name in ("logreg", "ncm", "ft"):
        same_body = all(
            torch.equal(body[name][k], body["probe"][k]) for k in body[name] if not k.startswith("classifier")
        )
        assert same_body == (name != "ft"), name
    assert len(list(own_cache.iterdir())) == 1, "three heads on the same features"


@pytest.mark.parametrize(
    ("settings", "augment", "says"),
    [
        ({"tune": "all", "feature_views": 2}, "flip", "feature_views=2 is of features that are kept"),
        ({"tune": "head", "features": "off", "feature_views": 2}, "flip", "feature_views=2 is of features"),
        ({"tune": "head", "feature_views": 3}, "none", "would keep the same view several times"),
    ],
)
def test_several_views_need_kept_features_and_augmentation(settings, augment, says) -> None:
    data = lp.data.load("digits", per_class=5, augment=augment)
    with pytest.raises(ConfigError, match=says):
        lp.fit("tiny", data, budget="2 steps", **settings)


def test_several_views_of_what_mixes_pixels() -> None:
    data = lp.data.load("digits", per_class=5, augment="flip")
    with pytest.raises(ConfigError, match="features cannot be computed once and kept: cutmix"):
        lp.fit("tiny", data, "cutmix", budget="2 steps", tune="head", feature_views=2)


def test_an_optimizer_of_ones_own_hears_of_the_heads_learning_rate() -> None:
    """A tenth of the rate is what ``head_lr`` says, whoever makes the optimizer."""
    data = lp.data.load("digits", per_class=5, augment="none")

    def made(parameters: Any, lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=lr)

    def weights(head_lr: str, lr: float) -> Tensor:
        run = lp.fit("tiny", data, None, "5 steps", optimizer=partial(made, lr=lr), tune="head", head_lr=head_lr)
        return torch.cat([p.flatten() for p in run.model.parameters()])

    torch.testing.assert_close(weights("0.1x", 0.5), weights("1x", 0.05))
    assert not torch.allclose(weights("1x", 0.5), weights("1x", 0.05))


class _Unread(torch.utils.data.Dataset[Any]):
    """Pictures in files' stead, whose content may change behind everybody's back."""

    def __init__(self, shift: int) -> None:
        self.shift = shift

    def __len__(self) -> int:
        return 40

    def __getitem__(self, at: int) -> tuple[Any, int]:
        value = (at * 6 + (self.shift if at == 39 else 0)) % 256
        return np.full((8, 8), value, dtype=np.uint8), at % 2


def test_features_of_objects_that_nobody_has_read_are_not_kept(tmp_path) -> None:
    cache = tmp_path / "cache"
    for shift in (0, 90):
        data = lp.data.load(_Unread(shift), test_fraction=0.0, memory_limit=0, workers=0, augment="none")
        lp.fit("tiny", data, None, "2 steps", tune="head", feature_cache=str(cache), batch_size=4)
    assert not list(cache.rglob("*.bin"))
