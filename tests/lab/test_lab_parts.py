"""Recipes of several parts: choosing some, their data sets, and what is said over all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

import lessonplan as lp
from lessonplan.errors import ConfigError, DataError
from lessonplan.evaluation import Evaluation
from lessonplan.lab import reproduce, reproduction
from lessonplan.lab.recipe import Claim, Part, Recipe, Trend, find_recipe
from lessonplan.pretrained.files import digest_of

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
    other = part.model_copy(update={"needs": "cifar-10"})
    recipe = recipe_of({"a": part, "a, longer": part, "b": other, "c": part, "d": other}, "paper")
    monkeypatch.setattr(reproduction, "find_recipe", lambda name: recipe)
    with pytest.raises(ConfigError, match=r"MNIST and CIFAR-10.* with --only 'a\*' or --only 'b'$"):
        reproduce("r", "paper", out=tmp_path / "out", only="[ab]*", data="digits")
    with pytest.raises(ConfigError, match=r"--only 'a' or --only 'b'$"):  # no pattern is of one set alone
        reproduce("r", "paper", out=tmp_path / "out", data="digits")
    with pytest.raises(DataError, match=r"CIFAR-10 \(163 MB"):
        reproduce("r", "paper", out=tmp_path / "out", only="b")
    assert not (tmp_path / "out").exists()


def test_other_data_take_the_place_of_the_recipes(
    tmp_path: Path, no_pages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Part(
        data="digits", model="fcnet-4", budget="64 samples", seeds=2, data_options={"per_class": 10},
        settings={"batch_size": 16}, evaluate=Evaluation.make(ood=("noise",), limit=20),
    )  # fmt: skip
    recipe = recipe_of({"told": part, "plain": part.model_copy(update={"evaluate": None})})
    monkeypatch.setattr(reproduction, "find_recipe", lambda name: recipe)
    monkeypatch.setattr(reproduction, "write_comparison", lambda folder: None)
    found = reproduce("r", out=tmp_path / "out", only="told", jobs=1, ood="digits,noise")
    kept = next((tmp_path / "out" / "told").glob("runs/*/evaluation/evaluation.json")).read_text()
    assert json.loads(kept)["options"]["ood"] == ["digits", "noise"]
    assert found.failures == 0
    with pytest.raises(ConfigError, match="no part of r at scale smoke that was chosen tells other data"):
        reproduce("r", out=tmp_path / "none", only="plain", ood="noise")
    for bad, error, words in (
        (" ,", ConfigError, "names no data"),
        ("nowhere", DataError, "nowhere does not exist"),
        ("cifar:nowhere", DataError, "nowhere"),
    ):
        with pytest.raises(error, match=words):
            reproduce("r", out=tmp_path / "none", only="told", jobs=1, ood=bad)
    assert not (tmp_path / "none").exists()  # told before anything is trained


@pytest.mark.usefixtures("tiny_recipe")
def test_another_network_and_its_weights_take_the_recipes_place(tmp_path: Path) -> None:
    run = lp.fit("fcnet-6", "digits", budget="1 steps", threads=1, out=tmp_path / "source")
    results = reproduce("r", out=tmp_path / "out", only="b", jobs=1, model="fcnet-6", weights=str(run.folder))
    assert results.failures == 0
    config = yaml.safe_load((tmp_path / "out" / "b" / "config.yaml").read_text())
    assert config["model"] == "fcnet-6"
    [first, *_] = sorted((tmp_path / "out" / "b" / "runs").glob("erm-*/weights.safetensors"))
    theirs = load_file(tmp_path / "source" / "weights.safetensors")
    said = (first.parent / "config.yaml").read_text()
    assert digest_of(theirs) in said


def test_one_network_cannot_stand_for_several(
    no_pages: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Part(data="digits", model="fcnet-4", budget="64 samples")
    recipe = recipe_of({"a": part, "b": part.model_copy(update={"model": "fcnet-8"})})
    monkeypatch.setattr(reproduction, "find_recipe", lambda name: recipe)
    with pytest.raises(ConfigError, match=r"compare networks \(fcnet-4, fcnet-8\), and one model was given"):
        reproduce("r", out=tmp_path / "out", model="tiny")
    with pytest.raises(ConfigError, match="one weights was given"):
        reproduce("r", out=tmp_path / "out", weights="w.safetensors")
    assert not (tmp_path / "out").exists()


def test_a_search_takes_no_weights(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes no model and no weights"):
        reproduce("thesis-2.1", out=tmp_path, model="tiny", weights="pretrained")


def test_what_the_photographs_are_when_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"photographs.*--data folder:"):
        reproduce("pretrained-few-labels", "cpu", out=tmp_path / "out")


def test_every_part_of_a_gain_is_a_part_of_the_recipe() -> None:
    recipe = find_recipe("pretrained-few-labels")
    shown = {name for figure in recipe.gains for name in figure.parts}
    for scale, parts in recipe.scales.items():
        assert set(parts) <= shown, scale
    for name, part in recipe.scales["gpu"].items():
        number = next(figure.parts[name] for figure in recipe.gains if name in figure.parts)
        assert part.data_options["per_class"] == number
        assert ("tune" in part.settings) == name.startswith("probe")
