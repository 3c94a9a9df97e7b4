"""Networks computed as groups of one network give each network's own logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from lessonplan.order.perfect.evaluate import Evaluator
from lessonplan.order.perfect.grouped import GroupedChain, chain_of
from lessonplan.order.perfect.state import State

CHAINS: dict[str, Any] = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(24, 5)
    ),
    "without bias": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.Tanh(), nn.Flatten(), nn.Linear(144, 3, bias=False)
    ),
    "nested, dilated, pooled": lambda: nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 3, 3, dilation=2), nn.GELU(), nn.MaxPool2d(2)),
        nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)
        ),
    ),
    "pooling first": lambda: nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 2)),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 7), nn.ELU(), nn.Linear(7, 3)),
    "one layer": lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 3)),
}


def stacked(network: nn.Module, count: int) -> State:
    generator = torch.Generator().manual_seed(3)
    return State(
        {
            name: torch.stack([p.detach() + 0.3 * torch.randn(p.shape, generator=generator) for _ in range(count)])
            for name, p in network.named_parameters()
            if p.requires_grad
        }
    )


@pytest.fixture
def x() -> Tensor:
    return torch.randn(300, 2, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("patches", [True, False])
def test_a_chain_gives_every_networks_own_logits(
    name: str, patches: bool, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not patches:
        monkeypatch.setattr("lessonplan.order.perfect.grouped._PATCH_BYTES", 0)
    network = CHAINS[name]().eval()
    layers = chain_of(network)
    assert layers is not None
    states = stacked(network, 5)
    before = x.clone()
    with torch.no_grad():
        found = GroupedChain(layers, x).logits(states, 100, 170)
        for row in range(5):
            expected = functional_call(network, states.rows(row).params, (x[100:170],))
            torch.testing.assert_close(found[row], expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(x, before)


@pytest.mark.parametrize(("spare", "kept"), [(0, True), (-1, False)])
def test_patches_of_all_samples_are_kept_as_far_as_memory_goes(
    spare: int, kept: bool, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 samples with 36 places of 2 x 3 x 3 values, 4 bytes each."""
    monkeypatch.setattr("lessonplan.order.perfect.grouped._PATCH_BYTES", 300 * 36 * 18 * 4 + spare)
    layers = chain_of(CHAINS["without bias"]())
    assert layers is not None
    assert (GroupedChain(layers, x)._patches is not None) is kept


@pytest.mark.parametrize("name", CHAINS)
def test_grouped_and_single_evaluation_agree(name: str, x: Tensor) -> None:
    network, y = CHAINS[name](), torch.arange(300) % 2
    next(network.parameters()).requires_grad_(False)  # a frozen one is every network's
    states = stacked(network, 19)  # more than one group of 16, more than two chunks of 128
    together = Evaluator(network, x, y, F.cross_entropy)(states)
    alone = Evaluator(network, x, y, F.cross_entropy, grouped=False)(states)
    torch.testing.assert_close(together[0], alone[0], rtol=0, atol=1e-5)
    assert (together[1] - alone[1]).abs().max() <= 1 / 300 + 1e-9
    assert network.training
    for row in (0, 18):  # by hand
        network.load_state_dict({**network.state_dict(), **states.rows(row).params})
        with torch.no_grad():
            logits = network.eval()(x)
        network.train()
        assert float(alone[0][row]) == pytest.approx(float(F.cross_entropy(logits, y)), abs=1e-5)
        assert float(alone[1][row]) == pytest.approx(float((logits.argmax(1) == y).double().mean()))


class Doubling(nn.Sequential):
    """Looks like a chain and is none."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = 2 * super().forward(x)
        return result


def hooked() -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(128, 2))
    network[1].register_forward_hook(lambda module, given, result: result * 2)
    return network


@pytest.mark.parametrize(
    "network",
    [
        nn.Linear(4, 2),
        Doubling(nn.Flatten(), nn.Linear(128, 2)),
        hooked(),
        nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Flatten(), nn.Linear(144, 2)),
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(256, 2)),
        nn.Sequential(nn.Conv2d(2, 4, 3, padding="same"), nn.Flatten(), nn.Linear(256, 2)),
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(144, 2)),
        nn.Sequential(nn.Flatten(2), nn.Linear(64, 2)),
        nn.Sequential(nn.Flatten(), nn.Softmax(1)),
    ],
)
def test_what_is_no_chain_is_left_alone(network: nn.Module) -> None:
    assert chain_of(network) is None
