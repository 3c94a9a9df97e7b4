"""Small networks and images that the tests of evaluation share."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lessonplan.models import build_model

CLASSES = 6


def _network(name: str, seed: int = 0) -> nn.Module:
    model = build_model(name, shape=(3, 16, 16), num_classes=CLASSES, seed=seed)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(5):
            model(torch.rand(16, 3, 16, 16, generator=g))
    return model.eval()


@pytest.fixture
def network() -> Callable[..., nn.Module]:
    """``network("tiny")``: in evaluation mode, 16 x 16 images, batch-norm statistics that have seen data."""
    return _network


@pytest.fixture
def images() -> Tensor:
    """``(12, 3, 16, 16)`` in [0, 1], a few pixels at the borders of the range."""
    x = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    x[:, :, :2], x[:, :, 2:4] = 0.0, 1.0
    return x


@pytest.fixture
def labels() -> Tensor:
    """``(12,)`` labels of CLASSES classes."""
    return torch.arange(12) % CLASSES


@pytest.fixture(autouse=True)
def _global_generators_untouched() -> Iterator[None]:
    """Nothing in evaluation may move a global generator."""
    before = _global_states()
    yield
    assert _global_states() == before


class Digits(NamedTuple):
    """A trained network and scikit-learn's digits as ``(N, 1, 8, 8)`` images in [0, 1], 10 classes."""

    model: nn.Module
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


@pytest.fixture(scope="session")
def digits() -> Digits:
    """A multi-layer perceptron of over 90% accuracy, trained in half a second on digits and sums of two."""
    raw = load_digits()
    x = torch.tensor(raw.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(raw.target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for step in range(120):
            order, target = torch.randperm(1200), F.one_hot(y[:1200], 10).float()
            lam = 1.0 if step % 2 else 0.5
            mixed = torch.lerp(x[:1200][order], x[:1200], lam)
            loss = F.cross_entropy(model(mixed), torch.lerp(target[order], target, lam))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    found = Digits(model.eval().requires_grad_(False), x[:1200], y[:1200], x[1200:], y[1200:])
    assert (model(found.test).argmax(1) == found.test_labels).double().mean() > 0.9
    return found


def _global_states() -> list[object]:
    numpy_state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    return [torch.get_rng_state().tolist(), random.getstate(), numpy_state["key"].tolist(), numpy_state["pos"]]
