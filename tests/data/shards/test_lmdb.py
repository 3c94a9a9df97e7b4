"""LMDB environments as LSUN has them, beside a folder with the same pictures."""

from __future__ import annotations

import os
import random
import stat
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import lessonplan as lp
from data.shards.conftest import encoded
from lessonplan import lmdb_entries as reading
from lessonplan.data import Data, load
from lessonplan.data.sources import guess
from lessonplan.errors import ConfigError, DataError, LessonplanWarning
from lessonplan.evaluation import Evaluation
from lessonplan.lab.evaluation import evaluate, run_subject
from lessonplan.lmdb_entries import entries

lmdb = pytest.importorskip("lmdb", reason="lmdb is not installed")
EVERY = torch.arange(60)


def environment(folder: Path, content: dict[str, bytes]) -> Path:
    """An environment with these entries, and nothing else in its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(folder), map_size=2**22) as opened, opened.begin(write=True) as transaction:
        for key, value in content.items():
            transaction.put(key.encode(), value)
    (folder / "lock.mdb").unlink()
    return folder


@pytest.fixture
def lsun(tmp_path: Path, pictures) -> Path:
    """Three classes for training, those and unlabelled ones beside."""
    root, rng = tmp_path / "lsun", np.random.default_rng(5)

    def drawn() -> bytes:
        return encoded(rng.integers(0, 256, (9, 8, 3), dtype=np.uint8), "JPEG")

    for name in ("ape", "bee", "cow"):
        own = {number: content for label, number, content in pictures if label == name}
        environment(root / f"{name}_house_train_lmdb", own)
        environment(root / f"{name}_house_val_lmdb", {str(i): drawn() for i in range(3)})
    environment(root / "test_lmdb", {"0": drawn(), "1": drawn()})
    return root


def opened(spec: Path | str, limit: int = 0, **more) -> Data:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*were copied to.*", LessonplanWarning)
        return load(f"lmdb:{spec}", **{"augment": "none", "workers": 0, "memory_limit": limit} | more)


def test_the_same_pictures_as_in_a_folder(lsun: Path, sets: Path) -> None:
    data = opened(lsun)
    folder = load(f"folder:{sets / 'folder'}", test_fraction=0, memory_limit=0, augment="none", workers=0)
    assert data.class_names == ("ape_house", "bee_house", "cow_house")
    assert torch.equal(data.train.raw(EVERY), folder.train.raw(EVERY))
    assert torch.equal(data.train.labels, folder.train.labels)
    assert torch.equal(data.train.raw(EVERY), opened(lsun, 2**30).train.raw(EVERY))
    assert data.test.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3  # val, since test says no classes
    assert data.description["unlabelled_parts"] == ["test"]
    assert data.train.source.file_names(torch.tensor([20])) == ["bee_house_train_lmdb/data.mdb/020"]


def test_guessed_and_read_once_and_nothing_written(lsun: Path, monkeypatch) -> None:
    for folder in (lsun, *lsun.iterdir()):
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    before = sorted(path.name for path in lsun.rglob("*"))
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            load(str(lsun), memory_limit=0)
        assert [str(one.message)[:13] for one in said] == ["60 pictures o", "9 pictures of"]
    finally:
        for folder in (lsun, *lsun.iterdir()):
            folder.chmod(stat.S_IRWXU)
    assert sorted(path.name for path in lsun.rglob("*")) == before
    monkeypatch.setattr(reading, "CODE", "raise SystemExit(1)")  # the index is there, and nothing is said
    assert len(load(str(lsun), memory_limit=0, workers=0).train) == 60
    os.utime(lsun / "bee_house_train_lmdb" / "data.mdb")  # changed, so it is read again
    with pytest.raises(DataError, match="crashed or hung"):
        opened(lsun)


def test_one_environment_is_other_data_to_be_told_apart(lsun: Path, tmp_path: Path) -> None:
    lp.fit("tiny", "digits", budget="20 steps", seed=0, out=tmp_path / "run")
    with pytest.warns(LessonplanWarning, match="2 pictures of .*test_lmdb were copied to"):
        found = evaluate(
            run_subject(tmp_path / "run"), Evaluation(ood=(f"lmdb:{lsun / 'test_lmdb'}",)), out=tmp_path / "out"
        )
    assert found["parts"]["ood"]["samples"] == {"in": 901, "test_lmdb": 2}


def test_named_after_its_folder(lsun: Path) -> None:
    for spec in (lsun / "test_lmdb", lsun / "test_lmdb" / "data.mdb"):
        assert guess(spec) == "lmdb"
        with pytest.raises(DataError, match="of one class, 'test'"):
            opened(spec)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: environment(root / "attic", {"0": b"x"}), "attic says no part of a set"),
        (lambda root: [path.rename(path.with_name(path.name.replace("train", "val")))
                       for path in root.glob("*_house_train_lmdb") if not path.with_name(
                           path.name.replace("train", "val")).exists()], None),
        (lambda root: environment(root / "bee_house_train_lmdb", {"x": b"no picture"}), "data.mdb/x"),
        (lambda root: (root / "cow_house_train_lmdb" / "data.mdb").write_bytes(b"x" * 8192), "damaged or no LMDB"),
        (lambda root: (root / "cow_house_train_lmdb" / "data.mdb").write_bytes(b""), "damaged or no LMDB|hold no"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(lsun: Path, change, message: str | None) -> None:
    change(lsun)
    if message is None:
        opened(lsun)
        return
    with pytest.raises(DataError, match=message):
        opened(lsun)


def test_a_class_that_is_called_train(tmp_path: Path, pictures) -> None:
    """LSUN's objects come without parts, and one of them is the train."""
    for name, (_, number, content) in zip(("airplane", "boat", "train"), pictures[::20], strict=True):
        environment(tmp_path / "objects" / name, {number: content})
    data = opened(tmp_path / "objects", test_fraction=0)
    assert data.class_names == ("airplane", "boat", "train")
    assert data.train.labels.tolist() == [0, 1, 2]


def test_a_value_that_is_no_picture_can_be_left_out(lsun: Path) -> None:
    environment(lsun / "bee_house_train_lmdb", {"x": b"no picture"})
    with pytest.warns(LessonplanWarning, match="1 of 61 images cannot be read"):
        assert len(opened(lsun, on_bad="skip").train) == 60


def test_no_part_to_train_on(lsun: Path) -> None:
    for path in list(lsun.glob("*_train_lmdb")):
        path.rename(lsun.parent / path.name)
    with pytest.raises(DataError, match="holds no CLASS_train_lmdb to train on"):
        opened(lsun)
    with pytest.raises(DataError, match=r"holds no data\.mdb"):
        opened(lsun.parent / "nowhere")


def test_without_lmdb_the_line_to_install_it(lsun: Path, monkeypatch) -> None:
    monkeypatch.setattr(reading, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'lessonplan\[lmdb\]'"):
        opened(lsun)


@pytest.mark.parametrize("signal", [9, 11])
def test_a_reader_that_crashes(lsun: Path, monkeypatch, signal: int) -> None:
    monkeypatch.setattr(reading, "CODE", f"import os; os.kill(os.getpid(), {signal})")
    with pytest.raises(DataError, match="crashed or hung"):
        opened(lsun)


def test_pages_that_lead_in_a_circle(lsun: Path, monkeypatch) -> None:
    endless = (
        "import sys; from lessonplan.lmdb_entries import _LENGTHS\n"
        "while True: sys.stdout.buffer.write(_LENGTHS.pack(1, 0) + b'k')"
    )
    monkeypatch.setattr(reading, "CODE", endless)
    with pytest.raises(DataError, match="lead in a circle"):
        opened(lsun)


def test_damaged_anywhere(lsun: Path) -> None:
    """What LMDB makes of bytes that are not its own: entries that are there, or one sentence."""
    draw = random.Random(5)
    folder = lsun / "ape_house_train_lmdb"
    sound = (folder / "data.mdb").read_bytes()
    known = list(entries(folder))
    for _ in range(12):
        content = bytearray(sound)
        for _ in range(draw.choice([1, 4, 30])):
            page = draw.randrange(len(sound) // 4096)
            content[page * 4096 + draw.randrange(draw.choice([32, 4096]))] = draw.randrange(256)
        (folder / "data.mdb").write_bytes(content[: draw.choice([len(sound), len(sound) // 2 + 100])])
        try:
            found = list(entries(folder))
        except DataError as error:
            assert "fetch it again" in str(error)  # noqa: PT017
        else:
            assert sum(len(key) + len(value) for key, value in found) <= len(sound)
    (folder / "data.mdb").write_bytes(sound)
    assert list(entries(folder)) == known
