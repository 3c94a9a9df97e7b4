"""Statistics against published numbers, enumeration and independent definitions."""

from __future__ import annotations

import itertools
import json
import math
from inspect import signature

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lessonplan.lab import statistics
from lessonplan.lab.results import fluctuation
from lessonplan.lab.statistics import bootstrap_interval, compare_paired, holm, paired_p_value, t_interval

# Student (1908), "The probable error of a mean": hours of sleep gained with two drugs, the same ten patients.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
SCORES = st.lists(st.integers(0, 50), min_size=2, max_size=8)


def by_seed(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


def test_students_sleep_data() -> None:
    found = compare_paired(by_seed(DRUG_1), {"2": by_seed(DRUG_2)})["2"]
    assert found is not None
    assert found.mean == pytest.approx(1.58)
    assert found.n == 10
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    assert found.ci_t == pytest.approx((0.70011, 2.45989), abs=5e-6)
    assert found.verdict == "better"


def test_t_interval_is_mean_and_tabulated_quantile() -> None:
    values = [0.61, 0.64, 0.58, 0.66, 0.60]
    mean = sum(values) / 5
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / 4 / 5)
    for level, quantile in ((0.95, 2.7764), (0.99, 4.6041)):  # Student's t, 4 degrees of freedom
        low, high = t_interval(values, level) or (0.0, 0.0)
        assert low == pytest.approx(mean - quantile * error, abs=1e-6)
        assert high == pytest.approx(mean + quantile * error, abs=1e-6)


@pytest.mark.parametrize("values", [[], [0.5]])
def test_one_value_has_no_interval(values: list[float]) -> None:
    assert t_interval(values) is None
    assert bootstrap_interval(values) is None
    assert paired_p_value(values) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=3, max_size=12))
def test_p_value_is_the_paired_t_test(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(side) / 100 for side in zip(*pairs, strict=True))
    if len({x - y for x, y in pairs}) < 2:
        return
    assert paired_p_value(list(a - b)) == pytest.approx(float(stats.ttest_rel(a, b).pvalue), rel=1e-6, abs=1e-12)


def test_p_value_of_constant_differences() -> None:
    assert paired_p_value([0.0, 0.0, 0.0]) == 1.0
    assert paired_p_value([0.25, 0.25]) == 0.5  # sign test: both heads, or both tails


def test_bootstrap_agrees_with_all_resamples() -> None:
    values = [1.0, 2.0, 4.0, 8.0, 9.0]
    means = sorted(sum(chosen) / 5 for chosen in itertools.product(values, repeat=5))
    exact = np.quantile(means, [0.025, 0.975])
    assert bootstrap_interval(values) == pytest.approx(tuple(exact), abs=0.25)
    wide, narrow = bootstrap_interval(values, 0.99), bootstrap_interval(values, 0.6)
    assert wide is not None
    assert narrow is not None
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize("n", [2, 37])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_bootstrap_is_scipys_however_many_values_are_resampled_at_a_time(
    n: int, level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).normal(size=n).tolist()
    rng = {"rng" if "rng" in signature(stats.bootstrap).parameters else "random_state": np.random.default_rng(0)}
    oracle = stats.bootstrap(
        (values,), np.mean, confidence_level=level, method="percentile", **rng
    ).confidence_interval
    for at_once in (1, n * 1000, n * 9998, n * 9999):
        monkeypatch.setattr(statistics, "_AT_ONCE", at_once)
        monkeypatch.setattr(statistics, "_KEPT", 0)
        assert bootstrap_interval(values, level) == pytest.approx((oracle.low, oracle.high), rel=1e-12)
    monkeypatch.undo()
    for shift in (0.0, 1.0):  # the second uses what the first drew
        shifted = [value + shift for value in values]
        expected = (oracle.low + shift, oracle.high + shift)
        assert bootstrap_interval(shifted, level) == pytest.approx(expected, rel=1e-12)


def test_bootstrap_is_the_same_every_time_and_leaves_the_global_generator_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert bootstrap_interval([1.0, 2.0, 4.0]) == bootstrap_interval([1.0, 2.0, 4.0])
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def closed_testing(p_values: list[float], index: int) -> float:
    """Holm's correction from its definition: Bonferroni on every set of hypotheses with this one among them."""
    others = [i for i in range(len(p_values)) if i != index]
    sets = [(index, *s) for n in range(len(others) + 1) for s in itertools.combinations(others, n)]
    return max(min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_closed_testing_with_bonferroni(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx([closed_testing(p_values, i) for i in range(len(p_values))])


def test_holm_does_not_count_what_was_not_tested() -> None:
    assert holm([None, 0.02, None]) == [None, 0.02, None]


@settings(max_examples=150, deadline=None)
@given(SCORES, st.lists(SCORES, min_size=1, max_size=4))
def test_nothing_is_decided_whose_interval_contains_0(reference: list[int], methods: list[list[int]]) -> None:
    given_methods = {str(i): by_seed([s / 50 for s in m]) for i, m in enumerate(methods)}
    found = compare_paired(by_seed([s / 50 for s in reference]), given_methods)
    for difference in found.values():
        assert difference is not None
        assert difference.ci_t is not None
        low, high = difference.ci_t
        if difference.verdict == "better":
            assert low > 0
        elif difference.verdict == "worse":
            assert high < 0
        if low <= 0 <= high or (difference.p_holm or 0) >= 0.05:
            assert difference.verdict == "undecided"


def test_verdicts_of_clear_cases() -> None:
    reference = by_seed([0.50, 0.52, 0.48, 0.51, 0.49])
    found = compare_paired(
        reference,
        {
            "up": by_seed([0.60, 0.63, 0.58, 0.60, 0.59]),
            "down": by_seed([0.40, 0.43, 0.38, 0.40, 0.39]),
            "same": by_seed([0.51, 0.51, 0.49, 0.50, 0.49]),
        },
    )
    assert {name: d.verdict for name, d in found.items() if d} == {
        "up": "better",
        "down": "worse",
        "same": "undecided",
    }


def test_many_methods_raise_the_bar() -> None:
    reference = dict.fromkeys(range(5), 0.5)
    edge = by_seed([0.51, 0.53, 0.50, 0.52, 0.52])  # p = .024 on its own
    alone = compare_paired(reference, {"edge": edge})["edge"]
    noise = {f"noise{i}": by_seed([0.5 + 0.01 * (-1) ** (i + j) * (j + 1) for j in range(5)]) for i in range(5)}
    among = compare_paired(reference, {"edge": edge, **noise})["edge"]
    assert alone is not None
    assert among is not None
    assert alone.verdict == "better"
    assert among.ci_t == alone.ci_t
    assert among.p_holm == pytest.approx(6 * (alone.p or 0))
    assert among.verdict == "undecided"


def test_only_shared_seeds_are_paired() -> None:
    found = compare_paired({0: 0.5, 1: 0.6, 2: 0.9}, {"some": {2: 0.8, 1: 0.7, 7: 0.0}, "none": {9: 1.0}})
    some = found["some"]
    assert some is not None
    assert (some.n, some.mean) == (2, pytest.approx(0.0))
    assert found["none"] is None


def test_one_seed_decides_nothing() -> None:
    found = compare_paired({0: 0.1}, {"m": {0: 0.9}})["m"]
    assert found is not None
    assert (found.n, found.ci_t, found.p, found.p_holm, found.verdict) == (1, None, None, None, "undecided")


def test_fluctuation_is_the_mean_change_between_validations(tmp_path):
    assert fluctuation(tmp_path) is None
    records = [{"epoch": 0, "val": {"accuracy": 0.5}}, {"epoch": 1}, {"epoch": 2, "val": {"accuracy": 0.7}}]
    records.append({"epoch": 3, "val": {"accuracy": 0.6}})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert fluctuation(tmp_path) == pytest.approx((0.2 + 0.1) / 2)
