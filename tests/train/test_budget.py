from __future__ import annotations

import time

import pytest
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lessonplan.errors import ConfigError
from lessonplan.network.counters import Counters
from lessonplan.train import Budget
from lessonplan.train.cadence import Cadence


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("20ep", 20, "epochs"),
        ("1 epoch", 1, "epochs"),
        ("2.5 epochs", 2.5, "epochs"),
        ("4000 steps", 4000, "steps"),
        ("400k samples", 400_000, "samples"),
        ("1M samples", 1_000_000, "samples"),
        ("1.2M cost", 1_200_000, "cost"),
        ("2G cost", 2e9, "cost"),
        ("90s", 90, "seconds"),
        ("10min", 600, "seconds"),
        ("1.5h", 5400, "seconds"),
        (" .5 h ", 1800, "seconds"),
    ],
)
def test_parses_every_unit(text: str, amount: float, unit: str) -> None:
    assert Budget.parse(text) == Budget(amount, unit)


@pytest.mark.parametrize(
    "text", ["", "20", "ep", "-3ep", "0 steps", "20 eggs", "1e5 samples", "10m", "3 4 ep", 20]
)
def test_refuses_what_cannot_be_read(text: object) -> None:
    with pytest.raises(ConfigError, match="for example '20ep'"):
        Budget.parse(text)


@pytest.mark.parametrize(("amount", "unit"), [(0, "steps"), (-1, "epochs"), (float("inf"), "cost"), (3, "eggs")])
def test_refuses_impossible_budgets(amount: float, unit: str) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        Budget(amount, unit)


@given(st.integers(1, 10**12), st.sampled_from(["epochs", "steps", "samples", "seconds", "cost"]))
def test_its_text_reads_back_exactly(amount: int, unit: str) -> None:
    """The text is a run's identity: neighbouring budgets must not share it."""
    budget = Budget(amount, unit)
    assert Budget.parse(str(budget)) == budget


def test_progress_is_the_share_used() -> None:
    spent = Counters(steps=10, samples=40, cost=120, seconds=3.0, epoch=2, epoch_share=0.5)
    for unit, used in (("steps", 10), ("samples", 40), ("cost", 120), ("seconds", 3), ("epochs", 2.5)):
        assert Budget(4 * used, unit).progress(spent) == 0.25
        assert Budget(used, unit).progress(spent) == 1.0


@pytest.mark.parametrize(
    ("budget", "plan", "steps"),
    [
        ("7 steps", None, 7),
        ("50 samples", None, 7),  # 8 samples an update: 48 are too few
        ("50 samples", "sum:k=2", 13),  # 4 mixed samples an update
        ("100 cost", None, 5),  # 8 x 3 an update
        ("100 cost", "sum:k=2", 9),
        ("2ep", None, 12),  # 48 samples are 6 batches
        ("1.5ep", "sum:k=2", 9),  # passes over the raw data
    ],
)
def test_ends_the_run_where_it_should(quick, budget: str, plan: str | None, steps: int) -> None:
    assert quick(plan, budget).result["steps"] == steps


def test_seconds_end_the_run(quick) -> None:
    def slow(logits, target):
        time.sleep(0.02)
        return F.cross_entropy(logits, target)

    result = quick(None, "0.15s", loss=slow).result
    assert 0.15 <= result["seconds"] < 1
    assert 1 < result["steps"] <= 8


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8, 9, 48])
@pytest.mark.parametrize("epochs", [1, 2])
def test_whole_epochs_end_exactly_and_are_evaluated(quick, epochs: int, batch_size: int) -> None:
    """Shares of an epoch added up one by one end at .9999999 for some of these."""
    run = quick(None, f"{epochs}ep", batch_size=batch_size, evaluate_every=100)
    assert run.result["epochs"] == epochs
    assert run.result["steps"] == epochs * -(-48 // batch_size)
    assert ["val" in record for record in run.history] == [False] * (epochs - 1) + [True]


def test_cadence_counts_steps_from_the_last_time() -> None:
    cadence = Cadence.parse("3 steps")
    assert [cadence.due(step) for step in (0, 2, 3, 4)] == [False, False, True, True]
    cadence.done(4)
    assert [cadence.due(step) for step in (6, 7)] == [False, True]


def test_cadence_counts_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    cadence = Cadence.parse("1min")
    now = 159.9
    assert not cadence.due(10**9)
    now = 160.0
    assert cadence.due(0)


@pytest.mark.parametrize("text", ["often", "3ep", "10k samples", "-1s"])
def test_cadence_refuses_other_units(text: str) -> None:
    with pytest.raises(ConfigError, match="is no interval"):
        Cadence.parse(text)
