"""Filters and selectors written as text."""

from __future__ import annotations

import pytest

from lessonplan.errors import ConfigError
from lessonplan.select.filters import AccuracyFilter, MarginFilter
from lessonplan.select.selectors import LossWeighted, QSplit, TopK, TopQuantile
from lessonplan.select.text import PARTS, parse_part, parse_select


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("accuracy", AccuracyFilter()),
        ("accuracy:margin=0.2", AccuracyFilter(0.2)),
        ("accuracy:0.2", AccuracyFilter(margin=0.2)),
        ("accuracy:margin=none", AccuracyFilter()),
        ("margin:3,margin=0.4,decay=2", MarginFilter(3, 0.4, 2.0)),
        ("topk:0.5", TopK(0.5)),
        ("topk:128", TopK(128)),
        ("topk: 1.0 ", TopK(1.0)),
        ("quantile:.9", TopQuantile(0.9)),
        ("weighted:64,power=2,inverse=true", LossWeighted(64, 2.0, inverse=True)),
        ("weighted:power=2->0.5 , size=0.25", LossWeighted(0.25, "2->0.5")),
        ("qsplit:0.5,q=3,power=1e-1", QSplit(0.5, 3, 0.1)),
    ],
)
def test_as_in_python(text, part):
    again = parse_part(text)
    assert repr(again) == repr(part)
    assert again.config() == part.config()
    assert type(again.config().get("size")) is type(part.config().get("size"))


def test_every_name_makes_its_part_with_its_defaults():
    for name, cls in PARTS.items():
        assert type(parse_part(name)) is cls
        assert parse_part(name).config() == cls().config()
        assert cls.name == name


def test_chains():
    selecting = parse_select(
        " accuracy:margin=0.2>>quantile:0.5 >> weighted:power=2->1,size=8 >> batchwise:raw_batch_size=9"
    )
    (selection,) = selecting.selections()
    assert [part.name for part in selection.parts] == ["accuracy", "quantile", "weighted"]
    assert selection.parts[2].power == "2->1"
    for text in ("", "accuracy >>", ">> topk:0.5", "accuracy >> >> topk"):
        with pytest.raises(ConfigError, match="empty part"):
            parse_select(text)


def test_names_of_runs_stay_text():
    assert parse_part("rho-loss:0.1,holdout=runs/base").holdout == "runs/base"
    assert parse_part("rho-loss:holdout=12").holdout == "12"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acuracy", "did you mean 'accuracy'"),
        ("gradientnorm", "did you mean 'gradient-norm'"),
        ("topk:sise=3", "did you mean 'size'"),
        ("topk:half", "give a whole number or a number"),
        ("topk:0", r"size 0: give a number of samples"),
        ("topk:0.5,0.3", "write option=value"),
        ("accuracy:2", r"margin 2.0 between probabilities: give a number in \(0, 1\]"),
        ("quantile:1", r"q 1.0: give a number in \(0, 1\)"),
        ("quantile:0.5,size=0.1", "unknown option of quantile 'size'"),
        ("weighted:power=-1", "give a number above 0"),
        ("weighted:replacement=maybe", "true or false"),
        ("infobatch:size=3", "unknown option of infobatch 'size'"),
        ("accuracy:progress=0.5", "unknown option of accuracy 'progress'"),
    ],
)
def test_mistakes_are_told(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_part(text)
