"""Mistakes: every message says what was given and what to do."""

from __future__ import annotations

import re

import pytest
import torch

from lessonplan import mix as m
from lessonplan.errors import ConfigError


def refuses(call, *parts):
    """The call raises one ``ConfigError`` whose message contains every part, in this order."""
    with pytest.raises(ConfigError, match=".*".join(re.escape(p) for p in parts)):
        call()


def test_empty_batch(case):
    refuses(lambda: case.make(0)(torch.zeros(0, 3, 6, 8), torch.zeros(0).long()), "empty batch", "at least one")


def test_lengths_differ(case):
    x, y = case.batch(6)
    refuses(lambda: case.make(0)(x, y[:5]), "6 inputs and 5 labels", "as many labels")


def test_labels_out_of_range(case):
    x, y = case.batch(6)
    low, high = y.clone(), y.clone()
    low[2], high[3] = -1, 5
    refuses(lambda: case.make(0)(x, high), "to 5", "num_classes=5", "0 to 4")
    refuses(lambda: case.make(0)(x, low), "from -1 to", "num_classes=5", "0 to 4")


def test_labels_of_wrong_shape(case):
    x, y = case.batch(6)
    for labels in (y.float(), y.unsqueeze(1), torch.zeros(6, 5, 1)):
        refuses(lambda labels=labels: case.make(0)(x, labels), str(tuple(labels.shape)), "(N,)", "(N, C)")


def test_what_is_no_batch_of_numbers(case):
    x, y = case.batch(6)
    refuses(lambda: case.make(0)(x, y.tolist()), "labels of type list", "(N,) or (N, C)")
    refuses(lambda: case.make(0)(x, y.numpy()), "labels of type ndarray")
    for inputs, labels in ((torch.tensor(1.0), y[0]), (x[:1], y[0])):
        refuses(lambda inputs=inputs, labels=labels: case.make(0)(inputs, labels), "single number", "(N, ...)")
    refuses(lambda: case.make(0)(x.to(torch.complex64), y), "imaginary parts", "view_as_real")


@pytest.mark.parametrize("make", [m.CutMix, lambda **k: m.CutMix(per_sample=True, **k), m.Cutout])
def test_images_without_a_pixel(make):
    refuses(lambda: make(num_classes=2)(torch.zeros(4, 3, 0, 5), torch.zeros(4).long()), "without a pixel")


def test_unknown_number_of_classes(case):
    x, y = case.batch(6)
    mix = case.make(0)
    forget_classes(mix)
    refuses(lambda: mix(x, y), "does not know how many classes", "num_classes=", "(N, C)")


def forget_classes(mix):
    """As if nobody had said how many classes there are."""
    mix.num_classes = None
    for child in mix.children():
        forget_classes(child)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_values_on_request(case, bad):
    x, y = case.batch(6)
    soft = torch.nn.functional.one_hot(y, 5).float()
    mix = case.make(0)
    x[1, 0, 2, 3] = bad
    mix(x, y)
    mix.check = True
    refuses(lambda: mix(x, y), "NaN or infinite", "mend the data")
    x[1, 0, 2, 3], soft[2, 1] = 0.0, bad
    refuses(lambda: mix(x, soft), "NaN or infinite")


def test_k_larger_than_the_batch(case):
    for n in range(1, case.at_least):
        x, y = case.batch(n)
        refuses(lambda: case.make(0).rehearse(x, y), f"{case.at_least}", f"{n}", "smaller k or a larger batch")  # noqa: B023


@pytest.mark.parametrize("cls", [m.SumAugment, m.Cascade, m.GradualCascade])
@pytest.mark.parametrize("k", [0, -2])
def test_k_below_one(cls, k):
    refuses(lambda: cls(k), f"k={k}", "at least 1")


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("cls", [m.Mixup, m.CutMix, m.SumAugment])
def test_alpha(cls, alpha):
    refuses(lambda: cls(alpha=alpha), f"alpha={alpha}", "above 0")


@pytest.mark.parametrize("cls", [m.CutMix, m.Cutout])
@pytest.mark.parametrize("shape", [(4,), (4, 9)])
def test_boxes_need_images(cls, shape):
    refuses(lambda: cls(num_classes=2)(torch.zeros(shape), torch.zeros(4).long()), "(N, ..., H, W)", str(shape))


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: m.Mixup(pairing="pairs"), ["pairing='pairs'", "permute or rotate"]),
        (lambda: m.SumAugment(pairing="pairs"), ["pairing='pairs'", "groups or permute"]),
        (lambda: m.SumAugment(labels="max"), ["labels='max'", "average, first or union"]),
        (lambda: m.SumAugment(remainder="pad"), ["remainder='pad'", "wrap or drop"]),
        (lambda: m.SumAugment(draw="all"), ["draw='all'", "raw or mixed"]),
        (lambda: m.SumAugment(coefficients="beta"), ["coefficients='beta'", "dirichlet"]),
        (lambda: m.GradualCascade(remainder="pad"), ["remainder='pad'", "wrap or drop"]),
        (lambda: m.GradualCascade(draw="all"), ["draw='all'", "raw or mixed"]),
        (lambda: m.GradualCascade(variant="cosine"), ["variant='cosine'", "thesis, progress, linear"]),
        (lambda: m.GradualCascade(granularity="batch"), ["granularity='batch'", "step or epoch"]),
        (lambda: m.GradualCascade(finetune=1.0), ["finetune=1.0", "[0, 1)"]),
        (lambda: m.SamplePairing(finetune=-0.1), ["finetune=-0.1", "[0, 1)"]),
        (lambda: m.Cutout(0), ["length=0", "at least 1 pixel"]),
        (lambda: m.Cascade(steps="third"), ["steps='third'", "halve or decrement"]),
        (lambda: m.Cascade(lr_at_switch="drop"), ["lr_at_switch='drop'", "restart or keep"]),
        (lambda: m.Cascade(patience=0), ["patience=0", "at least 1"]),
        (lambda: m.Cascade(4, stop_at=5), ["k=4", "stop at 5", "1 to k"]),
        (lambda: m.Cascade(4, stop_at=0), ["stop at 0", "1 to k"]),
        (lambda: m.Cascade(patience=None, shares=None), ["never ends", "give one of them"]),
        (lambda: m.Cascade(shares="even"), ["shares='even'", "'equal'"]),
        (lambda: m.Cascade(4, shares=[0.5, 0.5]), ["shares=(0.5, 0.5)", "(4, 2, 1)", "one number a stage"]),
        (lambda: m.Cascade(4, shares=[0.5, 0.5, 0.5]), ["together 1"]),
        (lambda: m.Cascade(4, shares=[0.5, -0.5, 1.0]), ["together 1"]),
        (lambda: m.Choice([]), ["at least one"]),
        (lambda: m.Choice([m.Mixup(), m.CutMix()], p=[1.0]), ["2 mixes", "one probability each"]),
        (lambda: m.Choice([m.Mixup(), m.CutMix()], p=[0.5, 0.6]), ["together 1"]),
        (lambda: m.Choice([m.Mixup(), m.CutMix()], p=[1.5, -0.5]), ["together 1"]),
        (lambda: m.Probability(), ["Probability needs a mix"]),
        (lambda: m.Until("80%"), ["Until needs a mix"]),
        (lambda: m.Probability(m.Mixup(), p=1.5), ["p=1.5", "[0, 1]"]),
        (lambda: m.Until(m.Mixup(), "120%"), ["'120%'", "'80%' or 0.8"]),
        (lambda: m.Until(m.Mixup(), "soon"), ["'soon'", "'80%' or 0.8"]),
    ],
)
def test_options(make, parts):
    refuses(make, *parts)


def test_coefficients_of_a_wrong_shape():
    mix = m.SumAugment(2, 2, coefficients=lambda k, count, generator: torch.ones(count, k))
    refuses(lambda: mix(torch.zeros(6), torch.zeros(6).long()), "(3, 2)", "(k, M) = (2, 3)")


def test_cascade_refuses_a_nan_metric():
    refuses(lambda: m.Cascade().step(float("nan")), "metric is NaN")


def test_a_mix_must_say_how_it_mixes():
    class Silent(m.Mix):
        num_classes = 2

    with pytest.raises(TypeError, match="abstract class Silent"):
        Silent()(torch.zeros(2), torch.zeros(2).long())
