"""A thousand mutated files, by ``benchmarks/fuzz.py``, which does a hundred thousand; it sees what is wrong."""

from __future__ import annotations

import ast
import importlib.util
import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import lessonplan
from lessonplan.data.kinds import KINDS
from lessonplan.errors import DataError


def _script() -> Any:
    path = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("fuzz_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_script"] = module  # which its dataclasses ask for
    spec.loader.exec_module(module)
    return module


FUZZ = _script()


@pytest.mark.parametrize("name", list(FUZZ.readers()))
def test_mutated_files(name: str, monkeypatch) -> None:
    monkeypatch.setattr(FUZZ, "SLOWEST", 60.0)  # some start a process, and others keep this machine busy
    cases = 40 if FUZZ.readers()[name].every == 1 else 8
    [tally] = FUZZ.fuzz(cases, seed=1, only=name).values()
    assert tally.cases == cases
    assert tally.failures == []


READS = {
    # module: rows of the fuzzing, or why what it reads is not somebody else's
    "data/arrays.py": {"npz"},
    "data/cifar.py": {"cifar"},
    "data/cub.py": {"birds images.txt", "birds classes.txt", "birds bounding_boxes.txt"},
    "data/delimited.py": {"csv"},
    "data/encoded.py": {"folder", "png"},
    "data/idx.py": {"idx", "idx.gz"},
    "data/imagenet.py": {"imagenet val.txt", "imagenet meta.mat", "imagenet LOC_val_solution.csv"},
    "data/parquet.py": {"parquet"},
    "data/pixels.py": {"png", "jpeg", "gif", "bmp", "ppm", "webp", "tiff"},
    "data/safe_pickle.py": {"cifar"},
    "data/shards/groups.py": {"parquet shards"},
    "data/shards/lmdb.py": {"lmdb"},
    "data/shards/tar.py": {"tar"},
    "data/store.py": {"zip", "wav"},
    "data/svhn.py": {"svhn"},
    "lmdb_entries.py": {"lmdb"},
    "matlab.py": {"svhn", "imagenet meta.mat"},
    "files.py": {"metrics"},
    "kept_metrics.py": {"kept metrics", "kept metrics unpacked"},
    "lab/advice/measuring.py": "a number that a process of the same command has written a moment before",
    "lab/advice/record.py": {"tournament"},
    "lab/advice/trial.py": {"predictions", "result"},
    "lab/comparison.py": {"config"},
    "lab/evaluation/own_model.py": {"safetensors"},
    "lab/evaluation/running.py": {"result"},
    "lab/kept_rows.py": {"rows of a table"},
    "lab/methods.py": {"methods"},
    "lab/ordering/explain/stored.py": {"config"},
    "lab/ordering/store.py": {"orders", "safetensors", "config"},
    "lab/plan_file.py": {"plan file"},
    "lab/reproduction.py": {"results"},
    "lab/results.py": {"metrics"},
    "lab/runs.py": {"result"},
    "lab/tuning/record.py": {"search"},
    "lab/tuning/trial.py": {"result"},
    "lease.py": {"lease"},
    "integrations/transformers.py": {"state dict"},
    "pretrained/files.py": {"state dict", "safetensors"},
    "pretrained/kept_rows.py": {"kept features", "their checksums"},
    **{f"report/{name}.py": {"result"} for name in ("advice", "data_check", "evaluation", "lr", "page", "tune")},
    "report/answers.py": {
        "kept answers",
        "kept answers unpacked",
        "a run's answers",
        "what a run was judged by",
    },
    "report/order_explained.py": {"result"},
    "report/ordering.py": {"orders", "result"},
    "report/pictures.py": {"png"},
    "report/reading.py": {"result", "results", "config", "metrics"},
    "select/control.py": {"what was selected"},
    "stored.py": {"config", "result", "safetensors", "kept metrics", "kept answers"},
    "stores/copy.py": {"what a copy has"},
    "stores/sync.py": {"who sent last"},
    "train/checkpoint.py": {"checkpoint", "checkpoint as it is"},
    "train/fitting.py": {"result"},
    "train/loggers.py": {"logger"},
    "train/records.py": {"png"},
    "train/nearest.py": {"configuration of transformers"},
    "train/run_folder.py": {"config", "metrics", "result", "shorter budgets"},
    "train/trained.py": {"safetensors"},
    "data/shards/index.py": "an index of ours with a checksum, which is made again if it is damaged",
    "doctor.py": "the answer of a process of ours",
    "lab/checking.py": "what was written into memory a line before",
    "lab/executor.py": "the answer of a process of ours",
    "lab/worker.py": "jobs from the process that started it",
    "lab/ordering/recipe.py": "recipes that are shipped",
    "lab/recipe.py": "recipes that are shipped",
    "network/ranks.py": "what other ranks of the same training say",
    "parts/own.py": "code that the user named",
    "stores/objects.py": "what is sent as it is",
    "train/history.py": "what was packed in memory",
    "train/joining.py": "what other ranks of the same training say, and a digest",
}
READERS = {
    "read_matlab", "read_some_json_lines", "read_packed",
    "read_json", "read_json_value", "read_json_lines", "read_yaml", "parse_yaml", "read_tensors", "read_text",
    "read_bytes", "loads", "fromfile", "memmap", "loadtxt", "genfromtxt", "ParquetFile", "loadmat", "ZipFile",
    "decompress", "load_file", "safe_open", "DictReader", "reader", "np.load", "torch.load", "Image.open",
    "gzip.open", "wave.open", "tarfile.open", "read_csv", "read_table", "load_from_disk", "onnx.load",
    "entries", "lmdb.open",
}  # fmt: skip


def _reading(source: str) -> bool:
    """Whether code calls something that reads files or unpacks bytes; not of what lies below /proc."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and not any(
            "/proc" in ast.unparse(part) for part in (node.func, *node.args)
        ):
            called = ast.unparse(node.func)
            if called in READERS or called.rpartition(".")[2] in READERS - {"load", "open"}:
                return True
    return False


def test_whatever_reads_files_is_fuzzed() -> None:
    """A new reader has a row in ``benchmarks/fuzz.py``, or a reason why what it reads is ours."""
    package = Path(lessonplan.__file__).parent
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if _reading(path.read_text(encoding="utf-8"))
    }
    own = {name for name, rows in READS.items() if isinstance(rows, str)}
    assert found <= READS.keys()
    by_open = {"data/encoded.py", "data/store.py", "data/safe_pickle.py"}  # which no name tells from what writes
    assert READS.keys() - own - by_open <= found
    rows = set().union(*(rows for rows in READS.values() if not isinstance(rows, str)))
    assert rows <= FUZZ.readers().keys()


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS.values() if kind.takes in ("PATH", "PATTERN")], ids=lambda k: k.name
)
def test_every_kind_of_data_is_fuzzed(kind: Any, tmp_path: Path) -> None:
    """A row of that name, whose sound files are found to be of that kind."""
    row = FUZZ.readers()[kind.name]
    for name, content in {**row.beside, row.file: row.seal(row.seeds[0])}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    where = tmp_path if kind.lies_at(tmp_path, os.listdir(tmp_path)) else tmp_path / row.file
    names = os.listdir(where) if where.is_dir() else []
    assert next(k.name for k in KINDS.values() if k.lies_at(where, names)) == kind.name


def _hang(folder: Path) -> None:
    while True:
        time.sleep(0.01)


def _greedy(folder: Path) -> None:
    bytearray(256 * 2**20).find(b"x")


WRONG = {
    "a traceback": (lambda folder: {}["x"], "KeyError"),
    "a hang": (_hang, "seconds"),
    "code": (lambda folder: pickle.loads(b"cos\ngetcwd\n(tR."), "pickle.find_class"),
    "a program": (lambda folder: __import__("subprocess").run(["true"], check=True), "subprocess.Popen"),
    "a long sentence": (lambda folder: _raise(), "characters"),
    "memory": (_greedy, "MiB"),
}


def _raise() -> None:
    error = DataError("short")
    error.args = ("a b " * 5000,)
    raise error


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    read, says = WRONG[what]
    monkeypatch.setattr(FUZZ, "SLOWEST", 0.3 if what == "a hang" else 60.0)
    monkeypatch.setattr(FUZZ, "MEMORY", 0 if what == "memory" else 2**40)
    wrong = FUZZ.attempt(FUZZ.Reader("odd", "file", (b"x",), read), b"x", tmp_path, FUZZ.Tally())
    if what == "memory" and wrong is None:
        pytest.skip("the process had more than that at its peak before")
    assert says in wrong
