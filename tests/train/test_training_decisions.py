"""What validation decides, and that test data decide nothing."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from sklearn import metrics

import lessonplan as lp


def _weights(trainer) -> dict[str, torch.Tensor]:
    return copy.deepcopy(trainer.model.state_dict())


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


class Read:
    """A view that logs when it is read."""

    def __init__(self, view, log: list[str], name: str) -> None:
        self._view, self._log, self._name = view, log, name

    def __getattr__(self, name: str):
        return getattr(self._view, name)

    def __len__(self) -> int:
        return len(self._view)

    def batches(self, *args, **kwargs):
        self._log.append(self._name)
        return self._view.batches(*args, **kwargs)

    def fetch(self, *args, **kwargs):
        self._log.append(self._name)
        return self._view.fetch(*args, **kwargs)


def test_test_data_are_read_once_after_training(quick, data, hook) -> None:
    log: list[str] = []
    spied = dataclasses.replace(data, test=Read(data.test, log, "test"), val=Read(data.val, log, "val"))
    quick(
        "cascade:k=4,patience=1",
        "4ep",
        data=spied,
        keep="best",
        callbacks=[hook(on_train_end=lambda t: log.append("end"))],
    )
    end = log.index("end")
    assert "test" not in log[:end]
    assert log[end:].count("test") == 1
    assert log[:end].count("val") >= 2


def test_other_test_data_change_nothing_but_the_test_result(quick, data, arrays) -> None:
    other = lp.data.load(arrays(20, 0), test=arrays(10, 7), val_fraction=0.2, augment="none")
    runs = [quick("cascade:k=4,patience=1", "4ep", data=d, keep="best") for d in (data, other)]
    assert torch.equal(data.train.rows, other.train.rows)
    assert _equal(runs[0].model.state_dict(), runs[1].model.state_dict())
    assert runs[0].result["test"]["loss"] != runs[1].result["test"]["loss"]


def test_validation_decides_nothing_where_nothing_is_to_be_decided(quick, data) -> None:
    wrong = copy.copy(data.val)
    wrong._places = (data.val._places[0], (data.val._places[1] + 1) % 3)
    runs = [
        quick("mixup", data=d)
        for d in (data, dataclasses.replace(data, val=wrong), dataclasses.replace(data, val=None))
    ]
    assert runs[0].history[-1]["val"]["accuracy"] != runs[1].history[-1]["val"]["accuracy"]
    for run in runs[1:]:
        assert _equal(runs[0].model.state_dict(), run.model.state_dict())


@pytest.mark.parametrize(("watch", "lr"), [("accuracy", 0.6), ("loss", 0.1)])  # high: later is not better
def test_keep_best_restores_the_best(quick, hook, watch: str, lr: float) -> None:
    kept: list[dict[str, torch.Tensor]] = []
    run = quick(
        None,
        "10ep",
        keep="best",
        watch=watch,
        lr=lr,
        schedule="constant",
        evaluate_every=1,
        callbacks=[hook(on_epoch_end=lambda t: kept.append(_weights(t)))],
    )
    values = [record["val"][watch] for record in run.history]
    best = values.index(max(values) if watch == "accuracy" else min(values))
    assert 0 < best < 9, "the test needs a run that gets worse"
    assert _equal(run.model.state_dict(), kept[best])
    assert run.result["val"][watch] == pytest.approx(values[best])


@pytest.fixture(scope="module")
def uneven(arrays) -> lp.data.Data:
    """One class is common, two are rare."""
    (x, y), (x_test, y_test) = arrays(60, 3), arrays(10, 4)
    kept = torch.cat([(y == 0).nonzero()[:, 0], (y == 1).nonzero()[:14, 0], (y == 2).nonzero()[:12, 0]])
    return lp.data.load((x[kept], y[kept]), test=(x_test, y_test), val_fraction=0.5, augment="none")


@pytest.mark.parametrize("watch", ["balanced-accuracy", "macro-f1"])
def test_rare_classes_decide(quick, hook, uneven, watch: str) -> None:
    """By scikit-learn's measure of what the network says after each epoch, not by the accuracy."""
    score = {
        "balanced-accuracy": metrics.balanced_accuracy_score,
        "macro-f1": lambda true, said: metrics.f1_score(true, said, average="macro", zero_division=0),
    }[watch]
    kept, values = [], []

    def judge(trainer) -> None:
        kept.append(_weights(trainer))
        trainer.model.eval()
        with torch.no_grad():
            said = trainer.model(uneven.val.fetch(torch.arange(len(uneven.val)))[0]).argmax(1)
        trainer.model.train()
        values.append(score(uneven.val.labels, said))

    options = {"data": uneven, "keep": "best", "lr": 0.3, "schedule": "constant", "evaluate_every": 1}
    run = quick(None, "10ep", watch=watch, callbacks=[hook(on_epoch_end=judge)], **options)
    best = values.index(max(values))
    accuracies = [record["val"]["accuracy"] for record in run.history]
    assert best != accuracies.index(max(accuracies)), "the test needs a run where the accuracy decides otherwise"
    assert _equal(run.model.state_dict(), kept[best])
    stored = [record["val"][watch.replace("-", "_")] for record in run.history]
    assert stored == pytest.approx(values)


def test_a_cascade_hears_what_is_watched(quick, uneven, monkeypatch) -> None:
    heard: list[float] = []
    step = lp.mix.Cascade.step
    monkeypatch.setattr(lp.mix.Cascade, "step", lambda self, value: (heard.append(value), step(self, value))[1])
    run = quick("cascade:k=4,patience=2", "8ep", data=uneven, watch="macro-f1", evaluate_every=1)
    assert heard == [record["val"]["macro_f1"] for record in run.history]
    assert heard != [record["val"]["accuracy"] for record in run.history]


def test_evaluation_cadence(quick) -> None:
    run = quick(None, "7ep", evaluate_every=3)
    assert ["val" in r for r in run.history] == [False, False, True, False, False, True, True]
    # With sums of 4, an epoch is a quarter of the sample passes: every 4th is as much as the training set.
    run = quick("sum:k=4", "8ep")
    assert ["val" in r for r in run.history] == [False] * 3 + [True] + [False] * 3 + [True]


def _momentum(optimizer: torch.optim.Optimizer) -> float:
    tensors = [value for state in optimizer.state.values() for value in state.values()]
    return sum(tensor.abs().sum().item() for tensor in tensors)


class StageLog(lp.Callback):
    """Weights behind every epoch before validation acted, and what a switch left."""

    def __init__(self) -> None:
        self.before: list[dict[str, torch.Tensor]] = []
        self.switches: list[dict] = []
        self.stage = 0

    def on_batch_end(self, trainer) -> None:
        self.last = _weights(trainer)

    def on_epoch_end(self, trainer) -> None:
        self.before.append(self.last)
        stage = trainer.plan.mix.stage
        if stage != self.stage:
            self.stage = stage
            self.switches.append({
                "epoch": len(self.before) - 1,
                "weights": _weights(trainer),
                "momentum": _momentum(trainer.state.optimizer),
                "started": trainer.state.schedule.started,
                "progress": trainer.progress,
            })  # fmt: skip


def _cascade_run(quick, options: str = "", lr: float = 1.0, **settings) -> tuple[lp.Run, StageLog]:
    log = StageLog()
    run = quick(
        f"cascade:k=4,patience=2,shares=none{options}",
        "40ep",
        evaluate_every=1,
        lr=lr,
        callbacks=[log],
        **settings,
    )
    assert len(log.switches) == 2, "the test needs a run that switches"
    return run, log


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 1.0), ("adam", 0.05)])
def test_a_plateau_restores_the_stages_best_and_starts_anew(quick, optimizer: str, lr: float) -> None:
    run, log = _cascade_run(quick, optimizer=optimizer, lr=lr)
    start = 0
    for switch in log.switches:
        stage = [record["val"]["accuracy"] for record in run.history[start : switch["epoch"] + 1]]
        best = start + stage.index(max(stage))
        assert switch["epoch"] - best == 2  # patience
        assert _equal(switch["weights"], log.before[best])
        assert not _equal(switch["weights"], log.before[switch["epoch"]])
        assert switch["momentum"] == 0
        assert switch["started"] == switch["progress"] > 0
        lrs = [record["lr"] for record in run.history]
        assert lrs[switch["epoch"] + 1] > lrs[switch["epoch"]]
        start = switch["epoch"] + 1
    assert [run.history[i]["mix"]["k"] for i in (0, start - 1, start)] == [4, 2, 1]


def test_a_switch_can_leave_optimizer_and_learning_rate_alone(quick) -> None:
    run, log = _cascade_run(quick, ",reset_optimizer=false,lr_at_switch=keep")
    lrs = [record["lr"] for record in run.history]
    assert lrs == sorted(lrs, reverse=True)
    assert all(s["momentum"] > 0 and s["started"] == 0 for s in log.switches)


def test_shares_switch_without_validation(quick, data) -> None:
    run = quick("cascade:k=4,patience=none", "12ep", data=dataclasses.replace(data, val=None))
    assert [record["mix"]["k"] for record in run.history] == [4] * 4 + [2] * 4 + [1] * 4


def test_a_stages_best_is_its_own_even_with_keep_best(quick) -> None:
    """A switch by shares restores the ended stage's best, not the last weights."""
    log = StageLog()
    firsts: list[dict[str, torch.Tensor]] = []
    log.on_epoch_start = lambda trainer: firsts.append(_weights(trainer))
    run = quick(
        "cascade:k=4,patience=none", "12ep", evaluate_every=1, lr=2.0, schedule="constant", callbacks=[log]
    )
    for start in (0, 4):
        stage = [record["val"]["accuracy"] for record in run.history[start : start + 4]]
        assert _equal(firsts[start + 4], log.before[start + stage.index(max(stage))])
