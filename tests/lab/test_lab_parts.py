"""Recipes of several parts: choosing some, their data sets, and what is said over all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lessonplan.errors import ConfigError, DataError
from lessonplan.lab import reproduce, reproduction
from lessonplan.lab.recipe import Claim, Part, Recipe, Trend

METHODS = {"erm": "none", "filter": "select:accuracy"}


def recipe_of(parts: dict[str, Part], scale: Any = "smoke") -> Recipe:
    return Recipe(
        name="r", title="R", citation="c", needs="mnist", methods=METHODS, scales={scale: parts},
        claims=[Claim(text="Filtering helps.", method="filter", than="erm")],
        trends=[Trend(text="More so in b.", method="filter", than="erm", part="b", than_part="a")],
    )  # fmt: skip


@pytest.fixture
def tiny_recipe(no_pages: None, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Part(
        data="digits", model="fcnet-4", budget="64 samples", seeds=2, data_options={"per_class": 10},
        settings={"batch_size": 16},
    )  # fmt: skip
    recipe = recipe_of({"a": part, "a, longer": part.model_copy(update={"budget": "96 samples"}), "b": part})
    monkeypatch.setattr(reproduction, "find_recipe", lambda name: recipe)
    monkeypatch.setattr(reproduction, "write_comparison", lambda folder: None)


@pytest.mark.usefixtures("tiny_recipe")
def test_parts_are_chosen_by_a_pattern_and_an_overview_knows_those_done_before(tmp_path: Path) -> None:
    first = reproduce("r", out=tmp_path, only="a*", jobs=1)
    assert list(first.results) == ["a", "a, longer"]
    assert first.overview[0].endswith("in 2 of 2 parts (a; a, longer): Filtering helps.")
    assert "no results of b" in first.overview[1]
    second = reproduce("r", out=tmp_path, only="b", jobs=1)
    assert list(second.results) == ["b"]
    assert "of 3 parts" in second.overview[0]
    assert "2 seeds" in second.overview[1]
    overview = json.loads((tmp_path / "overview.json").read_text())
    assert overview["parts"] == ["a", "a, longer", "b"]
    assert overview["claims"] == second.overview
    assert "a, longer" in (tmp_path / "index.html").read_text()


@pytest.mark.usefixtures("tiny_recipe")
def test_parts_of_another_scale_in_the_folder_are_not_counted(tmp_path: Path) -> None:
    reproduce("r", out=tmp_path, only="a", jobs=1)
    source = json.loads((tmp_path / "a" / "source.json").read_text())
    (tmp_path / "a" / "source.json").write_text(json.dumps({**source, "scale": "cpu"}))
    assert "of 1 part (b)" in reproduce("r", out=tmp_path, only="b", jobs=1).overview[0]


@pytest.mark.usefixtures("tiny_recipe")
def test_what_was_found_is_shown_part_by_part_and_over_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reproduce("r", out=tmp_path, jobs=1).show()
    text = capsys.readouterr().out
    assert text.count("filter minus erm") >= 3
    assert "of 3 parts" in text
    assert "More so in b." in text


@pytest.mark.usefixtures("tiny_recipe")
def test_a_pattern_that_fits_no_part_lists_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'c'.*: a; a, longer; b$"):
        reproduce("r", out=tmp_path / "out", only="c")
    assert not (tmp_path / "out").exists()


def test_parts_that_need_several_data_sets_are_not_given_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Part(budget="1ep")
    recipe = recipe_of({"a": part, "b": part.model_copy(update={"needs": "cifar-10"})}, "paper")
    monkeypatch.setattr(reproduction, "find_recipe", lambda name: recipe)
    with pytest.raises(ConfigError, match=r"MNIST and CIFAR-10.*--only"):
        reproduce("r", "paper", out=tmp_path / "out", data="digits")
    with pytest.raises(DataError, match=r"CIFAR-10 \(163 MB"):
        reproduce("r", "paper", out=tmp_path / "out", only="b")
    assert not (tmp_path / "out").exists()
