"""Flips and crops against a slow loop over samples; parsing; transforms under keyed generators."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lessonplan.data import Augment, keyed_uniform
from lessonplan.data.augment import apply_transform, auto
from lessonplan.errors import ConfigError, DataError


def slow(augment, x, rows, seed, epoch):
    """Pad with NumPy, crop, mirror: one sample after the other."""
    out = []
    mode = {"reflect": "reflect", "zeros": "constant"}[augment.pad]
    for sample, row in zip(x.numpy(), rows.tolist(), strict=True):
        u = keyed_uniform(seed, epoch, torch.tensor([row]), 3)[0].tolist()
        p, s, (_, h, w) = augment.crop, augment.shift, sample.shape
        padded = np.pad(sample, ((0, 0), (p, p), (p, p)), mode=mode)
        padded = np.pad(padded, ((0, 0), (0, 0), (s, s)))
        top, left = int(u[0] * (2 * p + 1)), int(u[1] * (2 * (p + s) + 1))
        cropped = padded[:, top : top + h, left : left + w]
        out.append(cropped[:, :, ::-1] if augment.flip and u[2] < 0.5 else cropped)
    return torch.from_numpy(np.stack(out))


@settings(max_examples=40, deadline=None)
@given(
    h=st.integers(4, 9),
    w=st.integers(4, 9),
    channels=st.sampled_from([1, 3]),
    crop=st.integers(0, 3),
    flip=st.booleans(),
    pad=st.sampled_from(["reflect", "zeros"]),
    epoch=st.integers(0, 3),
)
def test_equals_a_loop_over_samples(h, w, channels, crop, flip, pad, epoch):
    x = torch.randint(1, 256, (7, channels, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(h))
    rows = torch.tensor([3, 0, 900, 3, 17, 5, 6])
    augment = Augment(flip=flip, crop=crop, pad=pad)
    kept = x.clone()
    got = augment(x, rows, seed=4, epoch=epoch)
    assert torch.equal(got, slow(augment, x, rows, 4, epoch))
    assert torch.equal(x, kept)


@settings(max_examples=20, deadline=None)
@given(w=st.integers(4, 9), shift=st.integers(1, 3), flip=st.booleans(), epoch=st.integers(0, 3))
def test_shifts_equal_a_loop_over_samples(w, shift, flip, epoch):
    x = torch.randint(1, 256, (7, 1, 5, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(w))
    rows = torch.tensor([3, 0, 900, 3, 17, 5, 6])
    augment = Augment(flip=flip, shift=shift)
    assert torch.equal(augment(x, rows, seed=4, epoch=epoch), slow(augment, x, rows, 4, epoch))


def test_shifts_parse_and_are_checked():
    assert Augment.parse("shift:3") == Augment(shift=3)
    assert str(Augment(flip=True, shift=2)) == "flip,shift:2"
    assert Augment.parse("auto", (1, 64, 50), audio=True) == Augment(shift=5)
    for wrong, shape, says in (
        (Augment(shift=9), (1, 20, 9), "0 to 8 columns"),
        (Augment(shift=-1), (1, 20, 9), "0 to 8 columns"),
        (Augment(shift=1, crop=1), (1, 20, 9), "crop or shift"),
        (Augment(shift=1), (7,), "needs images"),
    ):
        with pytest.raises(ConfigError, match=says):
            wrong.check(shape)


def test_flips_half_and_moves_evenly():
    n = 4000
    x = torch.arange(9, dtype=torch.uint8).view(1, 1, 3, 3).expand(n, 1, 3, 3)
    flipped = Augment(flip=True)(x, torch.arange(n), seed=0, epoch=0)[:, 0, 0, 0] == 2
    assert abs(float(flipped.float().mean()) - 0.5) < 0.03
    moved = Augment(crop=1, pad="zeros")(x + 1, torch.arange(n), seed=0, epoch=0)
    centres = moved[:, 0, 1, 1].long().bincount(minlength=10)[1:]
    assert centres.min() > n / 9 * 0.75


def test_parse():
    assert Augment.parse("none") == Augment()
    assert Augment.parse("crop:2, flip,pad:zeros") == Augment(flip=True, crop=2, pad="zeros")
    for text in ("none", "flip", "crop:3", "flip,crop:4,pad:zeros"):
        assert str(Augment.parse(text)) == text
    assert Augment.parse("auto", (3, 32, 32)) == Augment(flip=True, crop=4)


@pytest.mark.parametrize(
    ("text", "says"),
    [("flop", "'flip'"), ("crop", "crop:4"), ("crop:x", "crop:4"), ("pad:wrap", "reflect"), ("auto", "shape")],
)
def test_parse_refuses(text, says):
    with pytest.raises(ConfigError, match=says):
        Augment.parse(text)


def test_auto_by_shape():
    assert auto((3, 28, 28)) == Augment(flip=True, crop=3)
    assert auto((3, 16, 16)) == Augment(crop=2)
    assert auto((1, 8, 8)) == Augment(crop=1)
    assert auto((30,)) == Augment()


@pytest.mark.parametrize(
    ("augment", "shape"), [(Augment(crop=8), (1, 8, 9)), (Augment(flip=True), (4,)), (Augment(crop=-1), (1, 8, 8))]
)
def test_check_refuses(augment, shape):
    with pytest.raises(ConfigError):
        augment.check(shape)


def noisy(sample):
    """Uses all three global generators."""
    shift = random.randrange(256) + int(np.random.randint(256)) + int(torch.randint(256, ()))  # noqa: NPY002
    return ((sample.long() + shift) % 256).to(torch.uint8)


def states():
    return torch.random.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002


def test_transform_is_keyed_and_leaves_generators_alone():
    x = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    before = states()
    one = apply_transform(noisy, x, torch.tensor([5, 6, 7, 8]), seed=0, epoch=0)
    assert states() == before
    random.seed(99)
    torch.rand(3)
    two = apply_transform(noisy, x[:2], torch.tensor([8, 5]), seed=0, epoch=0)
    assert torch.equal(two, one[[3, 0]])
    assert len(one[:, 0, 0, 0].unique()) > 1
    assert not torch.equal(one, apply_transform(noisy, x, torch.tensor([5, 6, 7, 8]), seed=0, epoch=1))


def test_transform_that_fails_leaves_generators_alone():
    before = states()

    def broken(sample):
        torch.rand(1)
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        apply_transform(broken, torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.tensor([0]), seed=0, epoch=0)
    assert states() == before


@pytest.mark.parametrize("wrong", [lambda s: s.float(), lambda s: s[:, :1], lambda s: 3])
def test_transform_must_keep_shape_and_type(wrong):
    with pytest.raises(DataError, match="must return a tensor"):
        apply_transform(wrong, torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.tensor([0]), seed=0, epoch=0)
