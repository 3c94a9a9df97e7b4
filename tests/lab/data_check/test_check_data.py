"""``check_data`` on folders and arrays in which everything that it looks for was planted."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import lessonplan as lp
from lessonplan.cli import main
from lessonplan.errors import ConfigError, DataError
from lessonplan.report.data_words import findings


def levels(found, level):
    return " ".join(sentence for which, sentence in found.findings if which == level)


@pytest.fixture
def planted(clean, photo, stored_again):
    """What is wrong, in two parts of twenty pictures each."""
    root = clean()
    test = root / "test"
    shutil.copy(root / "train/cat/0.png", test / "cat/again.png")  # an equal copy
    stored_again(photo(5), "coarser").save(test / "cat/near.png")  # of train/cat/5.png
    stored_again(photo(12), "brighter").save(root / "train/cat/near.png")  # of train/dog/2.png
    shutil.copy(root / "train/dog/1.png", root / "train/cat/both.png")
    (root / "train/cat/broken.png").write_bytes(b"no picture")
    photo(100, 20).save(root / "train/dog/tiny.png")
    Image.new("RGB", (64, 64), (7, 7, 7)).save(root / "train/dog/blank.png")
    return root


def test_everything_that_was_planted_is_found(planted, tmp_path):
    found = lp.check_data(f"folder:{planted}", out=tmp_path / "look", image_size=64)
    record = json.loads((tmp_path / "look/data.json").read_text())
    assert record["parts"] == {"training": 23, "test": 22}  # without what is broken, and the equal copy
    assert found.leaks == 1
    pairs = [(p["first"]["where"], p["second"]["where"]) for p in record["near"]["pairs_listed"]]
    assert pairs == [("train/cat/5.png", "test/cat/near.png"), ("train/cat/near.png", "train/dog/2.png")]
    assert (record["near"]["across"], record["near"]["other_class"]) == (1, 1)
    assert record["copies"]["taken_out"] == 1
    assert record["copies"]["within"] == 1
    conflict = {(s["where"], s["class"]) for s in record["copies"]["conflicts_listed"][0]}
    assert conflict == {("train/cat/both.png", "cat"), ("train/dog/1.png", "dog")}
    assert [name for name, _ in record["unreadable"]["files"]] == ["train/cat/broken.png"]
    assert [(t["where"], t["size"]) for t in record["tiny"]["files"]] == [("train/dog/tiny.png", [20, 20])]
    assert [b["where"] for b in record["blank"]["files"]] == ["train/dog/blank.png"]
    assert "test/cat/near.png" in levels(found, "error")
    for named in ("broken.png", "tiny.png", "blank.png", "cat)"):
        assert named in levels(found, "warning")
    page = (tmp_path / "look/index.html").read_text()
    assert page.count("<img") >= 5
    assert "parts overlap" in page


def test_what_lies_beside_the_samples_is_told(clean, photo):
    """Once: what loading would warn of is a finding here, on the page too."""
    root = clean()
    for name in ("1.heic", "2.HEIC", "3.mov", "notes.txt"):
        (root / "train/cat" / name).write_bytes(b"x")
    for loose in ("val/1.png", "holidays/1.png"):
        (root / loose).parent.mkdir()
        photo(1000).save(root / loose)
    found = lp.check_data(f"folder:{root}")  # a warning would be an error here
    said = levels(found, "warning")
    assert "3 files are left out, for their endings are not read: .heic (2), .mov (1); save .heic as JPEG" in said
    assert "val holds pictures outside of class folders and is left out" in said
    assert "holidays is left out: not a part of the set" in said
    told = {key: found.record.pop(key) for key in ("other_endings", "unused_folders", "unlabelled_folders")}
    assert told["other_endings"] == {".heic": 2, ".mov": 1}
    assert [kept for kept in findings(found.record) if "left out" in kept[1]] == []  # records of before


def test_a_clean_set_is_called_clean(clean):
    found = lp.check_data(f"folder:{clean()}")
    assert not levels(found, "error")
    assert not levels(found, "warning")
    assert "No near copies." in levels(found, "ok")
    assert "No equal copies." in levels(found, "ok")


def test_streamed_pictures_are_judged_as_those_in_memory(planted):
    inside = lp.check_data(f"folder:{planted}", image_size=64).record
    streamed = lp.check_data(f"folder:{planted}", image_size=64, memory_limit=0).record
    assert {**streamed, "fingerprint": ""} == {**inside, "fingerprint": ""}


def test_darker_and_smaller_test_pictures_are_told(clean):
    root = clean()
    for file in (root / "test").rglob("*.png"):
        with Image.open(file) as image:
            image.convert("RGB").point(lambda v: v // 2).resize((48, 48)).save(file)
    found = lp.check_data(f"folder:{root}", image_size=48)
    told = levels(found, "warning")
    assert "Pictures of the test part are darker" in told
    assert "Pictures of the test part are smaller than those of training (throughout)" in told
    row = next(row for row in found.record["differences"] if row["of"] == "size")
    assert row["d"] is None
    assert row["means"] == [6.0, pytest.approx(np.log2(48))]


def test_a_validation_part_is_held_back_too(clean, photo, stored_again):
    root = clean(("train", "val", "test"), each=4)
    stored_again(photo(0), "paler").save(root / "val/cat/again.png")
    stored_again(photo(9), "paler").save(root / "test/cat/again.png")  # of a validation picture
    assert lp.check_data(f"folder:{root}").record["near"]["leaks"] == {"validation": 1, "test": 1}


def blobs(count, seed):
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 3
    return (rng.normal(size=(count, 5)) + 4 * np.eye(5)[y]).astype(np.float32), y


def test_wrong_labels_of_a_table_are_recovered_and_test_labels_are_not_used():
    x, y = blobs(240, 0)
    wrong = np.random.default_rng(1).choice(240, 12, replace=False)
    given = y.copy()
    given[wrong] = (y[wrong] + 1) % 3
    test_x, test_y = blobs(60, 2)
    found = lp.check_data((x, given), test=(test_x, test_y)).record["suspects"]
    listed = [int(sample["where"].removeprefix("row ")) for sample in found["samples_listed"]]
    assert len(set(listed) & set(wrong.tolist())) >= 9
    assert set(listed[:8]) <= set(wrong.tolist())
    assert all(sample["part"] == "training" for sample in found["samples_listed"])
    assert found["samples"] == 240
    assert lp.check_data((x, given), test=(test_x, (test_y + 1) % 3)).record["suspects"] == found


def test_features_of_weights_judge_pictures(tmp_path, monkeypatch):
    """On features of a network that knows the classes the planted labels are found; each is computed once."""
    monkeypatch.setenv("LESSONPLAN_CACHE", str(tmp_path / "cache"))
    digits = lp.data.load("digits", test_fraction=0.0)
    x, y = digits.train.raw(torch.arange(400)).numpy(), digits.train.labels[:400].numpy()
    lp.fit(
        "fcnet-32", lp.data.load((x, y), test_fraction=0), budget="12ep", lr=0.1, out=tmp_path / "run", threads=1
    )
    wrong = np.random.default_rng(0).choice(400, 15, replace=False)
    given = y.copy()
    given[wrong] = (y[wrong] + 3) % 10
    about = {"model": "fcnet-32", "weights": str(tmp_path / "run"), "device": "cpu"}
    found = lp.check_data((x, given), **about).record["suspects"]
    assert found["on"] == "features of fcnet-32"
    listed = [int(sample["where"].removeprefix("row ")) for sample in found["samples_listed"]]
    assert len(set(listed) & set(wrong.tolist())) >= 10
    assert any((tmp_path / "cache/features").iterdir())


def test_weak_predictions_doubt_no_label():
    rng = np.random.default_rng(0)
    found = lp.check_data((rng.normal(size=(90, 4)).astype(np.float32), rng.integers(0, 2, 90)))
    assert found.record["suspects"].keys() == {"left_out"}
    assert "too seldom to doubt labels by" in levels(found, "note")
    assert "--weights" not in levels(found, "note")  # of which none take tables
    noise = rng.integers(0, 255, size=(90, 12, 12, 3), dtype=np.uint8)
    assert "give --weights" in levels(lp.check_data((noise, rng.integers(0, 2, 90))), "note")


def test_small_pictures_are_not_called_near_copies():
    digits = lp.data.load("digits", test_fraction=0.0)
    some = torch.arange(100)
    found = lp.check_data((digits.train.raw(some), digits.train.labels[some]))
    assert found.leaks == 0
    assert "fewer than 32 pixels" in levels(found, "note")


def test_what_is_asked_for_is_compared_with_what_is_there():
    x, y = blobs(30, 0)
    keep = (y != 2) | (np.arange(30) < 12)
    found = lp.check_data((x[keep], y[keep]), per_class=8, val_fraction=0.25)
    assert "8 labels a class are asked for, and 1 class has fewer: 2 (4)" in levels(found, "warning")
    # A quarter of 8 + 8 + 4 judges: 5 samples, of which .8 is known to 1.96 sqrt(.16 / 5) = 35 points.
    assert "judges by 5 samples, on which an accuracy of 80% is known to 35 points" in levels(found, "note")
    assert "from 4 (" in levels(found, "note")
    alike = levels(lp.check_data(blobs(30, 0)), "note")
    assert "30 labelled samples of 3 classes, 10 a class." in alike
    assert "10 labels a class are few" in alike


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "tiny"}, "give both"),
        ({"weights": "pretrained"}, "give both"),
        ({"val_fraction": 1.0}, "above 0 and below 1"),
        ({"per_class": 0}, "at least 1"),
        ({"label_noise": 0.1}, "changes nothing"),
    ],
)
def test_options_that_cannot_be_used(options, said):
    with pytest.raises(ConfigError, match=said):
        lp.check_data("digits", **options)


def test_data_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        lp.check_data(f"folder:{tmp_path / 'nothing'}")


class TestCommand:
    def run(self, *arguments):
        with pytest.raises(SystemExit) as stop:
            main(["check", *map(str, arguments)])
        return stop.value.code

    def test_overlapping_parts_end_with_1(self, planted, capsys):
        assert self.run(f"folder:{planted}", "--image-size", 64) == 1
        assert "no  1 picture of the test part has a near copy" in " ".join(capsys.readouterr().out.split("\n"))

    def test_a_script_is_given_the_sentences_too(self, planted, capsys):
        assert self.run(f"folder:{planted}", "--image-size", 64, "--json") == 1
        result = json.loads(capsys.readouterr().out)["result"]
        with pytest.raises(SystemExit):
            main(["check", f"folder:{planted}", "--image-size", "64"])
        words = " ".join(capsys.readouterr().out.split())
        assert [found["level"] for found in result["findings"]][:2] == ["error", "warning"]
        assert all(" ".join(found["text"].split()) in words for found in result["findings"])

    def test_a_path_alone_is_data_and_the_page_is_named(self, clean, tmp_path, capsys):
        assert self.run(clean(), "--out", tmp_path / "look") == 0
        assert str(tmp_path / "look/index.html") in capsys.readouterr().out.replace("\n", "")
        (tmp_path / "look/index.html").unlink()
        with pytest.raises(SystemExit):
            main(["report", str(tmp_path / "look")])
        assert (tmp_path / "look/index.html").exists()

    def test_options_of_data_are_refused_for_parts(self, capsys):
        assert self.run("mixes.py:Mine", "--per-class", 4, "--out", "page") == 2
        assert "--out, --per-class is for data" in capsys.readouterr().err

    def test_a_name_nobody_knows(self, capsys):
        assert self.run("digit") == 2
        assert "did you mean 'digits'?" in capsys.readouterr().err
