"""A finished run goes on with a longer budget, and a run without an update is none."""

from __future__ import annotations

import json

import pytest
import torch
from tests.train.conftest import strip
from torch import Tensor, nn

import lessonplan as lp
from lessonplan.errors import ConfigError, LessonplanWarning
from lessonplan.train import run_folder


@pytest.fixture(scope="module")
def data():
    return lp.data.load("digits", per_class=10, val_fraction=0.2)


def go(data, out, budget: str, plan=None, **settings):
    return lp.fit("fcnet-8", data, plan, budget, out=out, threads=1, **settings)


@pytest.mark.parametrize("plan", [None, "cascade:k=4", "gradual:k=4", "select:accuracy", "order:by-score:k=2"])
@pytest.mark.parametrize(
    ("short", "long"), [("2ep", "4ep"), ("10 steps", "20 steps"), ("200 samples", "500 samples")]
)
def test_a_finished_run_goes_on(tmp_path, data, plan, short, long) -> None:
    first = go(data, tmp_path, short, plan)
    with pytest.warns(
        LessonplanWarning, match=r"had spent its budget of .* and goes on to .*: the schedule cosine"
    ):
        longer = go(data, tmp_path, long, plan)
    assert longer.result["continued"] == [str(lp.Budget.parse(short))]
    assert longer.result["steps"] > first.result["steps"]
    # An epoch that the shorter budget had cut has a line as far as it went, and one for the whole.
    steps = [r["step"] for r in longer.history]
    assert steps == sorted(steps)
    assert [strip(r) for r in longer.history[: len(first.history)]] == [strip(r) for r in first.history]
    assert json.loads((tmp_path / "continued.json").read_text())[0]["test"] == first.result["test"]
    again = go(data, tmp_path, long, plan)  # finished: the same call trains nothing
    assert again.result == longer.result


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("written", ["continued.json", "config.yaml"])
def test_killed_between_its_old_result_and_its_new_budget_it_still_goes_on(tmp_path, data, monkeypatch, written):
    """What a kill before this file was written leaves passes for neither a finished longer run nor another one."""
    first = go(data, tmp_path, "2ep", schedule="constant")
    real = run_folder.write_atomically

    def killed(path, content):
        if path.name == written:
            raise _Killed
        real(path, content)

    with monkeypatch.context() as dying:
        dying.setattr(run_folder, "write_atomically", killed)
        dying.setattr(run_folder, "write_json", lambda path, value: killed(path, json.dumps(value).encode()))
        with pytest.warns(LessonplanWarning), pytest.raises(_Killed):
            go(data, tmp_path, "4ep", schedule="constant")
    with pytest.warns(LessonplanWarning, match="goes on to"):
        twice = go(data, tmp_path, "4ep", schedule="constant")
    assert twice.result["epochs"] == 4
    kept = json.loads((tmp_path / "continued.json").read_text())
    assert [(told["budget"], told["test"]) for told in kept] == [("2 epochs", first.result["test"])]
    once = go(data, tmp_path / "one", "4ep", schedule="constant")
    assert all(map(torch.equal, twice.model.parameters(), once.model.parameters()))


def test_with_a_constant_learning_rate_it_is_the_longer_run(tmp_path, data) -> None:
    """Nothing follows the share of the budget, so that both ways end with the same weights."""
    go(data, tmp_path / "two", "2ep", schedule="constant")
    with pytest.warns(LessonplanWarning):
        twice = go(data, tmp_path / "two", "4ep", schedule="constant")
    once = go(data, tmp_path / "one", "4ep", schedule="constant")
    for a, b in zip(twice.model.parameters(), once.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_learning_rate_is_that_of_the_longer_run(tmp_path, data) -> None:
    go(data, tmp_path, "2ep")
    with pytest.warns(LessonplanWarning):
        longer = go(data, tmp_path, "4ep")
    once = lp.fit("fcnet-8", data, None, "4ep", threads=1)
    assert [r["lr"] for r in longer.history[2:]] == [r["lr"] for r in once.history[2:]]


def test_what_is_no_longer_budget_is_refused(tmp_path, data) -> None:
    go(data, tmp_path, "3ep")
    for other in ("2ep", "100 steps"):
        with pytest.raises(ConfigError, match="budget"):
            go(data, tmp_path, other)
    with pytest.raises(ConfigError, match="batch_size"):
        go(data, tmp_path, "4ep", batch_size=7)
    assert (tmp_path / "result.json").exists()


def test_a_continuation_that_was_interrupted_is_gone_on_with(tmp_path, data) -> None:
    go(data, tmp_path, "2ep")

    class Stop(lp.Callback):
        def on_epoch_end(self, trainer) -> None:
            if trainer.counters.epoch == 3:
                raise KeyboardInterrupt

    with pytest.warns(LessonplanWarning), pytest.raises(KeyboardInterrupt):
        go(data, tmp_path, "4ep", callbacks=[Stop()])
    resumed = go(data, tmp_path, "4ep")
    assert resumed.result["continued"] == ["2 epochs"]
    assert resumed.result["epochs"] == 4


# -- no update -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_without_an_update_is_not_finished(tmp_path) -> None:
    few = lp.data.load("digits", per_class=20)
    with pytest.raises(ConfigError, match="no update was made: the budget of 2 epochs was used up"):
        lp.fit("tiny", few, "select:topk:0.2", "2ep", out=tmp_path / "run", threads=1)
    assert not (tmp_path / "run" / "result.json").exists()
    found = lp.compare(
        "erm,topk=select:topk:0.2", out=tmp_path / "c", model="tiny", budget="2ep", seeds=1, per_class=20, jobs=1
    )
    assert [failure["method"] for failure in found["failures"]] == ["topk"]
    assert found["methods"][1]["mean"] is None


# -- factors of losses ---------------------------------------------------------------------------------------


class Weighing(nn.Module):
    """A loss that is not linear in the target, and notes what it is given."""

    def __init__(self, reduction: str = "none") -> None:
        super().__init__()
        self.rows: list[Tensor] = []
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.rows.append(target.detach())
        losses = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)
        return losses if self.reduction == "none" else losses.mean()


@pytest.mark.parametrize("mix", ["none", "mixup", "sum:k=2", "cutmix", "cutout"])
def test_factors_stay_factors_for_a_loss_of_ones_own(data, mix) -> None:
    loss = Weighing()
    lp.fit("fcnet-8", data, f"select:infobatch >> epochwise + {mix}", "6ep", threads=1, loss=loss, lr=0.01)
    rows = torch.cat(loss.rows)
    assert rows.max() <= 1 + 1e-6
    assert torch.allclose(rows.sum(1), torch.ones(len(rows)), atol=1e-5)


def test_blended_factors_weigh_blended_losses() -> None:
    """By hand: two samples with factors 1 and 3, half and half."""
    from lessonplan.batch import Batch
    from lessonplan.parts.part import Occasion
    from lessonplan.supply.epoch import Supply
    from lessonplan.supply.tensors import TensorSamples

    samples = TensorSamples(torch.tensor([[0.0], [4.0]]), torch.tensor([0, 1]))
    for linear in (True, False):
        supply = Supply(samples, seed=0, mix=lp.mix.SumAugment(2), linear=linear)
        supply.setup(Occasion(0, samples, None, 2))
        mixed = supply.mixed(Batch(torch.arange(2), torch.zeros(2).long(), torch.tensor([1.0, 3.0])))
        assert mixed.x.tolist() == [[2.0]]
        if linear:
            assert mixed.weights is None
            assert mixed.target.tolist() == [[0.5, 1.5]]
        else:
            assert mixed.weights.tolist() == [2.0]
            assert mixed.target.tolist() == [[0.25, 0.75]]


def test_a_loss_of_one_number_cannot_be_weighed(data) -> None:
    with pytest.raises(ConfigError, match="one number for the whole batch"):
        lp.fit("fcnet-8", data, "select:infobatch >> epochwise", "6ep", threads=1, loss=Weighing("mean"), lr=0.01)
