"""A view in a DataLoader of PyTorch: the same pixels as ``fetch`` gives, each epoch's own."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

import lessonplan as lp


@pytest.fixture
def train() -> lp.data.View:
    return lp.data.load("digits", per_class=4, augment="crop:2").train


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_batches_are_those_of_fetch_epoch_by_epoch(train: lp.data.View, workers: int, persistent: bool) -> None:
    if persistent and not workers:
        pytest.skip("there are no workers to keep")
    loader = DataLoader(
        train,
        batch_size=16,
        num_workers=workers,
        persistent_workers=persistent,
        multiprocessing_context="fork" if workers else None,
    )
    seen = []
    for epoch in range(3):
        for indices, (x, y) in zip(torch.arange(40).split(16), loader, strict=True):
            wanted = train.fetch(indices, epoch)
            assert torch.equal(x, wanted[0]), epoch
            assert torch.equal(y, wanted[1])
        seen.append(x)
    assert not torch.equal(seen[0], seen[1])  # crops differ


def test_a_resumed_epoch_is_said(train: lp.data.View) -> None:
    train.set_epoch(5)
    x, y = train[3]
    wanted = train.fetch(torch.tensor([3]), 5)
    assert torch.equal(x, wanted[0][0])
    assert int(y) == int(wanted[1][0])
    assert torch.equal(train[3][0], train.fetch(torch.tensor([3]), 6)[0][0])


def test_samples_drawn_twice_in_a_batch_get_a_draw_each(train: lp.data.View) -> None:
    train[3]
    found = train.__getitems__([3, 8])
    assert torch.equal(found[0][0], train.fetch(torch.tensor([3]), 1)[0][0])
    assert torch.equal(found[1][0], train.fetch(torch.tensor([8]), 0)[0][0])


def test_positions_from_the_end_and_beyond_it() -> None:
    view = lp.data.load("digits", per_class=4, augment="none").train
    assert torch.equal(view[-1][0], view.fetch(torch.tensor([39]))[0][0])
    assert len(list(view)) == 40  # an iteration ends by IndexError
    with pytest.raises(IndexError):
        view[40]


def test_a_view_in_workers_mixes_in_one_line(train: lp.data.View) -> None:
    mix = lp.mix.SumAugment(k=4, num_classes=10)
    (x, target), *_ = DataLoader(train, batch_size=20, collate_fn=mix, drop_last=True)
    assert x.shape == (5, 1, 8, 8)
    assert torch.allclose(target.sum(1), torch.ones(5))
