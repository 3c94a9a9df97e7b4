"""A picture of a mix, as a network with weights from elsewhere sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

import lessonplan as lp
from lessonplan import cli
from lessonplan.lab import explanation


def test_a_preview_shows_what_the_run_saw(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size, crop and normalisation are the run's, without --image-size; Puzzle Mix asks its network."""
    first = lp.data.load(f"folder:{photos}", image_size=24)
    lp.fit("tiny", first, None, "2 steps", out=tmp_path / "first", threads=1)
    begun = {"weights": str(tmp_path / "first"), "out": tmp_path / "run", "threads": 1}
    lp.fit("tiny", f"folder:{photos}", None, "2 steps", **begun)
    seen = []
    drawn = explanation.trained_network
    monkeypatch.setattr(explanation, "trained_network", lambda *given: seen.append(given[1]) or drawn(*given))
    line = ["preview", "--data", f"folder:{photos}", "--mix", "puzzle", "--explain", "--run"]
    with pytest.raises(SystemExit) as left:
        cli.main([*line, str(tmp_path / "run"), "--out", str(tmp_path / "seen.png")])
    assert left.value.code == 0
    assert (tmp_path / "seen.png").stat().st_size > 1000
    prepared = lp.load(tmp_path / "run").preprocessing
    assert seen[0].shape == prepared.shape == (3, 24, 24)
    assert (seen[0].preprocessing.mean, seen[0].preprocessing.std) == (prepared.mean, prepared.std)
