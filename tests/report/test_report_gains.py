"""The figure of what methods gain from one comparison to the next."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lessonplan.report import write_overview
from lessonplan.report.gains import gain_panels


def results(gains: dict[str, tuple[float, tuple[float, float] | None]]) -> dict[str, Any]:
    others = [
        {"name": name, "difference": {"mean": mean, "ci_t": list(ci) if ci is not None else None}}
        for name, (mean, ci) in gains.items()
    ]
    return {"reference": "plain", "methods": [{"name": "plain", "difference": None}, *others]}


PARTS = {"five": 5, "twenty": 20, "eighty": 80}


def test_every_gain_is_told_in_words_at_its_number() -> None:
    stored = {
        "five": results({"mixup": (0.031, (0.01, 0.05)), "sum": (-0.02, (-0.05, 0.01))}),
        "eighty": results({"mixup": (0.004, None)}),
    }
    [panel] = gain_panels([{"title": "Gain", "against": "labels", "parts": PARTS}], stored)
    words = panel["svg"].split('aria-label="')[1].partition('"')[0]
    assert "mixup 5: +3.10, 80: +0.40" in words
    assert "sum 5: \u22122.00" in words or "sum 5: -2.00" in words
    assert ">5<" in panel["svg"]
    assert ">20<" not in panel["svg"], "a part that did not run has no place"
    assert [entry["name"] for entry in panel["legend"]] == ["mixup", "sum"]


def test_nothing_is_drawn_of_nothing() -> None:
    figure = {"title": "Gain", "against": "labels", "parts": PARTS}
    assert gain_panels([figure], {}) == []
    assert gain_panels([figure], {"five": results({})}) == []


@pytest.mark.parametrize("asked", [True, False])
def test_it_stands_on_the_page_over_all(tmp_path: Any, synthetic: Any, asked: bool) -> None:
    for part in ("five", "twenty"):
        synthetic.write_comparison_folder(tmp_path / part, skills={"erm": 0.85, "mixup": 0.91}, seeds=3)
    gains = [{"title": "Gain <over> all", "against": "labels of each class", "parts": PARTS}]
    about = {"title": "T", "parts": ["five", "twenty"], **({"gains": gains} if asked else {})}
    (tmp_path / "overview.json").write_text(json.dumps(about))
    text = write_overview(tmp_path).read_text()
    assert ("Gain &lt;over&gt; all" in text) == asked
    assert ("labels of each class" in text) == asked
