"""Candidates, pool, winners, losers: what is trained on, how often, and that it can be resumed."""

from __future__ import annotations

import copy
import pickle
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lessonplan.batch import Batch
from lessonplan.errors import ConfigError
from lessonplan.order import ByScore, LossDelta, MultiAttempt
from lessonplan.parts.part import Occasion
from lessonplan.supply.tensors import TensorSamples

NUMBERS = TensorSamples(torch.arange(24.0).unsqueeze(1), torch.arange(24))


def value(x, y):
    return x.squeeze(1)


def upstream(size=3, taken=None, n=24):
    order = torch.randperm(n, generator=torch.Generator().manual_seed(5))
    for part in order.split(size):
        yield None
        if taken is not None:
            taken.append(part.tolist())
        yield Batch(part, torch.zeros(len(part), dtype=torch.int64))


def epoch(orderer, size=3, taken=None, seed=0):
    orderer.setup(Occasion(seed, NUMBERS, None))
    return [b.indices.tolist() for b in orderer.batches(upstream(size, taken)) if b is not None]


@given(
    st.sampled_from([1, 2, 4, 8, "all"]),
    st.sampled_from([1, 2, "all"]),
    st.sampled_from([0, 3, "all"]),
    st.sampled_from(["ascending", "descending"]),
    st.sampled_from(["batches", "samples"]),
    st.sampled_from([3, 5]),
)
def test_an_order_trains_on_every_sample_once(k, winners, more, order, items, size):
    pool = "all" if more == "all" or k == "all" else k + more
    if k == 1 and winners == 2:
        winners = 1
    if size == 5 and k == 8:
        k, pool = 4, "all"
    made = epoch(ByScore(k=k, score=value, winners=winners, pool=pool, order=order, items=items), size)
    assert sorted(chain(*made)) == list(range(24))
    assert len(made) == -(-24 // size)
    assert max(map(len, made)) <= size


def test_chance_needs_no_network():
    """Nothing was attached; a sampler makes as many updates as the epoch has batches."""
    orderer = MultiAttempt(k=3, order="uniform")
    assert not orderer.needs_network()
    made = epoch(orderer)
    assert len(made) == 8
    assert {tuple(batch) for batch in made} <= {tuple(b.indices.tolist()) for b in upstream() if b is not None}
    assert orderer.take_passes().cost == 0
    with pytest.raises(ConfigError, match="multi-attempt looks at the network: call attach"):
        epoch(MultiAttempt(k=3))


def test_neither_copies_nor_files_hold_the_samples():
    data = TensorSamples(torch.zeros(1000, 100), torch.zeros(1000, dtype=torch.int64))
    orderer = ByScore(k=3, score="label")
    orderer.setup(Occasion(0, data, data))
    stored = pickle.dumps(orderer)
    assert len(stored) < 20_000 < data.x.nbytes
    for other in (pickle.loads(stored), copy.deepcopy(orderer)):
        with pytest.raises(ConfigError, match="reads samples: call setup"):
            _ = other.data


@pytest.mark.parametrize("winners", [1, 3, "all"])
def test_all_candidates_make_a_sorted_epoch(winners):
    means = [sum(b) / 3 for b in epoch(ByScore(k="all", score=value, order="descending", winners=winners))]
    assert means == sorted(means, reverse=True)
    by_sample = epoch(ByScore(k="all", score=value, items="samples", winners=winners))
    assert [sorted(batch) for batch in by_sample] == [[n, n + 1, n + 2] for n in range(0, 24, 3)]


def test_the_first_winner_is_the_best_of_k_random_ones():
    """Hand-made: which of the eight batches were drawn is read off the generator."""
    taken = []
    orderer = ByScore(k=3, score=value)
    orderer.setup(Occasion(0, NUMBERS, None))
    copied = copy.deepcopy(orderer.generator.get_state())
    first = next(b for b in orderer.batches(upstream(taken=taken)) if b is not None)
    g = torch.Generator()
    g.set_state(copied)
    drawn = torch.randperm(8, generator=g)[:3].tolist()
    assert first.indices.tolist() == min((taken[i] for i in drawn), key=sum)


def test_candidates_are_drawn_anew_from_all_that_is_left():
    """With a window of k the losers would pile up; from the whole pool each look meets others."""
    seen = []

    def watch(x, y):
        seen.append(tuple(y.tolist()))
        return y

    epoch(ByScore(k=2, score=watch))
    looks = [frozenset(seen[i : i + 2]) for i in range(0, len(seen), 2)]
    losers = [looks[i] & looks[i + 1] for i in range(len(looks) - 1)]
    assert any(not left for left in losers)


def test_a_small_pool_takes_from_upstream_only_what_it_needs():
    taken = []
    orderer = ByScore(k=2, score=value, pool=2)
    orderer.setup(Occasion(0, NUMBERS, None))
    counts = []
    for batch in orderer.batches(upstream(taken=taken)):
        if batch is not None:
            counts.append(len(taken))
    assert counts == [2, 3, 4, 5, 6, 7, 8, 8]


def test_nothing_yet_is_passed_on():
    orderer = ByScore(k=2, score=value, pool=2)
    orderer.setup(Occasion(0, NUMBERS, None))
    out = list(orderer.batches(upstream()))
    assert sum(batch is None for batch in out) == 8
    assert [batch is None for batch in out[:4]] == [True, True, False, True]


@pytest.mark.parametrize("order", ["smallest", "largest", "uniform", "weighted", "inverse"])
@pytest.mark.parametrize("items", ["batches", "samples"])
def test_samplers_repeat_and_make_as_many_updates(order, items):
    made = epoch(ByScore(k="all", score=value, order=order, items=items, winners=2))
    assert len(made) == 8
    assert all(len(batch) == 3 for batch in made)
    if order in ("smallest", "largest") and items == "batches":
        chosen = (min if order == "smallest" else max)(made, key=sum)
        assert made == [made[0], made[1]] * 4
        assert chosen in made[:2]
    else:
        assert len(set(chain(*made))) < 24


def test_samplers_with_a_small_pool_go_through_upstream():
    taken = []
    made = epoch(ByScore(k=2, pool=2, score=value, order="largest"), taken=taken)
    assert len(made) == 8
    assert len(taken) == 8
    assert made[0] == made[1] == max(taken[:2], key=sum)
    assert made[6] == made[7] == max(taken[6:], key=sum)


def test_dropped_losers_shorten_the_epoch():
    taken = []
    made = epoch(ByScore(k=4, score=value, losers="drop", order="descending"), taken=taken)
    assert len(made) == 2
    assert max(taken, key=sum) in made


def test_warm_up_ends():
    def batches(warmup, starts):
        orderer = ByScore(k="all", score=value, warmup=warmup)
        orderer.setup(Occasion(0, NUMBERS, None))
        done = []
        for number, progress in enumerate(starts):
            orderer.start_epoch(number, progress, float(number))
            taken = []
            made = [b.indices.tolist() for b in orderer.batches(upstream(taken=taken)) if b is not None]
            done.append([a == b for a, b in zip(made, taken, strict=True)])
        return [all(d) for d in done]

    assert batches("2ep", [0.0, 0.1, 0.2, 0.3]) == [False, False, True, True]
    assert batches("20%", [0.0, 0.1, 0.2, 0.3]) == [False, False, True, True]
    assert batches("8 steps", [0.0, 0.1, 0.2]) == [False, True, True]
    assert batches("11 steps", [0.0, 0.1, 0.2]) == [False, False, True]


@pytest.mark.parametrize("order", ["ascending", "largest"])
def test_switched_off_in_the_middle_the_epoch_still_has_its_length(order):
    orderer = ByScore(k=4, score=value, winners=2, order=order, warmup="3 steps")
    assert len(epoch(orderer)) == 8
    if order == "ascending":
        made = epoch(ByScore(k=4, score=value, winners=2, warmup="3 steps"))
        assert sorted(chain(*made)) == list(range(24))


OPTIONS = [
    {"k": 3},
    {"k": 3, "winners": 2, "pool": 4},
    {"k": "all", "winners": 3, "items": "samples"},
    {"k": 3, "order": "weighted"},
    {"k": 2, "pool": 3, "order": "inverse", "winners": 2, "items": "samples"},
    {"k": 4, "losers": "drop"},
    {"k": 3, "winners": 2, "warmup": "5 steps"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_goes_on_from_any_update(loop, same, options):
    whole = loop(MultiAttempt(**options)).run(2)
    for stop in range(1, len(whole.trained), 3):
        begun = loop(MultiAttempt(**options)).run(2, stop=stop)
        rest = loop(MultiAttempt(**options)).resume(begun.state(), 2)
        assert begun.indices + rest.indices == whole.indices
        assert same(rest.outcome(), whole.outcome())


def test_weights_travel_with_their_samples(loop):
    weights = torch.arange(48.0) / 10
    for options in ({}, {"items": "samples"}, {"winners": 2, "items": "samples", "order": "weighted"}):
        run = loop(MultiAttempt(k=3, **options), weights=weights).run()
        assert all(torch.equal(batch.weights, weights[batch.indices]) for batch in run.trained)


def test_copies_know_nothing_of_the_network(loop):
    for order in (MultiAttempt(k=2), LossDelta(candidates=2, on="external", method="first-order")):
        run = loop(order).run(stop=2)
        for copied in (copy.deepcopy(order), pickle.loads(pickle.dumps(order))):
            assert copied.generator.get_state().equal(order.generator.get_state())
            assert not any(value is run.learner or value is run.data for value in vars(copied).values())
            with pytest.raises(ConfigError, match=r"call (attach|setup)"):
                list(copied.batches(run.upstream()))


def test_global_random_state_is_left_alone(loop):
    run = loop(MultiAttempt(k=3, order="weighted"), dropout=0.4)
    state = torch.get_rng_state()
    next(b for b in run.order.batches(run.upstream()) if b is not None)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ByScore(k=0), "k=0: give a number of 1 or more, or 'all'"),
        (lambda: ByScore(k=8, pool=4), "8 candidates from a pool of 4 batches"),
        (lambda: ByScore(k="all", pool=4), "all candidates from a pool of 4"),
        (lambda: ByScore(k=2, winners=3), "3 winners among 2 candidates"),
        (lambda: ByScore(winners=0), "winners=0"),
        (lambda: ByScore(losers="keep"), "losers='keep'"),
        (lambda: ByScore(warmup="5 weeks"), "warmup='5 weeks' cannot be read"),
        (lambda: ByScore(warmup="0ep"), "warmup='0ep' cannot be read"),
        (lambda: ByScore(order="up"), "order='up': give one of ascending"),
        (lambda: ByScore(temperature=0.0), "temperature=0.0"),
        (lambda: ByScore(items="pixels"), "items='pixels'"),
        (lambda: ByScore(score="fun"), "score='fun'"),
        (lambda: epoch(ByScore(k=9, score=value)), "9 candidates, but there are only 8 batches in an epoch"),
        (lambda: epoch(ByScore(k=9, pool=9, score=value)), "9 candidates, but there are only 8 batches"),
        (lambda: epoch(ByScore(k=2, score=lambda x, y: y[:1])), r"3 samples got scores of shape \(1,\)"),
        (lambda: epoch(ByScore(k=2, items="samples", score=lambda x, y: y.sum())), r"scores of shape \(\)"),
        (lambda: epoch(MultiAttempt(k=2)), "multi-attempt looks at the network"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
