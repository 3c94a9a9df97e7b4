"""Labels: understood, or refused in a sentence that names the sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from lessonplan.data import load
from lessonplan.data.labels import Unlabelled, to_labels
from lessonplan.errors import DataError

NAMES = ["b", "a", "b"]


@pytest.mark.parametrize(
    ("given_labels", "numbers", "names"),
    [
        (NAMES, [1, 0, 1], ("a", "b")),
        (np.array(NAMES, dtype=object), [1, 0, 1], ("a", "b")),
        (np.array([b"b", b"a", b"b"]), [1, 0, 1], ("a", "b")),
        (np.array([b"b", b"a", b"b"], dtype=object), [1, 0, 1], ("a", "b")),
        (np.array([2, 1, 2], dtype=object), [1, 0, 1], ("1", "2")),
        (np.array([np.int8(2), 1, np.uint64(2)], dtype=object), [1, 0, 1], ("1", "2")),
        (np.array([True, False, True], dtype=object), [1, 0, 1], ("False", "True")),
        (np.array([1.0, 0.0, 1.0], dtype=object), [1, 0, 1], ("0", "1")),
        (torch.tensor([2, 1, 2], dtype=torch.uint8), [1, 0, 1], ("1", "2")),
        ([torch.tensor(2), torch.tensor(1), torch.tensor(2)], [1, 0, 1], ("1", "2")),
        (np.array([[2], [1], [2]]), [1, 0, 1], ("1", "2")),
        (torch.tensor([1, -1, 1]), [1, 0, 1], ("-1", "1")),
        (np.float16([2, 1, 2]), [1, 0, 1], ("1", "2")),
    ],
)
def test_labels_of_many_kinds(given_labels, numbers, names) -> None:
    found, known = to_labels(given_labels)
    assert found.tolist() == numbers
    assert known == names


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy 1 has no strings of any length")
def test_strings_of_numpy_2() -> None:
    labels = to_labels(np.array(NAMES, dtype=np.dtypes.StringDType()))
    assert (labels[0].tolist(), labels[1]) == ([1, 0, 1], ("a", "b"))


def test_pandas_columns() -> None:
    pd = pytest.importorskip("pandas")
    for column in (
        pd.Series(NAMES),
        pd.Series(NAMES, dtype="string"),
        pd.Series(NAMES, dtype="category"),
        pd.Series(NAMES, index=[7, 8, 9]),
    ):
        assert to_labels(column)[0].tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="sample 1 has no label"):
        to_labels(pd.Series(["a", None], dtype="string"))


@pytest.mark.parametrize(
    ("given_labels", "words"),
    [
        (["a", None], "sample 1 has no label"),
        ([1.0, float("nan")], "sample 1 has no label"),
        ([1.0, float("inf")], "sample 1 has no label"),
        ([0, 0.5], "sample 1 has the label 0.5"),
        (np.array(["a", 1], dtype=object), r"several types \(int, str\)"),
        ([[0], [0, 1]], r"sample 0 has several labels \(\[0\]\)"),
        ([{"a"}, {"b"}], "several types|labels of type"),
        (np.eye(3), r"one-hot: give labels.argmax\(1\)"),
        (np.array([[1, 1, 0], [0, 1, 0]]), "1 of these samples have none or several"),
        (torch.tensor([[0.5, 0.5], [1.0, 0.0]]), "rows of shares"),
        (np.zeros((2, 3, 4)), "one class number or name a sample"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "cannot be used"),
        ([1j, 2j], "cannot be used"),
    ],
)
def test_what_is_no_label(given_labels, words) -> None:
    with pytest.raises(DataError, match=words):
        to_labels(given_labels)


def test_minus_one_says_unlabelled() -> None:
    with pytest.raises(Unlabelled, match="all 2 labels"):
        to_labels([-1, -1])
    with pytest.raises(Unlabelled, match="1 of 3 labels"):
        to_labels([-1, 0, 1])


@pytest.mark.parametrize("kind", [list, tuple, lambda words: np.array(words, dtype=object)])
def test_names_that_end_in_a_zero_are_told_apart(kind) -> None:
    numbers, names = to_labels(kind(["a\0", "a", "\0", "a\0"]))
    assert names == ("\0", "a", "a\0")
    assert numbers.tolist() == [2, 1, 0, 2]
    assert to_labels(kind([b"a\0", b"a"]))[1] == ("a", "a\0")


@given(st.lists(st.integers(0, 50), min_size=1) | st.lists(st.text(min_size=1, max_size=4), min_size=1))
def test_names_and_numbers_say_what_was_given(labels) -> None:
    numbers, names = to_labels(labels)
    assert [names[i] for i in numbers.tolist()] == [str(label) for label in labels]
    assert len(set(names)) == len(names)


# -- data set objects ----------------------------------------------------------------------------------

X = np.random.default_rng(0).integers(0, 256, (24, 6, 6, 3), dtype=np.uint8)


class Items:
    """A data set whose attributes say one thing and whose items may say another."""

    def __init__(self, change=None, classes=("cat", "dog", "wolf")) -> None:
        self.targets, self.change = [i % 3 for i in range(24)], change
        self.classes = list(classes)

    def __len__(self) -> int:
        return 24

    def __getitem__(self, i: int):
        y = self.targets[i]
        return X[i], y if self.change is None else self.change(y)


class Other(Items):
    """Other pictures."""

    def __getitem__(self, i: int):
        x, y = super().__getitem__(i)
        return 255 - x, y


def test_items_say_what_their_labels_are() -> None:
    assert load(Items(), test_fraction=0).class_names == ("cat", "dog", "wolf")
    merged = Items(lambda y: int(y > 0))
    for limit in (0, 2**30):  # streamed, in memory
        data = load(merged, test_fraction=0, memory_limit=limit)
        assert data.class_names == ("0", "1")  # names of the three classes would be wrong
        assert data.train.labels.tolist() == [int(i % 3 > 0) for i in range(24)]
    assert load(Items(lambda y: "xyz"[y]), test_fraction=0).class_names == ("x", "y", "z")
    part = load(Subset(merged, [0, 1, 5]), test_fraction=0)
    assert part.train.labels.tolist() == [0, 1, 1]
    both = load(ConcatDataset([merged, merged]), test_fraction=0)
    assert len(both.train) == 48


def test_a_label_that_is_a_tensor_of_one() -> None:
    images = torch.from_numpy(X).permute(0, 3, 1, 2)
    data = load(TensorDataset(images, torch.arange(24).view(-1, 1) % 2), test_fraction=0)
    assert data.train.labels.tolist() == [i % 2 for i in range(24)]
    with pytest.raises(DataError, match="one-hot"):
        load(TensorDataset(images, torch.eye(3)[torch.arange(24) % 3]))


def test_random_transforms_are_refused() -> None:
    rng = np.random.default_rng(1)

    class Flipping(Items):
        def __getitem__(self, i: int):
            x, y = super().__getitem__(i)
            return x[:, ::-1] if rng.random() < 0.5 else x, y

    for spec in (Flipping(), Subset(Flipping(), range(12)), {"train": Items(), "test": Flipping()}):
        with pytest.raises(DataError, match="differs from one reading to the next: take random transforms out"):
            load(spec)


def test_parts_without_labels_are_left_out() -> None:
    unlabelled = Items(lambda y: -1)
    data = load({"train": Items(), "test": unlabelled, "validation": Other()}, val_fraction=0.2)
    assert data.description["unlabelled_parts"] == ["test"]
    assert data.description["test_part"] == "validation"
    assert len(data.test) == 24
    alone = load({"train": Items(), "test": unlabelled})
    assert alone.description["test"] == "0.5 of every class"
    with pytest.raises(Unlabelled, match="all 24 labels are -1"):
        load(unlabelled)


def test_a_validation_part_decides() -> None:
    data = load({"train": Items(), "validation": Subset(Other(), range(6)), "test": Subset(Other(), range(6, 24))})
    assert (len(data.train), len(data.val), len(data.test)) == (24, 6, 18)
    assert torch.equal(data.val.raw(torch.arange(6)), 255 - torch.from_numpy(X[:6]).permute(0, 3, 1, 2))


def test_all_of_one_class() -> None:
    with pytest.raises(DataError, match="all samples are of one class, '3'"):
        load((X, np.full(24, 3)))
