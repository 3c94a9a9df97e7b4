"""Files of a run that a disk, an editor or somebody else has changed: one line, or the same outcome as before."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml

from lessonplan.errors import DataError, LessonplanWarning
from lessonplan.train import load

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (str(self.path),)


WEIGHTS = {
    "cut": lambda content: content[:-10],
    "empty": lambda content: b"",
    "header cut": lambda content: content[:20],
    "lying length": lambda content: b"\xff" * 8 + content[8:],
    "no safetensors": lambda content: b"{}",
    "a pickle": lambda content: pickle.dumps({"weights": 1}),
    "one byte": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "deep header": lambda content: (100_000).to_bytes(8, "little") + b"[" * 100_000,
}


@pytest.mark.parametrize("damage", WEIGHTS)
def test_damaged_weights_are_one_line(run, again, said, picture, damage: str) -> None:
    file = run / "weights.safetensors"
    file.write_bytes(WEIGHTS[damage](file.read_bytes()))
    for code, errors in (
        again(run),
        said("predict", run, picture, "--out", run / "p.csv"),
        said("evaluate", run, "--out", run / "e"),
    ):
        assert code == 2
        assert errors.count("\n") == 1, errors
        assert "weights.safetensors" in errors
    assert not (run / "p.csv").exists()


@pytest.mark.parametrize("kind", ["nan", "int8", "other values"])
def test_weights_that_are_not_the_runs_are_refused(run, again, said, picture, kind: str) -> None:
    """With the digest in result.json, and without it, as older runs are, where that can be told at all."""
    file = run / "weights.safetensors"
    state = safetensors.torch.load_file(file)
    if kind == "nan":
        state = {name: torch.full_like(value, torch.nan) for name, value in state.items()}
    elif kind == "int8":
        state = {name: value.to(torch.int8) for name, value in state.items()}
    else:
        state = {name: value + 1 for name, value in state.items()}
    safetensors.torch.save_file(state, file)
    for older in (False, True):
        if older:
            result = json.loads((run / "result.json").read_text())
            del result["weights"]
            (run / "result.json").write_text(json.dumps(result))
            if kind == "other values":
                break
        for code, errors in (again(run), said("predict", run, picture, "--out", run / "p.csv")):
            assert (code, errors.count("\n")) == (2, 1), errors
            assert "weights.safetensors" in errors


CONFIGS = {
    "broken": b"model: [1",
    "not UTF-8": b"model: \xff\xfe",
    "a python tag": b"model: !!python/object/apply:os.system ['true']",
    "a list": b"[1, 2]",
    "empty": b"",
    "deep": b"[" * 50_000,
    "deeper than allowed": b"a: " + b"[" * 60 + b"]" * 60,
    "anchors": LAUGHS.encode(),
    "merged anchors": b"".join(
        b"a%d: &a%d {<<: [%s]}\n" % (i + 1, i + 1, b", ".join([b"*a%d" % i] * 9)) if i else b"a1: &a1 {k: 1}\n"
        for i in range(12)
    ),
    "in itself": b"model: &m [*m]",
    "a huge number": b"seed: " + b"9" * 10_000,
    "other kinds": b"model: 1\ninput: 2\ndata: []\n",
    "large": b"# " + b"x" * (5 * 2**20),
}


@pytest.mark.parametrize("damage", CONFIGS)
def test_damaged_configurations_are_one_line(run, again, said, picture, damage: str) -> None:
    (run / "config.yaml").write_bytes(CONFIGS[damage])
    for code, errors in (
        again(run),
        said("predict", run, picture, "--out", run / "p.csv"),
        said("evaluate", run, "--out", run / "e"),
    ):
        assert (code, errors.count("\n")) == (2, 1), errors
        assert len(errors) < 5000
    code, errors = said("report", run)
    assert code in (0, 2)
    assert errors.count("\n") <= 1


@pytest.mark.parametrize("key", ["input", "model", "data", "seed", "plan", "settings"])
def test_a_configuration_that_lacks_something(run, said, picture, key: str) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config[key]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    code, errors = said("predict", run, picture, "--out", run / "p.csv")
    assert (code, errors.count("\n")) == (2, 1)
    assert f"({key}: field required)" in errors


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("mean", []),
        ("std", [0.0]),
        ("mean", [float("nan")]),
        ("shape", "x"),
        ("audio", {"rate": "a"}),
        ("decoding", 3),
    ],
)
def test_a_preprocessing_that_cannot_be(run, where: str, value: Any) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["input"]["preprocessing"][where] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(DataError, match="stored preprocessing"):
        load(run)


def test_a_folder_in_the_place_of_a_file(run, again, said, picture) -> None:
    for name in ("config.yaml", "weights.safetensors"):
        content = (run / name).read_bytes()
        (run / name).unlink()
        (run / name).mkdir()
        assert again(run)[0] == 2
        assert said("predict", run, picture, "--out", run / "p.csv")[0] == 2
        (run / name).rmdir()
        (run / name).write_bytes(content)
    assert again(run)[0] == 0


RESULTS = {
    "cut": lambda content: content[:40],
    "empty": lambda content: b"",
    "not UTF-8": lambda content: b"\xff\xfe",
    "deep": lambda content: b"[" * 100_000,
    "a list": lambda content: b"[]",
}


@pytest.mark.parametrize("damage", RESULTS)
def test_a_damaged_result_comes_again_from_the_last_checkpoint(trained, run, again, damage: str) -> None:
    """Nothing is trained again: the metrics, with their times, stay as they were."""
    file = run / "result.json"
    file.write_bytes(RESULTS[damage](file.read_bytes()))
    metrics = (run / "metrics.jsonl").read_bytes()
    with pytest.warns(LessonplanWarning, match=r"result\.json .* its last checkpoint will give the result again"):
        code, _ = again(run)
    assert code == 0
    assert (run / "metrics.jsonl").read_bytes() == metrics
    before, after = (json.loads((folder / "result.json").read_text()) for folder in (trained, run))
    assert {**before, "environment": 0, "seconds": 0} == {**after, "environment": 0, "seconds": 0}
    assert (run / "weights.safetensors").read_bytes() == (trained / "weights.safetensors").read_bytes()


def _unfinished(run: Path) -> None:
    (run / "result.json").unlink()
    (run / "weights.safetensors").unlink()


def _sealed(path: Path, state: Any) -> None:
    """A checkpoint with the right checksum, whatever it holds."""
    from lessonplan.train.checkpoint import Checkpoints

    step = int(path.stem.removeprefix("step-"))
    path.unlink()
    Checkpoints(path.parent).save(step, state)


def _newest(run: Path) -> Path:
    return max((run / "checkpoints").glob("step-*.ckpt"))


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {},
        lambda state: {**state, "weights": {"model": {}, "average": None}},
        lambda state: {**state, "rng": torch.zeros(3, dtype=torch.uint8)},
        lambda state: {**state, "counters": 7},
        lambda state: {name: value for name, value in state.items() if name != "metrics_bytes"},
        lambda state: {name: value for name, value in state.items() if name != "supply"},
        lambda state: {**state, "optimizer": {"state": [], "param_groups": []}},
    ],
)
def test_a_checkpoint_with_a_right_checksum_and_other_content(trained, run, again, change) -> None:
    """The older one is used, or training begins anew; the end is the same."""
    from lessonplan.train.checkpoint import Checkpoints

    state = Checkpoints(run / "checkpoints").load_newest()
    _unfinished(run)
    _sealed(_newest(run), change(state))
    with pytest.warns(LessonplanWarning, match="is skipped"):
        assert again(run)[0] == 0
    assert (run / "weights.safetensors").read_bytes() == (trained / "weights.safetensors").read_bytes()


def test_all_checkpoints_of_another_run_begin_anew(trained, run, again) -> None:
    """What was half taken back does not stay: the beginning is as it was."""
    from lessonplan.train.checkpoint import Checkpoints

    state = Checkpoints(run / "checkpoints").load_newest()
    assert state is not None
    _unfinished(run)
    for file in list((run / "checkpoints").glob("step-*.ckpt")):
        _sealed(file, {**state, "meter": "wrong"})  # everything before it is taken back
    with pytest.warns(LessonplanWarning, match="damaged or another run's"):
        assert again(run)[0] == 0
    assert (run / "weights.safetensors").read_bytes() == (trained / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["folder", "dangling"])
def test_what_is_no_file_among_checkpoints(trained, run, again, kind: str) -> None:
    _unfinished(run)
    odd = run / "checkpoints" / "step-9999999999.ckpt"
    if kind == "folder":
        odd.mkdir()
    else:
        odd.symlink_to(run / "nowhere")
    with pytest.warns(LessonplanWarning, match="is skipped"):
        assert again(run)[0] == 0
    assert (run / "weights.safetensors").read_bytes() == (trained / "weights.safetensors").read_bytes()


def test_metrics_that_are_shorter_than_the_checkpoint_says(run, again) -> None:
    _unfinished(run)
    (run / "metrics.jsonl").write_bytes(b'{"epoch": 0, "st')
    lost = pytest.warns(LessonplanWarning, match="records of earlier epochs are lost")
    with pytest.warns(LessonplanWarning, match="left out 1 damaged lines"), lost:
        assert again(run)[0] == 0
    content = (run / "metrics.jsonl").read_bytes()
    assert b"\0" not in content
    assert content.startswith(b'{"epoch": 0, "st\n')


@pytest.mark.parametrize("name", ["metrics.jsonl", "weights.safetensors", "checkpoints"])
def test_a_place_that_cannot_be_written(run, again, name: str) -> None:
    """A folder where a file should be, a file where a folder should be: as a disk that refuses."""
    _unfinished(run)
    place = run / name
    if place.is_dir():
        shutil.rmtree(place)
        place.write_text("")
    else:
        place.unlink(missing_ok=True)
        place.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LessonplanWarning)
        code, errors = again(run)
    assert (code, errors.count("\n")) == (2, 1)
    assert "could not be written" in errors


def test_code_in_yaml_is_not_run(run, again, tmp_path) -> None:
    for tag in ("!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir", "!!python/name:os.mkdir"):
        (run / "config.yaml").write_text(f"model: {tag} [{tmp_path / 'exploded'}]")
        assert again(run)[0] == 2
    assert not (tmp_path / "exploded").exists()


CHANGES = [
    ("result.json", {"test": 5, "val": [], "class_names": 3}),
    ("result.json", {"test": {"accuracy": 1e308, "confusion": "x", "class_accuracy": [10**400]}}),
    ("result.json", {"test": {"confusion": [[1, "a"], [[], {}]], "calibration": 7}, "environment": []}),
    ("result.json", {"samples": 10**400, "seconds": "soon", "param_norm": True, "status": {}}),
    ("metrics.jsonl", {"lr": "x", "cost": 1e308, "train": {"loss": 10**400}, "val": [1]}),
    ("metrics.jsonl", {"system": 3, "param_norm": [], "train": 5, "order": {"a": 1}, "select": {"kept": "x"}}),
    ("metrics.jsonl", {"cost": float("nan"), "val": {"loss": -1e308, "accuracy": 1e308}}),
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_the_page_of_a_run_with_values_of_other_kinds(run, said, name: str, change: dict[str, Any]) -> None:
    """A page, or one sentence."""
    lines = (run / name).read_text().splitlines() if name == "metrics.jsonl" else [(run / name).read_text()]
    changed = {**json.loads(lines[-1]), **change}
    (run / name).write_text("\n".join([*lines[:-1], json.dumps(changed)]) + "\n")
    code, errors = said("report", run)
    assert code in (0, 2)
    assert errors.count("\n") == (1 if code else 0), errors
