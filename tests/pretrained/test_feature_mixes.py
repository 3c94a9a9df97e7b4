"""Which mixes are done on kept features, and which need the pictures at every step."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import lessonplan as lp
from lessonplan.lab.results import Results
from lessonplan.progress import silence
from lessonplan.report import write_run
from lessonplan.report.at_features import MIXED
from lessonplan.report.terminal import print_table
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


def test_it_is_said_once_of_runs_that_follow_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LESSONPLAN_CACHE", str(tmp_path / "cache"))

    def said(seeds: int, out: str) -> str:
        methods = ["cutmix", "cutout"]
        settings = {"tune": "head", "threads": 1}
        lp.compare(methods, "digits", model="tiny", per_class=4, augment="none", seeds=seeds, budget="2 steps",
                   settings=settings, jobs=1, out=tmp_path / out)  # fmt: skip
        return capsys.readouterr().err

    shown = said(2, "a")
    assert (shown.count("not cached: cutmix"), shown.count("not cached: cutout")) == (1, 1)
    assert said(1, "b").count("not cached: cutmix") == 1
    with silence():
        assert "not cached" not in said(1, "c")


def test_other_batches_where_features_are_kept_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """480 samples: the automatic batch is a twelfth of them on features, and at most 32 pictures."""
    monkeypatch.setenv("LESSONPLAN_CACHE", str(tmp_path / "cache"))
    weights = tmp_path / "weights.pt"
    torch.save(lp.models.build_model("tiny", shape=(1, 8, 8), num_classes=10, seed=1).state_dict(), weights)

    said = "Batches differ: 32 samples for cutmix; 40 samples for plain. Give batch_size for equal ones."

    def compared(out: str, **settings: Any) -> tuple[list[set[int | None]], list[bool]]:
        chosen = {"tune": "head", "weights": str(weights), "threads": 1, **settings}
        found = lp.compare(["plain=none", "cutmix", "ncm"], "digits", per_class=48, val_fraction=0, augment="none",
                           seeds=1, budget="2 steps", settings=chosen, jobs=1, out=tmp_path / out)  # fmt: skip
        sizes = [{run.get("batch_size") for run in method["runs"]} for method in found["methods"]]
        told = io.StringIO()
        print_table(found, Console(file=told, width=200))
        return sizes, [said in told.getvalue(), said in (tmp_path / out / "index.html").read_text()]

    assert compared("auto") == ([{40}, {32}, {None}], [True, True])
    assert compared("equal", batch_size=32) == ([{32}, {32}, {None}], [False, False])


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


@pytest.mark.parametrize(("plan", "mixed"), [("sum:k=2", True), ("none", False), ("cutmix", False)])
def test_a_runs_page_says_what_was_mixed(trained: Any, plan: str, mixed: bool) -> None:
    run, _ = trained(plan)
    page = write_run(run.folder).read_text()
    assert (MIXED in page) == mixed
    assert ("The head alone was trained" in page) == (plan != "cutmix")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    out = tmp_path_factory.mktemp("compared")
    settings = {"tune": "head", "batch_size": 20, "feature_cache": str(out / "cache")}
    given = {"data": "digits", "per_class": 4, "augment": "none", "model": "tiny", "settings": settings}
    methods = {"plain": "none", "sum": "sum:k=2", "gradual": "gradual:k=4", "pixels": "cutmix"}
    return out / "c", lp.compare(methods, out=out / "c", budget="6 steps", seeds=1, jobs=1, **given)


@pytest.mark.slow
def test_a_comparison_says_which_methods_mixed_features(compared: tuple[Path, Results]) -> None:
    """On its page, in the terminal and in a notebook; cutmix mixes pictures at every step."""
    folder, results = compared
    mixing = {"sum", "gradual"}
    assert {method["name"] for method in results["methods"] if method.get("mixes") == "features"} == mixing
    assert {method["name"] for method in results["methods"] if MIXED in method["finding"]} == mixing
    at = {method["name"]: [run.get("at") for run in method["runs"]] for method in results["methods"]}
    assert at == {"plain": ["features"], "sum": ["features"], "gradual": ["features"], "pixels": [None]}

    page = (folder / "index.html").read_text()
    rows = re.findall(r'<th scope="row" data-value="(\w+)">[^\n]*<small>mixes features, not pixels</small>', page)
    assert set(rows) == mixing
    findings = re.findall(r"<li>.*?(\w+) reaches[^\n]*" + re.escape(MIXED), page)
    assert set(findings) == mixing
    assert "sum, gradual mixed features that a frozen network made of images" in page

    written = io.StringIO()
    print_table(results, Console(file=written, width=200))
    assert set(re.findall(r"(\w+), of features", written.getvalue())) == mixing
    assert " ".join(written.getvalue().split()).count(MIXED) == 2
    assert set(re.findall(r"(\w+), of features", results._repr_html_())) == mixing
