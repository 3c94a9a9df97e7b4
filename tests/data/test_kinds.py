"""The table of data kinds: each is opened by its spelling, found at its path, and named in the help."""

from __future__ import annotations

import io
import pickle
import tarfile
import wave
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tyro
from PIL import Image
from scipy.io import savemat

import lessonplan as lp
from lessonplan.commands import COMMAND_TYPES
from lessonplan.data.kinds import IMAGE_ENDINGS, KINDS, spellings
from lessonplan.data.sources import guess
from lessonplan.errors import ConfigError


def npz(folder: Path) -> Path:
    np.savez(
        folder / "some.npz", x=np.random.default_rng(0).random((12, 4)).astype("float32"), y=np.arange(12) % 2
    )
    return folder / "some.npz"


def images(folder: Path) -> Path:
    for name in ("cat", "dog"):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(6):
            pixels = np.random.default_rng(i + len(name)).integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{name}{i}.png")
    return folder / "photos"


def parquet(folder: Path) -> Path:
    files = sorted(images(folder).rglob("*.png"))
    table = {
        "image": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
        "label": [int(file.parent.name == "dog") for file in files],
    }
    pq.write_table(pa.table(table), folder / "train.parquet")
    return folder / "train.parquet"


def tar(folder: Path) -> Path:
    with tarfile.open(folder / "shard.tar", "w") as shard:
        for file in sorted(images(folder).rglob("*.png")):
            shard.add(file, file.name)
            label = tarfile.TarInfo(f"{file.stem}.cls")
            label.size = len(file.parent.name)
            shard.addfile(label, io.BytesIO(file.parent.name.encode()))
    return folder / "shard.tar"


def idx(folder: Path) -> Path:
    (folder / "idx").mkdir()
    for part in ("train", "t10k"):
        x, y = np.random.default_rng(len(part)).integers(0, 255, (12, 8, 8), dtype=np.uint8), np.arange(12) % 2
        (folder / "idx" / f"{part}-images-idx3-ubyte").write_bytes(
            b"\0\0\x08\x03" + np.array([12, 8, 8], ">i4").tobytes() + x.tobytes()
        )
        (folder / "idx" / f"{part}-labels-idx1-ubyte").write_bytes(
            b"\0\0\x08\x01" + np.array([12], ">i4").tobytes() + y.astype(np.uint8).tobytes()
        )
    return folder / "idx"


def cifar(folder: Path) -> Path:
    (folder / "cifar").mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        x = np.random.default_rng(sum(name.encode())).integers(0, 255, (12, 3072), dtype=np.uint8)
        content = {b"data": x, b"labels": [i % 2 for i in range(12)]}
        (folder / "cifar" / name).write_bytes(pickle.dumps(content, protocol=2))
    (folder / "cifar" / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"a", b"b"]}, protocol=2))
    return folder / "cifar"


def wav(folder: Path) -> Path:
    for name in ("yes", "no"):
        (folder / "words" / name).mkdir(parents=True)
        for i in range(6):
            sound = np.random.default_rng(i + len(name)).integers(-9000, 9000, 8000).astype("<i2")
            with wave.open(str(folder / "words" / name / f"{i}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(8000)
                file.writeframes(sound.tobytes())
    return folder / "words"


def lmdb(folder: Path) -> Path:
    opening = pytest.importorskip("lmdb", reason="lmdb is not installed")
    for name in ("cat", "dog"):
        (folder / "lsun" / name).mkdir(parents=True)
    for file in sorted(images(folder).rglob("*.png")):
        where = str(folder / "lsun" / file.parent.name)
        with opening.open(where, map_size=2**22) as environment, environment.begin(write=True) as entries:
            entries.put(file.stem.encode(), file.read_bytes())
    return folder / "lsun"


def svhn(folder: Path) -> Path:
    (folder / "svhn").mkdir()
    for part in ("train", "test"):
        x = np.random.default_rng(len(part)).integers(0, 255, (32, 32, 3, 12), dtype=np.uint8)
        savemat(folder / "svhn" / f"{part}_32x32.mat", {"X": x, "y": np.arange(12)[:, None] % 2 + 9})
    return folder / "svhn"


def table(folder: Path) -> Path:
    (folder / "some.csv").write_text("a,b,class\n" + "".join(f"{i},{i * i},{i % 2}\n" for i in range(12)))
    return folder / "some.csv"


MADE = {
    "npz": npz,
    "folder": images,
    "parquet": parquet,
    "tar": tar,
    "idx": idx,
    "cifar": cifar,
    "wav": wav,
    "lmdb": lmdb,
    "svhn": svhn,
    "csv": table,
}
PLAIN = {"digits": "digits", "table": "table:iris"}


def test_the_cases_are_all_kinds() -> None:
    assert {*MADE, *PLAIN} == set(KINDS)


@pytest.mark.filterwarnings("ignore:.*were copied to:lessonplan.errors.LessonplanWarning")
@pytest.mark.parametrize("kind", MADE)
def test_by_spelling_and_by_path_alike(kind, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LESSONPLAN_CACHE", str(tmp_path / "cache"))
    path = MADE[kind](tmp_path)
    assert guess(path) == kind
    named, found, as_path = (lp.data.load(spec) for spec in (f"{kind}:{path}", str(path), path))
    assert named.fingerprint == found.fingerprint == as_path.fingerprint
    assert named.num_classes >= 2
    for data in (named, found, as_path):
        data.close()


@pytest.mark.parametrize("kind", PLAIN)
def test_by_name(kind) -> None:
    assert lp.data.load(PLAIN[kind]).num_classes >= 3


@pytest.mark.parametrize("command", ["train", "compare", "order"])
def test_named_in_the_help(command, capsys) -> None:
    with pytest.raises(SystemExit):
        tyro.cli(COMMAND_TYPES[command], args=["--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert all(kind.spelling in said for kind in KINDS.values())


@pytest.mark.parametrize("text", ["digits:3", "folder:", "tabel:iris", "photos"])
def test_what_is_no_spelling(text) -> None:
    with pytest.raises(ConfigError, match="unknown data"):
        lp.data.load(text)


def test_prediction_reads_what_training_reads(tmp_path) -> None:
    from lessonplan.commands.predict import Predict

    photos = images(tmp_path)
    run = tmp_path / "run"
    lp.fit("fcnet-8", lp.data.load(photos), budget="2 steps", out=run, threads=1)
    new = tmp_path / "new"
    new.mkdir()
    for ending in sorted(IMAGE_ENDINGS):
        kind = {".jfif": "JPEG", ".jpg": "JPEG", ".tif": "TIFF", ".pgm": "PPM"}.get(ending)
        Image.new("L", (8, 8), 90).save(new / f"one{ending}", format=kind)
    assert Predict(run, str(new), tmp_path / "out.csv").run().code == 0
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 1 + len(IMAGE_ENDINGS)


def test_spellings_are_listed() -> None:
    assert spellings().endswith("or a path")
