"""A comparison in the real tools: runs that several processes write at a time, pictures, the final table."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.packages.tools import seen_in

import lessonplan as lp

FINISHED = {"tensorboard": "finished", "wandb": "0", "mlflow": "FINISHED"}


@pytest.mark.packages("tensorboard", "wandb", "mlflow")
def test_every_tool_has_the_comparison_and_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh store of MLflow's, which two processes that made its tables at a time would break."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(None)
    monkeypatch.chdir(tmp_path)
    given = {"data": "digits", "out": tmp_path / "cloth", "model": "fcnet-8", "budget": "2ep", "per_class": 4}
    log = "tensorboard,wandb:project=weaves,group=first,mlflow:experiment=weaves"
    methods = "erm,sum:k=2,pairing=permute"  # a name that MLflow does not take
    results = lp.compare(methods, seeds=2, jobs=2, log=log, **given)
    assert results["failures"] == []
    for name in FINISHED:
        seen = seen_in(name, tmp_path / "cloth")
        assert [(row[0], row[1]) for row in seen.tables["comparison"]] == [
            ("erm", "2"),
            ("sum:k=2,pairing=permute", "2"),
        ]
        for row, method in zip(seen.tables["comparison"], results["methods"], strict=True):
            assert float(row[2]) == pytest.approx(100 * method["mean"], abs=0.006)
        assert seen.numbers["erm/mean"] == [(4, results["methods"][0]["mean"])]
        assert len(seen.pictures) == 2
        assert all(picture.startswith("mixed samples/") for picture in seen.pictures)
        assert seen.config["data"] == "digits"
        assert seen.ending == FINISHED[name]
        runs = sorted((tmp_path / "cloth" / "runs").iterdir())
        assert len(runs) == 4
        for run in runs:
            record = seen_in(name, run)
            assert record.ending == FINISHED[name]
            assert len(record.numbers["train/loss"]) == 2
            if name == "wandb":
                assert record.place == ("weaves", "first")
            if name == "mlflow":
                assert record.place == ("weaves",)
    # more seeds: the same record has what the larger comparison says, behind what it said before
    larger = lp.compare(methods, seeds=3, jobs=1, log=log, **given)
    for name in FINISHED:
        means = [m["methods"][0]["mean"] for m in (results, larger)]
        assert seen_in(name, tmp_path / "cloth").numbers["erm/mean"] == list(zip((4, 6), means, strict=True))
