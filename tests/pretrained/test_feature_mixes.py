"""Which mixes are done on kept features, and which need the pictures at every step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import lessonplan as lp
from lessonplan.train.run_folder import read_metrics


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setenv("LESSONPLAN_CACHE", str(tmp_path / "cache"))
    data = lp.data.load("digits", per_class=4, augment="none")

    def train(plan: lp.Plan | str) -> tuple[Any, str]:
        run = lp.fit("tiny", data, plan, "6 steps", threads=1, tune="head", batch_size=20, out=tmp_path / "run")
        return run, capsys.readouterr().err

    return train


MIXES = ["mixup", "sum:k=12", "cascade:k=4,patience=none", "gradual:k=4", "sample-pairing", "mixup:until=50%"]


@pytest.mark.parametrize("plan", [*MIXES, "manifold:layers=input", "select:accuracy", "none"])
def test_vectors_can_be_mixed(trained: Any, plan: str) -> None:
    run, said = trained(plan)
    assert run.result["at"] == "features"
    assert "not cached" not in said
    assert len(read_metrics(run.folder)) >= 1


@pytest.mark.parametrize("plan", ["cutmix", "cutout", "mixup|cutmix", "mixup >> cutout", "manifold", "puzzle"])
def test_pictures_are_mixed_at_every_step(trained: Any, plan: str) -> None:
    run, said = trained(plan)
    assert "at" not in run.result
    assert "features are not cached" in said
    assert "pixels" in said


def test_what_is_mixed_are_features(trained: Any) -> None:
    seen: list[torch.Tensor] = []

    class Spy(lp.mix.SumAugment):
        def _mix(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            seen.append(x[x.any(1)])  # rehearsals are of zeros
            return super()._mix(x, y)

    run, _ = trained(lp.Plan(mix=Spy(k=2)))
    data = lp.data.load("digits", per_class=4, augment="none")
    found: list[torch.Tensor] = []
    head = [m for m in run.model.modules() if isinstance(m, torch.nn.Linear)][-1]
    head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    with torch.no_grad():
        run.model.eval()(data.train.fetch(torch.arange(len(data.train)))[0])
    features = torch.cat(seen)
    assert len(features) == 6 * 20
    distances = torch.cdist(features, found[0])  # every row is the features of a training picture
    assert distances.min(1).values.max() < 0.02 * distances.max()
