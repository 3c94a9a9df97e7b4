"""A comparison is recorded: its runs, its pictures, its final table."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.train import records as kinds
from lessonplan.train.records import Record


class Memory(Record):
    """A record that can be looked at, in the same process."""

    name, package = "memory", "json"
    heard: list[tuple[str, str, Any]] = []  # noqa: RUF012

    def _hear(self, what: str, said: Any) -> None:
        self.heard.append((self.title or "", what, said))

    def reach(self):
        self._hear("reach", None)

    def open(self, config, known, first):
        self._hear("open", known)
        return f"number of {self.title}"

    def numbers(self, numbers, step):
        self._hear("numbers", dict(numbers))

    def picture(self, title, file, step):
        self._hear("picture", title)

    def table(self, title, columns, rows):
        self._hear("table", (columns, rows))

    def close(self, ending):
        self._hear("close", ending)


@pytest.mark.slow
def test_runs_and_table_are_recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(kinds.RECORDS, "memory", Memory)
    monkeypatch.setattr(Memory, "heard", [])
    arguments = {"data": "digits", "out": tmp_path / "c", "model": "fcnet-8", "budget": "100 samples", "jobs": 1}
    results = lp.compare("erm,mixup", seeds=2, per_class=4, log="memory", **arguments)
    opened = [title for title, what, _ in Memory.heard if what == "open"]
    assert opened[-1] == "c"
    assert Memory.heard[0] == ("c", "reach", None)  # once, before processes that write into the same store
    assert [what for _, what, _ in Memory.heard].count("reach") == 1
    assert len(set(opened)) == 5
    ((columns, rows),) = [said for _, what, said in Memory.heard if what == "table"]
    assert columns[:3] == ("method", "n", "test %")
    assert [row[0] for row in rows] == ["erm", "mixup"]
    assert [float(row[2]) for row in rows] == pytest.approx(
        [100 * m["mean"] for m in results["methods"]], abs=0.006
    )
    assert [said for title, what, said in Memory.heard if what == "picture" and title == "c"] == [
        "mixed samples/erm",
        "mixed samples/mixup",
    ]
    assert [said for _, what, said in Memory.heard if what == "close"] == ["finished"] * 5
    numbers = [said for title, what, said in Memory.heard if what == "numbers" and title == "c"]
    assert numbers[0]["mixup/mean"] == results["methods"][1]["mean"]
    Memory.heard.clear()
    lp.compare("erm,mixup", seeds=2, per_class=4, log="memory", **arguments)
    assert Memory.heard == []  # nothing was new
    assert "finished before: nothing is recorded by log=memory" in capsys.readouterr().err
    lp.compare("erm,mixup", seeds=3, per_class=4, log="memory", **arguments)
    assert [said for title, what, said in Memory.heard if what == "open" and title == "c"] == ["number of c"]


def test_what_cannot_be_recorded_or_compared_is_said_first(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'mlflow'"):
        lp.compare("erm", out=tmp_path / "c", log="mlfow")
    with pytest.raises(ConfigError, match="each run needs a fresh network: give a function"):
        lp.compare("erm", out=tmp_path / "c", model=nn.Linear(64, 10))
    with pytest.raises(ConfigError, match="judged by test data, and these have none: give a test set"):
        lp.compare("erm", out=tmp_path / "c", data="digits", per_class=4, test_fraction=0.0)
    with pytest.raises(ConfigError, match=r"device='xpu:7'"):
        lp.compare("a=erm, b=device:xpu:7", out=tmp_path / "c", data="digits", per_class=4, model="fcnet-8")
    assert not (tmp_path / "c").exists()
