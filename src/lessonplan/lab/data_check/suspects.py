"""Labels that may be wrong, by confident learning (Northcutt, Jiang and Chuang 2021, J. AI Research 70)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lessonplan.progress import step

Array = npt.NDArray[Any]

_FOLDS = 5
_STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # inverse regularisations that are tried
_COMPONENTS = 128
ENOUGH = 0.5
"""Cohen's kappa, at the lower end of its 95% interval, from which predictions are trusted to doubt labels."""


@dataclass(frozen=True)
class Suspects:
    """Samples whose label another class fits better.

    Attributes:
        rows: ``(S,)`` int64, the most suspicious first.
        classes: ``(S,)`` int64, the class that fits better.
        share: of all labels that are wrong, as the joint distribution of given and true labels estimates.
    """

    rows: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    share: float


def confident_learning(probabilities: Array, labels: Array) -> Suspects:
    """Suspects by the off-diagonal of the confident joint, ordered by normalised margin.

    A sample counts as of class k if its probability of k is at least the mean probability of k among samples
    labelled k (the threshold of equation 2), and k is the most probable of such classes. It is a suspect if k is
    not its label.

    Args:
        probabilities: ``(N, C)``, of each sample by a model that was not trained on it.
        labels: ``(N,)`` int64, as given.
    """
    count, classes = probabilities.shape
    own = probabilities[np.arange(count), labels]
    sizes = np.bincount(labels, minlength=classes)
    thresholds = np.bincount(labels, weights=own, minlength=classes) / np.maximum(sizes, 1)
    # Of a class without samples nothing is known, and rounding must not keep a sample out of its own class.
    confident = (probabilities >= thresholds - 1e-12) & (sizes > 0)
    believed = np.where(confident, probabilities, -1.0).argmax(1)
    counted = confident.any(1)
    joint = np.zeros((classes, classes))
    np.add.at(joint, (labels[counted], believed[counted]), 1.0)
    # Each label keeps its share of the samples (equation 3).
    rows = joint.sum(1, keepdims=True)
    joint = np.where(rows > 0, joint / np.maximum(rows, 1.0), np.eye(classes)) * sizes[:, None] / count
    suspect = np.flatnonzero(counted & (believed != labels))
    margin = own[suspect] - probabilities[suspect, believed[suspect]]
    order = np.argsort(margin, kind="stable")
    return Suspects(suspect[order], believed[suspect][order], float(1 - np.trace(joint)))


def out_of_fold(features: Array, labels: Array, classes: int, groups: Array, seed: int) -> Array:
    """Probabilities ``(N, C)`` of each sample by logistic regressions that have not seen it.

    Features are standardised and brought to their first 128 principal components; of four strengths of
    regularisation the one with the smallest loss is taken.

    Args:
        features: ``(N, F)``.
        labels: ``(N,)`` int64, at least two of each class that occurs.
        classes: C.
        groups: ``(N,)`` int64; samples of the same number (copies) are in one fold.
        seed: of the folds.
    """
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    x = np.asarray(features, dtype=np.float64)
    spread = x.std(0)
    x = (x - x.mean(0))[:, spread > 1e-9] / spread[spread > 1e-9]
    if x.shape[1] > _COMPONENTS and len(x) > _COMPONENTS:
        x = PCA(_COMPONENTS, svd_solver="randomized", random_state=seed % 2**32).fit_transform(x)
        x /= x.std()
    smallest = int(np.bincount(labels)[np.unique(labels)].min())
    folds = StratifiedGroupKFold(max(2, min(_FOLDS, smallest)), shuffle=True, random_state=seed % 2**32)
    best, least = np.full((len(x), classes), 1.0 / classes), np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        parts = [(a, b) for a, b in folds.split(x, labels, groups) if len(np.unique(labels[a])) > 1]
        with step("judging labels", len(_STRENGTHS) * len(parts), "fits", patience=0.0) as line:
            for strength in _STRENGTHS:
                found = np.full((len(x), classes), 1.0 / classes)
                for a, b in parts:
                    model = LogisticRegression(C=strength, max_iter=200, tol=1e-3).fit(x[a], labels[a])
                    found[b] = 0.0
                    found[np.ix_(b, model.classes_)] = model.predict_proba(x[b])
                    line.update(advance=1)
                loss = -np.log(found[np.arange(len(x)), labels].clip(1e-12)).mean()
                if loss < least:
                    best, least = found, loss
                    accuracy = float((found.argmax(1) == labels).mean())
                    line.update(best=f"best accuracy {accuracy:.3f}")
    return best
