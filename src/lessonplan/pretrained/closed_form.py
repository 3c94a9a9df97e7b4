"""Heads without training: what people put on frozen features instead."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError

Array = npt.NDArray[Any]

STRENGTHS = tuple(10.0**e for e in range(-5, 4))
"""Inverse regularisations C that logistic regression is tried with."""

_NEVER = -1e4  # logit of a class without samples
_FOLDS = 5


def nearest_class_mean(x: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Weights and bias of the linear head that decides for the nearest class mean.

    The squared distance, over the variance within classes, is linear in x but for a term that all classes share:
    that of Gaussians of one round covariance.

    Args:
        x: ``(N, F)`` features.
        y: ``(N,)`` int64.
        classes: C.

    Returns:
        ``(C, F)`` and ``(C,)`` float32; classes without samples are never decided for.
    """
    x = x.double()
    counts = torch.bincount(y, minlength=classes).double()
    means = torch.zeros(classes, x.shape[1], dtype=torch.float64).index_add_(0, y, x)
    means /= counts.clamp(min=1)[:, None]
    freedom = max(1, len(x) - int((counts > 0).sum())) * x.shape[1]
    variance = float((x - means[y]).square().sum()) / freedom
    weight = means / max(variance, 1e-12)
    bias = -0.5 * (means * weight).sum(1)
    bias[counts == 0] = _NEVER
    return weight.float(), bias.float()


def logistic_regression(
    x: Tensor, y: Tensor, classes: int, val: tuple[Tensor, Tensor] | None, seed: int
) -> tuple[Tensor, Tensor, float]:
    """scikit-learn's multinomial logistic regression with the C of ``STRENGTHS`` that judges best.

    Args:
        x: ``(N, F)`` features; they are standardised for the regression, and the head takes them as they are.
        y: ``(N,)`` int64.
        classes: C.
        val: features and labels that choose C by accuracy, by the loss where that is equal; None: folds of the
            training set.
        seed: of the folds.

    Returns:
        weights ``(C, F)`` and bias ``(C,)`` float32, and the chosen C.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold, StratifiedKFold

    mean, std = x.double().mean(0), x.double().std(0).clamp(min=1e-6)
    # The penalty is round, so the best weights lie in what the samples span, and few samples span little.
    basis = torch.linalg.svd((x.double() - mean) / std, full_matrices=False).Vh.T

    def scaled(features: Tensor) -> Array:
        found: Array = ((features.double() - mean) / std @ basis).numpy()
        return found

    def fitted(features: Array, labels: Array, strength: float) -> LogisticRegression:
        with warnings.catch_warnings():  # whether it is converged is seen by what it gets right
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(C=strength, max_iter=300).fit(features, labels)

    def judged(model: LogisticRegression, features: Array, labels: Array) -> tuple[float, float]:
        known = np.searchsorted(model.classes_, labels).clip(max=len(model.classes_) - 1)
        probability = model.predict_proba(features)[np.arange(len(labels)), known]
        probability[model.classes_[known] != labels] = 0.0
        right = float((model.predict(features) == labels).mean())
        return right, -float(np.log(probability.clip(min=1e-12)).mean())

    inputs, labels = scaled(x), y.numpy()
    if len(np.unique(labels)) < 2:
        raise ConfigError("logistic regression needs training samples of two classes or more")
    scores = []
    if val is not None:
        parts = [(inputs, labels, scaled(val[0]), val[1].numpy())]
    else:
        smallest = int(np.bincount(labels)[np.unique(labels)].min())
        fold = StratifiedKFold if smallest >= 2 else KFold
        folds = fold(max(2, min(_FOLDS, smallest)), shuffle=True, random_state=seed).split(inputs, labels)
        parts = [(inputs[a], labels[a], inputs[b], labels[b]) for a, b in folds]
    for strength in STRENGTHS:
        each = [judged(fitted(a, b, strength), c, d) for a, b, c, d in parts if len(np.unique(b)) > 1]
        scores.append((sum(right for right, _ in each), -sum(loss for _, loss in each), -strength))
    best = STRENGTHS[max(range(len(scores)), key=lambda at: scores[at])]
    model = fitted(inputs, labels, best)
    coefficients, intercepts = torch.from_numpy(model.coef_) @ basis.T, torch.from_numpy(model.intercept_)
    if len(coefficients) == 1:  # two classes: one row that tells the second from the first
        coefficients = torch.cat([-coefficients, coefficients]) / 2
        intercepts = torch.cat([-intercepts, intercepts]) / 2
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64)
    bias = torch.full((classes,), _NEVER, dtype=torch.float64)
    known = torch.from_numpy(model.classes_)
    weight[known] = coefficients / std
    bias[known] = intercepts - coefficients @ (mean / std)
    return weight.float(), bias.float(), best


@torch.no_grad()
def put_into(head: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Set a linear head's weights ``(C, F)`` and bias ``(C,)``.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(head, nn.Linear) or head.bias is None:
        raise ConfigError(
            f"fit_head sets a linear layer with a bias, and the head is {type(head).__name__}: give"
            " fit_head='train'"
        )
    head.weight.copy_(weight)
    head.bias.copy_(bias)
