from __future__ import annotations

import json
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import yaml

from lessonplan.errors import ConfigError
from lessonplan.train import Budget, fit
from lessonplan.train.run_folder import describe_differences


def test_what_a_run_leaves(quick, outcome, tmp_path) -> None:
    run = quick("mixup:alpha=0.4", "12 steps", out=tmp_path / "a" / "run", seed=7)
    folder = tmp_path / "a" / "run"
    assert run.folder == folder
    assert {f.name for f in folder.iterdir()} == {
        "config.yaml", "metrics.jsonl", "checkpoints", "weights.safetensors", "result.json", ".lock",
        "predictions.csv", "mistakes.json",
    }  # fmt: skip
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["model"], config["budget"], config["seed"]) == ("fcnet-8", "12 steps", 7)
    assert config["plan"]["mix"] == {"name": "mixup", "alpha": 0.4}
    assert config["settings"]["batch_size"] == 8
    assert [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] == run.history
    assert json.loads((folder / "result.json").read_text()) == run.result


def test_a_finished_run_is_returned_without_training(quick, hook, same_run, tmp_path) -> None:
    def never(trainer) -> None:
        raise AssertionError("trained again")

    first = quick(out=tmp_path)
    stamp = (tmp_path / "weights.safetensors").stat().st_mtime_ns
    again = quick(out=tmp_path, callbacks=[hook(on_train_start=never)])
    same_run(first, again)
    assert again.result == first.result
    assert not again.model.training
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"budget": "11 steps"}, "budget: 12 steps -> 11 steps"),
        ({"budget": Budget(11.5, "steps")}, "budget: 12 steps -> 11.5 steps"),
        ({"plan": "mixup"}, "plan.mix: None -> {'name': 'mixup'}"),
        ({"model": "fcnet-9"}, "model: fcnet-8 -> fcnet-9"),
        ({"lr": 0.1, "ema": 0.5}, "settings.lr: None -> 0.1, settings.ema: None -> 0.5"),
        ({"loss": F.cross_entropy}, "loss: None -> torch.nn.functional:cross_entropy"),
    ],
)
def test_another_configuration_is_refused_and_the_difference_named(
    quick, tmp_path, change, difference: str
) -> None:
    quick(out=tmp_path)
    with pytest.raises(ConfigError) as caught:
        quick(**{"out": tmp_path, **change})
    assert f"another configuration ({difference})" in str(caught.value)
    quick(out=tmp_path)


def test_other_data_are_another_configuration(quick, data, arrays, tmp_path) -> None:
    import lessonplan as lp

    quick(out=tmp_path)
    x, y = arrays(20, 0)
    x[0, 0, 0] += 1
    other = lp.data.load((x, y), test=arrays(10, 1), val_fraction=0.2, augment="none")
    with pytest.raises(ConfigError, match=r"data\.fingerprint"):
        quick(data=other, out=tmp_path)


def test_what_does_not_change_the_outcome_may_differ(quick, hook, tmp_path) -> None:
    quick(out=tmp_path)
    quick(out=tmp_path, checkpoint_every="1 steps", threads=None)


class _Loss:
    """A callable object, whose repr holds its address."""

    def __call__(self, logits, target):
        return F.cross_entropy(logits, target)


def _sgd(parameters, lr):
    return torch.optim.SGD(parameters, lr=lr)


def test_callables_of_ones_own_are_the_same_in_the_next_process(quick, tmp_path) -> None:
    keep_alive = [_Loss() for _ in range(3)]
    quick(out=tmp_path, loss=keep_alive[0], optimizer=partial(_sgd, lr=0.1))
    quick(out=tmp_path, loss=keep_alive[1], optimizer=partial(_sgd, lr=0.1))
    with pytest.raises(ConfigError, match="optimizer"):
        quick(out=tmp_path, loss=keep_alive[2], optimizer=partial(_sgd, lr=0.2))


def test_a_file_in_the_folders_place(quick, tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is a file: give a folder"):
        quick(out=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_differences_of_nested_configurations() -> None:
    old, new = {"a": {"b": 1, "c": [1, 2]}, "gone": 3}, {"a": {"b": 1, "c": [1, 3]}, "new": {"x": 1}}
    assert describe_differences(old, new) == ["a.c: [1, 2] -> [1, 3]", "gone: 3 -> None", "new: None -> {'x': 1}"]
    assert describe_differences(old, old) == []


def test_nameless_optimizers_with_other_settings_are_other_runs(tmp_path):
    def train(factory):
        return fit("fcnet-16", "digits", budget="1ep", out=tmp_path, optimizer=factory, threads=1)

    train(lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    train(lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    with pytest.raises(ConfigError, match="another configuration"):
        train(lambda parameters: torch.optim.SGD(parameters, lr=0.2))
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(ConfigError, match="is missing beside a finished result"):
        train(lambda parameters: torch.optim.SGD(parameters, lr=0.1))
