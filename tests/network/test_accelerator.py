"""What code for accelerators does, as far as a CPU can tell; a pretended module stands for a driver."""

from __future__ import annotations

import threading

import psutil
import pytest
import torch
from torch import nn

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.mix.puzzle.transport import _nearest, _next_shown, _next_shown_at_once
from lessonplan.network import accelerator
from lessonplan.train import usage


def test_the_positions_that_are_shown_next() -> None:
    """Both ways to find them agree: round by round, and at once."""
    g = torch.Generator().manual_seed(0)
    for n in (2, 4, 8):
        order, _ = _nearest(n, n, torch.device("cpu"))
        for reach in (1, 3, n * n):
            for share in (0.0, 0.1, 0.5, 1.0):
                shown = torch.rand(n * n, 7, generator=g) < share
                assert torch.equal(_next_shown(shown, order[:reach]), _next_shown_at_once(shown, order[:reach]))


@pytest.mark.parametrize("method", ["first-order", "last-layers", "kept-gradients", "exact"])
def test_look_ahead_sees_the_same_in_channels_last_memory(method) -> None:
    """Scores of the same candidates by the same network, in both memory formats."""
    data = lp.data.load("digits", per_class=8, val_fraction=0.5, augment="none")
    order = f"loss-delta:candidates=3,on=external,external=16,method={method}"
    runs = [
        lp.fit("tiny", data, f"order:{order}", "2 steps", batch_size=8, threads=1, channels_last=last, lr=0.01)
        for last in (False, True)
    ]
    for a, b in zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4), "another candidate was chosen, or another step made"


def test_an_estimated_step_is_the_optimizers_step_in_any_layout() -> None:
    from lessonplan.network.learner import Learner
    from lessonplan.network.network import Network
    from lessonplan.order.lookahead.gradients import mean_of, step_along

    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        net = nn.Conv2d(3, 4, 3).to(memory_format=layout)
        before = net.weight.detach().clone()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9, fused=True)
        gradient = mean_of([[torch.randn_like(p) for p in net.parameters()] for _ in range(2)])
        step_along(Learner(Network(net), optimizer), list(net.parameters()), gradient)
        assert torch.allclose(net.weight, before - 0.5 * gradient[0], atol=1e-6)


def test_all_candidates_at_once_have_no_channels_last() -> None:
    data = lp.data.load("digits", per_class=8, val_fraction=0.5)
    with pytest.raises(ConfigError, match="no channels-last layout"):
        lp.fit(
            "wrn-10-1:norm=group", data, "order:loss-delta:candidates=2,method=stacked", "1ep", channels_last=True
        )


def test_compare_takes_a_device(tmp_path) -> None:
    found = lp.compare("erm", out=tmp_path, model="fcnet-8", budget="2 steps", seeds=1, per_class=10, device="cpu")
    assert found["config"]["settings"]["device"] == "cpu"
    with pytest.raises(ConfigError, match="device='tpu9' is unknown"):
        lp.compare("erm", out=tmp_path / "b", model="fcnet-8", device="tpu9")


def test_devices_that_are_not_there() -> None:
    assert accelerator.resolve_device("cpu") == torch.device("cpu")
    if accelerator.present() is None:
        assert accelerator.resolve_device("auto") == torch.device("cpu")
        for name in ("cuda", "cuda:1", "mps", "xpu"):
            with pytest.raises(ConfigError, match=r"PyTorch sees no \w+ device: give auto or cpu"):
                accelerator.resolve_device(name)


class Driver:
    """An accelerator's module whose management library fails in a way of its own."""

    class Refused(Exception):
        pass

    def max_memory_allocated(self, device) -> int:
        return 3 * 2**20

    def utilization(self, device) -> int:
        raise self.Refused("not supported on this slice")

    def temperature(self, device) -> int:
        return 41

    def power_draw(self, device) -> int:
        return 120_500  # milliwatts


def test_what_a_driver_does_not_tell_ends_no_training(monkeypatch) -> None:
    monkeypatch.setattr(torch, "get_device_module", lambda device: Driver())
    use = usage.machine_use(torch.device("cuda"))
    assert (use["gpu_memory_mb"], use["gpu_temperature"], use["gpu_power_w"]) == (3, 41, 120.5)
    assert "gpu_utilisation" not in use


def test_a_run_tells_what_it_takes_of_the_machine() -> None:
    use = usage.machine_use(torch.device("cpu"))
    assert set(use) == {"memory_mb", "free_memory_mb", "threads", "cpu_utilisation"}
    assert 1 < use["memory_mb"] < psutil.virtual_memory().total / 2**20 > use["free_memory_mb"] > 1
    assert 0 <= use["cpu_utilisation"] <= 100
    enough = threading.Event()
    waiting = threading.Thread(target=enough.wait)
    waiting.start()
    assert usage.machine_use(torch.device("cpu"))["threads"] >= use["threads"] + 1
    enough.set()
    waiting.join()


def test_short_epochs_share_a_record(monkeypatch) -> None:
    now, asked = [10.0], []
    monkeypatch.setattr(usage.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(usage, "machine_use", lambda device: asked.append(now[0]) or {"threads": now[0]})
    use = usage.MachineUse(torch.device("cpu"))
    told = []
    for now[0] in (10.0, 10.25, 10.45, 10.55, 11.0, 11.25):
        told.append(use.now()["threads"])
    assert told == [10.0, 10.0, 10.0, 10.55, 10.55, 11.25]
    assert asked == [10.0, 10.55, 11.25]


def test_data_without_a_device_follow_the_network() -> None:
    free = lp.data.load("digits", per_class=10)
    bound = lp.data.load("digits", per_class=10, device="cpu")
    assert (free.placed, bound.placed) == (False, True)
    assert free.on(torch.device("cpu")) is free
    moved = free.on(torch.device("meta"))  # as far as a CPU can tell: another device
    assert [view.device.type for view in (moved.train, moved.test)] == ["meta", "meta"]
    assert free.train.device.type == "cpu"


def test_data_somewhere_else_are_told_of() -> None:
    x, y = torch.rand(4, 3), torch.arange(4) % 2
    elsewhere = lp.data.load("digits", per_class=10, device="meta").train
    net = nn.Linear(3, 2)
    with pytest.raises(ConfigError, match="the samples are on meta and the network on cpu"):
        lp.select.batches(net, elsewhere, lp.select.AccuracyFilter(), batch_size=2)
    loader = lp.order.OrderedLoader(elsewhere, "by-score:k=2,score=label", batch_size=2)
    with pytest.raises(ConfigError, match="the samples are on meta"):
        loader.update(net, torch.optim.SGD(net.parameters(), 0.1))
    assert len(list(lp.batches(net, (x, y), None, batch_size=2, epochs=1))) == 2
