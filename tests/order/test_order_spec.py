"""Orderers as text."""

from __future__ import annotations

import copy
import pickle

import pytest

from lessonplan.errors import ConfigError
from lessonplan.order import ORDERS, ByScore, LossDelta, MultiAttempt, Orderer, parse_order


def test_the_spellings_of_the_issue():
    order = parse_order("loss-delta:candidates=8,on=external,warmup=5ep")
    assert isinstance(order, LossDelta)
    assert (order.candidates, order.on, order.warmup, order.method) == (8, "external", "5ep", "exact")
    assert order.config() == {"name": "loss-delta", "on": "external", "warmup": "5ep"}
    attempt = parse_order("multi-attempt:k=16")
    assert isinstance(attempt, MultiAttempt)
    assert (attempt.k, attempt.order, attempt.score) == (16, "ascending", "loss")


def test_all_kinds_of_options():
    order = parse_order("loss-delta:candidates=all,method=last-layers,on=external,winners=2,fidelity=10")
    assert (order.drawn, order.method, order.winners, order.fidelity) == ("all", "last-layers", 2, 10)
    assert parse_order("loss-delta:until_gain_below=1.5").until_gain_below == 1.5
    by_score = parse_order("by-score:score=label,order=descending,winners=all,items=samples,pool=20,losers=drop")
    assert (by_score.winners, by_score.pool, by_score.losers, by_score.items) == ("all", 20, "drop", "samples")
    assert parse_order("none") is None


@pytest.mark.parametrize(
    "text",
    [
        "loss-delta",
        "loss-delta:warmup=5ep,candidates=16,on=external",
        "loss-delta:losers=drop,candidates=2,on=external,method=per-sample",
        "by-score:k=4,order=weighted,items=samples,temperature=0.5",
    ],
)
def test_an_orderer_says_the_text_that_makes_it(text):
    order = parse_order(text)
    assert sorted(str(order).split(":")[-1].split(",")) == sorted(text.split(":")[-1].split(","))
    assert parse_order(str(order)).config() == order.config()


@pytest.mark.parametrize("name", ORDERS)
def test_every_orderer_can_be_named_copied_and_sent(name):
    order = parse_order(name)
    assert type(order) is ORDERS[name]
    assert isinstance(order, Orderer)
    for other in (copy.deepcopy(order), pickle.loads(pickle.dumps(order))):
        assert other.config() == order.config() == {"name": name}
    assert order.state_dict().keys() == copy.deepcopy(order).state_dict().keys()


def test_an_order_of_ones_own_is_written_by_its_address(tmp_path):
    file = tmp_path / "orders.py"
    file.write_text("""
from dataclasses import dataclass
from lessonplan.order import ByScore
@dataclass(eq=False, kw_only=True)
class Mine(ByScore):
    steep: float = 1.0
class Other:
    pass
""")
    order = parse_order(f"{file}:Mine:k=3,steep=2.5")
    assert isinstance(order, ByScore)
    assert (type(order).__name__, order.k, order.steep) == ("Mine", 3, 2.5)
    with pytest.raises(
        ConfigError, match=r"orders\.py:Other is no order: derive the class from lessonplan\.order"
    ):
        parse_order(f"{file}:Other")


def test_functions_are_named_in_the_configuration():
    def brightness(x, y):
        return x.mean()

    assert ByScore(score=brightness).config()["score"].split()[0].endswith("brightness")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("los-delta", "unknown order 'los-delta': did you mean 'loss-delta'"),
        ("loss-delta:candidate=8", "unknown option of loss-delta 'candidate': did you mean 'candidates'"),
        ("loss-delta:candidates=many", "candidates='many' cannot be used: give 'all' or a whole number"),
        ("loss-delta:on=outside", "on='outside' cannot be used: give 'same' or 'external' or 'relative'"),
        ("multi-attempt:score=label", "unknown option of multi-attempt 'score'"),
        ("multi-attempt:k", "'k' in multi-attempt:k is no option"),
        ("loss-delta:warmup=5", "warmup='5' cannot be read"),
        ("none:k=3", "'none' takes no options"),
    ],
)
def test_errors(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_order(text)
