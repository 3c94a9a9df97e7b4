"""The formulas of ``mix.functional`` against plain Python loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from lessonplan.mix import functional as F

few = settings(max_examples=40, deadline=None)


def rows(n, width=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=g, dtype=torch.float64)


def loop_group_sum(x, weights):
    """x_new[i] = sum_j w[j][i] x[i + j M], as the thesis writes it, on lists."""
    k, m = len(weights), len(x) // len(weights)
    return [[sum(weights[j][i] * x[i + j * m][c] for j in range(k)) for c in range(len(x[0]))] for i in range(m)]


@few
@given(k=st.integers(1, 5), m=st.integers(1, 4), seed=st.integers(0, 99))
def test_group_mean_and_sums(k, m, seed):
    x, w = rows(k * m, seed=seed), rows(k, m, seed=seed + 1)
    each, shared = w.tolist(), [[v] * m for v in w[:, 0].tolist()]
    uniform = [[1 / k] * m] * k

    def check(got, weights):
        torch.testing.assert_close(got, torch.tensor(loop_group_sum(x.tolist(), weights), dtype=torch.float64))

    check(F.group_mean(x, k), uniform)
    check(F.group_sum(x, w[:, 0]), shared)
    check(F.group_sum(x, w), each)
    images = x[:, :, None, None].expand(-1, -1, 2, 3)
    expected = torch.tensor(loop_group_sum(x.tolist(), each), dtype=torch.float64)
    torch.testing.assert_close(F.group_sum(images, w), expected[:, :, None, None].expand(-1, -1, 2, 3))


@few
@given(k=st.integers(1, 5), m=st.integers(1, 4), seed=st.integers(0, 99))
def test_label_mass_and_union(k, m, seed):
    classes = 3
    y = torch.randint(classes, (k * m,), generator=torch.Generator().manual_seed(seed))
    w = rows(k, m, seed=seed).abs()
    mass, shared = [[0.0] * classes for _ in range(m)], [[0.0] * classes for _ in range(m)]
    union = [[0.0] * classes for _ in range(m)]
    for i in range(m):
        for j in range(k):
            label = int(y[i + j * m])
            mass[i][label] += float(w[j, i])
            shared[i][label] += float(w[j, 0])
            union[i][label] = 1.0
    torch.testing.assert_close(F.group_label_mass(y, w, classes), torch.tensor(mass))
    torch.testing.assert_close(F.group_label_mass(y, w[:, 0], classes), torch.tensor(shared))
    assert F.group_union(one_hot(y, classes).float(), k).tolist() == union


@few
@given(k=st.integers(1, 4), n=st.integers(1, 6), each=st.booleans(), seed=st.integers(0, 99))
def test_permuted_sum(k, n, each, seed):
    x, w = rows(n, seed=seed), rows(k, n, seed=seed + 1)
    g = torch.Generator().manual_seed(seed)
    p = [torch.randperm(n, generator=g) for _ in range(k - 1)]
    permutations = torch.stack(p) if p else torch.empty(0, n, dtype=torch.long)
    members = [list(range(n)), *(q.tolist() for q in p)]
    expected = [
        [sum(float(w[j, i if each else 0]) * float(x[members[j][i], c]) for j in range(k)) for c in range(2)]
        for i in range(n)
    ]
    got = F.permuted_sum(x, permutations, w if each else w[:, 0])
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64))


@few
@given(n=st.integers(1, 20), k=st.integers(1, 20))
def test_wrap_and_drop(n, k):
    k = min(k, n)
    batch = list(range(n))
    wrapped, position = list(batch), 0
    while len(wrapped) % k:
        wrapped.append(batch[position])
        position += 1
    while len(batch) % k:
        batch.pop()
    assert F.wrap_to_groups(torch.arange(n), k).tolist() == wrapped
    assert F.drop_to_groups(torch.arange(n), k).tolist() == batch


def test_interpolate():
    x, partner = rows(3, seed=1), rows(3, seed=2)
    lam = [0.0, 0.3, 1.0]
    each = [
        [a * u + (1 - a) * v for u, v in zip(*pair, strict=True)]
        for a, *pair in zip(lam, x.tolist(), partner.tolist(), strict=True)
    ]
    torch.testing.assert_close(
        F.interpolate(x, partner, torch.tensor(lam, dtype=torch.float64)), torch.tensor(each, dtype=torch.float64)
    )
    shared = [
        [0.3 * u + 0.7 * v for u, v in zip(a, b, strict=True)]
        for a, b in zip(x.tolist(), partner.tolist(), strict=True)
    ]
    torch.testing.assert_close(
        F.interpolate(x, partner, torch.tensor(0.3, dtype=torch.float64)),
        torch.tensor(shared, dtype=torch.float64),
    )


def test_soft_targets():
    assert F.soft_targets(torch.tensor([2, 0], dtype=torch.uint8), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    soft = torch.tensor([[0.2, 0.8]], dtype=torch.float64)
    assert torch.equal(F.soft_targets(soft, 7), soft)


def paper_box(lam, row, column, height, width):
    """CutMix, appendix A: integer sides of sqrt(1 - lam) of the image, halved, cut at the border."""
    ratio = math.sqrt(1.0 - lam)
    cut_h, cut_w = int(height * ratio), int(width * ratio)
    top, bottom = max(row - cut_h // 2, 0), min(row + cut_h // 2, height)
    left, right = max(column - cut_w // 2, 0), min(column + cut_w // 2, width)
    return [top, bottom, left, right]


# Multiples of 2^-20: next to a whole number of pixels the last bit of a square root would decide.
coarse = st.integers(0, 2**20).map(lambda n: n / 2**20)
box_draws = st.tuples(coarse, st.floats(0, 0.999), st.floats(0, 0.999))


@few
@given(draws=st.lists(box_draws, min_size=1, max_size=5), height=st.integers(2, 40), width=st.integers(2, 40))
def test_cutmix_boxes(draws, height, width):
    lam = [d[0] for d in draws]
    centre = [[int(d[1] * height), int(d[2] * width)] for d in draws]
    got = F.cutmix_boxes(torch.tensor(lam, dtype=torch.float64), torch.tensor(centre), height, width)
    assert got.tolist() == [
        paper_box(a, row, column, height, width) for a, (row, column) in zip(lam, centre, strict=True)
    ]


@given(
    lam=st.floats(0, 1),
    place=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    height=st.integers(1, 300),
    width=st.integers(1, 300),
)
def test_one_box_is_as_those_of_a_batch(lam, place, height, width):
    row, column = int(place[0] * height), int(place[1] * width)
    many = F.cutmix_boxes(torch.tensor([lam], dtype=torch.float64), torch.tensor([[row, column]]), height, width)
    assert F.cutmix_box(lam, row, column, height, width) == tuple(many[0].tolist())


@few
@given(draws=st.lists(box_draws, min_size=1, max_size=5), length=st.integers(2, 400), upright=st.booleans())
def test_signals_are_cut_along_their_length(draws, length, upright):
    lam, centre = [d[0] for d in draws], [int(d[1] * length) for d in draws]
    shape = (length, 1) if upright else (1, length)
    places = torch.tensor([[c, 0] if upright else [0, c] for c in centre])
    got = F.cutmix_boxes(torch.tensor(lam, dtype=torch.float64), places, *shape)
    for box, share, middle in zip(got.tolist(), lam, centre, strict=True):
        half = int(length * (1 - share)) // 2
        cut = [max(middle - half, 0), min(middle + half, length)]
        assert box == ([*cut, 0, 1] if upright else [0, 1, *cut])


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)], ids=["HW", "CHW", "CTHW"])
@pytest.mark.parametrize("shared", [True, False])
def test_paste_boxes(lead, shared):
    x, partner = torch.zeros(3, *lead, 4, 5), torch.ones(3, *lead, 4, 5)
    boxes = [[1, 3, 0, 4]] if shared else [[0, 4, 0, 5], [2, 2, 0, 3], [1, 2, 4, 5]]
    for filling in (partner, 1.0):
        pasted, kept = F.paste_boxes(x, filling, torch.tensor(boxes))
        for i, image in enumerate(pasted.reshape(3, -1, 4, 5)):
            top, bottom, left, right = boxes[0 if shared else i]
            for channel in image.tolist():
                for r, line in enumerate(channel):
                    for c, value in enumerate(line):
                        assert value == float(top <= r < bottom and left <= c < right)
        pixels = [sum((b - t, 0)) * (r - left) for t, b, left, r in boxes]
        assert kept.tolist() == pytest.approx([1 - p / 20 for p in pixels])
