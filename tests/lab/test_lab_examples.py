"""Pictures of what methods' networks see."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lessonplan as lp
from lessonplan.data import load
from lessonplan.errors import ConfigError
from lessonplan.lab.examples import training_images, write_examples
from lessonplan.lab.methods import read_methods
from lessonplan.settings import Settings
from lessonplan.train.beginning import network_at_start
from lessonplan.train.callbacks import Callback


def test_methods_without_a_mix_share_a_picture(tmp_path: Path) -> None:
    data = load("digits", per_class=4)
    methods = read_methods({"filter": "select:accuracy", "erm": "none", "sum": "sum:k=2"})
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "old.png").touch()
    write_examples(tmp_path, methods, data, seed=0)
    written = sorted(path.name for path in (tmp_path / "examples").iterdir())
    assert written == ["filter.json", "filter.png", "sum.json", "sum.png"]
    captions = [json.loads((tmp_path / "examples" / name).read_text())["caption"] for name in written[::2]]
    assert captions[0].startswith("filter, erm: not mixed")
    assert captions[1].startswith("sum: ")


def test_pictures_show_the_augmentation() -> None:
    """``preview`` took no notice of --augment."""
    plain, turned = (load("digits", per_class=4, augment=text) for text in ("none", "rotate:90,pad:zeros"))
    raw, labels = training_images(plain, 6, seed=0)
    shown, same = training_images(turned, 6, seed=0)
    assert labels.equal(same)
    assert not raw.equal(shown)


HIDDEN = "cascade:k=4,patience=none,pairing=permute,layers=input/{}"


def test_layers_are_those_of_the_network_that_is_compared(small: dict[str, Any], tmp_path: Path) -> None:
    """They were looked for in a small convolutional network, whatever the comparison's was."""
    lp.compare(**{**small, "methods": {"inside": HIDDEN.format("hidden")}, "seeds": 1}, out=tmp_path)
    assert (tmp_path / "examples" / "inside.png").exists()
    assert json.loads((tmp_path / "results.json").read_text())["failures"] == []


def test_a_layer_that_is_not_there_is_told_before_the_runs(small: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="method inside: unknown layer 'hiden': did you mean 'hidden'"):
        lp.compare(**{**small, "methods": {"inside": HIDDEN.format("hiden")}}, out=tmp_path)
    assert not list((tmp_path / "runs").glob("*/metrics.jsonl"))


def test_a_mix_that_asks_a_network_is_shown_with_the_methods_own(tmp_path: Path) -> None:
    data = load("digits", per_class=4)
    asked: list[str] = []

    def network(method: Any) -> nn.Module:
        asked.append(method.name)
        return lp.models.build_model("fcnet-8", shape=data.shape, num_classes=10, seed=0)

    methods = read_methods({"plain": "none", "mixup": "mixup", "inside": HIDDEN.format("hidden")})
    write_examples(tmp_path, methods, data, 0, network)
    assert asked == ["inside"]


def test_the_network_at_the_start_is_the_one_that_a_run_begins_with() -> None:
    class Keeping(Callback):
        def on_train_start(self, trainer: Any) -> None:
            self.state = {name: value.clone() for name, value in trainer.model.state_dict().items()}

    data, seen = load("digits", per_class=4), Keeping()
    lp.fit("fcnet-8", data, budget="1 steps", seed=3, callbacks=[seen])
    found = network_at_start("fcnet-8", data, Settings(), 3).state_dict()
    assert found.keys() == seen.state.keys()
    assert all(torch.equal(found[name], value) for name, value in seen.state.items())


def test_the_network_at_the_start_is_shown_where_the_data_are() -> None:
    """A method may train on another device, which may not even be on this machine."""
    data = load("digits", per_class=4, device="cpu")
    found = network_at_start("fcnet-8", data, Settings(device="xpu:3"), 3)
    assert {weight.device.type for weight in found.parameters()} == {"cpu"}


def test_the_network_at_the_start_has_weights_from_elsewhere_and_says_nothing_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run says it."""
    data = load("digits", per_class=4)
    before = lp.fit("fcnet-8", data, budget="5 steps", out=tmp_path / "before").model.state_dict()
    capsys.readouterr()
    found = network_at_start("fcnet-8", data, Settings(weights=str(tmp_path / "before")), 3).state_dict()
    assert all(torch.equal(found[name], value) for name, value in before.items())
    assert "weights of" not in capsys.readouterr().err
