"""Bands, colours and drawings against formulas and against what was drawn."""

from __future__ import annotations

import math
import re
from itertools import combinations
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy import stats

from lessonplan.report import plots, run_plots, svg
from lessonplan.report.axes import COST as BY_COST
from lessonplan.report.axes import EPOCHS
from lessonplan.report.bands import GRID_POINTS, mean_band
from lessonplan.report.palette import HUES, style, styles

COST = np.array([0.0, 10.0, 20.0])


def test_band_is_the_t_interval_at_every_cost():
    values = np.array([[0.1, 0.5, 0.7], [0.2, 0.4, 0.9], [0.0, 0.6, 0.8]])
    band = mean_band([(COST, row) for row in values], level=0.9)
    assert band is not None
    low, high = stats.t.interval(0.9, 2, loc=values.mean(0), scale=stats.sem(values))
    np.testing.assert_allclose(band.mean, values.mean(0))
    np.testing.assert_allclose(band.low, low)
    np.testing.assert_allclose(band.high, high)


def test_band_covers_only_costs_that_all_seeds_reached():
    band = mean_band([(COST, COST), (np.array([5.0, 15.0]), np.array([5.0, 15.0]))])
    assert band is not None
    assert band.x.tolist() == [5.0, 10.0, 15.0]
    np.testing.assert_allclose(band.mean, band.x)  # both are the identity, so is their mean
    assert mean_band([(COST, COST), (COST + 30, COST)]) is None
    assert mean_band([]) is None


@given(st.integers(2, 600), st.integers(1, 5))
def test_band_of_equal_straight_lines_is_that_line(points, seeds):
    cost = np.arange(points, dtype=float)
    band = mean_band([(cost, 3 * cost + 1)] * seeds)
    assert band is not None
    assert len(band.x) <= GRID_POINTS
    assert (band.x[0], band.x[-1]) == (0, points - 1)
    np.testing.assert_allclose(band.mean, 3 * band.x + 1)
    assert (band.low is None) == (seeds == 1)


def _luminance(color: str) -> float:
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("side", "paper"), [(0, "#ffffff"), (1, "#191d21")])
def test_every_hue_stands_out_from_its_paper(side, paper):
    """WCAG 2.2, success criterion 1.4.11: graphics need a contrast of at least 3."""
    for hue in HUES:
        bright, dark = sorted((_luminance(hue[side]), _luminance(paper)), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 3, hue[side]


def test_methods_differ_in_look_and_keep_it():
    names = ["erm", *(f"m{index}" for index in range(30))]
    looks = styles(names, "erm")
    for first, second in combinations(names, 2):
        assert (looks[first].color, looks[first].dash) != (looks[second].color, looks[second].dash)
    assert styles(names[::-1], "erm")["erm"] == looks["erm"] == style(0)


def _texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def _method(name: str, scores: list[float]) -> dict:
    runs = [{"seed": seed, "test_accuracy": score} for seed, score in enumerate(scores)]
    return {"name": name, "runs": runs, "mean": float(np.mean(scores)), "ci_t": None, "difference": None}


def test_differences_are_drawn_per_seed_against_the_reference():
    methods = [_method("erm", [0.5, 0.6, 0.7]), _method("sum", [0.55, 0.58, 0.7])]
    methods[1]["runs"][2]["seed"] = 9  # has no partner: not drawn
    methods[1]["difference"] = {"mean": 0.015, "ci_t": [-0.02, 0.05]}
    svg = plots.paired_differences(methods, "erm", styles(["erm", "sum"], "erm"))
    assert svg is not None
    assert "sum" in _texts(svg)
    assert "erm" not in _texts(svg)
    marks = [
        float(x) for x in re.findall(r'<use xlink:href="#differences-[^"]*" x="([\d.]+)"[^>]*var\(--m1\)', svg)
    ]
    scale = {text: float(x) for x, text in re.findall(r'<text[^>]*x="([\d.]+)"[^>]*>([^<]*)</text>', svg)}
    ticks = {
        float(text.replace("\N{MINUS SIGN}", "-")): x for text, x in scale.items() if re.fullmatch(r"\W?\d+", text)
    }
    (a, xa), (b, xb) = sorted(ticks.items())[0], sorted(ticks.items())[-1]
    drawn = sorted(a + (x - xa) * (b - a) / (xb - xa) for x in marks)
    np.testing.assert_allclose(drawn, [-2, -2, 1.5, 5, 5], atol=0.05)  # two dots, two ends, the mean


def test_names_are_text_not_mathematics_or_markup():
    name = "$x^2$ <b>&amp;"
    svg = plots.bars([{"name": name, "cost": 2000}], "cost", styles([name], None), name="cost", xlabel="cost")
    assert svg is not None
    assert "$x^2$ &lt;b&gt;&amp;amp;" in _texts(svg)
    assert "2k" in _texts(svg)
    assert "<b>" not in svg


def test_drawings_take_colours_from_the_page_and_leave_settings_alone():
    before = dict(matplotlib.rcParams)
    svg = plots.bars([{"name": "a", "cost": 1}], "cost", styles(["a"], None), name="c", xlabel="cost")
    assert dict(matplotlib.rcParams) == before
    assert svg is not None
    assert "var(--m1)" in svg
    assert "var(--ink)" in svg
    assert re.findall(r"(?:fill|stroke): (#\w+)", svg) == []
    assert "font-family" not in svg
    again = plots.bars([{"name": "a", "cost": 1}], "cost", styles(["a"], None), name="c", xlabel="cost")
    assert svg == again


def test_nothing_known_draws_nothing():
    looks = styles(["a"], None)
    assert plots.bars([{"name": "a", "cost": math.nan}], "cost", looks, name="c", xlabel="cost") is None
    assert plots.learning_curves({}, looks, name="c", ylabel="loss") is None
    assert plots.final_scores([{"name": "a", "runs": [], "mean": None, "ci_t": None}], looks) is None


def _series(draw_values: list[list[float]]) -> list[tuple[tuple[str, np.ndarray, np.ndarray], Any]]:
    return [
        ((f"line {place}", np.arange(1.0, len(values) + 1), np.array(values)), style(place))
        for place, values in enumerate(draw_values)
    ]


LINES = st.lists(st.lists(st.floats(-1e4, 1e6), min_size=1, max_size=5), min_size=1, max_size=3)
LOOKS = st.fixed_dictionaries(
    {
        "steps": st.booleans(),
        "axis": st.sampled_from([BY_COST, EPOCHS]),
        "line_at": st.sampled_from([None, 1.0]),
        "from_zero": st.booleans(),
        "ylabel": st.sampled_from(["loss", "accuracy (%)"]),
    }
)


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.lists(st.tuples(LINES, LOOKS), min_size=2, max_size=3))
def test_a_figure_that_is_used_again_is_as_new(figures):
    """Whatever was drawn before: logarithmic axes, limits, whole numbers, one point."""

    def drawn() -> list[str]:
        pictures = []
        for lines, look in figures:
            pictures.append(run_plots.curves(_series(lines), name="a", **look))
            bands = {word: mean_band([(x, y), (x, y + 1.0)]) for (word, x, y), _ in _series(lines)}
            looks = {word: style(0) for word in bands}
            pictures.append(plots.learning_curves(bands, looks, name="b", ylabel="x", line_at=look["line_at"]))
        return pictures

    again = drawn()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svg, "_SPARE", 0)
        svg._spare.clear()
        assert drawn() == again
