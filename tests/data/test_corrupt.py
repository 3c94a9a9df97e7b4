"""Label noise: how much, which labels, what stays true, and that data say so."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from lessonplan.data import load
from lessonplan.data.corrupt import corrupt
from lessonplan.errors import ConfigError


@given(st.integers(1, 60), st.floats(0, 1), st.integers(1, 5), st.integers(-3, 3))
def test_the_fraction_is_exact_and_the_rest_untouched(n, fraction, classes, seed):
    labels = torch.arange(n) % classes
    before = labels.clone()
    noisy = corrupt(labels, torch.arange(n) * 7, fraction, classes, seed=seed)
    assert int(noisy.corrupted.sum()) == int(fraction * n + 0.5)
    assert torch.equal(noisy.labels[~noisy.corrupted], labels[~noisy.corrupted])
    assert torch.equal(labels, before)
    assert 0 <= int(noisy.labels.min()) <= int(noisy.labels.max()) < classes


def test_drawn_labels_are_uniform_over_all_classes_the_true_one_included():
    labels = torch.full((20_000,), 3)
    noisy = corrupt(labels, torch.arange(20_000), 0.5, 10, seed=0)
    counts = noisy.labels[noisy.corrupted].bincount(minlength=10)
    assert chisquare(counts).pvalue > 1e-3
    assert 900 < int(counts[3]) < 1100
    # Which rows are hit does not follow their place.
    assert chisquare(noisy.corrupted.view(20, 1000).sum(1)).pvalue > 1e-3


def test_a_label_depends_on_seed_and_row_alone_and_more_noise_keeps_the_noise_there_was():
    rows = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    labels = rows % 4
    little, much = (corrupt(labels, rows, f, 4, seed=1) for f in (0.2, 0.6))
    assert bool((much.corrupted | ~little.corrupted).all())
    assert torch.equal(much.labels[little.corrupted], little.labels[little.corrupted])
    turned = corrupt(labels.flip(0), rows.flip(0), 0.2, 4, seed=1)
    assert torch.equal(turned.labels.flip(0), little.labels)
    everywhere = corrupt(labels[:50], rows[:50], 1.0, 4, seed=1)
    both = little.corrupted[:50]
    assert torch.equal(everywhere.labels[both], little.labels[:50][both])
    assert not torch.equal(corrupt(labels, rows, 0.2, 4, seed=2).corrupted, little.corrupted)


def test_training_labels_alone_are_corrupted_and_every_way_to_read_them_agrees():
    clean = load("digits", val_fraction=0.2, seed=3)
    data = load("digits", val_fraction=0.2, seed=3, label_noise=0.3)
    n = len(data.train)
    assert torch.equal(data.train.rows, clean.train.rows)
    assert torch.equal(data.train.clean_labels, clean.train.labels)
    assert int(data.train.corrupted.sum()) == round(0.3 * n)
    changed = data.train.labels != data.train.clean_labels
    assert bool((data.train.corrupted | ~changed).all())
    assert 0.8 < int(changed.sum()) / int(data.train.corrupted.sum()) < 0.98  # 9 of 10 draws are another class
    everyone = torch.arange(n)
    assert torch.equal(data.train.fetch(everyone)[1], data.train.labels)
    assert torch.equal(data.train.with_augment(None).fetch(everyone)[1], data.train.labels)
    assert torch.equal(data.train.with_augment(None).corrupted, data.train.corrupted)
    assert torch.equal(next(data.train.batches([everyone]))[1], data.train.labels)
    for view, other in ((data.val, clean.val), (data.test, clean.test)):
        assert torch.equal(view.labels, other.labels)
        assert torch.equal(view.fetch(torch.arange(len(view)))[1], other.labels)
        assert not view.corrupted.any()
    assert not clean.train.corrupted.any()
    assert data.description["label_noise"] == {
        "fraction": 0.3, "drawn": round(0.3 * n), "changed": int(changed.sum())
    }  # fmt: skip
    assert "label_noise" not in clean.description


def test_fingerprints_tell_noise_apart():
    prints = [load("digits", per_class=10, label_noise=f).fingerprint for f in (0.0, 0.2, 0.4)]
    assert len(set(prints)) == 3
    assert load("digits", per_class=10, label_noise=0.2).fingerprint == prints[1]
    assert load("digits", per_class=10).fingerprint == prints[0]


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), True, "0.2"])
def test_fractions_that_cannot_be(fraction):
    with pytest.raises(ConfigError, match="label_noise"):
        load((np.zeros((4, 4, 4), dtype=np.uint8), [0, 1, 0, 1]), label_noise=fraction)
