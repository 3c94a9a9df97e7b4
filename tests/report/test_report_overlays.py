"""Methods laid over each other: each curve's end by hand, against every axis of the page's switch."""

from __future__ import annotations

import html
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from lessonplan.report import write_comparison, write_run
from lessonplan.report.axes import COST
from lessonplan.report.choices import choice_tables, top_tenth_at_random
from lessonplan.report.overlays import groups
from lessonplan.report.reading import Run
from lessonplan.report.terminal import print_table
from lessonplan.report.watched import SENTENCE

SEEDS = 2


def _change(folder: Path, change: Any) -> None:
    path = folder / "metrics.jsonl"
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    for place, line in enumerate(lines):
        change(line, place)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _watch(line: dict[str, Any], place: int, seed: int) -> None:
    """Test data and training set by epoch, without a validation part; two epochs a batch."""
    line["test"] = {
        "accuracy": 0.5 + 0.1 * seed, "loss": 1.0 + seed, "loss_q90": 2.0, "loss_worst": 6.0,
        "confidence_q10": 0.25, "confidence_q50": 0.5, "confidence_q90": 0.75,
        "margin_q10": 0.1, "margin_q50": 0.2, "margin_q90": 0.3,
    }  # fmt: skip
    line["train_set"] = {"accuracy": 1.0, "loss": 0.5, "loss_q90": 1.0, "loss_worst": 4.0}
    line["step"] = 5 * (place + 1)
    line["select"] = {
        "candidates": 100, "accepted": 20, "raw_batches": 5, "updates": place % 2, "overflow": 8 * (place % 2),
        "choices": {"never": 0.4, "top_tenth": 0.3, "gini": 0.6},
    }  # fmt: skip


@pytest.fixture(scope="module")
def watched(tmp_path_factory, synthetic) -> tuple[Path, dict[str, Any], str]:
    root = tmp_path_factory.mktemp("watched")
    results = synthetic.write_comparison_folder(
        root, skills={"erm": 0.8, "filter": 0.85}, seeds=SEEDS, val=False, extras=False
    )
    chosen = results["methods"][1]
    for run in chosen["runs"]:
        _change(root / run["folder"], lambda line, place, seed=run["seed"]: _watch(line, place, seed))
        run["choices"] = {
            "never": 0.4, "top_tenth": 0.3, "gini": 0.6, "samples": 100, "choices": 100 + 100 * run["seed"],
            "by_class": {"a": 1.0 + run["seed"], "<b>": None},
        }  # fmt: skip
    results["watched_test"] = ["filter"]
    (root / "results.json").write_text(json.dumps(results))
    return root, results, write_comparison(root).read_text()


def _ends(text: str, ylabel: str, axis: str) -> list[dict[str, float]]:
    found = []
    for label in map(html.unescape, re.findall(r'aria-label="([^"]*)"', text)):
        if label.startswith(f"Curves of {ylabel} against {axis}"):
            said = label.split("At the end: ")[1].rstrip(".").replace(" and ", ", ").split(", ")
            found.append({name: float(value) for name, value in (item.rsplit(" ", 1) for item in said)})
    return found


@pytest.mark.parametrize("axis", ["cost", "epochs", "updates"])
def test_the_panels_of_the_source_against_every_axis(watched, axis):
    _, _, text = watched
    assert _ends(text, "test accuracy (%)", axis) == [{"filter": 55.0}]
    assert _ends(text, "test loss", axis) == [{"filter": value} for value in (1.5, 2.0, 6.0)]
    assert _ends(text, "training set accuracy (%)", axis) == [{"filter": 100.0}]
    assert _ends(text, "training set loss", axis) == [{"filter": value} for value in (0.5, 1.0, 4.0)]
    ratios = [end["filter"] for end in _ends(text, "test / training", axis)]
    assert ratios == pytest.approx([0.55, 3.0, 2.0, 1.5])  # the means over seeds of each seed's ratio
    assert set(_ends(text, "seconds", axis)[0]) == {"erm", "filter"}
    assert _ends(text, "kept (%)", axis) == [{"filter": 20.0}]
    assert _ends(text, "raw batches", axis) == [{"filter": 10.0}]  # an epoch without an update and one with one
    assert _ends(text, "samples", axis) == [{"filter": 8.0}]
    assert _ends(text, "of all choices so far (%)", axis) == [{"filter": 30.0}]
    assert _ends(text, "of the training samples (%)", axis) == [{"filter": 40.0}]
    assert _ends(text, "Gini coefficient", axis) == [{"filter": 0.6}]
    assert _ends(text, "confidence", axis) == [{"filter": value} for value in (0.25, 0.5, 0.75)]
    assert _ends(text, "margin", axis) == [{"filter": value} for value in (0.1, 0.2, 0.3)]


def test_one_switch_for_all_figures(watched):
    """Every axis has as many figures as the others; the first is shown, the style sheet shows what is checked."""
    _, _, text = watched
    names = re.findall(r'<input type="radio" name="axis" id="axis-(\w+)"', text)
    assert names[:3] == ["cost", "epochs", "updates"]
    counts = [len(re.findall(f'id="curve-[a-z0-9-]+-{name}-figure_1"', text)) for name in names]
    assert len(set(counts[:3])) == 1
    assert counts[0] > 20
    assert text.count(" checked>") == 1
    for name in names:
        assert f"#axis-{name}:checked ~ .against-{name} {{ display: block; }}" in text
        assert f'<label for="axis-{name}">' in text


def test_rates_count_epochs_without_an_update_towards_the_next(tmp_path):
    """Raw batches per update over any stretch that ends with an update are those of its sums."""
    rng = np.random.default_rng(0)
    raw, updates = rng.integers(1, 9, 40).tolist(), rng.integers(0, 3, 40).tolist()
    lines = [
        {"cost": i, "select": {"raw_batches": r, "updates": u, "candidates": 1, "accepted": 1}}
        for i, (r, u) in enumerate(zip(raw, updates, strict=True))
    ]
    run = Run(tmp_path, epochs=lines)
    (group,) = (group for group in groups({"m": [run]}) if group.title == "Selection")
    points = next(o for o in group.overlays if o.name == "raw-batches").points
    x, y = points(run, COST)
    assert x.tolist() == [i for i, u in enumerate(updates) if u]
    last = int(x[-1]) + 1
    assert sum(y * [updates[int(i)] for i in x]) == pytest.approx(sum(raw[:last]))


def test_watching_test_data_is_said_everywhere(watched, tmp_path, synthetic):
    root, results, text = watched
    assert f"{SENTENCE} Of: filter." in html.unescape(text)
    assert "Test images are read once" not in text
    page = write_run(root / results["methods"][1]["runs"][0]["folder"]).read_text()
    assert SENTENCE in html.unescape(page)
    assert "Training set and test set" in page
    out = io.StringIO()
    print_table(
        {**results, "methods": [{"samples": 1, **method} for method in results["methods"]]},
        Console(file=out, width=400),
    )
    assert SENTENCE in out.getvalue()
    synthetic.write_comparison_folder(tmp_path / "plain", skills={"erm": 0.8}, seeds=1, extras=False)
    plain = html.unescape(write_comparison(tmp_path / "plain").read_text())
    assert "evaluate_test" not in plain
    assert "Test images are read once" in plain


def test_choices_in_tables(watched):
    _, results, text = watched
    first, second = choice_tables(results["methods"])
    (row,) = first["rows"]
    assert row[:3] == ["filter", "1.50", "30.0"]
    at_random = [top_tenth_at_random(100, choices, 20) for choices in (100, 200)]
    assert row[3] == f"{100 * sum(at_random) / 2:.1f}"
    assert row[4:] == ["40.0", "0.600"]
    assert second["rows"] == [["a", "1.50"]]
    assert "What selection chose" in text
    assert choice_tables([{"name": "erm", "runs": [{"seed": 0}]}]) == []


@pytest.mark.parametrize(("choices", "epochs"), [(3000, 10), (900, 1.2), (40_000, 2.0)])
def test_top_tenth_at_random_beside_draws(choices, epochs):
    """Beside draws: each epoch a random subset, or where there are more choices than that any samples."""
    rng = np.random.default_rng(1)
    n, rounds, found = 1000, int(np.ceil(epochs)), []
    for _ in range(60):
        if choices > n * rounds:
            counts = rng.multinomial(choices, [1 / n] * n)
        else:
            parts = np.bincount(rng.integers(0, rounds, choices), minlength=rounds).clip(max=n)
            counts = sum(np.isin(np.arange(n), rng.permutation(n)[:k]).astype(int) for k in parts)
        found.append(np.sort(counts)[-n // 10 :].sum() / counts.sum())
    assert top_tenth_at_random(n, choices, epochs) == pytest.approx(np.mean(found), rel=0.02)
    assert top_tenth_at_random(n, 0, 3.0) is None


def test_heads_that_are_solved_beside_heads_that_are_trained(tmp_path: Path, synthetic) -> None:
    """The former tell how sure they are of what they were fitted to, and no part is held out: no page came."""
    results = synthetic.write_comparison_folder(
        tmp_path, skills={"erm": 0.8, "logreg": 0.85}, seeds=SEEDS, val=False, extras=False
    )
    for run in results["methods"][1]["runs"]:
        _change(
            tmp_path / run["folder"],
            lambda line, place: line["train"].update(confidence_q50=0.5, margin_q10=0.1, margin_q50=0.2),
        )
    assert "Beliefs" not in write_comparison(tmp_path).read_text()
