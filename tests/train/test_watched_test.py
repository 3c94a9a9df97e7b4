"""``evaluate_test=curve``: test data judged at every validation, deciding nothing, said wherever it is shown."""

from __future__ import annotations

import copy

import pytest
import torch

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.evaluate.classification import classification_metrics


@pytest.fixture(scope="module")
def without_validation(arrays):
    return lp.data.load(arrays(16, 0), test=arrays(10, 1), val_fraction=0, augment="none")


def test_curves_without_a_validation_part(quick, without_validation, hook):
    weights = []
    watch = hook(on_epoch_end=lambda trainer: weights.append(copy.deepcopy(trainer.model)))
    plan, options = "mixup", {"data": without_validation, "evaluate_train": True, "evaluate_every": 1}
    run = quick(plan, "4ep", evaluate_test="curve", callbacks=[watch], **options)
    assert len(run.history) == 4
    test = without_validation.test
    x, y = test.fetch(torch.arange(len(test)))
    for record, model in zip(run.history, weights, strict=True):
        with torch.no_grad():
            expected = classification_metrics(model.eval()(x), y)
        assert record["test"] == pytest.approx(expected, abs=1e-5)
        assert {"accuracy", "loss", "loss_q90", "loss_worst"} <= set(record["train_set"])
        assert "val" not in record
    assert run.history[-1]["test"]["accuracy"] == run.result["test"]["accuracy"]


def test_it_decides_nothing(quick, data):
    """The same weights and validation with and without: also where validation decides."""
    options = {"keep": "best", "evaluate_every": 1, "plan": "cascade:k=4,patience=1"}
    plain, watched = (quick(budget="5ep", evaluate_test=word, **options) for word in ("end", "curve"))
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[name])
    assert [r["val"] for r in plain.history] == [r["val"] for r in watched.history]
    assert all("test" in record for record in watched.history)
    assert not any("test" in record for record in plain.history)


def test_training_set_by_epoch_without_validation(quick, without_validation):
    run = quick(None, "2ep", data=without_validation, evaluate_train=True, evaluate_every=1)
    assert all("train_set" in record for record in run.history)
    plain = quick(None, "2ep", data=without_validation, evaluate_every=1)
    assert not any({"train_set", "test", "val"} & set(record) for record in plain.history)


def test_default_is_no_part_of_what_a_run_is(quick, data, tmp_path):
    quick(None, out=tmp_path / "plain")
    assert "evaluate_test" not in (tmp_path / "plain/config.yaml").read_text()
    quick(None, out=tmp_path / "watched", evaluate_test="curve")
    assert "evaluate_test: curve" in (tmp_path / "watched/config.yaml").read_text()


def test_no_test_data_is_said(quick, arrays):
    data = lp.data.load(arrays(16, 0), test_fraction=0, val_fraction=0.2, augment="none")
    assert data.test is None
    with pytest.raises(ConfigError, match="evaluate_test=curve"):
        quick(None, data=data, evaluate_test="curve")
