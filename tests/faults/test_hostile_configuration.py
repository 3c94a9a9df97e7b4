"""Every field of every configuration model, and every text that is read, fed with what nobody should give."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import math
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import lessonplan
from lessonplan import cli
from lessonplan.commands import COMMAND_TYPES, option_names
from lessonplan.commands.answer import Answer
from lessonplan.data.augment import Augment
from lessonplan.data.augmentation.words import CHANGES
from lessonplan.errors import ConfigError, LessonplanError
from lessonplan.evaluation import Evaluation
from lessonplan.evaluation.attacks import read_attack, split_attacks
from lessonplan.evaluation.options import TestTime as OfTestTime  # whose name is no test's
from lessonplan.evaluation.options import read_eps
from lessonplan.lab.advice.allowance import Allowance
from lessonplan.lab.advice.field import field_of
from lessonplan.lab.clusters import cluster_executor
from lessonplan.lab.config import Comparison
from lessonplan.lab.methods import read_methods
from lessonplan.lab.ordering.config import OrderingConfig
from lessonplan.lab.plan_file import plan_from
from lessonplan.lab.tuning.binding import check_names
from lessonplan.lab.tuning.space import read_search
from lessonplan.mix import parse_mix
from lessonplan.mix.text import MIXES
from lessonplan.models.spec import parse as parse_model
from lessonplan.models.table import FAMILIES
from lessonplan.order import parse_order
from lessonplan.order.text import ORDERS
from lessonplan.plan import Plan
from lessonplan.select import parse_select
from lessonplan.select.text import PARTS, STAGES
from lessonplan.settings import Settings
from lessonplan.stored import parse_yaml
from lessonplan.strict import Strict
from lessonplan.train.budget import Budget
from lessonplan.train.cadence import Cadence
from lessonplan.train.loggers import loggers
from lessonplan.train.schedule import Schedule
from lessonplan.train.tuning import Tune

TEXTS = st.sampled_from(
    ["", " ", "\0", "\x1b[2J", "../../etc/passwd", "/dev/zero", "日本語", "\ud800", "nan", "inf", "-1", "1e999",
     "9" * 5000, "a" * 100_000, "{}", "{{ 7 * 7 }}", "__import__('os').system('true')", "<script>", "none", ":",
     "=", ",", ">>", "|", "(", ")" * 500, "(" * 500, "a:b=c,d=e", "true", "%s%n", "0x10", "١٢"]
) | st.text(max_size=30)  # fmt: skip
NUMBERS = st.sampled_from(
    [0, -1, 1, 2**31, -(2**63), 2**64, 10**400, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf]
)
VALUES = st.recursive(
    TEXTS | NUMBERS | st.booleans() | st.none() | st.binary(max_size=5) | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3) | st.tuples(inner),
    max_leaves=5,
)


def _modules_with_models() -> list[str]:
    """Modules of the package that define a pydantic model, found by their text."""
    package = Path(lessonplan.__file__).parent
    return [
        ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for path in sorted(package.rglob("*.py"))
        if re.search(r"^class \w+\((BaseModel|_?Strict)\)", path.read_text(encoding="utf-8"), re.M)
    ]


def _all_models() -> list[type[BaseModel]]:
    """Every model of the package: a new one is fed without a word here."""
    for module in _modules_with_models():
        importlib.import_module(module)
    found, waiting = [], [BaseModel]
    while waiting:
        waiting += (made := waiting.pop().__subclasses__())
        found += [model for model in made if model.__module__.startswith("lessonplan.") and model.model_fields]
    return sorted(set(found), key=lambda model: (model.__module__, model.__name__))


EVERY = _all_models()
MODELS: list[type[Strict]] = [model for model in EVERY if issubclass(model, Strict)]
FIELDS = [(model, name) for model in MODELS for name in model.model_fields]
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _refused_in_one_sentence(make: Callable[[], Any]) -> Any:
    """What is made, or None where it is refused as it should be."""
    try:
        return make()
    except LessonplanError as error:
        said = str(error)
        assert said.strip()
        assert len(said) < 5000, said[:200]
        return None


@pytest.mark.parametrize(("model", "name"), FIELDS, ids=lambda value: getattr(value, "__name__", value))
@FEW
@given(VALUES)
@example(math.nan)
@example(math.inf)
@example("a" * 100_000)
@example(10**400)
def test_every_field(model: type[Strict], name: str, value: Any) -> None:
    """Made, or refused in one sentence; no number that is made is infinite or none."""
    given = {"data": "digits"} if model is OrderingConfig else {}
    made = _refused_in_one_sentence(lambda: model.make(**{**given, name: value}))
    if made is not None:
        found = getattr(made, name)
        assert not isinstance(found, float) or math.isfinite(found)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@FEW
@given(st.dictionaries(st.text(max_size=20), VALUES, max_size=3))
def test_fields_that_nobody_knows(model: type[Strict], given: dict[str, Any]) -> None:
    _refused_in_one_sentence(lambda: model.make(**given))


PLAIN = [model for model in EVERY if not issubclass(model, Strict)]


def test_the_models_are_found() -> None:
    known = {Settings, Comparison, OrderingConfig, Evaluation, OfTestTime}
    assert set(MODELS) >= known
    assert {model.__name__ for model in PLAIN} >= {"Claim", "Trend", "Table", "Recipe", "SearchRecipe", "Setting"}


@pytest.mark.parametrize("model", PLAIN, ids=lambda model: model.__name__)
@FEW
@given(st.data())
def test_plain_models(model: type[BaseModel], data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(list(model.model_fields)), unique=True, max_size=4))
    given = {name: data.draw(VALUES) for name in names}
    with contextlib.suppress(ValidationError, LessonplanError):
        model(**given)


def _augment(text: str) -> Augment:
    return Augment.parse(text, (3, 32, 32))


def _beginnings(parts: Mapping[str, Any]) -> list[str]:
    """``name:option=`` for every option of every part in a table."""
    return [
        f"{name}:{item.name}="
        for name, part in parts.items()
        for item in (dataclasses.fields(part) if dataclasses.is_dataclass(part) else ())
        if item.init and item.repr
    ]


def _attack(text: str) -> Any:
    return [read_attack(part) for part in split_attacks(text)]


def _tune_search(text: str) -> Any:
    return check_names(plan_from({"mix": "sum:k=2", "select": "accuracy"}, "a plan"), read_search(text))


def _slurm(text: str) -> Any:
    return cluster_executor(text, Path("nowhere"))


READERS: dict[str, tuple[Callable[[str], Any], list[str]]] = {
    "mix": (parse_mix, [*_beginnings(MIXES), "mixup:p=", "mixup:until=", "(mixup|cutmix):weights=", "mixup|"]),
    "select": (parse_select, [*_beginnings(PARTS), *(f"margin >> {b}" for b in _beginnings(STAGES)), "topk:"]),
    "order": (parse_order, _beginnings(ORDERS)),
    "plan": (Plan.parse, ["select:", "order:", "mix:", "mixup + ", "select:topk:0.5 + "]),
    "methods": (read_methods, ["a=", "erm,", "ft=tune:", "ft=lr:", "x=mixup:alpha=0.4,"]),
    "plans of a tournament": (lambda text: field_of(text, Settings()), ["plain,", "a=mixup:alpha=", "all,"]),
    "budget": (Budget.parse, ["1", "1e", "20", "1 "]),
    "time of a tournament": (lambda text: Allowance.parse(text, None), ["1", "1h", "30min"]),
    "budget of a tournament": (lambda text: Allowance.parse(None, text), ["1", "40M "]),
    "schedule": (Schedule, ["cosine:warmup=", "step:", "exponential:", "stagnation:patience="]),
    "cadence": (Cadence.parse, ["1", "10 "]),
    "tune": (Tune.parse, ["last:", "gradual:parts=", "lora:rank=", "lora:targets="]),
    "model": (parse_model, [*(f"{family}-" for family in FAMILIES), "timm:", "wrn-16-1:norm="]),
    "augment": (_augment, [*(f"{word}:" for word in (*CHANGES, "flip", "crop", "rotate", "erase")), "flip,"]),
    "attack": (_attack, ["fgsm:eps=", "pgd:steps=", "pgd:alpha=", "fgsm,"]),
    "radius": (read_eps, ["8/", "1", "0."]),
    "test time": (OfTestTime.parse, [f"{name}=" for name in OfTestTime.model_fields]),
    "search": (_tune_search, ["lr=1e-3..", "lr=", "mix.k=2|", "select.margin=0..", "lr=1..2 "]),
    "cluster": (_slurm, [f"ray:{name}=" for name in ("address", "cpus", "memory", "retries")]
                + [f"slurm:{name}=" for name in ("hours", "cpus", "gpus", "memory", "constraint", "on")]),
    "loggers": (loggers, ["tensorboard,", "wandb,", "none,"]),
    "yaml": (parse_yaml, ["a: ", "- ", "&a ", "!!python/name:", "<<: "]),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@settings(FEW, max_examples=150)
@given(st.data())
def test_every_text(reader: str, data: st.DataObject) -> None:
    """Texts by themselves, and behind the beginning of what is right."""
    read, beginnings = READERS[reader]
    text = data.draw(st.sampled_from(["", *beginnings])) + data.draw(TEXTS)
    if reader == "yaml":
        import yaml

        with contextlib.suppress(yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError):
            read(text)
        return
    if text.endswith((".yaml", ".yml")):
        return
    _refused_in_one_sentence(lambda: read(text))


def test_a_number_without_end_is_refused_at_once() -> None:
    """In a time that grows with its length, not with its square."""
    began = time.process_time()
    with pytest.raises(ConfigError, match="cannot be read"):
        Allowance.parse("9" * 50_000, None)
    assert time.process_time() - began < 1


PLAN_KEYS = ("name", "model", "select", "order", "mix", "budget", "settings")


@FEW
@given(st.dictionaries(st.sampled_from(PLAN_KEYS) | st.text(max_size=9), VALUES, max_size=4))
def test_plan_files(content: dict[Any, Any]) -> None:
    _refused_in_one_sentence(lambda: plan_from(content, "a file"))


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMAND_TYPES)
def test_every_flag(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With what is left to it as it should be, every option is read or refused in one line."""
    kind = COMMAND_TYPES[command]
    monkeypatch.setattr(kind, "run", lambda self: Answer({}, lambda: None))
    odd = ["", "\0", "nan", "9" * 5000, "../../etc/passwd", "日本語", "\ud800", "{}", "-1"]
    for number, flag in enumerate(option for option in option_names(kind) if option.startswith("--")):
        for value in (odd[number % len(odd)], odd[(number + 4) % len(odd)]):
            with pytest.raises(SystemExit) as ended:
                cli.main([command, f"{flag}={value}"])
            said = capsys.readouterr().err
            assert ended.value.code in (0, 2), (flag, value, said)
            assert "Traceback" not in said
            assert said.count("\n") <= 1, (flag, value, said)
