"""Selections written as text, with when they select."""

from __future__ import annotations

import pytest

from lessonplan.errors import ConfigError
from lessonplan.select import (
    AccuracyFilter,
    Batchwise,
    Epochwise,
    LossWeighted,
    Scoring,
    Selecting,
    Selection,
    TopK,
    parse_select,
)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("accuracy", AccuracyFilter()),
        ("accuracy:margin=0.2 >> topk:0.5", AccuracyFilter(0.2) >> TopK(0.5)),
        ("accuracy >> batchwise", Batchwise(AccuracyFilter())),
        (
            "accuracy>>topk:8>>batchwise : raw_batch_size=64, overflow=discard,fill=random,max_age=none",
            Batchwise(
                Selection([AccuracyFilter(), TopK(8)], fill="random"),
                raw_batch_size=64,
                overflow="discard",
                max_age=None,
            ),
        ),
        (
            "accuracy >> batchwise:batch_size=none,refresh=10,reuse=never,mode=train,precision=bf16,"
            "resolution=0.5",
            Batchwise(
                AccuracyFilter(),
                batch_size=None,
                refresh=10,
                reuse="never",
                scoring=Scoring("train", "bf16", 0.5),
            ),
        ),
        (
            "weighted:0.5,power=2->1 >> epochwise:every=3,resample=true",
            Epochwise(LossWeighted(0.5, "2->1"), every=3, resample=True),
        ),
        (
            "topk:0.5 >> epochwise >> accuracy >> batchwise:max_age=0",
            Selecting(Epochwise(TopK(0.5)), Batchwise(AccuracyFilter(), max_age=0)),
        ),
        ("topk:0.5 >> epochwise >> accuracy", Selecting(Epochwise(TopK(0.5)), Batchwise(AccuracyFilter()))),
    ],
)
def test_as_in_python(text, made) -> None:
    again = parse_select(text)
    assert again.config() == Selecting.of(made).config()
    assert repr(again) == repr(Selecting.of(made))
    assert parse_select(repr(again)).config() == again.config()


def test_configurations_tell_plans_apart() -> None:
    texts = [
        "accuracy",
        "accuracy:margin=0.1",
        "accuracy >> epochwise",
        "accuracy >> epochwise:every=2",
        "accuracy >> epochwise:mode=train",
        "accuracy >> batchwise:reuse=never",
        "accuracy >> topk:4 >> batchwise:raw_batch_size=8",
        "accuracy >> topk:4 >> batchwise:raw_batch_size=8,fill=random",
    ]
    configs = [str(parse_select(text).config()) for text in texts]
    assert len(set(configs)) == len(texts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acuracy >> epochwise", "did you mean 'accuracy'"),
        ("accuracy >> batchwse", "did you mean|unknown filter or selector 'batchwse'"),
        ("accuracy >> batchwise:overflw=carry", "unknown option of batchwise 'overflw': did you mean 'overflow'"),
        ("accuracy >> batchwise:overflow=keep", "give 'carry' or 'discard'"),
        ("accuracy >> batchwise:refresh=often", "refresh='often' cannot be used: give a whole number"),
        ("accuracy >> batchwise:carry", "'carry' in batchwise:carry is no option: write option=value"),
        ("accuracy >> epochwise:max_age=3", "unknown option of epochwise 'max_age'"),
        ("accuracy >> epochwise:every=0", "every=0: give 1 or more"),
        ("accuracy >> batchwise >> topk:0.5", "what stands behind batchwise never selects"),
        ("accuracy >> batchwise >> topk:0.5 >> epochwise", "write epochwise before batchwise"),
        ("accuracy >> epochwise >> topk:0.5 >> epochwise", "each at most once"),
        ("epochwise", "a selection of nothing"),
        ("accuracy >> epochwise >> batchwise", "a selection of nothing"),
        ("topk:8", "say of how many"),
        ("topk:0.5 >> accuracy", "a filter stands behind a selector"),
        ("accuracy >> batchwise:fill=random", "needs a number to fill up to"),
        ("accuracy >> ", "unknown filter or selector ''|empty part"),
    ],
)
def test_mistakes_are_told_in_one_sentence(text, message) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        parse_select(text)
    assert "\n" not in str(error.value)
    assert ". " not in str(error.value)


def test_a_selection_that_never_selects() -> None:
    with pytest.raises(ConfigError, match="never selects"):
        Selecting()
