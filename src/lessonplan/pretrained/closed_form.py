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

_NEVER = 1e4  # how far the logit of a class without samples is below that of another
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
    centre = x.double().mean(0)  # means apart from it are small numbers, of which 32 bits hold more
    x = x.double() - centre
    counts = torch.bincount(y, minlength=classes).double()
    means = torch.zeros(classes, x.shape[1], dtype=torch.float64).index_add_(0, y, x)
    means /= counts.clamp(min=1)[:, None]
    known = (counts > 0).nonzero().squeeze(1)
    spread = float((x - means[y]).square().sum()) / max(1, len(x) - len(known))
    if len(x) == len(known):  # a sample a class says nothing of the variance within: that of all is taken
        spread = float(x.square().sum()) / len(x)
    weight = means[known] * x.shape[1] / (spread or 1.0)
    bias = -((0.5 * means[known] + centre) * weight).sum(1)
    return _with_absent(weight, bias, known, classes)


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

    mean, std = x.double().mean(0), x.double().std(0, correction=0)
    std = torch.where(std > 1e-7 * mean.abs().clamp(min=1e-6), std, 1.0)
    # The penalty is round, so the best weights lie in what the samples span, and few samples span little.
    basis = torch.linalg.svd((x.double() - mean) / std, full_matrices=False).Vh.T

    def scaled(features: Tensor) -> Array:
        found: Array = ((features.double() - mean) / std @ basis).numpy()
        return found

    def fitted(features: Array, labels: Array, strength: float, tol: float = 1e-4) -> LogisticRegression:
        with warnings.catch_warnings():  # whether it is converged is seen by what it gets right
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(C=strength, max_iter=300, tol=tol).fit(features, labels)

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
        folds = fold(max(2, min(_FOLDS, smallest)), shuffle=True, random_state=seed % 2**32).split(inputs, labels)
        parts = [(inputs[a], labels[a], inputs[b], labels[b]) for a, b in folds]
    for strength in STRENGTHS:
        each = [judged(fitted(a, b, strength), c, d) for a, b, c, d in parts if len(np.unique(b)) > 1]
        scores.append((sum(right for right, _ in each), -sum(loss for _, loss in each), -strength))
    best = STRENGTHS[max(range(len(scores)), key=lambda at: scores[at])]
    model = fitted(inputs, labels, best, tol=1e-6)
    coefficients, intercepts = torch.from_numpy(model.coef_) @ basis.T, torch.from_numpy(model.intercept_)
    if len(coefficients) == 1:  # two classes: one row that tells the second from the first
        coefficients = torch.cat([-coefficients, coefficients]) / 2
        intercepts = torch.cat([-intercepts, intercepts]) / 2
    known = torch.from_numpy(model.classes_)
    return *_with_absent(coefficients / std, intercepts - coefficients @ (mean / std), known, classes), best


def _with_absent(weight: Tensor, bias: Tensor, known: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Rows for all classes, float32; those that are not known are the first known one's, always far below it."""
    rows = weight[:1].repeat(classes, 1)
    offsets = (bias[:1] - _NEVER).repeat(classes)
    rows[known], offsets[known] = weight, bias
    return rows.float(), offsets.float()


def check_linear(head: nn.Module) -> nn.Linear:
    """The head, which is a linear layer with a bias.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(head, nn.Linear) or head.bias is None:
        raise ConfigError(
            f"fit_head sets a linear layer with a bias, and the head is {_called(head)}: give fit_head='train'"
        )
    return head


def _called(head: nn.Module) -> str:
    return "a Linear without one" if isinstance(head, nn.Linear) else type(head).__name__


@torch.no_grad()
def put_into(head: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Set a linear head's weights ``(C, F)`` and bias ``(C,)``.

    Raises:
        ConfigError: it is none.
    """
    linear = check_linear(head)
    linear.weight.copy_(weight)
    linear.bias.copy_(bias)
