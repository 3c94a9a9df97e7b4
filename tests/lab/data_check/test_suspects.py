"""Confident learning against its equations in loops, and planted wrong labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lessonplan.lab.data_check.suspects import confident_learning, out_of_fold


def by_loops(probabilities, labels):
    """Equations 1 to 3 of Northcutt et al. (2021), one sample after another."""
    count, classes = probabilities.shape
    thresholds = [
        np.mean([probabilities[i, j] for i in range(count) if labels[i] == j]) if j in labels else None
        for j in range(classes)
    ]
    joint, suspects = np.zeros((classes, classes)), {}
    for i in range(count):
        candidates = [
            k for k in range(classes) if thresholds[k] is not None and probabilities[i, k] >= thresholds[k] - 1e-12
        ]
        if not candidates:
            continue
        best = max(candidates, key=lambda k: probabilities[i, k])
        joint[labels[i], best] += 1
        if best != labels[i]:
            suspects[i] = best
    share = 0.0
    for j in range(classes):
        size = sum(label == j for label in labels)
        if joint[j].sum():
            share += size / count * (1 - joint[j, j] / joint[j].sum())
    return suspects, share


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(2, 5))
def test_suspects_are_those_of_the_equations(seed, count, classes):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, 0.5), count)
    labels = rng.integers(0, classes, count)
    suspects, share = by_loops(probabilities, labels)
    found = confident_learning(probabilities, labels)
    assert dict(zip(found.rows.tolist(), found.classes.tolist(), strict=True)) == suspects
    assert found.share == pytest.approx(share)
    margins = [probabilities[i, labels[i]] - probabilities[i, suspects[i]] for i in found.rows]
    assert margins == sorted(margins)


def test_by_hand():
    """Thresholds .7 and .6: the third sample is as sure of class 1 as those are, and labelled 0."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.4, 0.6], [0.4, 0.6]])
    found = confident_learning(probabilities, np.array([0, 0, 0, 1, 1]))
    assert (found.rows.tolist(), found.classes.tolist()) == ([2], [1])
    assert found.share == pytest.approx(3 / 5 * 1 / 3)


def blobs(count, classes, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return rng.normal(size=(count, 6)) + 4 * np.eye(6)[labels], labels, rng


def test_planted_wrong_labels_are_recovered():
    x, true, rng = blobs(400, 4, 0)
    wrong = rng.choice(400, 30, replace=False)
    given_labels = true.copy()
    given_labels[wrong] = (true[wrong] + 1) % 4
    found = confident_learning(out_of_fold(x, given_labels, 4, np.arange(400), 0), given_labels)
    recovered = set(found.rows.tolist()) & set(wrong.tolist())
    # A wrong label is doubted where the model is surer of the other class than of an average sample of it.
    assert len(recovered) >= 22
    assert len(recovered) >= 0.9 * len(found.rows)
    assert set(found.rows[:15].tolist()) <= set(wrong.tolist())  # the most suspicious are all wrong
    right = [k == true[row] for row, k in zip(found.rows, found.classes, strict=True) if row in recovered]
    assert np.mean(right) > 0.9
    assert found.share == pytest.approx(30 / 400, abs=0.03)


def test_copies_of_a_sample_are_not_learned_from():
    rng = np.random.default_rng(0)
    once = rng.normal(size=(60, 40))
    labels = np.tile(rng.integers(0, 2, 60), 2)
    x, groups = np.tile(once, (2, 1)), np.tile(np.arange(60), 2)
    apart = out_of_fold(x, labels, 2, groups, 0).argmax(1)
    together = out_of_fold(x, labels, 2, np.arange(120), 0).argmax(1)
    assert (together == labels).mean() > 0.8  # a copy in another fold tells the label
    assert (apart == labels).mean() < 0.7


def test_a_constant_feature_and_an_absent_class_do_no_harm():
    x, labels, _ = blobs(60, 3, 1)
    found = out_of_fold(np.hstack([x, np.ones((60, 1))]), labels, 5, np.arange(60), 0)
    assert found.shape == (60, 5)
    assert np.allclose(found.sum(1), 1)
    assert (found[:, 3:] == 0).all()
    assert (found.argmax(1) == labels).mean() > 0.9
