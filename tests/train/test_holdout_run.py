"""RHO-LOSS with a holdout run that is named in the text of a plan."""

import numpy as np
import pytest
import torch

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.plan import Plan
from lessonplan.train.holdout import give_holdouts


def digits(seed: int) -> lp.data.Data:
    return lp.data.load("digits", per_class=20, seed=seed)


def test_the_losses_are_the_named_runs_own(tmp_path):
    lp.fit("fcnet-16", digits(1), budget="3ep", out=tmp_path / "holdout", seed=1)
    data = digits(0)
    plan = Plan.parse(f"select:rho-loss:0.25,holdout={tmp_path / 'holdout'}")
    give_holdouts(plan, data)
    probabilities = lp.load(tmp_path / "holdout").predict(data.train.raw(torch.arange(len(data.train)))).numpy()
    labels = data.train.labels.numpy()
    expected = -np.log(probabilities[np.arange(len(labels)), labels])
    (selection,) = plan.select.selections()
    assert selection.parts[0].state_dict()["holdout"].numpy() == pytest.approx(expected, abs=1e-6)
    run = lp.fit("fcnet-16", data, plan, budget="3k cost")
    assert run.history[-1]["select"]["acceptance"] == pytest.approx(0.25, abs=0.03)


def test_a_run_of_other_classes_is_refused(tmp_path):
    x, y = np.random.default_rng(0).random((40, 1, 8, 8), dtype=np.float32), np.arange(40) % 2
    lp.fit("fcnet-8", lp.data.load((x, y)), budget="1ep", out=tmp_path / "two")
    with pytest.raises(ConfigError, match="knows the classes 0, 1, and the data have 0, 1, 2"):
        lp.fit("fcnet-8", digits(0), f"select:rho-loss:holdout={tmp_path / 'two'}", budget="1ep")
