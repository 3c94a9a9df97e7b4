"""Columns of robustness: transfer, adaptive, over eps; and AutoAttack where it is installed."""

from __future__ import annotations

import copy
import sys
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lessonplan import evaluate as ev
from lessonplan.errors import LessonplanError
from lessonplan.evaluate import adversarial as adv

EPS = 8 / 255


@pytest.fixture
def attacked(digits: Any) -> tuple[nn.Module, Tensor, Tensor]:
    """A trained network and 60 images on which it is right, so that accuracy can only fall."""
    right = digits.model(digits.test).argmax(1) == digits.test_labels
    return digits.model, digits.test[right][:60], digits.test_labels[right][:60]


def test_white_box_and_transfer(attacked: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = attacked
    other = nn.Sequential(model[:3], nn.Identity(), copy.deepcopy(model[3]))
    other[2].weight.data.mul_(torch.linspace(-0.5, 1.5, 64))  # looks at other hidden units
    seen: list[int] = []
    white = adv.robust_accuracy(model, x, y, adv.bim, EPS, batch_size=25, progress=seen.append)
    assert seen == [25, 25, 10]
    by_hand = model(adv.bim(model, x, y, EPS).images).argmax(1) == y
    assert white.accuracy == by_hand.double().mean().item()
    transfer = adv.robust_accuracy(model, x, y, adv.bim, EPS, source=other)
    moved = adv.bim(other, x, y, EPS).images
    assert transfer.accuracy == (model(moved).argmax(1) == y).double().mean().item()
    assert white.accuracy < transfer.accuracy < 1.0
    assert white.images == 60


def test_top5_counts_the_first_five(images: Tensor) -> None:
    class Ranked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -torch.arange(6.0).expand(len(x), 6)  # class 0 first, class 5 last

    found = adv.judge(Ranked(), images, torch.arange(12) % 6)
    assert (found.accuracy, found.top5, found.no_gradient) == (2 / 12, 10 / 12, None)


def test_curve_falls_from_clean_accuracy(attacked: tuple[nn.Module, Tensor, Tensor]) -> None:
    curve = adv.robustness_curve(*attacked, adv.pgd, [0.0, 0.02, 0.05, 0.2])
    heights = [curve[e].accuracy for e in (0.0, 0.02, 0.05, 0.2)]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] == 1.0
    assert heights[-1] < 0.05


class Masked(nn.Module):
    """A network whose gradient drowns in noise of mean zero; its predictions are untouched."""

    def __init__(self, clean: nn.Module) -> None:
        super().__init__()
        self.clean, self.generator, self.calls = clean, torch.Generator().manual_seed(0), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        logits = self.clean(x)
        noise = torch.randn(len(x), logits.shape[1], x[0].numel(), generator=self.generator) * 3
        nothing = (x - x.detach()).flatten(1)
        return logits + torch.einsum("ncd,nd->nc", noise, nothing)


def test_adaptive_attack_sees_through_masked_gradients(attacked: tuple[nn.Module, Tensor, Tensor]) -> None:
    clean, x, y = attacked
    masked = Masked(clean)
    naive = adv.robust_accuracy(masked, x, y, adv.fgsm, 0.12)
    masked.calls = 0
    adaptive = adv.adaptive_accuracy(masked, x, y, adv.fgsm, 0.12, draws=100, judgements=3)
    assert masked.calls == 100 + 3
    truth = adv.robust_accuracy(clean, x, y, adv.fgsm, 0.12)
    assert naive.accuracy > truth.accuracy + 0.3
    assert adaptive.accuracy < naive.accuracy - 0.2


def test_adaptive_attack_on_a_defence_uses_at_least_twenty_draws(
    attacked: tuple[nn.Module, Tensor, Tensor], digits: Any
) -> None:
    model, x, y = attacked[0], attacked[1][:12], attacked[2][:12]
    sizes: list[int] = []
    handle = model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    defence = ev.TestTimeSum(model, digits.train, 2, 4, chunk=10_000)
    adv.adaptive_accuracy(defence, x, y, partial(adv.bim, steps=3), EPS, judgements=2)
    handle.remove()
    assert sizes == [240] * 3 + [48] * 2  # three gradients of 20 copies, two judgements of 4
    with pytest.raises(LessonplanError, match="at least 20 draws"):
        adv.adaptive_accuracy(defence, x, y, adv.bim, EPS, draws=19)


class Expected(nn.Module):
    """Test-time sums of two in the limit of infinitely many copies: every sample of the pool once."""

    def __init__(self, model: nn.Module, pool: Tensor) -> None:
        super().__init__()
        self.model, self.pool = model, pool

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.model((x + p) / 2).softmax(1) for p in self.pool]).mean(0).log()


def test_a_defence_with_many_copies_has_the_gradient_of_the_expectation(
    attacked: tuple[nn.Module, Tensor, Tensor], digits: Any
) -> None:
    model, x, y = attacked
    pool = digits.train[:12]
    defence, expected = ev.TestTimeSum(model, pool, 2, 1), Expected(model, pool)
    exact = adv.fgsm(expected, x, y, EPS).images
    agreement = {
        copies: (adv.fgsm(defence.with_copies(copies), x, y, EPS).images == exact).double().mean().item()
        for copies in (1, 20, 1000)
    }
    assert agreement[1] < 0.9
    assert agreement[20] > 0.93
    assert agreement[1000] > 0.98


def test_defence_table_judges_the_same_images_in_its_first_columns(
    attacked: tuple[nn.Module, Tensor, Tensor], digits: Any
) -> None:
    model, x, y = attacked
    defence = ev.TestTimeSum(model, digits.train, 2, 30)
    done: list[int] = []
    (clean, row) = adv.defence_table(
        model, defence, x, y, {"bim": adv.bim}, 0.08, batch_size=32, progress=done.append
    )
    assert (clean.attack, row.attack) == ("none", "bim")
    assert clean.undefended == adv.Robustness(1.0, 1.0, None, 60)
    assert clean.transfer == clean.adaptive
    assert clean.transfer.accuracy > 0.9
    found = adv.bim(model, x, y, 0.08)
    assert row.undefended == adv.judge(model, found, y)
    assert row.transfer.accuracy == pytest.approx(adv.judge(defence, found, y, judgements=5).accuracy, abs=0.05)
    assert row.adaptive.accuracy < clean.adaptive.accuracy - 0.2
    assert sum(done) == 120


def test_judge_refuses_what_is_no_image(digits: Any) -> None:
    with pytest.raises(LessonplanError, match=r"not in \[0, 1\]"):
        adv.judge(digits.model, digits.test * 2, digits.test_labels)
    with pytest.raises(LessonplanError, match="at least once"):
        adv.judge(digits.model, digits.test, digits.test_labels, judgements=0)


def test_autoattack_missing(digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(LessonplanError, match=r"pip install lessonplan\[autoattack\]"):
        adv.autoattack(digits.model, digits.test, digits.test_labels, EPS)


def test_autoattack_is_at_least_as_strong(attacked: tuple[nn.Module, Tensor, Tensor]) -> None:
    pytest.importorskip("pyautoattack")
    model, x, y, eps = attacked[0], attacked[1][:10], attacked[2][:10], 0.1
    trace = sys.gettrace()
    with torch.no_grad():
        found = adv.autoattack(model, x, y, eps, version="rand")
    assert sys.gettrace() is trace
    assert (found.images - x).abs().max() <= eps + 1e-6
    mine = adv.robust_accuracy(model, x, y, adv.pgd, eps)
    theirs = adv.judge(model, found, y)
    assert theirs.accuracy <= mine.accuracy < 1.0
    with pytest.raises(LessonplanError, match="did you mean 8/255"):
        adv.autoattack(model, x, y, 8)
    with pytest.raises(LessonplanError, match="standard, or rand"):
        adv.autoattack(model, x, y, eps, version="plus")
    with pytest.raises(LessonplanError, match="at least 4 classes"):
        adv.autoattack(_TwoClasses(model), x, y * 0, eps)


class _TwoClasses(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)[:, :2]
