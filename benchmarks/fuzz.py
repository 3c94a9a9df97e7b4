"""Readers fed with mutated files: no code run, no program started, no hang, bounded memory, one sentence.

    python benchmarks/fuzz.py [--cases 100000] [--seconds 7200] [--seed 0] [--only READER]
    python benchmarks/fuzz.py --atheris READER [-runs=100000 ...]

Prints one table, and exits with 1 if a case did not end as it should: what failed is kept in ``fuzz-failures/``.
With atheris (``pip install atheris``) one reader is fuzzed guided by coverage, with libFuzzer's options.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import pickle
import random
import resource
import signal
import struct
import sys
import tarfile
import tempfile
import time
import warnings
import wave
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
import yaml
from PIL import Image
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from scipy.io import savemat

from lessonplan.child import python
from lessonplan.data import Preprocessing
from lessonplan.data.arrays import from_npz
from lessonplan.data.base import Options
from lessonplan.data.cifar import from_cifar
from lessonplan.data.cub import from_cub
from lessonplan.data.delimited import from_csv
from lessonplan.data.folder import from_images
from lessonplan.data.idx import from_idx
from lessonplan.data.parquet import from_parquet
from lessonplan.data.recordings import from_wav
from lessonplan.data.shards.lmdb import from_lmdb
from lessonplan.data.shards.tar import from_tar
from lessonplan.data.svhn import from_svhn
from lessonplan.errors import LessonplanError, LessonplanWarning
from lessonplan.kept_metrics import read_kept
from lessonplan.lab import kept_rows
from lessonplan.lab.advice.record import read_record as read_advice
from lessonplan.lab.advice.trial import _right
from lessonplan.lab.methods import read_methods
from lessonplan.lab.ordering.store import read_trees
from lessonplan.lab.plan_file import read_plan_file
from lessonplan.lab.recipe import Recipe
from lessonplan.lab.tuning.record import read_record as read_tune
from lessonplan.lease import highest_lease
from lessonplan.lmdb_entries import CODE as READ_LMDB
from lessonplan.matlab import CODE as READ_MATLAB
from lessonplan.pretrained import read_weights
from lessonplan.pretrained.kept_rows import KeptRows
from lessonplan.report.answers import NAME as KEPT_ANSWERS
from lessonplan.report.answers import find_answers
from lessonplan.report.ordering import read_runs
from lessonplan.report.reading import read_results, read_run
from lessonplan.select.control import read_record as read_selected
from lessonplan.stored import parse_yaml, read_tensors
from lessonplan.stores.copy import Copy
from lessonplan.stores.sync import copy_named
from lessonplan.train.checkpoint import Checkpoints
from lessonplan.train.loggers import known_records
from lessonplan.train.nearest import of_transformers
from lessonplan.train.run_folder import RunFolder, load_config, read_metrics

SLOWEST = 5.0  # seconds
MEMORY = 512 * 2**20  # bytes that a case may add to the process at its peak
OPTIONS = Options(image_size=(16, 16), workers=1, memory_limit=64 * 2**20)
STREAMED = replace(OPTIONS, memory_limit=0)
FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pickle.find_class", "os.fork",
    "socket.connect", "os.remove", "os.rename", "os.mkdir", "ctypes.dlopen",
)  # fmt: skip

MAY = {  # a damaged checkpoint is put aside; a lease's age is told by a file made for that; a copy begins anew
    "checkpoint": "os.rename", "checkpoint as it is": "os.rename", "lease": "os.remove",
    "what a copy has": "os.mkdir",
}  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """A reader with sound files to begin with.

    Attributes:
        name: in the table.
        file: what the file is called, below the folder that ``read`` is given.
        seeds: sound contents.
        read: reads the folder.
        seal: makes of a mutated content what is written, such as one with a right checksum.
        every: of how many rounds over all readers it takes part in one, where a case takes long.
    """

    name: str
    file: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], Any]
    beside: dict[str, bytes] = field(default_factory=dict)
    seal: Callable[[bytes], bytes] = bytes
    every: int = 1


# -- sound files ------------------------------------------------------------------------------------


def _saved(write: Callable[[Any], Any]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _images(kind: str, **options: Any) -> tuple[bytes, ...]:
    rng = np.random.default_rng(0)
    found = []
    for shape in ((24, 20), (24, 20, 3)):
        image = Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8))
        found.append(_saved(lambda file, image=image: image.save(file, kind, **options)))
    return tuple(found)


def _wav() -> bytes:
    def write(file: Any) -> None:
        with wave.open(file, "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            sound.writeframes((np.sin(np.arange(4000) / 9) * 9000).astype("<i2").tobytes())

    return _saved(write)


def _idx(shape: tuple[int, ...]) -> bytes:
    values = np.random.default_rng(0).integers(0, 3 if len(shape) == 1 else 256, shape)
    return (
        bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + values.astype(np.uint8).tobytes()
    )


def _npz(save: Any) -> bytes:
    rng = np.random.default_rng(0)
    return _saved(
        lambda file: save(file, x=rng.integers(0, 256, (12, 6, 5)).astype(np.uint8), y=np.arange(12) % 3)
    )


CSV = b"a,b,class\n" + b"".join(b"%d,%d.5,c%d\n" % (i, i * i, i % 3) for i in range(12))


def _svhn(packed: bool) -> bytes:
    x = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 12)).astype(np.uint8)
    content = {"X": x, "y": np.arange(12)[:, None] % 10 + 1}
    return _saved(lambda file: savemat(file, content, do_compression=packed))


def _cifar() -> dict[str, bytes]:
    content = {"data": np.zeros((10, 3072), np.uint8), "labels": list(range(10)), "batch_label": "one"}
    files = {f"data_batch_{i}": pickle.dumps(content, protocol=2) for i in range(1, 6)}
    return {**files, "batches.meta": pickle.dumps({"label_names": [str(i) for i in range(10)]}, protocol=2)}


def _lmdb() -> bytes:
    import lmdb

    with tempfile.TemporaryDirectory() as folder:
        with lmdb.open(folder, map_size=2**20) as environment, environment.begin(write=True) as entries:
            for number, picture in enumerate([*_images("PNG"), *_images("JPEG")]):
                entries.put(b"%d" % number, picture)
        return Path(folder, "data.mdb").read_bytes()


def _parquet(**options: Any) -> bytes:
    [grey, _] = _images("PNG")
    rows = [{"image": {"bytes": grey, "path": f"{i}.png"}, "label": i % 2} for i in range(8)]
    names = json.dumps({"info": {"features": {"label": {"names": ["a", "b"]}}}})
    table = pa.Table.from_pylist(rows).replace_schema_metadata({"huggingface": names})
    return _saved(lambda file: pq.write_table(table, file, **options))


def _tar(form: int) -> bytes:
    """Pictures with labels of every kind, a long name, and a file that is neither."""
    content = {f"{'n' * 120 * (i == 2)}{i}": (_images("PNG")[i % 2], i) for i in range(6)}

    def write(file: Any) -> None:
        with tarfile.open(fileobj=file, mode="w", format=form) as shard:
            for key, (picture, i) in content.items():
                ending, label = (("cls", b"%d"), ("json", b'{"label": %d}'), ("txt", b"%d"))[i % 3]
                for name, data in (
                    (f"{key}.png", picture),
                    (f"{key}.{ending}", label % (i % 2)),
                    (f"{key}.md", b""),
                ):
                    member = tarfile.TarInfo(name)
                    member.size, member.mtime = len(data), 1.5 if form == tarfile.PAX_FORMAT else 1
                    shard.addfile(member, io.BytesIO(data))

    return _saved(write)


def _all_read(parts: Any) -> None:
    """Read each sample of a set that is streamed."""
    parts.train.read(torch.arange(len(parts.train)))


def _zip(method: int) -> bytes:
    def write(file: Any) -> None:
        with zipfile.ZipFile(file, "w", method) as archive:
            for i in range(4):
                archive.writestr(f"{'ab'[i % 2]}/{i}.wav", _wav())

    return _saved(write)


STATE = {
    "weights": {"model": {"a": torch.zeros(3), "b": torch.ones(2, 2, dtype=torch.int64)}},
    "step": 3,
    "x": [1.5],
}
CONFIG = {
    "format": 2, "model": "fcnet-8", "seed": 0, "budget": "1ep", "data": {"source": "digits"},
    "plan": {"mix": None},    "settings": {"lr": 0.1}, "threads": 1,
    "input": {"shape": [1, 8, 8], "classes": ["a", "b"], "preprocessing": {"mean": [0.5], "std": [0.5]}},
}  # fmt: skip
RESULT = {
    "status": "finished",
    "samples": 10,
    "seconds": 1.5,
    "test": {"accuracy": 0.5, "confusion": [[1, 2], [3, 4]]},
}
RESULTS = {"schema": 1, "title": "t", "methods": [{"name": "erm", "runs": [], "mean": 0.5}], "failures": []}
RECIPE = {
    "name": "r", "title": "t", "citation": "c", "methods": {"erm": "none", "mixup": "mixup:alpha=0.4"},
    "scales": {"smoke": {"all": {"data": "digits", "budget": "1ep", "seeds": 2}}},
    "claims": [{"text": "more", "method": "mixup", "than": "erm"}],
}  # fmt: skip
METHODS = {"erm": None, "m": "mixup:alpha=0.4", "s": {"mix": "sum:k=2", "settings": {"lr": 0.1}}}


PLAN = {"name": "p", "model": "fcnet-8", "mix": "mixup:alpha=0.4", "select": "topk:0.5", "order": "none",
        "budget": "2ep", "settings": {"lr": 0.1}}  # fmt: skip
TRIAL = {"values": {"lr": 0.1}, "scores": [0.5], "score": 0.5, "seconds": 1.0, "cost": 10}
TUNE = {"schema": 1, "identity": {"data": "digits"}, "trials": [TRIAL], "wanted": 2, "importance": {"lr": 1.0}}
ADVICE = {
    "schema": 1, "identity": {"data": "digits"}, "plans": {"plain": {"content": PLAN, "pace": {"each": 1.0}}},
    "running": ["plain"], "looks": [{"rounds": 2, "left": {}}], "standing": {"plain": {"p": 0.5}},
}  # fmt: skip
COPY = {"copy": "3f", "files": {"result.json": [[17, 2], '"etag"'], "weights.safetensors": [[18, 3], None]}}
LEASE = {"host": "h", "pid": 1, "place": "p", "started": 1.5, "since": 2.5, "token": "t"}
SELECTED = {"epoch": 0, "select": {"candidates_each": [10, 10], "kept_each": [5, 4]}}
ROWS = {"folder": "runs/a", "stamp": [1, 2], "row": {"status": "finished"}}
TREES = b"epoch,start,permutation,loss,accuracy\n1,0,0-1-2,1.5,0.25\n1,0,2-1-0,1.25,0.5\n1,1,0-2-1,1,0.5\n"
PREDICTIONS = b"index,true,predicted,confidence\n0,a,a,0.9\n1,b,a,0.6\n"
ANSWERED = b"row,file,true,predicted,confidence,loss\n0,a.png,cat,cat,0.9,0.1\n1,b.png,dog,cat,0.8,1.6\n"
JUDGED = {"class_names": ["cat", "dog"], "test": {"confusion": [[1, 0], [1, 0]], "calibration_error": 0.4}}
ANSWERS = {
    "methods": {
        "erm": {
            "part": "test", "class_names": ["a", "b"],
            "confusion": {"rows": [0, 1], "columns": [0, 0], "counts": [1, 1]},
            "runs": [{
                "folder": "runs/a", "result": "00", "seed": 0, "right": [1, 0], "true": [1, 1], "taken": [2, 0],
                "reliability": {"count": [2], "confidence": [0.9], "accuracy": [0.5]}, "calibration_error": 0.4,
            }],
            "worst": [{
                "name": "b.png", "is_file": True, "true": "dog", "taken_for": [["cat", 1]], "loss": 1.6,
                "wrong": 1, "runs": 1,
            }],
        }
    },
    "pictures": {"b.png": "iVBORw0KGgo="},
}  # fmt: skip
FEATURES, KEPT = (6, 4), "f.bin"  # rows and length of kept features


def _features() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "f"
        values = torch.arange(FEATURES[0] * FEATURES[1]).reshape(FEATURES).half()
        KeptRows(folder, "f", FEATURES[1]).save(np.arange(FEATURES[0]), values)
        return {file.name: file.read_bytes() for file in folder.iterdir()}


def _load_features(folder: Path) -> None:
    into = torch.zeros(FEATURES, dtype=torch.float16)
    KeptRows(folder / "f", "f", FEATURES[1]).load(np.arange(FEATURES[0]), into)


def _cub() -> dict[str, bytes]:
    [grey, _] = _images("PNG")
    birds = {1: "001.Auk/a.png", 2: "002.Jay/b.png", 3: "001.Auk/c.png"}
    texts = {
        "images.txt": "".join(f"{key} {name}\n" for key, name in birds.items()),
        "train_test_split.txt": "1 1\n2 1\n3 0\n",
        "image_class_labels.txt": "1 1\n2 2\n3 1\n",
        "classes.txt": "1 001.Auk\n2 002.Jay\n",
        "bounding_boxes.txt": "".join(f"{key} 1.0 2.0 8.0 9.0\n" for key in birds),
    }
    files = {name: text.encode() for name, text in texts.items()}
    return {**files, **{f"images/{name}": grey for name in birds.values()}}


SYNSETS = ("n00000001", "n00000002")


def _imagenet() -> dict[str, bytes]:
    """Training pictures in folders, and two for validation that lie loose."""
    [grey, _] = _images("PNG")
    return {f"train/{name}/{name}.png": grey for name in SYNSETS} | {"val/v1.png": grey, "val/v2.png": grey}


def _tiny_imagenet() -> dict[str, bytes]:
    return {name.replace("val/", "val/images/"): grey for name, grey in _imagenet().items()}


LISTS = {
    "val/val_annotations.txt": "".join(f"v{i}.png\t{name}\t1\t2\t8\t9\n" for i, name in enumerate(SYNSETS, 1)),
    "val/LOC_val_solution.csv": "ImageId,PredictionString\nv1,n00000001 1 2 8 9\nv2,n00000002 1 2 8 9\n",
    "val/imagenet_2012_validation_synset_labels.txt": "n00000001\nn00000002\n",
    "val/val.txt": "v1.png 0\nv2.png 1\n",
    "val/ILSVRC2012_validation_ground_truth.txt": "2\n1\n",
}


def _meta() -> bytes:
    """The development kit's table."""
    table = np.zeros((2, 1), [("ILSVRC2012_ID", object), ("WNID", object)])
    for row, (number, name) in enumerate(zip((1, 2), SYNSETS, strict=True)):
        table[row, 0] = (number, name)
    return _saved(lambda file: savemat(file, {"synsets": table}))


def _sealed(payload: bytes) -> bytes:
    """A checkpoint with a right checksum around any content."""
    import hashlib

    return (
        b"lessonplan-checkpoint-1 %s %d\n" % (hashlib.sha256(payload).hexdigest().encode(), len(payload)) + payload
    )


def _recipe(folder: Path) -> None:
    try:
        content = parse_yaml((folder / "recipe.yaml").read_bytes().decode("utf-8", "replace"))
        Recipe.model_validate(content)
    except (
        yaml.YAMLError,
        ValueError,
        ValidationError,
        RecursionError,
        TypeError,
        AttributeError,
        KeyError,
    ) as error:
        raise LessonplanError(str(error)) from error  # recipes are shipped: no user meets them


def _copy(folder: Path) -> None:
    (folder / "work" / ".copy").write_text(str(COPY["copy"]))  # which a damaged record has made anew
    Copy(folder, "work")


def _picture(folder: Path) -> None:
    Preprocessing((3, 16, 16), (0.5,) * 3, (0.5,) * 3)([next(folder.iterdir())])


def _answers(folder: Path) -> None:
    with warnings.catch_warnings():  # predictions that cannot be read are left out
        warnings.simplefilter("ignore", LessonplanWarning)
        find_answers(folder, [{"name": "erm", "runs": [{"folder": "runs/a", "status": "finished"}]}])


def _continued(folder: Path) -> None:
    RunFolder(folder, {"budget": "2ep"})._before()


def readers() -> dict[str, Reader]:
    """All readers by name."""
    pictures = {
        "png": ("PNG", {}), "jpeg": ("JPEG", {}), "gif": ("GIF", {}), "bmp": ("BMP", {}), "ppm": ("PPM", {}),
        "webp": ("WEBP", {}), "tiff": ("TIFF", {}), "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    }  # fmt: skip
    cifar = _cifar()
    rest = {name: content for name, content in cifar.items() if name != "data_batch_1"}
    labels = {"train-labels-idx1-ubyte": _idx((12,))}
    text, kept, birds, synsets = yaml.safe_dump, _features(), _cub(), _imagenet()
    found = [
        Reader("checkpoint", "c/step-0000000001.ckpt", (_saved(lambda f: torch.save(STATE, f)),),
               lambda folder: Checkpoints(folder / "c").load_newest(), seal=_sealed),
        Reader("checkpoint as it is", "c/step-0000000001.ckpt", (_sealed(_saved(lambda f: torch.save(STATE, f))),),
               lambda folder: Checkpoints(folder / "c").load_newest()),
        Reader("safetensors", "w.safetensors", (safetensors.torch.save(STATE["weights"]["model"]),),
               lambda folder: read_tensors(folder / "w.safetensors")),
        Reader("state dict", "w.pt", (_saved(lambda f: torch.save(STATE["weights"]["model"], f)),),
               lambda folder: read_weights(folder / "w.pt")),
        Reader("config", "config.yaml", (text(CONFIG).encode(),), load_config),
        Reader("methods", "m.yaml", (text(METHODS).encode(),), lambda folder: read_methods(folder / "m.yaml")),
        Reader("recipe", "recipe.yaml", (text(RECIPE).encode(),), _recipe),
        Reader("result", "result.json", (json.dumps(RESULT).encode(),), read_run),
        Reader("results", "results.json", (json.dumps(RESULTS).encode(),), read_results),
        Reader("metrics", "metrics.jsonl", (b'{"epoch": 0, "val": {"loss": 1}}\n' * 5,), read_metrics),
        Reader("npz", "x.npz", (_npz(np.savez), _npz(np.savez_compressed)),
               lambda folder: from_npz(folder / "x.npz", OPTIONS)),
        Reader("idx", "train-images-idx3-ubyte", (_idx((12, 6, 5)),),
               lambda folder: from_idx(folder, OPTIONS), labels),
        Reader("idx.gz", "train-images-idx3-ubyte.gz", (gzip.compress(_idx((12, 6, 5))),),
               lambda folder: from_idx(folder, OPTIONS), labels),
        Reader("cifar", "data_batch_1", (cifar["data_batch_1"],), from_cifar, rest),
        Reader("parquet", "train.parquet", (_parquet(), _parquet(compression="none", use_dictionary=False)),
               lambda folder: from_parquet(folder / "train.parquet", OPTIONS)),
        Reader("parquet shards", "train.parquet", (_parquet(compression="none", use_dictionary=False), _parquet()),
               lambda folder: _all_read(from_parquet(folder / "train.parquet", STREAMED))),
        Reader("tar", "s.tar", (_tar(tarfile.GNU_FORMAT), _tar(tarfile.PAX_FORMAT)),
               lambda folder: _all_read(from_tar(folder / "s.tar", STREAMED))),
        Reader("csv", "t.csv", (CSV, CSV.replace(b",", b"\t")),
               lambda folder: from_csv(folder / "t.csv", OPTIONS)),
        Reader("svhn", "train_32x32.mat", (_svhn(True), _svhn(False)), lambda folder: from_svhn(folder, OPTIONS),
               every=20),
        Reader("wav", "a/1.wav", (_wav(),), lambda folder: from_wav(folder, OPTIONS), {"b/2.wav": _wav()}),
        Reader("zip", "x.zip", (_zip(zipfile.ZIP_STORED), _zip(zipfile.ZIP_DEFLATED)),
               lambda folder: from_wav(folder / "x.zip", OPTIONS)),
        Reader("plan file", "p.yaml", (text(PLAN).encode(),), lambda folder: read_plan_file(folder / "p.yaml")),
        Reader("search", "tune.json", (json.dumps(TUNE).encode(),),
               lambda folder: read_tune(folder, TUNE["identity"])),  # type: ignore[arg-type]
        Reader("tournament", "advice.json", (json.dumps(ADVICE).encode(),), read_advice),
        Reader("predictions", "predictions.csv", (PREDICTIONS,), _right),
        Reader("lease", ".lease-1", (json.dumps(LEASE).encode(),), highest_lease),
        Reader("what a copy has", "work.json", (json.dumps(COPY).encode(),), _copy, {"work/a": b""}),
        Reader("who sent last", "writer", (b'{"copy": "3f", "host": "a", "version": "0.1.0"}',),
               lambda folder: copy_named((folder / "writer").read_bytes())),
        Reader("kept features", f"f/{KEPT}", (kept[KEPT],), _load_features, {"f/f.sums": kept["f.sums"]}),
        Reader("their checksums", "f/f.sums", (kept["f.sums"],), _load_features, {f"f/{KEPT}": kept[KEPT]}),
        Reader("kept metrics", "metrics.jsonl.gz",
               (gzip.compress(b'{"run": "runs/a", "epoch": 0, "val": {"loss": 1}}\n' * 5),), read_kept),
        Reader("kept metrics unpacked", "metrics.jsonl.gz",
               (b'{"run": "runs/a", "epoch": 0, "val": {"loss": 1}}\n' * 5,), read_kept, seal=gzip.compress),
        Reader("configuration of transformers", "config.json", (b'{"model_type": "vit", "hidden_size": 32}',),
               lambda folder: of_transformers("tiny", folder)),
        Reader("kept answers", KEPT_ANSWERS, (gzip.compress(json.dumps(ANSWERS).encode()),), _answers),
        Reader("kept answers unpacked", KEPT_ANSWERS,
               (json.dumps(ANSWERS).encode(),), _answers, seal=gzip.compress),
        Reader("a run's answers", "runs/a/predictions.csv", (ANSWERED, ANSWERED.replace(b"cat", b'"cat"')),
               _answers, {"runs/a/result.json": json.dumps(JUDGED).encode()}),
        Reader("what a run was judged by", "runs/a/result.json", (json.dumps(JUDGED).encode(),), _answers,
               {"runs/a/predictions.csv": ANSWERED}),
        Reader("what was selected", "metrics.jsonl", (json.dumps(SELECTED).encode() + b"\n",), read_selected),
        Reader("rows of a table", ".rows.jsonl", (json.dumps(ROWS).encode() + b"\n",), kept_rows.KeptRows),
        Reader("orders", "runs.csv", (TREES,),
               lambda folder: (read_trees(folder), read_runs(folder / "runs.csv"))),
        Reader("logger", "loggers.json", (b'{"wandb": {"id": "a", "step": 3}}',), known_records),
        Reader("shorter budgets", "continued.json", (b'[{"budget": "1ep", "samples": 5}]',), _continued),
        Reader("folder", "a/1.png", _images("PNG"), lambda folder: from_images(folder, OPTIONS),
               {"b/2.png": _images("PNG")[0]}),
        *(Reader(f"birds {name}", f"cub/{name}", (birds[name],), lambda folder: from_cub(folder / "cub", OPTIONS),
                 {f"cub/{other}": content for other, content in birds.items() if other != name})
          for name in birds if name.endswith(".txt")),
        *(Reader(f"imagenet {Path(name).name}", f"i/{name}", (content.encode(),),
                 lambda folder: from_images(folder / "i", OPTIONS),
                 {f"i/{other}": beside for other, beside in
                  (_tiny_imagenet() if "annotations" in name else {**synsets, "val/meta.mat": _meta()}).items()},
                 every=20 if "ground_truth" in name else 1)  # that one's table is read in a process of its own
          for name, content in LISTS.items()),
        Reader("lmdb", "s_lmdb/data.mdb", (_lmdb(),),
               lambda folder: _all_read(from_lmdb(folder / "s_lmdb", STREAMED)), every=20),
        Reader("imagenet meta.mat", "i/val/meta.mat", (_meta(),),
               lambda folder: from_images(folder / "i", OPTIONS),
               {"i/val/ILSVRC2012_validation_ground_truth.txt": b"2\n1\n",
                **{f"i/{other}": beside for other, beside in synsets.items()}}, every=20),
        *(Reader(name, "picture.png", _images(kind, **more), _picture) for name, (kind, more) in pictures.items()),
    ]  # fmt: skip
    return {reader.name: reader for reader in found}


# -- mutations --------------------------------------------------------------------------------------

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
WORDS = (b"&a ", b"*a", b"!!python/object/apply:os.system ", b"<<: ", b"[" * 200, b"{" * 200, b"nan", b"1e999",
         b"-1", b"9" * 400, b"\x00", b"\xff\xfe", b"\n", b'"', b"null", b"true", b"../",
         b"cos\nsystem\n(S'x'\ntR.",
         b"PK\x03\x04", b"%!PS-Adobe-3.0 EPSF-3.0\n")  # fmt: skip


def mutated(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """One to four changes of a content; ``other`` is another one, of which pieces may come."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, kind = rng.randrange(len(data) + 1), rng.randrange(9)
        length = rng.choice((1, 2, 4, 8, 64, 1024))
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            data[at:at] = data[at : at + length] * rng.choice((1, 2, 50))
        elif kind == 5:
            size, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
            value = rng.choice(INTERESTING) % 2 ** (8 * size)
            data[at : at + size] = value.to_bytes(size, order)  # type: ignore[arg-type]
        elif kind == 6:
            data[at : at + rng.choice((0, length))] = rng.choice(WORDS)
        elif kind == 7:
            start = rng.randrange(len(other) + 1)
            data[at : at + length] = other[start : start + length]
        else:
            data[at:at] = rng.randbytes(length)
    return bytes(data)


# -- a case -----------------------------------------------------------------------------------------


class Hang(BaseException):
    """A case takes too long."""


_watching = False
_seen: list[str] = []
_cache = ""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if (
        _watching
        and event in FORBIDDEN
        and not (_in_the_cache(event, arguments) or _reads_apart(event, arguments))
    ):
        _seen.append(f"{event} {arguments!r:.200}")


def _in_the_cache(event: str, arguments: tuple[Any, ...]) -> bool:
    """Indices of shards are kept there, and nowhere else."""
    changes_files = event in ("os.mkdir", "os.rename", "os.remove")
    paths = [str(argument) for argument in arguments if isinstance(argument, (str, Path))]
    return changes_files and _cache != "" and all(path.startswith(_cache) for path in paths)


def _reads_apart(event: str, arguments: tuple[Any, ...]) -> bool:
    """MATLAB and LMDB files are read in a process of their own, which runs our code and may crash."""
    return event == "subprocess.Popen" and list(arguments[1][:3]) in (python(READ_MATLAB), python(READ_LMDB))


sys.addaudithook(_audit)


@contextmanager
def watched() -> Iterator[None]:
    """Note what no reader may do, and end what hangs."""
    global _watching

    def give_up(*_: Any) -> None:
        raise Hang

    _seen.clear()
    previous = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, SLOWEST)
    _watching = True
    try:
        yield
    finally:
        _watching = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """Have what readers keep kept in a folder."""
    global _cache
    before, _cache = os.environ.get("LESSONPLAN_CACHE"), str(folder)
    os.environ["LESSONPLAN_CACHE"] = _cache
    try:
        yield
    finally:
        _cache = ""
        os.environ.pop("LESSONPLAN_CACHE")
        os.environ.update({} if before is None else {"LESSONPLAN_CACHE": before})


@dataclass
class Tally:
    """What became of a reader's cases."""

    cases: int = 0
    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)


def attempt(reader: Reader, content: bytes, folder: Path, tally: Tally) -> str | None:
    """Read a content; returns what was wrong with how that ended, or None."""
    for name, sound in {**reader.beside, reader.file: reader.seal(content)}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sound)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, wrong = time.perf_counter(), None
    tally.cases += 1
    try:
        with watched(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(folder)
        tally.read += 1
    except LessonplanError as error:
        tally.refused += 1
        if not str(error).strip() or len(str(error)) > 5000:
            wrong = f"a sentence of {len(str(error))} characters"
    except Hang:
        wrong = f"more than {SLOWEST:g} seconds"
    except Exception as error:
        wrong = f"{type(error).__name__}: {str(error)[:150]}"
    seconds = time.perf_counter() - started
    tally.slowest = max(tally.slowest, seconds)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if [event for event in _seen if not event.startswith(MAY.get(reader.name, "nothing"))]:
        wrong = f"did {_seen[0]}"
    elif grown > MEMORY:
        wrong = f"took {grown // 2**20} MiB"
    for path in folder.rglob("*.damaged"):
        path.unlink()
    return wrong


def fuzz(cases: int, *, seed: int = 0, seconds: float = float("inf"), only: str | None = None,
         keep: Path | None = None) -> dict[str, Tally]:  # fmt: skip
    """Feed every reader, in turn, with so many cases in all, or for so long.

    Args:
        cases: how many.
        seed: decides them all.
        seconds: no case begins after so many.
        only: the name of one reader.
        keep: folder for what failed.
    """
    every = readers()
    chosen = list(every.values()) if only is None else [every[only]]
    tallies = {reader.name: Tally() for reader in chosen}
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as work, own_cache(Path(work) / "cache"):
        for reader in chosen:  # once as they are: what is imported now is not imported in a case
            for i, sound in enumerate(reader.seeds):
                tally = Tally()
                wrong = attempt(reader, sound, Path(work) / f"sound-{reader.name}-{i}", tally)
                assert tally.read, f"{reader.name} does not read a sound file: {wrong or 'it is refused'}"
        for number in range(cases):
            if time.monotonic() > deadline:
                break
            reader = chosen[number % len(chosen)]
            if only is None and number // len(chosen) % reader.every:
                continue
            rng = random.Random(f"{seed} {number}")
            content = mutated(rng.choice(reader.seeds), rng.choice(reader.seeds), rng)
            wrong = attempt(reader, content, Path(work) / reader.name, tallies[reader.name])
            if wrong is not None:
                tallies[reader.name].failures.append(f"case {number}: {wrong}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{reader.name}-{number}").write_bytes(reader.seal(content))
    return tallies


GUIDED = ("lessonplan", "yaml", "zipfile", "tarfile", "wave", "PIL", "safetensors")


def _instrument(instrument: Callable[[FunctionType], Any]) -> None:
    """Functions of the readers and of what they read with; all of PyTorch's would take many minutes."""
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").partition(".")[0] not in GUIDED:
            continue
        for value in list(vars(module).values()):
            for function in [value, *(vars(value).values() if isinstance(value, type) else ())]:
                if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                    instrument(function)


def guided(name: str, options: list[str]) -> None:
    """libFuzzer with a reader; ends with its report."""
    try:
        import atheris
    except ImportError:
        raise SystemExit("atheris is not installed: pip install atheris") from None
    reader = readers()[name]
    _instrument(atheris.instrument_func)
    with tempfile.TemporaryDirectory() as work, own_cache(Path(work) / "cache"):

        def one(data: bytes) -> None:
            wrong = attempt(reader, data, Path(work), Tally())
            if wrong is not None:
                raise AssertionError(wrong)

        corpus = Path(work) / "corpus"
        corpus.mkdir()
        for i, sound in enumerate(reader.seeds):
            (corpus / str(i)).write_bytes(sound)
        atheris.Setup([sys.argv[0], *options, str(corpus)], one)
        atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=7200.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(readers()))
    parser.add_argument("--atheris", metavar="READER", choices=list(readers()))
    given, rest = parser.parse_known_args()
    if given.atheris:
        guided(given.atheris, rest)
        return 0
    tallies = fuzz(
        given.cases, seed=given.seed, seconds=given.seconds, only=given.only, keep=Path("fuzz-failures")
    )
    table = Table("reader", "cases", "read", "refused", "failed", "slowest s",
                  title=f"Mutated files (seed {given.seed})")  # fmt: skip
    for name, tally in tallies.items():
        numbers = (tally.cases, tally.read, tally.refused, len(tally.failures))
        table.add_row(name, *map(str, numbers), f"{tally.slowest:.2f}")
    table.add_section()
    totals = [sum(getattr(t, kind) for t in tallies.values()) for kind in ("cases", "read", "refused")]
    failures = [f"{name}, {failure}" for name, tally in tallies.items() for failure in tally.failures]
    slowest = max(tally.slowest for tally in tallies.values())
    table.add_row("all", *map(str, totals), str(len(failures)), f"{slowest:.2f}")
    Console(width=110).print(table)
    for failure in failures[:50]:
        print(failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
