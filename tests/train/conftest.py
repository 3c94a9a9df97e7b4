"""Small data, quick runs, and what makes two runs the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lessonplan as lp
from lessonplan.train import Run, fit

NOT_REPEATABLE = ("seconds", "environment")


def make_arrays(per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy 8 x 8 images of three classes, a bright bar at the class' place; many are ambiguous."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(3).repeat_interleave(per_class)
    x = torch.randint(0, 200, (len(y), 8, 8), generator=generator)
    for label in range(3):
        x[y == label, :, 2 * label : 2 * label + 2] += 30
    return x.to(torch.uint8), y


@pytest.fixture(scope="session")
def data() -> lp.data.Data:
    """48 training, 12 validation and 30 test samples."""
    return lp.data.load(make_arrays(20, 0), test=make_arrays(10, 1), val_fraction=0.2, augment="none")


@pytest.fixture(scope="session")
def quick(data: lp.data.Data) -> Callable[..., Run]:
    """``fit`` of a very small network."""

    def run(plan: Any = None, budget: str = "12 steps", **options: Any) -> Run:
        options = {"batch_size": 8, "threads": 1, **options}
        return fit(options.pop("model", "fcnet-8"), options.pop("data", data), plan, budget, **options)

    return run


def strip(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in (*NOT_REPEATABLE, "system")}


def assert_same_run(run: Run, other: Run) -> None:
    """Bit for bit the same weights; the same metrics but for times and memory."""
    ours, theirs = run.model.state_dict(), other.model.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
    assert [strip(r) for r in run.history] == [strip(r) for r in other.history]
    assert strip(run.result) == strip(other.result)


def read_outcome(folder: Path) -> tuple[bytes, dict[str, Any], list[dict[str, Any]]]:
    """What a finished run left: weights, result, metrics, less what no two runs share."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return (
        (folder / "weights.safetensors").read_bytes(),
        strip(json.loads((folder / "result.json").read_text())),
        [strip(json.loads(line)) for line in lines],
    )


@pytest.fixture(scope="session")
def same_run() -> Callable[[Run, Run], None]:
    return assert_same_run


@pytest.fixture(scope="session")
def outcome() -> Callable[[Path], Any]:
    return read_outcome


@pytest.fixture(scope="session")
def arrays() -> Callable[[int, int], tuple[Tensor, Tensor]]:
    return make_arrays


class Hook(lp.Callback):
    """A callback from functions: ``Hook(on_batch_end=...)``."""

    def __init__(self, **events: Callable[..., None]) -> None:
        for name, function in events.items():
            assert hasattr(lp.Callback, name)
            setattr(self, name, function)


@pytest.fixture(scope="session")
def hook() -> type[Hook]:
    return Hook


@pytest.fixture(scope="session")
def make_network() -> Callable[..., torch.nn.Module]:
    """A network of the user's own, with dropout."""
    return _network


def _network(seed: int, dropout: float = 0.5) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(64, 8),
            torch.nn.ReLU(),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(8, 3),
        )
