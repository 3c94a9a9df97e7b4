"""Sums whose target is one image's label: what a loop over the images says, and the loss that goes with it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lessonplan as lp
from lessonplan import mix as m
from lessonplan.errors import ConfigError
from lessonplan.losses import SumBCE


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 15), k=st.integers(2, 5), drop=st.booleans())
def test_each_sum_has_the_label_of_the_image_it_begins_with(n, k, drop):
    """Images that tell their number in the batch, in a base that keeps the summands apart."""
    k = min(k, n)
    x, y = torch.eye(n, dtype=torch.float64), torch.arange(n)
    remainder = "drop" if drop else "wrap"
    mixed, target = m.SumAugment(k, n, labels="first", remainder=remainder)(x, y)
    groups = n // k if drop else math.ceil(n / k)
    for place in range(groups):
        summands = [(place + j * groups) % n for j in range(k)]
        assert mixed[place].tolist() == pytest.approx([summands.count(i) / k for i in range(n)])
        assert target[place].tolist() == [float(i == place) for i in range(n)]
    _, average = m.SumAugment(k, n, remainder=remainder)(x, y)
    assert not torch.equal(target, average)


def test_images_are_summed_as_with_mixed_labels():
    x, y = torch.randn(12, 4), torch.arange(12) % 5
    for options in ({}, {"pairing": "permute"}, {"coefficients": "dirichlet"}):
        mixed, _ = m.SumAugment(3, 5, seed=1, **options)(x, y)
        again, own = m.SumAugment(3, 5, seed=1, labels="first", **options)(x, y)
        assert torch.equal(mixed, again)
        assert torch.equal(own.argmax(1), y[: len(own)])


def test_the_image_that_stays_in_a_gradual_cascade_gives_the_label():
    mix = m.GradualCascade(4, 3, labels="first", finetune=0.0)
    x, y = torch.eye(12), torch.arange(12) % 3
    for progress in (0.0, 0.3, 0.5, 0.9, 1.0):
        mix.advance(progress)
        mixed, target = mix(x, y)
        largest = mixed.argmax(1)  # the first of those with as much weight
        assert torch.equal(target.argmax(1), y[largest])
        assert torch.equal(target.amax(1), torch.ones(len(target)))


def test_a_cascade_keeps_the_rule_in_all_its_stages():
    mix = m.Cascade(4, 3, labels="first")
    x, y = torch.randn(12, 2), torch.arange(12) % 3
    for progress, k in ((0.0, 4), (0.4, 2), (0.8, 1)):
        mix.advance(progress)
        assert torch.equal(mix(x, y)[1].argmax(1), y[: 12 // k])


def test_sums_of_two_by_permutation_are_sample_pairing():
    x, y = torch.randn(8, 3), torch.arange(8) % 4
    pairing = m.SamplePairing(num_classes=4)
    summing = m.SumAugment(2, 4, pairing="permute", labels="first")
    pairing.generator.manual_seed(5)
    summing.generator.manual_seed(5)
    summed, target = summing(x, y)
    paired, own = pairing(x, y)
    torch.testing.assert_close(summed, paired)
    assert torch.equal(target, own)


@pytest.mark.parametrize("k", [2, 4])
def test_the_loss_is_binary_cross_entropy_with_one_label_over_k(k):
    x, y = torch.randn(8, 3), torch.arange(8) % 3
    mix = m.SumAugment(k, 3, labels="first")
    mixed, target = mix(x, y)
    total = 0.0
    for row, label in zip(mixed.double().tolist(), y.tolist(), strict=False):  # the images as logits
        for c, z in enumerate(row):
            p = 1 / (1 + math.exp(-z))
            total -= math.log(p if c == label else 1 - p)
    assert SumBCE(mix)(mixed, target).item() == pytest.approx(total / k / len(mixed), rel=1e-5)


@pytest.mark.parametrize("text", ["sum:k=2,labels=first", "cascade:k=2,labels=first", "gradual:k=2,labels=first"])
def test_training_goes_by_the_one_label(text):
    """Another loss than with mixed labels from the same weights and the same images."""
    options = {"threads": 1, "batch_size": 20, "loss": "sum-bce"}
    run = lp.fit("fcnet-8", "digits", text, "4 steps", **options)
    other = lp.fit("fcnet-8", "digits", text.replace(",labels=first", ""), "4 steps", **options)
    assert run.result["samples"] == other.result["samples"]
    states = (run.model.state_dict(), other.model.state_dict())
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_union_is_no_rule_of_a_gradual_cascade():
    with pytest.raises(ConfigError, match=r"labels='union'.*average or first"):
        m.GradualCascade(4, labels="union")


def test_runs_from_before_are_the_same_runs():
    assert "labels" not in m.GradualCascade(4).config()
    assert m.GradualCascade(4, labels="first").config()["labels"] == "first"
