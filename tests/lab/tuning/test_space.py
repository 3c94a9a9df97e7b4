"""What can be searched: texts, ranges, names, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lessonplan.errors import ConfigError
from lessonplan.lab.methods import Method
from lessonplan.lab.plan_file import PlanFile
from lessonplan.lab.tuning.binding import check_names, with_values
from lessonplan.lab.tuning.space import Dimension, read_search
from lessonplan.plan import Plan


def entry(text: str) -> PlanFile:
    return PlanFile(Method("plan", Plan.parse(text)))


@given(
    st.floats(1e-6, 1e3), st.floats(1.001, 1e4), st.floats(0, 1, exclude_max=True), st.booleans(), st.booleans()
)
def test_every_place_is_in_the_range(low: float, factor: float, place: float, log: bool, whole: bool) -> None:
    if whole:
        low, factor = float(math.ceil(low)), float(math.ceil(factor))
    d = Dimension("a", low, low * factor, log=log, whole=whole)
    value = d.at(place)
    assert isinstance(value, int if whole else float)
    assert low <= value <= low * factor
    assert d.tidy(value) == value


def test_places_are_even_in_the_range_or_its_logarithm() -> None:
    """Against quantiles by hand; whole numbers come equally often, both ends too."""
    places = (np.arange(3000) + 0.5) / 3000
    plain, log = Dimension("a", 2.0, 6.0), Dimension("a", 1e-3, 1e-1, log=True)
    assert np.quantile([plain.at(p) for p in places], [0.25, 0.5]) == pytest.approx([3, 4], rel=1e-3)
    assert np.quantile([log.at(p) for p in places], [0.25, 0.5]) == pytest.approx([10**-2.5, 1e-2], rel=1e-3)
    counts = np.bincount([Dimension("a", 2, 5, whole=True).at(p) for p in places])
    assert counts.tolist() == [0, 0, 750, 750, 750, 750]
    doubled = np.bincount([Dimension("a", 1, 3, log=True, whole=True).at(p) for p in places])
    expected = np.diff(np.log([0.5, 1.5, 2.5, 3.5])) / np.log(7)
    assert doubled[1:] / 3000 == pytest.approx(expected, abs=2e-3)
    assert [Dimension("a", choices=("x", None, 3)).at(p) for p in (0.0, 0.34, 0.99)] == ["x", None, 3]


def test_whole_numbers_are_tried_only_where_fractions_are_refused() -> None:
    found = check_names(entry("cascade:k=4"), read_search("lr=1..2, batch-size=8..64, mix.k=2..8"))
    assert [(d.name, d.whole) for d in found] == [("lr", False), ("batch_size", True), ("mix.k", True)]


def test_values_are_put_where_their_names_say() -> None:
    plan = entry("select:accuracy >> topk:0.5 + (mixup|cutmix):p=0.5")
    values = {
        "select.margin": 0.3,
        "select.topk.size": 0.25,
        "mix.cutmix.alpha": 2.0,
        "lr": 0.1,
        "nesterov": False,
    }
    found = with_values(plan, values)
    expected = Plan.parse("select:accuracy:margin=0.3 >> topk:0.25 + (mixup|cutmix:alpha=2.0):p=0.5")
    assert found.method.plan.config() == expected.config()
    assert found.method.settings == {"lr": 0.1, "nesterov": False}
    assert plan.method.plan.config() != expected.config()  # the given one stays as it is
    again = with_values(found, {"mix.cutmix.alpha": 3.0})
    assert again.content()["mix"] == "(mixup|cutmix:alpha=3.0):p=0.5"


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ("", "nothing to search"),
        ("lr", "'lr' is nothing to search"),
        ("lr=", "nothing to search"),
        ("lr=0.1", "leaves nothing to choose"),
        ("lr=0.1|0.1", "names a value twice"),
        ("lr=1..0.1", "an empty range"),
        ("lr=0.1..0.1", "an empty range"),
        ("lr=0..0.1 log", "logarithm needs numbers above 0"),
        ("lr=-1..1 log", "logarithm needs numbers above 0"),
        ("lr=a..b", "cannot be read"),
        ("lr=0.1..inf", "cannot be read"),
        ("lr=0.1..1 lgo", "cannot be read"),
        ("lr=0.1..1, lr=1|2", "searched twice"),
        ("lrr=0.1..1", "did you mean 'lr'"),
        ("weight-decai=0..1", "did you mean 'weight_decay'"),
        ("mix.alpah=0..1", "did you mean 'alpha'"),
        ("mxi.alpha=0..1", "did you mean 'mix'"),
        ("order.candidates=2|4", "no order: give one with --order"),
        ("mix.cutmix.alpha=1|2", "did you mean 'mixup'"),
        ("lr=0..1", "lr=0"),
        ("momentum=0..2", r"momentum=2"),
        ("device=cpu|cuda", "does not change how a network is trained"),
        ("select.margin=0..1.5", "margin"),
    ],
)
def test_what_is_refused(search: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_names(entry("select:accuracy + mixup"), read_search(search))


def test_an_option_of_several_members_wants_the_member() -> None:
    with pytest.raises(ConfigError, match=r"write mix\.mixup\.alpha or mix\.cutmix\.alpha"):
        with_values(entry("mixup|cutmix"), {"mix.alpha": 0.2})
