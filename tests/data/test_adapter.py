"""Data set objects of others: imitations of torchvision's and Hugging Face's."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset

from lessonplan.data import load
from lessonplan.errors import DataError, LessonplanWarning

RNG = np.random.default_rng(4)
PIXELS = RNG.integers(0, 256, (12, 9, 8, 3), dtype=np.uint8)


class Torchvision:
    """Items are (PIL image, label); labels and names are attributes; counts how many images were opened."""

    def __init__(self, form="pil", bad=()):
        self.targets, self.classes = [i % 3 for i in range(12)], ["ant", "bee", "cow"]
        self.form, self.bad, self.opened = form, bad, 0

    def __len__(self):
        return 12

    def __getitem__(self, i):
        self.opened += 1
        if i in self.bad:
            raise OSError("image file is truncated")
        array = PIXELS[i]
        image = {
            "pil": Image.fromarray,
            "array": lambda a: a,
            "tensor": lambda a: torch.from_numpy(a).permute(2, 0, 1),
            "float": lambda a: torch.from_numpy(a).permute(2, 0, 1).float() / 255,
            "normalised": lambda a: torch.from_numpy(a).permute(2, 0, 1).float() / 60 - 2,
        }[self.form](array)
        return image, self.targets[i]


class ClassLabel:
    names = ("ant", "bee", "cow")


class HuggingFace:
    """Items are dictionaries; columns can be read by name."""

    def __init__(self, image="img", label="label"):
        self.column_names = [image, label]
        self.features = {image: None, label: ClassLabel()}

    def __len__(self):
        return 12

    def __getitem__(self, key):
        image, label = self.column_names
        if key == label:
            return [i % 3 for i in range(12)]
        return {image: Image.fromarray(PIXELS[key]), label: key % 3}


class Plain:
    """Items are (tensor, label) and nothing else is known."""

    def __len__(self):
        return 12

    def __getitem__(self, i):
        return PIXELS[i], np.int64(10 * (i % 3))


def same(data) -> None:
    assert np.array_equal(data.train.raw(torch.arange(12)).permute(0, 2, 3, 1).numpy(), PIXELS)
    assert data.train.labels.tolist() == [0, 1, 2] * 4


@pytest.mark.parametrize("form", ["pil", "array", "tensor", "float"])
@pytest.mark.parametrize("limit", [0, 2**30])
def test_torchvision_style(form, limit):
    data = load(Torchvision(form), test_fraction=0, memory_limit=limit)
    same(data)
    assert data.class_names == ("ant", "bee", "cow")
    assert data.description["in_memory"] == (limit > 0)
    assert data.description["duplicates"]["checked"] == (limit > 0)


def test_streamed_by_workers():
    kept, data = (
        load(Torchvision(), test_fraction=0),
        load(Torchvision(), test_fraction=0, memory_limit=0, workers=2),
    )
    for epoch in (0, 1):
        for x, y in data.train.batches([torch.tensor([3, 11])], epoch):
            assert torch.equal(x, kept.train.fetch(torch.tensor([3, 11]), epoch)[0])
            assert y.tolist() == [0, 2]
    data.close()


@pytest.mark.parametrize(
    ("image", "label"), [("img", "label"), ("jpg", "cls"), ("image", "target"), ("images", "y")]
)
def test_hugging_face_style(image, label):
    data = load(HuggingFace(image, label), test_fraction=0)
    same(data)
    assert data.class_names == ("ant", "bee", "cow")


def test_columns_of_other_names():
    with pytest.raises(DataError, match=r"keys img, kind: one of label, .* is needed .*rename_column"):
        load(HuggingFace("img", "kind"), test_fraction=0)


def test_dictionary_of_parts():
    with pytest.raises(DataError, match="every training sample"):
        load({"train": HuggingFace(), "test": HuggingFace()})
    data = load({"train": Subset(Torchvision(), range(9)), "validation": Subset(Torchvision(), range(9, 12))})
    assert (len(data.train), len(data.test)) == (9, 3)
    assert data.test.labels.tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="named 'train'"):
        load({"test": HuggingFace()})


def test_items_are_read_once_for_label_and_image():
    dataset = Torchvision()
    load(dataset, test_fraction=0)
    # the first, each twice to see whether it stays, one probe of each, one reading of each with its label
    assert dataset.opened <= 1 + 2 * 12 + 12 + 12
    subset = Subset(Torchvision(), [4, 2, 0])
    assert load(subset, test_fraction=0).train.labels.tolist() == [1, 2, 0]
    assert load(subset, test_fraction=0).class_names == ("ant", "bee", "cow")


def test_plain_items_and_labels_that_are_not_numbers_in_a_row():
    data = load(Plain(), test_fraction=0)
    same(data)
    assert data.class_names == ("0", "10", "20")


def test_bad_items():
    with pytest.raises(DataError, match=r"1 of 12 .*sample 7 \(image file is truncated\).*on_bad='skip'"):
        load(Torchvision(bad=(7,)))
    for limit in (0, 2**30):
        with pytest.warns(LessonplanWarning, match="sample 7"):
            data = load(Torchvision(bad=(7,)), on_bad="skip", test_fraction=0, memory_limit=limit)
        assert data.train.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 2, 0, 1, 2]
        assert np.array_equal(data.train.raw(torch.tensor([7]))[0].permute(1, 2, 0).numpy(), PIXELS[8])


def test_items_that_are_none():
    with pytest.raises(DataError, match="before normalisation"):
        load(Torchvision("normalised"))
    with pytest.raises(DataError, match="holds no samples"):
        load(Subset(Torchvision(), []))

    class Odd(Plain):
        def __getitem__(self, i):
            return 5

    with pytest.raises(DataError, match="items must be"):
        load(Odd())
    with pytest.raises(DataError, match="cannot be used"):
        load(5)


def test_items_of_features():
    class Features(Plain):
        def __getitem__(self, i):
            return np.arange(4.0) + i, i % 3

    data = load(Features(), test_fraction=0)
    assert data.shape == (4,)
    assert data.train.raw(torch.tensor([2])).tolist() == [[2.0, 3.0, 4.0, 5.0]]
