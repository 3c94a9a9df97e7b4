"""Image folders: class folders, train beside test, Tiny-ImageNet's annotations, bad files, streaming."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lessonplan.data import load
from lessonplan.errors import DataError, LessonplanWarning

RNG = np.random.default_rng(0)


def picture(path: Path, size=(12, 10), grey=False) -> np.ndarray:
    """Write random pixels (H, W given) losslessly; returns them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, size if grey else (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def classes(root: Path, names=("cat", "dog"), n=6, **how) -> dict[str, np.ndarray]:
    return {f"{c}/{i}": picture(root / c / f"{i}.png", **how) for c in names for i in range(n)}


def test_class_folders_keep_pixels_and_names(tmp_path):
    written = classes(tmp_path)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "cat" / "._0.png").write_text("no image either")
    data = load(f"folder:{tmp_path}", test_fraction=0.0, augment="none")
    assert data.class_names == ("cat", "dog")
    assert data.shape == (3, 12, 10)
    assert data.test is None
    assert data.description["images"] == "12 x 10 pixels as they are"
    raw = data.train.raw(torch.arange(12))
    for place, pixels in enumerate(written.values()):  # written in the order of classes and names
        assert np.array_equal(raw[place].permute(1, 2, 0).numpy(), pixels)
    assert data.train.labels.tolist() == [0] * 6 + [1] * 6


def test_train_beside_test(tmp_path):
    classes(tmp_path / "train")
    written = classes(tmp_path / "test", n=2)
    classes(tmp_path / "val", n=1)
    data = load(tmp_path, test_fraction=0.3)
    assert (len(data.train), len(data.val)) == (12, 2)
    assert len(data.test) == 4
    assert np.array_equal(data.test.raw(torch.tensor([0]))[0].permute(1, 2, 0).numpy(), written["cat/0"])
    assert data.description["test_folder"] == "test"
    assert data.description["validation_folder"] == "val"
    assert load(tmp_path, val_fraction=0.0).val is None
    assert len(load(tmp_path, val_per_class=1).val) == 2


def test_validation_folder_is_the_test_set_where_there_is_no_other(tmp_path):
    classes(tmp_path / "train")
    classes(tmp_path / "val", names=("dog",), n=3)
    data = load(tmp_path)
    assert data.test.labels.tolist() == [1, 1, 1]


def test_tiny_imagenet(tmp_path):
    for c in ("n01", "n02"):
        for i in range(3):
            picture(tmp_path / "train" / c / "images" / f"{c}_{i}.png", (8, 8))
        (tmp_path / "train" / c / f"{c}_boxes.txt").write_text("x")
    for i in range(4):
        picture(tmp_path / "val" / "images" / f"val_{i}.png", (8, 8))
        picture(tmp_path / "test" / "images" / f"test_{i}.png", (8, 8))
    lines = [f"val_{i}.png\tn0{1 + i % 2}\t0\t1\t5\t{4 + i}" for i in range(4)]
    (tmp_path / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    data = load(f"folder:{tmp_path}")
    assert data.class_names == ("n01", "n02")
    assert len(data.train) == 6
    assert data.test.labels.tolist() == [0, 1, 0, 1]
    assert data.test.boxes.tolist() == [[0, 1, 6, 5 + i] for i in range(4)]  # first and last pixel are inside
    assert load(tmp_path, image_size=4).test.boxes[3].tolist() == [0, 0.5, 3, 4]
    assert data.train.boxes is None
    (tmp_path / "val" / "val_annotations.txt").write_text("val_9.png\tn01\n")
    with pytest.raises(DataError, match=r"line 1, names val_9.png"):
        load(f"folder:{tmp_path}")
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.png\tn09\n")
    with pytest.raises(DataError, match=r"line 1: expected"):
        load(f"folder:{tmp_path}")


def test_grey_only_if_all_are(tmp_path):
    classes(tmp_path, grey=True)
    assert load(tmp_path).shape == (1, 12, 10)
    picture(tmp_path / "dog" / "colour.png")
    assert load(tmp_path).shape == (3, 12, 10)


def test_sizes_that_differ(tmp_path):
    classes(tmp_path)
    picture(tmp_path / "cat" / "wide.png", (20, 100))
    data = load(tmp_path)
    assert data.shape == (3, 64, 64)
    assert "resized to cover 64 x 64" in data.description["images"]
    assert load(tmp_path, image_size=16).shape == (3, 16, 16)
    assert load(tmp_path, image_size=(8, 9)).shape == (3, 8, 9)


def test_resize_covers_and_crops_the_centre(tmp_path):
    wide = np.zeros((10, 40, 3), dtype=np.uint8)
    wide[:, 15:25] = 200  # the middle quarter is the square that stays
    for c in "ab":
        (tmp_path / c).mkdir()
        Image.fromarray(wide).save(tmp_path / c / "0.png")
    data = load(tmp_path, image_size=10, test_fraction=0, augment="none")
    assert (data.train.raw(torch.tensor([0])) == 200).all()


def test_streamed_equals_decoded(tmp_path):
    classes(tmp_path / "train")
    classes(tmp_path / "test", n=2)
    kept = load(tmp_path, seed=3)
    streamed = load(tmp_path, seed=3, memory_limit=0, workers=2)
    assert kept.description["in_memory"]
    assert not streamed.description["in_memory"]
    assert torch.equal(kept.mean, streamed.mean)
    assert torch.equal(kept.std, streamed.std)
    batches = [torch.tensor([0, 5, 3]), torch.tensor([11])]
    for epoch in (0, 1):
        for (x, y), batch in zip(streamed.train.batches(batches, epoch), batches, strict=True):
            assert torch.equal(x, kept.train.fetch(batch, epoch)[0])
            assert torch.equal(y, kept.train.fetch(batch, epoch)[1])
    streamed.close()


@pytest.mark.parametrize("limit", [0, 2**30])
def test_copies_of_test_images_leave_training(tmp_path, limit):
    classes(tmp_path / "train")
    classes(tmp_path / "test", n=2)
    (tmp_path / "train" / "dog" / "copy.png").write_bytes((tmp_path / "test" / "cat" / "1.png").read_bytes())
    data = load(tmp_path, memory_limit=limit)
    assert len(data.train) == 12
    assert data.description["duplicates"] == {"checked": True, "left_out": 1}


@pytest.mark.parametrize("kind", ["empty", "text", "truncated"])
def test_bad_images_are_named_or_skipped(tmp_path, kind):
    classes(tmp_path)
    bad = tmp_path / "dog" / "3.png"
    whole = bad.read_bytes()
    bad.write_bytes({"empty": b"", "text": b"not an image", "truncated": whole[: len(whole) // 2]}[kind])
    with pytest.raises(DataError, match=r"1 of 12 images cannot be read: dog/3.png .*on_bad='skip'"):
        load(tmp_path)
    for limit in (2**30, 0):
        with pytest.warns(LessonplanWarning, match=r"1 of 12 images cannot be read: dog/3.png .*left out"):
            data = load(tmp_path, on_bad="skip", test_fraction=0, memory_limit=limit, workers=0)
        assert len(data.train) == 11
        assert data.train.labels.bincount().tolist() == [6, 5]
        assert data.description["unreadable_left_out"] == 1
        data.train.fetch(torch.arange(11))


def test_many_bad_images_name_five(tmp_path):
    classes(tmp_path, n=8)
    for i in range(7):
        (tmp_path / "cat" / f"{i}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"7 of 16 .*cat/4.png \(.*\) and 2 more") as caught:
        load(tmp_path)
    assert "cat/5.png" not in str(caught.value)


def test_a_streamed_image_that_breaks_later_is_named(tmp_path):
    classes(tmp_path)
    data = load(tmp_path, memory_limit=0, test_fraction=0, workers=1)
    whole = (tmp_path / "dog" / "5.png").read_bytes()
    (tmp_path / "dog" / "5.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"dog/5.png .*on_bad='skip'"):
        list(data.train.batches([torch.tensor([11])]))
    data.close()


def test_folders_that_are_none(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(DataError, match="no subfolders"):
        load(f"folder:{tmp_path}")
    classes(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no images"):
        load(f"folder:{tmp_path}")


def test_photographs_are_turned_upright_and_16_bits_are_kept(tmp_path):
    rows = np.zeros((16, 32, 3), dtype=np.uint8)
    rows[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees clockwise to show"
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    Image.fromarray(np.zeros((32, 16, 3), np.uint8)).save(tmp_path / "b" / "black.png")
    Image.fromarray(rows).save(tmp_path / "a" / "turned.jpg", exif=exif, quality=95)
    data = load(tmp_path, test_fraction=0)
    assert data.shape == (3, 32, 16)
    shown = data.train.raw(torch.tensor([0]))[0, 0].float()
    assert shown[:, 8:].mean() > 250
    assert shown[:, :8].mean() < 5
    (tmp_path / "a" / "turned.jpg").unlink()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "b" / "black.png")
    Image.fromarray(deep).save(tmp_path / "a" / "deep.png")
    data = load(tmp_path, test_fraction=0)
    assert data.shape == (1, 16, 16)
    assert torch.equal(data.train.raw(torch.tensor([0])).flatten(), torch.arange(256).to(torch.uint8))


def test_fingerprint_follows_content(tmp_path):
    classes(tmp_path)
    for limit in (0, 2**30):
        one = load(tmp_path, memory_limit=limit).fingerprint
        assert load(tmp_path, memory_limit=limit).fingerprint == one
        assert load(tmp_path, memory_limit=limit, seed=1).fingerprint != one
        picture(tmp_path / "cat" / "0.png")
        assert load(tmp_path, memory_limit=limit).fingerprint != one
