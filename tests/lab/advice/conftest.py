"""Tournaments small enough to be held many times."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from lessonplan.lab.advice import advising


@pytest.fixture
def blobs() -> tuple[torch.Tensor, torch.Tensor]:
    """Two classes of 60 points that overlap a little, ``(120, 4)``."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(120) % 2
    return torch.randn(120, 4, generator=generator) + 1.6 * y[:, None], y


@pytest.fixture
def tiny(blobs: tuple[torch.Tensor, torch.Tensor]) -> dict[str, Any]:
    """Arguments of ``advise`` for runs of ten updates; 5k cost are some twenty of them."""
    return {
        "data": blobs,
        "model": "fcnet-4",
        "plans": {"mixup": "mixup", "stuck": {"settings": {"lr": 1e-9}}},
        "each": "240 cost",
        "budget": "5k cost",
        "settings": {"batch_size": 8, "lr": 0.1},
        "jobs": 1,
        "threads": 1,
    }


@pytest.fixture
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pages, and the wait for the disk, which take longer than such runs."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(advising, "write_run", lambda folder: None)
    monkeypatch.setattr(advising, "write_advice", lambda folder: None)


@pytest.fixture
def decisions() -> Any:
    """What a folder's tournament decided, without times."""

    def read(root: Path) -> dict[str, Any]:
        record = json.loads((root / "advice.json").read_text())
        record["verdict"]["more"] = {k: v for k, v in (record["verdict"]["more"] or {}).items() if k != "seconds"}
        return {
            name: record[name] for name in ("running", "rung", "looks", "standing", "verdict", "final", "readings")
        }

    return read
