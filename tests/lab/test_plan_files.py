"""Plan files: what is written is read back, by every command, and what is wrong is said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lessonplan.cli import main
from lessonplan.commands.planned import planned
from lessonplan.commands.train import Train
from lessonplan.errors import ConfigError, LessonplanError
from lessonplan.lab.methods import Method
from lessonplan.lab.plan_file import PlanFile, plan_from, read_plan_file
from lessonplan.mix import Mixup
from lessonplan.plan import Plan
from lessonplan.settings import Settings

MIXES = (
    "none", "mixup:alpha=0.4", "cascade:k=4,patience=none,shares=.4/.4/.2", "gradual:k=4", "mixup|cutmix",
    "mixup >> cutout", "(mixup|cutmix):p=0.5", "sum:k=2,until=80%", "manifold", "puzzle",
)  # fmt: skip
SELECTIONS = (
    "none", "accuracy:margin=0.2 >> topk:0.5", "infobatch >> epochwise", "matched-random:margin=0.3",
    "accuracy >> epochwise >> accuracy >> batchwise",
)  # fmt: skip
ORDERS = ("none", "loss-delta:candidates=8,warmup=5ep", "multi-attempt:k=16")
GIVEN = st.fixed_dictionaries(
    {},
    optional={
        "lr": st.floats(1e-6, 1.0),
        "tune": st.sampled_from(["all", "head", "last:2", "gradual:parts=4,until=0.5"]),
        "weights": st.sampled_from(["pretrained", "runs/mine"]),
        "batch_size": st.one_of(st.integers(1, 512), st.sampled_from(["auto", "all"])),
        "nesterov": st.booleans(),
        "clip": st.none() | st.floats(0.1, 5),
        "head_lr": st.sampled_from(["10x", "0.01"]),
    },
)


@settings(max_examples=60, deadline=None)
@given(
    mix=st.sampled_from(MIXES),
    select=st.sampled_from(SELECTIONS),
    order=st.sampled_from(ORDERS),
    chosen=GIVEN,
    name=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12),
    budget=st.sampled_from([None, "20ep", "1.2M cost"]),
    model=st.sampled_from([None, "wrn-16-1", "timm:tf_efficientnet_lite0"]),
)
def test_what_is_written_is_read_back(
    mix: str, select: str, order: str, chosen: dict[str, Any], name: str, budget: str | None, model: str | None
) -> None:
    file = PlanFile(Method(name, Plan.from_texts(select, order, mix), chosen), model, budget)
    back = plan_from(yaml.safe_load(file.text()), "elsewhere.yaml")
    assert back.method.plan.config() == file.method.plan.config()
    assert (back.name, back.method.settings, back.model, back.budget) == (name, chosen, model, budget)


def test_a_file_as_a_person_writes_it(tmp_path: Path) -> None:
    (tmp_path / "gentle.yaml").write_text("mix: mixup:alpha=0.4\nsettings:\n  lr: 0.01\n")
    found = read_plan_file(tmp_path / "gentle.yaml")
    assert (found.name, found.model, found.budget) == ("gentle", None, None)
    assert str(found.method.plan.mix) == "mixup:alpha=0.4"
    assert found.method.settings == {"lr": 0.01}
    filled = found.with_defaults(model="tiny", budget="3ep", settings={"lr": 0.5, "clip": 1.0})
    assert (filled.model, filled.budget, filled.method.settings) == ("tiny", "3ep", {"lr": 0.01, "clip": 1.0})
    (tmp_path / "plain.yaml").write_text("{}")
    assert read_plan_file(tmp_path / "plain.yaml").method.plan.config() == {"mix": None}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mixx: mixup", "unknown key of the plan in .*wrong.yaml 'mixx': did you mean 'mix'"),
        ("mix: mixpu", "the plan in .*wrong.yaml cannot be used: unknown mix 'mixpu'"),
        ("settings: {lr: -1}", "wrong.yaml cannot be used: setting lr=-1"),
        ("settings: fast", "write one a line"),
        ("budget: soon", "wrong.yaml cannot be used: budget 'soon'"),
        ("- mixup", "holds no plan"),
        ("mix: [", "is not valid YAML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_plan_file(tmp_path / "wrong.yaml")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="does not exist: give a plan file"):
        read_plan_file("nowhere.yaml")


def test_what_no_text_makes_is_not_written(tmp_path: Path) -> None:
    @dataclass(eq=False)
    class Local(Mixup):
        name: ClassVar[str] = "local"

    with pytest.raises(ConfigError, match=r"plan 'odd' \(local.*\) cannot be written to a file"):
        PlanFile(Method("odd", Plan(mix=Local())), None).write(tmp_path / "odd.yaml")
    assert not list(tmp_path.iterdir())


def test_options_go_before_the_file_and_the_file_before_defaults(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "model: fcnet-16\nmix: mixup\nselect: accuracy\nbudget: 3ep\nsettings: {lr: 0.3, batch_size: 7}\n"
    )
    found = planned(Train(out=tmp_path), file)
    assert (found.model, found.budget) == ("fcnet-16", "3ep")
    assert (str(found.plan.mix), found.plan.select is not None) == ("mixup", True)
    assert (found.settings.lr, found.settings.batch_size) == (0.3, 7)
    given_ = Train(
        out=tmp_path, model="fcnet-8", mix="sum:k=2", budget="9ep", settings=Settings(lr=0.1, threads=3)
    )
    found = planned(given_, file)
    assert (found.model, found.budget, found.settings.threads) == ("fcnet-8", "9ep", 3)
    assert (str(found.plan.mix), found.plan.select is not None) == (str(Plan.parse("sum:k=2").mix), True)
    assert (found.settings.lr, found.settings.batch_size) == (0.1, 7)
    alone = planned(Train(out=tmp_path), None)
    assert (alone.model, alone.budget, alone.plan.config()) == ("tiny", "20ep", {"mix": None})


def test_train_and_compare_take_plan_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_pages: None
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "name: mine\nmodel: fcnet-16\nmix: mixup\nbudget: 60 samples\nsettings: {lr: 0.3, threads: 1}\n"
    )
    data = ["--data", "digits", "--per-class", "5"]
    with pytest.raises(SystemExit) as stop:
        main(["train", "--plan", str(file), "--out", str(tmp_path / "run"), *data])
    assert stop.value.code == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (config["model"], config["plan"]["mix"]["name"], config["budget"]) == (
        "fcnet-16",
        "mixup",
        "60 samples",
    )
    assert config["settings"]["lr"] == 0.3
    options = ["--seeds", "1", "--jobs", "1", "--out", str(tmp_path / "all")]
    with pytest.raises(SystemExit) as stop:
        main(["compare", "--plan", str(file), *options, *data])
    assert stop.value.code == 0
    results = json.loads((tmp_path / "all" / "results.json").read_text())
    assert [m["name"] for m in results["methods"]] == ["erm", "mine"]
    assert (results["config"]["model"], results["config"]["budget"]) == ("fcnet-16", "60 samples")
    other = tmp_path / "q.yaml"
    other.write_text("model: tiny\n")
    with pytest.raises(SystemExit) as stop:
        main(["compare", "--plan", str(file), str(other), *options, *data])
    assert stop.value.code == 2
    assert "different models (mine: fcnet-16, q: tiny): give --model" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["0.", "1", "on", "null", "2020-01-01", "[a]"])
def test_a_name_that_is_no_text_is_refused(tmp_path: Path, name: str) -> None:
    """YAML reads it as something else: ``Settings`` would get a keyword that is a number."""
    (tmp_path / "plan.yaml").write_text(f"mix: mixup\nsettings:\n  {name}: 0.1\n")
    with pytest.raises(
        LessonplanError, match=r"line 3 has .* before the colon, where a name is expected: write it"
    ):
        read_plan_file(tmp_path / "plan.yaml")
    (tmp_path / "plan.yaml").write_text("mix: mixup\nsettings:\n  'lr': 0.1\n")
    assert read_plan_file(tmp_path / "plan.yaml").method.settings == {"lr": 0.1}
