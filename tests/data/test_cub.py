"""CUB-200-2011's lists, and boxes that follow their images through resizing."""

import numpy as np
import pytest
import torch
from PIL import Image

from lessonplan.data import load
from lessonplan.data.pixels import place_box
from lessonplan.errors import DataError

SIZES = [(20, 40), (40, 20), (24, 24), (30, 50), (20, 20), (64, 32)]  # height, width


def birds(root, n=6):
    """An imitation: a white rectangle on black is the bird; images 1, 2, 4 and 5 are for training."""
    lines = {name: [] for name in ("images", "train_test_split", "bounding_boxes", "image_class_labels")}
    for i in range(n):
        height, width = SIZES[i]
        folder = ("001.Crow", "002.Owl")[i % 2]
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        left, top, wide, tall = width // 4, height // 4, width // 2, height // 2
        pixels[top : top + tall, left : left + wide] = 255
        pixels[0, 0] = i  # no two alike
        (root / "images" / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / "images" / folder / f"bird_{i}.png")
        lines["images"].append(f"{i + 1} {folder}/bird_{i}.png")
        lines["train_test_split"].append(f"{i + 1} {int(i % 3 != 2)}")
        lines["bounding_boxes"].append(f"{i + 1} {left}.0 {top}.0 {wide}.0 {tall}.0")
        lines["image_class_labels"].append(f"{i + 1} {1 + i % 2}")
    for name, content in lines.items():
        (root / f"{name}.txt").write_text("\n".join(content) + "\n")
    (root / "classes.txt").write_text("1 001.Crow\n2 002.Owl\n")


def test_lists_are_followed(tmp_path):
    birds(tmp_path / "CUB_200_2011")
    data = load(tmp_path)  # the folder around it does, too
    assert data.class_names == ("001.Crow", "002.Owl")
    assert data.train.labels.tolist() == [0, 1, 1, 0]
    assert data.test.labels.tolist() == [0, 1]
    direct = load(f"folder:{tmp_path / 'CUB_200_2011'}")
    assert direct.fingerprint == data.fingerprint
    (tmp_path / "CUB_200_2011" / "classes.txt").unlink()
    assert load(tmp_path).fingerprint == data.fingerprint  # the folders' names are the classes


@pytest.mark.parametrize("limit", [0, 2**30])
def test_boxes_surround_the_bird_after_resizing(tmp_path, limit):
    birds(tmp_path)
    data = load(tmp_path, image_size=32, memory_limit=limit, workers=0)
    for view in (data.train, data.test):
        assert view.boxes.shape == (len(view), 4)
        for pixels, (x0, y0, x1, y1) in zip(view.raw(torch.arange(len(view))), view.boxes.tolist(), strict=True):
            ys, xs = torch.nonzero(pixels[0] > 127, as_tuple=True)
            found = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
            assert np.allclose(found, (x0, y0, x1, y1), atol=1.0)
    assert torch.equal(data.train.with_augment(None).boxes, data.train.boxes)


def test_a_box_worked_by_hand():
    # 20 x 40 to cover 10 x 10: halved to 10 x 20, then 5 columns are cut on either side.
    assert place_box((0, 0, 40, 20), (20, 40), (10, 10)) == (0, 0, 10, 10)
    assert place_box((12, 4, 24, 10), (20, 40), (10, 10)) == (1, 2, 7, 5)
    assert place_box((3, 4, 5, 6), (9, 9), (9, 9)) == (3, 4, 5, 6)


def test_sets_without_boxes_have_none(tmp_path):
    birds(tmp_path)
    (tmp_path / "bounding_boxes.txt").unlink()
    assert load(tmp_path).train.boxes is None
    assert load("digits").train.boxes is None


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("bounding_boxes.txt", "3 6.0", "9 6.0", "no line for image 3"),
        ("bounding_boxes.txt", "12.0 12.0", "12.0 0.0", "the box 6.0 6.0 12.0 0.0"),
        ("bounding_boxes.txt", "3 6.0", "3 left", "image 3 the box left"),
        ("train_test_split.txt", "4 1\n", "", "no line for image 4"),
        ("train_test_split.txt", "4 1", "4 1 1", "line 4: expected a number and 1 more"),
        ("images.txt", "bird_1.png", "bird_7.png", "which is not in"),
        ("image_class_labels.txt", "2 2", "2 3", "image 2 no class"),
        ("train_test_split.txt", " 1", " 0", "no image for training"),
    ],
)
def test_damaged_lists(tmp_path, file, old, new, says):
    birds(tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new))
    with pytest.raises(DataError, match=says):
        load(tmp_path)


def test_a_missing_list(tmp_path):
    birds(tmp_path)
    (tmp_path / "train_test_split.txt").unlink()
    with pytest.raises(DataError, match=r"train_test_split\.txt is missing"):
        load(tmp_path)
