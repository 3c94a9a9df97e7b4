"""What an epoch is, what is counted, who is called, and what stays as it was."""

from __future__ import annotations

import dataclasses
import random
import threading

import numpy as np
import pytest
import torch
from torch import nn

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.train.preparation import resolve_batch_size


class Spy:
    """A view that notes which samples are asked for, and when."""

    def __init__(self, view, log: list) -> None:
        self.view, self.log = view, log

    def __getattr__(self, name: str):
        return getattr(self.view, name)

    def __len__(self) -> int:
        return len(self.view)

    def batches(self, index_batches, epoch: int = 0):
        def noted():
            for indices in index_batches:
                self.log.append((epoch, indices.tolist()))
                yield indices

        return self.view.batches(noted(), epoch=epoch)

    def fetch(self, indices, epoch: int = 0):
        self.log.append((epoch, indices.tolist()))
        return self.view.fetch(indices, epoch)


@pytest.mark.parametrize(
    ("batch_size", "batches"), [(1, 48), (5, 10), (7, 7), (48, 1), ("all", 1), ("auto", None)]
)
@pytest.mark.parametrize("plan", [None, "sum:k=2,draw=mixed"])
def test_every_sample_once_an_epoch_in_nearly_equal_batches(quick, data, batch_size, batches, plan) -> None:
    log: list[tuple[int, list[int]]] = []
    spied = dataclasses.replace(data, train=Spy(data.train, log))
    quick(plan, "2ep", data=spied, batch_size=batch_size)
    orders = []
    for epoch in (0, 1):
        mine = [indices for at, indices in log if at == epoch]
        if plan is None and batches is not None:
            assert len(mine) == batches
        sizes = [len(indices) for indices in mine]
        assert max(sizes) - min(sizes) <= 1
        order = [i for indices in mine for i in indices]
        assert sorted(order) == list(range(48))
        orders.append(order)
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])


def test_draw_mixed_draws_k_times_as_many(quick, data) -> None:
    log: list[tuple[int, list[int]]] = []
    quick("sum:k=3,draw=mixed", "1ep", data=dataclasses.replace(data, train=Spy(data.train, log)))
    assert [len(indices) for _, indices in log] == [24, 24]


def test_batch_sizes() -> None:
    assert resolve_batch_size("all", 7) == 7
    assert resolve_batch_size("auto", 1) == 1
    assert resolve_batch_size("auto", 10**6) == 100
    assert resolve_batch_size(7, 7) == 7
    with pytest.raises(ConfigError, match=r"larger than the 6 training samples"):
        resolve_batch_size(7, 6)


@pytest.mark.parametrize(
    "plan", [None, "sum:k=3", "cascade:k=4,patience=1", "gradual:k=3", "mixup", "sum:k=2,until=50%"]
)
def test_counters_are_right_to_the_sample(quick, data, plan) -> None:
    """Beside a forward hook that counts."""
    counted = {True: 0, False: 0}

    def count(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        counted[module.training] += len(inputs[0])

    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    network.register_forward_pre_hook(count)
    result = quick(plan, "3.5ep", model=network, batch_size=9).result
    assert result["samples"] == counted[True]
    assert result["cost"] == 3 * counted[True]
    assert result["evaluated"] == counted[False] - len(data.val) - len(data.test)  # both are judged at the end
    assert result["raw_samples"] == pytest.approx(3.5 * 48, abs=9)
    if plan is None:
        assert result["samples"] == result["raw_samples"]


def test_same_seed_same_run_other_seed_not(quick, same_run) -> None:
    plan = "mixup|cutmix"
    first = quick(plan, seed=3)
    same_run(first, quick(plan, seed=3))
    other = quick(plan, seed=4)
    assert not torch.equal(first.model.classifier.weight, other.model.classifier.weight)
    assert first.history[0]["train"] != other.history[0]["train"]


def test_the_seed_reaches_order_dropout_and_mix(quick, make_network) -> None:
    """From the same starting weights, so that only what happens during training can differ."""
    for plan, dropout, batch_size in ((None, 0.0, 8), (None, 0.5, 48), ("mixup", 0.0, 48)):
        weights = [
            quick(plan, model=make_network(0, dropout), seed=seed, batch_size=batch_size).model[1].weight
            for seed in (0, 0, 1)
        ]
        assert torch.equal(weights[0], weights[1])
        assert not torch.allclose(weights[0], weights[2], atol=1e-4), (plan, dropout)


@pytest.mark.parametrize("plan", ["cascade:k=4,patience=1", "mixup:until=50%", "cutmix|sum:k=2", "gradual:k=4"])
def test_a_plan_can_be_used_again(quick, same_run, plan: str) -> None:
    plan = lp.Plan.parse(plan)
    before = plan.config()
    first = quick(plan, "3ep")
    assert plan.config() == before
    same_run(first, quick(plan, "3ep"))


def _numpy_state() -> list[int]:
    return np.random.get_state()[1].tolist()  # noqa: NPY002 (the global generator is what is meant)


def test_global_random_state_is_never_touched(quick, make_network, hook) -> None:
    torch.manual_seed(1)
    states = torch.get_rng_state(), _numpy_state(), random.getstate()

    def assert_untouched() -> None:
        assert torch.equal(states[0], torch.get_rng_state())
        assert states[1] == _numpy_state()
        assert states[2] == random.getstate()

    quick("mixup|cutmix", model=make_network(0))
    assert_untouched()

    def fail(trainer) -> None:
        raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        quick("mixup", model=make_network(0), callbacks=[hook(on_batch_end=fail)])
    assert_untouched()


def test_global_random_state_does_not_matter(quick, make_network, same_run) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = quick(model=make_network(0))
        torch.manual_seed(2)
        same_run(first, quick(model=make_network(0)))


def test_threads_are_given_back(quick, hook) -> None:
    before = torch.get_num_threads()
    during = []
    quick(
        threads=before + 1, callbacks=[hook(on_batch_end=lambda trainer: during.append(torch.get_num_threads()))]
    )
    assert set(during) == {before + 1}
    assert torch.get_num_threads() == before


def test_callbacks_are_called_in_order(quick) -> None:
    calls: list[str] = []

    class Log(lp.Callback):
        def __init__(self, name: str) -> None:
            for event in ("train_start", "epoch_start", "batch_start", "batch_end", "epoch_end", "train_end"):
                setattr(self, f"on_{event}", lambda trainer, event=event: calls.append(f"{name} {event}"))

    quick(None, "3 steps", batch_size=24, callbacks=[Log("a"), Log("b")])
    batch, start, end = ["batch_start", "batch_end"], ["epoch_start"], ["epoch_end"]
    events = ["train_start", *start, *batch, *batch, *end, *start, *batch, *end, "train_end"]
    assert calls == [f"{name} {event}" for event in events for name in ("a", "b")]


def test_a_callback_sees_metrics_and_can_stop(quick, hook) -> None:
    seen = []

    def look(trainer) -> None:
        seen.append(trainer.history[-1]["epoch"])

    def stop(trainer) -> None:
        if trainer.counters.steps == 8:
            trainer.state.stop_reason = "enough"

    run = quick(None, "1000 steps", callbacks=[hook(on_epoch_end=look, on_batch_end=stop)])
    assert (run.result["steps"], run.result["stopped"], seen) == (8, "enough", [0, 1])
    assert "val" in run.history[-1]
    assert quick().result["stopped"] == "budget"


def test_works_in_another_thread(quick, same_run) -> None:
    runs = []
    thread = threading.Thread(target=lambda: runs.append(quick()))
    thread.start()
    thread.join()
    same_run(quick(), runs[0])


def test_a_module_a_loss_and_an_optimizer_of_ones_own(quick, data, make_network) -> None:
    """Beside a hand-written loop over the same batches."""
    log: list[tuple[int, list[int]]] = []
    ours = quick(
        None,
        "10 steps",
        data=dataclasses.replace(data, train=Spy(data.train, log)),
        model=make_network(0, dropout=0.0),
        loss=lambda logits, target: (logits - target).square().sum(1),
        optimizer=lambda parameters: torch.optim.RMSprop(parameters, lr=0.01),
        schedule="constant",
    )
    network = make_network(0, dropout=0.0)
    optimizer = torch.optim.RMSprop(network.parameters(), lr=0.01)
    for epoch, indices in log[:10]:
        x, y = data.train.fetch(torch.tensor(indices), epoch)
        target = torch.nn.functional.one_hot(y, 3).float()
        loss = (network(x) - target).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(ours.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_sum_bce_divides_by_the_present_k(quick) -> None:
    """At weights of 0 each of 3 classes costs ln 2, and a sum of 2 halves it; 1 update, so weights are still 0."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    run = quick("sum:k=2", "1 steps", model=network, loss="sum-bce")
    assert run.history[0]["train"]["loss"] == pytest.approx(3 * np.log(2) / 2, rel=1e-6)
