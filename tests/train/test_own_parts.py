"""Parts of the user's own, by address: in texts, in fit, in comparisons, and tried by check."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path

import pytest
import torch

import lessonplan as lp
from lessonplan.cli import main
from lessonplan.errors import ConfigError
from lessonplan.lab.checking import check_part
from lessonplan.mix import parse_mix
from lessonplan.order import parse_order
from lessonplan.select import parse_select

PARTS = """
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from lessonplan.mix import Mix
from lessonplan.order import Orderer
from lessonplan.order.base import Ranking
from lessonplan.select import Filter, Selector


@dataclass(eq=False)
class Swap(Mix):
    name: ClassVar[str] = "swap"
    share: float = 0.5
    num_classes: int | None = None

    def _mix(self, x, y):
        other = self._permutations(1, len(x), x.device)[0]
        cut = round(self.share * x.shape[-1])
        target = self._targets(y)
        mixed = torch.cat([x[..., :cut], x[other][..., cut:]], -1)
        return mixed, torch.lerp(target[other], target, cut / x.shape[-1])


@dataclass(eq=False)
class Unsure(Filter):
    name: ClassVar[str] = "unsure"
    below: float = 0.9

    def __call__(self, logits, targets):
        return logits.softmax(1).amax(1) < self.below


@dataclass(eq=False)
class Evens(Selector):
    name: ClassVar[str] = "evens"
    size: float = 0.5

    def __call__(self, scores, size, generator):
        return torch.arange(0, len(scores), 2, device=scores.device)[:size], None


@dataclass(eq=False, kw_only=True)
class Last(Orderer):
    name: ClassVar[str] = "last"
    k: int = 2

    @property
    def drawn(self):
        return self.k

    def choose(self, candidates, count):
        return Ranking(candidates[::-1][:count], candidates[::-1][count:])

    def needs_network(self):
        return False


class Net(nn.Module):
    def __init__(self, num_classes, shape, width: int = 8):
        super().__init__()
        first = nn.Linear(shape[0] * shape[1] * shape[2], width)
        self.layers = nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(width, num_classes))

    def forward(self, x):
        return self.layers(x)


def factory(num_classes, in_channels):
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * in_channels, num_classes))


@dataclass(eq=False)
class InPlace(Mix):
    name: ClassVar[str] = "in-place"
    num_classes: int | None = None

    def _mix(self, x, y):
        x += 1
        return x, self._targets(y) * 2


@dataclass(eq=False)
class Forgetful(Mix):
    name: ClassVar[str] = "forgetful"
    num_classes: int | None = None

    def __post_init__(self):
        super().__post_init__()
        self.calls = 0

    def _mix(self, x, y):
        self.calls += 1
        return x * (1 + 0.01 * self.calls), self._targets(y)


def wrong_outputs(num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes + 1))


def broken(num_classes):
    raise RuntimeError("no such luck")


class Nothing:
    pass
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "parts.py"
    path.write_text(PARTS)
    return path


TEXTS = {
    "mix": "{}:Swap:share=0.25,p=0.9",
    "filter": "select:{}:Unsure:below=0.45",
    "selector": "select:{}:Evens:0.4",
    "order": "order:{}:Last:k=3",
    "together": "select:{}:Unsure + order:{}:Last + {}:Swap >> cutout",
}


@pytest.mark.parametrize("what", TEXTS)
def test_in_fit_and_back_from_its_text(quick, same_run, file, tmp_path, what) -> None:
    text = TEXTS[what].replace("{}", str(file))
    first, again = quick(text, out=tmp_path / "a"), quick(text)
    same_run(first, again)
    plain = quick("none")
    assert any(
        not torch.equal(a, b)
        for a, b in zip(first.model.state_dict().values(), plain.model.state_dict().values(), strict=True)
    )
    plan = lp.Plan.parse(text)
    assert plan.config() == plan.copy().config() == pickle.loads(pickle.dumps(plan)).config()


def test_texts_are_written_as_they_are_read(file) -> None:
    assert str(parse_mix(f"{file}:Swap:share=0.25")) == f"{file}:Swap:share=0.25"
    assert str(parse_order(f"{file}:Last:k=3")) == f"{file}:Last:k=3"
    assert f"{file}:Unsure:below=0.8" in repr(parse_select(f"{file}:Unsure:below=0.8"))


@pytest.mark.parametrize("what", TEXTS)
def test_a_changed_file_is_another_run(quick, file, tmp_path, what) -> None:
    text = TEXTS[what].replace("{}", str(file))
    quick(text, out=tmp_path / "run")
    file.write_text(PARTS.replace("import torch\n", "import torch  # other words\n", 1))
    with pytest.raises(ConfigError, match="another configuration"):
        quick(text, out=tmp_path / "run")
    file.write_text(PARTS)
    quick(text, out=tmp_path / "run")


def test_a_module_in_the_working_directory(file, monkeypatch) -> None:
    (file.parent / "mypackage").mkdir()
    (file.parent / "mypackage" / "mixes.py").write_text(PARTS)
    monkeypatch.chdir(file.parent)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert parse_mix("mypackage.mixes:Swap:share=0.3").share == 0.3
    assert parse_mix("parts:Swap").share == 0.5


def test_copies_and_pickles_keep_state(file) -> None:
    mix = parse_mix(f"{file}:Swap")
    mix.num_classes = 3
    batch = torch.randn(8, 1, 8, 8), torch.arange(8) % 3
    mix(*batch)
    others = copy.deepcopy(mix), pickle.loads(pickle.dumps(mix))
    expected = mix(*batch)[0]
    assert all(torch.equal(other(*batch)[0], expected) for other in others)


@pytest.mark.parametrize("address", ["{}:Net", "{}:Net:width=5", "{}:factory"])
def test_networks(quick, file, tmp_path, address) -> None:
    model = address.replace("{}", str(file))
    run = quick(out=tmp_path / "run", model=model)
    assert run.result["parameters"] > 0
    assert lp.load(tmp_path / "run").predict(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape == (2, 3)
    if "width" in address:
        assert run.model.layers[1].out_features == 5
    file.write_text(PARTS + "\n# changed\n")
    with pytest.raises(ConfigError, match="model_code"):
        quick(out=tmp_path / "run", model=model)
    with pytest.raises(ConfigError, match="has changed: put that file back"):
        lp.load(tmp_path / "run")


def test_weights_do_not_depend_on_the_first_import(tmp_path) -> None:
    code = "import torch\nNOISE = torch.randn(5)\n" + PARTS
    (tmp_path / "noisy.py").write_text(code)
    first, second = (
        lp.models.build_model(f"{tmp_path / 'noisy.py'}:Net", shape=(1, 8, 8), num_classes=3, seed=4)
        for _ in range(2)
    )
    assert torch.equal(first.layers[1].weight, second.layers[1].weight)


@pytest.mark.slow
def test_a_comparison_in_two_processes(file, tmp_path) -> None:
    methods = f"erm,swap={file}:Swap:share=0.3,last=order:{file}:Last"
    results = lp.compare(
        {name: text for name, _, text in (("erm", 0, "none"), ("swap", 0, f"{file}:Swap:share=0.3"))}
        | {"last": f"order:{file}:Last"},
        data="digits", model=f"{file}:Net", seeds=1, budget="6 steps", per_class=6, jobs=2, threads=1,
        out=tmp_path / "c",
    )  # fmt: skip
    assert [m["n"] for m in results["methods"]] == [1, 1, 1]
    assert len(lp.lab.methods.read_methods(methods)) == 3


def test_the_command_line(file, tmp_path, capsys) -> None:
    out = tmp_path / "run"
    arguments = ["--mix", f"{file}:Swap", "--select", f"{file}:Unsure", "--order", f"{file}:Last"]
    with pytest.raises(SystemExit) as ended:
        main(
            ["train", "--data", "digits", "--per-class", "10", "--budget", "6 steps", "--threads", "1", "--out",
             str(out), "--model", f"{file}:Net:width=6", *arguments]
        )  # fmt: skip
    assert ended.value.code == 0
    assert "swap" in (out / "config.yaml").read_text()


MISTAKES = [
    ("nowhere.py:Swap", "does not exist"),
    ("{}:Swpa", "did you mean 'Swap'"),
    ("{}:Net", "is no mix: derive the class from lessonplan.mix.Mix"),
    ("{}:Swap:shar=1", "did you mean 'share'"),
    ("{}:Swap:share=a", "give a number"),
    ("no.such.module:Swap", "is not to be found"),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES)
def test_mistakes_in_one_sentence(file, text, words) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_mix(text.replace("{}", str(file)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}:wrong_outputs", r"gives \(2, 4\) for two inputs .* give logits \(2, 3\)"),
        ("{}:broken", "cannot be built: RuntimeError: no such luck"),
        ("{}:Net:depth=3", "unknown option"),
        ("{}:Nothing", "cannot be built|gives Nothing"),
    ],
)
def test_networks_that_do_not_fit(quick, file, text, words) -> None:
    with pytest.raises(ConfigError, match=words):
        quick(model=text.replace("{}", str(file)))


@pytest.mark.parametrize(
    ("code", "words"),
    [("1 / 0", "ZeroDivisionError"), ("import sys; sys.exit(3)", "SystemExit: 3"), ("x = (", "SyntaxError")],
)
def test_a_file_that_cannot_be_imported(tmp_path, code, words) -> None:
    (tmp_path / "bad.py").write_text(code)
    with pytest.raises(ConfigError, match=words):
        parse_mix(f"{tmp_path / 'bad.py'}:Mine")


def test_a_class_of_ours_keeps_its_identity(tmp_path) -> None:
    """A file that merely imports it gives it no other name."""
    (tmp_path / "borrowed.py").write_text("from lessonplan.mix import Mixup")
    assert parse_mix(f"{tmp_path / 'borrowed.py'}:Mixup").config() == {"name": "mixup"}
    assert parse_mix("mixup").config() == {"name": "mixup"}
    assert str(lp.mix.Mixup()) == "mixup"


def test_a_class_of_the_script_itself(file, monkeypatch) -> None:
    swap = type(parse_mix(f"{file}:Swap"))
    monkeypatch.setattr(sys.modules["__main__"], "Swap", swap, raising=False)
    assert parse_mix("__main__:Swap:share=0.3").share == 0.3


# -- check ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Swap", "Unsure", "Evens", "Last", "Net", "factory"])
def test_sound_parts_pass(file, name) -> None:
    findings = check_part(f"{file}:{name}")
    assert len(findings) >= 2
    assert [f.problem for f in findings] == [""] * len(findings)


def test_broken_parts_are_told(file) -> None:
    wrong = {f.check: f.problem for f in check_part(f"{file}:InPlace") if f.problem}
    assert "the batch was changed in place" in wrong["inputs stay as they are"]
    assert "2.0000" in wrong["targets are shares that sum to 1"]
    wrong = {f.check: f.problem for f in check_part(f"{file}:Forgetful") if f.problem}
    assert "its state goes through a file" in wrong
    assert "stopped and resumed, it ends with the same weights" in wrong


def test_the_check_command(file, capsys) -> None:
    for name, code in (("Swap", 0), ("InPlace", 1)):
        with pytest.raises(SystemExit) as ended:
            main(["check", f"{file}:{name}"])
        assert ended.value.code == code
    assert "no  inputs stay as they are" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["check", f"{file}:Nothing"])
    assert ended.value.code == 2
