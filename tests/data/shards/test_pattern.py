"""Patterns of files: braces as shells write them out, wildcards, folders, and the parts of a set."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lessonplan.data.shards.pattern import by_part, expanded, is_pattern, matching
from lessonplan.errors import ConfigError, DataError

BRACES = [
    "s-{08..11}.tar", "{a,b}{1,2}", "{a{1,2},b}", "{a,b{1,2}}x", "{3..1}", "{0..10..3}", "{10..0..-4}", "{x}",
    "a{,b}c", "{1..3}-{01..02}", "{{1..2},c}", "{-1..1}", "{-02..2}", "plain", "a{b", "a}b{c,d}", "{}", "{a..b..}",
]  # fmt: skip


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is the oracle")
def test_braces_are_written_out_as_bash_does() -> None:
    said = subprocess.run(
        ["bash", "-c", "\n".join(f"echo {text}" for text in BRACES)], capture_output=True, text=True
    )
    assert [" ".join(expanded(text)) for text in BRACES] == said.stdout.splitlines()


def test_too_many() -> None:
    for text in ("{0..100000}", "{0..999}{0..999}", "{0..9}" * 30):
        with pytest.raises(ConfigError, match="spells out more than 100000 files"):
            expanded(text)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in (
        "a-2.tar",
        "a-10.tar",
        "b[1].tar",
        "{c,d}.tar",
        "note.txt",
        "val/v.tar",
        "train/t.tar",
        "x/y.tar",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a-*.tar", "a-10.tar a-2.tar"),
        ("a-{2,10}.tar", "a-2.tar a-10.tar"),
        ("b[1].tar", "b[1].tar"),
        ("{c,d}.tar", "{c,d}.tar"),
        ("{val,train}/*.tar", "val/v.tar train/t.tar"),
        ("**/*y.tar", "x/y.tar"),
        (".", "a-10.tar a-2.tar b[1].tar {c,d}.tar train/t.tar val/v.tar"),
    ],
)
def test_what_matches(files: Path, pattern: str, names: str) -> None:
    assert [f.relative_to(files).as_posix() for f in matching(str(files / pattern), ".tar")] == names.split()


def test_several_patterns(files: Path) -> None:
    found = matching(f"{files}/a-2.tar::{files}/a-*.tar", ".tar")
    assert [f.name for f in found] == ["a-2.tar", "a-10.tar"]
    assert is_pattern(f"{files}/a-2.tar::{files}/a-*.tar")
    assert not is_pattern(f"{files}/{{c,d}}.tar")


@pytest.mark.parametrize(
    ("pattern", "error", "says"),
    [
        ("q-*.tar", DataError, r"no file matches .*q-\*\.tar: give shards as"),
        ("q.tar", DataError, "no file matches"),
        ("a-{2..4}.tar", DataError, r"2 of the 3 files that .* names do not exist, such as .*a-3\.tar"),
        ("x*", DataError, "is no file"),
        ("http://a/b.tar", ConfigError, "is no path: shards are read from files"),
        ("s3://b/{0..3}.tar", ConfigError, "is no path"),
        ("pipe:cat a.tar", ConfigError, "is no path"),
    ],
)
def test_what_does_not(files: Path, pattern: str, error: type[Exception], says: str) -> None:
    given = pattern if ":" in pattern else str(files / pattern)
    with pytest.raises(error, match=says):
        matching(given, ".tar")
    (files / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no \.tar files"):
        matching(str(files / "empty"), ".tar")


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ("a-1 a-2", {"train": "a-1 a-2"}),
        (
            "in-train-0 in-validation-0 in-train-1",
            {"train": "in-train-0 in-train-1", "validation": "in-validation-0"},
        ),
        ("train/0 val/0 test/0", {"train": "train/0", "validation": "val/0", "test": "test/0"}),
        ("TRAINING_0 Dev_0", {"train": "TRAINING_0", "validation": "Dev_0"}),
        ("test/s-1 test/s-2", {"train": "test/s-1 test/s-2"}),
        ("test-1 test-2", {"train": "test-1 test-2"}),
        ("retrain-0 latest-0", {"train": "retrain-0 latest-0"}),
    ],
)
def test_parts(names: str, parts: dict[str, str]) -> None:
    root = Path("/data/val")
    found = by_part([root / f"{name}.tar" for name in names.split()], "it")
    assert found == {part: [root / f"{name}.tar" for name in which.split()] for part, which in parts.items()}


@pytest.mark.parametrize(
    ("names", "says"),
    [("train-0 val-0 s-1", "s-1.tar belongs to none of them"), ("val-0 test-0", "none is to train on")],
)
def test_parts_that_are_none(names: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        by_part([Path(f"{name}.tar") for name in names.split()], "it")
