"""The drop-ins against timm itself: what timm drew is given to both, and draws follow the same distributions."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from tests.oracles import oracle
from torch.utils.data import DataLoader

from lessonplan.errors import ConfigError
from lessonplan.integrations import timm as ours

theirs = oracle("timm.data.mixup")
PrefetchLoader = oracle("timm.data.loader").PrefetchLoader

CLASSES = 6
KINDS = {
    "mixup": {"mixup_alpha": 0.8},
    "cutmix": {"mixup_alpha": 0.0, "cutmix_alpha": 1.0},
    "both": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0},
    "sometimes": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "prob": 0.5, "switch_prob": 0.3},
    "minmax": {"mixup_alpha": 0.3, "cutmix_minmax": (0.2, 0.8)},
    "as drawn": {"mixup_alpha": 0.0, "cutmix_alpha": 1.0, "correct_lam": False},
    "unsmoothed": {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "label_smoothing": 0.0},
}


@pytest.fixture(autouse=True)
def _kept_numpy():
    state = np.random.get_state()  # noqa: NPY002 (timm's numbers are NumPy's global ones)
    np.random.seed(0)  # noqa: NPY002
    yield
    np.random.set_state(state)  # noqa: NPY002


class Recorder:
    """Notes what a mix of timm draws: shares of labels, kinds, boxes."""

    def __init__(self, mix, monkeypatch):
        self.lam, self.cut, self.boxes = [], [], []
        for name in ("_params_per_batch", "_params_per_elem"):
            monkeypatch.setattr(mix, name, self._noting(getattr(mix, name)))
        boxes = theirs.cutmix_bbox_and_lam

        def noted(*args, **options):
            box, lam = boxes(*args, **options)
            self.boxes.append(([int(edge) for edge in box], float(lam)))
            return box, lam

        monkeypatch.setattr(theirs, "cutmix_bbox_and_lam", noted)

    def _noting(self, draw):
        def noted(*args):
            lam, cut = draw(*args)
            self.lam, self.cut = np.atleast_1d(lam).tolist(), np.atleast_1d(cut).tolist()
            self.boxes.clear()
            return lam, cut

        return noted

    def draws(self, mix, samples):
        lam, boxes = torch.tensor(self.lam, dtype=torch.float64), torch.zeros(len(self.lam), 4, dtype=torch.long)
        cut = torch.tensor(self.cut) & (lam < 1)
        for place, (box, share) in zip(cut.nonzero()[:, 0].tolist(), self.boxes, strict=True):
            boxes[place], lam[place] = torch.tensor(box), share
        drawn = mix._for_samples((lam.numpy(), cut.numpy(), boxes.numpy()), samples)
        return ours.Draws(*map(torch.from_numpy, drawn))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_the_same_draws_give_the_same_images_and_targets(kind, mode, monkeypatch):
    options = {**KINDS[kind], "mode": mode, "num_classes": CLASSES}
    their, our = theirs.Mixup(**options), ours.Mixup(**options)
    recorder = Recorder(their, monkeypatch)
    mixed_once = 0
    for seed in range(6):
        g = torch.Generator().manual_seed(seed)
        x, y = torch.randn(8, 3, 12, 10, generator=g), torch.randint(CLASSES, (8,), generator=g)
        before = x.clone()
        expected, target = their(x.clone(), y)
        mixed, mixed_target = our.apply(x, y, recorder.draws(our, len(x)))
        torch.testing.assert_close(mixed, expected)
        torch.testing.assert_close(mixed_target, target.to(mixed_target.dtype), atol=1e-6, rtol=1e-5)
        assert torch.equal(x, before)
        mixed_once += not torch.equal(mixed, x)
    assert mixed_once


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["batch", "pair", "elem", "half"])
def test_collating_gives_the_same_bytes(kind, mode, monkeypatch):
    options = {**KINDS[kind], "mode": mode, "num_classes": CLASSES}
    their, our = theirs.FastCollateMixup(**options), ours.FastCollateMixup(**options)
    recorder = Recorder(their, monkeypatch)
    for seed in range(4):
        g = np.random.default_rng(seed)
        batch = [(g.integers(256, size=(3, 12, 10), dtype=np.uint8), int(g.integers(CLASSES))) for _ in range(8)]
        expected, target = their(copy.deepcopy(batch))
        draws = recorder.draws(our, len(batch))
        monkeypatch.setattr(our, "draw", lambda *_, draws=draws: draws)
        got, got_target = our(batch)
        assert got.dtype == torch.uint8
        assert got.shape == expected.shape
        apart = (got.int() - expected.int()).abs()
        assert apart.max() <= 1, "a half may be rounded either way, after another rounding of its last bit"
        assert (apart > 0).float().mean() < 1e-3
        torch.testing.assert_close(got_target, target.to(got_target.dtype), atol=1e-6, rtol=1e-5)
        tensors = [(torch.from_numpy(image), label) for image, label in batch]
        assert torch.equal(our(tensors)[0], got)


def test_labels_of_several_classes(monkeypatch):
    their = theirs.Mixup(num_classes=CLASSES, multi_label=True, label_smoothing=0.2)
    our = ours.Mixup(num_classes=CLASSES, multi_label=True, label_smoothing=0.2)
    recorder = Recorder(their, monkeypatch)
    x, y = torch.randn(4, 3, 5, 5), (torch.rand(4, CLASSES) < 0.4).float()
    expected, target = their(x.clone(), y)
    mixed, mixed_target = our.apply(x, y, recorder.draws(our, 4))
    torch.testing.assert_close(mixed, expected)
    torch.testing.assert_close(mixed_target, target)


@pytest.mark.parametrize("kind", ["mixup", "cutmix", "both", "sometimes", "minmax", "as drawn"])
@pytest.mark.parametrize("mode", ["batch", "elem"])
def test_draws_follow_the_same_distributions(kind, mode, monkeypatch):
    """Shares of labels, sizes and places of boxes (Kolmogorov and Smirnov; twelve cases, each p > 1e-4)."""
    options, count = {**KINDS[kind], "mode": mode, "num_classes": CLASSES}, 3000
    their, our = theirs.Mixup(**options), ours.Mixup(**options, seed=4)
    recorder = Recorder(their, monkeypatch)
    repeated = range(count if mode == "batch" else 1)
    n = 4 if mode == "batch" else count
    x = torch.zeros(n, 1, 20, 14)
    noted = []
    for _ in repeated:
        their(x, torch.zeros(n, dtype=torch.long))
        draws = recorder.draws(our, n)
        noted.append(torch.cat([draws.lam[:, None], draws.cut[:, None], draws.boxes], 1))
    got = []
    for _ in repeated:
        draws = our.draw(n, 20, 14)
        got.append(torch.cat([draws.lam[:, None], draws.cut[:, None], draws.boxes], 1))
    expected, found = torch.cat(noted), torch.cat(got)
    assert len(expected) == len(found) == count
    for column in range(expected.shape[1]):
        assert ks_2samp(expected[:, column], found[:, column]).pvalue > 1e-4, column
    assert ks_2samp(expected[:, 3] - expected[:, 2], found[:, 3] - found[:, 2]).pvalue > 1e-4


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_the_default_type_of_tensors_changes_nothing(mode):
    made = [ours.Mixup(cutmix_alpha=1.0, mode=mode, num_classes=CLASSES, seed=1) for _ in range(2)]
    x, y = torch.randn(8, 3, 12, 10), torch.arange(8) % CLASSES
    expected = [made[0](x, y) for _ in range(4)]
    torch.set_default_dtype(torch.bfloat16)
    try:
        mixed = [made[1](x, y) for _ in range(4)]
    finally:
        torch.set_default_dtype(torch.float32)
    for pair, wanted in zip(mixed, expected, strict=True):
        assert all(torch.equal(a, b) and a.dtype == torch.float32 for a, b in zip(pair, wanted, strict=True))


@pytest.mark.parametrize("name", ["Mixup", "FastCollateMixup"])
def test_arguments_are_theirs(name):
    """Names, order and defaults."""
    given = list(inspect.signature(getattr(theirs, name)).parameters.values())
    taken = list(inspect.signature(getattr(ours, name)).parameters.values())
    for their, our in zip(given, taken, strict=False):
        assert (our.name, our.default, our.kind) == (their.name, their.default, their.kind)
    assert {p.name for p in taken[len(given) :]} == {"seed", "check", "reuse"}


def test_what_training_scripts_do_with_it():
    mix = ours.Mixup(num_classes=CLASSES, seed=1)
    x, y = torch.randn(7, 3, 8, 8), torch.arange(7) % CLASSES  # an odd batch, too
    assert not torch.equal(mix(x, y)[0], x)
    mix.mixup_enabled = False  # --mixup-off-epoch
    mixed, target = mix(x, y)
    assert torch.equal(mixed, x)
    torch.testing.assert_close(target[0], torch.tensor([0.9 + 0.1 / 6] + [0.1 / 6] * 5))
    state = copy.deepcopy(mix.state_dict())
    mix.mixup_enabled = True
    expected = mix(x, y)
    again = ours.Mixup(num_classes=CLASSES)
    again.load_state_dict(state)
    assert not again.mixup_enabled
    again.mixup_enabled = True
    assert all(torch.equal(a, b) for a, b in zip(again(x, y), expected, strict=True))
    sent = pickle.loads(pickle.dumps(mix))
    assert all(torch.equal(a, b) for a, b in zip(sent(x, y), mix(x, y), strict=True))


def test_the_prefetching_loader_switches_it_off():
    """As timm's train.py does at --mixup-off-epoch."""
    samples = [(np.full((3, 8, 8), 10 * i, dtype=np.uint8), i % CLASSES) for i in range(6)]
    collate = ours.FastCollateMixup(label_smoothing=0.0, num_classes=CLASSES, seed=1)
    loader = PrefetchLoader(DataLoader(samples, batch_size=6, collate_fn=collate), device=torch.device("cpu"))
    assert loader.mixup_enabled
    assert next(iter(loader.loader))[1].max(1).values.min() < 1
    loader.mixup_enabled = False
    assert not collate.mixup_enabled
    assert next(iter(loader.loader))[1].max(1).values.min() == 1
    assert not pickle.loads(pickle.dumps(collate)).mixup_enabled


def test_reuse_is_known_here_too():
    mix = ours.Mixup(cutmix_alpha=1.0, num_classes=CLASSES, reuse=True)
    x, y = torch.randn(8, 3, 8, 8), torch.arange(8) % CLASSES
    before = x.clone()
    assert mix(x, y)[0].data_ptr() == mix(x, y)[0].data_ptr()
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mixup_alpha": 0.0}, "neither mixup nor CutMix"),
        ({"mixup_alpha": -1.0}, "mixup_alpha=-1.0"),
        ({"cutmix_minmax": (0.8, 0.2)}, "cutmix_minmax"),
        ({"cutmix_minmax": (0.2,)}, "cutmix_minmax"),
        ({"prob": 1.5}, "prob=1.5"),
        ({"switch_prob": -0.1}, "switch_prob=-0.1"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"mode": "half"}, "mode='half': give one of batch, pair, elem"),
    ],
)
def test_wrong_arguments_are_named(options, said):
    with pytest.raises(ConfigError, match=said):
        ours.Mixup(**options)


def test_wrong_batches_are_named():
    with pytest.raises(ConfigError, match="give uint8"):
        ours.FastCollateMixup(num_classes=2)([(torch.zeros(3, 4, 4), 0)] * 2)
    with pytest.raises(ConfigError, match="got a batch: give it to a loader as collate_fn"):
        ours.FastCollateMixup(num_classes=2)(torch.zeros(4, 3, 4, 4), torch.zeros(4, dtype=torch.long))
    assert "no pictures: FastCollateMixup puts samples" in ours.FastCollateMixup(num_classes=2)._repr_html_()
    with pytest.raises(ConfigError, match=r"timm's CutMix cuts boxes out of \(N, ..., H, W\) images"):
        ours.Mixup(cutmix_alpha=1.0, num_classes=2)(torch.zeros(4, 7), torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_the_memory_format_is_kept(mode):
    mix = ours.Mixup(0.8, 1.0, mode=mode, num_classes=CLASSES)
    x = torch.randn(8, 3, 6, 6).to(memory_format=torch.channels_last)
    for _ in range(6):
        mixed, _ = mix(x.clone(memory_format=torch.preserve_format), torch.arange(8) % CLASSES)
        assert mixed.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_gradients_by_torch_func(mode):
    """What is drawn inside has no memory that NumPy could read; it is what is drawn outside all the same."""
    x, y = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 5
    options = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "mode": mode, "num_classes": 5, "seed": 4}
    for _ in range(3):
        options["seed"] += 1
        mix, again = ours.Mixup(**options), ours.Mixup(**options)
        wanted = x.clone().requires_grad_()
        mix(wanted, y)[0].square().sum().backward()
        got = torch.func.grad(lambda x, mix=again: mix(x, y)[0].square().sum())(x)
        torch.testing.assert_close(got, wanted.grad)
