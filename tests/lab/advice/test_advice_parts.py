"""The parts of a tournament by themselves: what a run takes, how long it may be, who competes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lessonplan as lp
from lessonplan.errors import ConfigError, DataError
from lessonplan.lab.advice.allowance import Allowance
from lessonplan.lab.advice.field import PLAIN, field_of
from lessonplan.lab.advice.labelled import Labelled
from lessonplan.lab.advice.length import course, lengths, on_all, shortest, whole, with_length
from lessonplan.lab.advice.pace import measure
from lessonplan.lab.advice.record import Record, check_same, read_record
from lessonplan.lab.plan_file import plan_from
from lessonplan.settings import Settings


@pytest.mark.parametrize("mix", ["none", "mixup", "sum:k=2"])
def test_the_price_of_a_run_is_what_the_run_costs(mix: str) -> None:
    source = Labelled("digits", {"per_class": 10, "val_fraction": 0, "test_fraction": 0.0})
    entry = plan_from({"model": "fcnet-8", "mix": mix, "settings": {"threads": 1}}, "tried")
    data = source.of_round(source.opened("fcnet-8", Settings()), 0)
    pace = measure(entry, data, 1)
    assert pace.seconds > 0
    for budget in ("1000 cost", "3000 cost", "11 steps", "300 samples"):
        run = lp.fit("fcnet-8", data, entry.method.fresh_plan(), budget, threads=1)
        assert pace.price(budget) == run.result["cost"], budget
        assert pace.updates(budget) == run.result["steps"], budget


def test_the_price_of_a_head_holds_its_features(tmp_path: Path) -> None:
    settings = {"tune": "head", "optimizer": "adamw", "feature_cache": str(tmp_path)}
    source = Labelled("digits", {"per_class": 5, "val_fraction": 0, "test_fraction": 0.0})
    for more in ({}, {"fit_head": "ncm"}):
        entry = plan_from({"model": "tiny", "settings": {**settings, **more}}, "head")
        data = source.of_round(source.opened("tiny", Settings()), 0)
        pace = measure(entry, data, 1)
        run = lp.fit("tiny", data, None, "20 steps", threads=1, **settings, **more)
        assert pace.price("20 steps") == pytest.approx(run.result["cost"], rel=0.15)


def test_lengths_fall_to_the_shortest() -> None:
    assert shortest(200, False) == 10
    assert shortest(50_000, False) == 1
    assert shortest(160, True) == 3
    for samples in (50, 1000, 60_000):
        for pretrained in (False, True):
            found = lengths(samples, pretrained)
            assert found == sorted(found, reverse=True)
            assert found[-1] == shortest(samples, pretrained)
            assert len(set(found)) == len(found)


def test_the_course_halves_and_its_price_is_that_of_its_runs() -> None:
    rounds = list(course(5))
    assert [running for _, running in rounds] == [5, 3, 2, 1]
    assert sum(new for new, _ in rounds) == 14
    entries = [plan_from({"name": name}, name) for name in "rabcde"]
    runs = sum(new * (1 + running) for new, running in rounds)
    assert whole(lambda entry: 1.0, entries[0], entries[1:]) == runs
    assert list(course(1)) == [(4, 1)]


def test_plans_of_one_network_have_equal_cost_and_heads_their_own() -> None:
    def budget(settings: dict[str, Any], each: str | None = None, own: str | None = None) -> str | None:
        content = {"budget": own, "settings": settings} if own else {"settings": settings}
        return with_length(plan_from(content, "p"), 10.0, 160, each).budget

    assert budget({}) == budget({"lr": 0.1}) == "4800 cost"
    assert budget({"tune": "head"}) == "300 steps"
    assert budget({"tune": "head", "features": "off"}) == "4800 cost"
    assert budget({"tune": "head", "fit_head": "ncm"}) == "1 steps"
    assert budget({}, each="7ep") == "7ep"
    assert budget({}, each="7ep", own="3ep") == "3ep"
    assert on_all("300 steps", 1.25) == "375 steps"


def test_the_default_field_depends_on_weights() -> None:
    scratch = [entry.name for entry in field_of(None, Settings())]
    assert scratch[0] == PLAIN
    assert "cascade-4" in scratch
    assert "probe" not in scratch
    tuned = {entry.name: entry for entry in field_of(None, Settings(weights="pretrained"))}
    assert tuned["probe"].method.settings == {"tune": "head"}
    assert tuned["logreg"].method.settings == {"tune": "head", "fit_head": "logreg"}
    assert tuned["lr-third"].method.settings["lr"] == pytest.approx(3e-4 / 3, rel=0.01)
    heads = [entry.name for entry in field_of(None, Settings(weights="pretrained", tune="head"))]
    assert not {"probe", "cutmix"} & set(heads)


def test_plans_may_be_files_texts_and_more(tmp_path: Path) -> None:
    file = tmp_path / "gentle.yaml"
    file.write_text("mix: mixup\nbudget: 3ep\n")
    assert [e.name for e in field_of(str(file), Settings())] == [PLAIN, "gentle"]
    both = field_of([file, "erm,sum:k=4"], Settings())
    assert [e.name for e in both] == [PLAIN, "gentle", "sum:k=4"]
    assert both[1].budget == "3ep"
    own = field_of({"plain": {"settings": {"lr": 0.3}}, "erm": "none"}, Settings())
    assert own[0].method.settings == {"lr": 0.3}
    assert [e.name for e in own] == [PLAIN, "erm"]  # another learning rate is another plan
    with pytest.raises(ConfigError, match="'gentle' is given twice"):
        field_of([file, file], Settings())


def test_allowances() -> None:
    assert Allowance.parse("90s", None).total == 90
    assert Allowance.parse("1h 30min", None).total == 5400
    assert Allowance.parse(None, "10min").unit == "seconds"
    assert Allowance.parse(None, "40M cost").total == 40e6
    later = Allowance(10.0, "seconds", before=100.0)
    assert 100 <= later.seconds < 101


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    record = Record({"data": "digits", "fingerprint": "a", "plans": {}})
    record.store(tmp_path)
    assert read_record(tmp_path) == record
    check_same(record, record.identity, tmp_path)
    with pytest.raises(ConfigError, match="the data digits changed since the first part"):
        check_same(record, {**record.identity, "fingerprint": "b"}, tmp_path)
    for text in ("{", '{"schema": 7}', '{"schema": 1, "odd": 2}'):
        (tmp_path / "advice.json").write_text(text)
        with pytest.raises(DataError, match=r"advice\.json is damaged or of another version"):
            read_record(tmp_path)
