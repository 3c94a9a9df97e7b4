"""The examples of timm's loader and of torchvision with torchmetrics, with the real packages."""

from __future__ import annotations

import pytest
from tests.integrations.examples import example
from tests.oracles import oracle


@pytest.fixture(autouse=True)
def torchvision_here() -> None:
    """Beside a CPU build of torch it is imported only once its operators are told."""
    oracle("timm")


def test_timms_loader_trains_on_ours(capsys: pytest.CaptureFixture[str]) -> None:
    accuracy = example("timm_loader").main(epochs=5, mixup_off_epoch=3)
    said = capsys.readouterr().out
    assert [("mixed True" in line, "mixed False" in line) for line in said.splitlines()] == [
        *[(True, False)] * 3,
        *[(False, True)] * 2,
    ]
    assert accuracy > 0.7  # chance is .1


def test_torchvisions_folders_and_transforms(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torchmetrics")
    alone, fitted = example("torchvision_v2").main(epochs=4)
    assert alone > 0.6  # chance is 1/3
    assert fitted > 0.6
    assert capsys.readouterr().out.count("named") == 4
