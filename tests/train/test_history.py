"""Records of epochs that take little memory and come back as they were."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lessonplan as lp
from lessonplan.train.history import History


def _record(epoch: int) -> dict[str, Any]:
    """As a run's: a dozen numbers of many digits."""
    train = {"loss": 1 / (epoch + 1), "accuracy": 1 - 1 / (epoch + 3)}
    counted = {"epoch": epoch, "step": 14 * epoch, "samples": 1437 * epoch, "cost": 1.1 * epoch}
    system = {"seconds": epoch**0.5, "samples_per_second": 1e4 / (epoch + 7), "rss_mb": 400.1}
    return {**counted, "lr": 0.05, "train": train, "select": None, "param_norm": epoch**0.3, "system": system}


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128, 129, 300])
def test_it_is_the_list_of_its_records(count: int) -> None:
    records = [_record(epoch) for epoch in range(count)]
    history = History(records)
    assert list(history) == records
    assert len(history) == count
    assert history == records
    assert history != [*records, {}]
    assert [history[i] for i in range(-count, count)] == [records[i] for i in range(-count, count)]
    assert history[3:-2:2] == records[3:-2:2]
    for beyond in (count, -count - 1):
        with pytest.raises(IndexError):
            history[beyond]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.integers() | st.text(), inner),
    max_leaves=4,
)


@given(st.dictionaries(st.text(), VALUES))
def test_whatever_a_part_says_comes_back(record: dict[str, Any]) -> None:
    """Keys that are numbers, tuples, NaN, bytes: JSON would refuse or change them."""
    history = History([record, *({"epoch": i} for i in range(70))])
    assert repr(history[0]) == repr(record)


def test_a_callback_may_add_to_the_newest_record() -> None:
    history = History(_record(epoch) for epoch in range(64))
    history[-1]["mine"] = 5
    history.append(_record(64))
    assert history[63]["mine"] == 5


def test_many_records_take_little_memory() -> None:
    """A fifth of what they take as dictionaries, at most."""

    def taken(kind: Any) -> int:
        tracemalloc.start()
        held = kind(_record(epoch) for epoch in range(2000))
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(held) == 2000
        return size

    assert taken(History) < taken(list) / 5


def test_a_run_gives_its_records_as_a_list(data: lp.data.Data) -> None:
    run = lp.fit("fcnet-8", data, budget="70ep", batch_size="all", threads=1)
    assert isinstance(run.history, list)
    assert run.history is run.history
    assert [record["epoch"] for record in run.history] == list(range(70))
    assert json.loads(json.dumps(run.history)) == run.history
