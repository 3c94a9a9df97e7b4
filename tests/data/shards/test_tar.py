"""Tar shards: the same samples, order and weights as from a folder; what does not fit together is refused."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import lessonplan as lp
from data.shards.conftest import CLASSES, PICTURES, encoded, packed
from lessonplan.data import load
from lessonplan.errors import ConfigError, DataError, LessonplanWarning
from lessonplan.train.callbacks import Callback
from lessonplan.train.trainer import Trainer

SMALL = [encoded(np.full((4, 4, 3), 20 * i, np.uint8)) for i in range(12)]
EVERY = torch.arange(PICTURES)


def test_samples_are_those_of_the_folder(sets: Path, pictures) -> None:
    """Streamed or in memory, in the folder's order, with the same content keys."""
    options = {"test_fraction": 0, "augment": "none"}
    for limit in (0, 2**30):
        folder = load(f"folder:{sets / 'folder'}", memory_limit=limit, **options)
        shards = load(f"tar:{sets / 'tar'}/s-{{0..3}}.tar", memory_limit=limit, **options)
        assert shards.class_names == folder.class_names == CLASSES
        assert shards.fingerprint == folder.fingerprint
        assert shards.train.source.in_memory is folder.train.source.in_memory is (limit > 0)
        assert torch.equal(shards.train.raw(EVERY), folder.train.raw(EVERY))
        assert torch.equal(shards.train.labels, folder.train.labels)
        assert torch.equal(shards.mean, folder.mean)
    names = shards.train.file_names(torch.tensor([0, 17, 59]))
    assert names == ["s-0.tar/000.png", "s-1.tar/017.png", "s-3.tar/059.png"]


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 72, 8), nn.ReLU(), nn.Linear(8, 3))


def weights_of(spec: str, plan: str | None, **given) -> str:
    data = load(spec, memory_limit=0, val_fraction=0.2, test_fraction=0.2, seed=2, workers=given.pop("workers", 1))
    assert data.train.reads_ahead is (data.train.workers > 0)
    run = lp.fit(network(), data, plan, "2ep", seed=4, batch_size=7, lr=0.05, **given)
    data.close()
    return run.result["weights"]


@pytest.mark.parametrize(
    "plan",
    [None, "select:accuracy:margin=0.3 + order:multi-attempt:k=2 + mixup", "select:infobatch >> epochwise"],
)
def test_weights_are_those_of_the_folder_bit_for_bit(sets: Path, plan: str | None) -> None:
    assert weights_of(f"tar:{sets / 'tar'}/*.tar", plan) == weights_of(f"folder:{sets / 'folder'}", plan)


class StopAt(Callback):
    """Ends a run in the middle, as a kill would."""

    def on_batch_end(self, trainer: Trainer) -> None:
        if trainer.counters.steps == 5:
            raise KeyError("stopped")


def test_a_run_that_goes_on_is_the_run_that_was_not_stopped(sets: Path, tmp_path: Path) -> None:
    spec, given = f"tar:{sets / 'tar'}", {"out": tmp_path / "run", "checkpoint_every": "2 steps", "workers": 0}
    with pytest.raises(KeyError):
        weights_of(spec, "mixup", callbacks=[StopAt()], **given)
    assert weights_of(spec, "mixup", **given) == weights_of(f"folder:{sets / 'folder'}", "mixup", workers=0)


def test_a_source_for_processes_that_are_started_anew(sets: Path) -> None:
    source = load(f"tar:{sets / 'tar'}", memory_limit=0, test_fraction=0).train.source
    sent = pickle.dumps(source)
    assert len(sent) < 12_000 + len(pickle.dumps([source.labels, source.keep, source.sizes]))
    assert torch.equal(pickle.loads(sent).read(EVERY), source.read(EVERY))


def test_what_webdataset_wrote() -> None:
    """Written by webdataset 1.0.2's TarWriter: known pictures, ``cls``, and ``json`` without label."""
    data = load(f"tar:{Path(__file__).parents[1] / 'webdataset'}/shard-{{0000..0001}}.tar", test_fraction=0)
    rng = np.random.default_rng(0)
    pixels = np.stack([rng.integers(0, 256, (5, 4, 3)).astype(np.uint8) for _ in range(6)])
    assert np.array_equal(data.train.raw(torch.arange(6)).permute(0, 2, 3, 1).numpy(), pixels)
    assert data.train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert data.class_names == ("0", "1")
    assert data.train.file_names(torch.tensor([4])) == ["shard-0001.tar/a/00004.png"]


def test_webdataset_reads_the_same(sets: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    files = str(sets / "tar" / "s-{0..3}.tar")
    theirs = list(webdataset.WebDataset(files, shardshuffle=False))
    ours = load(f"tar:{files}", test_fraction=0).train
    assert [f"{Path(one['__url__']).name}/{one['__key__']}.png" for one in theirs] == ours.file_names(EVERY)
    for row, one in enumerate(theirs):
        assert Image.open(io.BytesIO(one["png"])).tobytes() == (
            ours.raw(torch.tensor([row]))[0].permute(1, 2, 0).numpy().tobytes()
        )


@pytest.mark.parametrize(
    ("shards", "spec", "sizes"),
    [
        ("train-0 train-1 val-0", "{train-{0,1},val-0}.tar", {"train": 8, "val": 0, "test": 4}),
        ("train/0 val/0 test/0", "", {"train": 4, "val": 4, "test": 4}),
        ("a-train-0 a-test-0", "a-*.tar", {"train": 4, "val": 0, "test": 4}),
    ],
)
def test_parts_of_a_set(tmp_path: Path, shards: str, spec: str, sizes: dict[str, int]) -> None:
    for number, name in enumerate(shards.split()):
        some = SMALL[4 * number : 4 * number + 4]
        content = {f"{i}.png": picture for i, picture in enumerate(some)}
        packed(tmp_path / f"{name}.tar", content | {f"{i}.cls": b"%d" % (i % 2) for i in range(4)})
    data = load(f"tar:{tmp_path / spec}")
    assert data.description["sizes"] == sizes
    assert data.description["test"] == "fixed"
    assert load(f"tar:{tmp_path / spec}", val_fraction=0).val is None


def test_a_part_without_labels_is_left_out(tmp_path: Path) -> None:
    packed(tmp_path / "train.tar", {f"{i}.png": p for i, p in enumerate(SMALL)} | LABELS)
    packed(tmp_path / "test.tar", {"0.png": SMALL[0], "1.png": SMALL[1]})
    data = load(f"tar:{tmp_path}/{{train,test}}.tar")
    assert data.description["unlabelled_parts"] == ["test"]
    assert data.description["test"] == "0.5 of every class"
    with pytest.raises(DataError, match=r"no picture in .*test\.tar .* has a label: add KEY\.cls"):
        load(f"tar:{tmp_path / 'test.tar'}")


LABELS = {f"{i}.cls": b"%d" % (i % 2) for i in range(12)}
PLAIN = {f"{i}.png": picture for i, picture in enumerate(SMALL)}


@pytest.mark.parametrize(
    ("labels", "names", "first"),
    [
        (LABELS, ("0", "1"), [0, 1, 0]),
        ({f"{i}.cls": b" %d\n" % (i * 11 % 33) for i in range(12)}, ("0", "11", "22"), [0, 1, 2]),
        ({f"{i}.txt": ["dog", "Käfer"][i % 2].encode() for i in range(12)}, ("Käfer", "dog"), [1, 0, 1]),
        ({f"{i}.json": json.dumps({"label": i % 2 + 8}).encode() for i in range(12)}, ("8", "9"), [0, 1, 0]),
        ({f"{i}.json": json.dumps({"cls": float(i % 2)}).encode() for i in range(12)}, ("0", "1"), [0, 1, 0]),
        ({f"{i}.json": b"1" if i % 2 else b'"a"' for i in range(12)}, ("1", "a"), [1, 0, 1]),
        ({f"{i}.cls": [b"07", b"x"][i % 2] for i in range(12)}, ("07", "x"), [0, 1, 0]),
        (LABELS | {f"{i}.json": b'{"label": 5}' for i in range(12)}, ("0", "1"), [0, 1, 0]),
        ({f"{i}.json": b'{"label": null, "cls": %d}' % (i % 2) for i in range(12)}, ("0", "1"), [0, 1, 0]),
        (LABELS | {f"{i}.txt": b"a picture" for i in range(12)}, ("0", "1"), [0, 1, 0]),
        (
            LABELS | {"1.txt": b"x" * 5000, "2.json": b"{", "3.txt": b"\xff", "4.json": b"[1]"},
            ("0", "1"),
            [0, 1, 0],
        ),
        ({name.upper(): value for name, value in LABELS.items()}, ("0", "1"), [0, 1, 0]),
    ],
)
def test_labels(tmp_path: Path, labels: dict[str, bytes], names: tuple[str, ...], first: list[int]) -> None:
    packed(tmp_path / "a.tar", PLAIN | labels)
    data = load(f"tar:{tmp_path / 'a.tar'}", test_fraction=0)
    assert data.class_names == names
    assert data.train.labels[:3].tolist() == first


def test_names_that_are_written_otherwise(tmp_path: Path) -> None:
    """Leading dots, dots in folders, capitals, hidden files, and members that are neither picture nor label."""
    content = {f"./v1.0/{i}.PNG": p for i, p in enumerate(SMALL)} | {
        f"v1.0/{i}.cls": b"%d" % (i % 2) for i in range(12)
    }
    others = {"v1.0/0.seg.png": b"", "v1.0/0.json": b"{}", "v1.0/._1.png": b"x", "__MACOSX/1.png": b"x"}
    packed(
        tmp_path / "a.tar",
        content | others | {"v1.0/__meta__.cls": b"", "README": b"", "a.md": b""},
        tarfile.PAX_FORMAT,
    )
    with pytest.warns(
        LessonplanWarning, match=r"2 files below .*a.tar are left out.* \.png \(1\), no ending \(1\)"
    ):
        data = load(f"tar:{tmp_path / 'a.tar'}", test_fraction=0)
    assert len(data.train) == 12
    assert data.train.file_names(torch.tensor([1])) == ["a.tar/v1.0/1.PNG"]
    assert data.description["other_endings"] == {".png": 1, "": 1, ".md": 1}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "hold no pictures KEY.jpg"),
        ({"a.cls": b"1"}, r"holds 1 labels without a picture, such as 'a' with \.cls alone"),
        (PLAIN | LABELS | {"z.json": b'{"label": 1}'}, "1 labels without a picture, such as 'z'"),
        (PLAIN | {"0.cls": b"1"}, r"11 of 12 pictures have no label, such as '1\.png': add KEY\.cls"),
        (PLAIN | LABELS | {"3.cls": b""}, r"1 of 12 pictures have no label, such as '3\.png'"),
        (PLAIN | LABELS | {"0.jpg": SMALL[1]}, r"two pictures of one key, '0\.png' and '0\.jpg'"),
        (PLAIN | LABELS | {"./0.png": SMALL[1]}, r"two pictures of one key, '0\.png' and '0\.png'"),
        (PLAIN | LABELS | {"./0.cls": b"1"}, r"holds '0\.cls' twice: keys must differ within a shard"),
        (PLAIN | LABELS | {"3.cls": b"", "3.json": b"{nonsense"}, r"'3\.json' cannot be read as JSON"),
        (PLAIN | LABELS | {"3.cls": b"", "3.json": b"[" * 200_000}, r"'3\.json' cannot be read as JSON"),
        (PLAIN | LABELS | {"3.cls": b"", "3.json": b'{"label": ' + b"9" * 5000 + b"}"}, "cannot be read as JSON"),
        (PLAIN | LABELS | {"3.cls": b"\xff"}, r"'3\.cls' cannot be read as text"),
        (PLAIN | LABELS | {"3.cls": b"x" * 5000}, r"'3\.cls' has 5000 bytes: a label has at most 4096"),
        (PLAIN | {f"{i}.json": b'{"label": [0, 1]}' for i in range(12)}, r"'0\.json' has the label \[0, 1\]"),
        (PLAIN | {f"{i}.json": b'{"label": true}' for i in range(12)}, "has the label True: give one class"),
        (PLAIN | {f"{i}.json": b'{"label": 0.5}' for i in range(12)}, r"has the label 0\.5"),
        (PLAIN | {f"{i}.json": b'{"label": NaN}' for i in range(12)}, "has the label nan"),
        (PLAIN | LABELS | {"3.cls": b"-1"}, r"a\.tar/3\.png has the label -1, not a class number or name"),
        (PLAIN | LABELS | {"3.json": b'{"label": 1' + b"0" * 25 + b"}", "3.cls": b""}, "give class numbers"),
    ],
)  # fmt: skip
def test_refused_in_one_sentence(tmp_path: Path, content: dict[str, bytes], says: str) -> None:
    packed(tmp_path / "a.tar", content)
    with pytest.raises(DataError, match=says):
        load(f"tar:{tmp_path / 'a.tar'}")


def test_the_same_keys_in_two_shards_are_two_samples(tmp_path: Path) -> None:
    for shard in range(2):
        packed(
            tmp_path / f"{shard}.tar",
            {f"{i}.png": SMALL[2 * i + shard] for i in range(6)} | dict([*LABELS.items()][:6]),
        )
    assert len(load(f"tar:{tmp_path}", test_fraction=0).train) == 12


def test_broken_pictures(tmp_path: Path) -> None:
    packed(tmp_path / "a.tar", PLAIN | LABELS | {"3.png": b"no picture", "5.png": SMALL[5][:-30]})
    with pytest.raises(DataError, match=r"2 of 12 images cannot be read: a\.tar/3\.png .*a\.tar/5\.png"):
        load(f"tar:{tmp_path / 'a.tar'}")
    for limit in (0, 2**30):
        with pytest.warns(LessonplanWarning, match="2 of 12"):
            data = load(f"tar:{tmp_path / 'a.tar'}", on_bad="skip", test_fraction=0, memory_limit=limit)
        assert len(data.train) == 10
        assert [name for name, _ in data.unreadable] == ["a.tar/3.png", "a.tar/5.png"]


def test_a_compressed_tar_by_its_path_alone(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz"):
        pass
    with pytest.raises(DataError, match=r"is compressed \(gzip\): .* unpack it once"):
        load(tmp_path / "a.tar.gz")


def test_no_shards_no_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file matches"):
        load(f"tar:{tmp_path}/*.tar")
    with pytest.raises(ConfigError, match="unknown data"):
        load("tar:")


def test_pixels_come_through_worker_processes(sets: Path) -> None:
    data = load(f"tar:{sets / 'tar'}", memory_limit=0, test_fraction=0, augment="none", workers=2)
    batches = [torch.tensor([5, 59, 5]), torch.tensor([30])]
    for (x, y), indices in zip(data.train.batches(batches), batches, strict=True):
        there, labels = data.train.fetch(indices)
        assert torch.equal(x, there)
        assert torch.equal(y, labels)
    data.close()
