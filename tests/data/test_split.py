"""Stratified splits: disjoint, deterministic, exact, and copies never apart."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lessonplan.data.split import share, stratified_split
from lessonplan.errors import DataError

labels_of = st.lists(st.integers(0, 3), min_size=1, max_size=80).map(torch.tensor)


@settings(max_examples=60, deadline=None)
@given(
    labels=labels_of,
    fractions=st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5]), max_size=2),
    seed=st.integers(0, 9),
)
def test_fractions_cut_everything_into_disjoint_strata(labels, fractions, seed):
    parts = stratified_split(labels, fractions, seed=seed)
    together = torch.cat(parts)
    assert sorted(together.tolist()) == list(range(len(labels)))
    for part, fraction in zip(parts, fractions, strict=False):
        for c in labels.unique().tolist():
            n = int((labels == c).sum())
            got = int((labels[part] == c).sum())
            assert got <= max(1, round(fraction * n + 1e-9) + 1)
            assert abs(got - fraction * n) <= 1
    for one, two in zip(parts, stratified_split(labels, fractions, seed=seed), strict=True):
        assert torch.equal(one, two)


@settings(max_examples=60, deadline=None)
@given(labels=labels_of, data=st.data())
def test_copies_never_land_in_two_parts(labels, data):
    n = len(labels)
    groups = torch.tensor(data.draw(st.lists(st.integers(0, max(1, n // 2)), min_size=n, max_size=n)))
    parts = stratified_split(labels, [0.3, 0.3], seed=data.draw(st.integers(0, 5)), groups=groups)
    assert len(torch.cat(parts).unique()) == sum(len(p) for p in parts)
    owners = [set(groups[p].tolist()) for p in parts]
    for i, one in enumerate(owners):
        for two in owners[i + 1 :]:
            assert not one & two
    # Only a sample with a copy elsewhere may be in no part.
    used = set(torch.cat(parts).tolist())
    for row in set(range(n)) - used:
        assert int((groups == groups[row]).sum()) > 1


def test_counts_are_exact_and_nested():
    labels = torch.arange(60) % 3
    few, _, rest = stratified_split(labels, [4, 2], seed=1)
    assert labels[few].bincount().tolist() == [4, 4, 4]
    assert len(rest) == 60 - 18
    more = stratified_split(labels, [9, 2], seed=1)[0]
    assert set(few.tolist()) <= set(more.tolist())


def test_seed_matters_and_global_generator_does_not():
    labels = torch.zeros(100, dtype=torch.int64)
    torch.rand(1)
    before = torch.random.get_rng_state()
    a, b = (stratified_split(labels, [50], seed=s)[0] for s in (0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert 10 < len(set(a.tolist()) & set(b.tolist())) < 40  # 25 expected
    counts = torch.zeros(100)
    for seed in range(200):
        counts[stratified_split(labels, [50], seed=seed)[0]] += 1
    assert counts.min() > 60  # every sample is drawn about 100 times
    assert counts.max() < 140


def test_copies_together_in_a_part_count_as_samples():
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    groups = torch.tensor([0, 0, 0, 3, 4, 5])
    first, _rest = stratified_split(labels, [2], seed=0, groups=groups)
    assert labels[first].tolist() == [0, 0, 1, 1]


def test_too_few_names_the_class():
    with pytest.raises(DataError, match=r"'frog' has only 1 .* 2 are wanted"):
        stratified_split(torch.tensor([0, 0, 1]), [2], seed=0, class_names=["cat", "frog"])
    with pytest.raises(DataError, match="'frog' has only 0"):
        stratified_split(torch.tensor([0, 0]), [2], seed=0, class_names=["cat", "frog"])


def test_share_leaves_one():
    assert [share(0.99, n) for n in (0, 1, 2, 3)] == [0, 0, 1, 2]
    assert share(0.001, 10) == 1
    assert share(0.0, 10) == 0
