"""Plans as text, as data, and in a comparison's list of methods."""

from __future__ import annotations

import pytest

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.lab.methods import read_methods
from lessonplan.order import parse_order
from lessonplan.select import AccuracyFilter, Epochwise, Selecting, TopK, parse_select


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("erm", lp.Plan()),
        ("mixup:alpha=0.4", lp.Plan(mix=lp.mix.Mixup(alpha=0.4))),
        ("mix:mixup", lp.Plan(mix=lp.mix.Mixup())),
        ("select:accuracy", lp.Plan(AccuracyFilter())),
        ("select:accuracy:margin=0.2 >> topk:0.5", lp.Plan(AccuracyFilter(0.2) >> TopK(0.5))),
        ("select:accuracy >> epochwise + cutmix", lp.Plan(Epochwise(AccuracyFilter()), mix=lp.mix.CutMix())),
        ("mixup + select:accuracy", lp.Plan(AccuracyFilter(), mix=lp.mix.Mixup())),
        ("order:loss-delta:candidates=4", lp.Plan(order=parse_order("loss-delta:candidates=4"))),
        (
            "select:accuracy:margin=0.2 >> topk:0.5 + order:loss-delta:candidates=8 + cascade:k=4",
            lp.Plan(
                AccuracyFilter(0.2) >> TopK(0.5),
                parse_order("loss-delta:candidates=8"),
                lp.mix.Cascade(k=4),
            ),
        ),
        ("  select:weighted:power=2->0.5,size=8 >> batchwise:raw_batch_size=64  + mixup|cutmix ", None),
        ("select:none", lp.Plan()),
    ],
)
def test_texts(text, plan) -> None:
    parsed = lp.Plan.parse(text)
    if plan is None:
        select = parse_select("weighted:power=2->0.5,size=8 >> batchwise:raw_batch_size=64")
        plan = lp.Plan(select, mix=lp.mix.parse_mix("mixup|cutmix"))
    assert parsed.config() == plan.config()
    assert parsed.copy().config() == plan.config()


def test_parts_have_one_text_each() -> None:
    plan = lp.Plan.from_texts(select="accuracy >> epochwise:every=2", mix="mixup")
    assert plan.config() == lp.Plan.parse("select:accuracy >> epochwise:every=2 + mixup").config()
    assert lp.Plan.from_texts().config() == {"mix": None}


def test_what_selects_is_wrapped() -> None:
    for given in (AccuracyFilter(), AccuracyFilter() >> TopK(0.5), Epochwise(AccuracyFilter())):
        assert isinstance(lp.Plan(select=given).select, Selecting)
    select = Selecting.of(AccuracyFilter())
    assert lp.Plan(select).select is select


def test_a_copy_has_a_state_of_its_own() -> None:
    plan = lp.Plan.parse("select:accuracy + cascade:k=4")
    copy = plan.copy()
    copy.select.batchwise.acceptance = 0.25
    assert plan.select.batchwise.acceptance == 1.0
    assert copy.mix is not plan.mix


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("select:accuracy + select:topk:0.5", "says twice how to select"),
        ("mixup + cutmix", "says twice how to mix: give one select, one order, one mix"),
        ("order:loss-delta + order:multi-attempt", "says twice how to order"),
        ("select:acuracy", "did you mean 'accuracy'"),
        ("mixpu", "did you mean 'mixup'"),
        ("order:los-delta", "did you mean 'loss-delta'"),
        ("selct:accuracy", "unknown mix"),
        ("select:accuracy:margin=2", r"give a number in \(0, 1\]"),
    ],
)
def test_mistakes_are_told_in_one_sentence(text, message) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        lp.Plan.parse(text)
    assert "\n" not in str(error.value)


def test_methods_of_a_comparison() -> None:
    """Commas part methods; those of options stay with their method."""
    methods = read_methods(
        "erm, filter=select:accuracy:margin=0.2 >> weighted:0.5,power=2 >> batchwise:overflow=discard,"
        "raw_batch_size=64, select:random:0.5, delta=order:loss-delta:candidates=8,on=same,"
        "both=select:accuracy + order:loss-delta + mixup:alpha=0.4,cascade"
    )
    assert [method.name for method in methods] == [
        "erm",
        "filter",
        "select:random:0.5",
        "delta",
        "both",
        "cascade",
    ]
    by_name = {method.name: method.plan.config() for method in methods}
    text = "accuracy:margin=0.2 >> weighted:0.5,power=2 >> batchwise:overflow=discard,raw_batch_size=64"
    assert by_name["filter"] == lp.Plan(parse_select(text)).config()
    assert by_name["select:random:0.5"] == lp.Plan.parse("select:random:0.5").config()
    assert by_name["delta"] == lp.Plan(order=parse_order("loss-delta:candidates=8,on=same")).config()
    assert by_name["both"]["select"] == Selecting.of(AccuracyFilter()).config()
    assert by_name["both"]["mix"]["alpha"] == 0.4
    assert all(word in methods[4].describe() for word in ("select accuracy", "order", "mixup:alpha=0.4"))


def test_methods_of_a_file(tmp_path) -> None:
    path = tmp_path / "plans.yaml"
    path.write_text(
        "plain:\n"
        "short: select:accuracy + mixup\n"
        "long:\n"
        "  select: accuracy >> epochwise:every=2\n"
        "  order: loss-delta:candidates=4\n"
        "  mix: mixup\n"
        "  settings: {lr: 0.2}\n"
    )
    plain, short, long = read_methods(path)
    assert plain.plan.config() == lp.Plan().config()
    assert short.plan.config() == lp.Plan.parse("select:accuracy + mixup").config()
    same = lp.Plan.parse("select:accuracy >> epochwise:every=2 + order:loss-delta:candidates=4 + mixup")
    assert long.plan.config() == same.config()
    assert long.settings == {"lr": 0.2}
    path.write_text("one:\n  selct: accuracy\n")
    with pytest.raises(ConfigError, match="unknown part of method one 'selct': did you mean 'select'"):
        read_methods(path)


@pytest.mark.parametrize(
    "text",
    [
        "mixup:alpha=0.2,alpha=0.4",
        "mixup:from=20%,from=30%",
        "select:topk:0.5,size=0.2",
        "order:multi-attempt:k=2,k=3",
    ],
)
def test_an_option_is_given_once(text: str) -> None:
    with pytest.raises(ConfigError, match="twice: give it once"):
        lp.Plan.parse(text)
