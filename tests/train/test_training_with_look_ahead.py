"""Look-ahead through ``fit``: the winner's update is kept, and costs what the card says."""

from __future__ import annotations

import pytest
import torch

import lessonplan as lp

BATCH, EXTERNAL, K = 8, 12, 3


def _plan(text: str, mix: str = "none") -> lp.Plan:
    return lp.Plan.parse(f"order:loss-delta:candidates={K},{text} + {mix}")


class Count(lp.Callback):
    """How many updates the look-ahead had made already."""

    def __init__(self) -> None:
        self.kept = 0

    def on_train_start(self, trainer) -> None:
        update, self.kept = trainer._update, 0

        def counted(batch) -> None:
            self.kept += batch.step is not None
            update(batch)

        trainer._update = counted


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("on=same", K * 4 * BATCH),
        ("on=relative", K * 4 * BATCH),
        (f"on=external,external={EXTERNAL}", K * (3 * BATCH + EXTERNAL)),
    ],
)
def test_the_winners_update_is_kept_and_not_paid_twice(quick, same_run, text, passes) -> None:
    """Four updates have a choice among three batches, then two are left, then one; 48 samples make six batches."""
    count = Count()
    kept = quick(_plan(text), "1ep", batch_size=BATCH, callbacks=[count])
    own = quick(_plan(text, "mixup:p=0"), "1ep", batch_size=BATCH)
    # The loss before is measured once; what a look does not know, it does not ask for again.
    first = EXTERNAL if "external" in text else 0
    two = passes * 2 // K
    assert kept.result["cost"] == 4 * passes + two + 3 * BATCH + first
    assert count.kept == 5
    # A mix follows, which changes nothing here: winners are trained on anew, and the loss before with them.
    looks = 5
    assert own.result["cost"] == kept.result["cost"] + looks * 3 * BATCH + (looks - 1) * first
    for ours, theirs in zip(kept.model.state_dict().values(), own.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("options", [{"ema": 0.9}, {"clip": 0.1}, {"optimizer": "adam"}, {"precision": "fp16"}])
@pytest.mark.parametrize("method", ["exact", "kept-gradients"])
def test_kept_updates_are_those_of_the_loop(quick, options, method) -> None:
    text = f"on=external,external={EXTERNAL},method={method}"
    count = Count()
    kept = quick(_plan(text), "18 steps", callbacks=[count], **options)
    own = quick(_plan(text, "mixup:p=0"), "18 steps", **options)
    assert count.kept >= (0 if method == "kept-gradients" and "precision" in options else 5)
    for ours, theirs in zip(kept.model.state_dict().values(), own.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert [r["train"] for r in kept.history] == [r["train"] for r in own.history]


def test_budgets_in_cost_buy_more_updates(quick) -> None:
    text = f"on=external,external={EXTERNAL}"
    kept, own = (quick(_plan(text, mix), "4000 cost") for mix in ("none", "mixup:p=0"))
    assert kept.result["steps"] > own.result["steps"]


def test_a_kept_update_that_breaks_the_network_is_noticed(quick) -> None:
    with pytest.raises(lp.train.trainer.NotFinite, match="step"):
        quick(_plan("on=same"), "12 steps", lr=1e30)
