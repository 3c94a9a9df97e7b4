"""Folders as people have them: parts, classes named like parts, links, leftovers, names, lists of ImageNet."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lessonplan.data import load
from lessonplan.data.walk import files_below, printable
from lessonplan.errors import DataError, LessonplanWarning

_RNG = np.random.default_rng(0)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(path)


def fill(root: Path, *names: str, n: int = 4) -> Path:
    for name in names:
        for i in range(n):
            picture(root / name / f"{i}.png")
    return root


def counts(data) -> dict[str, int]:
    found = torch.bincount(data.train.labels, minlength=data.num_classes).tolist()
    return dict(zip(data.class_names, found, strict=True))


# -- parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["validation", "val", "valid", "dev"])
@pytest.mark.parametrize("test", ["test", "testing", "Test"])
def test_three_parts(tmp_path, name, test) -> None:
    fill(tmp_path / "train", "a", "b", n=5)
    fill(tmp_path / name, "a", "b", n=2)
    fill(tmp_path / test, "a", "b", n=3)
    for limit in (0, 2**30):
        data = load(tmp_path, memory_limit=limit)
        assert (len(data.train), len(data.val), len(data.test)) == (10, 4, 6)
        assert (data.description["validation_folder"], data.description["test_folder"]) == (name, test)
        stored = np.asarray(Image.open(tmp_path / name / "a" / "0.png"))
        assert np.array_equal(data.val.raw(torch.tensor([0]))[0].permute(1, 2, 0).numpy(), stored)
        assert len(data.train.fetch(torch.arange(10))[1]) == 10
    assert len(load(tmp_path, per_class=3).train) == 6
    assert len(load(tmp_path, val_per_class=1).val) == 2


def test_copies_of_validation_pictures_leave_training(tmp_path) -> None:
    fill(tmp_path / "train", "a", "b")
    fill(tmp_path / "val", "a", "b", n=1)
    fill(tmp_path / "test", "a", "b", n=1)
    (tmp_path / "val" / "a" / "0.png").write_bytes((tmp_path / "train" / "a" / "2.png").read_bytes())
    assert len(load(tmp_path).train) == 7


def test_an_unlabelled_test_part(tmp_path) -> None:
    fill(tmp_path / "train", "a", "b")
    for loose in ("test/1.png", "test/images/2.png"):
        picture(tmp_path / loose)
    assert load(tmp_path).description["test"] == "0.5 of every class"
    fill(tmp_path / "val", "a", "b", n=1)
    data = load(tmp_path)
    assert (data.description["test_folder"], data.description["unlabelled_folders"]) == ("val", ["test"])


def test_a_test_part_of_other_classes_is_refused(tmp_path) -> None:
    fill(tmp_path / "train", "a", "b")
    fill(tmp_path / "test", "A", "B", n=1)
    with pytest.raises(DataError, match="2 classes that the training set lacks, such as 'A'"):
        load(tmp_path)


def test_a_class_of_the_test_part_alone_is_told_with_what_to_do(tmp_path) -> None:
    fill(tmp_path / "train", "a", "b")
    fill(tmp_path / "test", "a", "b", "c", n=1)
    said = r"has 1 class that the training set lacks, such as 'c' \(training has a, b\): take them out .*, or give"
    with pytest.raises(DataError, match=said):
        load(tmp_path)


@pytest.mark.parametrize("name", ["train", "Training", "test", "val"])
def test_classes_named_like_parts(tmp_path, name) -> None:
    data = load(fill(tmp_path, "airplane", "car", name), test_fraction=0)
    assert counts(data) == dict.fromkeys(sorted(["airplane", "car", name]), 4)


def test_a_class_named_train_with_folders_of_its_own(tmp_path) -> None:
    fill(fill(tmp_path, "airplane", "car") / "train", "freight", "passenger")
    assert counts(load(tmp_path, test_fraction=0)) == {"airplane": 4, "car": 4, "train": 8}


def test_other_pictures_beside_the_parts_are_told(tmp_path) -> None:
    fill(tmp_path / "train", "a", "b")
    fill(tmp_path / "test", "a", "b", n=1)
    picture(tmp_path / "originals" / "1.png")
    data = load(tmp_path)
    assert data.class_names == ("a", "b")
    assert data.description["unused_folders"] == ["originals"]


def test_parts_without_a_training_part(tmp_path) -> None:
    fill(tmp_path / "test", "a", "b")
    fill(tmp_path / "val", "a", "b")
    with pytest.raises(DataError, match="has test, val and no train"):
        load(tmp_path)


def test_loose_pictures_are_no_classes(tmp_path) -> None:
    for part in ("train", "test"):
        picture(tmp_path / part / "cat.1.png")
    with pytest.raises(DataError, match="train has no subfolders with images"):
        load(tmp_path)


def test_one_level_too_high(tmp_path) -> None:
    fill(tmp_path / "photos", "cat", "dog")
    for spec in (tmp_path, f"folder:{tmp_path}"):
        with pytest.raises(
            DataError, match=r"one class, 'photos'.*holds folders itself \(cat, dog\): give that one"
        ):
            load(spec)


# -- what lies about -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["__MACOSX", "@eaDir", ".ipynb_checkpoints", "$RECYCLE.BIN", "lost+found"])
def test_leftovers_are_no_classes(tmp_path, name) -> None:
    fill(tmp_path, "a", "b")
    picture(tmp_path / name / "a" / "0.png")
    picture(tmp_path / "a" / name / "0.png")
    (tmp_path / "a" / "._0.png").write_bytes(b"resource fork")
    assert counts(load(tmp_path, test_fraction=0)) == {"a": 4, "b": 4}


def test_links_are_followed_once(tmp_path) -> None:
    root = fill(tmp_path / "set", "cat", "dog", n=3)
    fill(tmp_path / "elsewhere", "more", n=2)
    os.symlink("..", root / "cat" / "up")  # would make dogs cats
    os.symlink("../dog", root / "cat" / "friend")
    os.symlink(".", root / "dog" / "self")
    os.symlink(tmp_path / "elsewhere" / "more", root / "cat" / "more")
    os.symlink(tmp_path / "elsewhere" / "more", root / "cat" / "again")
    os.symlink(tmp_path / "gone", root / "dog" / "broken")
    assert counts(load(root, test_fraction=0)) == {"cat": 5, "dog": 3}
    assert len(files_below(root, {".png"}).files) == 8


def test_endings_that_are_not_read_are_counted_and_named(tmp_path) -> None:
    fill(tmp_path, "a", "b")
    for name in ("1.heic", "2.HEIC", "3.avif", "noending"):
        (tmp_path / "a" / name).write_bytes(b"x")
    (tmp_path / "b" / "boxes.txt").write_text("beside")
    counted = r"4 files .* out.*\.heic \(2\), \.avif \(1\), no ending \(1\)"
    with pytest.warns(LessonplanWarning, match=counted + r"; save \.heic and \.avif as JPEG or PNG"):
        data = load(tmp_path)
    assert data.description["other_endings"] == {".heic": 2, ".avif": 1, "": 1, ".txt": 1}
    for path in list((tmp_path / "b").glob("*.png")):
        path.rename(path.with_suffix(".heic"))
    said = (
        r"holds no images we read, but files ending in \.heic \(4\), \.txt \(1\): .*; save \.heic as JPEG or PNG"
    )
    with pytest.raises(DataError, match=said):
        load(tmp_path)


def test_texts_beside_pictures_are_no_news(tmp_path) -> None:
    fill(tmp_path, "a", "b")
    (tmp_path / "a" / "labels.csv").write_text("beside")
    assert load(tmp_path).description["other_endings"] == {".csv": 1}  # a warning would be an error here


def test_names_that_are_no_utf8(tmp_path) -> None:
    fill(tmp_path, "b")
    odd = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(odd)
    for i in range(4):
        with open(odd + f"/{i}.png".encode(), "wb") as file:
            Image.fromarray(_RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(file, "PNG")
    data = load(tmp_path, test_fraction=0)
    assert data.class_names == ("b", "caf\\xe9")
    " ".join(data.class_names).encode()


def test_names_of_another_unicode_form_are_one(tmp_path) -> None:
    composed, apart = "caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")
    fill(tmp_path / "train", composed, "b")
    fill(tmp_path / "test", apart, "b", n=1)
    data = load(tmp_path)
    assert len(data.test) == 2
    assert data.class_names == ("b", composed)
    fill(tmp_path / "train", apart, n=2)
    assert counts(load(tmp_path)) == {"b": 4, composed: 6}
    assert printable(apart) == composed


# -- ImageNet's flat validation part ---------------------------------------------------------------------

SYNSETS = ("n00000002", "n00000007", "n00000009")


@pytest.fixture
def imagenet(tmp_path) -> Path:
    """As it is distributed: the lists lie above all parts, and nobody knows what the test pictures show."""
    fill(tmp_path / "train", *SYNSETS)
    for i in range(1, 7):
        picture(tmp_path / "val" / f"ILSVRC2012_val_{i:08d}.png")
    for i in range(1, 4):
        picture(tmp_path / "test" / f"ILSVRC2012_test_{i:08d}.png")
    return tmp_path


def judged(root: Path) -> list[str]:
    data = load(root)
    assert data.description["test_folder"] == "val"
    assert "test" in data.description["unused_folders"]
    names = [data.class_names[i] for i in data.test.labels.tolist()]
    stored = [np.asarray(Image.open(p)) for p in sorted((root / "val").glob("*.png"))]
    for row in range(len(names)):
        shown = data.test.raw(torch.tensor([row]))[0].permute(1, 2, 0).numpy()
        assert any(np.array_equal(shown, one) for one in stored)
    return names


ORDER = [SYNSETS[i] for i in (2, 0, 1, 1, 0, 2)]


def test_a_line_a_synset(imagenet) -> None:
    (imagenet / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join(ORDER))
    assert judged(imagenet) == ORDER
    (imagenet / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join(ORDER[:-1]))
    with pytest.raises(DataError, match="5 lines for 6 pictures"):
        load(imagenet)


def test_a_table_of_kaggle(imagenet) -> None:
    lines = ["ImageId,PredictionString"]
    lines += [f"ILSVRC2012_val_{i:08d},{s} 1 2 3 4 {s} 5 6 7 8" for i, s in reversed(list(enumerate(ORDER, 1)))]
    (imagenet / "LOC_val_solution.csv").write_text("\n".join(lines))
    assert judged(imagenet) == ORDER


def test_boxes_of_kaggle(imagenet) -> None:
    """Those of the pictures that it has any of; first and last pixel are inside."""
    line = "ILSVRC2012_val_{:08d},{}".format
    lines = [
        line(i, f"{s} {i % 3} 2 3 4" + f" {s} 3 0 5 {i}" * (i == 2)) for i, s in enumerate(ORDER, 1) if i != 4
    ]
    (imagenet / "LOC_val_solution.csv").write_text("\n".join([*lines, line(4, ORDER[3])]))
    data = load(imagenet)
    names = data.test.source.file_names(data.test.rows)
    shown = dict(zip(names, data.test.boxes.tolist(), strict=True))
    assert data.test.boxes.shape == (6, 2, 4)
    assert shown["val/ILSVRC2012_val_00000002.png"] == [[2, 2, 4, 5], [3, 0, 6, 3]]
    assert shown["val/ILSVRC2012_val_00000003.png"] == [[0, 2, 4, 5], [0, 2, 4, 5]]
    assert torch.tensor(shown["val/ILSVRC2012_val_00000004.png"]).isnan().all()
    assert data.train.boxes is None
    half = load(imagenet, image_size=tuple(side // 2 for side in data.shape[1:])).test.boxes
    torch.testing.assert_close(half, data.test.boxes / 2, equal_nan=True)

    name = f"{SYNSETS[1]}_10"
    picture(imagenet / "train" / SYNSETS[1] / f"{name}.png")
    lines = [f"{name},{SYNSETS[1]} 1 1 2 2", f"elsewhere,{SYNSETS[0]} 1 1 2 2"]
    (imagenet / "LOC_train_solution.csv").write_text("\n".join(lines))
    known = load(imagenet).train.boxes
    assert known.shape[1:] == (1, 4)
    many = " ".join(f"{SYNSETS[1]} {i} 1 9 9" for i in range(6))
    (imagenet / "LOC_train_solution.csv").write_text(f"{name},{many}")
    assert load(imagenet).train.boxes.shape[1:] == (4, 4)  # enough to choose a threshold by
    assert (~known.isnan()).sum() == 4
    for wrong in ("1 2 three 4", "1 2 3", "3 2 1 4", "1 4 3 2", "-1 2 3 4"):
        (imagenet / "LOC_val_solution.csv").write_text(line(1, f"{ORDER[0]} {wrong}"))
        with pytest.raises(
            DataError, match=r"LOC_val_solution\.csv gives ILSVRC2012_val_00000001 .* not a synset"
        ):
            load(imagenet)


def test_pictures_in_test_with_a_list_of_their_own(imagenet) -> None:
    """Beside those of val/, which a list above all of them is of."""
    (imagenet / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join(ORDER))
    lines = [f"ILSVRC2012_test_{i:08d}.JPEG {SYNSETS.index(s)}" for i, s in enumerate(ORDER[:3], 1)]
    (imagenet / "test" / "val.txt").write_text("\n".join(lines))
    data = load(imagenet)
    assert data.description["test_folder"] == "test"
    assert [data.class_names[i] for i in data.test.labels.tolist()] == ORDER[:3]
    assert data.description["validation_folder"] == "val"


def test_a_list_of_caffe(imagenet) -> None:
    lines = [f"ILSVRC2012_val_{i:08d}.JPEG {SYNSETS.index(s)}" for i, s in enumerate(ORDER, 1)]
    (imagenet / "val" / "val.txt").write_text("\n".join(lines))
    assert judged(imagenet) == ORDER


def test_the_development_kit(imagenet) -> None:
    from scipy.io import savemat

    kit = imagenet / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    numbers = {SYNSETS[0]: 3, SYNSETS[1]: 1, SYNSETS[2]: 2}
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(str(numbers[s]) for s in ORDER))
    with pytest.raises(DataError, match=r"meta\.mat beside it"):
        load(imagenet)
    table = np.array(
        [(number, synset) for synset, number in numbers.items()], dtype=[("ILSVRC2012_ID", "i4"), ("WNID", "O")]
    )
    savemat(kit / "meta.mat", {"synsets": table})
    assert judged(imagenet) == ORDER


def test_pictures_of_classes_that_are_not_trained_are_left_out(imagenet) -> None:
    (imagenet / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join(["n00000001", *ORDER[1:]]))
    assert judged(imagenet) == ORDER[1:]
