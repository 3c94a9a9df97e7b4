"""What calls that hand options on to ``load`` say of those that it does not take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lessonplan as lp
from lessonplan.errors import ConfigError

CALLS: dict[str, Callable[..., Any]] = {
    "compare": lambda out, **options: lp.compare("none", out=out, seeds=2, budget="1 steps", **options),
    "tune": lambda out, **options: lp.tune("none", out=out, trials=1, budget="1 steps", **options),
    "advise": lambda out, **options: lp.advise("digits", out=out, budget="100 cost", **options),
    "check_data": lambda out, **options: lp.check_data("digits", **options),
}


@pytest.mark.parametrize("by", CALLS)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer": torch.optim.SGD}, r"{by} takes no optimizer=.*settings=\{{\.\.\.\}}.*lp\.fit"),
        ({"callbacks": []}, r"{by} takes no callbacks=.*lp\.fit"),
        ({"lr": 0.1}, r"lr is a setting of training: give {by} settings=\{{'lr': \.\.\.\}}"),
        ({"per_clas": 5}, "unknown option of {by} 'per_clas': did you mean 'per_class'"),
        ({"modell": "tiny"}, "unknown option of {by} 'modell': did you mean 'model'"),
    ],
)
def test_options_that_data_do_not_have(tmp_path: Path, by: str, options: dict[str, Any], said: str) -> None:
    if by == "check_data" and not {"per_clas", "modell"} & set(options):  # it trains nothing
        said = "unknown option of check_data"
    with pytest.raises(ConfigError, match=said.format(by=by)):
        CALLS[by](tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
