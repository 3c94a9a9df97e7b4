"""Perceptual hashes, the pairs that they propose, and the details that confirm them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lessonplan.lab.data_check import near
from lessonplan.lab.data_check.glance import seen


def thumbnails(images):
    pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]
    return seen(torch.stack(pixels)).thumbnails


def test_hash_is_the_sign_of_the_lowest_cosines_against_their_median(photo):
    picture = thumbnails([photo(3)])
    grey = (picture[0].double() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0).tolist()
    low = [
        sum(
            grey[i][j] * math.cos(math.pi * (2 * i + 1) * u / 64) * math.cos(math.pi * (2 * j + 1) * v / 64)
            for i in range(32)
            for j in range(32)
        )
        * (math.sqrt(0.5) if u == 0 else 1)
        * (math.sqrt(0.5) if v == 0 else 1)
        for u in range(8)
        for v in range(8)
    ]
    middle = sorted(low[1:])[31]
    expected = [0, *(int(value > middle) for value in low[1:])]
    found = np.unpackbits(near.perceptual_hashes(picture).view(np.uint8)).tolist()
    assert found == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 60), st.integers(0, 12))
def test_close_pairs_are_those_of_a_brute_force(seed, count, most):
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**63, 4, dtype=np.uint64)
    hashes = centres[rng.integers(0, 4, count)]
    for _ in range(10):  # some bits turned, so that all distances up to 10 occur
        turned = np.uint64(1) << rng.integers(0, 64, count, dtype=np.uint64)
        hashes = np.where(rng.random(count) < 0.5, hashes ^ turned, hashes)
    numbers = [int(h) for h in hashes]
    expected = [
        [i, j]
        for i in range(count)
        for j in range(i + 1, count)
        if bin(numbers[i] ^ numbers[j]).count("1") <= most
    ]
    found, complete = near.close_pairs(hashes, most)
    assert found.tolist() == expected
    assert complete


def test_bits_are_counted_without_numpy_2(monkeypatch):
    values = np.array([[0, 1, 2**64 - 1], [7, 2**63, 5]], dtype=np.uint64)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert near.ones(values).tolist() == [[0, 1, 64], [3, 1, 2]]


def test_too_many_pairs_are_given_up_and_said(monkeypatch):
    monkeypatch.setattr(near, "_MOST_PAIRS", 50)
    pairs, complete = near.close_pairs(np.full(100, 5, dtype=np.uint64))
    assert len(pairs) == 50
    assert not complete


@pytest.mark.parametrize("kind", ["same", "coarser", "smaller", "brighter", "paler"])
def test_a_picture_stored_again_is_found_and_no_other(photo, stored_again, kind):
    images = [photo(seed) for seed in range(30)] + [stored_again(photo(7), kind)]
    pairs, alike, complete = near.near_copies(thumbnails(images), torch.ones(31, dtype=torch.bool))
    assert pairs.tolist() == [[7, 30]]
    assert alike[0] > near.DETAIL
    assert complete


def test_photographs_of_one_layout_are_no_copies(photo):
    """Shirts on the same cloth: alike to the hash, different in their details."""
    cloth = np.asarray(photo(0)).astype(float)
    cloth = torch.from_numpy(cloth).permute(2, 0, 1)[None]
    layout = torch.nn.functional.interpolate(
        torch.nn.functional.avg_pool2d(cloth, 8), size=(64, 64), mode="bicubic"
    )
    images = []
    for seed in (1, 2):
        detail = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        fine = torch.nn.functional.interpolate(detail, size=(64, 64), mode="bilinear")
        images.append((layout + 8 * fine).clamp(0, 255).round().to(torch.uint8))
    small = seen(torch.cat(images)).thumbnails
    hashed = near.perceptual_hashes(small)
    proposed, _ = near.close_pairs(hashed)
    assert proposed.tolist() == [[0, 1]]
    assert len(near.near_copies(small, torch.ones(2, dtype=torch.bool))[0]) == 0


def test_blank_pictures_are_not_compared():
    small = torch.zeros(3, 1, 32, 32, dtype=torch.uint8)
    assert len(near.near_copies(small, torch.zeros(3, dtype=torch.bool))[0]) == 0
