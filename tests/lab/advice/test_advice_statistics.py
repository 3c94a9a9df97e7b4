"""The statistics of a tournament: by hand, by brute force, and by 2,000 tournaments that have nothing to find."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lessonplan.lab.advice.evidence import Evidence, weigh
from lessonplan.lab.advice.expectation import expected
from lessonplan.lab.advice.looks import rungs, share_of_look, step_down
from lessonplan.lab.advice.optimism import optimism
from lessonplan.lab.advice.power import needed
from lessonplan.lab.advice.verdict import verdict_of
from lessonplan.lab.statistics import holm

ALPHA = 0.05
TOURNAMENTS, PLANS, LABELLED, JUDGED = 2000, 8, 100, 20
RUNGS = rungs(21)


def simulated(
    rng: np.random.Generator, count: int, effects: np.ndarray, lasting: float, of_round: float
) -> np.ndarray:
    """Differences ``(count, plans, rounds, samples)`` of plans that answer -1, 0 or 1 better than the reference.

    Each sample of each plan has a lasting lean (``lasting`` is its deviation), each round another (``of_round``),
    and the rest is chance; the samples are a draw themselves, and every round judges a random fifth of the same.
    """
    plans, rounds = len(effects), RUNGS[-1]
    lean = rng.normal(0, lasting, (count, plans, 1, LABELLED)) + rng.normal(0, of_round, (count, plans, rounds, 1))
    share = np.clip(lean + effects[:, None, None], -0.9, 0.9)
    draw = rng.random((count, plans, rounds, LABELLED))
    # A tenth of the samples is answered otherwise for no reason.
    answers = np.where(draw < np.maximum(share, 0) + 0.05, 1.0, 0.0)
    answers -= np.where(draw > 1 - np.maximum(-share, 0) - 0.05, 1.0, 0.0)
    places = rng.random((count, 1, rounds, LABELLED)).argsort(-1)
    return np.where(places < JUDGED, answers, np.nan)


def decided(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Who was called better and who worse, ``(count, plans)`` each, when half of the plans leave at each rung."""
    count, plans = differences.shape[:2]
    better = np.zeros((count, plans), bool)
    worse = np.zeros((count, plans), bool)
    running = np.ones((count, plans), bool)
    held = np.zeros((count, plans))
    p = np.ones((count, plans))
    for look, rung in enumerate(RUNGS, 1):
        found = weigh(differences[:, :, :rung])
        held, p = np.where(running, found.mean, held), np.where(running, found.p, p)
        now, _ = step_down(p, ~(better | worse), ALPHA * share_of_look(look))
        better, worse = better | (now & (held > 0)), worse | (now & (held < 0))
        keep = max(1, -(-int(running[0].sum()) // 2))
        order = np.argsort(-np.where(running, held, -np.inf), -1)
        running = np.zeros_like(running)
        np.put_along_axis(running, order[:, :keep], True, -1)
    return better, worse


def many(effects: np.ndarray, lasting: float, of_round: float, tournaments: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    parts = [decided(simulated(rng, 100, effects, lasting, of_round)) for _ in range(tournaments // 100)]
    return np.concatenate([b for b, _ in parts]), np.concatenate([w for _, w in parts])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lasting", "of_round"),
    [(0.0, 0.0), (0.3, 0.0), (0.0, 0.1), (0.3, 0.1)],
    ids=["chance", "samples", "rounds", "both"],
)
def test_plans_that_do_not_differ_are_called_better_in_at_most_5_of_100(lasting: float, of_round: float) -> None:
    better, worse = many(np.zeros(PLANS), lasting, of_round, TOURNAMENTS)
    assert better.any(1).mean() <= 0.05
    assert (better | worse).any(1).mean() <= 0.06  # 0.05 and two standard errors of 2,000


def test_a_quick_look_at_plans_that_do_not_differ_and_at_ones_that_do() -> None:
    better, _ = many(np.zeros(PLANS), 0.3, 0.1, 200)
    assert better.any(1).mean() <= 0.05 + 0.03
    effects = np.array([0.2, *np.zeros(PLANS - 1)])
    better, _ = many(effects, 0.1, 0.02, 200)
    assert better[:, 0].mean() > 0.8
    assert better[:, 1:].any(1).mean() <= 0.05 + 0.03


def test_the_usual_t_test_would_be_wrong_here() -> None:
    """Without the variance of samples, and looked at every rung at 5%, chance passes for a finding very often."""
    rng = np.random.default_rng(0)
    d = simulated(rng, 200, np.zeros(1), 0.3, 0.0)[:, 0]
    means = np.nanmean(d, -1)
    wrong = np.zeros(200, bool)
    for rung in RUNGS:
        wrong |= stats.ttest_1samp(means[:, :rung], 0.0, axis=1).pvalue < ALPHA
    assert wrong.mean() > 0.2


def test_evidence_by_hand() -> None:
    # Two rounds; sample 0 is judged twice (1 and 0), sample 1 once (0), sample 2 once (-1).
    found = weigh(np.array([[1.0, 0.0, np.nan], [0.0, np.nan, -1.0]]))
    assert found.mean == pytest.approx((0.5 - 0.5) / 2)
    assert found.of_rounds == pytest.approx((0.5 + 0.5) / 2 / 2 * 1.0)  # variance .5 over 2 rounds
    of_sample = np.array([0.5, 0.0, -1.0])
    # Within sample 0 the variance is .5 with one degree of freedom; visits 2, 1, 1.
    assert found.of_samples == pytest.approx(max(of_sample.var(ddof=1) - 0.5 * (0.5 + 1 + 1) / 3, 1 / 3) / 3)
    low, high = found.interval(0.1)
    a, b = float(found.of_rounds), float(found.of_samples)
    freedom = (a + b) ** 2 / (a**2 / 1 + b**2 / 2)
    assert high - low == pytest.approx(2 * stats.t.ppf(0.95, freedom) * np.sqrt(a + b))
    assert found.p == pytest.approx(1.0)


def test_evidence_is_the_same_for_many_differences_at_once() -> None:
    rng = np.random.default_rng(3)
    d = np.where(rng.random((4, 5, 12)) < 0.4, rng.integers(-1, 2, (4, 5, 12)), np.nan)
    d[..., 0] = 1.0
    together = weigh(d)
    for i, one in enumerate(d):
        alone = weigh(one)
        assert together.mean[i] == alone.mean
        assert together.error[i] == pytest.approx(float(alone.error))
        assert together.freedom[i] == pytest.approx(float(alone.freedom))
        assert together.of_samples[i] == pytest.approx(float(alone.of_samples))


def test_answers_that_all_agree_are_no_certainty() -> None:
    few, many_ = weigh(np.ones((3, 4))), weigh(np.ones((3, 400)))
    assert few.error == pytest.approx(1 / 4)
    assert many_.error == pytest.approx(1 / 400)
    none = weigh(np.zeros((3, 10)))
    assert none.p == pytest.approx(1.0)


def test_what_is_to_be_expected_by_hand() -> None:
    """Errors .01 and .02: weights 10,000 and 2,500, centre .024, Q = 10,000 x .016^2 + 2,500 x .064^2 = 12.8."""
    between = (12.8 - 1) / (12_500 - (1e8 + 6.25e6) / 12_500)
    wanted = [0.024 + 0.016 * between / (between + 1e-4), 0.024 - 0.064 * between / (between + 4e-4)]
    assert expected(np.array([0.04, -0.04]), np.array([0.01, 0.02])) == pytest.approx(wanted)
    assert expected(np.array([0.02]), np.array([0.01])) == pytest.approx([0.02])  # nothing to compare it with
    level = expected(np.array([0.01, 0.0, -0.01]), np.full(3, 0.05))
    assert level == pytest.approx([0.0] * 3)  # chance explains more than that


def test_the_best_of_plans_that_are_all_worse_is_seldom_expected_to_gain() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(-0.03, 0.02, (2000, 8))
    found = truth + rng.normal(0, 0.03, truth.shape)
    hoped = np.where(found > 0, expected(found, np.full(8, 0.03)), -1.0)
    by_mean, by_expectation = (found.max(1) > 0).mean(), (hoped.max(1) > 0).mean()
    assert by_mean > 0.6
    assert by_expectation < by_mean / 3
    picked = np.where(hoped.max(1) > 0, np.take_along_axis(truth, hoped.argmax(1)[:, None], 1)[:, 0], 0.0)
    naive = np.where(found.max(1) > 0, np.take_along_axis(truth, found.argmax(1)[:, None], 1)[:, 0], 0.0)
    assert picked.mean() > naive.mean()


def test_a_gain_that_chance_explains_is_not_named() -> None:
    def verdict(others: float) -> dict[str, Any]:
        gains = {"a": 0.01, **dict.fromkeys("bcdefgh", others)}
        standing = {n: {"mean": m, "error": 0.03, "decided": None, "need": None} for n, m in gains.items()}
        record = SimpleNamespace(running=["a", "b"], standing=standing)
        tournament = SimpleNamespace(record=record, scores=lambda name: {}, contenders=lambda: list(gains))
        return verdict_of(tournament, 1)  # type: ignore[arg-type]

    assert (verdict(-0.02)["plan"], verdict(-0.02)["kind"]) == ("plain", "plain")
    assert (verdict(0.005)["plan"], verdict(0.005)["kind"]) == ("a", "undecided")


def test_a_plan_that_was_found_better_is_named_however_bad_the_others_are() -> None:
    gains = {"a": 0.03, **dict.fromkeys("bcdefgh", -0.005)}
    standing = {n: {"mean": m, "error": 0.009, "decided": None, "need": None} for n, m in gains.items()}
    record = SimpleNamespace(running=["a"], standing=standing)
    tournament = SimpleNamespace(record=record, scores=lambda name: {}, contenders=lambda: list(gains))
    decided = {"verdict": "better", "rounds": 9, "look": 3}
    for error, verdict, kind in ((0.05, None, "plain"), (0.05, decided, "better"), (0.005, None, "undecided")):
        standing["a"] |= {"error": error, "decided": verdict}
        assert verdict_of(tournament, 1)["kind"] == kind  # type: ignore[arg-type]


def test_more_samples_and_more_rounds_say_more() -> None:
    rng = np.random.default_rng(1)
    d = simulated(rng, 50, np.array([0.1]), 0.2, 0.05)[:, 0]
    errors = [weigh(d[:, :rung]).error.mean() for rung in RUNGS]
    assert all(late < early for early, late in itertools.pairwise(errors))


def test_all_looks_together_spend_the_whole_and_no_more() -> None:
    assert sum(share_of_look(n) for n in range(1, 200)) == pytest.approx(1.0)
    assert sum(share_of_look(n) for n in range(1, 20)) < 1.0
    assert rungs(3) == []


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=7),
    st.floats(0.001, 0.2),
)
def test_step_down_is_holm_among_the_open(pairs: list[tuple[float, bool]], alpha: float) -> None:
    p = np.array([value for value, _ in pairs])
    open_ = np.array([state for _, state in pairs])
    rejected, level = step_down(p, open_, alpha)
    adjusted = holm([value for value, state in pairs if state])
    assert [bool(r) for r, state in zip(rejected, open_, strict=True) if state] == [q < alpha for q in adjusted]
    assert not rejected[~open_].any()
    for value, gone, tested, state in zip(p, rejected, level, open_, strict=True):
        assert (not state) or (value < tested) == gone


def test_step_down_of_several_tournaments_is_that_of_each() -> None:
    rng = np.random.default_rng(5)
    p, open_ = rng.random((30, 6)) ** 4, rng.random((30, 6)) < 0.7
    together = step_down(p, open_, 0.1)
    for i in range(30):
        alone = step_down(p[i], open_[i], 0.1)
        assert (together[0][i] == alone[0]).all()
        np.testing.assert_allclose(together[1][i], alone[1])


def test_the_rounds_that_are_said_to_decide_do_so_four_times_of_five() -> None:
    rng = np.random.default_rng(2)
    d = simulated(rng, 400, np.array([0.16]), 0.05, 0.08)[:, 0]
    # The truth, as four rounds would show it: deviations of rounds, and of the mean of 20 answers in each.
    of_round = 0.08**2 + (0.26 - 0.16**2) / JUDGED
    typical = Evidence(*map(np.array, (0.16, 4, LABELLED, of_round / 4, 1 / LABELLED**2)))
    need = needed(typical, 2, 1, ALPHA)
    assert need.rounds in RUNGS
    look = RUNGS.index(need.rounds) + 1
    found = weigh(d[:, : need.rounds]).p < ALPHA * share_of_look(look)
    assert 0.65 < found.mean() < 0.95
    before = weigh(d[:, :4]).p < ALPHA * share_of_look(1)
    assert before.mean() < 0.5


def test_where_rounds_would_never_do_more_samples_are_named() -> None:
    small = weigh(simulated(np.random.default_rng(4), 1, np.array([0.02]), 0.4, 0.0)[0, 0])
    assert abs(float(small.mean)) < 3 * np.sqrt(float(small.of_samples))
    need = needed(small, 6, 3, ALPHA)
    assert need.rounds is None
    assert need.samples is not None
    assert need.samples > small.samples
    assert needed(weigh(np.zeros((4, 10))), 1, 1, ALPHA) == type(need)(None, None)
    # so many more samples, with the same spread among them: the rounds that were never enough are
    times = need.samples / int(small.samples)
    for factor, enough in ((1.02 * times, True), (0.97 * times, False)):
        larger = replace(
            small,
            samples=np.array(round(factor * int(small.samples))),
            of_samples=small.of_samples / factor,
        )
        assert (needed(larger, 6, 3, ALPHA).rounds is not None) == enough


def test_more_samples_are_named_where_only_the_looks_spend_too_little() -> None:
    """1.55 points after 22 rounds of 200 out of 1,000 samples: no later look has enough left of the error."""
    seen = Evidence(np.array(0.0155), np.array(22), np.array(994), np.array(8e-5), np.array(1.2e-5))
    need = needed(seen, 7, 1, ALPHA)
    assert need.rounds is None
    assert need.samples is not None
    assert need.samples > 1.05 * 994


def test_optimism_of_picking_among_equals_is_what_the_pick_gains_by_luck() -> None:
    rng = np.random.default_rng(9)
    names = [f"p{i}" for i in range(6)]

    def mean_of(shift: Callable[[int], float]) -> float:
        found = []
        for _ in range(300):
            scores = {n: dict(enumerate(rng.normal(shift(i), 0.02, 8))) for i, n in enumerate(names)}
            found.append(optimism(scores, names))
        return float(np.mean(found))

    luck = np.mean([rng.normal(0, 0.02 / np.sqrt(8), 6).max() for _ in range(5000)])
    assert mean_of(lambda i: 0.0) == pytest.approx(luck, rel=0.25)
    assert abs(mean_of(lambda i: 0.5 if i == 2 else 0.0)) < 1e-9  # no doubt who is best, no luck
    assert optimism({"a": {0: 1.0, 1: 1.0}}, ["a"]) is None
    assert optimism({"a": {0: 1.0}}, []) is None
