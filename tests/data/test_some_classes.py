"""Some of a set's classes: the same samples under other numbers, in every part, also where a run is evaluated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import lessonplan as lp
from lessonplan.data.arrays import TensorSource
from lessonplan.data.base import Parts
from lessonplan.data.some_classes import class_numbers, of_classes
from lessonplan.errors import ConfigError
from lessonplan.lab.evaluation.running import evaluate
from lessonplan.lab.evaluation.subject import run_subject


@pytest.mark.parametrize(
    ("classes", "digits"),
    [(3, [0, 1, 2]), ("3", [0, 1, 2]), ("7,3", [3, 7]), (["8", "1", "4"], [1, 4, 8]), (None, list(range(10)))],
)
def test_the_samples_are_those_of_the_classes_under_new_numbers(classes, digits) -> None:
    data = lp.data.load("digits", classes=classes, val_fraction=0.2, test_fraction=0.3, augment="none")
    bunch = load_digits()
    assert data.class_names == tuple(str(digit) for digit in digits)
    seen = []
    for view in (data.train, data.val, data.test):
        rows = torch.arange(len(view))
        pixels, labels = view.raw(rows), view.fetch(rows)[1]
        seen += [(p.numpy().tobytes(), digits[k]) for p, k in zip(pixels, labels.tolist(), strict=True)]
    wanted = [
        (lp.data.load("digits").train.source.read(torch.tensor([row]))[0].numpy().tobytes(), label)
        for row, label in enumerate(bunch.target)
        if label in digits
    ]
    assert set(seen) == set(wanted)
    assert sum(data.description["sizes"].values()) == len(seen)


@given(
    labels=st.lists(st.integers(0, 4), min_size=12, max_size=30).map(lambda more: [*range(5), *more]),
    chosen=st.sets(st.integers(0, 4), min_size=2).map(sorted),
    held=st.integers(0, 10),
)
@settings(max_examples=40, deadline=None)
def test_rows_of_every_part_are_found_again(labels: list[int], chosen: list[int], held: int) -> None:
    x, y = torch.arange(len(labels))[:, None].float(), torch.tensor(labels)
    source = TensorSource(x, y, tuple("abcde"))
    val = torch.arange(len(labels))[-held:] if held else torch.arange(0)
    parts = of_classes(Parts(source, source, val=val), ["abcde"[k] for k in reversed(chosen)])
    rows = [row for row, label in enumerate(labels) if label in chosen]
    for part in (parts.train, parts.test):
        assert part is not None
        assert part.read(torch.arange(len(part)))[:, 0].tolist() == rows
        assert [chosen[k] for k in part.labels.tolist()] == [labels[row] for row in rows]
        assert part.class_names == tuple("abcde"[k] for k in chosen)
    assert parts.val is not None
    kept = [row for row in val.tolist() if labels[row] in chosen]
    assert parts.train.read(parts.val)[:, 0].tolist() == kept


def test_a_chosen_set_is_another_set_and_equal_choices_are_the_same() -> None:
    prints = [lp.data.load("digits", classes=c).fingerprint for c in (None, 3, "0,1,2", "2,1,0", "0,1,3")]
    assert prints[1] == prints[2] == prints[3]
    assert len(set(prints)) == 3


def test_a_folder_with_parts_and_a_test_set_of_its_own(tmp_path: Path) -> None:
    from PIL import Image

    for part, count in (("train", 4), ("validation", 2), ("test", 3)):
        for name in ("ant", "bee", "cow"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for n in range(count):
                shade = np.full((8, 8, 3), 20 * n + {"ant": 1, "bee": 2, "cow": 3}[name], np.uint8)
                shade[0, 0, 0] = {"train": 1, "validation": 2, "test": 3}[part]
                Image.fromarray(shade).save(folder / f"{n}.png")
    data = lp.data.load(f"folder:{tmp_path}", classes="cow,ant")
    assert data.class_names == ("ant", "cow")
    assert [len(data.train), len(data.val), len(data.test)] == [8, 4, 6]
    names = data.test.file_names(torch.arange(6))
    assert {name.split("/")[-2] for name in names} == {"ant", "cow"}
    given_apart = lp.data.load(f"folder:{tmp_path / 'train'}", test=f"folder:{tmp_path / 'test'}", classes=2)
    assert given_apart.class_names == ("ant", "bee")
    assert len(given_apart.test) == 6


def test_a_run_of_some_classes_is_evaluated_on_them(tmp_path: Path) -> None:
    data = lp.data.load("digits", classes="1,5", per_class=20)
    run = lp.fit("fcnet-8", data, budget="2 steps", out=tmp_path / "run")
    assert run.result["class_names"] == ["1", "5"]
    subject = run_subject(tmp_path / "run")
    assert subject.data.fingerprint == data.fingerprint
    found = evaluate(subject, out=tmp_path / "judged")
    assert found["parts"]["classification"]["accuracy"] == run.result["test"]["accuracy"]


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (1, "give 2 to 10"),
        ("11", "give 2 to 10"),
        ("3,3", "leaves nothing to tell apart: give two"),
        ("0,eins", "unknown class 'eins'"),
        (True, "how many, or names"),
        (2.0, "how many, or names"),
    ],
)
def test_what_cannot_be_chosen_is_told(classes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        class_numbers(classes, [str(digit) for digit in range(10)])
