"""Whatever is written and deleted, and whenever the process dies: what the store holds can be gone on from."""

from __future__ import annotations

import hashlib
import json
import random
import warnings
from pathlib import Path

import pytest

from lessonplan.errors import LessonplanWarning
from lessonplan.stores.copy import Copy
from lessonplan.stores.objects import Objects, StoreError
from lessonplan.stores.sync import Sync

URL = "told://bucket/mine"
RUNS = ("runs/a", "runs/b")


class Killed(BaseException):
    """The process is gone."""


class Broken(BaseException):
    """What the store holds does not go together; no reader of errors takes this for one of the store's."""


def holds(condition: bool, what: str) -> None:
    if not condition:
        raise Broken(what)


class Writer:
    """Writes folders of runs as ``lessonplan.train`` does, in its order, with contents that name each other."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root, self.chance = root, chance

    def step(self) -> None:
        """One thing that a run does; each leaves the folder as a kill would find it."""
        run = self.root / self.chance.choice(RUNS)
        if not (run / "config.yaml").exists():
            self._put(run / "config.yaml", "1")
        elif (run / "result.json").exists():
            self.chance.choice([self._table, lambda: self._go_on(run), lambda: None])()
        else:
            self.chance.choices([self._epoch, self._checkpoint, self._finish], [5, 3, 1])[0](run)

    def _put(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.1.tmp")
        part.write_text(text)
        part.replace(path)

    def _epoch(self, run: Path) -> None:
        with (run / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"x": self.chance.random()}) + "\n")

    def _checkpoint(self, run: Path) -> None:
        lines = (run / "metrics.jsonl").read_bytes() if (run / "metrics.jsonl").exists() else b""
        known = sorted((run / "checkpoints").glob("*.ckpt"))
        step = int(known[-1].stem[5:]) + 1 if known else 0
        told = {"length": len(lines), "digest": hashlib.sha256(lines).hexdigest()}
        self._put(run / "checkpoints" / f"step-{step:010d}.ckpt", json.dumps(told))
        for old in sorted((run / "checkpoints").glob("*.ckpt"))[:-2]:
            old.unlink()

    def _finish(self, run: Path) -> None:
        self._checkpoint(run)
        mark = str(self.chance.random())
        self._put(run / "weights.safetensors", mark)
        budget = (run / "config.yaml").read_text()
        self._put(run / "result.json", json.dumps({"weights": mark, "budget": budget}))

    def _go_on(self, run: Path) -> None:
        before = json.loads((run / "continued.json").read_text()) if (run / "continued.json").exists() else []
        self._put(run / "continued.json", json.dumps([*before, json.loads((run / "result.json").read_text())]))
        (run / "result.json").unlink()
        self._put(run / "config.yaml", str(int((run / "config.yaml").read_text()) + 1))

    def _table(self) -> None:
        done = {run: json.loads(f.read_text()) for run in RUNS if (f := self.root / run / "result.json").exists()}
        self._put(self.root / "results.json", json.dumps(done))

    def resume(self) -> None:
        """What a run that is begun again does first: metrics as they were at the newest checkpoint."""
        for run in (self.root / name for name in RUNS):
            known = sorted((run / "checkpoints").glob("*.ckpt"))
            if (run / "result.json").exists() or not (run / "metrics.jsonl").exists():
                continue
            length = json.loads(known[-1].read_text())["length"] if known else 0
            (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes()[:length])


def check(objects: dict[str, bytes], had: set[str]) -> None:
    """What must hold of the store at any moment."""
    table = json.loads(objects.get("results.json", b"{}"))
    for run in RUNS:
        inside = {name.removeprefix(f"{run}/"): c for name, c in objects.items() if name.startswith(f"{run}/")}
        checkpoints = [name for name in inside if name.startswith("checkpoints/")]
        holds(not inside or "config.yaml" in inside, f"nothing says what {run} is")
        if checkpoints:
            had.add(run)
            told = json.loads(inside[max(checkpoints)])
            lines = inside.get("metrics.jsonl", b"")[: told["length"]]
            holds(hashlib.sha256(lines).hexdigest() == told["digest"], "the checkpoint's metrics are missing")
        holds(bool(checkpoints) or run not in had, "the last checkpoint was deleted")
        results = json.loads(inside.get("continued.json", b"[]"))
        if "result.json" in inside:
            results.append(json.loads(inside["result.json"]))
            holds(inside["weights.safetensors"].decode() == results[-1]["weights"], "a result of other weights")
            holds(inside["config.yaml"].decode() == results[-1]["budget"], "a result of another budget")
        holds(run not in table or table[run] in results, "the table knows of a result that is not there")


@pytest.mark.parametrize("seed", range(4))
def test_the_store_can_be_gone_on_from_at_every_moment(told, tmp_path, seed):
    chance = random.Random(seed)
    had: set[str] = set()
    writing: list[Writer] = []
    sent = 0

    def contents() -> dict[str, bytes]:
        prefix = "/bucket/mine/"
        found = {path.removeprefix(prefix): bytes(file.getvalue()) for path, file in told.store.items()}
        return {name: content for name, content in found.items() if not name.startswith(".")}

    def before(operation: str, path: str) -> None:
        if chance.random() < 0.3 and writing:
            writing[0].step()  # training goes on while something is sent
        if chance.random() < 0.02:
            raise Killed
        if chance.random() < 0.05:
            raise OSError("Connection reset by peer")

    def after(operation: str, path: str) -> None:
        nonlocal sent
        if operation in ("write", "remove"):
            sent += 1
            check(contents(), had)
            if chance.random() < 0.02:
                raise Killed

    told.before, told.after = staticmethod(before), staticmethod(after)
    for life in range(6):
        copy = Copy(tmp_path / f"machine{chance.choice([0, 1, life + 2])}", "work")
        try:
            sync = Sync(Objects(URL), copy, spared=lambda name, there: False)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", LessonplanWarning)  # of work that was set aside
                sync.fetch()
            writing[:] = [Writer(copy.folder, chance)]
            writing[0].resume()
            for _ in range(25):
                for _ in range(chance.randrange(4)):
                    writing[0].step()
                try:
                    sync.send(all_of_it=chance.random() < 0.5)
                except StoreError:
                    continue
        except (Killed, StoreError):
            pass
        finally:
            writing.clear()
    assert sent > 10
    told.before = told.after = staticmethod(lambda operation, path: None)
    sync = Sync(Objects(URL), Copy(tmp_path / "last", "work"), spared=lambda name, there: False)
    sync.fetch()
    here = {name: (sync.copy.folder / name).read_bytes() for name in sync.copy.walk()}
    assert here == contents()
    check(here, had)
