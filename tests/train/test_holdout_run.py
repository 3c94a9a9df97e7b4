"""RHO-LOSS and a curriculum, with a holdout run and a teacher that are named in the text of a plan."""

import shutil

import numpy as np
import pytest
import torch

import lessonplan as lp
from lessonplan.errors import ConfigError, LessonplanError
from lessonplan.plan import Plan
from lessonplan.train.callbacks import Callback
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
    led = Plan.parse(f"order:teacher:{tmp_path / 'holdout'},k=2")
    give_holdouts(led, data)
    assert led.order.state_dict()["losses"].numpy() == pytest.approx(expected, abs=1e-6)
    run = lp.fit("fcnet-16", data, f"order:teacher:{tmp_path / 'holdout'},k=2", budget="1ep", batch_size=20)
    assert run.history[-1]["order"]["on"]
    assert run.history[-1]["cost"] == 3 * len(data.train)  # the teacher's losses cost the student nothing


def test_a_run_of_other_classes_is_refused(tmp_path):
    x, y = np.random.default_rng(0).random((40, 1, 8, 8), dtype=np.float32), np.arange(40) % 2
    lp.fit("fcnet-8", lp.data.load((x, y)), budget="1ep", out=tmp_path / "two")
    with pytest.raises(ConfigError, match="knows the classes 0, 1, and the data have 0, 1, 2"):
        lp.fit("fcnet-8", digits(0), f"select:rho-loss:holdout={tmp_path / 'two'}", budget="1ep")
    with pytest.raises(ConfigError, match=r"the teacher.s run .* knows the classes 0, 1, and the data have"):
        lp.fit("fcnet-8", digits(0), f"order:teacher:{tmp_path / 'two'}", budget="1ep")


class Stop(Callback):
    """Ctrl-C behind the second epoch."""

    def on_epoch_end(self, trainer):
        if trainer.counters.epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("text", ["select:rho-loss:0.5,holdout=RUN", "order:teacher:RUN,k=2"])
def test_a_run_that_was_begun_goes_on_where_the_named_run_is_gone(tmp_path, text):
    other = tmp_path / "other"
    lp.fit("fcnet-8", digits(1), budget="2ep", out=other, seed=1)
    asked = {"plan": text.replace("RUN", str(other)), "budget": "30 steps", "batch_size": 20, "threads": 1}
    whole = lp.fit("fcnet-8", digits(0), **asked)
    with pytest.raises(KeyboardInterrupt):
        lp.fit("fcnet-8", digits(0), **asked, out=tmp_path / "run", callbacks=[Stop()])
    shutil.rmtree(other)
    run = lp.fit("fcnet-8", digits(0), **asked, out=tmp_path / "run")
    for ours, theirs in zip(run.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(LessonplanError, match="other"):  # a new one needs it
        lp.fit("fcnet-8", digits(0), **asked, out=tmp_path / "new")
