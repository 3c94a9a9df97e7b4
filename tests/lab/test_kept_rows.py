"""Rows of a table that are kept: what they were, until something that they were made of changes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import lessonplan as lp
from lessonplan.lab import kept_rows
from lessonplan.lab.kept_rows import NAME

ROWS = {"model": "fcnet-8", "per_class": 5, "budget": "1ep", "jobs": 1, "threads": 1}


def rows(root: Path) -> dict[tuple[str, int], dict]:
    results = json.loads((root / "results.json").read_text())
    return {(method["name"], row["seed"]): row for method in results["methods"] for row in method["runs"]}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The runs whose rows are made from their files."""
    found: list[Path] = []
    made = kept_rows.run_row

    def counted(job, root, error):
        found.append(job.folder)
        return made(job, root, error)

    monkeypatch.setattr(kept_rows, "run_row", counted)
    return found


def compare(root: Path) -> dict[tuple[str, int], dict]:
    lp.compare({"erm": "none", "mixup": "mixup"}, "digits", out=root, seeds=2, **ROWS)
    return rows(root)


def test_a_finished_run_is_read_once(tmp_path: Path, read: list[Path]) -> None:
    first = compare(tmp_path)
    assert len(set(read)) == 4
    finished = [folder for folder in read if (folder / "result.json").exists()]
    read.clear()
    assert compare(tmp_path) == first
    assert read == []
    assert finished


@pytest.mark.slow
def test_what_changed_is_read_again(tmp_path: Path, read: list[Path]) -> None:
    first = compare(tmp_path)
    key = ("mixup", 1)
    file = tmp_path / first[key]["folder"] / "result.json"
    changed = json.loads(file.read_text())
    changed["test"]["accuracy"] = 0.125
    file.write_text(json.dumps(changed))
    read.clear()
    after = compare(tmp_path)
    assert [folder.name for folder in read] == [file.parent.name]
    assert after[key]["test_accuracy"] == 0.125
    assert {k: v for k, v in after.items() if k != key} == {k: v for k, v in first.items() if k != key}


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        b'\n{"folder": {}}\n{"folder": "runs/x", "sta',
        *(pytest.param(d, marks=pytest.mark.slow) for d in (b"\xff\x00\n[1]\nnull\n", b"")),
    ],
)
def test_a_torn_or_foreign_file_costs_nothing_but_time(tmp_path: Path, read: list[Path], damage: bytes) -> None:
    first = compare(tmp_path)
    file = tmp_path / NAME
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] + damage)
    assert compare(tmp_path) == first
    read.clear()
    assert compare(tmp_path) == first
    assert read == []  # what was torn is whole again


@pytest.mark.slow
def test_another_version_reads_again(tmp_path: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = compare(tmp_path)
    monkeypatch.setattr(kept_rows, "__version__", "0.0.0")
    read.clear()
    assert compare(tmp_path) == first
    assert len(set(read)) == 4


@pytest.mark.slow
def test_where_nothing_can_be_kept(tmp_path: Path, read: list[Path]) -> None:
    (tmp_path / NAME).mkdir()
    assert len(compare(tmp_path)) == 4
    os.rmdir(tmp_path / NAME)
