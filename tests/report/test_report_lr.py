"""The page of a range test: its numbers, its curve, its picture."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lessonplan.errors import DataError
from lessonplan.report import write_pages


def store(folder: Path, **changes: Any) -> dict[str, Any]:
    """A range test by hand: a fall from 2 to 1 that is steepest at 0.01, and a spike at the end."""
    lr = np.geomspace(1e-5, 1, 51)
    smoothed = 1 + 1 / (1 + (lr / 0.01) ** 2)
    loss = smoothed + 0.05 * (-1) ** np.arange(51)
    loss[-3:], smoothed[-3:] = (50.0, 500.0, 5000.0), (20.0, 200.0, 2000.0)
    found = {
        "schema": 1, "suggested": 0.01, "tenth": 0.05, "lowest": 0.5, "reason": "", "lr": lr.tolist(),
        "loss": loss.tolist(), "smoothed": smoothed.tolist(), "ended": "diverged", "steps": 60,
        "notes": ["<b>heed</b>"], "config": {"model": "tiny"}, "environment": {"torch": "2"},
    } | changes  # fmt: skip
    folder.mkdir()
    (folder / "lr.json").write_text(json.dumps(found))
    return found


def test_the_page_tells_the_number_and_marks_it_where_it_is(tmp_path) -> None:
    store(tmp_path / "lr")
    text = write_pages(tmp_path / "lr").read_text()
    assert "Suggested learning rate: 0.01, where the smoothed loss falls fastest" in text
    assert "A tenth of where it is lowest: 0.05." in text
    assert "after 51 of 60 steps, at a learning rate of 1: the smoothed loss was 4 times its best" in text
    assert "&lt;b&gt;heed" in text
    ticks = {
        float(word): float(x) for x, word in re.findall(r'<text[^>]*x="([\d.]+)"[^>]*>(1e-5|0\.1)</text>', text)
    }
    decade = (ticks[0.1] - ticks[1e-5]) / 4
    marks = [float(x) for x in re.findall(r'<use xlink:href="#lr-[^"]*" x="([\d.]+)"[^>]*var\(--m[23]\)', text)]
    where = [10 ** (-5 + (x - ticks[1e-5]) / decade) for x in marks]
    np.testing.assert_allclose(where, [0.01, 0.05], rtol=0.02)
    assert "mathdefault" not in text


def test_a_spike_does_not_flatten_the_curve(tmp_path) -> None:
    store(tmp_path / "lr")
    text = write_pages(tmp_path / "lr").read_text()
    labels = re.findall(r"<text[^>]*>([\d.]+k?)</text>", text)
    assert not any(label.endswith("k") for label in labels)
    assert {"1", "2"} <= set(labels)


def test_the_picture_is_drawn_beside_it(tmp_path) -> None:
    store(tmp_path / "lr")
    write_pages(tmp_path / "lr")
    with Image.open(tmp_path / "lr/lr.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x80, 0x5F)):  # smoothed, suggested, tenth
        assert (np.abs(pixels - colour).max(1) <= 2).sum() > 100


def test_without_a_number_it_says_why(tmp_path) -> None:
    none = {"suggested": None, "tenth": None, "lowest": None, "reason": "the loss never falls"}
    store(tmp_path / "lr", **none)
    text = write_pages(tmp_path / "lr").read_text()
    assert "No learning rate can be suggested: the loss never falls." in text
    assert "suggested: " not in text.replace("can be suggested: ", "")
    empty = {"lr": [], "loss": [], "smoothed": [], "ended": "not finite"}
    store(tmp_path / "empty", **none, **empty)
    text = write_pages(tmp_path / "empty").read_text()
    assert "after 0 of 60 steps" in text
    assert "lr.png" not in text


def test_another_layout_is_refused(tmp_path) -> None:
    store(tmp_path / "lr", schema=2)
    with pytest.raises(DataError, match="layout"):
        write_pages(tmp_path / "lr")
