"""A tournament looks at the data first, once, and stops where parts overlap."""

from __future__ import annotations

import json

import pytest
import torch

from lessonplan.errors import DataError
from lessonplan.lab.advice import advise, first_look
from lessonplan.lab.advice.labelled import Labelled
from lessonplan.report.advice import write_advice
from lessonplan.settings import Settings


@pytest.fixture
def overlapping():
    """Twelve pictures of two classes, and four of them, a little darker, to test on."""
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (12, 3, 16, 16), generator=generator).float()
    x = torch.nn.functional.interpolate(small, size=(32, 32), mode="bicubic").clamp(0, 255)
    y = torch.arange(12) % 2
    return (x.round().to(torch.uint8), y), ((0.8 * x[:4]).round().to(torch.uint8), y[:4])


def test_a_leak_stops_before_training_until_it_is_allowed(overlapping, tiny, no_pages, tmp_path, capsys):
    data, test = overlapping
    asked = {
        **tiny,
        "data": data,
        "test": test,
        "out": tmp_path / "advice",
        "budget": "4k cost",
        "augment": "none",
    }
    with pytest.raises(DataError, match=r"4 pictures of the test part have a near copy.*--allow-duplicates"):
        advise(**asked)
    assert not (tmp_path / "advice/runs").exists()
    assert (tmp_path / "advice/data/index.html").exists()
    found = advise(**asked, allow_duplicates=True)
    assert found.record.verdict
    assert "they are allowed" in capsys.readouterr().err
    page = write_advice(tmp_path / "advice").read_text()
    assert "4 pictures of the test part have a near copy" in page
    assert 'href="data/index.html"' in page


def test_the_data_are_looked_at_once(tiny, no_pages, tmp_path, monkeypatch):
    advise(**tiny, out=tmp_path)
    record = json.loads((tmp_path / "data/data.json").read_text())
    assert record["parts"] == {"training": 120}

    def again(*arguments, **options):
        raise AssertionError("looked at again")

    monkeypatch.setattr(first_look, "look", again)
    advise(**{**tiny, "budget": "6k cost"}, out=tmp_path)
    monkeypatch.undo()


def test_a_look_that_would_take_too_long_is_left_out_and_said(overlapping, tmp_path, monkeypatch):
    from lessonplan.data import load
    from lessonplan.lab.data_check import glance

    data, test = overlapping
    monkeypatch.setattr(glance, "_TOGETHER", 2)
    said = []
    first_look.look_first(
        load(data, test=test),
        None,
        tmp_path,
        per_class=None,
        val_fraction=0.2,
        seconds=0.0,
        allow_duplicates=False,
        say=said.append,
    )
    record = json.loads((tmp_path / "data/data.json").read_text())
    assert "too long" in record["near"]["left_out"]
    assert "no time" in record["suspects"]["left_out"]


def test_near_copies_are_kept_on_one_side_in_every_round(tiny, no_pages, tmp_path):
    """Of sixteen pictures twelve are three, each stored four times with other light."""
    generator = torch.Generator().manual_seed(1)
    small = torch.randint(0, 256, (7, 3, 16, 16), generator=generator).float()
    x = torch.nn.functional.interpolate(small, size=(32, 32), mode="bicubic").clamp(0, 255)
    same = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 4, 5, 6])
    light = torch.tensor([1.0, 0.9, 0.8, 0.7] * 3 + [1.0] * 4)
    y = torch.tensor([0] * 4 + [1] * 4 + [0] * 4 + [0, 1, 1, 1])
    data = ((x[same] * light[:, None, None, None]).round().to(torch.uint8), y)
    asked = {**tiny, "data": data, "each": "120 cost", "budget": "3k cost", "augment": "none"}
    found = advise(**{**asked, "settings": {"batch_size": 4, "lr": 0.1}}, out=tmp_path)
    assert found.record.together == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    source = Labelled(data, {"test_fraction": 0.0, "augment": "none"}, 0.2, 0, found.record.together)
    opened = source.opened("fcnet-4", Settings())
    rounds = list((tmp_path / "runs").glob("plain-*/trial.json"))
    assert len(rounds) > 3
    for file in rounds:
        judged = set(json.loads(file.read_text())["samples"])
        cut = source.of_round(opened, int(file.parent.name.rpartition("round")[2]))
        assert cut.test is not None
        assert judged == set(cut.test.rows.tolist())  # these are the rounds that were made
        assert not {int(same[row]) for row in judged} & {int(same[row]) for row in cut.train.rows.tolist()}
