"""A snapshot brings everything back bit for bit, however often."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.errors import ConfigError
from lessonplan.network.best_snapshot import BestSnapshot
from lessonplan.network.snapshot import Snapshot

OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "nesterov-fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, fused=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True, foreach=False),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.01),
}


class Odd(nn.Module):
    """Counts its calls in a buffer that it replaces, and draws from Python's and NumPy's generators."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls = self.calls + 1
            x = x * (1 + 0.01 * random.random() + 0.01 * np.random.rand())  # noqa: NPY002
        return x


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            Odd(),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(64, 3),
        )


def batch(seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(12, 1, 6, 6, generator=g), torch.randint(3, (12,), generator=g)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int, autocast: bool = False) -> None:
    x, y = batch(seed)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = F.cross_entropy(model(x).float(), y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Any]:
    """All that there is, copied; independent of the code under test."""
    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    gradients = [p.grad for p in model.parameters()]
    return copy.deepcopy(
        [
            dict(model.named_parameters()), dict(model.named_buffers()), gradients,
            optimizer.state_dict(), torch.get_rng_state(), python, numpy_state,
        ]
    )  # fmt: skip


def assert_equal(a: Any, b: Any) -> None:
    if isinstance(a, Tensor):
        assert torch.equal(a, b)
        assert a.dtype == b.dtype
    elif isinstance(a, np.ndarray):
        assert (a == b).all()
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b


@pytest.fixture(autouse=True)
def _random_state_given_back() -> Any:
    state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    yield
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    torch.set_rng_state(state[2])


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("warm", [0, 3], ids=["before-the-first-step", "later"])
@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
def test_every_restore_brings_everything_back(name: str, warm: int, autocast: bool) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    for seed in range(warm):
        step(model, optimizer, seed, autocast)
    snapshot = Snapshot(model, optimizer)
    before = everything(model, optimizer)
    snapshot.take()
    for trial in range(3):
        for seed in range(trial + 1):
            step(model, optimizer, 10 + 3 * trial + seed, autocast)
        after = everything(model, optimizer)
        assert not torch.equal(after[0]["0.weight"], before[0]["0.weight"])
        assert after[1]["3.calls"] != before[1]["3.calls"]
        snapshot.restore()
        assert_equal(everything(model, optimizer), before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_as_if_nothing_had_been_tried(name: str) -> None:
    """N trials between any two updates leave the run identical to one without them."""

    def run(trials: int) -> list[Any]:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)
        model = network()
        optimizer = OPTIMIZERS[name](model.parameters())
        snapshot = Snapshot(model, optimizer)
        for seed in range(5):
            if trials:
                snapshot.take()
            for trial in range(trials):
                step(model, optimizer, 100 * seed + trial)
                snapshot.restore()
            step(model, optimizer, seed)
        return everything(model, optimizer)

    assert_equal(run(3), run(0))


def test_tensors_stay_where_they_are_and_memory_is_reused() -> None:
    model = network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    step(model, optimizer, 0)
    snapshot = Snapshot(model, optimizer)
    snapshot.take()
    weight, moment = model[0].weight, optimizer.state[model[0].weight]["exp_avg"]
    places = {key: place.data_ptr() for key, place in snapshot._places.items()}
    step(model, optimizer, 1)
    snapshot.restore()
    assert model[0].weight is weight
    assert optimizer.state[weight]["exp_avg"] is moment
    snapshot.take()
    kept = {key: place.data_ptr() for key, place in snapshot._places.items()}
    assert {key: kept[key] for key in places if "calls" not in key} == {
        key: places[key] for key in places if "calls" not in key
    }


def test_the_gradient_scaler_comes_back() -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    snapshot = Snapshot(model, optimizer, scaler)
    snapshot.take()
    before = scaler.state_dict()
    for factor in (1.0, float("inf")):
        x, y = batch(0)
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(F.cross_entropy(model(x), y) * factor).backward()
            scaler.step(optimizer)
            scaler.update()
        assert scaler.state_dict() != before
        snapshot.restore()
        assert scaler.state_dict() == before


def test_learning_rates_groups_and_what_a_scheduler_hangs_on_come_back() -> None:
    model = network()
    optimizer = torch.optim.SGD(
        [{"params": [model[0].weight], "lr": torch.tensor(0.5)}, {"params": list(model[6].parameters())}], lr=0.1
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    snapshot = Snapshot(model, optimizer)
    snapshot.take()
    step(model, optimizer, 0)
    schedule.step()
    optimizer.param_groups[1]["extra"] = 3
    assert optimizer.param_groups[1]["lr"] < 0.1
    snapshot.restore()
    assert [float(group["lr"]) for group in optimizer.param_groups] == [0.5, 0.1]
    assert "extra" not in optimizer.param_groups[1]


def test_nested_state_comes_back() -> None:
    """L-BFGS keeps lists of tensors that grow; its step calls the network many times."""
    model = nn.Linear(4, 2)
    x, y = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3, history_size=4)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    optimizer.step(closure)
    snapshot = Snapshot(model, optimizer)
    snapshot.take()
    outcomes = []
    for _ in range(3):
        optimizer.step(closure)
        optimizer.step(closure)
        outcomes.append(copy.deepcopy([*model.parameters()]))
        snapshot.restore()
    assert_equal(outcomes[0], outcomes[1])
    assert_equal(outcomes[0], outcomes[2])


def test_state_dicts_alone_would_not_do() -> None:
    """The reason for all of this: what load_state_dict is given is written into by the next step."""
    model = network()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    step(model, optimizer, 0)
    saved = copy.deepcopy(optimizer.state_dict())
    first = saved["state"][0]["momentum_buffer"].clone()
    optimizer.load_state_dict(saved)
    step(model, optimizer, 1)
    assert not torch.equal(saved["state"][0]["momentum_buffer"], first)


def test_what_a_forward_pass_changes_alone() -> None:
    model = network()
    snapshot = Snapshot(model, parameters=False)
    snapshot.take()
    buffers = copy.deepcopy(dict(model.named_buffers()))
    state = torch.get_rng_state()
    model(batch(0)[0])
    with torch.no_grad():
        model[0].weight.zero_()
    snapshot.restore()
    assert_equal(dict(model.named_buffers()), buffers)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model[0].weight.any()


def test_an_optimizer_alone_brings_no_parameters_back() -> None:
    """Its groups hold them, and what is not to be saved is not saved by way of them."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    snapshot = Snapshot(model, optimizer, parameters=False)
    snapshot.take()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    weight = model.weight.detach().clone()
    snapshot.restore()
    assert torch.equal(model.weight, weight)
    assert not optimizer.state
    assert all(a is b for a, b in zip(optimizer.param_groups[0]["params"], model.parameters(), strict=True))


def test_an_optimizer_whose_state_cannot_be_restored_is_refused() -> None:
    model = network()

    class Wrapped(torch.optim.SGD):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            super().__init__(model.parameters(), lr=0.1)
            self.inner = inner

    with pytest.raises(ConfigError, match=r"state of Wrapped cannot be restored \(attribute.inner holds a SGD\)"):
        Snapshot(model, Wrapped(OPTIMIZERS["sgd"](model.parameters())))


@pytest.mark.parametrize(
    ("put", "where"),
    [
        (lambda optimizer, bias: optimizer.state[bias].update(inner=object()), r"state\.1\.inner"),
        (lambda optimizer, bias: optimizer.state[bias].update(pair=(1, [object()])), r"state\.1\.pair\.1\.0"),
        (lambda optimizer, bias: optimizer.param_groups[1].update(extra=object()), r"group\.1\.extra"),
    ],
    ids=["state", "nested", "group"],
)
def test_what_cannot_be_restored_is_named_by_its_place(put: Any, where: str) -> None:
    """Parameters by their number: a tensor's values would tell nobody which one it is."""
    weight, bias = nn.Linear(2, 1).parameters()
    optimizer = torch.optim.SGD([{"params": [weight]}, {"params": [bias]}], lr=0.1)
    put(optimizer, bias)
    with pytest.raises(ConfigError, match=rf"state of SGD cannot be restored \({where} holds a object\)"):
        Snapshot(nn.Linear(2, 1), optimizer)


def test_tensors_of_one_shape_are_told_apart_wherever_they_are() -> None:
    """In a tuple, a list, a mapping, the groups and the optimizer's own attributes, one within the other."""
    weight, bias = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD(
        [{"params": [weight], "lr": torch.tensor(1.0)}, {"params": [bias], "lr": torch.tensor(2.0)}], lr=0.1
    )
    optimizer.param_groups[0]["other"] = torch.tensor(3.0)
    optimizer.state[weight] = {"pair": (torch.tensor(4.0), torch.tensor(5.0)), "list": [torch.tensor(6.0)]}
    optimizer.state[bias] = {"pair": (torch.tensor(7.0), torch.tensor(8.0)), "list": [torch.tensor(9.0)]}
    optimizer.state["shared"] = {"list": [torch.tensor(10.0), (torch.tensor(11.0), torch.tensor(12.0))]}
    optimizer.first, optimizer.second = torch.tensor(13.0), {"a": torch.tensor(14.0), "b": [torch.tensor(15.0)]}
    first, second = optimizer.param_groups
    held = [
        first["lr"], second["lr"], first["other"],
        *optimizer.state[weight]["pair"], *optimizer.state[weight]["list"],
        *optimizer.state[bias]["pair"], *optimizer.state[bias]["list"],
        optimizer.state["shared"]["list"][0], *optimizer.state["shared"]["list"][1],
        optimizer.first, optimizer.second["a"], *optimizer.second["b"],
    ]  # fmt: skip
    model = nn.ParameterList([weight, bias])
    weight.grad, bias.grad = torch.full((2,), 16.0), torch.full((2,), 17.0)
    snapshot = Snapshot(model, optimizer)
    snapshot.take()
    for tensor in (*held, weight.grad, bias.grad, weight.data, bias.data):
        tensor.fill_(-1)
    snapshot.restore()
    assert [float(tensor) for tensor in held] == [float(value) for value in range(1, 16)]
    assert (weight.grad[0], bias.grad[0]) == (16, 17)
    assert not weight.any()
    assert not bias.any()
    assert optimizer.state["shared"]["list"][1][1] is held[11]


@pytest.mark.parametrize(
    "later",
    [torch.arange(3.0), torch.tensor([[1.0]]), torch.tensor([1 + 2.0**-40], dtype=torch.float64)],
    ids=["longer", "another rank", "more digits"],
)
def test_a_buffer_may_be_another_one_at_the_next_take(later: Tensor) -> None:
    model = nn.Module()
    model.register_buffer("seen", torch.zeros(1))
    snapshot = Snapshot(model)
    snapshot.take()
    model.seen = later.clone()
    snapshot.take()
    model.seen.zero_()
    snapshot.restore()
    assert model.seen.shape == later.shape
    assert torch.equal(model.seen, later)


def test_a_scaler_that_is_off_and_functions_hung_on_an_optimizer_are_left_alone() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.before = lambda: "before"
    snapshot = Snapshot(model, optimizer, torch.amp.GradScaler("cpu", enabled=False))
    snapshot.take()
    optimizer.behind = lambda: "behind"
    snapshot.restore()
    assert (optimizer.before(), optimizer.behind()) == ("before", "behind")


def test_own_attributes_of_an_optimizer_come_back() -> None:
    model = nn.Linear(2, 1)

    class Counting(torch.optim.SGD):
        total = 0
        seen: list[int]

        def step(self, closure: Any = None) -> None:
            self.total += 1
            self.last = torch.full((1,), float(self.total))
            self.seen.append(self.total)
            super().step()

    optimizer = Counting(model.parameters(), lr=0.1)
    optimizer.seen = []
    snapshot = Snapshot(model, optimizer)
    snapshot.take()
    for _ in range(2):
        optimizer.step()
    snapshot.restore()
    assert optimizer.total == 0
    assert optimizer.seen == []
    assert not hasattr(optimizer, "last")


def test_restoring_nothing_is_an_error() -> None:
    with pytest.raises(ConfigError, match="call take"):
        Snapshot(nn.Linear(1, 1)).restore()


def test_the_best_of_several_states() -> None:
    """As if somebody had looked at each score and taken a snapshot of the better ones."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    before, best = Snapshot(net, optimizer), BestSnapshot(net, optimizer)
    before.take()
    highest, states = torch.tensor(-torch.inf), []
    for value in (0.5, float("nan"), 2.0, 2.0, 1.0):
        net(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        score = torch.tensor(value)
        best.offer(score > highest)
        highest = torch.where(score > highest, score, highest)
        kept = torch.get_rng_state()
        states.append(([p.detach().clone() for p in net.parameters()], torch.rand(1).item()))
        torch.set_rng_state(kept)
        before.restore()
    best.restore_offered(2)
    weights, drawn = states[2]
    assert torch.rand(1).item() == drawn, "random numbers do not go on behind the best"
    assert all(torch.equal(now, then) for now, then in zip(net.parameters(), weights, strict=True))
    assert all(state["step"] == 1 for state in optimizer.state.values())
