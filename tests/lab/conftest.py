"""A comparison small enough to be done many times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lessonplan.lab import comparison


@pytest.fixture
def small() -> dict[str, Any]:
    """Arguments of ``compare``: two methods, two seeds, ten updates on digits."""
    return {
        "methods": "erm,mixup",
        "data": "digits",
        "model": "fcnet-16",
        "seeds": 2,
        "budget": "200 samples",
        "per_class": 10,
        "threads": 1,
        "jobs": 1,
    }


@pytest.fixture
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pages and pictures, which take longer than such runs."""
    monkeypatch.setattr("lessonplan.report.write_comparison", lambda root: None)
    monkeypatch.setattr("lessonplan.report.write_run", lambda folder: None)
    monkeypatch.setattr(comparison, "write_examples", lambda *_: None)


@pytest.fixture
def outcome() -> Any:
    """What a comparison's runs found, by folder name: weights as bytes, metrics and result without times."""

    def read(root: Path) -> dict[str, Any]:
        found = {}
        for folder in sorted((root / "runs").iterdir()):
            metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            result = json.loads((folder / "result.json").read_text())
            for record in metrics:
                del record["system"]
            del result["seconds"]
            found[folder.name] = ((folder / "weights.safetensors").read_bytes(), metrics, result)
        return found

    return read
