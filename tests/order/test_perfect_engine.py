"""Shared beginnings and stacked siblings give what the plain loop of algorithm 1 gives."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lessonplan.errors import ConfigError, LessonplanWarning
from lessonplan.order.perfect import Engine, batch_split, permutations
from lessonplan.order.perfect.state import State

Factory = Callable[[Any], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Factory] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    "dampened": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.4),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.95), weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.5, eps=1e-3),
}
UNSTACKED: dict[str, Factory] = {
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "maximize": lambda p: torch.optim.SGD(p, lr=0.01, maximize=True),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=2),
    "two groups": lambda p: torch.optim.SGD([{"params": [q], "lr": 0.1 / (i + 1)} for i, q in enumerate(p)]),
}


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
    )


@pytest.fixture
def samples() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(10, 1, 8, 8, generator=generator), torch.arange(10) % 3
    return x, y, torch.randn(300, 1, 8, 8, generator=generator), torch.arange(300) % 3


def algorithm_1(
    model: nn.Module, data: tuple[Tensor, ...], batches: Any, orders: list[tuple[int, ...]], factory: Factory
) -> tuple[list[nn.Module], Tensor, Tensor]:
    """The loop as the thesis prints it: a network, an optimizer and an evaluation for every permutation."""
    x, y, x_eval, y_eval = data
    ends, losses, hits = [], [], []
    for order in orders:
        net = copy.deepcopy(model)
        optimizer = factory(list(net.parameters()))
        for batch in order:

            def closure(net: nn.Module = net, rows: Tensor = batches[batch]) -> Tensor:
                net.zero_grad()
                loss = F.cross_entropy(net(x[rows]), y[rows])
                loss.backward()
                return loss.detach()

            optimizer.step(closure)
        with torch.no_grad():
            logits = net.eval()(x_eval)
        ends.append(net)
        losses.append(F.cross_entropy(logits.double(), y_eval))
        hits.append((logits.argmax(1) == y_eval).double().mean())
    return ends, torch.stack(losses), torch.stack(hits)


@pytest.mark.parametrize("name", [*OPTIMIZERS, *UNSTACKED])
def test_every_permutation_ends_where_the_plain_loop_ends(name: str, samples: tuple[Tensor, ...]) -> None:
    factory = {**OPTIMIZERS, **UNSTACKED}[name]
    model, batches = network(), batch_split(10, 3, seed=0)  # 3 + 3 + 3 + 1: the last batch is smaller
    orders = list(itertools.permutations(range(4)))
    ends, loss, accuracy = algorithm_1(model, samples, batches, orders, factory)

    engine = Engine(model, *samples, optimizer=factory)
    assert engine.method == ("auto" if name in OPTIMIZERS else "plain")
    found = engine.replay(engine.start(), batches, permutations(4))
    for row, end in enumerate(ends):
        for parameter, value in end.named_parameters():
            torch.testing.assert_close(found.params[parameter][row], value.detach(), rtol=1e-4, atol=1e-5)
    ours = engine.train(engine.start(), batches, permutations(4))
    assert (ours[0] - loss).abs().max() < 1e-5
    assert (ours[1] - accuracy).abs().max() <= 1 / 300 + 1e-9
    assert loss.max() - loss.min() > 1e-4, "orders must differ, or the comparison proves nothing"


@settings(deadline=None, max_examples=12)
@given(chunk=st.integers(1, 30), seed=st.integers(0, 1000), sampled=st.integers(1, 24))
def test_chunks_and_samples_of_orders_change_nothing(chunk: int, seed: int, sampled: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(8, 6, generator=generator), torch.arange(8) % 2
    with torch.random.fork_rng():
        model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))
    batches = batch_split(8, 2, seed)
    data = (x, y, x, y)
    whole = Engine(model, *data, optimizer=OPTIMIZERS["momentum"], chunk=24)
    all_loss, _ = whole.train(whole.start(), batches, permutations(4))
    place = {tuple(order): row for row, order in enumerate(permutations(4).tolist())}

    part = permutations(4, at_most=sampled, seed=seed)
    cut = Engine(model, *data, optimizer=OPTIMIZERS["momentum"], chunk=chunk)
    states = list(cut.leaves(cut.start(), batches, part))
    assert max(len(s) for s in states) <= chunk
    loss, _ = cut.train(cut.start(), batches, part)
    expected = all_loss[[place[tuple(order)] for order in part.tolist()]]
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)


def test_beginnings_are_trained_once(samples: tuple[Tensor, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(network(), *samples, optimizer=OPTIMIZERS["sgd"], method="stacked", chunk=7)
    assert engine._stacked is not None
    updates, largest = 0, 0
    advance = engine._stacked.advance

    def counted(states: State, batches: list[int], *rest: Any, **named: Any) -> State:
        nonlocal updates, largest
        updates, largest = updates + len(batches), max(largest, len(batches))
        return advance(states, batches, *rest, **named)

    monkeypatch.setattr(engine._stacked, "advance", counted)
    list(engine.leaves(engine.start(), batch_split(10, 2, 0), permutations(5)))
    assert updates == 5 + 20 + 60 + 120 + 120  # not 5 * 120 = 600
    assert largest == 7


def test_model_and_random_state_stay_as_they_were(samples: tuple[Tensor, ...]) -> None:
    model = network()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    for method in ("stacked", "plain"):
        engine = Engine(model, *samples, optimizer=OPTIMIZERS["adam"], method=method)
        engine.train(engine.start(), batch_split(10, 4, 0), permutations(3))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_draws_the_same_noise_for_every_order(samples: tuple[Tensor, ...]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.Dropout(0.5), nn.Linear(30, 3))
    halves = [torch.arange(5), torch.arange(5)]  # the same batch twice: only noise could tell the orders apart
    ends = []
    for chunk in (1, 2):
        engine = Engine(model, *samples, optimizer=OPTIMIZERS["sgd"], chunk=chunk, method="stacked", seed=3)
        ends.append(engine.replay(engine.start(), halves, permutations(2)).params["1.weight"])
    torch.testing.assert_close(ends[0][0], ends[0][1], rtol=0, atol=0)
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-6)
    other = Engine(model, *samples, optimizer=OPTIMIZERS["sgd"], seed=4)
    assert not torch.allclose(
        other.replay(other.start(), halves, permutations(2)).params["1.weight"][0], ends[0][0], atol=1e-4
    )


class Branching(nn.Module):
    """Asks for a value of its input, which no stacked network can."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits * 2 if float(logits.detach().sum()) > 0 else logits


def test_a_network_that_cannot_be_stacked_is_trained_one_by_one(samples: tuple[Tensor, ...]) -> None:
    model, batches = Branching(), batch_split(10, 4, 0)
    engine = Engine(model, *samples, optimizer=OPTIMIZERS["momentum"])
    with pytest.warns(LessonplanWarning, match="one by one"):
        loss, _ = engine.train(engine.start(), batches, permutations(3))
    _, expected, _ = algorithm_1(
        model, samples, batches, list(itertools.permutations(range(3))), OPTIMIZERS["momentum"]
    )
    assert (loss - expected).abs().max() < 1e-5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.train(engine.start(), batches, permutations(3))  # said once


def test_frozen_parameters_stay(samples: tuple[Tensor, ...]) -> None:
    model = network()
    next(model.parameters()).requires_grad_(False)
    engine = Engine(model, *samples, optimizer=OPTIMIZERS["sgd"], method="stacked")
    ends = engine.replay(engine.start(), batch_split(10, 5, 0), permutations(2))
    assert "0.weight" not in ends.params
    assert ends.params["0.bias"].shape == (2, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: Engine(nn.Sequential(nn.BatchNorm2d(1)), *d, optimizer=OPTIMIZERS["sgd"]), "GroupNorm"),
        (lambda d: Engine(nn.Flatten(), *d, optimizer=OPTIMIZERS["sgd"]), "nothing to train"),
        (lambda d: Engine(network(), *d, optimizer=OPTIMIZERS["sgd"], chunk=0), "chunk=0"),
        (lambda d: Engine(network(), *d, optimizer=UNSTACKED["lbfgs"], method="stacked"), "functional form"),
    ],
)
def test_bad_engines_are_refused_in_one_sentence(make: Any, message: str, samples: tuple[Tensor, ...]) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make(samples)
    assert "\n" not in str(caught.value)


def test_orders_must_fit_and_be_sorted(samples: tuple[Tensor, ...]) -> None:
    engine = Engine(network(), *samples, optimizer=OPTIMIZERS["sgd"])
    with pytest.raises(ConfigError, match=r"\(P, n\)"):
        engine.train(engine.start(), batch_split(10, 5, 0), permutations(3))
    with pytest.raises(ConfigError, match="sorted"):
        engine.train(engine.start(), batch_split(10, 5, 0), torch.tensor([[1, 0], [0, 1]]))
