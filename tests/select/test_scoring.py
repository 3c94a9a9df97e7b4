"""Scoring leaves nothing behind in the network, bit for bit."""

from __future__ import annotations

import random
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError
from lessonplan.mix import Network
from lessonplan.select import Scoring, scoring
from lessonplan.select.asking import same_in_both_modes


class Replaces(nn.Module):
    """Puts a new tensor in its buffer's place, and counts its passes, in either mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean((0, 2, 3))
        self.passes += 1
        return x


def network() -> nn.Sequential:
    """Batch norm, dropout, buffers of all kinds, a frozen part in evaluation mode, and gradients that wait."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        frozen = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        body = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.3), Replaces(), frozen, nn.ReLU()]
        net = nn.Sequential(*body, nn.Flatten(), nn.Linear(4 * 16, 5))
        net.train()(torch.randn(8, 3, 8, 8)).square().sum().backward()
    frozen.eval().requires_grad_(False)
    return net


def picture(net: nn.Module) -> dict[str, Any]:
    """Everything that must stay, the identity of each tensor too."""
    tensors = [*net.named_parameters(), *net.named_buffers()]
    return {
        "values": {name: t.detach().clone() for name, t in tensors},
        "identity": {name: id(t) for name, t in tensors},
        "gradients": {name: None if p.grad is None else p.grad.clone() for name, p in net.named_parameters()},
        "flags": {name: p.requires_grad for name, p in net.named_parameters()},
        "modes": {name: module.training for name, module in net.named_modules()},
        "random": (torch.get_rng_state(), random.getstate()),
        "grad": torch.is_grad_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()),
    }


def assert_equal(a: Any, b: Any) -> None:
    if isinstance(a, Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, tuple):
        for one, other in zip(a, b, strict=True):
            assert_equal(one, other)
    else:
        assert a == b


@pytest.mark.parametrize("around", ["plain", "autocast", "no_grad"])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_nothing_is_left_behind(mode: str, around: str) -> None:
    net, x = network(), torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    contexts = {
        "plain": nullcontext(),
        "autocast": torch.autocast("cpu", dtype=torch.bfloat16),
        "no_grad": torch.no_grad(),
    }
    with contexts[around]:
        before = picture(net)
        with scoring(net, mode):
            modes = {name: module.training for name, module in net.named_modules()}
            # in training mode as the network trains: its frozen part stays in evaluation mode
            assert modes == (before["modes"] if mode == "train" else dict.fromkeys(modes, False))
            assert not torch.is_grad_enabled()
            first = net(x)
            net(x)
            assert not torch.equal(picture(net)["values"]["3.mean"], before["values"]["3.mean"])
            if mode == "train":  # so the test sees something that could have been left behind
                assert not torch.equal(
                    picture(net)["values"]["1.running_mean"], before["values"]["1.running_mean"]
                )
                assert not torch.equal(torch.get_rng_state(), before["random"][0])
        assert not first.requires_grad
        assert_equal(picture(net), before)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_nothing_is_left_behind_by_an_error(mode: str) -> None:
    net, x = network(), torch.randn(16, 3, 8, 8)
    before = picture(net)

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    handle = net[-1].register_forward_hook(fail)
    with pytest.raises(ZeroDivisionError), scoring(net, mode):
        net(x)
    with pytest.raises(ZeroDivisionError):
        Scoring(mode)(Network(net), x, torch.zeros(16, dtype=torch.int64))
    handle.remove()
    assert_equal(picture(net), before)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_training_goes_on_as_without(mode: str) -> None:
    """Twelve updates with dropout and batch norm, scored before each, end with the same weights."""
    x, y = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 5
    ends = []
    for scores in (False, True):
        net = network()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            for _ in range(12):
                if scores:
                    Scoring(mode)(Network(net), x, y)
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x), y).backward()
                optimizer.step()
        ends.append(picture(net)["values"])
    ends[0].pop("3.passes")
    ends[1].pop("3.passes")
    assert_equal(ends[0], ends[1])


def test_weights_that_autocast_keeps_still_get_gradients() -> None:
    """Inside a region of autocast, a pass without a graph must not leave its cast weights for the next one."""
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x, y = torch.randn(8, 4), torch.arange(8) % 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for precision in ("same", "bf16"):
            Scoring(precision=precision)(Network(net), x, y)
        nn.functional.cross_entropy(net(x), y).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_no_candidates_have_no_scores() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    logits, losses = Scoring()(Network(model), torch.zeros(0, 3, 2, 2), torch.zeros(0, dtype=torch.int64))
    assert (logits.shape, losses.shape) == ((0, 5), (0,))


def test_what_each_mode_computes() -> None:
    """Running statistics and no dropout, or the batch's own statistics; in chunks or not."""
    net = nn.Sequential(nn.BatchNorm1d(2, affine=False, eps=1e-12), nn.Dropout(0.0))
    net[0].running_mean.fill_(1.0)
    net[0].running_var.fill_(4.0)
    x, y = torch.randn(1500, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(1500, dtype=torch.int64)
    logits, losses = Scoring("eval")(Network(net), x, y)
    torch.testing.assert_close(logits, (x - 1) / 2)
    torch.testing.assert_close(losses, (logits.exp().sum(1)).log() - logits[:, 0])
    logits, _ = Scoring("train")(Network(net), x, y)
    torch.testing.assert_close(logits, (x - x.mean(0)) / x.var(0, correction=0).sqrt())
    logits, _ = Scoring("train")(Network(net), x[:1], y[:1])  # one sample has no statistics
    torch.testing.assert_close(logits, (x[:1] - 1) / 2)


def test_precision_and_resolution() -> None:
    seen = []

    class Look(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((tuple(x.shape), torch.is_autocast_enabled("cpu")))
            return x.flatten(1)[:, :3]

    x, y = torch.randn(4, 1, 6, 6), torch.zeros(4, dtype=torch.int64)
    Scoring(precision="bf16", resolution=0.5)(Network(Look()), x, y)
    logits, _ = Scoring()(Network(Look()), x, y)
    assert seen == [((4, 1, 3, 3), True), ((4, 1, 6, 6), False)]
    assert logits.dtype == torch.float32
    net = nn.Linear(64, 3)
    flat = torch.randn(32, 64)
    rough, exact = (Scoring(precision=p)(Network(net), flat, torch.arange(32) % 3)[0] for p in ("bf16", "same"))
    assert 0 < (rough - exact).abs().max() < 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scoring("test"), "mode='test'"),
        (lambda: Scoring(precision="fp8"), "same or bf16"),
        (lambda: Scoring(resolution=0.25), "give 1 or 0.5"),
        (
            lambda: Scoring(resolution=0.5)(Network(nn.Linear(4, 2)), torch.zeros(3, 4), torch.zeros(3).long()),
            "needs images",
        ),
        (
            lambda: Scoring()(
                Network(nn.Linear(4, 2), nn.functional.cross_entropy), torch.zeros(3, 4), torch.zeros(3).long()
            ),
            "reduction='none'",
        ),
    ],
)
def test_what_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_modes_that_agree() -> None:
    x = torch.randn(40, 6)
    agree = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Dropout(0.0), nn.ReLU(), nn.Linear(4, 2))
    asked = []
    agree.register_forward_hook(lambda module, args, out: asked.append(len(out)))
    assert same_in_both_modes(agree, x) == (True, sum(asked)) == (True, 64)
    for layer in (nn.Dropout(1e-6), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.AlphaDropout(0.1)):
        net, asked = nn.Sequential(nn.Linear(6, 4), layer, nn.Linear(4, 2)), []
        net.register_forward_hook(lambda module, args, out, asked=asked: asked.append(len(out)))
        assert same_in_both_modes(net, x) == (False, sum(asked))
