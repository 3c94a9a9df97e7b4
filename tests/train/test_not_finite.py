from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lessonplan.train import NotFinite


class LossThatBreaks:
    """Cross-entropy until an update's number; then what ``broken`` makes of the logits."""

    def __init__(self, at: int, broken) -> None:
        self.at, self.broken, self.calls = at, broken, 0

    def __call__(self, logits, target):
        self.calls += 1
        if self.calls > self.at:
            return self.broken(logits)
        return F.cross_entropy(logits, target, reduction="none")


def _steps(run: Path) -> list[int]:
    return sorted(int(f.stem.removeprefix("step-")) for f in (run / "checkpoints").glob("step-*.ckpt"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_stops_with_step_checkpoint_and_cause(quick, tmp_path, value: float) -> None:
    loss = LossThatBreaks(7, lambda logits: logits.sum(1) * value)
    with pytest.raises(NotFinite) as caught:
        quick(loss=loss, out=tmp_path, checkpoint_every="3 steps", lr=0.125, schedule="constant")
    message = str(caught.value)
    assert "NaN or infinite at step 7 (epoch 1)" in message
    assert "last good checkpoint is step-0000000006.ckpt" in message
    assert "lr=0.125" in message
    assert "\n" not in message
    assert _steps(tmp_path) == [3, 6]


def test_without_a_folder_it_says_so(quick) -> None:
    with pytest.raises(NotFinite, match=r"at step 0 .*no checkpoint was kept"):
        quick(loss=LossThatBreaks(0, lambda logits: logits.sum(1) * float("nan")))


def test_fp16_is_named_as_a_cause(quick) -> None:
    with pytest.raises(NotFinite, match="try bf16"):
        quick(loss=LossThatBreaks(0, lambda logits: logits.sum(1) * float("nan")), precision="fp16")


def test_broken_weights_behind_a_finite_loss_are_never_saved(quick, tmp_path) -> None:
    """sqrt(0) is 0, its gradient infinite: the loss of update 5 is finite, its weights are not."""
    loss = LossThatBreaks(4, lambda logits: (logits * 0).square().sum(1).sqrt())
    with pytest.raises(NotFinite, match=r"step-0000000004\.ckpt"):
        quick(loss=loss, out=tmp_path, checkpoint_every="1 steps", clip=None)
    assert _steps(tmp_path) == [3, 4]


def test_broken_weights_at_the_last_update_are_no_result(quick, tmp_path) -> None:
    loss = LossThatBreaks(4, lambda logits: (logits * 0).square().sum(1).sqrt())
    with pytest.raises(NotFinite):
        quick(None, "5 steps", loss=loss, out=tmp_path, checkpoint_every="1 steps", evaluate_every=100)
    assert not (tmp_path / "result.json").exists()


def test_a_learning_rate_that_is_too_high(quick) -> None:
    with pytest.raises(NotFinite, match=r"too high \(lr=1e\+10\)"):
        quick(None, "100 steps", lr=1e10, schedule="constant")


def test_weights_that_are_nan_from_the_start(quick, make_network, tmp_path) -> None:
    network = make_network(0)
    with torch.no_grad():
        network[1].weight.fill_(float("nan"))
    with pytest.raises(NotFinite):
        quick(model=network, out=tmp_path)
    assert not list(tmp_path.glob("checkpoints/*"))
