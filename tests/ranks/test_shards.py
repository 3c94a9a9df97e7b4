"""A network that is shared out over ranks learns what one process learns, and each rank has its part of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import lessonplan as lp
from lessonplan.cli import main
from lessonplan.network.ranks import Ranks
from lessonplan.plan import Plan
from lessonplan.settings import Settings
from lessonplan.train.checkpoint import Checkpoints
from lessonplan.train.identity import identity_settings
from lessonplan.train.preparation import check_shards
from ranks import sharded
from ranks.cases import PLANS, data, train, with_dropout
from ranks.test_same_as_one import compare
from ranks.together import free_port, on_ranks

OWN = ["adamw, clipped and averaged", "batch normalisation", *sharded.MORE]
PLAIN = [name for name in PLANS if name not in OWN and not name.startswith("look-ahead")]


@pytest.mark.slow
@pytest.mark.parametrize("names", [OWN, PLAIN[:8], PLAIN[8:]], ids=["own", "some", "others"])
def test_losses_samples_and_decisions(names: list[str]) -> None:
    first, second = on_ranks(sharded.train_all_sharded, names)
    for name in names:
        one = train("plain", **sharded.MORE[name]) if name in sharded.MORE else train(name)
        compare(name, one, first[name], second[name])


@pytest.mark.slow
def test_as_ranks_with_whole_networks_do() -> None:
    """Where ranks differ from one process: hidden states of each rank's own part, and sums in half precision."""
    whole, parts = on_ranks(sharded.hidden_or_half, False), on_ranks(sharded.hidden_or_half, True)
    for first, second in zip(whole, parts, strict=True):
        assert first.keys() == second.keys()
        for name, run in first.items():
            close = {"rtol": 0, "atol": 1e-5 if name != "half as it travels" else 5e-3}
            found = torch.tensor(second[name]["losses"]), torch.tensor(run["losses"])
            torch.testing.assert_close(*found, **close, msg=lambda said, name=name: f"{name}: {said}")
            assert second[name]["samples"] == run["samples"]
    assert [run["digest"] for run in parts[0].values()] == [run["digest"] for run in parts[1].values()]
    exact = on_ranks(sharded.train_all_sharded, ["plain"])[0]["plain"]["losses"][:20]
    travelled = parts[0]["half as it travels"]["losses"][:20]
    assert travelled[0] == exact[0]
    assert travelled != exact


@pytest.mark.slow
def test_bf16_brings_parameters_together_in_it() -> None:
    for found in on_ranks(sharded.formats):
        assert found == {"wide": ["torch.bfloat16"], "norm": ["torch.float32"]}


@pytest.fixture(scope="module", params=["sgd", "adamw"])
def inside(request: pytest.FixtureRequest) -> tuple[str, list[Any]]:
    """The optimizer, and what each of two ranks has behind a few updates."""
    return request.param, on_ranks(sharded.inside, request.param)


def test_each_rank_has_its_part(inside: tuple[str, list[Any]]) -> None:
    """Parameters, gradients, moments and average: half of each, and nothing of the network that was given."""
    optimizer, (first, second) = inside
    whole = sum(first["whole"].values())
    assert first["blocks"] == second["blocks"] > 1
    for name, count in first["whole"].items():
        assert first["parameters"][name] + second["parameters"][name] == count
    for found in (first, second):
        assert 0.4 * whole < sum(found["parameters"].values()) < 0.6 * whole
        assert found["lent"] == 0
        assert found["gradients"] == sum(found["parameters"].values()) == found["average"]
        assert found["optimizer"] == (1 if optimizer == "sgd" else 2) * found["gradients"]


def test_states_are_those_that_pytorch_puts_together(inside: tuple[str, list[Any]]) -> None:
    first, second = inside[1]
    assert first["weights"].keys() == first["weights by PyTorch"].keys()
    assert all(torch.equal(first["weights by PyTorch"][name], t) for name, t in first["weights"].items())
    assert first["states"].keys() == first["states by PyTorch"].keys()
    for name, entry in first["states"].items():
        assert entry.keys() == first["states by PyTorch"][name].keys()
        assert all(torch.equal(first["states by PyTorch"][name][key], value) for key, value in entry.items())
    assert first["comes back"]
    assert all(value is None or value.numel() < 200 for value in second["weights"].values()), "the first alone"
    squares = sum(t.double().square().sum() for n, t in first["weights"].items() if n in first["whole"])
    assert first["norm"] == second["norm"] == pytest.approx(float(squares) ** 0.5, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_checkpoints_are_like_others(tmp_path: Path, optimizer: str) -> None:
    for shard in (False, True):
        on_ranks(sharded.checkpoints, str(tmp_path / str(shard)), shard, optimizer)
    whole, parts = (Checkpoints(tmp_path / str(shard) / "checkpoints").load_newest() for shard in (False, True))
    assert whole is not None
    assert whole["best"]["average"] is not None
    _same(whole, parts, "")
    _same(whole["ranks"], parts["ranks"], "ranks")
    config = (tmp_path / "True" / "config.yaml").read_text()
    assert config.replace("  shard: true\n", "") == (tmp_path / "False" / "config.yaml").read_text()


def _same(one: Any, other: Any, where: str) -> None:
    """Alike in all but how an optimizer goes about it, and seconds."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one.keys() - {"fused", "foreach", "seconds"}:
            _same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            _same(a, b, f"{where}[{place}]")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4, msg=lambda said: f"{where}: {said}")
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-5, nan_ok=True), where
    elif where != ".metrics_bytes":
        assert one == other, where


@pytest.mark.slow
def test_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """With the best weights kept, their average, dropout and moments; a damaged checkpoint costs some updates."""
    whole = on_ranks(sharded.resumed_sharded, str(tmp_path / "whole"), None)
    assert whole[0] == whole[1]
    out = tmp_path / "stopped"
    assert on_ranks(sharded.resumed_sharded, str(out), 11) == [None, None]
    assert on_ranks(sharded.resumed_sharded, str(out), 60) == [None, None]
    newest = max((out / "checkpoints").glob("*.ckpt"))
    newest.write_bytes(newest.read_bytes()[:-9])
    with pytest.raises(lp.errors.ConfigError, match="was begun by a group of 2 ranks, and now there is one"):
        sharded.resumed_sharded(str(out), None)
    assert on_ranks(sharded.resumed_sharded, str(out), None) == whole
    # What it has learned is anybody's.
    assert sharded.resumed_sharded(str(out), None) == whole[0]
    assert on_ranks(sharded.resumed_sharded, str(out), None) == whole
    test = data().test
    assert test is not None
    found = lp.load(out, with_dropout()).predict(test.raw(torch.arange(len(test))))
    accuracy = (found.argmax(1) == test.labels).float().mean().item()
    assert accuracy == pytest.approx(json.loads((out / "result.json").read_text())["test"]["accuracy"])


@pytest.mark.slow
def test_what_was_given_is_given_back() -> None:
    first, second = on_ranks(sharded.given_back)
    assert torch.equal(first["logits"], second["logits"])
    for found in (first, second):
        assert found["same"]
        assert found["class"] == "Linear"
        assert found["whole"]
        assert found["shapes"] == [(24, 64), (24,), (10, 24), (10,)]
        assert found["trained on"]
        assert found["first"] == "KeyError: 'stopped'"
        assert found["second"].startswith(
            "ConfigError: this network's weights were shared out over ranks by a run"
        )


@pytest.mark.slow
def test_networks_that_do_not_fall_into_blocks() -> None:
    one = sharded.odd_networks(False)
    for ranks in on_ranks(sharded.odd_networks, True, count=3):
        for name, weights in one.items():
            assert ranks[name].keys() == weights.keys()
            for key, weight in weights.items():
                torch.testing.assert_close(ranks[name][key], weight, rtol=0, atol=1e-5)


def test_ranks_with_more_passes_than_others() -> None:
    for found in on_ranks(sharded.uneven):
        assert max(found.values()) < 1e-5, found


# -- what is refused -------------------------------------------------------------------------------------

REFUSED = {
    "recurrent": "shard: 1 is a recurrent layer, which holds its weights in a second place",
    "scalar": r"shard: the parameter scale is a number without a dimension.*give it the shape \(1,\)",
    "optimizer": "shard: the optimizer has other parameters than those that it was given",
    "remembers": r"shard: Rows keeps rows of the shape .* could not be resumed: give another optimizer",
}


def test_networks_and_optimizers_that_cannot_be_shared_out() -> None:
    for found in on_ranks(sharded.unfit):
        assert found.keys() == REFUSED.keys()
        for what, sentence in REFUSED.items():
            assert re.search(sentence, found[what]), found[what]


ONE = r"shard leaves each of several ranks its part.*there is one process: start several \(torchrun"


def test_one_process(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(lp.errors.ConfigError, match=ONE):
        lp.fit("fcnet-8", "digits", budget="1 steps", shard=True, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(SystemExit) as stop:
        main(["train", "--shard", "--data", "digits", "--budget", "1 steps", "--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    assert re.search(ONE, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("plan", "settings", "sentence"),
    [
        ("none", {"compile": True}, "shard does not go together with compile: leave it out, or leave out shard"),
        ("none", {"channels_last": True}, "shard does not go together with channels_last"),
        ("none", {"precision": "fp16"}, "precision=fp16: give precision=bf16"),
        ("none", {"tune": "head"}, "tune=head: give tune=all"),
        ("none", {"tune": "lora"}, "tune=lora: give tune=all"),
        ("order:loss-delta:candidates=3", {}, "the order loss-delta looks ahead, .* each of 2 ranks has a part"),
        (
            "mixup|(cutmix >> puzzle)",
            {"mix_over": "rank"},
            "the mix puzzle.* asks the network.*give mix_over=global",
        ),
        ("manifold|puzzle", {"mix_over": "rank"}, "the mix puzzle.* asks the network"),
    ],
)
def test_parts_of_a_plan_that_cannot(plan: str, settings: dict[str, Any], sentence: str) -> None:
    parsed = Plan.parse(plan)
    with pytest.raises(lp.errors.ConfigError, match=sentence):
        check_shards(parsed, Settings(shard=True, **settings), Ranks(0, 2))
    check_shards(parsed, Settings(**settings), Ranks(0, 2))


@pytest.mark.parametrize("plan", ["manifold", "order:teacher:some-run", "order:multi-attempt:k=2 + mixup"])
def test_parts_of_a_plan_that_can(plan: str) -> None:
    check_shards(Plan.parse(plan), Settings(shard=True, mix_over="rank"), Ranks(0, 2))


def test_other_runs_are_the_same_ones() -> None:
    assert "shard" not in identity_settings(Settings())
    assert identity_settings(Settings(shard=True)) == {**identity_settings(Settings()), "shard": True}


@pytest.mark.slow
def test_started_by_torchrun(tmp_path: Path) -> None:
    out = tmp_path / "run"
    said = subprocess.run(
        [
            *[sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"],
            *["--master-port", str(free_port()), "-m", "lessonplan", "train", "--shard", "--data", "digits"],
            *["--model", "wrn-10-1", "--device", "cpu", "--budget", "6 steps", "--out", str(out)],
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    assert "test accuracy" in said.stdout
    assert lp.load(out).predict(torch.zeros(1, 8, 8, dtype=torch.uint8)).shape == (1, 10)
