"""What holds for every mix: shapes, types, targets, and inputs left alone."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import one_hot

from lessonplan import mix as m
from lessonplan.errors import LessonplanWarning
from lessonplan.mix.text import MIXES

CLASSES = 5


def test_every_mix_is_registered(all_cases):
    made = {type(case.make(0)) for case in all_cases}
    named = {name: getattr(m, name) for name in m.__all__}
    public = {n: cls for n, cls in named.items() if isinstance(cls, type) and issubclass(cls, m.Mix)}
    assert made == {cls for name, cls in public.items() if name != "Mix"}
    assert set(MIXES.values()) <= made


def test_shapes_and_targets_at_any_batch_size(case):
    for n in range(case.at_least, 14):
        x, y = case.batch(n)
        mixed, target = case.make(0)(x, y)
        assert mixed.shape == (case.rows(n), 3, 6, 8)
        assert target.shape == (case.rows(n), CLASSES)
        assert target.dtype == torch.float32
        assert target.min() >= 0
        assert target.max() <= 1 + 1e-6
        if case.labels != "union":
            torch.testing.assert_close(target.sum(1), torch.ones(len(target)))


def test_any_rank_is_mixed_like_images(case):
    """The trailing shape changes nothing but the layout (boxes aside, which follow height and width)."""
    for shape in case.shapes():
        x = torch.randn(7, *shape, generator=torch.Generator().manual_seed(1))
        y = torch.arange(7) % CLASSES
        mixed, target = case.make(3)(x, y)
        assert mixed.shape == (case.rows(7), *shape)
        if not case.images:
            flat, flat_target = case.make(3)(x.reshape(7, -1), y)
            torch.testing.assert_close(mixed.reshape(len(mixed), -1), flat)
            assert torch.equal(target, flat_target)


def test_targets_are_the_images_shares(case):
    """With the one-hot label painted over each image, the mean over pixels must be the target."""
    y = torch.tensor([0, 1, 2, 3, 4, 0, 2])
    hot = one_hot(y, CLASSES).float()
    x = hot[:, :, None, None].expand(-1, -1, 6, 8)
    mix = case.make(5)
    for _ in range(8):
        mixed, target = mix(x, y)
        seen = mixed.double().mean((2, 3)).float()
        if case.labels == "share":
            torch.testing.assert_close(target, seen)
        elif case.labels == "own":
            assert torch.equal(target, hot[: len(target)])
        else:
            assert torch.equal(target, (seen > 0).float())


def test_random_mixes_do_mix(random_case):
    x, y = random_case.batch(8)
    mix = random_case.make(0)
    assert any(not torch.equal(mix(x, y)[0], x) for _ in range(8))


def test_soft_and_integer_labels_agree(case):
    x, y = case.batch(7)
    mixed, target = case.make(2)(x, y)
    for dtype in (torch.uint8, torch.int32):
        again, same = case.make(2)(x, y.to(dtype))
        assert torch.equal(again, mixed)
        assert torch.equal(same, target)
    for dtype in (torch.float32, torch.float64, torch.float16):
        soft_mixed, soft_target = case.make(2)(x, one_hot(y, CLASSES).to(dtype))
        assert torch.equal(soft_mixed, mixed)
        assert soft_target.dtype == dtype
        tolerance = 2e-3 if dtype == torch.float16 else 1e-6
        torch.testing.assert_close(soft_target.float(), target, atol=tolerance, rtol=0)


def test_a_mix_of_soft_targets_keeps_their_mass(case):
    """Label smoothing, or a mix of a mix: rows that sum to 1 still do."""
    x, y = case.batch(7)
    soft = one_hot(y, CLASSES).double() * 0.9 + 0.1 / CLASSES
    mix = case.make(2)
    with pytest.warns(LessonplanWarning, match=r"targets that are soft already: .* mixed twice"):
        target = mix(x, soft)[1]
    mix(x, soft)  # said once
    if case.labels != "union":
        torch.testing.assert_close(target.sum(1), torch.ones(len(target), dtype=torch.float64))
    assert target.min() >= 0.1 / CLASSES - 1e-9


def test_inputs_are_never_changed_nor_shared(case):
    x, y = case.batch(7)
    soft = one_hot(y, CLASSES).float()
    mix = case.make(0)
    for labels in (y, soft):
        x_before, labels_before = x.clone(), labels.clone()
        for _ in range(6):
            mixed, target = mix(x, labels)
            mixed.fill_(9.0)
            target.fill_(9.0)
        assert torch.equal(x, x_before)
        assert torch.equal(labels, labels_before)


def test_whole_numbers_become_float(case):
    pixels = torch.randint(256, (7, 3, 6, 8), generator=torch.Generator().manual_seed(0))
    y = torch.arange(7) % CLASSES
    expected, expected_target = case.make(4)(pixels.float(), y)
    for dtype in (torch.uint8, torch.int16, torch.int64):
        mixed, target = case.make(4)(pixels.to(dtype), y)
        assert mixed.dtype == torch.float32
        assert torch.equal(mixed, expected)
        assert torch.equal(target, expected_target)
    for dtype in (torch.uint8, torch.int16, torch.uint16, torch.uint32, torch.uint64):
        assert torch.equal(case.make(4)(pixels, y.to(dtype))[1], expected_target), dtype


def test_float_types_are_kept(case):
    x, y = case.batch(7)
    expected, expected_target = case.make(4)(x, y)
    for dtype, tolerance in ((torch.float16, 4e-3), (torch.bfloat16, 3e-2), (torch.float64, 1e-6)):
        mixed, target = case.make(4)(x.to(dtype), y)
        assert mixed.dtype == dtype
        torch.testing.assert_close(mixed.float(), expected, atol=tolerance, rtol=tolerance)
        assert torch.equal(target, expected_target)


def test_nothing_is_lost(case):
    """Each sample takes part; ``drop`` leaves out exactly the remainder."""
    for n in range(4, 14):
        painted = torch.eye(n)[:, :, None, None].expand(n, n, 12, 12)
        share = case.make(1)(painted, torch.zeros(n, dtype=torch.long))[0].mean((2, 3)).sum(0)
        assert (share > 0).sum() == (n - n % 3 if case.name == "sum-drop" else n)


def test_channels_last_images_give_the_same(case):
    x, y = case.batch(7)
    mixed, target = case.make(6)(x, y)
    again, same = case.make(6)(x.contiguous(memory_format=torch.channels_last), y)
    assert again.is_contiguous(memory_format=torch.channels_last), "the memory format is lost"
    graph, _ = case.make(6)(x.contiguous(memory_format=torch.channels_last).requires_grad_(), y)
    assert graph.is_contiguous(memory_format=torch.channels_last), "the memory format is lost with gradients"
    torch.testing.assert_close(again, mixed)
    assert torch.equal(same, target)


def test_views_of_the_data_give_the_same(case):
    """Strided input (every second row, a flipped batch axis) is read by position, not by memory."""
    x, y = case.batch(14)
    mixed, target = case.make(6)(x[::2], y[::2])
    again, same = case.make(6)(x[::2].clone(), y[::2].clone())
    torch.testing.assert_close(mixed, again)
    assert torch.equal(target, same)
