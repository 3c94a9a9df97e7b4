"""Attacks against torchattacks, against linear networks solved by hand, and what they refuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.errors import ConfigError, LessonplanError
from lessonplan.evaluate import adversarial as adv

Network = Callable[..., nn.Module]
EPS = 8 / 255


class Linear(nn.Module):
    """Logits from a fixed matrix ``(C, D)``, times a factor."""

    def __init__(self, weight: Tensor, bias: Tensor | float = 0.0, factor: float = 1.0) -> None:
        super().__init__()
        self.weight, self.bias, self.factor = nn.Parameter(weight), bias, factor

    def forward(self, x: Tensor) -> Tensor:
        return (F.linear(x.flatten(1), self.weight) + self.bias) * self.factor


class Times(nn.Module):
    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) * self.factor


@pytest.mark.parametrize("name", ["tiny", "lenet", "wrn-10-1", "densenet-bc-10-6"])
@pytest.mark.parametrize("attack", ["fgsm", "bim", "mim", "pgd"])
def test_agree_with_torchattacks(network: Network, images: Tensor, labels: Tensor, name: str, attack: str) -> None:
    theirs = pytest.importorskip("torchattacks")
    # In double precision: a rounding error that turns one sign makes all later steps incomparable.
    model, x = adv.PixelModel(network(name), [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]).double(), images.double()
    ours, oracle = {
        "fgsm": (adv.fgsm, theirs.FGSM(model, eps=EPS)),
        "bim": (partial(adv.bim, steps=7, step_size=2 / 255), theirs.BIM(model, eps=EPS, alpha=2 / 255, steps=7)),
        "mim": (
            partial(adv.mim, steps=7, step_size=2 / 255, decay=0.8),
            theirs.MIFGSM(model, eps=EPS, alpha=2 / 255, steps=7, decay=0.8),
        ),
        "pgd": (
            partial(adv.pgd, steps=7, step_size=2 / 255, random_start=False),
            theirs.PGD(model, eps=EPS, alpha=2 / 255, steps=7, random_start=False),
        ),
    }[attack]
    found = ours(model, x, labels, EPS)
    torch.testing.assert_close(found.images, oracle(x, labels), rtol=0, atol=1e-6)
    assert not found.no_gradient.any()
    assert (found.images - x).abs().max() == pytest.approx(EPS)


def test_fgsm_on_a_linear_network() -> None:
    """Two classes: the gradient's sign is that of the difference of the rows."""
    model = Linear(torch.tensor([[1.0, -2.0, 0.0], [0.0, 1.0, 0.0]]))
    x = torch.tensor([[0.5, 0.99, 0.3]])
    found = adv.fgsm(model, x, torch.tensor([0]), 0.1)
    torch.testing.assert_close(found.images, torch.tensor([[0.4, 1.0, 0.3]]))  # cut at 1; no gradient, no step


@pytest.mark.parametrize("loss", ["cross-entropy", "margin"])
@pytest.mark.parametrize("attack", [adv.bim, adv.mim, adv.pgd])
def test_iterations_reach_the_corner_that_solves_a_linear_network(attack: adv.Attack, loss: str) -> None:
    g = torch.Generator().manual_seed(0)
    model = Linear(torch.randn(2, 30, generator=g))
    x, y = torch.rand(9, 30, generator=g), torch.arange(9) % 2
    worst = x + EPS * (model.weight[1 - y] - model.weight[y]).sign()
    found = attack(model, x, y, EPS, loss=loss)
    torch.testing.assert_close(found.images, worst.clamp(0, 1).detach())


def test_restarts_find_what_one_start_misses(network: Network, images: Tensor, labels: Tensor) -> None:
    model, one = network("lenet"), None
    y = model(images).argmax(1)
    margins = []
    for restarts in (1, 2, 6):
        g = torch.Generator().manual_seed(1)
        found = adv.pgd(model, images, y, EPS, steps=3, restarts=restarts, generator=g)
        one = one or found
        margins.append(adv.margin(model(found.images), y).detach())
    assert (margins[1] >= margins[0]).all()
    assert (margins[2] >= margins[1]).all()
    assert (margins[2] > margins[0]).any()
    g = torch.Generator().manual_seed(1)
    again = adv.pgd(model, images, y, EPS, steps=3, generator=g)
    assert torch.equal(again.images, one.images)  # the generator is all there is
    other = adv.pgd(model, images, y, EPS, steps=3, generator=g)
    assert not torch.equal(other.images, one.images)


def test_random_starts_are_uniform_in_the_ball() -> None:
    """One step of length 0 is the start itself."""
    x = torch.full((1, 40_000), 0.5)
    found = adv.pgd(Linear(torch.ones(2, 40_000)), x, torch.tensor([0]), 0.1, steps=1, step_size=0.0)
    shift = (found.images - x).flatten()
    assert shift.abs().max() <= 0.1 + 1e-6
    assert shift.mean().abs() < 0.002
    assert shift.std().item() == pytest.approx(0.2 / math.sqrt(12), rel=0.02)


def test_saturated_cross_entropy_is_reported_and_the_margin_is_not_fooled(digits: Any) -> None:
    sure, images = Times(digits.model, 1000.0), digits.test[:64]
    y = sure(images).argmax(1)
    masked = adv.bim(sure, images, y, EPS)
    unmoved = (masked.images == images).flatten(1).all(1)
    assert unmoved.sum() > 20
    assert torch.equal(masked.no_gradient, unmoved)
    fair = adv.bim(sure, images, y, EPS, loss="margin")
    assert not fair.no_gradient.any()
    by_entropy, by_margin = (adv.judge(sure, f, y) for f in (masked, fair))
    assert by_entropy.no_gradient == unmoved.double().mean().item()
    assert by_margin.no_gradient == 0.0
    assert by_margin.accuracy < by_entropy.accuracy
    assert not adv.mim(sure, images, y, EPS).images.isnan().any()  # 0 / 0


def test_draws_average_the_gradient_of_a_randomised_model() -> None:
    class Random(nn.Module):
        """A third of the calls push the other way, three times as hard as twice that often."""

        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            slope = 5.0 if self.calls % 3 == 0 else -1.0
            return torch.stack([torch.zeros(len(x)), slope * x.flatten(1).sum(1)], 1)

    x, y = torch.full((2, 4), 0.5), torch.tensor([0, 0])
    blind = adv.fgsm(Random(), x, y, 0.1, loss="margin")
    torch.testing.assert_close(blind.images, x - 0.1)  # what the first call says
    model = Random()
    torch.testing.assert_close(adv.fgsm(model, x, y, 0.1, loss="margin", draws=21).images, x + 0.1)
    assert model.calls == 21


def test_nothing_is_left_changed(network: Network, images: Tensor, labels: Tensor) -> None:
    model = network("tiny").train()
    model.norm.eval()
    model.stem.weight.requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    images, labels = images[:3], labels[:3]
    x = images.clone()
    for attack in (adv.fgsm, adv.bim, adv.mim, adv.pgd):
        with torch.no_grad():
            out = attack(model, x, labels, EPS)
        assert not out.images.requires_grad
        with torch.inference_mode():
            torch.testing.assert_close(attack(model, x, labels, EPS).images, out.images)
    assert torch.equal(x, images)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()].count(False) == 1
    assert model.training
    assert not model.norm.training


def test_half_precision_is_attacked_in_float32(network: Network, images: Tensor, labels: Tensor) -> None:
    model, plain = network("tiny"), None
    plain = adv.bim(model, images.bfloat16().float(), labels, EPS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = adv.bim(model, images.bfloat16(), labels, EPS)
    assert torch.equal(found.images, plain.images)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_in_half_precision_is_told(network: Network, images: Tensor, labels: Tensor, dtype) -> None:
    with pytest.raises(ConfigError, match=r"weights are torch\.\w*float16, .* give model\.float\(\)"):
        adv.fgsm(network("tiny").to(dtype), images.to(dtype), labels, EPS)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_integers_are_attacked(network: Network, images: Tensor, labels: Tensor, dtype) -> None:
    model, given = network("tiny"), labels.to(dtype)
    for attack in (
        adv.fgsm,
        adv.bim,
        adv.mim,
        partial(adv.pgd, restarts=2, steps=3),
        partial(adv.pgd, loss="margin", steps=3),
    ):
        assert torch.equal(attack(model, images, given, EPS).images, attack(model, images, labels, EPS).images)
    assert torch.equal(adv.margin(images.flatten(1)[:, :6], given), adv.margin(images.flatten(1)[:, :6], labels))
    assert adv.judge(model, images, given) == adv.judge(model, images, labels)


def test_pixel_model_normalises(network: Network, images: Tensor) -> None:
    model, mean, std = network("tiny"), torch.tensor([0.1, 0.5, 0.2]), torch.tensor([0.3, 0.2, 0.4])
    by_hand = torch.stack([(images[:, c] - mean[c]) / std[c] for c in range(3)], 1)
    torch.testing.assert_close(adv.PixelModel(model, mean, std)(images), model(by_hand))
    with pytest.raises(LessonplanError, match="above 0"):
        adv.PixelModel(model, [0.5], [0.0])
    with pytest.raises(LessonplanError, match="channels"):
        adv.PixelModel(model, [0.5, 0.5], [1.0])


@pytest.mark.parametrize("attack", [adv.fgsm, adv.bim, adv.mim, adv.pgd])
def test_bad_input_is_refused(network: Network, images: Tensor, labels: Tensor, attack: adv.Attack) -> None:
    model = network("tiny")
    for x in (images * 255, images - 0.5, images.clone().index_fill_(0, torch.tensor([0]), math.nan)):
        with pytest.raises(LessonplanError, match=r"not in \[0, 1\]"):
            attack(model, x, labels, EPS)
    with pytest.raises(LessonplanError, match="divide them by 255"):
        attack(model, (images * 255).byte(), labels, EPS)
    with pytest.raises(LessonplanError, match=r"did you mean 8/255 = 0\.0314\?"):
        attack(model, images, labels, 8)
    for eps in (-0.1, math.nan):
        with pytest.raises(LessonplanError, match=r"in \[0, 1\]"):
            attack(model, images, labels, eps)
    with pytest.raises(LessonplanError, match="returns probabilities"):
        attack(nn.Sequential(model, nn.Softmax(1)), images, labels, EPS)
    with pytest.raises(LessonplanError, match="6 outputs"):
        attack(model, images, labels + 1, EPS)
    for y in (labels[:3], labels.float()):
        with pytest.raises(LessonplanError, match="integer labels"):
            attack(model, images, y, EPS)
    with pytest.raises(LessonplanError, match="at least one"):
        attack(model, images[:0], labels[:0], EPS)
    with pytest.raises(LessonplanError, match="cross-entropy"):
        attack(model, images, labels, EPS, loss="cross_entropy")
    with pytest.raises(LessonplanError, match="draws=0"):
        attack(model, images, labels, EPS, draws=0)
    constant = nn.Sequential(nn.Flatten(), _Detached())
    with pytest.raises(LessonplanError, match="no gradient with respect to its input"):
        attack(constant, images, labels, EPS)


class _Detached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()[:, :6] * 3 + 0.1


def test_bad_options_are_refused(network: Network, images: Tensor, labels: Tensor) -> None:
    model = network("tiny")
    for call, says in (
        (partial(adv.bim, steps=0), "at least 1 step"),
        (partial(adv.pgd, step_size=-1.0), "length of at least 0"),
        (partial(adv.mim, decay=-0.5), "decay"),
        (partial(adv.pgd, restarts=0), "restarts=0"),
        (partial(adv.pgd, restarts=2, random_start=False), "random starts"),
    ):
        with pytest.raises(LessonplanError, match=says):
            call(model, images, labels, EPS)
