"""Mixes written as text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lessonplan import mix as m
from lessonplan.errors import ConfigError
from lessonplan.mix.text import MIXES, parse_mix
from lessonplan.mix.unmixed import Unmixed

number = st.floats(0.01, 50, allow_nan=False)
turned = st.sampled_from(["permute", "rotate"])
OPTIONS = {
    "sum": {
        "k": st.integers(1, 30),
        "pairing": st.sampled_from(["groups", "permute"]),
        "coefficients": st.sampled_from(["uniform", "dirichlet"]),
        "alpha": number,
        "labels": st.sampled_from(["average", "first", "union"]),
        "remainder": st.sampled_from(["wrap", "drop"]),
        "draw": st.sampled_from(["raw", "mixed"]),
        "seed": st.none() | st.integers(0, 9),
        "check": st.booleans(),
        "num_classes": st.none() | st.integers(1, 9),
    },
    "cascade": {
        "k": st.integers(2, 30),
        "patience": st.integers(1, 9) | st.none(),
        "steps": st.sampled_from(["halve", "decrement"]),
        "stop_at": st.sampled_from([1, 2]),
        "reset_optimizer": st.booleans(),
        "lr_at_switch": st.sampled_from(["restart", "keep"]),
        "labels": st.sampled_from(["average", "first", "union"]),
    },
    "gradual": {
        "k": st.integers(1, 30),
        "variant": st.sampled_from(["thesis", "progress", "linear"]),
        "finetune": st.floats(0, 0.99),
        "granularity": st.sampled_from(["step", "epoch"]),
        "pairing": st.sampled_from(["groups", "permute"]),
        "labels": st.sampled_from(["average", "first"]),
    },
    "mixup": {"alpha": number, "per_sample": st.booleans(), "pairing": turned},
    "cutmix": {"alpha": number, "per_sample": st.booleans(), "pairing": turned},
    "cutout": {"length": st.none() | st.integers(1, 99), "value": st.floats(-9, 9)},
    "sample-pairing": {"mix_targets": st.booleans(), "finetune": st.floats(0, 0.99), "pairing": turned},
}


def test_every_name_is_covered():
    need_a_network = {"manifold", "puzzle"}  # covered by their own tests
    assert set(OPTIONS) == set(MIXES) - need_a_network


@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_options_round_trip(name, data):
    given_options = data.draw(st.fixed_dictionaries({}, optional=OPTIONS[name]))
    text = ",".join(f"{key}={value}" for key, value in given_options.items())
    made = parse_mix(f"{name}:{text}" if text else name)
    expected = MIXES[name](**given_options)
    assert type(made) is type(expected)
    assert made.config() == expected.config()
    for key, value in given_options.items():
        assert getattr(made, key) == value
        assert type(getattr(made, key)) is type(value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("sample-pairing:mix_targets=false,finetune=0.2", "sample-pairing"),
        ("puzzle:alpha=1,eta=0.2,beta=1.2,gamma=0.5,xi=0.8,labels=3,clean_weight=0", "puzzle"),
    ],
)
def test_the_papers_values_written_out_are_the_defaults(text, name):
    """And so the same run: Inoue 2018 keeps one image's label; Kim et al. 2020, section 4 and appendix."""
    mix = parse_mix(text)
    assert mix.config() == {"name": name}
    assert str(mix) == name


def test_lists_are_written_with_slashes():
    assert parse_mix("cascade:k=4,shares=.5/.3/.2").shares == (0.5, 0.3, 0.2)
    assert parse_mix("cascade:k=4,shares=none").shares is None
    assert parse_mix("cascade:k=4,shares=equal,patience=none").patience is None


def test_spaces_are_ignored():
    assert parse_mix(" cascade: k = 4 , patience = 5 ").config() == m.Cascade(4, patience=5).config()


def test_p_and_until_wrap_any_mix():
    mix = parse_mix("mixup:alpha=0.4,until=60%,p=0.5")
    assert mix.config() == m.Until(m.Probability(m.Mixup(0.4), p=0.5), "60%").config()
    assert parse_mix("cutmix:p=0.25").config() == m.Probability(m.CutMix(), p=0.25).config()
    assert parse_mix("sum:until=0.9").config() == m.Until(m.SumAugment(), "0.9").config()


def test_a_bar_chooses():
    mix = parse_mix("mixup:alpha=0.2 | cutmix:p=0.5|sum:k=2")
    expected = m.Choice([m.Mixup(0.2), m.Probability(m.CutMix(), p=0.5), m.SumAugment(2)])
    assert mix.config() == expected.config()


@pytest.mark.parametrize("text", ["none", "erm", " none "])
def test_no_mix(text):
    assert parse_mix(text) is None
    assert str(Unmixed()) == "none"  # what stands in for it in a loop is called the same


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("mixpu", ["'mixpu'", "did you mean 'mixup'?"]),
        ("cutmx:alpha=1", ["'cutmx'", "did you mean 'cutmix'?"]),
        ("xyzzy", ["'xyzzy'", "cascade", "sample-pairing"]),
        ("", ["unknown mix ''"]),
        ("mixup|", ["unknown mix ''"]),
        ("cascade:patients=3", ["option of cascade", "'patients'", "did you mean 'patience'?"]),
        ("mixup:k=2", ["option of mixup", "'k'"]),
        ("sum:k", ["'k'", "write option=value"]),
        ("sum:k=two", ["sum:k='two'", "a whole number"]),
        ("sum:k=2.5", ["sum:k='2.5'", "a whole number"]),
        ("mixup:alpha=much", ["mixup:alpha='much'", "a number"]),
        ("mixup:per_sample=yes", ["per_sample='yes'", "true or false"]),
        ("mixup:pairing=groups", ["pairing='groups'", "'permute'", "'rotate'"]),
        ("sum:pairing=pairs", ["pairing='pairs'", "'groups'", "'permute'"]),
        ("sum:labels=last", ["labels='last'", "'average'", "'first'", "'union'"]),
        ("gradual:labels=union", ["labels='union'", "'average'", "'first'"]),
        ("cascade:shares=.5/x", ["shares='.5/x'", "'equal'", "numbers separated by slashes", "none"]),
        ("cascade:patience=soon", ["patience='soon'", "a whole number", "none"]),
        ("mixup:p=often", ["mixup:p='often'", "a number"]),
        ("mixup:p=2", ["p=2.0"]),
        ("mixup:until=late", ["'late'", "'80%'"]),
        ("mixup:alpha=0", ["alpha=0.0", "above 0"]),
        ("sum:k=0", ["k=0", "at least 1"]),
        ("none:k=2", ["'none'", "no options", "'k=2'"]),
        ("mixup|none", ["mixup|none", "mixup:p=0.5"]),
    ],
)
def test_mistakes_are_named(text, parts):
    with pytest.raises(ConfigError) as error:
        parse_mix(text)
    for part in parts:
        assert part in str(error.value)
