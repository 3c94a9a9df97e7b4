"""Mixes made of mixes, and SamplePairing's own fine-tuning phase."""

from __future__ import annotations

import pytest
import torch

import lessonplan as lp
from lessonplan import mix as m
from lessonplan.errors import ConfigError
from lessonplan.mix.combine import parse_share

X, Y = torch.arange(12.0), torch.arange(12) % 3


def coefficient_streams(*mixes, batches=3):
    return [torch.cat([mix(X, Y)[0] for _ in range(batches)]) for mix in mixes]


@pytest.mark.parametrize("wrap", [lambda mix: mix, m.Probability, m.Until], ids=["plain", "probability", "until"])
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("setup", [False, True])
def test_twins_in_a_choice_draw_apart(wrap, seed, setup):
    choice = m.Choice([wrap(m.Mixup()), wrap(m.Mixup())], num_classes=3, seed=seed)
    if setup:
        choice.finish_setup(3, 5)
    a, b = coefficient_streams(*(getattr(member, "mix", member) for member in choice.mixes))
    assert not torch.equal(a, b)


def test_a_seed_reaches_what_is_inside():
    def stream(seed):
        return coefficient_streams(m.Choice([m.Probability(m.Mixup(num_classes=3), p=1.0)], seed=seed))[0]

    assert torch.equal(stream(1), stream(1))
    assert not torch.equal(stream(1), stream(2))


def test_a_members_own_seed_is_kept():
    choice = m.Choice([m.Mixup(seed=9), m.Mixup()], num_classes=3, seed=1)
    choice.finish_setup(3, 5)
    a, b = coefficient_streams(choice.mixes[0], m.Mixup(num_classes=3, seed=9))
    assert torch.equal(a, b)


def test_classes_are_shared():
    assert m.Choice([m.Mixup(num_classes=3), m.Mixup()])(X, Y)[1].shape == (12, 3)
    nested = m.Choice([m.Until(m.Choice([m.Mixup(), m.Mixup()])), m.Probability(m.Mixup())], num_classes=3)
    for _ in range(6):
        assert nested(X, Y)[1].shape == (12, 3)
    until = m.Until(m.Probability(m.Mixup()))
    until.finish_setup(3, 0)
    assert (until.num_classes, until.inner.num_classes) == (3, 3)
    mixup = m.Mixup(num_classes=7)
    mixup.finish_setup(3, 0)
    assert mixup.num_classes == 7


def test_until_switches_off_for_good():
    mix = m.Until(m.Mixup(num_classes=3), "80%")
    for progress, active in ((0.0, True), (0.79, True), (0.8, False), (1.0, False)):
        mix.advance(progress)
        assert mix.describe() == {"active": active}
        assert mix.current_k() == (2 if active else 1)
        assert torch.equal(mix(X, Y)[0], X) != active


def test_until_hands_on_its_own_share_of_the_budget():
    """A cascade inside 50% of the budget ends its stages at sixths."""
    mix = m.Until(m.Cascade(4, 3, patience=None), "50%")
    seen = []
    for i in range(12):
        switched = mix.advance(i / 12)
        seen.append((mix.current_k(), switched))
    assert seen == [(4, False), (4, False), (2, True), (2, False), (1, True), *[(1, False)] * 7]


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.5), (0.25, 0.75), (0.0, 0.0)])
def test_what_a_mix_hears_inside_of_until_is_a_share(start, end):
    """As ``Mix.advance`` promises, also when its own part of the budget is over, or there is none."""
    heard = []

    class Hearing(m.Mixup):
        def advance(self, progress, *, epoch_start=True):
            heard.append(progress)
            return False

    mix = m.Until(Hearing(), end, start=start)
    for progress in (0.0, 0.25, 0.5, 0.75, 1.0):
        mix.advance(progress)
    expected = [min(max(p - start, 0) / (end - start), 1) if end > start else 1 for p in (0, 0.25, 0.5, 0.75, 1)]
    assert heard == expected


def test_until_keeps_a_cascade_still_while_fine_tuning():
    """Clean samples end no stage: a trainer would go back to weights from before the fine-tuning."""
    mix = m.Until(m.Cascade(4, 3, patience=1, shares=None), 0.5)
    mix.advance(0.4)
    assert mix.step(0.6) == "improved"
    mix.advance(0.5)
    assert [mix.step(0.1), mix.step(0.9)] == ["waiting", "waiting"]
    assert mix.inner.stage == 0


def test_until_waits_for_the_epoch_where_a_larger_batch_was_drawn():
    mix = m.Until(m.SumAugment(4, 3, draw="mixed"), 0.5)
    mix.advance(0.6, epoch_start=False)
    assert mix.draws(3) == 12
    assert len(mix(X, Y)[0]) == 3
    mix.advance(0.6)
    assert mix.draws(3) == 3
    assert len(mix(X, Y)[0]) == 12
    plain = m.Until(m.SumAugment(4, 3), 0.5)
    plain.advance(0.6, epoch_start=False)
    assert plain.current_k() == 1


def test_until_resumes_in_its_phase():
    mix, other = m.Until(m.Mixup(num_classes=3), 0.5), m.Until(m.Mixup(num_classes=3), 0.5)
    mix.advance(0.7)
    other.load_state_dict(mix.state_dict())
    assert torch.equal(other(X, Y)[0], X)


def test_wrappers_hand_on_a_cascades_news():
    for wrap in (m.Probability, m.Until, lambda mix: m.Choice([m.Mixup(), mix])):
        mix = wrap(m.Cascade(4, 3, patience=1, shares=None, lr_at_switch="keep"))
        assert mix.needs_validation()
        assert mix.draws(5) == 5
        assert mix.current_k() == 4
        assert [mix.step(v) for v in (0.5, 0.4, 0.6)] == ["improved", "switched", "improved"]
        effects = mix.effects_of_switch()
        assert (effects.reset_optimizer, effects.restart_lr) == (True, False)
        scheduled = wrap(m.Cascade(4, 3))
        assert not scheduled.needs_validation()
        assert scheduled.advance(0.4)
        assert not scheduled.advance(0.5)
        assert scheduled.step(0.1) == "improved"
        assert scheduled.step(0.1) == "waiting"


def test_batches_of_different_sizes_cannot_take_turns():
    wide = m.SumAugment(4, 3, draw="mixed")
    assert m.Until(wide).draws(5) == 20
    for make in (lambda: m.Probability(wide), lambda: m.Choice([m.Mixup(), wide])):
        with pytest.raises(ConfigError, match="draw='raw'"):
            make()


def test_choice_of_cascades_announces_the_strongest_news():
    choice = m.Choice([m.Cascade(4, patience=1, shares=None), m.Cascade(4, patience=2, shares=None)])
    assert [choice.step(v) for v in (0.5, 0.4, 0.45)] == ["improved", "switched", "switched"]


def test_sample_pairing_fine_tunes_without_pairs():
    mix = m.SamplePairing(num_classes=3, finetune=0.25)
    assert mix.describe() == {"active": True}
    for progress, active in ((0.0, True), (0.74, True), (0.75, False), (1.0, False)):
        mix.advance(progress)
        assert mix.describe() == {"active": active}
        assert mix.current_k() == (2 if active else 1)
        assert torch.equal(mix(X, Y)[0], X) != active
    always = m.SamplePairing(num_classes=3, finetune=0.0)
    always.advance(0.999)
    assert always.current_k() == 2


def test_config_names_what_is_inside():
    mix = m.Until(m.Choice([m.Mixup(0.4), m.Probability(m.Cutout(8), p=0.25)], p=[0.75, 0.25]), "60%")
    assert mix.config() == {
        "name": "until",
        "end": "60%",
        "mix": {
            "name": "choice",
            "p": [0.75, 0.25],
            "mixes": [
                {"name": "mixup", "alpha": 0.4},
                {"name": "probability", "p": 0.25, "mix": {"name": "cutout", "length": 8}},
            ],
        },
    }


def by_count(k, count, generator):
    return torch.full((k, count), 1 / k)


def test_config_names_a_function():
    assert m.SumAugment(2, coefficients=by_count).config()["coefficients"].split()[0].endswith(":by_count")


@pytest.mark.parametrize(("given", "share"), [("80%", 0.8), ("0.3", 0.3), (1, 1.0), ("100%", 1.0), (0, 0.0)])
def test_shares_of_the_budget(given, share):
    assert parse_share(given) == pytest.approx(share)


# -- chains ---------------------------------------------------------------------------------------------


def test_a_chain_is_one_mix_after_the_other():
    x, y = torch.randn(12, 3, 6, 8), torch.arange(12) % 3
    chain = (m.Mixup() >> m.SumAugment(2)) >> m.Cutout()
    chain.finish_setup(3, 7)
    by_hand = [m.Mixup(num_classes=3), m.SumAugment(2, num_classes=3), m.Cutout(num_classes=3)]
    for ours, theirs in zip(by_hand, chain.children(), strict=True):
        ours.load_state_dict(theirs.state_dict())
    mixed, target = chain(x, y)
    for mix in by_hand:
        mix.expect_soft_targets()
        x, y = mix(x, y)
    assert torch.equal(mixed, x)
    assert torch.equal(target, y)
    assert len(mixed) == 6
    assert [mix.name for mix in chain.children()] == ["mixup", "sum", "cutout"]


def test_a_chain_in_text_and_back():
    for text in (
        "mixup:alpha=0.2 >> cutout",
        "sum:k=3 >> mixup",
        "mixup >> sum|cutmix",
        "(mixup >> cutout):p=0.5",
    ):
        mix = m.parse_mix(text)
        assert str(mix) == text
        assert m.parse_mix(str(mix)).config() == mix.config()
    assert isinstance(m.parse_mix("mixup >> sum|cutmix"), m.Choice)
    assert lp.Plan.parse("select:accuracy >> topk:0.5 + mixup >> cutout").mix.name == "chain"


def test_what_is_around_a_mix_is_said_after_its_options():
    """Behind a colon where there are none yet, else behind a comma."""
    made = m.Until(m.Probability(m.Mixup(0.2), p=0.5), "60%")
    assert str(made) == "mixup:alpha=0.2,p=0.5,until=60%"
    assert m.parse_mix(str(made)).config() == made.config()
    assert str(m.Probability(m.CutMix(), p=0.25)) == "cutmix:p=0.25"


def test_a_choice_in_text_and_back():
    """With a probability around it, unequal, and inside of others."""
    third = 1 / 3
    for text in (
        "mixup|cutmix",
        "(mixup:alpha=0.2|cutmix):p=0.5",
        "(mixup|cutmix):weights=0.25/0.75",
        f"(mixup|cutmix|cutout):weights={third}/{third}/{third}",
        "((mixup|cutmix):weights=0.25/0.75):until=80%",
        "(mixup|cutmix) >> cutout",
        "(mixup|cutmix)|cutout",
        "mixup|((cutmix|cutout):weights=0.5/0.5)",
    ):
        mix = m.parse_mix(text)
        assert str(mix) == text
        assert m.parse_mix(str(mix)).config() == mix.config()
    both = m.parse_mix("(mixup|cutmix):weights=0.25/0.75,p=0.5")
    assert isinstance(both, m.Probability)
    assert both.p == 0.5
    assert list(both.mix.p) == [0.25, 0.75]


def test_weights_may_be_whole_numbers():
    always = m.Choice([m.Mixup(num_classes=2), m.Cutout()], p=[0, 1])
    x, y = torch.ones(4, 1, 6, 6), torch.tensor([0, 1, 0, 1])
    assert all(always(x, y)[1].max(1).values.eq(1).all() for _ in range(5))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: m.Chain([m.Mixup()]), "fewer than two"),
        (lambda: m.parse_mix("mixup >> none"), "'none' is none"),
        (lambda: m.ManifoldMixup() >> m.Cutout(), "goes on inside the network"),
        (lambda: m.Mixup() >> m.SumAugment(2, draw="mixed"), "stands behind another mix"),
        (lambda: m.parse_mix("(mixup|cutmix):q=1"), "unknown option"),
        (lambda: m.parse_mix("(mixup >> cutout):weights=.5/.5"), "weights to no choice"),
        (lambda: m.parse_mix("(mixup|cutmix):weights=.5"), "one probability each"),
        (lambda: m.parse_mix("(mixup|cutmix):weights=.5/.6"), "together 1"),
        (lambda: m.parse_mix("(mixup|cutmix):weights=a/b"), "numbers separated by slashes"),
    ],
)
def test_chains_that_cannot_be(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_the_same_mix_twice():
    mix = m.Mixup()
    with pytest.raises(ConfigError, match="same mix twice"):
        m.Chain([mix, mix])


def test_a_cascade_in_a_chain_moves_on():
    chain = m.Cascade(4, shares=(0.5, 0.25, 0.25), patience=None) >> m.Mixup()
    chain.finish_setup(3, 0)
    assert chain.current_k() == 4 * 2  # mixup is made of two
    assert chain.advance(0.6)
    assert chain.current_k() == 2 * 2
    assert chain.describe()["1 cascade"]


def test_chains_through_fit():
    runs = [
        lp.fit("tiny", "digits", plan, "6 steps", threads=1, batch_size=16)
        for plan in ("mixup >> cutout", "mixup", "cutout", "mixup >> manifold")
    ]
    weights = [torch.cat([p.flatten() for p in run.model.parameters()]) for run in runs]
    assert not any(torch.equal(weights[0], other) for other in weights[1:])


def test_a_mix_that_begins_late() -> None:
    """Clean, then mixed, then clean; a cascade inside goes through its stages in its own part of the budget."""
    mix = m.parse_mix("mixup:from=20%,until=80%")
    assert str(mix) == "mixup:from=20%,until=80%"
    assert str(m.parse_mix("mixup:from=0.5")) == "mixup:from=0.5"
    mix.num_classes = 3
    x, y = torch.arange(6.0), torch.tensor([0, 1, 2, 0, 1, 2])
    for progress, mixed in ((0.0, False), (0.19, False), (0.2, True), (0.79, True), (0.8, False), (1.0, False)):
        mix.advance(progress)
        assert torch.equal(mix(x, y)[0], x) is not mixed, progress
    fresh = m.parse_mix("mixup:from=20%")
    fresh.num_classes = 3
    assert torch.equal(fresh(x, y)[0], x)  # before anybody said how far training is

    cascade = m.Until(m.Cascade(4, 3, patience=None), "90%", start="50%")
    seen = []
    for step in range(20):
        cascade.advance(step / 20)
        seen.append(cascade.current_k())
    assert seen[:10] == [1] * 10
    assert seen[18:] == [1, 1]
    inner = m.Cascade(4, 3, patience=None)
    alone = []
    for step in range(8):
        inner.advance(step / 8)
        alone.append(inner.current_k())
    assert seen[10:18] == alone
    for text in ("mixup:from=80%,until=20%", "mixup:from=50%,until=50%"):
        with pytest.raises(ConfigError, match="never mixes"):
            m.parse_mix(text)
