"""No file makes this program run code, or another program."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lessonplan
from lessonplan.data import load
from lessonplan.data.encoded import decode
from lessonplan.data.pixels import open_image
from lessonplan.errors import DataError
from lessonplan.report.pictures import embed

PACKAGE = Path(lessonplan.__file__).parent
UNPICKLES = {
    "lab/worker.py": "jobs, from the pipe of the process that started it",
    "data/safe_pickle.py": "CIFAR's batches, with an unpickler that knows number arrays and nothing else",
    "lab/checking.py": "a part of the user's own, that is in this process already",
}
FORBIDDEN = {
    "pickle": {"load", "loads", "Unpickler"},
    "marshal": {"load", "loads"},
    "shelve": {"open"},
    "dill": {"load", "loads"},
    "cloudpickle": {"load", "loads"},
    "joblib": {"load"},
    "yaml": {"load", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all"},
    "os": {"system", "popen"},
    "jsonpickle": {"decode"},
}


def _calls(tree: ast.AST) -> list[tuple[str, ast.AST]]:
    """Dotted names that are called, derived from or passed on, with where; aliases are written out."""
    known: dict[str, str] = {}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {
                alias.asname or alias.name.partition(".")[0]: alias.name for alias in node.names if alias.asname
            }
        if isinstance(node, ast.ImportFrom) and node.module:
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)):
            start, _, rest = ast.unparse(node).partition(".")
            found.append((f"{known.get(start, start)}{'.' if rest else ''}{rest}", node))
    return found


def _found(source: str) -> set[str]:
    """What a file uses that runs code from data."""
    tree = ast.parse(source)
    names = {name for name, _ in _calls(tree)}
    used = {f"{module}.{name}" for module, which in FORBIDDEN.items() for name in which} & names
    used |= names & {"eval", "exec", "__import__"}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        if called == "compile":
            used.add("compile")
        if called == "torch.load" and given.get("weights_only") != "True":
            used.add("torch.load without weights_only=True")
        if called in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
            used.add("np.load without allow_pickle=False")
        if given.get("shell") == "True":
            used.add("a shell")
        if called == "Image.open" and "formats" not in given:
            used.add("Image.open without formats")
    return used


def test_nothing_in_the_package_runs_code_from_data() -> None:
    allowed = {"pickle.loads", "pickle.load", "pickle.Unpickler"}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        used = _found(file.read_text())
        assert used <= (allowed if name in UNPICKLES else set()), (name, used)
        assert name not in UNPICKLES or used, f"{name} unpickles nothing any more: take it off the list"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.loads(b)", "import pickle as p\np.load(f)", "from pickle import loads\nloads(b)",
        "from pickle import loads as harmless\nharmless(b)", "eval('1')", "exec(x)", "map(eval, x)",
        "compile(x, 'a', 'exec')", "import yaml\nyaml.load(t)",
        "import yaml as y\ny.unsafe_load(t)", "torch.load(f)", "torch.load(f, weights_only=False)",
        "np.load(f, allow_pickle=True)", "np.load(f)", "import os\nos.system(x)", "run(x, shell=True)",
        "Image.open(f)", "import pickle\nclass A(pickle.Unpickler): pass",
    ],
)  # fmt: skip
def test_the_search_finds_it(source: str) -> None:
    assert _found(source)


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for ``gs`` on the path that leaves a mark when it is started."""
    mark, program = tmp_path / "started", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # found once a process
    return mark


def _postscript() -> bytes:
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def test_postscript_that_is_called_png(tmp_path: Path, ghostscript: Path, run, said) -> None:
    """In a class folder, in parquet bytes, at prediction, and as a picture of a page."""
    for label in "ab":
        (tmp_path / "set" / label).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((8, 8), 30 * i, np.uint8)).save(tmp_path / "set" / label / f"{i}.png")
    odd = tmp_path / "set" / "a" / "x.png"
    odd.write_bytes(_postscript())
    with pytest.raises(DataError, match=r"a/x\.png \(cannot identify image file"):
        load(f"folder:{tmp_path / 'set'}")
    with pytest.warns(match="left out"):
        assert len(load(f"folder:{tmp_path / 'set'}", on_bad="skip", test_fraction=0).train) == 6
    for where in (odd, odd.read_bytes()):
        with pytest.raises(OSError):
            decode(where, (1, 8, 8))
    with pytest.warns(match="left the picture"):
        assert embed(odd) is None
    code, errors = said("predict", run, odd, "--out", tmp_path / "p.csv")
    assert code == 2
    assert "x.png is left out" in errors
    assert not ghostscript.exists()
    with Image.open(io.BytesIO(_postscript())) as image, contextlib.suppress(Exception):
        image.load()
    assert ghostscript.exists(), "the stand-in is never started: the test shows nothing"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "MPO", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_pictures_of_the_promised_kinds_are_read(kind: str) -> None:
    """MPO: what telephones write, a JPEG with more pictures behind it."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.full((8, 8, 3), 100, np.uint8))
    image.save(buffer, kind, **({"save_all": True, "append_images": [image]} if kind == "MPO" else {}))
    with open_image(buffer.getvalue()) as found:
        assert abs(int(np.asarray(found.convert("RGB"))[0, 0, 0]) - 100) <= 2


def test_a_pipe_that_is_called_png(tmp_path: Path, run, said) -> None:
    """It is no picture, and nobody waits for it."""
    for label in "ab":
        (tmp_path / "set" / label).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((8, 8), 30 * i, np.uint8)).save(tmp_path / "set" / label / f"{i}.png")
    pipe = tmp_path / "set" / "a" / "x.png"
    os.mkfifo(pipe)
    assert len(load(f"folder:{tmp_path / 'set'}", test_fraction=0).train) == 6
    assert said("predict", run, pipe, "--out", tmp_path / "p.csv")[0] == 2
    with pytest.raises(FileNotFoundError, match="no regular file"):
        open_image(pipe)
    for name in ("weights.safetensors", "result.json"):
        (run / name).unlink()
    os.mkfifo(tmp_path / "set" / "a" / "x.wav")
    with pytest.raises(DataError, match="no WAV files"):
        load(f"wav:{tmp_path / 'set'}")
