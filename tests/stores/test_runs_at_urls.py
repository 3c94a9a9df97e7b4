"""Training, comparing, predicting at a URL: what a folder would give, whatever happens to process and store."""

from __future__ import annotations

import csv
import json
import shutil
import time
from pathlib import Path

import pytest
import torch

import lessonplan as lp
from lessonplan.commands.common import Folder
from lessonplan.commands.report import Report
from lessonplan.errors import ConfigError, DataError, LessonplanWarning
from lessonplan.report.live import live_context
from lessonplan.stores import address, fetched, opened, opening, sending
from lessonplan.stores.holding import Holding
from lessonplan.stores.objects import Objects, StoreError
from stores.conftest import failing_each

RUN = {"model": "fcnet-16", "data": "digits", "budget": "3ep", "threads": 1, "batch_size": 64}


class Killed(BaseException):
    """The process is gone."""


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def another_machine(monkeypatch, path: Path) -> None:
    monkeypatch.setenv("LESSONPLAN_CACHE", str(path))


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_run_at_a_url_is_that_of_a_folder(kind, tmp_path, monkeypatch):
    url = f"memory://bucket/{tmp_path.name}" if kind == "memory" else f"file://{tmp_path}/store/run"
    here, there = lp.fit(**RUN, out=tmp_path / "run"), lp.fit(**RUN, out=url)
    assert weights(there.folder) == weights(tmp_path / "run")
    another_machine(monkeypatch, tmp_path / "other")
    assert lp.fit(**RUN, out=url).result == there.result
    stored = {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert {name for name in stored if not name.startswith(".")} == set(opened_names(url))
    classifier = lp.load(url)
    x = lp.data.load("digits", seed=0).test.fetch(torch.arange(5), 0)[0]
    assert classifier.model(x).equal(here.model(x))


def opened_names(url: str) -> list[str]:
    return [name for name in Objects(url).listing() if ".lessonplan" not in name]


def _leave(sender, sync) -> str:
    """What becomes of the thread that sends when its process is killed."""
    sync.stopped = True
    return "killed"


class KilledAt(lp.Callback):
    """The process dies after a batch, once the store has a checkpoint of the run."""

    def __init__(self, url: str, batch: int) -> None:
        self.url, self.left = url, batch

    def on_batch_end(self, trainer):
        self.left -= 1
        if self.left == 0:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                if any(
                    name > "checkpoints/step-0000000000.ckpt" for name in opened_names(self.url) if "ckpt" in name
                ):
                    raise Killed
                time.sleep(0.02)


def test_a_killed_run_goes_on_from_a_fresh_machine_bit_for_bit(told, tmp_path, monkeypatch):
    url = "told://bucket/run"
    whole = lp.fit(**RUN, out=tmp_path / "undisturbed")
    with monkeypatch.context() as dying:
        dying.setattr(opening, "_finish", _leave)
        with pytest.raises(Killed):
            lp.fit(**RUN, out=url, checkpoint_every="3 steps", callbacks=[KilledAt(url, 17)])
    for path in [path for path in told.store if "lease" in path]:
        del told.store[path]  # of another machine: its beats are missed
    another_machine(monkeypatch, tmp_path / "other")
    begun: list[int] = []

    class At(lp.Callback):
        def on_train_start(self, trainer):
            begun.append(trainer.counters.steps)

    run = lp.fit(**RUN, out=url, checkpoint_every="3 steps", callbacks=[At()])
    assert begun[0] >= 3
    assert weights(run.folder) == weights(tmp_path / "undisturbed")
    assert len(run.records) == len(whole.records)


@pytest.mark.parametrize("number", [3, 7])
def test_a_store_that_fails_now_and_then_loses_nothing(told, tmp_path, number):
    told.before = staticmethod(failing_each(number))
    run = lp.fit(**RUN, out="told://bucket/run")
    told.before = staticmethod(lambda operation, path: None)
    mine = set(run_names(run.folder))
    assert mine == set(opened_names("told://bucket/run"))
    for name in mine:
        assert bytes(told.store[f"/bucket/run/{name}"].getvalue()) == (run.folder / name).read_bytes(), name


def run_names(folder: Path) -> list[str]:
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return [name for name in found if not Path(name).name.startswith(".")]


def test_a_store_that_goes_away_keeps_no_run_from_its_end(told, tmp_path, monkeypatch):
    url = "told://bucket/run"

    class Gone(lp.Callback):
        def on_train_start(self, trainer):
            told.before = staticmethod(failing_each(1))

    expected = (
        r"files of it were not sent to told://bucket/run \(.*Connection reset.*\): all is in .*, and the same"
    )
    with pytest.warns(LessonplanWarning, match=expected):
        run = lp.fit(**RUN, out=url, callbacks=[Gone()])
    assert "result.json" in run_names(run.folder)
    assert "result.json" not in [path.rpartition("/")[2] for path in told.store]
    with pytest.raises(StoreError, match="told://bucket/run could not be reached"):
        lp.fit(**RUN, out=url)
    told.before = staticmethod(lambda operation, path: None)
    again = lp.fit(**RUN, out=url)  # sends what is there
    assert again.result == run.result
    assert set(opened_names(url)) == set(run_names(run.folder))


def test_unsent_work_of_a_machine_that_others_have_overtaken_is_set_aside(told, tmp_path, monkeypatch):
    url = "told://bucket/run"
    lp.fit(**RUN, out=url)
    mine = address.home_of(url) / "work"
    another_machine(monkeypatch, tmp_path / "other")
    with pytest.warns(LessonplanWarning, match="had spent its budget"):
        longer = lp.fit(**{**RUN, "budget": "4ep"}, out=url)
    another_machine(monkeypatch, tmp_path / "cache")
    (mine / "notes.md").write_text("mine")
    with pytest.warns(LessonplanWarning, match=r"changed from another machine .* \(notes.md\): that work is in"):
        run = lp.fit(**{**RUN, "budget": "4ep"}, out=url)
    assert run.result == longer.result
    [aside] = mine.parent.glob("work-aside-*")
    assert (aside / "notes.md").read_text() == "mine"


def test_a_copy_that_was_cleared_away_is_fetched_again_and_nothing_is_deleted(told, tmp_path):
    url = "told://bucket/run"
    lp.fit(**RUN, out=url)
    names = opened_names(url)
    shutil.rmtree(address.home_of(url) / "work")
    assert lp.fit(**RUN, out=url).result["status"] == "finished"
    assert sorted(opened_names(url)) == sorted(names)
    with pytest.warns(LessonplanWarning, match="was deleted, and nothing more is sent"), opened(url) as place:
        shutil.rmtree(place.folder)
    assert sorted(opened_names(url)) == sorted(names)


def test_an_interrupt_while_the_rest_is_sent_leaves_it_in_the_copy(told, monkeypatch):
    def interrupted(sender):
        raise KeyboardInterrupt

    monkeypatch.setattr(sending, "PERIOD_SECONDS", 60.0)
    with monkeypatch.context() as pressed:
        pressed.setattr(sending.Sender, "finish", interrupted)
        with pytest.warns(LessonplanWarning, match=r"1 files of it were not .* \(stopped\)"):
            _write("told://bucket/run")
    assert opened_names("told://bucket/run") == []
    with opened("told://bucket/run"):
        pass
    assert opened_names("told://bucket/run") == ["config.yaml"]


def _write(url: str) -> None:
    with opened(url) as place:
        (place.folder / "config.yaml").write_text("a")


def test_deleted_files_are_deleted_there(told):
    with opened("told://bucket/run") as place:
        (place.folder / "config.yaml").write_text("a")
        (place.folder / "notes.md").write_text("b")
        (place.folder / ".hidden").write_text("c")
    assert sorted(opened_names("told://bucket/run")) == ["config.yaml", "notes.md"]
    with opened("told://bucket/run") as place:
        (place.folder / "notes.md").unlink()
    assert opened_names("told://bucket/run") == ["config.yaml"]


@pytest.mark.slow
def test_a_comparison_at_a_url_has_the_table_of_a_folder(told, tmp_path, monkeypatch):
    def table(text: str) -> list[dict[str, str]]:
        timed = ("seconds", "samples_per_second", "peak_memory")
        return [
            {k: v for k, v in row.items() if not k.startswith(timed)} for row in csv.DictReader(text.splitlines())
        ]

    asked = {"model": "fcnet-16", "seeds": 2, "budget": "2ep", "jobs": 1, "threads": 1}
    url = "told://bucket/mine"
    lp.compare("erm,mixup", "digits", out=tmp_path / "mine", **asked)
    lp.compare("erm", "digits", out=url, **asked)
    another_machine(monkeypatch, tmp_path / "other")
    lp.compare("erm,mixup", "digits", out=url, **asked)
    stored = bytes(told.store["/bucket/mine/results.csv"].getvalue()).decode()
    assert table(stored) == table((tmp_path / "mine" / "results.csv").read_text())
    assert not [path for path in told.store if "/." in path and ".lessonplan" not in path]
    other = address.home_of(url) / "work"  # what is done needs no checkpoints there
    begun_here = [path for path in other.rglob("*.ckpt") if "erm" in str(path)]
    assert not begun_here
    assert [path for path in told.store if path.endswith(".ckpt") and "/erm-" in path]
    page = fetched(url, "pages")
    assert {"results.json", "index.html"} <= {path.name for path in page.iterdir()}
    assert not list(page.rglob("*.safetensors"))


def test_weights_of_a_run_at_a_url(told):
    lp.fit(**RUN, out="told://bucket/run")
    run = lp.fit(**{**RUN, "budget": "1ep"}, weights="told://bucket/run")
    assert run.result["status"] == "finished"


@pytest.mark.parametrize("name", ["weights.safetensors", "config.yaml"])
def test_damaged_objects_are_told_of_by_their_url(told, name):
    lp.fit(**RUN, out="told://bucket/run")
    Objects("told://bucket/run").write(name, b"\x00 no")
    with pytest.raises(DataError, match=rf"told://bucket/run/{name} is"):
        lp.fit(**RUN, out="told://bucket/run")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nope://bucket/run", "fsspec knows no nope://: give s3://"),
        ("memory://", "no URL of a folder: write PROTOCOL://PLACE/FOLDER"),
        ("file:///proc/nowhere/run", "file:///proc/nowhere/run is not there: make it"),
        ("oci://bucket/run", "what fsspec opens oci:// with is not installed: Install ocifs"),
        (Path("s3://bucket/run"), "a URL as a Path, which loses a slash: give it as text"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_of_in_a_sentence(url, expected):
    with pytest.raises(ConfigError if "proc" not in str(url) else StoreError, match=expected):
        lp.fit(**RUN, out=url)


def test_a_package_that_is_missing_is_named_with_its_line(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigError, match=r"pip install 'lessonplan\[s3\]'"):
        lp.fit(**RUN, out="s3://bucket/run")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigError, match=r"fsspec is not installed: pip install 'lessonplan\[fsspec\]'"):
        lp.fit(**RUN, out="memory://bucket/run")


def test_no_right_to_write(told):
    def before(operation, path):
        if operation == "write":
            raise PermissionError("Access Denied")

    told.before = staticmethod(before)
    with pytest.raises(StoreError, match=r"no right to write to told://bucket/run .*: give other credentials"):
        lp.fit(**RUN, out="told://bucket/run")


def test_a_url_that_holds_something_else_is_left_alone(told):
    for name in ("a.csv", "b.csv", "deep/config.yaml"):
        Objects("told://bucket/data").write(name, b"1")
    before = dict(told.store)
    with pytest.raises(
        ConfigError, match=r"holds 3 objects and nothing of a run .* \(a.csv, b.csv, deep/config.yaml\)"
    ):
        lp.fit(**RUN, out="told://bucket/data")
    with pytest.raises(ConfigError, match="nothing of a run"):
        lp.load("told://bucket/data")
    with pytest.raises(ConfigError, match="told://bucket/empty holds nothing"):
        lp.load("told://bucket/empty")
    assert dict(told.store) == before


def test_names_that_would_leave_the_folder_are_not_fetched(told, tmp_path):
    objects = Objects("told://bucket/run")
    objects.write("config.yaml", b"a")
    for name in ("../../evil", "a/../../../evil", "..\\evil", "C:evil"):
        objects.write(name, b"1")
    with opened("told://bucket/run") as place:
        assert run_names(place.folder) == ["config.yaml"]
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.slow
def test_the_command_line_names_the_url_and_says_by_its_exit_code_what_is_not_there(told, capsys):
    from lessonplan.cli import main

    def lessonplan(*arguments: str) -> tuple[int, dict]:
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--json"])
        return stop.value.code, json.loads(capsys.readouterr().out)

    train = ["train", "--model", "fcnet-16", "--budget", "1ep", "--threads", "1", "--out", "told://bucket/run"]
    code, told_ = lessonplan(*train)
    assert code == 0
    assert told_["result"]["page"] == "told://bucket/run/index.html"
    assert Path(told_["result"]["copy"], "index.html").exists()
    code, told_ = lessonplan("evaluate", "told://bucket/run")
    assert (code, told_["result"]["folder"]) == (0, "told://bucket/run/evaluation")
    assert "/bucket/run/evaluation/evaluation.json" in told.store
    code, told_ = lessonplan("report", "told://bucket/run")
    assert code == 0
    code, told_ = lessonplan("preview", "--out", "told://bucket/x.png")
    assert (code, told_["error"]) == (2, "--out takes no URL: give a path of this machine")

    count = [0]

    def before(operation, path):
        count[0] += operation == "write" and "writer" in path
        if count[0] and "writer" not in path:
            raise OSError("Connection reset by peer")

    told.before = staticmethod(before)
    with pytest.warns(LessonplanWarning, match="not sent"):
        code, told_ = lessonplan(*train[:-1], "told://bucket/run2")
    assert code == 1
    assert told_["result"]["sent"] is False


def test_a_machine_that_does_not_see_the_copy_says_what_to_do(tmp_path, monkeypatch):
    from lessonplan.lab.elsewhere import absolute, attempt_after_the_dead

    class Noted:
        label = "noted"

        def __init__(self, folder: Path) -> None:
            self.folder = folder

        def do(self) -> None:
            (self.folder / "result.json").write_text("{}")

    with opened("memory://bucket/mine") as place:
        run = place.folder / "runs" / "a"
        run.mkdir(parents=True)
        task = absolute(Noted(run))
        assert attempt_after_the_dead(task) is None
        away = place.folder.with_name("elsewhere")
        place.folder.rename(away)
        assert "set LESSONPLAN_CACHE to a folder that all machines share" in str(attempt_after_the_dead(task))
        away.rename(place.folder)
    assert "runs/a/result.json" in opened_names("memory://bucket/mine")
    assert absolute(Noted(tmp_path)).label == "noted"
    assert isinstance(absolute(Noted(tmp_path)), Noted)


def test_how_far_a_comparison_at_a_url_is(told):
    """Nothing is held by who looks; runs that were begun are running as long as somebody holds the URL."""
    url, store = "told://bucket/mine", told()
    rows = [{"seed": seed, "status": "waiting", "folder": f"runs/erm-seed{seed}"} for seed in (0, 1, 2)]
    table = {"schema": 1, "title": "t", "methods": [{"name": "erm", "runs": rows}]}
    store.pipe_file(f"{url}/results.json", json.dumps(table).encode())
    for seed in (0, 1):
        store.pipe_file(f"{url}/runs/erm-seed{seed}/config.yaml", b"{}")
        store.pipe_file(f"{url}/runs/erm-seed{seed}/weights.safetensors", b"many")
    looking = Report(Folder(url), watch=True)

    def counted() -> tuple[int, int, int]:
        at_work = looking._renew()
        total = live_context(fetched(url, "progress"), at_work)["total"]
        return total["done"], total["running"], total["waiting"]

    assert counted() == (0, 0, 3)
    holding = Holding(Objects(url))
    assert counted() == (0, 2, 1)
    store.pipe_file(f"{url}/runs/erm-seed0/result.json", b"{}")
    assert counted() == (1, 1, 1)
    holding.release(answers=True)
    assert counted() == (1, 0, 2)
    assert not list(fetched(url, "progress").glob("**/*.safetensors"))
