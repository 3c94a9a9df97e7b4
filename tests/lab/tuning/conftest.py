"""Searches small enough to be held many times."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from lessonplan.lab.tuning import tuning


@pytest.fixture
def tiny() -> dict[str, Any]:
    """Arguments of ``tune`` for runs of ten updates on two classes of 60 points."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(120) % 2
    return {
        "search": "lr=1e-4..1 log, mix.k=2|4",
        "data": (torch.randn(120, 4, generator=generator) + 1.6 * y[:, None], y),
        "plan": "sum:k=2",
        "model": "fcnet-4",
        "budget": "240 cost",
        "trials": 6,
        "settings": {"batch_size": 8},
        "jobs": 1,
    }


@pytest.fixture
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the page, and the wait for the disk, which take longer than such runs."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(tuning, "write_tune", lambda folder: None)
