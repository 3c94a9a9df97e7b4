"""What selection and ordering did, on the pages of runs and comparisons and in the terminal."""

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
from lessonplan.report.axes import PASSES, SECONDS, UPDATES
from lessonplan.report.comparison_curves import differs_from_cost
from lessonplan.report.reading import read_run
from lessonplan.report.run_selection import MOST_POINTS, epoch_groups
from lessonplan.report.terminal import print_table
from lessonplan.report.train_test import cells

MINUS = "\N{MINUS SIGN}"


def change_lines(folder: Path, change) -> None:
    """Let ``change(line, place)`` alter the lines of a run's metrics."""
    path = folder / "metrics.jsonl"
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    for place, line in enumerate(lines):
        change(line, place)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def select(line: dict[str, Any], place: int, **counts: Any) -> None:
    """Every second epoch has no update; what is accepted then is carried on."""
    updates = 2 * (place % 2)
    line["train"] = line["train"] if updates else None
    line["forwarded"], line["backpropagated"] = 1000 * (place + 1), 200 * ((place + 1) // 2)
    line["select"] = {
        "raw_batches": 5, "candidates": 1000, "accepted": 100, "updates": updates, "scored": 800, "reused": 0,
        "discarded": 0, "carried": 100 * (1 - place % 2), "trained": 200 * (place % 2), "oldest": place % 2,
        "acceptance": 0.1, "raw_batches_per_update": 5 / updates if updates else None,
        "mean_age": 0.5 if updates else None, **counts,
    }  # fmt: skip
    line["train_set"] = {**line["val"], "accuracy": 0.8, "loss": 0.5, "loss_q90": 1.0, "loss_worst": 4.0}
    line["val"] |= {"accuracy": 0.6, "loss": 1.0, "loss_q90": 1.5, "loss_worst": 3.0}


def titles(text: str, section: str) -> list[str]:
    start = text.find(f'<section id="{section}">')
    return [] if start < 0 else re.findall(r"<h3>([^<]+)</h3>", text[start : text.index("</section>", start)])


def ends(text: str, ylabel: str) -> list[dict[str, float]]:
    """Of the figures with this axis the last value of each curve, as the label for screen readers says them."""
    labels = [html.unescape(label) for label in re.findall(r'aria-label="([^"]*)"', text)]
    found = []
    for label in labels:
        if label.startswith(f"Curves of {ylabel} against"):
            said = label.split("At the end: ")[1].rstrip(".").replace(" and ", ", ").split(", ")
            pairs = (item.rsplit(" ", 1) for item in said)
            found.append({name: as_number(value) for name, value in pairs})
    return found


def as_number(text: str) -> float:
    return float(text.replace(MINUS, "-").replace("k", "e3"))


@pytest.fixture(scope="module")
def selected(tmp_path_factory, synthetic) -> tuple[Path, str]:
    """A run with a selection, and its page."""
    folder = tmp_path_factory.mktemp("selected") / "run"
    synthetic.write_run_folder(folder)
    change_lines(folder, select)
    return folder, write_run(folder).read_text()


def test_nine_panels_of_both_sets_with_their_ratios(selected):
    _, text = selected
    assert titles(text, "sets") == [
        "Accuracy", "Accuracy: ratio", "Wall clock",
        "Mean loss", "90% quantile of the loss", "Worst loss",
        "Mean loss: ratio", "90% quantile of the loss: ratio", "Worst loss: ratio",
    ]  # fmt: skip
    assert ends(text, "validation / training") == [
        {"validation / training": value} for value in (0.75, 2.0, 1.5, 0.75)
    ]
    assert {"training set": 80.0, "validation set": 60.0} in ends(text, "accuracy (%)")
    assert {"training set": 4.0, "validation set": 3.0} in ends(text, "loss")
    assert ends(text, "seconds") == [{"training": 8.0}]  # 20 epochs of .4 s


def test_what_a_selection_did(selected):
    _, text = selected
    assert titles(text, "selection") == [
        "Acceptance", "Raw batches per update", "Updates", "Left over", "Age", "Samples through the network",
    ]  # fmt: skip
    assert ends(text, "kept (%)") == [{"kept": 10.0}]
    assert ends(text, "raw batches") == [{"raw batches": 2.5}]
    assert {"carried": 0.0, "discarded": 0.0} in ends(text, "samples")
    assert {"oldest": 1.0, "mean": 0.5} in ends(text, "updates")
    assert {"forward": 1000.0, "backward": 200.0} in ends(text, "samples")
    said = "Of 20,000 candidates 2,000 were kept (10.0%), in 20 updates. 16,000 forward passes only gave scores."
    assert said in text


def test_many_epochs_are_drawn_in_groups_by_their_sums(tmp_path, synthetic):
    folder = tmp_path / "run"
    synthetic.write_run_folder(folder, epochs=MOST_POINTS + 2, finished=False)
    rng = np.random.default_rng(0)
    batches = rng.integers(5, 40, MOST_POINTS + 2)
    change_lines(folder, lambda line, place: select(line, place, raw_batches=int(batches[place])))
    groups = epoch_groups(read_run(folder))
    assert [len(group) for group in groups] == [2] * (MOST_POINTS // 2 + 1)
    text = write_run(folder).read_text()
    assert ends(text, "raw batches") == [{"raw batches": (batches[-2] + batches[-1]) / 2}]  # 0 and 2 updates
    assert {"updates": 1.0} in ends(text, "updates")
    assert {"forward": 1000.0, "backward": 100.0} in ends(text, "samples")
    assert {"carried": 50.0, "discarded": 0.0} in ends(text, "samples")
    assert "Each point below stands for 2 epochs." in text


def test_epochwise_selection_has_no_raw_batches_or_overflow(tmp_path, synthetic):
    folder = tmp_path / "run"
    synthetic.write_run_folder(folder, epochs=20, finished=False)
    none = {"raw_batches": 1, "updates": 7, "carried": 0, "oldest": 0, "mean_age": 0.0}
    change_lines(folder, lambda line, place: select(line, place, **none))
    shown = titles(write_run(folder).read_text(), "selection")
    assert shown == ["Acceptance", "Updates", "Samples through the network"]


def test_an_epoch_without_updates_leaves_a_gap_in_training_values(selected):
    folder, text = selected
    run = read_run(folder)
    assert len(run.curve("train", "loss")[0]) == 10
    assert len(run.curve("val", "loss")[0]) == 20
    assert "None" not in re.sub(r"<(style|script).*?</\1>", "", text, flags=re.DOTALL)


def test_nothing_was_ever_trained(tmp_path, synthetic):
    folder = tmp_path / "run"
    synthetic.write_run_folder(folder, epochs=2, val=False, finished=False)

    def starve(line, place):
        line |= {"train": None, "forwarded": 0, "backpropagated": 0}
        line["select"] = {"candidates": 0, "accepted": 0, "updates": 0, "acceptance": None}

    change_lines(folder, starve)
    text = write_run(folder).read_text()
    assert titles(text, "selection") == []
    assert "Training set and validation set" not in text


def test_what_ordering_gained(tmp_path, synthetic):
    folder = tmp_path / "run"
    synthetic.write_run_folder(folder, epochs=20, finished=False)

    def order(line, place):
        line["order"] = {"on": place < 5}
        if place < 5:
            line["order"] |= {
                "looks": 10, "gain": 0.02 * place, "mean_gain": 0.01 * place, "measured": 2,
                "rank_correlation": 0.7, "share_of_gain": 0.6, "temperature": 3.0,
            }  # fmt: skip

    change_lines(folder, order)
    text = write_run(folder).read_text()
    assert titles(text, "order") == ["Gain", "Fidelity", "Temperature"]
    assert ends(text, "drop of the loss") == [{"chosen": 0.08, "mean candidate": 0.04}]
    assert ends(text, "agreement") == [{"share of gain": 0.6, "rank correlation": 0.7}]
    assert "Ordering was on in 5 of 20 epochs, last in epoch 5" in text
    assert "The gain was measured 50 times, cheap scores compared with exact ones 10 times." in text
    assert titles(text, "selection") == titles(text, "sets") == []


def test_ordering_that_logs_only_whether_it_is_on(tmp_path, synthetic):
    folder = tmp_path / "run"
    synthetic.write_run_folder(folder, epochs=20, finished=False)
    change_lines(folder, lambda line, place: line.update(order={"on": True}))
    text = write_run(folder).read_text()
    assert "Ordering was on in every epoch." in text
    assert titles(text, "order") == []


def test_cards_say_passes_only_where_they_differ(selected, tmp_path, synthetic):
    assert "<dt>Forward passes</dt><dd>20k</dd>" in selected[1]
    synthetic.write_run_folder(tmp_path / "plain", finished=False, epochs=2)
    change_lines(tmp_path / "plain", lambda line, _: line.update(forwarded=7, backpropagated=7))
    assert "Forward passes" not in write_run(tmp_path / "plain").read_text()


@pytest.fixture(scope="module")
def compared(tmp_path_factory, synthetic) -> tuple[Path, dict[str, Any], str]:
    """Two methods, and their page: the second was judged on its training set, with half as many updates."""
    root = tmp_path_factory.mktemp("compared")
    results = synthetic.write_comparison_folder(root, skills={"erm": 0.8, "filter": 0.85}, seeds=2, extras=False)
    for method in results["methods"]:
        method |= {"samples": 30000.0, "forwarded": 30000.0, "backpropagated": 30000.0}
        method["runs"] = [{**run, "forwarded": 30000, "backpropagated": 30000} for run in method["runs"]]
    chosen = results["methods"][1]
    chosen |= {
        "mean": 0.85, "backpropagated": 3000.0, "train_accuracy": 1.0, "train_loss": 0.25, "test_loss": 0.5,
        "train_loss_q90": 0.5, "test_loss_q90": 1.25, "train_loss_worst": 8.0, "test_loss_worst": 6.0,
    }  # fmt: skip
    for run in chosen["runs"]:
        run["backpropagated"] = 3000
        change_lines(root / run["folder"], lambda line, _: line.update(step=line["step"] // 2))
    (root / "results.json").write_text(json.dumps(results))
    return root, results, write_comparison(root).read_text()


def test_table_of_training_and_test_data(compared):
    _, _, text = compared
    section = text[text.index('<section id="train-test">') :]
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", section[: section.index("</section>")], flags=re.DOTALL)
    erm, chosen = (re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in rows)
    assert chosen == [
        "100.00", "85.00", "0.850", "0.250", "0.500", "2.000", "0.500", "1.250", "2.500", "8.000", "6.000", "0.750"
    ]  # fmt: skip
    dash = "\N{EN DASH}"
    assert erm[0] == erm[2] == erm[3] == dash


def test_no_such_table_and_no_such_columns_without_a_selection(tmp_path, synthetic):
    synthetic.write_comparison_folder(tmp_path, skills={"erm": 0.8, "sum": 0.9}, seeds=2, extras=False)
    text = write_comparison(tmp_path).read_text()
    for words in ("train-test", "Backpropagated", "backpropagated", 'id="axis-updates"'):
        assert words not in text


def test_ratio_needs_both_and_no_zero():
    assert [cell.ratio for cell in cells({"mean": 0.5, "train_accuracy": 0.0, "test_loss": 1.0})] == [
        "\N{EN DASH}"
    ] * 4


def test_axes_are_shown_where_they_tell_something_else(compared):
    root, results, text = compared
    stored = {m["name"]: [read_run(root / run["folder"]) for run in m["runs"]] for m in results["methods"]}
    assert differs_from_cost(stored, UPDATES)
    assert not differs_from_cost(stored, PASSES)
    assert not differs_from_cost(stored, SECONDS)
    assert re.findall(r'<input type="radio" name="axis" id="axis-(\w+)"( checked)?>', text) == [
        ("cost", " checked"), ("epochs", ""), ("updates", ""),
    ]  # fmt: skip
    figure = text[text.index('aria-label="Curves of validation accuracy (%) against updates') :]
    drawn = figure[: figure.index("</svg>")]
    lines = re.findall(r'<path d="(M[^"]*)"[^>]*style="fill: none; stroke: var\(--m([01])\)', drawn)
    last = {who: float(path.split()[-2]) for path, who in lines}
    first = float(lines[0][0].split()[1])
    # Drawn from 10 to 200 updates, and from 5 to 100: they begin nearly together, and one ends halfway.
    assert (last["1"] - first) / (last["0"] - first) == pytest.approx(90 / 190, abs=0.01)


def test_passes_of_both_kinds_are_listed(compared):
    _, _, text = compared
    assert "<small>30k forward</small><small>3k backward</small>" in text
    headings = re.findall(r"<th[^>]*>([^<]+)</th>", text[text.index('<section id="runs">') :])
    place = headings.index("Backpropagated")
    rows = re.findall(r"<tr>\n(.*?)</tr>", text[text.index("<tbody>", text.index('id="runs"')) :], flags=re.DOTALL)
    assert [re.findall(r"<td[^>]*>([^<]*)<", row)[place - 1] for row in rows] == ["30,000"] * 2 + ["3,000"] * 2
    assert "Bars of samples backpropagated per method: erm 30k and filter 3k." in text


def test_terminal_tables(compared):
    file = io.StringIO()
    print_table(compared[1], Console(file=file, width=140))
    lines = file.getvalue().splitlines()
    (heading,) = [line for line in lines if "minus erm" in line]
    assert "backward" in heading
    of_filter = [[part.strip() for part in line.split("│")[1:-1]] for line in lines if line.startswith("│ filter")]
    assert of_filter[0][-2] == "3k"
    assert of_filter[1] == [
        "filter", "100.00 / 85.00 (0.850)", "0.250 / 0.500 (2.000)", "0.500 / 1.250 (2.500)",
        "8.000 / 6.000 (0.750)",
    ]  # fmt: skip


def test_terminal_table_stays_as_it_was_without_a_selection(tmp_path, synthetic):
    results = synthetic.write_comparison_folder(tmp_path, seeds=2, extras=False)
    for method in results["methods"]:
        method["samples"] = 1.0
    file = io.StringIO()
    print_table(results, Console(file=file, width=140))
    assert "backward" not in file.getvalue()
    assert "train / test" not in file.getvalue()
