"""Mixes where loops of others put them: workers that hear of progress, ranks, second trainings, odd batches."""

from __future__ import annotations

import copy
import io
import pickle
import weakref

import pytest
import torch
from scipy.stats import beta, kstest
from tests.mix.workers import MixAll, epochs
from torch.utils.data import DataLoader, TensorDataset

from lessonplan import mix as m
from lessonplan.errors import ConfigError, LessonplanWarning


def test_mixes_that_need_the_network_refuse_to_work_in_workers(all_cases):
    """They would see a copy of the network as it was when the worker began, and reach into none."""
    needy = [case for case in all_cases if case.make(0).needs_network()]
    assert needy
    for case in needy:
        with pytest.raises(ConfigError, match="mix in the training loop"):
            epochs([case.make(0)], seed=0, count=1)


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: m.Cascade(k=4, num_classes=5, patience=None), [2, 4, 8]),
        (lambda: m.Cascade(k=4, num_classes=5, shares=None, patience=1), [2, 4, 8]),
        (lambda: m.GradualCascade(k=4, num_classes=5, finetune=0.0, variant="linear"), [2, 3, 4]),
        (lambda: m.Until(m.SumAugment(k=4, num_classes=5), 0.3), [2, 8, 8]),
        (lambda: m.Choice([m.Cascade(k=4, num_classes=5, patience=None)]), [2, 4, 8]),
        (lambda: copy.deepcopy(m.Cascade(k=4, num_classes=5, patience=None)), [2, 4, 8]),
    ],
)
def test_workers_hear_of_progress(make, expected, persistent):
    """Rows of a batch of 8 tell how many images are summed in the worker."""
    mix, g = make(), torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(16, 3, 4, 4, generator=g), torch.arange(16) % 5)
    loader = DataLoader(
        data,
        batch_size=8,
        num_workers=1,
        collate_fn=MixAll([mix]),
        persistent_workers=persistent,
        multiprocessing_context="fork",
    )
    rows = []
    for epoch in range(3):
        if mix.needs_validation():
            mix.step(1.0 - epoch)
        else:
            mix.advance(epoch / 2.9)
        rows += [{len(x) for batch in loader for x, _ in batch}]
        if mix.needs_validation() and epoch == 0:
            assert mix.step(0.0) == "switched"
    assert rows == [{n} for n in expected]


def test_ranks_draw_apart_without_being_asked(all_cases, monkeypatch):
    for case in all_cases:
        if not case.random or case.make(0).needs_network():
            continue
        x, y = case.batch(24)
        drawn = []
        for rank in range(3):
            monkeypatch.setenv("WORLD_SIZE", "3")
            monkeypatch.setenv("RANK", str(rank))
            mix = case.make(0)
            drawn.append([mix(x, y)[0].numpy().tobytes() for _ in range(6)])
            state = mix.state_dict()
            again = case.make(0)
            again.load_state_dict(state)
            assert torch.equal(again(x, y)[0], mix(x, y)[0]), case.name  # what was stored goes on
        assert drawn[0] != drawn[1] != drawn[2] != drawn[0], case.name
        monkeypatch.delenv("WORLD_SIZE")
        alone = case.make(0)
        assert [alone(x, y)[0].numpy().tobytes() for _ in range(6)] == drawn[0], case.name


def test_a_cascade_begins_anew_in_a_second_loop():
    mix, x, y = m.Cascade(k=4, num_classes=5, patience=None), torch.randn(8, 3), torch.arange(8) % 5
    folds = [[(mix.advance(epoch / 6), len(mix(x, y)[0]))[1] for epoch in range(6)] for _ in range(3)]
    assert folds == [[2, 2, 4, 4, 8, 8]] * 3
    with_metric = m.Cascade(k=4, num_classes=5, patience=1, shares=None)
    for value in (0.5, 0.4, 0.4, 0.4):
        with_metric.step(value)
    assert with_metric.k == 1
    with_metric.reset()
    assert (with_metric.k, with_metric.stage, with_metric.waited, with_metric.best) == (4, 0, 0, float("-inf"))


def test_reset_is_the_beginning(all_cases):
    for case in all_cases:
        x, y = case.batch(12)
        mix = case.make(3)
        if mix.needs_network() and mix.reaches_inside():
            continue
        mix.reset()
        first, state = [mix(x, y) for _ in range(2)], mix.state_dict()
        mix.advance(0.95)
        mix.reset()
        for (a, s), (b, t) in zip(first, [mix(x, y) for _ in range(2)], strict=True):
            assert torch.equal(a, b), case.name
            assert torch.equal(s, t), case.name
        assert mix.state_dict().keys() == state.keys()


@pytest.mark.parametrize(
    "text", ["mixup:p=0.7", "mixup|cutout", "cutout >> mixup", "cutout|mixup:p=0.7,until=80%"]
)
@pytest.mark.parametrize("own", [None, 5])
def test_reset_keeps_the_seed_of_the_run(text, own):
    """Of the mixes that it is made of too: the second fold is what the first was."""
    mix = m.parse_mix(text)
    mix.finish_setup(5, 7)
    list(mix.children())[-1].seed = own
    mix.finish_setup(5, 7)
    x, y = torch.randn(8, 1, 6, 6), torch.arange(8) % 5
    first = [mix(x, y)[0] for _ in range(4)]
    mix.advance(0.9)
    mix.reset()
    assert all(torch.equal(mix(x, y)[0], batch) for batch in first)


def test_a_small_last_batch_is_mixed_as_far_as_it_goes():
    images = torch.arange(3.0).view(3, 1)
    labels = torch.arange(3)
    full, many = torch.zeros(8, 1), torch.zeros(8).long()
    for mix, weights in (
        (m.SumAugment(4, num_classes=3), [1 / 3] * 3),
        (m.Cascade(4, num_classes=3), [1 / 3] * 3),
        (m.GradualCascade(4, num_classes=3, variant="linear", finetune=0.0), [0.25 / 0.75] * 3),
    ):
        mix(full, many)
        mixed, target = mix(images, labels)
        assert target.shape == (1, 3)
        assert torch.allclose(target, torch.tensor([weights]))
        assert torch.allclose(mixed, (torch.tensor(weights) * torch.arange(3.0)).sum().view(1, 1))
        alone, own = mix(images[1:2], labels[1:2])
        assert torch.equal(alone, images[1:2])
        assert own.tolist() == [[0.0, 1.0, 0.0]]
    gradual = m.GradualCascade(4, num_classes=3, variant="linear", finetune=0.0)
    gradual(full, many)
    gradual.advance(0.5)  # weights 5/12, 5/12, 1/6
    assert torch.allclose(gradual(images[:2], labels[:2])[1], torch.tensor([[0.5, 0.5, 0.0]]))
    permuted = m.SumAugment(4, num_classes=3, pairing="permute")
    permuted(full, many)
    assert torch.allclose(permuted(images, labels)[1].sum(1), torch.ones(3))


def test_batches_that_are_always_too_small_are_told_of_once():
    mix = m.SumAugment(4, num_classes=3)
    with pytest.warns(LessonplanWarning, match="mixes 4 images, and a batch has 2"):
        mix(torch.zeros(2, 1), torch.zeros(2).long())
    mix(torch.zeros(2, 1), torch.zeros(2).long())  # a warning would be an error here


@pytest.mark.parametrize("alpha", [1e-9, 1e-5, 0.001, 0.005, 0.0099, 1e6, 1e12, 1e300])
def test_coefficients_of_any_alpha(alpha):
    mix = m.Mixup(alpha=alpha, num_classes=2, per_sample=True, seed=1)
    lam = mix._dirichlet(alpha, 20_000, 2)
    assert torch.isfinite(lam).all()
    assert torch.allclose(lam.sum(0), torch.ones(20_000, dtype=torch.float64))
    inside = float(((lam[0] > 0.1) & (lam[0] < 0.9)).double().mean())
    assert inside == pytest.approx(float(beta.cdf(0.9, alpha, alpha) - beta.cdf(0.1, alpha, alpha)), abs=0.006)
    assert abs(float(lam[0].mean()) - 0.5) < 0.02


def test_small_alphas_share_as_often_as_the_moments_say():
    """Of a symmetric Dirichlet 1 - E sum c^2 is (k - 1) alpha / (k alpha + 1)."""
    k, alpha, count = 3, 0.009, 40_000
    mix = m.SumAugment(k, num_classes=2, coefficients="dirichlet", alpha=alpha, seed=2)
    hot = torch.eye(k, dtype=torch.float64).repeat_interleave(count, 0)
    shares = mix(hot, torch.zeros(len(hot), dtype=torch.long))[0]
    assert float(1 - shares.square().sum(1).mean()) == pytest.approx((k - 1) * alpha / (k * alpha + 1), rel=0.1)


def test_small_alphas_follow_the_beta_distribution():
    lam = m.Mixup(alpha=0.009, num_classes=2, seed=5)._dirichlet(0.009, 40_000, 2)[0]
    low = lam[lam < 0.5].numpy()  # near 1 doubles are too coarse
    assert kstest(low, lambda v: 2 * beta(0.009, 0.009).cdf(v)).statistic < 0.02


@pytest.mark.parametrize(
    "shape", [(4, 1, 1000), (4, 2, 1000), (4, 22, 400), (4, 32, 32, 3), (4, 32, 32, 1), (4, 9, 7, 3)]
)
@pytest.mark.parametrize("cls", [m.CutMix, m.Cutout])
def test_what_looks_like_no_images_is_refused(cls, shape):
    with pytest.raises(ConfigError, match=r"signals: give them as \(N, C, 1, L\)|channels seem to be last"):
        cls(num_classes=2)(torch.rand(shape), torch.arange(4) % 2)


@pytest.mark.parametrize("shape", [(16, 3, 1, 200), (16, 3, 200, 1)])
def test_signals_of_one_row_exchange_stretches(shape):
    mix, x, y = m.CutMix(num_classes=16, seed=0), torch.randn(shape, dtype=torch.float64), torch.arange(16)
    changed = 0
    for _ in range(20):
        mixed, target = mix(x, y)
        differs = (mixed != x).flatten(2).all(1).flatten(1)  # all channels or none
        assert torch.equal(differs, (mixed != x).flatten(2).any(1).flatten(1))
        share = 1 - differs.float().mean(1)
        assert torch.allclose(target[torch.arange(16), y][differs.any(1)], share[differs.any(1)], atol=1e-6)
        changed += int(differs.any())
    assert changed > 10


@pytest.mark.parametrize("pairing", ["groups", "permute"])
@pytest.mark.parametrize("coefficients", ["uniform", "dirichlet"])
@pytest.mark.parametrize("shape", [(8, 3, 6, 5), (8, 3, 2, 6, 5)])
def test_sums_keep_the_memory_format(pairing, coefficients, shape):
    mix = m.SumAugment(2, num_classes=3, pairing=pairing, coefficients=coefficients, seed=0)
    twin = m.SumAugment(2, num_classes=3, pairing=pairing, coefficients=coefficients, seed=0)
    x, y = torch.rand(shape), torch.arange(8) % 3
    layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    last = mix(x.contiguous(memory_format=layout), y)[0]
    plain = twin(x, y)[0]
    assert last.is_contiguous(memory_format=layout)
    assert plain.is_contiguous()
    assert torch.allclose(last, plain, atol=1e-6)


def test_a_worker_does_not_speak_over_what_was_told():
    """It hears, and what it has heard may be old by then: only the main process writes what all share."""
    mix, x = m.Cascade(k=4, num_classes=5, patience=None), torch.randn(16, 3)
    loader = DataLoader(
        TensorDataset(x, torch.arange(16) % 5),
        batch_size=8,
        num_workers=2,
        collate_fn=mix,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    for epoch in range(3):
        mix.advance(epoch / 2.9)
        told = mix._shared.clone()
        rows = [len(mixed) for mixed, _ in loader]
        assert rows == [8 // mix.k] * 2
        assert torch.equal(mix._shared, told)


def test_what_is_pickled_outlives_it(all_cases):
    """A worker that is spawned finds tensors in memory that is shared while somebody here still has them."""

    class Noting(pickle.Pickler):
        def reducer_override(self, given):
            if isinstance(given, torch.Tensor):
                seen.append(weakref.ref(given))
            return NotImplemented

    for case in all_cases:
        seen: list = []
        mix = case.make(0)
        Noting(io.BytesIO()).dump(mix)
        assert all(tensor() is not None for tensor in seen), case.name
        assert seen, case.name


@pytest.mark.slow
@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_workers_that_begin_afresh_mix_and_hear_of_progress(context):
    """As on macOS and Windows, and from Python 3.14 on everywhere."""
    mix = m.Until(m.Cascade(k=4, num_classes=5, patience=None), "100%")
    loader = DataLoader(
        TensorDataset(torch.randn(16, 3), torch.arange(16) % 5),
        batch_size=8,
        num_workers=2,
        collate_fn=mix,
        persistent_workers=True,
        multiprocessing_context=context,
    )
    for epoch, rows in enumerate((2, 4, 8)):
        mix.advance(epoch / 2.9)
        assert [len(mixed) for mixed, _ in loader] == [rows] * 2


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mix_is_a_collate_function(all_cases, workers):
    """Of samples in a worker it makes what it makes of the batch that they are."""
    for case in all_cases:
        mix, twin = case.make(0), case.make(0)
        if mix.needs_network():
            continue
        x, y = case.batch(8)
        loader = DataLoader(
            TensorDataset(x, y),
            batch_size=8,
            num_workers=workers,
            collate_fn=mix,
            multiprocessing_context="fork" if workers else None,
        )
        ((mixed, target),) = list(loader)
        assert mixed.dtype.is_floating_point
        assert len(mixed) == len(target), case.name
        if not workers:  # a worker draws apart
            wanted = twin((x, y))  # as torchvision's are called
            assert torch.equal(mixed, wanted[0]), case.name
            assert torch.equal(target, wanted[1]), case.name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([{"image": 1}, {"image": 2}], "dict is no sample"),
        ([], "list is no sample"),
        (torch.zeros(4, 3), "Tensor is no sample"),
        ([(torch.zeros(3), 0, 1)], "tuple is no sample"),
    ],
)
def test_what_is_no_batch_is_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        m.Mixup(num_classes=3)(given)


def test_inputs_that_are_no_tensor_are_refused():
    with pytest.raises(ConfigError, match="inputs of type ndarray: give a tensor"):
        m.Mixup(num_classes=3)(torch.zeros(2, 3).numpy(), torch.tensor([0, 1]))
