"""The search over files: the same as in memory, whole after a kill, and in several processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lessonplan.errors import ConfigError, DataError
from lessonplan.lab.ordering import OrderingConfig, reproduce_ordering, search_orderings
from lessonplan.lab.ordering import job as ordering_job
from lessonplan.lab.ordering.network import search_network
from lessonplan.lab.ordering.recipe import SearchOutcome, search_recipes
from lessonplan.lab.ordering.samples import load_samples
from lessonplan.lab.ordering.search import is_thesis
from lessonplan.lab.ordering.summary import THESIS_TABLE, describe, judge_claims, summarise_epoch, thesis_epochs
from lessonplan.lab.reproduction import reproduce
from lessonplan.order.perfect import Engine, Tree, perfect_ordering
from lessonplan.report import write_pages
from lessonplan.seeds import fold_seed

SMALL: dict[str, Any] = {
    "classes": ("0", "1"),
    "per_class": 6,
    "evaluate": 60,
    "batch_size": 4,
    "survivors": 2,
    "lr": 0.1,
}


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "runs.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("search") / "out"
    return folder, search_orderings("digits", out=folder, epochs=3, jobs=1, **SMALL)


def test_files_hold_what_a_search_in_memory_finds(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = finished
    config = OrderingConfig.make(data="digits", **SMALL)
    samples = load_samples(config)
    engine = Engine(
        search_network("small-conv", (1, 8, 8), 10, fold_seed(0, "weights")),
        samples.x,
        samples.y,
        samples.x_eval,
        samples.y_eval,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    )
    expected = [
        (tree.epoch, tree.start, "-".join(map(str, order)), loss, accuracy)
        for tree in perfect_ordering(engine, batch_size=4, epochs=3, survivors=2)
        for order, loss, accuracy in zip(
            tree.orders.tolist(), tree.loss.tolist(), tree.accuracy.tolist(), strict=True
        )
    ]
    found = rows_of(folder)
    assert len(found) == len(expected) == 6 + 12 + 12 == summary["runs"]
    for row, (epoch, start, order, loss, accuracy) in zip(found, expected, strict=True):
        assert (int(row["epoch"]), int(row["start"]), row["permutation"]) == (epoch, start, order)
        assert float(row["loss"]) == pytest.approx(loss, abs=1e-5)
        assert float(row["accuracy"]) == pytest.approx(accuracy, abs=1e-8)
    assert len({row["loss"] for row in found}) > 20


def test_summary_is_that_of_the_rows(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = finished
    assert summary == json.loads((folder / "ordering.json").read_text())
    for epoch in summary["epochs"]:
        rows = [row for row in rows_of(folder) if int(row["epoch"]) == epoch["epoch"]]
        for key in ("loss", "accuracy"):
            values = sorted(float(row[key]) for row in rows)
            assert epoch[key]["min"] == pytest.approx(values[0])
            assert epoch[key]["max"] == pytest.approx(values[-1])
            assert epoch[key]["mean"] == pytest.approx(sum(values) / len(values))
    assert summary["evaluated_on"] == "validation"
    assert summary["source"] is None
    assert (summary["outputs"], summary["classes"]) == (10, ["0", "1"])


def test_a_finished_search_is_not_trained_again_and_can_go_further(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[int, int]] = []
    train = ordering_job.TreeJob.do

    def counted(self: ordering_job.TreeJob) -> None:
        done.append((self.epoch, self.start))
        train(self)

    monkeypatch.setattr(ordering_job.TreeJob, "do", counted)
    folder = tmp_path / "out"
    search_orderings("digits", out=folder, epochs=2, jobs=1, **SMALL)
    assert done == [(1, 0), (2, 0), (2, 1)]
    search_orderings("digits", out=folder, epochs=2, jobs=1, **SMALL)
    assert len(done) == 3
    search_orderings("digits", out=folder, epochs=3, jobs=1, **SMALL)
    assert done[3:] == [(3, 0), (3, 1)]
    assert rows_of(folder) == rows_of(finished[0])
    with pytest.raises(ConfigError, match=r"another search \(lr: 0.1 -> 0.2\)"):
        search_orderings("digits", out=folder, epochs=3, **{**SMALL, "lr": 0.2})


KILLED = """
import sys
from lessonplan.lab.ordering import job, search_orderings
write, left = job.store.write_tree, [int(sys.argv[2])]
def dies(*given):
    write(*given)
    left[0] -= 1
    if left[0] == 0:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
job.store.write_tree = dies
search_orderings("digits", out=sys.argv[1], epochs=3, jobs=1, classes=("0", "1"), per_class=6, evaluate=60,
                 batch_size=4, survivors=2, lr=0.1)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="processes are stopped by POSIX signals")
def test_a_killed_search_goes_on_behind_its_last_finished_tree(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), "2"], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert [file.name for file in (folder / "trees").iterdir()] == ["epoch-0002-start-0000.csv"]
    (folder / "trees" / ".half.csv.2103.tmp").write_text("left behind")
    done: list[tuple[int, int]] = []
    train = ordering_job.TreeJob.do

    def counted(self: ordering_job.TreeJob) -> None:
        done.append((self.epoch, self.start))
        train(self)

    monkeypatch.setattr(ordering_job.TreeJob, "do", counted)
    search_orderings("digits", out=folder, epochs=3, jobs=1, **SMALL)
    assert done == [(2, 1), (3, 0), (3, 1)]
    assert (folder / "runs.csv").read_bytes() == (finished[0] / "runs.csv").read_bytes()
    assert not list((folder / "trees").iterdir())


@pytest.mark.slow
def test_several_processes_find_the_same(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    search_orderings("digits", out=folder, epochs=2, jobs=2, **SMALL)
    assert (folder / "log.txt").exists()
    assert rows_of(folder) == [row for row in rows_of(finished[0]) if int(row["epoch"]) < 3]


def test_one_split_for_all_epochs_and_sampled_orders(tmp_path: Path) -> None:
    given = {**SMALL, "redraw": False, "max_permutations": 4}
    summary = search_orderings("digits", out=tmp_path / "a", epochs=2, jobs=1, **given)
    assert [row["runs"] for row in summary["epochs"]] == [4, 8]
    orders = {row["permutation"] for row in rows_of(tmp_path / "a")}
    assert len(orders) > 4, "every start draws orders of its own"


class TwoLayers(nn.Module):
    """A user's own network."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(64) if norm else nn.Identity()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(self.norm(x.flatten(1)))
        return logits


def with_norm() -> nn.Module:
    return TwoLayers(norm=True)


def test_networks_of_ones_own(tmp_path: Path) -> None:
    summary = search_orderings("digits", out=tmp_path / "out", epochs=1, jobs=1, model=TwoLayers, **SMALL)
    assert summary["config"]["model"].split()[0].endswith(":TwoLayers")
    with pytest.raises(ConfigError, match="GroupNorm"):
        search_orderings("digits", out=tmp_path / "norm", epochs=1, jobs=1, model=with_norm, **SMALL)
    assert not (tmp_path / "norm").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"per_class": 40, "batch_size": 4},
            r"10\^1\d runs \(20 batches in an epoch\) would take .* max_permutations",
        ),
        ({"batch_size": 12}, "one order"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"classes": ("0", "one")}, "unknown class 'one'"),
        ({"classes": ("0",)}, "give two or more"),
        ({"per_class": 1000}, "class '0' has 178 samples where 1000 are wanted"),
        ({"evaluate_on": "test"}, "no test part"),
        ({"outputs": 2, "classes": ("0", "5")}, "give at least 6"),
        ({"model": "tiny"}, "GroupNorm"),
        ({"survivors": 7}, "survivors=7 of 6 runs"),
        ({"optimizer": "adam", "momentum": 0.9}, "momentum is for sgd"),
        ({"momentum": 0.0, "nesterov": True}, "without momentum"),
        ({"learning_rate": 0.1}, "unknown option"),
        ({"epochs": 0}, "epochs=0"),
        ({"jobs": 0}, "jobs=0"),
        ({"lr": 1e30}, "lower learning rate"),
    ],
)
def test_bad_searches_are_refused_in_one_sentence(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    given = {"epochs": 2, "jobs": 1, **SMALL, **changes}
    with pytest.raises((ConfigError, DataError), match=message) as caught:
        search_orderings("digits", out=tmp_path / "out", **given)
    assert "\n" not in str(caught.value)


def test_samples_are_disjoint_and_of_the_wanted_classes() -> None:
    config = OrderingConfig.make(data="digits", classes=("3", "8"), per_class=24, evaluate=200, seed=4)
    samples = load_samples(config)
    assert samples.x.shape == (48, 1, 8, 8)
    assert samples.y.bincount().tolist() == [0, 0, 0, 24, 0, 0, 0, 0, 24]
    assert set(samples.y_eval.tolist()) == {3, 8}
    rows = {row.tobytes() for row in samples.x.numpy()}
    assert not rows & {row.tobytes() for row in samples.x_eval.numpy()}
    assert len(samples.x_eval) == 200
    assert float(samples.x.mean()) == pytest.approx(0, abs=1e-5)
    other = load_samples(OrderingConfig.make(data="digits", classes=("3", "8"), evaluate=200, seed=5))
    assert other.fingerprint != samples.fingerprint
    assert load_samples(config).fingerprint == samples.fingerprint


def test_test_data_are_opt_in_and_labelled(tmp_path: Path) -> None:
    import numpy as np

    generator = np.random.default_rng(0)
    x, y = generator.random((40, 8, 8)), np.arange(40) % 2
    x_test, y_test = generator.random((30, 8, 8)), np.arange(30) % 2
    x_test[:5] = x[:5]  # copies of samples that may be trained on
    np.savez(tmp_path / "data.npz", x=x, y=y, x_test=x_test, y_test=y_test)
    given = {**SMALL, "classes": None, "evaluate": None, "evaluate_on": "test", "per_class": 20, "batch_size": 20}
    summary = search_orderings(f"npz:{tmp_path / 'data.npz'}", out=tmp_path / "out", epochs=1, jobs=1, **given)
    assert summary["evaluated_on"] == "test"
    assert summary["evaluation_samples"] == 25
    assert "evaluated on test data" in (tmp_path / "out" / "index.html").read_text()


def test_claims_on_the_thesis_own_table() -> None:
    over_min, over_mean = judge_claims(thesis_epochs())
    # by hand from table 2.1, which has three decimals
    assert over_min["compared"] == list(range(1, 10))
    assert (over_min["holds"], over_min["equal"]) == ([5, 6, 7, 8, 9], [4])
    assert over_mean["compared"] == list(range(1, 13))
    assert over_mean["holds"] == [7, 9, 10, 11]
    assert over_mean["equal"] == [4, 5, 6, 8, 12]
    assert len(THESIS_TABLE) == 13


def test_normality_of_known_shapes() -> None:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(2000, generator=generator, dtype=torch.float64)
    assert describe(normal.numpy())["normal_p"] > 0.01
    skewed = describe(normal.exp().numpy())
    assert skewed["normal_p"] < 1e-6
    assert skewed["skewness"] > 2
    same = describe(torch.full((50,), 0.5).double().numpy())
    assert (same["min"], same["max"], same["normal_p"]) == (0.5, 0.5, None)


def test_diverged_runs_are_counted_and_left_out() -> None:
    orders = torch.tensor([[0, 1], [1, 0]])
    loss = torch.tensor([float("nan"), 2.0], dtype=torch.float64)
    row = summarise_epoch(1, [Tree(1, 0, orders, loss, torch.tensor([0.1, 0.9], dtype=torch.float64))])
    assert (row["diverged"], row["loss"]["min"], row["loss"]["max"], row["runs"]) == (1, 2.0, 2.0, 2)


def test_recipe_at_smoke_scale(tmp_path: Path) -> None:
    outcome = reproduce("thesis-2.1", "smoke", out=tmp_path / "out")
    assert isinstance(outcome, SearchOutcome)
    assert outcome.summary["runs"] == 24 * (1 + 3 + 3)
    page = tmp_path / "out" / "index.html"
    before = page.read_text()
    page.unlink()
    assert write_pages(tmp_path / "out") == page
    assert page.read_text() == before
    with pytest.raises(DataError, match="needs MNIST"):
        reproduce_ordering(scale="cpu", out=tmp_path / "none")
    with pytest.raises(ConfigError, match="no scale"):
        reproduce_ordering(scale="huge", out=tmp_path / "none")
    with pytest.raises(ConfigError, match="takes no seeds"):
        reproduce("thesis-2.1", "smoke", out=tmp_path / "none", seeds=3)


def test_the_full_recipe_is_the_thesis_experiment() -> None:
    scales = search_recipes()["thesis-2.1"].scales
    for scale in ("cpu", "gpu", "paper"):
        given = {key: value for key, value in scales[scale].items() if key != "epochs"}
        config = OrderingConfig.make(data="digits", **{**given, "classes": tuple(given["classes"])})
        assert is_thesis(config, 2)
        assert config.runs(48, scales[scale]["epochs"]) == 104_400
        assert config.redraw


def test_the_command_gives_its_options_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lessonplan.commands.order import Order

    options = {"classes": "0,1", "per_class": 6, "batch": 4, "evaluate": 60, "lr": 0.1}
    command = Order(data="digits", out=tmp_path, epochs=2, survivors=2, keep_split=True, seed=3, jobs=1, **options)
    answer = command.run()
    answer.show()
    assert answer.code == 0
    assert f"page: {tmp_path / 'index.html'}" in capsys.readouterr().out
    config = json.loads((tmp_path / "ordering.json").read_text())["config"]
    wanted = {"redraw": False, "seed": 3, "lr": 0.1, "momentum": 0.9, "batch_size": 4, "survivors": 2}
    assert {key: config[key] for key in wanted} == wanted
    assert len(rows_of(tmp_path)) == 6 + 12


def test_orders_are_judged_on_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    given = {"data": "digits", "classes": ("3", "8"), "per_class": 24}
    wanted = load_samples(OrderingConfig.make(**given))  # 2,048 by default, of which digits have fewer
    every = load_samples(OrderingConfig.make(**given, evaluate=None))
    assert torch.equal(wanted.x_eval, every.x_eval)
    assert 0 < len(every.x_eval) < 2048
    said = capsys.readouterr().err
    assert f"judged on {len(every.x_eval)} samples, all that are left: evaluate asks for 2048" in said
