"""Averaging, clipping, precision, memory format, compilation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lessonplan as lp


def _flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def test_ema_is_the_hand_written_average_and_is_what_is_judged(quick, hook, data) -> None:
    steps: list[torch.Tensor] = []
    run = quick(None, "12 steps", ema=0.8, callbacks=[hook(on_batch_end=lambda t: steps.append(_flat(t.model)))])
    average = steps[0]
    for weights in steps[1:]:
        average = 0.8 * average + 0.2 * weights
    assert torch.allclose(_flat(run.model), average, atol=1e-6)
    assert not torch.allclose(_flat(run.model), steps[-1], atol=1e-3)
    x, y = data.val.fetch(torch.arange(12))
    loss = nn.functional.cross_entropy(run.model(x), y).item()
    assert run.history[-1]["val"]["loss"] == pytest.approx(loss, rel=1e-5)


def test_ema_averages_batch_norm_statistics_too(quick) -> None:
    run = quick(None, "4 steps", ema=0.5, model=_conv_network())
    plain = quick(None, "4 steps", model=_conv_network())
    assert not torch.equal(run.model[1].running_mean, plain.model[1].running_mean)
    assert run.model[1].running_mean.abs().sum() > 0


def test_clipping_really_clips(quick, make_network) -> None:
    options = {"lr": 1.0, "momentum": 0, "weight_decay": 0, "schedule": "constant"}
    lengths = []
    for clip in (None, 0.01):
        start = _flat(make_network(0))
        run = quick(None, "1 steps", model=make_network(0), clip=clip, **options)
        lengths.append((_flat(run.model) - start).norm().item())
    assert lengths[0] > 0.1
    assert lengths[1] == pytest.approx(0.01, rel=1e-3)


def test_clipping_under_fp16_sees_unscaled_gradients(quick, make_network) -> None:
    """Scaled by 65536 the gradient would be clipped to a 65536th of the norm that was asked for."""
    options = {"lr": 1.0, "momentum": 0, "weight_decay": 0, "schedule": "constant", "precision": "fp16"}
    start = _flat(make_network(0, 0.0))
    run = quick(None, "1 steps", model=make_network(0, 0.0), clip=0.01, **options)
    assert (_flat(run.model) - start).norm().item() == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)]
)
def test_precision_of_the_forward_pass(quick, make_network, precision: str, dtype: torch.dtype) -> None:
    network, seen = make_network(0), []
    network[1].register_forward_hook(lambda module, inputs, output: seen.append((module.training, output.dtype)))
    run = quick(None, "60 steps", model=network, precision=precision)
    assert {kind for training, kind in seen if training} == {dtype}
    assert all(p.dtype == torch.float32 for p in run.model.parameters())
    losses = [record["train"]["loss"] for record in run.history]
    assert losses[-1] < 0.8 * losses[0]


def test_fp16_scales_the_loss(quick, hook) -> None:
    scales = []
    quick(
        None,
        "1 steps",
        precision="fp16",
        callbacks=[hook(on_batch_end=lambda t: scales.append(t.state.scaler.get_scale()))],
    )
    quick(None, "1 steps", callbacks=[hook(on_batch_end=lambda t: scales.append(t.state.scaler.get_scale()))])
    assert scales[0] > 100
    assert scales[1] == 1.0


def test_an_update_that_fp16_skips_leaves_no_trace(quick, hook, make_network) -> None:
    """The first gradients overflow: weights stay, and momentum begins at 0, not in memory that nobody wrote."""
    seen = []

    def look(trainer) -> None:
        momentum = [s["momentum_buffer"].abs().max().item() for s in trainer.state.optimizer.state.values()]
        seen.append((trainer.state.scaler.get_scale(), max(momentum), _flat(trainer.model)))

    def steep(logits, target):
        return 10_000 * nn.functional.cross_entropy(logits, target)

    start = _flat(make_network(0, 0.0))
    quick(
        None,
        "3 steps",
        model=make_network(0, 0.0),
        precision="fp16",
        loss=steep,
        callbacks=[hook(on_batch_end=look)],
    )
    assert [scale for scale, _, _ in seen] == [2.0**15, 2.0**14, 2.0**13]
    assert [momentum for _, momentum, _ in seen] == [0.0] * 3
    assert all(torch.equal(weights, start) for _, _, weights in seen)


class _Sleeper(nn.Module):
    """A layer that takes part from the third batch on only."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.late, self.calls = nn.Linear(64, 3), nn.Linear(64, 3), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        x = x.flatten(1)
        return self.out(x) + self.late(x) if self.calls >= 3 else self.out(x)


def test_parameters_whose_gradients_begin_later(quick) -> None:
    network = _Sleeper()
    start = network.late.weight.detach().clone()
    assert quick(None, "6 steps", model=network).result["steps"] == 6
    assert not torch.equal(network.late.weight, start)


def _conv_network(channels: int = 1) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(channels, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3),
            nn.Flatten(),
            nn.Linear(64, 3),
        )


def test_channels_last(quick, arrays) -> None:
    x, y = arrays(20, 0)
    data = lp.data.load((x.unsqueeze(-1).repeat(1, 1, 1, 3), y), val_fraction=0.2)
    seen = []
    network = _conv_network(3)
    network[3].register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    run = quick(None, "3 steps", data=data, model=network, channels_last=True)
    assert run.model[3].weight.is_contiguous(memory_format=torch.channels_last)
    assert seen
    assert all(seen)
    plain = quick(None, "3 steps", data=data, model=_conv_network(3))
    assert not plain.model[3].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(_flat(run.model), _flat(plain.model), atol=1e-4, rtol=1e-3)


def test_compile_trains_what_was_compiled(quick, make_network, same_run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compile_(model):
        return lambda x: (calls.append(len(x)), model(x))[1]

    monkeypatch.setattr(torch, "compile", compile_)
    run = quick(None, "5 steps", model=make_network(0), compile=True)
    assert calls == [8] * 5
    same_run(run, quick(None, "5 steps", model=make_network(0)))
    assert calls == [8] * 5


def test_features_train_too(quick) -> None:
    """Rows of numbers instead of images."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=generator)
    data = lp.data.load((x, (x[:, 0] > 0).long()), val_fraction=0.2)
    run = quick("sum:k=2", "100 steps", data=data, channels_last=True)
    assert run.result["test"]["accuracy"] > 0.7
