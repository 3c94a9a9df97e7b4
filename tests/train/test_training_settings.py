from __future__ import annotations

import pytest
import torch

from lessonplan.errors import ConfigError
from lessonplan.settings import Settings
from lessonplan.train.optimizer import build_optimizer


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0}, "setting lr=0: give a number greater than 0"),
        ({"momentum": 1.0}, "setting momentum=1.0"),
        ({"batch_size": 0}, "setting batch_size=0"),
        ({"batch_size": "half"}, "setting batch_size='half'"),
        ({"optimiser": "sgd"}, "did you mean 'optimizer'"),
        ({"optimizer": "sdg"}, "'sgd'"),
        ({"precision": "fp8"}, "'bf16'"),
        ({"ema": 1.0}, "less than 1"),
        ({"clip": 0.0}, "greater than 0"),
        ({"keep": "all"}, "'best'"),
        ({"loss": "mse"}, "'sum-bce'"),
        ({"device": "gpu9"}, "device='gpu9'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"checkpoint_every": "2ep"}, "is no interval"),
        ({"batch_size": 49}, "larger than the 48 training samples"),
    ],
)
def test_mistakes_are_named_and_leave_no_folder(quick, tmp_path, settings: dict, message: str) -> None:
    """A folder that a mistake had claimed would refuse the corrected command."""
    with pytest.raises(ConfigError, match=message):
        quick(None, "2 steps", out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()
    assert quick(None, "2 steps", out=tmp_path / "run").result["steps"] == 2


def test_k_larger_than_the_batch_is_refused_before_anything_is_written(quick, tmp_path) -> None:
    with pytest.raises(ConfigError, match="k=9 is larger than the batch of 8"):
        quick("sum:k=9", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_plateau_cascade_and_keep_best_need_validation(quick, arrays) -> None:
    import lessonplan as lp

    data = lp.data.load(arrays(10, 0), test_fraction=0.5)
    for options in ({"plan": "cascade:k=4,shares=none"}, {"keep": "best"}):
        with pytest.raises(ConfigError, match="validation split"):
            quick(data=data, **options)
    assert quick("cascade:k=4", data=data).result["steps"] == 12


@pytest.mark.parametrize(("name", "kind", "lr"), [
    ("sgd", torch.optim.SGD, 0.05), ("adam", torch.optim.Adam, 1e-3), ("adamw", torch.optim.AdamW, 1e-3)
])  # fmt: skip
def test_optimizers_by_name(name: str, kind: type, lr: float) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = build_optimizer([weight], Settings.make(optimizer=name, weight_decay=0.25))
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == lr
    assert optimizer.param_groups[0]["weight_decay"] == 0.25


def test_sgd_steps_by_hand() -> None:
    """Two Nesterov steps on f(w) = w, with momentum .5: g + .5 v, v = g then 1.5 g."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = build_optimizer([weight], Settings.make(lr=0.1, momentum=0.5, weight_decay=0))
    for expected in (1 - 0.15, 1 - 0.15 - 0.175):
        weight.grad = torch.tensor([1.0])
        optimizer.step()
        assert weight.item() == pytest.approx(expected)


def test_no_momentum_turns_nesterov_off() -> None:
    optimizer = build_optimizer([torch.nn.Parameter(torch.ones(1))], Settings.make(momentum=0))
    assert optimizer.param_groups[0]["nesterov"] is False
