from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.train.schedule import Schedule


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("constant", {0: 1, 0.5: 1, 1: 1}),
        ("cosine", {0: 1, 0.25: (1 + math.sqrt(0.5)) / 2, 0.5: 0.5, 0.75: (1 - math.sqrt(0.5)) / 2, 1: 0}),
        ("cosine:end=0.2", {0: 1, 0.5: 0.6, 1: 0.2}),
        ("step", {0: 1, 0.33: 1, 0.34: 0.1, 0.67: 0.01, 1: 0.01}),
        ("step:gamma=0.5,parts=2", {0.49: 1, 0.5: 0.5, 1: 0.5}),
        ("step:at=50%/75%", {0: 1, 0.49: 1, 0.5: 0.1, 0.74: 0.1, 0.75: 0.01, 1: 0.01}),
        ("step:gamma=0.5,at=.2", {0.19: 1, 0.2: 0.5, 1: 0.5}),
        ("step:at=50%,warmup=0.2", {0.1: 0.5, 0.2: 1, 0.49: 1, 0.5: 0.1}),
        ("exponential", {0: 1, 0.5: 0.1, 1: 0.01}),
        ("exponential:end=0.25", {0.5: 0.5, 1: 0.25}),
        ("constant:warmup=0.2", {0: 0, 0.1: 0.5, 0.2: 1, 1: 1}),
        ("cosine:warmup=0.5", {0.25: 0.5, 0.5: 1, 0.75: 0.5, 1: 0}),
        ("stagnation", {0: 1, 1: 1}),
    ],
)
def test_hand_worked_values(text: str, expected: dict[float, float]) -> None:
    schedule = Schedule(text)
    for progress, factor in expected.items():
        assert schedule.factor(progress) == pytest.approx(factor, abs=1e-12), progress


@given(st.floats(0, 2), st.sampled_from(["cosine", "step", "exponential", "constant", "cosine:warmup=0.1"]))
def test_factors_stay_in_range_beyond_the_budget_too(progress: float, text: str) -> None:
    assert 0 <= Schedule(text).factor(progress) <= 1


def test_halves_after_300_stagnant_updates() -> None:
    """Thesis section 3.7."""
    schedule = Schedule("stagnation")
    schedule.observe(1.0)  # the best so far
    for _ in range(299):
        schedule.observe(1.0)
    assert schedule.factor(0.5) == 1.0
    schedule.observe(1.0)
    assert schedule.factor(0.5) == 0.5
    for _ in range(300):
        schedule.observe(2.0)
    assert schedule.factor(0.5) == 0.25


def test_improvement_starts_the_count_anew() -> None:
    schedule = Schedule("stagnation:patience=3,smoothing=1")
    for loss in (5, 5, 5, 4, 4, 4):
        schedule.observe(loss)
    assert schedule.factor(0) == 1.0
    schedule.observe(4)
    assert schedule.factor(0) == 0.5


def test_stagnation_reads_the_running_mean() -> None:
    """Of the losses 1, 0, 1, 1 with weight .5: 1, .5, .75, .875."""
    schedule = Schedule("stagnation:patience=2,smoothing=0.5")
    for loss in (1, 0, 1):
        schedule.observe(loss)
    assert schedule.state_dict()["mean"] == 0.75
    assert schedule.state_dict()["best"] == 0.5
    assert schedule.state_dict()["waited"] == 1
    schedule.observe(1)
    assert schedule.factor(0) == 0.5


def test_losses_of_each_k_are_judged_by_themselves() -> None:
    """With another K the loss jumps up: that is no stagnation, and the factor that was reached stays."""
    schedule = Schedule("stagnation:patience=3,smoothing=1")
    for loss, k in ((1.0, 4), (1.0, 4), (1.0, 4), (1.0, 4)):
        schedule.observe(loss, k)
    assert schedule.factor(0) == 0.5
    for loss in (3.0, 2.9, 2.8, 2.7, 2.6):
        schedule.observe(loss, 2)
    assert schedule.factor(0) == 0.5
    for _ in range(3):
        schedule.observe(2.6, 2)
    assert schedule.factor(0) == 0.25


def test_behind_a_change_of_k_a_lucky_batch_is_not_the_best() -> None:
    """With weight .25 the plain mean of the first four is where the count begins: (0 + 4 + 4 + 4) / 4."""
    schedule = Schedule("stagnation:patience=2,smoothing=0.25")
    schedule.observe(1.0, 2)
    for loss in (0.0, 4.0, 4.0):
        schedule.observe(loss, 1)
        assert schedule.state_dict()["best"] == math.inf
    stored = Schedule("stagnation:patience=2,smoothing=0.25")
    stored.load_state_dict(schedule.state_dict())
    for one in (schedule, stored):
        one.observe(4.0, 1)
        assert one.state_dict()["mean"] == one.state_dict()["best"] == 3.0
        one.observe(5.0, 1)
        assert one.state_dict()["mean"] == 3.5
        assert one.factor(0) == 1.0
        one.observe(5.0, 1)
        assert one.factor(0) == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("mix", ["gradual:k=4", "cascade:k=4,patience=none,lr_at_switch=keep"])
def test_the_thesis_loss_and_learning_rate_rule_go_together(mix: str) -> None:
    """Before, the divisor of sum-bce alone halved the learning rate until nothing was learned."""
    data = lp.data.load("digits", val_fraction=0.2)
    run = lp.fit(
        "fcnet-64", data, mix, "120k samples", threads=1, loss="sum-bce", schedule="stagnation:patience=300"
    )
    assert run.history[-1]["lr"] >= 0.05 / 4
    assert run.result["test"]["accuracy"] > 0.92


def test_restart_takes_the_rest_of_the_budget_as_the_whole() -> None:
    cosine = Schedule("cosine")
    cosine.restart(0.5)
    assert [round(cosine.factor(p), 12) for p in (0.5, 0.75, 1.0)] == [1.0, 0.5, 0.0]
    stagnation = Schedule("stagnation:patience=1")
    stagnation.observe(1)
    stagnation.observe(2)
    assert stagnation.factor(0) == 0.5
    stagnation.restart(0.5)
    assert stagnation.factor(0.6) == 1.0


def test_state_goes_round() -> None:
    one, other = Schedule("stagnation:patience=4"), Schedule("stagnation:patience=4")
    for loss in (3, 2, 4, 4, 4):
        one.observe(loss)
    other.load_state_dict(one.state_dict())
    for schedule in (one, other):
        schedule.observe(5)
    assert one.factor(0) == other.factor(0) == 0.5
    assert one.state_dict() == other.state_dict()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosin", "did you mean 'cosine'"),
        ("cosine:ende=1", "did you mean 'end'"),
        ("cosine:end=low", "give a number"),
        ("cosine:end=2", "out of range"),
        ("exponential:end=0", "out of range"),
        ("step:parts=0", "out of range"),
        ("stagnation:factor=1", "out of range"),
        ("constant:warmup=1", "out of range"),
        ("step:gamma=nan", "out of range"),
        ("step:at=50%/75%,parts=3", "give at or parts"),
        ("cosine:at=50%", "unknown option of cosine 'at'"),
        *(
            (f"step:at={at}", "give rising shares of the budget between 0 and 1 .at=50%/75%. or rising epochs")
            for at in (
                "150/250",
                "75%/50%",
                "50%/50%",
                "0/.5",
                "0ep",
                "100%",
                "150ep/50%",
                "50%/",
                "half",
                "",
                "-1ep",
                "nan",
            )
        ),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Schedule(text)


@pytest.mark.parametrize(("text", "gamma", "milestones"), [
    ("step:at=2ep/5ep", 0.1, [2, 5]),
    ("step:gamma=0.5,at=1ep/3ep/4ep", 0.5, [1, 3, 4]),
    ("step:gamma=0.5,at=25%/75%", 0.5, [2, 6]),
    ("step:at=3ep/20ep", 0.1, [3, 20]),
])  # fmt: skip
def test_milestones_are_those_of_torch(quick, hook, text: str, gamma: float, milestones: list[int]) -> None:
    """At every epoch's first batch the rate of MultiStepLR; and it stays in the epoch."""
    rates: list[tuple[int, float]] = []

    def note(trainer: Any) -> None:
        rates.append((trainer.counters.epoch, trainer.state.optimizer.param_groups[0]["lr"]))

    quick(None, "8ep", schedule=text, lr=0.4, callbacks=[hook(on_batch_start=note)])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma)
    expected = []
    for _ in range(8):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    assert {epoch for epoch, _ in rates} == set(range(8))
    assert [rate for _, rate in rates] == pytest.approx([expected[epoch] for epoch, _ in rates])


def test_milestones_in_epochs_whatever_the_budget_is_in(quick, hook) -> None:
    seen: list[tuple[int, float]] = []

    def note(trainer: Any) -> None:
        seen.append((trainer.counters.epoch, trainer.state.optimizer.param_groups[0]["lr"]))

    quick(None, "400 samples", schedule="step:at=1ep/2ep", lr=1.0, callbacks=[hook(on_batch_start=note)])
    assert len({epoch for epoch, _ in seen}) > 2
    assert all(rate == pytest.approx(0.1 ** min(epoch, 2)) for epoch, rate in seen)


def test_a_restart_counts_the_epochs_to_come() -> None:
    schedule = Schedule("step:at=2ep")
    schedule.restart(0.5, 10.0)
    stored = Schedule("step:at=2ep")
    stored.load_state_dict(schedule.state_dict())
    for one in (schedule, stored):
        assert [one.factor(0.6, epochs) for epochs in (11, 12)] == [1, pytest.approx(0.1)]
    older = {name: value for name, value in schedule.state_dict().items() if name != "started_epochs"}
    stored.load_state_dict(older)
    assert stored.factor(0.6, 2) == pytest.approx(0.1)
    shares = Schedule("step:at=50%")
    shares.restart(0.5)
    assert [shares.factor(p) for p in (0.74, 0.75)] == [1, pytest.approx(0.1)]


def test_a_cascade_begins_its_milestones_anew(quick, hook) -> None:
    """Stages of two epochs: in each the rate falls with its second epoch."""
    seen: list[tuple[int, float]] = []

    def note(trainer: Any) -> None:
        seen.append((trainer.counters.epoch, round(trainer.state.optimizer.param_groups[0]["lr"], 9)))

    hooks = [hook(on_batch_start=note)]
    quick("cascade:k=2,patience=none", "4ep", schedule="step:at=1ep", lr=1.0, callbacks=hooks)
    assert sorted(set(seen)) == [(0, 1.0), (1, 0.1), (2, 1.0), (3, 0.1)]


@pytest.mark.parametrize("budget", ["8 steps", "64 samples", "192 cost"])
def test_fit_follows_the_schedule_to_the_budgets_end(quick, hook, budget: str) -> None:
    rates: list[float] = []
    quick(
        None,
        budget,
        schedule="cosine",
        lr=0.4,
        callbacks=[hook(on_batch_end=lambda trainer: rates.append(trainer.state.optimizer.param_groups[0]["lr"]))],
    )
    assert rates == pytest.approx([0.2 * (1 + math.cos(math.pi * i / 8)) for i in range(8)])


def test_fit_halves_on_stagnation(quick) -> None:
    """A loss that cannot fall: with patience 3 the factor halves behind updates 4, 7, 10."""
    run = quick(None, "12 steps", schedule="stagnation:patience=3", lr=0.8, batch_size=48, loss=_constant_loss)
    assert [record["lr"] for record in run.history] == pytest.approx([0.8] * 4 + [0.4] * 3 + [0.2] * 3 + [0.1] * 2)


def _constant_loss(logits, target):
    return logits.sum(1) * 0 + 1


def test_steps_in_parts_that_are_no_whole_number_lower_the_rate_at_whole_steps():
    schedule = Schedule("step:gamma=0.5,parts=2.5")
    assert [schedule.factor(share) for share in (0.0, 0.39, 0.41, 0.79, 0.81, 1.0)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_a_warmup_in_percent_of_the_budget():
    share, percent = Schedule("cosine:warmup=0.05,end=0.1"), Schedule("cosine:warmup=5%,end=10%")
    assert share.options == percent.options
    with pytest.raises(ConfigError, match="warmup"):
        Schedule("cosine:warmup=120%")
    with pytest.raises(ConfigError, match="give a number"):
        Schedule("cosine:warmup=five%")
