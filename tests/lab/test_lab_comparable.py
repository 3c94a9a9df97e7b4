"""A number of ours stands in a source's table only where both were measured with the same."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lessonplan.lab import reproduction
from lessonplan.lab.comparable import Ran, Setting, counted_classes, counted_images, planned_images
from lessonplan.lab.recipe import Recipe, Scale, Table, all_recipes, find_recipe
from lessonplan.lab.source_tables import tables_of_part

RECIPES = {recipe.name: recipe for recipe in all_recipes()}
ALL = Setting(data="cifar-10", model="wrn-28-10", epochs=200)
RAN = Ran("cifar-10", "cifar:there", "wrn-28-10", "200ep", 50_000)


@pytest.mark.parametrize(
    ("change", "agrees"),
    [
        ({}, True),
        ({"images": 49_000}, True),  # 2% may be held out
        ({"images": 45_000}, False),
        ({"images": None}, False),
        ({"data": "cifar-100"}, False),
        ({"data": None}, False),
        ({"model": "wrn-40-4"}, False),
        ({"budget": "199ep"}, True),
        ({"budget": "150ep"}, False),
        ({"budget": "10M samples"}, True),  # 200 x 50,000
        ({"budget": "9M samples"}, False),
        ({"budget": "30M cost"}, False),  # the same for plain training, and not for its competitors
        ({"budget": "78200 steps"}, False),
    ],
)
def test_data_network_and_epochs_have_to_agree(change: dict[str, Any], agrees: bool) -> None:
    assert Ran(**{**vars(RAN), **change}).agrees(ALL) is agrees


def test_a_source_that_trains_on_a_few_images_of_each_class() -> None:
    few = Setting(data="cifar-100", model="wrn-40-4", per_class=100)
    assert Ran("cifar-100", "there", "wrn-40-4", "10M samples", 10_000).agrees(few)
    assert not Ran("cifar-100", "there", "wrn-40-4", "10M samples", 50_000).agrees(few)
    assert not Ran("cifar-100", "there", "wrn-40-4", "10M samples", 9_900).agrees(few)
    assert not RAN.agrees(Setting(data="imagenet", model="wrn-28-10"))


@pytest.mark.parametrize(
    ("data", "options", "images"),
    [
        ("cifar-10", {"per_class": 100, "val_per_class": 20}, 1_000),
        ("cifar-100", {"val_per_class": 10}, 49_000),
        ("mnist", {"val_fraction": 0.1}, 54_000),
        ("mnist", {"val_fraction": 0}, 60_000),
        ("cifar-10", {}, 40_000),  # what compare holds out if nothing is said
        ("fsdd", {}, None),
        (None, {"per_class": 100}, None),
    ],
)
def test_how_many_images_a_part_trains_on(data: str | None, options: dict[str, Any], images: int | None) -> None:
    assert planned_images(data, options) == images


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
@pytest.mark.parametrize("scale", ["smoke", "cpu", "gpu"])
def test_no_small_scale_stands_beside_a_source(recipe: Recipe, scale: Scale) -> None:
    """Not one of the smaller scales has a source's data, network and epochs."""
    for name, part in recipe.scales[scale].items():
        results = results_of(part.methods or list(recipe.methods))
        for shown in tables_of_part(recipe.tables, name, recipe.ran(part, "cifar:there"), results):
            theirs = [table for table in recipe.tables if shown["title"].startswith(table.title)]
            if theirs and theirs[0].of:
                assert [len(row) for row in shown["rows"]] == [len(row) for row in theirs[0].rows]
                assert "ours" not in f"{shown['columns']} {[row[0] for row in shown['rows']]}"
            elif not theirs:
                assert shown["title"].startswith("Ours, of another experiment")


BESIDE = {
    ("thesis-3.1", "wrn-40-4, 100 per class"): ["WRN-40-4 (100)"],
    ("thesis-3.1", "wrn-40-4, all images"): ["WRN-40-4 (5000)"],
    ("thesis-3.1", "wrn-28-10, 500 per class"): ["WRN-28-10 (500)"],
    ("thesis-3.2", "wrn-28-10, all images"): ["WRN-28-10 (500)"],
    ("thesis-2.4", "epoch 5"): ["epoch 5"],
    ("thesis-2.2", "first epochs"): None,
    ("assist-4.5", "fcnet-100"): None,  # equal compute
    ("lecture-generalisation", "cifar-10 wrn-28-10"): ["WideResNet-28-10"],
    ("lecture-corruption", "20% noise"): [
        "test, best",
        "test, last",
        "training, real labels",
        "training, corrupted labels",
    ],
    ("lecture-ood", "preact-resnet-18"): None,
    ("lecture-puzzle", "Tiny-ImageNet, equal evaluations"): ["top-1", "top-5", "FGSM"],
    ("lecture-puzzle", "Tiny-ImageNet, equal updates"): ["top-1", "top-5", "FGSM"],
}


@pytest.mark.parametrize(("recipe", "part"), BESIDE)
def test_the_paper_scale_stands_beside_its_own_column(recipe: str, part: str) -> None:
    found = find_recipe(recipe)
    table = next(t for t in found.tables if t.part in (None, part))
    assert table.beside(found.ran(found.scales["paper"][part])) == BESIDE[recipe, part]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "lecture-generalisation",
            {
                "cifar-10": "CIFAR-10 with all images",
                "cifar-100": "CIFAR-100 with all images",
                "imagenet resnet-101": "ImageNet, ResNet-101",
                "imagenet resnext-101": "ImageNet, ResNeXt-101",
            },
        ),
        (
            "lecture-localisation",
            {
                "cub-200-2011 224 x 224": "CUB-200-2011, ResNet-50",
                "cub-200-2011 vgg-gap": "CUB-200-2011, VGG-GAP",
                "imagenet resnet-50": "ImageNet, ResNet-50",
                "imagenet vgg-gap": "ImageNet, VGG-GAP",
            },
        ),
        (
            "lecture-corruption",
            dict.fromkeys(("20% noise", "dropout 0.7", "dropout 0.1"), "20% of the labels corrupted"),
        ),
    ],
)
def test_parts_stand_beside_their_own_tables(name: str, words: dict[str, str]) -> None:
    """Each at the paper scale beside one, and none at the others: the audit's cases were ImageNet beside CIFAR-10
    and VGG-GAP beside ResNet-50."""
    recipe = find_recipe(name)
    for scale, parts in recipe.scales.items():
        for part_name, part in parts.items():
            of_part = [table for table in recipe.tables if table.part in (None, part_name)]
            beside = [table.title for table in of_part if table.beside(recipe.ran(part))]
            known = [word for start, word in words.items() if scale == "paper" and part_name.startswith(start)]
            assert len(beside) == bool(known), (scale, part_name, beside)
            assert not known or beside[0].endswith(known[-1]) or known[-1] in beside[0]


def test_a_table_says_what_it_is_of() -> None:
    given: dict[str, Any] = {"title": "t", "columns": ["method", "a", "b"], "rows": [["x", 1.0, 2.0]]}
    for of in ([], [ALL] * 3):
        with pytest.raises(ValidationError, match="give one, or one for each of its 2 columns"):
            Table(**given, of=of)
    assert Table(**{**given, "rows": [["x", None, None]]}, of=[]).beside(RAN) == ["a", "b"]


def test_what_the_user_changes_counts() -> None:
    """Another network or budget, or a data set of another size under the right name, puts ours apart."""
    recipe = find_recipe("thesis-3.4")
    part = recipe.scales["paper"]["wrn-40-4"]
    full = {"raw_samples": 10_000_000, "epochs": 200.0}

    def titles(**changes: Any) -> list[str]:
        counts = {**full, **changes.pop("counts", {})}
        results = {**results_of(["erm", "gradual-4"], **counts), "config": {"data": "cifar:there"}, "level": 0.95}
        changed = part.model_copy(update=changes)
        return [
            t["title"] for t in reproduction.beside_source(recipe, "wrn-40-4", "paper", changed, results)["tables"]
        ]

    assert len(titles()) == 1
    for change in ({"model": "tiny"}, {"counts": {"raw_samples": 2_000_000}}, {"data": "digits"}):
        assert len(titles(**change)) == 2, change


def results_of(names: list[str], **counts: Any) -> dict[str, Any]:
    run = {"seed": 0, "test_accuracy": 0.5, **counts}
    return {"methods": [{"name": name, "mean": 0.5, "ci_t": None, "runs": [run]} for name in names]}


def test_data_of_other_classes_stand_apart_under_their_own_name() -> None:
    """50,000 pictures of CIFAR-10 are as many as CIFAR-100 has, and no CIFAR-100."""
    recipe = find_recipe("lecture-puzzle")
    part = recipe.scales["paper"]["equal updates"]
    table = next(t for t in recipe.tables if t.beside(recipe.ran(part, "cifar:there")))
    assert table.beside(recipe.ran(part, "cifar:there", 50_000, 100)) is not None
    ran = recipe.ran(part, "cifar:cifar-10-batches-py", 50_000, 10)
    assert table.beside(ran) is None
    assert str(ran).startswith("cifar:cifar-10-batches-py (50,000 training images)")


def test_classes_are_counted_or_follow_from_the_images_of_each() -> None:
    assert counted_classes(results_of(["a"], classes=7)) == 7
    assert counted_classes({**results_of(["a"]), "config": {}}) is None
    stored = {
        **results_of(["a"], raw_samples=110_000, epochs=110.0),
        "config": {"data_options": {"per_class": 100}},
    }
    assert counted_classes(stored) == 10


def test_images_are_counted_from_what_was_drawn() -> None:
    assert counted_images(results_of(["a"], raw_samples=110_000, epochs=110.0)) == 1_000
    assert counted_images(results_of(["a"], raw_samples=1_500, epochs=1.5)) == 1_000
    assert counted_images(results_of(["a"])) is None
