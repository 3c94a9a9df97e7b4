"""Splits of the labelled samples: disjoint, stratified, keyed, copies together, the test part untouched."""

from __future__ import annotations

import pytest
import torch

from lessonplan.data import load
from lessonplan.data.resplit import all_labelled, check_labelled, held_back, labelled, resplit
from lessonplan.errors import ConfigError, DataError


def test_parts_are_disjoint_stratified_and_never_the_test_part() -> None:
    data = load("digits", per_class=10, seed=3)
    assert data.test is not None
    tested, before = set(data.test.rows.tolist()), labelled(data).tolist()
    seen = set()
    for seed in range(6):
        cut = resplit(data, 0.2, seed)
        assert cut.val is not None
        assert cut.test is None
        train, val = cut.train.rows.tolist(), cut.val.rows.tolist()
        assert sorted(train + val) == before
        assert not tested & set(train + val)
        assert torch.bincount(cut.val.labels, minlength=10).tolist() == [2] * 10
        assert cut.val.augment is None
        seen.add(tuple(val))
        again = resplit(data, 0.2, seed)
        assert again.fingerprint == cut.fingerprint
        assert again.train.rows.tolist() == train
    assert len(seen) == 6


def test_what_is_normalised_is_measured_on_training_samples_alone() -> None:
    x = torch.cat([torch.zeros(8, 3), torch.full((8, 3), 10.0)]) + torch.arange(16.0)[:, None] / 100
    data = load((x, torch.arange(16) % 2), test_fraction=0)
    cut = resplit(data, 0.25, seed=0)
    assert cut.val is not None
    torch.testing.assert_close(cut.mean, x[cut.train.rows].mean(0))
    batch, _ = cut.train.fetch(torch.arange(len(cut.train)))
    torch.testing.assert_close(batch.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.tensor(cut.preprocessing.mean), cut.mean)


def test_what_is_held_back_is_a_test_part_that_nothing_decides_by() -> None:
    data = load("digits", per_class=10, seed=3)
    assert data.test is not None
    cut, with_val = (held_back(data, 0.2, 5, decides=decides) for decides in (False, True))
    assert cut.val is None
    assert cut.test is not None
    assert with_val.test is not None
    assert with_val.val is not None
    assert cut.test.rows.tolist() == with_val.test.rows.tolist()
    inner = set(with_val.train.rows.tolist()) | set(with_val.val.rows.tolist())
    assert inner == set(cut.train.rows.tolist())
    assert not inner & set(cut.test.rows.tolist())
    assert not set(data.test.rows.tolist()) & (inner | set(cut.test.rows.tolist()))
    x, _ = with_val.test.fetch(torch.arange(3))
    raw = data.test.source.read(with_val.test.rows[:3]).float() / 255
    torch.testing.assert_close(x, (raw - with_val.mean[:, None, None]) / with_val.std[:, None, None])
    own = load("digits", per_class=10, val_per_class=5, seed=3)
    fixed = [held_back(own, 0.2, seed, decides=False).test for seed in (0, 1)]
    assert own.val is not None
    assert all(part is not None and part.rows.tolist() == own.val.rows.tolist() for part in fixed)


def test_copies_stay_together() -> None:
    x = torch.arange(20.0).repeat_interleave(2)[:, None]
    data = load((x, torch.arange(20).repeat_interleave(2) % 2), test_fraction=0)
    for seed in range(8):
        cut = resplit(data, 0.3, seed)
        assert cut.val is not None
        assert not set(x[cut.train.rows].flatten().tolist()) & set(x[cut.val.rows].flatten().tolist())


def test_all_labelled_samples_train_and_the_test_part_stays() -> None:
    data = load("digits", per_class=10, val_fraction=0.2, seed=1)
    whole = all_labelled(data)
    assert whole.val is None
    assert whole.test is not None
    assert data.test is not None
    assert whole.train.rows.tolist() == labelled(data).tolist()
    assert whole.test.rows.tolist() == data.test.rows.tolist()
    x, _ = whole.test.fetch(torch.arange(4))
    raw = data.test.raw(torch.arange(4)).float() / 255
    torch.testing.assert_close(x, (raw - whole.mean[:, None, None]) / whole.std[:, None, None])
    none = load("digits", per_class=10, seed=1)
    assert all_labelled(none) is none


def test_rows_that_belong_together_are_never_on_two_sides_nor_are_their_copies() -> None:
    """Rows 0, 1 and 2 are near copies, 3 equals 0: four of class 0's ten samples are one."""
    x = torch.arange(20.0)[:, None]
    x[3] = x[0]
    data = load((x, torch.arange(20) // 10), test_fraction=0)
    near = {0, 1, 2, 3}
    apart, sides = 0, set()
    for seed in range(12):
        alone = resplit(data, 0.3, seed)
        assert alone.val is not None
        apart += bool(near & set(alone.val.rows.tolist())) and bool(near & set(alone.train.rows.tolist()))
        cut = held_back(data, 0.3, seed, decides=True, together=[[0, 1, 2, 3]])
        parts = {"train": cut.train, "val": cut.val, "test": cut.test}
        found = {name for name, part in parts.items() if part is not None and near & set(part.rows.tolist())}
        assert len(found) == 1
        sides |= found
        assert len(cut.test or ()) == 6  # as many are held back as ever
    assert apart > 3  # without it they are
    assert len(sides) > 1


def test_a_class_of_one_sample_many_times_cannot_be_judged() -> None:
    data = load((torch.rand(10, 2), torch.arange(10) // 5), test_fraction=0)
    resplit(data, 0.2, 0, together=[[5, 6, 7, 8]])
    with pytest.raises(DataError, match="samples of class '1' are copies of one another"):
        resplit(data, 0.2, 0, together=[[5, 6, 7, 8, 9]])


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_of_one_or_two_samples_is_named(count: int) -> None:
    y = torch.tensor([0, 0, 0, 1, 1, 1, *([2] * count)])
    with pytest.raises(DataError, match=f"class '2' has {count} labelled samples?: at least 3 of every class"):
        check_labelled(load((torch.rand(len(y), 2), y), test_fraction=0))
    check_labelled(load((torch.rand(6, 2), y[:6]), test_fraction=0))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_a_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        resplit(load("digits", per_class=5), fraction, 0)
