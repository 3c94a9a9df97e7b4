"""Sums, cascades and gradual cascades in hidden layers, against the hidden states summed by hand."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import nn

import lessonplan as lp
from lessonplan import mix as m
from lessonplan.errors import ConfigError
from lessonplan.mix import functional as F
from lessonplan.mix.text import parse_mix
from lessonplan.settings import Settings
from lessonplan.train.preparation import check_shared

N = 8


class Net(nn.Module):
    """Two layers whose output can be summed; the second one has a way around it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        return self.last(hidden + torch.tanh(self.second(hidden)))

    def with_states(self, x, layer, shares):
        """The same with one layer's output multiplied by ``shares`` (N, N)."""
        x = shares @ x if layer == "input" else x
        first = self.first(x)
        hidden = torch.tanh(shares @ first if layer == "first" else first)
        second = self.second(hidden)
        return self.last(hidden + torch.tanh(shares @ second if layer == "second" else second))


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net()


@pytest.fixture
def x():
    return torch.randn(N, 5, generator=torch.Generator().manual_seed(1))


def passed(net, mix, x):
    """Logits of a mixed batch, and the shares (N, N) that its targets tell."""
    out, shares = mix(x, torch.eye(N))
    with mix.forward_context():
        return net(out), shares


@pytest.mark.parametrize("layer", ["input", "first", "second"])
def test_k_falls_while_hidden_states_are_summed(net, x, layer):
    mix = m.Cascade(4, pairing="permute", layers=(layer,), model=net, patience=None)
    for progress, k in ((0.0, 4), (0.4, 2), (0.8, 1)):
        mix.advance(progress)
        assert mix.current_k() == k
        logits, shares = passed(net, mix, x)
        torch.testing.assert_close(logits, net.with_states(x, layer, shares))
        assert torch.equal(shares * k, (shares * k).round()), "each image has a k-th or several"
        assert shares.diagonal().min() >= 1 / k
        torch.testing.assert_close(shares.sum(1), torch.ones(N))
        assert torch.equal(shares, torch.eye(N)) == (k == 1)
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("layer", ["input", "first", "second"])
def test_images_fade_out_of_hidden_sums(net, x, layer):
    mix = m.GradualCascade(4, pairing="permute", layers=(layer,), model=net, finetune=0.0)
    for progress in (0.0, 0.2, 0.5, 0.9, 1.0):
        mix.advance(progress)
        logits, shares = passed(net, mix, x)
        torch.testing.assert_close(logits, net.with_states(x, layer, shares))
        weights = F.gcc(4, progress).float()
        assert mix.current_k() == int((weights > 1e-9).sum())
        assert float(shares.diagonal().min()) >= float(weights[0]) - 1e-6  # a partner may be the image itself
        # Whatever images the partners are: what each has is a sum of some of the weights.
        sums = torch.tensor([sum(chosen) for n in range(5) for chosen in combinations(weights.tolist(), n)])
        assert (shares.flatten()[:, None] - sums).abs().amin(1).max() < 1e-6
        torch.testing.assert_close(shares.sum(1), torch.ones(N))


def test_layers_are_drawn_alike(net, x):
    mix = m.SumAugment(2, pairing="permute", layers=("input", "first", "second"), model=net)
    counts = {"input": 0, "first": 0, "second": 0}
    for _ in range(300):
        out, _ = mix(x, torch.eye(N))
        counts[mix._pending.layer if mix._pending is not None else "input"] += 1
        with mix.forward_context():
            net(out)
    assert min(counts.values()) > 70


def test_sums_by_permutation_of_a_gradual_cascade_are_those_of_its_weights(x):
    """With all weights equal they are the sums of ``SumAugment``, drawn from the same stream."""
    gradual = m.GradualCascade(4, pairing="permute", draw="mixed", finetune=0.0)
    summed = m.SumAugment(4, pairing="permute")
    gradual.generator.manual_seed(3)
    summed.generator.manual_seed(3)
    for one, other in zip(gradual(x, torch.eye(N)), summed(x, torch.eye(N)), strict=True):
        torch.testing.assert_close(one, other)
    assert gradual.draws(10) == 10


def test_one_label_and_own_coefficients_go_with_hidden_sums(net, x):
    y = torch.arange(N) % 3
    mix = m.SumAugment(3, 3, pairing="permute", labels="first", layers=("first",), model=net)
    _, target = mix(x, y)
    assert torch.equal(target.argmax(1), y)
    mix = m.SumAugment(3, pairing="permute", coefficients="dirichlet", layers=("first",), model=net)
    logits, shares = passed(net, mix, x)
    torch.testing.assert_close(logits, net.with_states(x, "first", shares))
    assert len(shares.diagonal().unique()) > 1


def test_a_switch_between_a_batch_and_its_pass_is_no_other_sum(net, x):
    """Also the first batch of a stage of single images says that the one before was not mixed."""
    mix = m.Cascade(2, pairing="permute", layers=("first",), model=net)
    mix(x, torch.eye(N))
    net(x)
    mix.advance(0.9)
    with pytest.raises(ConfigError, match="network ran outside of the mix"):
        mix(x, torch.eye(N))
    assert torch.equal(mix(x, torch.eye(N))[0], x)


@pytest.mark.parametrize("name", ["sum", "cascade", "gradual"])
def test_what_cannot_be(net, x, name):
    for words, message in (
        ("layers=first", "pairing=groups.*add pairing=permute"),
        ("pairing=permute,layers=frist", "unknown layer 'frist': did you mean 'first'"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_mix(f"{name}:k=4,{words}").attach(
                lp.network.network.Network(net, torch.nn.functional.cross_entropy)
            )
    made = type(parse_mix(name))
    with pytest.raises(ConfigError, match="layers is empty"):
        made(4, pairing="permute", layers=())
    with pytest.raises(ConfigError, match="works with the network"):
        made(4, pairing="permute", layers=("first",))(x, torch.eye(N))
    with pytest.raises(ConfigError, match="k=9 is larger than the batch of 8"):
        made(9, pairing="permute", layers=("first",), model=net).rehearse(x, torch.eye(N))
    with pytest.raises(ConfigError, match="goes on inside the network"):
        made(4, pairing="permute", layers=("first",)) >> m.Cutout()
    assert m.Chain([made(4), m.Cutout()])  # and sums of inputs may stand anywhere
    plan = lp.Plan(mix=made(4, pairing="permute", layers=("first",)))
    ranks = lp.network.ranks.Ranks(0, 2)
    with pytest.raises(ConfigError, match=f"the mix {name}.*mixes hidden states.*give mix_over=rank"):
        check_shared(plan, Settings(), 16, ranks)
    check_shared(plan, Settings(mix_over="rank"), 16, ranks)


def test_the_text_is_read_back(net):
    for text in ("cascade:k=2,pairing=permute,layers=input/stage1", "gradual:k=3,pairing=permute,layers=stage2"):
        mix = parse_mix(text)
        assert parse_mix(str(mix)).config() == mix.config()
    assert mix.layers == ("stage2",)
    assert "layers" not in m.Cascade(4).config()
    assert not {"pairing", "layers"} & set(m.GradualCascade(4).config())


@pytest.mark.parametrize(
    "text",
    [
        "cascade:k=4,patience=none,pairing=permute,layers=input/stage1",
        "gradual:k=4,finetune=0.4,pairing=permute,layers=stage1",
    ],
)
def test_training_goes_down_to_single_images(text):
    run = lp.fit("tiny", "digits", text, "6 steps", threads=1, batch_size=600)
    ks = [record["mix"]["k"] for record in run.history]
    assert (ks[0] > 1, ks[-1]) == (True, 1)
    assert run.result["samples"] == run.result["raw_samples"]
    assert not any(module._forward_hooks for module in run.model.modules())


def test_hidden_layers_train_another_network():
    options = {"threads": 1, "batch_size": 60}
    states = [
        lp.fit("fcnet-8", "digits", f"cascade:k=4,patience=none,pairing=permute{more}", "4 steps", **options).model
        for more in ("", ",layers=hidden")
    ]
    one, other = (model.state_dict() for model in states)
    assert any(not torch.equal(one[name], other[name]) for name in one)
