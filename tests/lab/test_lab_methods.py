"""How methods are written, and what is said of those that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lessonplan as lp
from lessonplan.errors import ConfigError, LessonplanError
from lessonplan.lab.methods import Method, read_methods
from lessonplan.settings import Settings


def summary(methods: list[Method]) -> dict[str, tuple[str | None, int | None]]:
    """Name to the kind of mix and its k."""
    return {
        m.name: (m.plan.mix.name, getattr(m.plan.mix, "k", None)) if m.plan.mix is not None else (None, None)
        for m in methods
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("erm", {"erm": (None, None)}),
        (" erm , mixup ", {"erm": (None, None), "mixup": ("mixup", None)}),
        ("sum:k=2,erm", {"sum:k=2": ("sum", 2), "erm": (None, None)}),
        ("sum:k=2,pairing=permute,erm", {"sum:k=2,pairing=permute": ("sum", 2), "erm": (None, None)}),
        ("best=cascade:k=8,plain=erm", {"best": ("cascade", 8), "plain": (None, None)}),
        ("a=sum:k=2,b=sum:k=8,pairing=permute", {"a": ("sum", 2), "b": ("sum", 8)}),
        (["erm", "sum:k=3,pairing=permute"], {"erm": (None, None), "sum:k=3,pairing=permute": ("sum", 3)}),
        ({"x": "sum:k=3", "y": lp.Plan()}, {"x": ("sum", 3), "y": (None, None)}),
        ({"x": {"mix": "sum:k=3", "settings": {"lr": 0.1}}, "y": None}, {"x": ("sum", 3), "y": (None, None)}),
        ("mixup|cutmix", {"mixup|cutmix": ("choice", None)}),
    ],
)
def test_ways_to_write_methods(given: Any, expected: dict[str, Any]) -> None:
    assert summary(read_methods(given)) == expected


def test_a_continued_option_belongs_to_its_method() -> None:
    mix = read_methods("sum:k=2,pairing=permute,erm")[0].plan.mix
    assert isinstance(mix, lp.mix.SumAugment)
    assert mix.pairing == "permute"


def test_a_yaml_file(tmp_path: Path) -> None:
    file = tmp_path / "plans.yaml"
    file.write_text("erm:\nstrong:\n  mix: sum:k=4\n  settings: {lr: 0.02, weight_decay: 0}\nshort: mixup\n")
    for given in (file, str(file)):
        methods = read_methods(given)
        assert summary(methods) == {"erm": (None, None), "strong": ("sum", 4), "short": ("mixup", None)}
        assert methods[1].settings == {"lr": 0.02, "weight_decay": 0}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("mixpu", ["mixpu", "mixup"]),
        ("erm,erm", ["twice", "label=spec"]),
        ("a=erm,a=mixup", ["'a'", "twice"]),
        ("", ["no methods"]),
        ([], ["no methods"]),
        ({}, ["no methods"]),
        ("sum:kk=3", ["kk", "'k'"]),
        ("sum:k=many", ["whole number"]),
        ({"x": 3}, ["'x'", "3"]),
        ({"x": {"mixing": "sum"}}, ["mixing", "mix"]),
        ({"x": {"settings": {"lrr": 1}}}, ["lrr", "lr"]),
        ({"x": {"settings": {"lr": -1}}}, ["lr=-1"]),
        ("missing.yaml", ["missing.yaml", "does not exist"]),
    ],
)
def test_what_cannot_be_read(given: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_methods(given)
    for word in words:
        assert word in str(caught.value)


def test_a_yaml_file_that_is_no_mapping(tmp_path: Path) -> None:
    file = tmp_path / "plans.yml"
    file.write_text("- erm\n- mixup\n")
    with pytest.raises(ConfigError, match="no mapping"):
        read_methods(file)


@pytest.mark.parametrize(
    "text",
    ["sum:k=2,pairing=permute", "cascade:k=8", "mixup:until=80%", "mixup:alpha=0.4,p=0.25", "mixup|cutmix", "erm"],
)
def test_a_description_says_what_makes_the_plan(text: str) -> None:
    """Read again, the words for a person give the same plan."""
    method = read_methods([text])[0]
    words = method.describe()
    again = read_methods([words])[0] if words != "no mixing" else read_methods(["erm"])[0]
    assert again.plan.config() == method.plan.config()


def test_settings_are_described() -> None:
    assert "lr=0.5" in read_methods({"x": {"mix": "mixup", "settings": {"lr": 0.5}}})[0].describe()


def test_a_fresh_plan_is_untouched_by_use() -> None:
    method = read_methods("mixup")[0]
    used = method.fresh_plan().mix
    assert used is not None
    used.finish_setup(3, seed=5)
    assert method.plan.mix is not None
    assert method.plan.mix.num_classes is None


def test_texts_of_a_mapping_have_settings_too() -> None:
    methods = {m.name: m for m in read_methods({"solved": "logreg", "fine": "tune:last:2 + lr:3e-4 + sum:k=3"})}
    assert methods["solved"].settings == {"tune": "head", "fit_head": "logreg"}
    assert methods["fine"].settings == {"tune": "last:2", "lr": 3e-4}
    assert summary([methods["fine"]]) == {"fine": ("sum", 3)}


@pytest.mark.parametrize(
    ("given", "plan", "settings"),
    [
        ("probe=tune:head", None, {"tune": "head"}),
        ("logreg", None, {"tune": "head", "fit_head": "logreg"}),
        ("x=ncm + feature_views:4", None, {"tune": "head", "fit_head": "ncm", "feature_views": 4}),
        ("ft=tune:all + lr:3e-4 + cascade:k=4", "cascade", {"tune": "all", "lr": 3e-4}),
        ("lr:1e-2 + mixup", "mixup", {"lr": 0.01}),
        ("a=nesterov:false + batch-size:16 + ema:none", None, {"nesterov": False, "batch_size": 16, "ema": None}),
        ("a=batch_size:auto + clip:1", None, {"batch_size": "auto", "clip": 1}),
        ("a=tune:gradual:parts=2,until=0.4 + mixup", "mixup", {"tune": "gradual:parts=2,until=0.4"}),
        ("a=head:5 + head_lr:0.05", None, {"head": "5", "head_lr": "0.05"}),
        ("a=weights:2024 + head:none", None, {"weights": "2024", "head": None}),
        ("a=weights:none", None, {"weights": None}),
        ({"a": "tune:head + sum:k=3"}, "sum", {"tune": "head"}),
        ({"a": "logreg"}, None, {"tune": "head", "fit_head": "logreg"}),
    ],
)
def test_methods_with_settings(given: Any, plan: str | None, settings: dict[str, Any]) -> None:
    (method,) = read_methods(given)
    assert method.settings == settings
    assert {name: type(value) for name, value in method.settings.items()} == {
        k: type(v) for k, v in settings.items()
    }
    assert (method.plan.mix.name if method.plan.mix is not None else None) == plan
    made = Settings.make(**method.settings)
    assert all(getattr(made, name) == value for name, value in settings.items())


def test_methods_with_settings_beside_each_other() -> None:
    methods = read_methods("probe=tune:head, logreg, ncm, ft=tune:all + lr:3e-4 + cascade:k=4,patience=none, erm")
    assert [m.name for m in methods] == ["probe", "logreg", "ncm", "ft", "erm"]
    assert methods[3].settings == {"tune": "all", "lr": 3e-4}
    assert methods[4].settings == {}
    assert "lr=0.0003" in methods[3].describe()
    assert methods[3].plan.config() == read_methods(["cascade:k=4,patience=none"])[0].plan.config()
    assert [m.name for m in read_methods("cascade:k=4,plain=none,mixup,bare=none")] == [
        "cascade:k=4", "plain", "mixup", "bare"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("a=lr:-1", ["lr=-1"]),
        ("a=lr:fast", ["lr='fast'"]),
        ("a=tune:head + tune:all", ["method 'a'", "tune twice"]),
        ("a=logreg + tune:all", ["method 'a'", "tune twice"]),
        ("a=tunes:all", ["tunes"]),
    ],
)
def test_settings_that_cannot_be_read(given: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_methods(given)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "a: [1", "a: !!python/name:os.system", "a: {settings: 5}", "a: {settings: [1]}", "a: {settings: lr}",
        "a: {settings: {[1]: 2}}", "? [1]\n: mixup", "[mixup]", "a: {mix: [1]}", "a: 7", "a: {settings: {1: 2}}",
    ],
)  # fmt: skip
def test_files_of_methods_that_cannot_be(tmp_path: Path, text: str) -> None:
    """One sentence, whatever is in them."""
    file = tmp_path / "methods.yaml"
    file.write_text(text)
    with pytest.raises(LessonplanError):
        read_methods(file)
    file.write_bytes(b"a: \xff\xfe")
    with pytest.raises(LessonplanError, match="not valid YAML"):
        read_methods(file)
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(LessonplanError, match="cannot read"):
        read_methods(tmp_path / "folder.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("logregg", "unknown method 'logregg': did you mean 'logreg'"),
        ("erm,probe", r"unknown method 'probe' \(known: .*logreg.*ncm"),
        ("accuracy", "did you mean 'select:accuracy'"),
        ("a=loss-delta", "did you mean 'order:loss-delta'"),
        ("tune=head,erm", "did you mean 'tune:head'"),
        ("probe=tune:head + mixpu", "unknown method 'mixpu': did you mean 'mixup'"),
        ("mixed=sum:k=2;first=sum:k=2,labels=first", "by commas, not by semicolons"),
    ],
)
def test_a_word_that_is_no_method_is_told_what_it_may_have_been_meant_for(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_methods(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a=erm, c=budget:10ep", "method 'c': budget is the same for all methods .* as --budget"),
        ("c=mixup + image_size:64", "method 'c': image_size is the same for all methods .* as --image-size"),
        ("seed:5", "seed is the same for all methods"),
        ("augment:flip", "augment is the same for all methods"),
        ("m=model:lenet", "model is the same for all methods"),
        ("logreg=weights:r1+fit-head:logreg+tune:head", r"'weights:r1\+fit.*': write blanks around the plus sign"),
        ("a=tune:head+mixup", "write blanks around the plus sign"),
    ],
)
def test_what_is_no_setting_of_one_method_is_told(text, said) -> None:
    with pytest.raises(ConfigError, match=said):
        read_methods(text)


def test_a_plus_sign_in_a_path_is_no_other_setting() -> None:
    assert read_methods("a=weights:c++/run+1.pt")[0].settings == {"weights": "c++/run+1.pt"}
