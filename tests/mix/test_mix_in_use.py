"""Every mix where users put it: a plain loop, autocast, ``torch.compile``, a DataLoader's workers."""

from __future__ import annotations

import copy
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from tests.mix.workers import epochs

from lessonplan import mix as m
from lessonplan.mix.puzzle.transport import _nearest


def test_plain_training_loop(case):
    """A few steps on mixed batches with ``F.cross_entropy`` lower the loss on the clean ones."""
    y = torch.arange(20) % 5
    g = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, 6, 8, generator=g)[y] + 0.1 * torch.randn(20, 3, 6, 8, generator=g)
    weight = torch.zeros(5, 3 * 6 * 8, requires_grad=True)
    mix = case.make(0)
    before = F.cross_entropy(x.flatten(1) @ weight.T, y)
    for _ in range(15):
        order = torch.randperm(20, generator=g)
        mixed, target = mix(x[order], y[order])
        loss = F.cross_entropy(mixed.flatten(1) @ weight.T, target)
        (gradient,) = torch.autograd.grad(loss, weight)
        with torch.no_grad():
            weight -= 0.02 * gradient
    assert F.cross_entropy(x.flatten(1) @ weight.T, y) < 0.8 * before


def test_gradients_reach_the_inputs(case):
    """Mixing hidden states or adversarial images: d sum(mixed) / dx is each pixel's share, at most its use."""
    x, y = case.batch(12)
    x.requires_grad_()
    mixed, _ = case.make(0)(x, y)
    mixed.sum().backward()
    assert x.grad is not None
    assert x.grad.min() >= 0
    blanked = (mixed == 0).sum().item()
    used = mixed.numel() - blanked if case.name in ("cutout", "chain-labels") else mixed.numel()
    assert x.grad.sum() == pytest.approx(used, rel=1e-4)


def test_autocast_leaves_data_in_full_precision(case):
    x, y = case.batch(7)
    soft = F.one_hot(y, 5).float()
    for labels in (y, soft):
        mixed, target = case.make(1)(x, labels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            again, same = case.make(1)(x, labels)
        assert again.dtype == same.dtype == torch.float32
        assert torch.equal(again, mixed)
        assert torch.equal(same, target)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16, torch.device("meta")], ids=str)
def test_defaults_of_the_loop_change_nothing(case, default):
    """``set_default_dtype``, also as Lightning's precision="bf16-true" has it, and ``set_default_device``."""
    if default == torch.device("meta") and case.name == "sum-own":
        pytest.skip("the user's coefficients are where the user says")
    _nearest.cache_clear()
    for labels in (torch.int64, torch.float32):
        x, y = case.batch(9)
        y = y if labels == torch.int64 else F.one_hot(y, 5).float()
        plain = case.make(1)
        expected = [plain(x, y) for _ in range(3)]
        with _with_default(default):
            mix = case.make(1)
            mixed = [mix(x, y) for _ in range(3)]
            mix.load_state_dict(mix.state_dict())
            twin = copy.deepcopy(mix)
            again, wanted = twin(x, y), plain(x, y)
        assert torch.equal(again[0], wanted[0])
        for (got, target), (wanted, wanted_target) in zip(mixed, expected, strict=True):
            assert got.dtype == target.dtype == torch.float32
            assert torch.equal(got, wanted)
            assert torch.equal(target, wanted_target)


@contextmanager
def _with_default(default):
    if isinstance(default, torch.device):
        with default:
            yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        _nearest.cache_clear()


def test_compiled_step_gives_the_same(class_case):
    """A compiled function around the mix: same numbers, batch after batch."""
    torch._dynamo.reset()
    mix = class_case.make(1)

    @torch.compile(backend="eager")
    def step(x, y):
        mixed, target = mix(x * 2, y)
        return mixed + 1, target

    plain = class_case.make(1)
    for i in range(2):
        x, y = class_case.batch(8, seed=i)
        expected, expected_target = plain(x * 2, y)
        mixed, target = step(x, y)
        torch.testing.assert_close(mixed, expected + 1)
        torch.testing.assert_close(target, expected_target)


def test_traced_by_autograd_too():
    torch._dynamo.reset()
    mix, plain = m.Mixup(num_classes=5, seed=1), m.Mixup(num_classes=5, seed=1)
    weight = torch.ones(4, requires_grad=True)

    @torch.compile(backend="aot_eager")
    def loss(x, y):
        mixed, target = mix(x, y)
        return ((mixed * weight).sum(1) * target[:, 0]).sum()

    x, y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 5
    (gradient,) = torch.autograd.grad(loss(x, y), weight)
    mixed, target = plain(x, y)
    torch.testing.assert_close(gradient, mixed.T @ target[:, 0])


def test_workers_draw_apart_and_reproducibly(all_cases):
    cases = [case for case in all_cases if not case.make(0).needs_network()]
    first, again, other = (epochs([c.make(0) for c in cases], seed) for seed in (3, 3, 4))
    for i, case in enumerate(cases):
        results = [batch[i] for batch in first]
        for (x, t), batch in zip(results, again, strict=True):
            assert torch.equal(x, batch[i][0]), case.name
            assert torch.equal(t, batch[i][1]), case.name
        distinct = {x.numpy().tobytes() for x, _ in results}
        # Boxes, permutations and clean batches may repeat by chance; streams that repeat give at most 4 of 8.
        assert len(distinct) >= 5 if case.random else len(distinct) == 1, case.name
        if case.random:
            assert any(not torch.equal(x, b[i][0]) for (x, _), b in zip(results, other, strict=True)), case.name


def test_workers_depend_on_the_mix_seed():
    results = epochs([m.Mixup(num_classes=5, seed=s) for s in (0, 1)], seed=3, count=1)
    assert all(not torch.equal(a, b) for (a, _), (b, _) in results)


@pytest.mark.parametrize(
    "wrap", [lambda mix: mix, m.Probability, lambda mix: m.Until(mix)], ids=["plain", "probability", "until"]
)
def test_twins_in_a_choice_draw_apart_in_workers(wrap):
    choice = m.Choice([wrap(m.Mixup(num_classes=5)) for _ in range(2)])
    inner = [getattr(member, "mix", member) for member in choice.mixes]
    results = epochs(inner, seed=3, count=1)
    assert all(not torch.equal(a, b) for (a, _), (b, _) in results)
