"""Ordering in a loop of one's own."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from lessonplan.errors import ConfigError
from lessonplan.order import LossDelta, OrderedLoader
from lessonplan.supply.tensors import TensorSamples


def world(seed=0):
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(50, 6, generator=g), torch.randint(3, (50,), generator=g)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return (x[:40], y[:40]), (x[40:], y[40:]), model, optimizer


ORDERS = [
    "multi-attempt:k=3",
    "loss-delta:candidates=3,on=external,external=10",
    "loss-delta:candidates=3,on=external,method=kept-gradients",
    "loss-delta:candidates=2,on=external,method=per-sample",
    "loss-delta:candidates=2,on=external,method=per-sample,losers=drop",
    "loss-delta:candidates=3,warmup=4 steps",
    "by-score:k=4,score=label,order=uniform",
]


def train(loader, model, optimizer, epochs, stop=None):
    """Returns labels in the order of training; the state after ``stop`` updates."""
    seen, state = [], None
    while loader.epoch < epochs:
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loader.update(model, optimizer)
            seen.append(x)
            if len(seen) == stop:
                buffer = io.BytesIO()
                torch.save(loader.state_dict(), buffer)
                buffer.seek(0)
                return seen, torch.load(buffer, weights_only=True)
    return seen, state


@pytest.mark.parametrize("order", ORDERS)
def test_a_loop_can_be_stored_and_goes_on(order):
    data, validation, model, optimizer = world()
    whole, _ = train(OrderedLoader(data, order, batch_size=6, validation=validation), model, optimizer, 3)
    for stop in (1, 4, 9):
        data, validation, other, opt = world()
        begun, state = train(OrderedLoader(data, order, batch_size=6, validation=validation), other, opt, 3, stop)
        saved = copy.deepcopy((other.state_dict(), opt.state_dict()))
        _, _, last, last_opt = world()
        last.load_state_dict(saved[0])
        last_opt.load_state_dict(saved[1])
        loader = OrderedLoader(data, order, batch_size=6, validation=validation)
        loader.load_state_dict(state)
        loader.update(last, last_opt)
        rest, _ = train(loader, last, last_opt, 3)
        assert len(begun) + len(rest) == len(whole)
        assert all(torch.equal(a, b) for a, b in zip(begun + rest, whole, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(last.parameters(), model.parameters(), strict=True))


def test_an_epoch_is_every_sample_once_in_nearly_equal_batches():
    data, _, model, optimizer = world()
    loader = OrderedLoader(data, "multi-attempt:k=2", batch_size=12)
    for epoch in range(2):
        seen, _ = train(loader, model, optimizer, epoch + 1)
        assert [len(x) for x in seen] == [10] * 4
        assert len(loader) == 4
        assert torch.equal(torch.cat(seen).sum(1).sort().values, data[0].sum(1).sort().values)


def test_the_first_batch_needs_no_network_and_the_second_does():
    data, _, model, optimizer = world()
    batches = iter(OrderedLoader(data, "multi-attempt:k=2", batch_size=10))
    next(batches)
    with pytest.raises(ConfigError, match=r"has not heard of an update: call update\(model, optimizer\)"):
        next(batches)
    loader = OrderedLoader(data, "multi-attempt:k=2", batch_size=10)
    _, state = train(loader, model, optimizer, 1, stop=2)
    fresh = OrderedLoader(data, "multi-attempt:k=2", batch_size=10)
    fresh.load_state_dict(state)
    with pytest.raises(ConfigError, match=r"call update\(model, optimizer\) first"):
        next(iter(fresh))


def test_gradients_that_are_being_accumulated_survive_a_look():
    data, validation, model, optimizer = world()
    loader = OrderedLoader(data, "loss-delta:candidates=3,on=external", batch_size=6, validation=validation)
    gradients = []
    for number, (x, y) in enumerate(loader):
        loader.update(model, optimizer)
        if number:
            now = [p.grad.clone() for p in model.parameters()]
            assert all(torch.equal(a, b) for a, b in zip(now, gradients, strict=True))
        nn.functional.cross_entropy(model(x), y).backward()
        gradients = [p.grad.clone() for p in model.parameters()]


def test_errors():
    data, _, _, _ = world()
    with pytest.raises(ConfigError, match="leaves nothing to do"):
        OrderedLoader(data, "none", batch_size=6)
    with pytest.raises(ConfigError, match="batch_size=0"):
        OrderedLoader(data, "multi-attempt", batch_size=0)
    with pytest.raises(ConfigError, match="a loader knows no budget"):
        OrderedLoader(data, LossDelta(warmup="20%"), batch_size=6)
    with pytest.raises(ConfigError, match="40 samples and 3 labels"):
        TensorSamples(data[0], data[1][:3])
    with pytest.raises(ConfigError, match="there are none"):
        OrderedLoader(data, "loss-delta:on=external", batch_size=6)
