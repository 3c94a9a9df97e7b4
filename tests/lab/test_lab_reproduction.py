"""Recipes: every one runs, and says what became of its source's claims."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from lessonplan.errors import ConfigError, DataError
from lessonplan.lab import reproduce, reproduction
from lessonplan.lab.claims import judge
from lessonplan.lab.datasets import KNOWN
from lessonplan.lab.figures import write_figures
from lessonplan.lab.methods import read_methods
from lessonplan.lab.recipe import Claim, Recipe, all_recipes, find_recipe
from lessonplan.models import check_model
from lessonplan.report import plots
from lessonplan.settings import Settings
from lessonplan.train.budget import Budget

RECIPES = {recipe.name: recipe for recipe in all_recipes()}
SHIPPED = {"thesis-3.1", "thesis-3.2", "thesis-3.4", "lecture-generalisation"}


def test_what_is_shipped() -> None:
    assert set(RECIPES) >= SHIPPED


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_a_recipe_fits_together(recipe: Recipe) -> None:
    """Names in tables, claims, figures and scales are those of its methods; plans and settings can be read."""
    assert {m.name for m in read_methods(recipe.methods)} == set(recipe.methods)
    named = {recipe.reference}
    part_names = {name.partition(",")[0] for parts in recipe.scales.values() for name in parts}
    for claim in [*recipe.claims, *recipe.trends]:
        named |= {claim.method, claim.than}
    every_part = {name for parts in recipe.scales.values() for name in parts}
    assert all(any(fnmatchcase(name, claim.parts) for name in every_part) for claim in recipe.claims)
    for trend in recipe.trends:
        assert {trend.part, trend.than_part} <= part_names
    for table in recipe.tables:
        named |= {name for name in table.methods if name is not None}
        assert len(table.methods) <= len(table.rows)  # the last rows may have no method of ours
        assert not table.measures or len(table.methods) == len(table.rows)
        assert {len(row) for row in table.rows} == {len(table.columns)}
        assert len(table.measures) in (0, len(table.columns) - 1)
        assert table.part is None or table.part in part_names | every_part
    for figure in recipe.figures:
        named |= set(figure.methods)
    assert set(recipe.scales) >= {"smoke", "cpu", "gpu", "paper"}
    for parts in recipe.scales.values():
        for part in parts.values():
            Settings.make(**part.settings)
            Budget.parse(part.budget)
            check_model(part.model)
            assert part.needs is None or part.needs in KNOWN
            named |= {*(part.methods or ()), *part.instead}
            read_methods(dict(part.instead) or {"erm": None})
            assert recipe.reference in (part.methods or recipe.methods)
    assert named <= set(recipe.methods)
    brought = all(part.data is not None for parts in recipe.scales.values() for part in parts.values())
    assert brought if recipe.needs is None else recipe.needs in KNOWN


def with_small_networks(recipe: Recipe) -> Recipe:
    """The recipe with a network at smoke scale that trains in no time."""
    parts = {
        name: part  # boxes come from feature maps, which a fully connected network has not
        if part.evaluate is not None and part.evaluate.localise
        else part.model_copy(update={"model": "fcnet-8"})
        for name, part in recipe.scales["smoke"].items()
    }
    return recipe.model_copy(update={"scales": {**recipe.scales, "smoke": parts}})


_LONG = (
    "pretrained-few-labels", "thesis-3.1", "assist-4.4", "assist-4.6", "assist-4.8", "assist-appendix",
    "lecture-localisation", "lecture-puzzle", "assist-4.7", "assist-4.9", "lecture-adversarial",
    "lecture-corruption", "thesis-2.4", "thesis-3.2", "thesis-3.4", "thesis-3.5", "thesis-3.6",
)  # fmt: skip


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(r, id=name, marks=pytest.mark.slow if name in _LONG else ()) for name, r in RECIPES.items()],
)
def test_a_recipe_runs_at_smoke_scale(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lessonplan.report.write_run", lambda folder: None)  # a second each, and tested elsewhere
    monkeypatch.setattr("lessonplan.report.write_evaluation", lambda folder: None)
    monkeypatch.setattr(
        "lessonplan.report.write_comparison", lambda root: None
    )  # it is written again with the source
    monkeypatch.setattr(plots, "to_svg", lambda *_: Markup("<svg></svg>"))
    monkeypatch.setattr(reproduction, "find_recipe", lambda name: with_small_networks(RECIPES[name]))
    selects = any("select" in str(method) for method in recipe.methods.values())  # an epoch may fill no batch
    budget = "640 samples" if selects else "160 samples"
    outcome = reproduce(recipe.name, "smoke", out=tmp_path, seeds=2, budget=budget, jobs=1)
    assert outcome.failures == 0
    assert set(outcome.results) == set(recipe.scales["smoke"])
    folders = [tmp_path] if len(outcome.results) == 1 else [tmp_path / name for name in outcome.results]
    assert (tmp_path / "index.html").is_file()
    for name, folder in zip(outcome.results, folders, strict=True):
        page = (folder / "index.html").read_text()
        source = json.loads((folder / "source.json").read_text())
        assert source["citation"] == recipe.citation
        assert [claim["text"] for claim in source["claims"]] == [
            claim.text for claim in recipe.claims if fnmatchcase(name, claim.parts)
        ]
        assert {claim["verdict"] for claim in source["claims"]} <= {
            "held",
            "did not hold",
            "undecided",
            "not measured",
        }
        tables = [t for t in recipe.tables if t.part is None or name == t.part or name.startswith(f"{t.part},")]
        apart = source["tables"][len(tables) :]  # smoke is nobody's experiment
        assert bool(apart) == any(table.of for table in tables)
        assert all(t["title"].startswith("Ours, of another experiment") for t in apart)
        for shown, table in zip(source["tables"], tables, strict=False):
            assert table.title in page or table.title.replace("'", "&#39;") in page
            if not table.measures:
                assert shown["rows"] == table.rows
        pictures = sorted((folder / "figures").glob("*.png"))
        assert len(pictures) == len(recipe.figures)
        assert all(picture.with_suffix(".json").is_file() for picture in pictures)


def results_of(scores: dict[str, list[float]]) -> dict[str, Any]:
    """As much of ``results.json`` as a claim is judged by."""
    return {
        "level": 0.95,
        "methods": [
            {"name": name, "runs": [{"seed": s, "test_accuracy": v} for s, v in enumerate(values)]}
            for name, values in scores.items()
        ],
    }


def test_claims_are_judged_by_their_intervals() -> None:
    scores = {"low": [0.50, 0.51, 0.49, 0.50], "high": [0.60, 0.62, 0.59, 0.61], "near": [0.50, 0.50, 0.50, 0.51]}
    claims = [
        Claim(text="right", method="high", than="low"),
        Claim(text="wrong", method="low", than="high"),
        Claim(text="open", method="near", than="low"),
        Claim(text="absent", method="nobody", than="low"),
    ]
    verdicts = {c["text"]: c for c in judge(claims, results_of(scores))}
    assert [verdicts[c.text]["verdict"] for c in claims] == ["held", "did not hold", "undecided", "not measured"]
    assert "+10.50 points" in verdicts["right"]["detail"]
    assert "nobody" in verdicts["absent"]["detail"]


def test_one_seed_decides_no_claim() -> None:
    [verdict] = judge([Claim(text="t", method="b", than="a")], results_of({"a": [0.1], "b": [0.9]}))
    assert verdict["verdict"] == "undecided"


def test_data_that_were_not_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"CIFAR-10 .*--data"):
        reproduce("thesis-3.1", "paper", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_recipes_and_scales(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'thesis-3\.1'"):
        find_recipe("thesis31")
    scale: Any = "huge"
    with pytest.raises(ConfigError, match="no scale 'huge'"):
        reproduce("thesis-3.1", scale, out=tmp_path)


def test_what_killed_processes_left_of_figures_goes(tmp_path: Path) -> None:
    recipe = find_recipe("tables").model_copy(update={"figures": []})
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / ".00-a.json.2103.tmp").write_text("{")
    write_figures(tmp_path, recipe, next(iter(recipe.scales["smoke"].values())), {"methods": []})
    assert not list((tmp_path / "figures").iterdir())
