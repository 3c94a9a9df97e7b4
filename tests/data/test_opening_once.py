"""Runs that follow each other open their data once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lessonplan as lp
from lessonplan.data import sources
from lessonplan.data.sources import opening_once


def folder_of(root: Path, each: int = 6, first: int = 40) -> Path:
    for name, grey in (("a", first), ("b", first + 120)):
        (root / name).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(np.full((8, 8, 3), grey + i, np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what was read."""
    seen: list[str] = []
    read = sources._read

    def counted(kind, where, options):
        seen.append(str(where))
        return read(kind, where, options)

    monkeypatch.setattr(sources, "_read", counted)
    return seen


def test_the_same_folder_is_read_once_and_split_by_each_seed(tmp_path: Path, reads: list[str]) -> None:
    spec = f"folder:{folder_of(tmp_path / 'set')}"
    apart = [lp.data.load(spec, seed=seed) for seed in (0, 1)]
    with opening_once():
        shared = [lp.data.load(spec, seed=seed) for seed in (0, 1)]
    assert len(reads) == 3
    assert shared[0].train.source is shared[1].train.source
    for ours, theirs in zip(shared, apart, strict=True):
        assert ours.fingerprint == theirs.fingerprint
        every = torch.arange(len(theirs.train))
        assert torch.equal(ours.train.fetch(every, 3)[0], theirs.train.fetch(every, 3)[0])
    assert shared[0].fingerprint != shared[1].fingerprint


def test_other_options_and_other_paths_are_read_again(tmp_path: Path, reads: list[str]) -> None:
    one, two = folder_of(tmp_path / "one"), folder_of(tmp_path / "two", each=8, first=80)
    with opening_once():
        assert lp.data.load(one).shape == (3, 8, 8)
        assert lp.data.load(one, image_size=16).shape == (3, 16, 16)
        for _ in range(2):
            lp.data.load(one, test=two)
    assert reads.count(str(two)) == 1


def test_what_is_new_is_seen_afterwards(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set")
    with opening_once():
        before = len(lp.data.load(root, test_fraction=0).train)
        Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(root / "a" / "new.png")
        assert len(lp.data.load(root, test_fraction=0).train) == before
    assert len(lp.data.load(root, test_fraction=0).train) == before + 1


def test_a_test_part_given_for_one_load_is_not_the_next_ones(tmp_path: Path) -> None:
    one, two = folder_of(tmp_path / "one"), folder_of(tmp_path / "two", each=8, first=80)
    with opening_once():
        assert len(lp.data.load(one, test=two).test) == 16
        assert len(lp.data.load(one).test) == 6
