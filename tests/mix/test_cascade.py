"""Cascades: when they move on, and what they tell a trainer."""

from __future__ import annotations

import pytest
import torch

from lessonplan import mix as m
from lessonplan.mix.cascade import cascade_stages


@pytest.mark.parametrize(
    ("k", "steps", "stop_at", "stages"),
    [
        (8, "halve", 1, (8, 4, 2, 1)),
        (7, "halve", 1, (7, 3, 1)),
        (6, "halve", 2, (6, 3, 2)),
        (8, "halve", 2, (8, 4, 2)),
        (4, "decrement", 1, (4, 3, 2, 1)),
        (4, "decrement", 2, (4, 3, 2)),
        (1, "halve", 1, (1,)),
        (3, "halve", 3, (3,)),
    ],
)
def test_stages(k, steps, stop_at, stages):
    assert cascade_stages(k, steps, stop_at) == stages
    assert m.Cascade(k, steps=steps, stop_at=stop_at).stages == stages


def test_patience_counts_evaluations_without_improvement():
    mix = m.Cascade(4, 2, patience=2, shares=None)
    heard = [(v, mix.step(v), mix.k) for v in (0.5, 0.4, 0.6, 0.6, 0.5, 0.1, 0.05, 0.04, 0.3, 0.2, 0.1, 0.0)]
    assert heard == [
        (0.5, "improved", 4),
        (0.4, "waiting", 4),
        (0.6, "improved", 4),  # counts from here again
        (0.6, "waiting", 4),  # as good is not better
        (0.5, "switched", 2),
        (0.1, "improved", 2),  # the best of a stage is its own
        (0.05, "waiting", 2),
        (0.04, "switched", 1),
        (0.3, "improved", 1),
        (0.2, "waiting", 1),
        (0.1, "waiting", 1),  # there is no stage after the last
        (0.0, "waiting", 1),
    ]


def test_negative_losses_are_metrics_too():
    mix = m.Cascade(2, 2, patience=1, shares=None)
    assert [mix.step(v) for v in (-2.3, -1.9, -2.0)] == ["improved", "improved", "switched"]


@pytest.mark.parametrize(
    ("shares", "ends"), [("equal", [1 / 3, 2 / 3]), ([0.5, 0.3, 0.2], [0.5, 0.8]), ([0.0, 0.0, 1.0], [0, 0])]
)
def test_shares_end_stages(shares, ends):
    mix = m.Cascade(4, 2, patience=None, shares=shares)
    for i in range(101):
        stage = sum(i / 100 >= end for end in ends)
        before = mix.stage
        assert mix.advance(i / 100) == (stage > before)
        assert mix.k == (4, 2, 1)[stage]
        assert mix.step(0.0) in ("improved", "waiting")


def test_a_late_look_skips_stages_and_announces_one_switch():
    mix = m.Cascade(8, 2)
    assert mix.advance(0.8)
    assert mix.k == 1
    assert not mix.advance(1.0)


def test_stages_end_between_epochs_only():
    mix = m.Cascade(4, 2)
    assert not mix.advance(0.9, epoch_start=False)
    assert mix.k == 4
    assert mix.advance(0.9)


def test_patience_and_shares_together():
    """Patience may end a stage early; the next one still ends with its own share at the latest."""
    mix = m.Cascade(4, 2, patience=1)
    mix.step(0.5)
    assert mix.step(0.5) == "switched"
    assert not mix.advance(0.4)  # the first stage's end is past already
    assert mix.k == 2
    assert mix.advance(0.7)
    assert mix.k == 1


def test_a_switch_forgets_the_best_of_the_stage():
    mix = m.Cascade(4, 2, patience=2)
    mix.step(0.9)
    mix.step(0.1)
    mix.advance(0.5)
    assert [mix.step(0.2), mix.step(0.1), mix.step(0.1)] == ["improved", "waiting", "switched"]


def test_resumed_cascade_takes_the_same_switches():
    """Saved with one evaluation waited: the next one without improvement switches."""
    mix = m.Cascade(4, 2, patience=2, shares=None)
    for value in (0.5, 0.5, 0.5, 0.7, 0.6):
        mix.step(value)
    other = m.Cascade(4, 2, patience=2, shares=None)
    other.load_state_dict(mix.state_dict())
    assert (other.k, other.describe()) == (2, {"k": 2, "stage": 1})
    assert other.step(0.65) == "switched"


def test_what_a_trainer_is_told():
    mix = m.Cascade(4, 2, patience=1, shares=None, reset_optimizer=False, lr_at_switch="keep")
    effects = mix.effects_of_switch()
    assert (effects.reset_optimizer, effects.restart_lr) == (False, False)
    effects = m.Cascade().effects_of_switch()
    assert (effects.reset_optimizer, effects.restart_lr) == (True, True)
    effects = m.Mixup().effects_of_switch()
    assert (effects.reset_optimizer, effects.restart_lr) == (False, False)
    assert mix.needs_validation()
    assert not m.Cascade().needs_validation()
    assert mix.config()["k"] == 4
    mix.step(1.0)
    mix.step(1.0)
    assert mix.config()["k"] == 4  # the identity of a mix does not move with its stage
    assert mix.current_k() == 2


def test_draws_follow_the_stage():
    raw, mixed = m.Cascade(4, 2), m.Cascade(4, 2, draw="mixed")
    seen = []
    for progress in (0.0, 0.4, 0.8):
        raw.advance(progress)
        mixed.advance(progress)
        n = mixed.draws(10)
        seen.append((raw.draws(10), n, len(mixed(torch.zeros(n), torch.zeros(n).long())[0])))
    assert seen == [(10, 40, 10), (10, 20, 10), (10, 10, 10)]
    assert m.SumAugment(4, draw="mixed", pairing="permute").draws(10) == 10
    assert m.SumAugment(4, draw="mixed").draws(10) == 40


def test_gradual_draws_as_many_groups_as_have_weight():
    mix = m.GradualCascade(4, 2, draw="mixed", finetune=0.0)
    seen = []
    for progress in (0.0, 0.2, 0.4, 0.7, 1.0):
        mix.advance(progress)
        n = mix.draws(10)
        seen.append((n, mix.current_k(), len(mix(torch.zeros(n), torch.zeros(n).long())[0])))
    assert seen == [(40, 4, 10), (40, 4, 10), (30, 3, 10), (20, 2, 10), (10, 1, 10)]
    assert m.GradualCascade(4).draws(10) == 10


@pytest.mark.parametrize("restored", [False, True])
def test_gradual_draws_keep_the_batch_of_the_network_for_an_epoch(restored):
    """What is drawn is fixed when an epoch begins: images that lose their weight are drawn until it ends."""
    mix = m.GradualCascade(4, 2, draw="mixed", finetune=0.0, variant="linear", seed=0)
    mix.advance(0.0)
    n = mix.draws(10)
    mix.advance(0.5, epoch_start=False)
    if restored:
        state = mix.state_dict()
        mix = m.GradualCascade(4, 2, draw="mixed", finetune=0.0, variant="linear", seed=0)
        mix.load_state_dict(state)
    x = torch.rand(n, 3)
    mixed, target = mix(x, torch.zeros(n).long())
    assert (n, mixed.shape, target.shape) == (40, (10, 3), (10, 2))
    coefficients = torch.tensor([5 / 12, 5 / 12, 1 / 6, 0.0])  # GCC_4(1/2), linear
    torch.testing.assert_close(mixed, (x.view(4, 10, 3) * coefficients.view(4, 1, 1)).sum(0))
    mix.advance(0.5)
    assert (mix.draws(10), mix.current_k()) == (30, 3)


def test_a_state_of_before_epochs_were_told_apart_is_taken():
    mix = m.GradualCascade(4, 2, draw="mixed", finetune=0.0)
    mix.advance(0.4)
    state = mix.state_dict()
    del state["epoch_t"]
    again = m.GradualCascade(4, 2, draw="mixed", finetune=0.0)
    again.load_state_dict(state)
    assert (again.t, again.draws(10)) == (0.4, 30)


def test_gradual_granularity():
    step, epoch = m.GradualCascade(4, finetune=0.5), m.GradualCascade(4, finetune=0.5, granularity="epoch")
    for progress, start, t_step, t_epoch in (
        (0.0, True, 0.0, 0.0),
        (0.1, False, 0.2, 0.0),
        (0.2, True, 0.4, 0.4),
        (0.4, False, 0.8, 0.4),
        (0.6, True, 1.0, 1.0),
    ):
        assert not step.advance(progress, epoch_start=start)
        epoch.advance(progress, epoch_start=start)
        assert step.describe()["t"] == pytest.approx(t_step)
        assert epoch.describe()["t"] == pytest.approx(t_epoch)


def test_gradual_remainder():
    x, y = torch.eye(7), torch.zeros(7).long()
    for remainder, used in (("wrap", 7), ("drop", 4)):
        mixed, _ = m.GradualCascade(4, 1, remainder=remainder)(x, y)
        assert (mixed.sum(0) > 0).sum() == used
