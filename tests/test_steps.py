"""What long commands show of their steps: reading, features, checks, trials; with rate, time left and memory."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from rich.console import Console
from rich.text import Text

import lessonplan as lp
from lessonplan import cli, doctor, progress
from lessonplan.commands import COMMAND_TYPES, option_names
from lessonplan.lab import comparison
from lessonplan.lab.progress import RunCounter

SMALL = "--data digits --per-class 10 --model fcnet-8 --threads 1"
_TIME_LEFT = re.compile(r"(\d+:)?\d\d:\d\d")


def command(line: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(line.split())
    assert int(stop.value.code or 0) == code


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error as a terminal of 200 columns; what is written to it."""
    written = io.StringIO()
    monkeypatch.setattr(
        progress, "_console", lambda: Console(file=written, force_terminal=True, width=200, color_system=None)
    )
    return written


@pytest.fixture
def rows(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What each line said before it was taken away; every look at the clock takes a second."""
    found: list[list[str]] = []
    clock = itertools.count()
    monkeypatch.setattr(progress, "_clock", lambda: float(next(clock)))
    stop = progress.Line.stop

    def look(line: progress.Line) -> None:
        if line.shown:
            assert progress._shown is not None
            [task] = [task for task in progress._shown.tasks if task.id == line._task]
            cells = [column(task) for column in progress._shown.columns]
            found.append([cell.plain for cell in cells if isinstance(cell, Text)])
        stop(line)

    monkeypatch.setattr(progress.Line, "stop", look)
    return found


def complete(rows: list[list[str]], what: str, count: str, *, rated: bool = True) -> list[str]:
    """The one row that says this, with its rate, its time left and the memory."""
    [row] = [row for row in rows if row[0] == what and count in row]
    assert any(_TIME_LEFT.fullmatch(cell) for cell in row), row
    assert row[-1].endswith("GiB")
    assert float(row[-1].split()[0]) > 0.05
    assert any(cell.endswith(("/s", "/min")) for cell in row) or not rated, row
    return row


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of 20 pictures of several sizes."""
    rng = np.random.default_rng(0)
    for number in range(40):
        file = tmp_path / "photos" / ("ape", "bee")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40 + number, 40, 3), dtype=np.uint8)).save(file)
    return tmp_path / "photos"


# -- the line itself -------------------------------------------------------------------------------------


def test_steps_are_a_commands_affair(terminal: io.StringIO, photos: Path, rows: list[list[str]]) -> None:
    lp.data.load(f"folder:{photos}", image_size=16)
    assert terminal.getvalue() == ""
    assert rows == []
    with progress.aloud():
        lp.data.load(f"folder:{photos}", image_size=16)
    assert "decoding pictures" in terminal.getvalue()
    with progress.aloud(False), progress.step("a", 3, patience=0.0) as line:
        assert not line.shown


def test_forked_processes_leave_the_terminal_alone(terminal: io.StringIO, monkeypatch) -> None:
    with progress.aloud():
        with progress.step("a", 3, patience=0.0) as line:
            assert line.shown
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with progress.step("a", 3, patience=0.0) as line:
            assert not line.shown


def test_quiet_silences_steps(terminal: io.StringIO) -> None:
    with progress.silence(), progress.aloud(), progress.step("a", 3, patience=0.0) as line:
        line.update(advance=1)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("name", COMMAND_TYPES)
def test_every_command_is_quiet_or_talks_to_scripts(name: str) -> None:
    assert {"--quiet", "--json"} <= set(option_names(COMMAND_TYPES[name]))


def test_what_weights_and_selections_say_is_no_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lp.fit("fcnet-8", lp.data.load("digits", per_class=10), budget="1ep", threads=1, out=tmp_path / "run")
    line = f"train {SMALL} --weights {tmp_path / 'run'} --select accuracy --budget 1ep --out {tmp_path / 'new'}"
    command(f"{line}/loud")
    said = capfd.readouterr()
    assert "tensors loaded" in said.err
    assert "selection keeps" in said.err
    command(f"{line}/quiet --quiet")
    said = capfd.readouterr()
    assert said.out == said.err == ""


def test_what_is_over_in_half_a_second_is_not_shown(terminal: io.StringIO, monkeypatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress, "_clock", lambda: now)
    with progress.aloud(), progress.step("a", 10, "things") as line:
        for passed in (0.1, 0.2, 0.49):
            now = passed
            line.update(advance=1, best="best 3")
            assert not line.shown
        now = 0.51
        line.update(advance=1)
        assert line.shown
        now = 1.51
        line.update(advance=2)
        assert progress._shown is not None
        [task] = progress._shown.tasks
        assert (task.completed, task.total, task.fields["best"]) == (6, 10, "best 3")
        assert task.speed == pytest.approx(2.0)  # a second, of those that it was seen
        assert task.time_remaining == 2
    assert progress._shown is None
    now = 0.0
    with progress.aloud(), progress.step("a", 2, "things") as line:
        now = 9.0
        line.update(2)  # over: there is nothing to wait for
        assert not line.shown


# -- reading ---------------------------------------------------------------------------------------------


def test_a_folder_of_pictures(rows: list[list[str]], photos: Path) -> None:
    command(f"check folder:{photos} --image-size 32")
    for what in ("reading headers", "decoding pictures"):
        complete(rows, what, "40/40 pictures")


def test_pictures_that_are_read_as_they_are_needed(rows: list[list[str]], photos: Path, tmp_path: Path) -> None:
    command(
        f"preview --data folder:{photos} --image-size 16 --memory-limit 0.000001 --workers 0 --out"
        f" {tmp_path / 'a.png'}"
    )
    complete(rows, "telling pictures apart", "40/40 pictures")


def test_arrays_that_are_resized(rows: list[list[str]], tmp_path: Path) -> None:
    x = np.zeros((600, 8, 8, 1), dtype=np.uint8)
    x[:, 0, :2, 0] = np.stack(np.divmod(np.arange(600), 256), axis=1)
    np.savez(tmp_path / "some.npz", x=x, y=np.arange(600) % 2)
    with progress.aloud():
        data = lp.data.load(f"npz:{tmp_path / 'some.npz'}", image_size=16)
    complete(rows, "resizing pictures", "600/600 pictures")
    again = lp.data.load(f"npz:{tmp_path / 'some.npz'}", image_size=16)
    assert torch.equal(data.train.raw(torch.arange(9)), again.train.raw(torch.arange(9)))


def shards_of(photos: Path, kind: str, folder: Path) -> str:
    """The same pictures in one file; how it is spelled."""
    files = sorted(photos.rglob("*.png"))
    if kind == "tar":
        with tarfile.open(folder / "shard.tar", "w") as shard:
            for file in files:
                shard.add(file, file.name)
                label = tarfile.TarInfo(f"{file.stem}.cls")
                label.size = len(file.parent.name)
                shard.addfile(label, io.BytesIO(file.parent.name.encode()))
        return f"tar:{folder / 'shard.tar'}"
    if kind == "parquet":
        table = {
            "image": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
            "label": [int(file.parent.name == "bee") for file in files],
        }
        pq.write_table(pa.table(table), folder / "train.parquet", row_group_size=10)
        return f"parquet:{folder / 'train.parquet'}"
    lmdb = pytest.importorskip("lmdb", reason="lmdb is not installed")
    for file in files:
        where = folder / "lsun" / file.parent.name
        where.mkdir(parents=True, exist_ok=True)
        with lmdb.open(str(where), map_size=2**22) as environment, environment.begin(write=True) as entries:
            entries.put(file.stem.encode(), file.read_bytes())
    return f"lmdb:{folder / 'lsun'}"


@pytest.mark.parametrize("kind", ["tar", "parquet", "lmdb"])
@pytest.mark.filterwarnings("ignore:.*were copied to")
def test_shards_that_are_indexed(
    rows: list[list[str]], photos: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LESSONPLAN_CACHE", str(tmp_path / "cache"))
    spelled = shards_of(photos, kind, tmp_path)
    with progress.aloud():
        lp.data.load(spelled, image_size=16, memory_limit=0, workers=0)
    [row] = [row for row in rows if row[0] == "indexing shards"]
    assert any(cell.endswith(" pictures/s") for cell in row), row
    [share] = [int(cell.strip()[:-1]) for cell in row if cell.endswith("%")]
    assert 50 < share <= 100
    assert any(_TIME_LEFT.fullmatch(cell) for cell in row), row
    with progress.aloud():
        lp.data.load(spelled, image_size=16, memory_limit=0, workers=0)
    assert sum(row[0] == "indexing shards" for row in rows) == 1  # the index is kept


# -- work ------------------------------------------------------------------------------------------------


def test_features_and_what_is_judged(rows: list[list[str]], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LESSONPLAN_CACHE", str(tmp_path / "cache"))
    data, run = lp.data.load("digits", val_fraction=0.2), tmp_path / "run"
    lp.fit("fcnet-8", data, budget="1ep", threads=1, out=run)
    assert [row[0].split()[0] for row in rows] == ["epoch"]  # as always: the training alone
    with progress.aloud():
        lp.fit("fcnet-8", data, budget="1ep", threads=1, weights=str(run), tune="head")
    for part in (data.train, data.val, data.test):
        complete(rows, "computing features", f"{len(part):,}/{len(part):,} samples")
    [judged] = [row for row in rows if row[0] == "judging samples"]  # not what passes in one batch
    assert f"{len(data.test):,}/{len(data.test):,} samples" in judged


def test_labels_that_are_judged(rows: list[list[str]], tmp_path: Path) -> None:
    command(f"check digits --per-class 20 --out {tmp_path / 'look'}")
    row = complete(rows, "judging labels", "20/20 fits")
    told = json.loads((tmp_path / "look" / "data.json").read_text())
    assert f"best accuracy {told['suspects']['accuracy']:.3f}" in row


def test_checks_of_a_part(rows: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from lessonplan.mix import Mixup\n\n\nclass Mine(Mixup):\n    pass\n")
    command(f"check {tmp_path / 'own.py'}:Mine")
    complete(rows, "stopped and resumed, it ends with the same weights", "7/7 checks")


def test_packages_that_are_imported(rows: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ask", lambda script: ({}, None))
    core, extras = doctor.declared()
    count = len(core) + sum(map(len, extras.values()))
    command("doctor --imports")
    [row] = [row for row in rows if f"{count}/{count} packages" in row]
    assert row[0] == [requirement.name for extra in extras.values() for requirement in extra][-1]


# -- runs ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_comparison_that_goes_on_knows_the_best_run_before(
    rows: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "_val_accuracy", lambda job: 0.9 if job.seed == 0 else 0.1)
    line = f"compare {SMALL} --methods erm,mixup --budget 1ep --jobs 1 --out {tmp_path / 'runs'}"
    command(f"{line} --seeds 1 --quiet")
    command(f"{line} --seeds 2")
    row = complete(rows, "mixup, seed 1", "4/4 runs")
    assert "best val accuracy 0.900 (erm, seed 0)" in row
    command(f"report {tmp_path / 'runs'}")
    complete(rows, "writing pages", "4/4 pages")


def test_a_label_is_printed_as_it_is(terminal: io.StringIO) -> None:
    with RunCounter(2) as counter:
        counter.known("one [red]", 0.5)
        assert counter.judged("two [red]", 0.7) == "best val accuracy 0.700 (two \\[red])"
        assert counter.judged("three", 0.6) is None


@pytest.mark.slow
@pytest.mark.parametrize("watch", ["accuracy", "loss"])
def test_trials_of_a_tuning(rows: list[list[str]], tmp_path: Path, watch: str) -> None:
    line = f"tune {SMALL} --search lr=.01..0.5 --watch {watch} --splits 2 --budget 2ep --jobs 1 --sampler random"
    command(f"{line} --trials 3 --out {tmp_path / 'search'}")
    complete(rows, "trial 3", "3/3 trials")
    command(f"{line} --trials 5 --out {tmp_path / 'search'}")
    row = complete(rows, "trial 5", "5/5 trials")
    trials = json.loads((tmp_path / "search" / "tune.json").read_text())["trials"]
    best = max(range(5), key=lambda number: trials[number]["score"])
    score = trials[best]["score"]
    text = f"{-score:.4f}" if watch == "loss" else f"{100 * score:.2f}%"
    assert f"best val {watch} {text} (trial {best + 1})" in row


@pytest.mark.slow
def test_plans_of_a_tournament_are_measured_and_trained_at_the_end(rows: list[list[str]], tmp_path: Path) -> None:
    plans = "--plans mixup,mixup:alpha=0.5 --budget 10kcost --each 1ep --jobs 1"
    command(f"advise {SMALL} {plans} --out {tmp_path / 'advice'}")
    [row] = [row for row in rows if "3/3 plans" in row]
    assert row[0].endswith(", measured")
    assert any("trainings on all samples" in cell for row in rows for cell in row)
