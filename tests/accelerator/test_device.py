"""The pretended device refuses what CUDA refuses, computes what the CPU computes, and sees who waits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from pretended import watching
from torch import Tensor, nn

HERE = "/tests/accelerator/"


@pytest.mark.parametrize(
    "mixing",
    [
        lambda x: x + torch.ones(3, 3),
        lambda x: x @ torch.ones(3, 3),
        lambda x: x + torch.ones(3, 3, device="pretended:1"),
        lambda x: torch.cat([x, torch.ones(3, 3)]),
        lambda x: torch.where(x > 0, x, torch.ones(3, 3)),
        lambda x: x.lerp(x, torch.ones(3)),
        lambda x: F.conv2d(x[None, None], torch.ones(1, 1, 2, 2)),
        lambda x: x.gather(0, torch.zeros(1, 3, dtype=torch.long)),
        lambda x: x.index_select(0, torch.tensor([1])),
        lambda x: torch.ones(3)[torch.zeros(1, dtype=torch.long, device=x.device)],
        lambda x: torch.zeros(()).add_(x.sum()),
        lambda x: torch.searchsorted(x[0], torch.ones(3)),
        lambda x: torch.rand(2, generator=torch.Generator(), device=x.device),
        lambda x: nn.Linear(3, 3)(x),
        lambda x: F.cross_entropy(x, torch.tensor([0, 1, 2])),
    ],
)
def test_tensors_of_two_devices_are_refused(mixing: Callable[[Tensor], Tensor], device: str) -> None:
    with pytest.raises(RuntimeError, match=r"device|should be the same"):
        mixing(torch.ones(3, 3, device=device))


def test_what_cuda_takes_is_taken(device: str) -> None:
    x = torch.ones(3, 3, device=device)
    assert x.device == torch.device(device, 0)
    assert (torch.tensor(2.0) * x).device == x.device
    assert x[torch.tensor([0, 1])].shape == (2, 3)
    x[x > 0] = 5.0
    x[torch.tensor([0])] = x.new_zeros(3)
    assert x.sum() == 30
    assert torch.ones(2, device="pretended:1").to(device).sum() == 2
    with pytest.raises(TypeError, match="numpy"):
        x.numpy()


def test_views_and_results_in_given_memory(device: str) -> None:
    x = torch.arange(12.0, device=device).view(3, 4)
    windows = x[0].unfold(0, 2, 1)
    x.t()[1].zero_()
    assert windows.tolist() == [[0, 0], [0, 2], [2, 3]]
    out = torch.empty(0, device=device)
    torch.add(x, x, out=out)
    assert out.tolist() == (x.cpu() * 2).tolist()
    values, places = torch.empty(0, device=device), torch.empty(0, dtype=torch.long, device=device)
    torch.sort(x, 1, descending=True, out=(values, places))
    assert values.device == places.device == x.device
    assert values[:, 0].tolist() == [3, 7, 11]


def test_training_is_that_of_the_cpu(device: str) -> None:
    found = []
    for name in ("cpu", device):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(144, 5)
        ).to(name)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, fused=True)
        x, y = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 5
        torch.manual_seed(5)
        for _ in range(3):
            loss = F.cross_entropy(net(x.to(name)), y.to(name))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found.append([p.detach().cpu() for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_fused_optimizers_want_one_layout(device: str) -> None:
    weight = nn.Parameter(torch.ones(2, 3, 2, 2, device=device).to(memory_format=torch.channels_last))
    weight.grad = torch.ones(2, 3, 2, 2, device=device)
    with pytest.raises(RuntimeError, match="same strides"):
        torch.optim.SGD([weight], lr=0.1, fused=True).step()


def test_each_device_has_random_numbers_of_its_own(device: str) -> None:
    module = torch.get_device_module(device)
    x, host = torch.ones(100, device=device), torch.get_rng_state()
    state, other = module.get_rng_state("pretended:0"), module.get_rng_state("pretended:1")
    first = F.dropout(x)
    module.set_rng_state(state, "pretended:0")
    assert torch.equal(first, F.dropout(x))
    assert torch.equal(host, torch.get_rng_state())
    assert torch.equal(other, module.get_rng_state("pretended:1"))
    own = torch.Generator(device).manual_seed(3)
    assert (
        torch.rand(2, generator=own, device=device).tolist()
        == torch.rand(2, generator=torch.Generator().manual_seed(3)).tolist()
    )


def test_who_waits_is_seen(device: str) -> None:
    x = torch.ones(4, device=device)
    with watching(HERE) as seen:
        torch.ones(4).pin_memory().to(device, non_blocking=True)
        torch.ones(4).to(device, non_blocking=True)
        x.sum() + 1
    assert seen.number == 0
    with watching(HERE) as seen:
        x.sum().item()
        x[x > 0]
        x.cpu()
        torch.ones(4).to(device)
        if x[0] > 0:
            torch.accelerator.synchronize()
    whats = sorted(wait.what for wait in seen.waits.elements())
    assert whats == [
        "device to host",
        "host to device",
        "size or value",
        "synchronise",
        "value read",
        "value read",
    ]
    assert all(wait.line.startswith("test_device.py:") for wait in seen.waits)
    assert seen.launches > 5


def test_a_copy_that_does_not_block_arrives_when_somebody_waits(device: str) -> None:
    x = torch.ones(3, device=device)
    here = x.to("cpu", non_blocking=True)
    x.zero_()
    assert here.isnan().all(), "the copy was there before anybody waited"
    torch.accelerator.synchronize()
    assert here.tolist() == [1, 1, 1]


def test_half_precision_and_memory_formats(device: str) -> None:
    net = nn.Conv2d(3, 4, 3).to(device, memory_format=torch.channels_last)
    x = torch.randn(2, 3, 4, 4, device=device).contiguous(memory_format=torch.channels_last)
    assert net(x).is_contiguous(memory_format=torch.channels_last)
    with torch.autocast(device, dtype=torch.bfloat16):
        assert net(x).dtype == torch.bfloat16
        assert F.softmax(net(x), 1).dtype == torch.float32


def test_a_graph_is_replayed_where_it_was_captured(device: str) -> None:
    x = torch.ones(3, device=device)
    graph = torch.accelerator.Graph()
    with pytest.raises(RuntimeError, match="stream of its own"):
        graph.capture_begin()
    with torch.Stream(device):
        graph.capture_begin()
        total = torch.where(x > 2, x * 10, x).sum()
        graph.capture_end()
    assert total.isnan(), "nothing has run when a capture ends"
    graph.replay()
    assert total == 3
    x.fill_(4)
    with watching() as seen:
        graph.replay()
    assert (total.item(), seen.launches, seen.number) == (120, 1, 0)
    with torch.Stream(device):
        graph.capture_begin()
        with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
            x.sum().item()
        with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
            torch.ones(3).to(device, non_blocking=True)
        graph.capture_end()
