"""The recipes of ASSIST: the grid of its appendix II against its names and against tables 4.4 to 4.9."""

from __future__ import annotations

import re

import pytest

from lessonplan.data import load
from lessonplan.lab.recipe import Part, Table, find_recipe
from lessonplan.plan import Plan
from lessonplan.train.fitting import fit

APPENDIX = find_recipe("assist-appendix")
GRID = {name: part for name, part in APPENDIX.scales["paper"].items() if "," not in name}
TRAIN_SAMPLES = {"mnist": 60_000, "cifar-10": 50_000, "cifar-100": 50_000}  # table 4.3
NAME = re.compile(
    r"(?P<data>mnist|cifar-100?) (?P<model>\S+) batch-(?P<batch>\d+) (?P<optimizer>sgd|adam)-(?P<lr>\S+)"
    r"( momentum-(?P<momentum>0(\.9)?))? (?P<schedule>constant|exponential-\S+|multistep-\S+) decay-(?P<decay>\S+)"
    r"( (?P<augment>augmented|plain))? (?P<epochs>\d+)ep"
)

# Section 4.2.3: flip, affine (180 degrees, translate .1, scale .9-1.1), crop 4, jitter (.5, .5, .5, .05)
AUGMENTED = "flip,crop:4,rotate:180,translate:0.1,zoom:0.1,jitter:0.5/0.5/0.5/0.05,pad:zeros"


@pytest.mark.parametrize(("name", "part"), GRID.items(), ids=GRID.keys())
def test_a_configuration_is_what_its_name_says(name: str, part: Part) -> None:
    said = NAME.fullmatch(name)
    assert said is not None
    epochs = int(said["epochs"])
    settings = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, **part.settings}
    assert part.needs == said["data"]
    assert part.model == said["model"]
    assert settings["batch_size"] == int(said["batch"])
    assert settings["lr"] == float(said["lr"])
    assert settings["optimizer"] == said["optimizer"]
    assert settings["nesterov"] is False
    assert said["momentum"] is None or settings["momentum"] == float(said["momentum"])
    assert settings["weight_decay"] == float(said["decay"])
    assert part.data_options["augment"] == (AUGMENTED if said["augment"] == "augmented" else "none")
    assert part.data_options.get("pad") == (32 if said["data"] == "mnist" else None)
    assert part.budget == f"{3e-6 * epochs * TRAIN_SAMPLES[said['data']]:g}M cost"
    assert APPENDIX.scales["paper"][f"{name}, equal epochs"] == part.model_copy(update={"budget": f"{epochs}ep"})
    kind, _, options = settings["schedule"].partition(":")
    given = {key: float(value) for key, value in (item.split("=") for item in options.split(",") if item)}
    shape, _, gamma = said["schedule"].partition("-")
    if shape == "exponential":
        assert kind == "exponential"
        assert given["end"] == pytest.approx(float(gamma) ** epochs, rel=5e-3)
    elif shape == "multistep":
        assert kind == "step"
        assert given["gamma"] == float(gamma)
        assert epochs / given["parts"] == pytest.approx({"0.1": 200, "0.5": 150}[gamma], rel=1e-3)
    else:
        assert kind == "constant"


@pytest.mark.parametrize("recipe", ["assist-4.4", "assist-4.5"])
def test_mnist_is_padded_at_paper_scale(recipe: str) -> None:
    scales = find_recipe(recipe).scales
    assert all(part.data_options["pad"] == 32 for part in scales["paper"].values())
    assert not any(
        "pad" in part.data_options for name in ("smoke", "cpu", "gpu") for part in scales[name].values()
    )


def test_every_configuration_has_its_table_and_its_control() -> None:
    assert [table.part for table in APPENDIX.tables] == list(GRID)
    for table in APPENDIX.tables:
        assert table.part is not None
        methods = GRID[table.part].methods
        assert methods is not None
        controls = {"matched-random"} if "batchwise" in methods else set()  # which replays it
        assert set(methods) == {*table.methods, "erm", *controls}


@pytest.mark.parametrize("recipe", ["assist-4.4", "assist-appendix"])
def test_augmented_images_are_filtered_epochwise_as_section_3_4_says(recipe: str) -> None:
    """Another augmentation is trained on than was scored, wherever there is one."""
    found = find_recipe(recipe)
    parts = [part for parts in found.scales.values() for part in parts.values()]
    for method in ("epochwise", "both"):
        where = [part for part in parts if part.methods is None or method in part.methods]
        augmented = any(part.data_options["augment"] != "none" for part in where)
        assert augmented == (recipe == "assist-appendix")
        assert not augmented or Plan.parse(found.methods[method]).select.epochwise.resample


def table_of(recipe: str, part: str) -> Table:
    return next(table for table in find_recipe(recipe).tables if table.part == part)


SGD, FC = "sgd-0.1 momentum-0.9", "sgd-0.01 momentum-0.9 exponential-0.995 decay-5e-4"
TABLES = [
    ("assist-4.4", "{}", f"mnist {{}} batch-1024 {SGD} constant decay-5e-4 300ep", ("lenet", "resnet-18", "dla")),
    ("assist-4.5", "fcnet-{}", f"mnist fcnet-{{}} batch-256 {FC} 500ep", (100, 1000, 3000)),
    (
        "assist-4.6",
        "batch {}",
        f"cifar-10 resnet-18 batch-{{}} {SGD} exponential-0.995 decay-5e-4 augmented 300ep",
        (16, 128, 256, 512, 1024),
    ),
    (
        "assist-4.7",
        "fcnet-{}",
        f"cifar-10 fcnet-{{}} batch-512 {FC} augmented 500ep",
        (100, 1000, 3000),
    ),
    (
        "assist-4.8",
        "batch {}",
        f"cifar-100 resnet-18 batch-{{}} {SGD} constant decay-5e-4 augmented 300ep",
        (16, 128, 512, 1024),
    ),
    (
        "assist-4.9",
        "fcnet-{}",
        f"cifar-100 fcnet-{{}} batch-512 {FC} augmented 500ep",
        (100, 1000, 3000),
    ),
]
NAMES = [recipe for recipe, *_ in TABLES]
SAME = [
    (recipe, part.format(value), configuration.format(value))
    for recipe, part, configuration, values in TABLES
    for value in values
]


@pytest.mark.parametrize(("recipe", "part", "configuration"), SAME)
def test_the_tables_of_chapter_4_are_rows_of_the_appendix(recipe: str, part: str, configuration: str) -> None:
    """Every row of a table is a row of the appendix' configuration, as far as the source's text has both."""
    ours, appendix = table_of(recipe, part), table_of("assist-appendix", configuration)
    for row, method in zip(ours.rows, ours.methods, strict=True):
        numbers = dict(zip(ours.measures, row[1:], strict=True))
        others = [
            dict(zip(appendix.measures, other[1:], strict=True))
            for other, name in zip(appendix.rows, appendix.methods, strict=True)
            if name == method
        ]
        assert any(
            all(numbers[m] == value for m, value in other.items() if None not in (numbers[m], value))
            and sum(value is not None for value in other.values()) >= 2
            for other in others
        )


@pytest.mark.parametrize("recipe", NAMES)
def test_printed_ratios_are_those_of_the_printed_numbers(recipe: str) -> None:
    """Test / train, as far as three decimals of both decide it: a digit misread in any of the three shows."""
    for table in find_recipe(recipe).tables:
        for row in table.rows:
            numbers = dict(zip(table.measures, row[1:], strict=True))
            for stem in ("accuracy", "loss", "loss_q90", "loss_worst"):
                train, test, ratio = (numbers[m] for m in (f"train_{stem}", f"test_{stem}", f"{stem}_ratio"))
                if isinstance(train, float) and isinstance(test, float) and isinstance(ratio, float):
                    low, high = (test - 5e-4) / (train + 5e-4), (test + 5e-4) / max(train - 5e-4, 1e-9)
                    assert low - 5e-4 <= ratio <= high + 5e-4, (table.title, row[0], stem)


@pytest.mark.parametrize("recipe", NAMES)
def test_comparisons_are_at_equal_compute_and_carry_the_control(recipe: str) -> None:
    for scale, parts in find_recipe(recipe).scales.items():
        for name, part in parts.items():
            assert part.budget.endswith("ep" if name.endswith(", equal epochs") else "cost")
            assert part.methods is None or {"erm", "matched-random"} <= set(part.methods)
            assert part.settings["evaluate_train"] is True
        with_epochs = scale in ("gpu", "paper") or (recipe, scale) == ("assist-4.5", "cpu")
        assert any(name.endswith(", equal epochs") for name in parts) == with_epochs


def test_raw_batches_as_large_as_a_batch() -> None:
    """Algorithm 10 at any batch size: "run" does what the run's own number does, and "auto" something else."""
    data = load("digits", per_class=10, val_per_class=5)
    counts = {}
    for raw in ("run", "16", "auto"):
        plan = Plan.parse(f"select:accuracy >> batchwise:overflow=discard,raw_batch_size={raw}")
        result = fit("fcnet-8", data, plan, "3ep", seed=0, batch_size=16).result
        counts[raw] = [result[key] for key in ("steps", "forwarded", "backpropagated", "param_norm")]
    assert counts["run"] == counts["16"] != counts["auto"]
