"""Scores of each class beside scikit-learn's, with classes nobody predicts and classes without samples."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from lessonplan.confusion import agreement, class_scores, classes_of, frequent_confusions, scores_of
from lessonplan.evaluate import classification_metrics, detailed_metrics, reliability

CLASSES = 5
PAIRS = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=60)


def logits_for(predicted: np.ndarray) -> torch.Tensor:
    noise = torch.rand(len(predicted), CLASSES, generator=torch.Generator().manual_seed(0))
    return noise + 2 * torch.nn.functional.one_hot(torch.tensor(predicted), CLASSES)


def nan_for_none(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


@given(PAIRS)
def test_scores_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    true, predicted = np.array(pairs).T
    found = detailed_metrics(logits_for(predicted), torch.tensor(true))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        true, predicted, labels=range(CLASSES), zero_division=np.nan
    )
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
        np.testing.assert_allclose(nan_for_none(found["per_class"][name]), expected, err_msg=name)
    assert found["per_class"]["support"] == support.tolist()
    assert found["confusion"] == metrics.confusion_matrix(true, predicted, labels=range(CLASSES)).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of predicted classes without samples
        assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(true, predicted))
    macro = metrics.f1_score(true, predicted, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(macro)
    quick = classification_metrics(logits_for(predicted), torch.tensor(true))
    assert (quick["balanced_accuracy"], quick["macro_f1"]) == (found["balanced_accuracy"], found["macro_f1"])


def test_a_class_never_predicted_and_one_that_is_absent_by_hand() -> None:
    """Class 0: 2 of 2 found, 1 of another taken for it; class 1: never predicted; class 2: absent."""
    scores = scores_of([[2, 0, 0], [1, 0, 0], [0, 0, 0]])
    assert scores.precision == [2 / 3, None, None]
    assert scores.recall == [1.0, 0.0, None]
    assert scores.f1 == [0.8, 0.0, None]
    assert (scores.support, scores.balanced_accuracy, scores.macro_f1) == ([2, 1, 0], 0.5, 0.4)
    assert class_scores([2, 0, 0], [2, 1, 0], [3, 0, 0]) == scores


def test_the_bins_are_stored_beside_the_error() -> None:
    logits, labels = torch.randn(50, 4, generator=torch.Generator().manual_seed(1)), torch.arange(50) % 4
    bins = detailed_metrics(logits, labels)["reliability"]
    expected = reliability(logits.double().softmax(1), labels)
    assert (bins["count"], bins["accuracy"]) == (expected.count, expected.accuracy)
    assert sum(bins["count"]) == 50


@given(st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=4), min_size=4, max_size=4), st.integers(1, 20))
def test_frequent_confusions_beside_a_loop(confusion: list[list[int]], most: int) -> None:
    expected = [
        (-n, -n / sum(row), t, p) for t, row in enumerate(confusion) for p, n in enumerate(row) if t != p and n
    ]
    found = [(-c.count, -c.share, c.true, c.predicted) for c in frequent_confusions(confusion, most)]
    assert found == sorted(expected)[:most]


def test_classes_of_pairs_stop_before_there_are_too_many() -> None:
    pairs = frequent_confusions([[0, 9, 0, 0], [8, 0, 0, 0], [0, 0, 0, 7], [0, 0, 6, 0]], 10)
    assert [classes_of(pairs, most) for most in (1, 2, 3, 4)] == [[], [0, 1], [0, 1], [0, 1, 2, 3]]


@given(PAIRS)
def test_kappa_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    true, predicted = np.array(pairs).T
    found = agreement(metrics.confusion_matrix(true, predicted, labels=range(CLASSES)))
    if len(set(true)) == 1:
        assert found is None
        return
    assert found is not None
    assert found.kappa == pytest.approx(metrics.cohen_kappa_score(true, predicted), abs=1e-12)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(true, predicted))
    assert found.most_frequent == pytest.approx(np.bincount(true).max() / len(true))


def test_agreement_by_chance_is_told_by_shuffled_labels() -> None:
    """A permutation of the labels leaves both sides' counts as they are and nothing of the agreement."""
    rng = np.random.default_rng(0)
    true, predicted = rng.choice(3, 400, p=[0.6, 0.3, 0.1]), rng.choice(3, 400, p=[0.3, 0.5, 0.2])
    shuffled = [np.bincount(3 * rng.permutation(true) + predicted, minlength=9).reshape(3, 3) for _ in range(2000)]
    found = [agreement(confusion) for confusion in shuffled]
    z = np.array([one.z for one in found if one is not None])
    assert z.mean() == pytest.approx(0, abs=0.07)
    assert z.std() == pytest.approx(1, abs=0.05)
    assert np.mean([not one.at_chance for one in found if one is not None]) == pytest.approx(0.05, abs=0.015)


def test_answers_that_are_all_the_same_are_at_chance_and_good_ones_are_not() -> None:
    always = agreement([[90, 0], [10, 0]])
    assert always is not None
    assert (always.at_chance, always.accuracy, always.kappa) == (True, 0.9, 0.0)
    rarely = agreement([[85, 5], [2, 8]])  # a lower accuracy than the most frequent class', and yet it knows much
    assert rarely is not None
    assert not rarely.at_chance
    with pytest.raises(ValueError, match="shape"):
        agreement([[1, 2]])
