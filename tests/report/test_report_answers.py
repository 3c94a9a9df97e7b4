"""What a comparison's page says of its methods' answers, beside scikit-learn's numbers of the predictions."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn import metrics

import lessonplan as lp
from lessonplan.errors import DataError, LessonplanWarning
from lessonplan.evaluate.classification import detailed_metrics
from lessonplan.report import answers, write_comparison, write_run
from lessonplan.report.zoom import zoom_levels
from lessonplan.train.judged import Judged

METHODS = ("erm", "mixup")
CLASSES = ("ant", "bee", "cow, brown", "dog")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Noise with a hint of its class in its colour; a comma in a name has to be quoted in tables."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for c, name in enumerate(CLASSES):
        (root / name).mkdir()
        for i in range(30):
            pixels = rng.integers(0, 200, (8, 8, 3))
            pixels[..., c % 3] += 20
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def compared(pictures, tmp_path_factory) -> Path:
    """Runs as training leaves them, of networks that guess, some better than others."""
    folder, methods = tmp_path_factory.mktemp("compared"), []
    for m, name in enumerate(METHODS):
        runs = []
        for seed in range(3):
            data = lp.data.load(f"folder:{pictures}", seed=seed)
            labels = data.test.labels
            generator = torch.Generator().manual_seed(10 * m + seed)
            logits = 1.5 * torch.randn((len(labels), len(CLASSES)), generator=generator)
            logits[torch.arange(len(labels)), labels] += 1 + m
            run = folder / f"runs/{name}-{seed}"
            Judged("test", data.test, logits, labels, data.class_names).write(run)
            result = {"test": detailed_metrics(logits, labels), "class_names": data.class_names}
            (run / "result.json").write_text(json.dumps(result))
            runs.append({"folder": f"runs/{name}-{seed}", "seed": seed, "status": "finished"})
        methods.append({"name": name, "runs": runs, "difference": None})
    stored = {"schema": 1, "methods": methods, "reference": "erm"}
    (folder / "results.json").write_text(json.dumps(stored))
    answers.keep_answers(folder, methods, lambda _: {})
    write_comparison(folder)
    return folder


def said(folder: Path) -> dict[str, list[list[dict[str, str]]]]:
    """Of each method, of each seed, the lines of its predictions."""
    found = {}
    for method in json.loads((folder / "results.json").read_text())["methods"]:
        texts = [(folder / run["folder"] / "predictions.csv").read_text() for run in method["runs"]]
        found[method["name"]] = [list(csv.DictReader(io.StringIO(text))) for text in texts]
    return found


def of_method(page: str, name: str) -> str:
    """The part of the page that opens below a method's name."""
    parts = page[page.index('<section id="classes">') :].split('<details class="method"')[1:]
    return next(part.partition("</details>")[0] for part in parts if f"<strong>{name}</strong>" in part)


def table(part: str, label: str) -> dict[str, list[str]]:
    """The cells of each row by its head; what stands below a number follows it."""
    part = part[part.index(f'aria-label="{label}') :]
    rows = part[part.index("<tbody>") : part.index("</tbody>")].split("</tr>")[:-1]
    found = {}
    for row in rows:
        head, *cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL)
        found[re.sub("<.*?>", "", head).strip()] = [" ".join(re.sub("<.*?>", " ", c).split()) for c in cells]
    return found


def columns(runs: Sequence[Sequence[dict[str, str]]], *names: str) -> list[list[str]]:
    """Of all seeds together."""
    return [[line[name] for run in runs for line in run] for name in names]


def signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


@pytest.mark.parametrize("name", METHODS)
def test_the_matrix_is_that_of_all_seeds(compared: Path, name: str) -> None:
    part = of_method((compared / "index.html").read_text(), name)
    counts = metrics.confusion_matrix(*columns(said(compared)[name], "true", "predicted"), labels=CLASSES)
    cells = table(part, f"Confusion matrix of {name}")
    assert list(cells) == list(CLASSES)
    for row, shown in zip(counts, cells.values(), strict=True):
        digits = [1 if n < 0.1 * row.sum() else 0 for n in row]
        shares = [f"{100 * n / row.sum():.{d}f}" for n, d in zip(row, digits, strict=True)]
        assert shown == [f"{n} {share}" if n else "" for n, share in zip(row, shares, strict=True)]
    assert f"3 seeds, {counts.sum()} answers, {counts.trace()} right" in " ".join(part.split())
    wrong = {(t, p): counts[i, j] for i, t in enumerate(CLASSES) for j, p in enumerate(CLASSES) if i != j}
    pairs = re.findall(r"<tr><th[^>]*>([^<]*)</th><td[^>]*>([^<]*)</td><td>(\d+)</td>", part)
    assert pairs[0] == (*max(wrong, key=lambda pair: (wrong[pair], 0)), str(max(wrong.values())))
    assert [int(n) for *_, n in pairs] == sorted(filter(None, wrong.values()), reverse=True)[:10]


@pytest.mark.parametrize("name", METHODS)
def test_scores_of_classes_are_means_over_seeds(compared: Path, name: str) -> None:
    runs, base = said(compared)[name], said(compared)["erm"]
    each = np.array(
        [
            metrics.precision_recall_fscore_support(
                *columns([run], "true", "predicted"), labels=CLASSES, zero_division=np.nan
            )
            for run in runs
        ]
    )  # seeds, scores, classes
    theirs = np.array([metrics.recall_score(*columns([r], "true", "predicted"), average=None) for r in base])
    found = table(of_method((compared / "index.html").read_text(), name), "Scores of each class")
    f1 = np.array([metrics.f1_score(*columns([r], "true", "predicted"), average=None) for r in runs])
    assert list(found) == [CLASSES[i] for i in f1.mean(0).argsort(kind="stable")]
    for i, label in enumerate(CLASSES):
        cells = found[label]
        for cell, values in zip(cells, (f1[:, i], each[:, 0, i], each[:, 1, i]), strict=False):
            known = values[~np.isnan(values)]
            spread = f" ± {known.std(ddof=1):.3f}" if len(known) > 1 else ""
            assert cell == f"{known.mean():.3f}{spread}"
        assert cells[-1] == f"{each[:, 3, i].mean():g}"
        if name == "erm":
            assert len(cells) == 4
            continue
        gains = 100 * (each[:, 1, i] - theirs[:, i])
        low, high = stats.t.interval(0.95, 2, gains.mean(), stats.sem(gains)) if gains.std() else gains[:2]
        assert cells[3] == f"{signed(gains.mean())} [{signed(low)}, {signed(high)}]"


@pytest.mark.parametrize("name", METHODS)
def test_balanced_numbers_and_calibration_have_intervals(compared: Path, name: str) -> None:
    runs = said(compared)[name]
    values: list[list[float]] = [[], [], []]
    for run in runs:
        true, predicted, confidence = columns([run], "true", "predicted", "confidence")
        values[0].append(metrics.balanced_accuracy_score(true, predicted))
        values[1].append(metrics.f1_score(true, predicted, average="macro"))
        sure, right = np.array(confidence, float), np.array(true) == np.array(predicted)
        place = np.minimum((sure * 15).astype(int), 14)
        gaps = [abs((right[place == b] - sure[place == b]).sum()) for b in range(15)]
        values[2].append(sum(gaps) / len(sure))
    shown = table((compared / "index.html").read_text(), "Classes per method")[name]
    for cell, of_seeds in zip(shown, values, strict=False):
        mean = np.mean(of_seeds)
        low, high = stats.t.interval(0.95, 2, mean, stats.sem(of_seeds))
        numbers = [float(n.replace("\N{MINUS SIGN}", "-")) for n in re.findall("[\N{MINUS SIGN}\\d.]+", cell)]
        assert numbers == pytest.approx([100 * mean, 100 * low, 100 * high], abs=0.011)


def test_calibration_is_of_all_answers_of_like_confidence(compared: Path) -> None:
    page = (compared / "index.html").read_text()
    label = re.search('aria-label="Accuracy in percent by confidence in percent: ([^"]*)"', page)
    assert label is not None
    shown = dict(part.split(" ", 1) for part in label[1].rstrip(".").split("; "))
    assert set(shown) == set(METHODS)
    for name, runs in said(compared).items():
        true, predicted, confidence = columns(runs, "true", "predicted", "confidence")
        sure, right = np.array(confidence, float), np.array(true) == np.array(predicted)
        place = np.minimum((sure * 15).astype(int), 14)
        bins = [b for b in range(15) if (place == b).sum() >= 10]
        points = [f"{100 * right[place == b].mean():.0f} at {100 * sure[place == b].mean():.0f}" for b in bins]
        assert re.split(", | and ", shown[name]) == points


def test_the_worst_samples_have_the_highest_mean_loss(pictures: Path, compared: Path) -> None:
    page = (compared / "index.html").read_text()
    images = dict(re.findall(r'<image id="(worst-\d+)" href="data:image/png;base64,([^"]*)"', page))
    assert len(set(images.values())) == len(images)  # none is there twice
    used = []
    for name, runs in said(compared).items():
        lines: dict[str, list[dict[str, str]]] = {}
        for line in (line for run in runs for line in run):
            lines.setdefault(line["file"], []).append(line)
        wrong = {file: sum(x["true"] != x["predicted"] for x in of) for file, of in lines.items()}
        loss = {file: np.mean([float(x["loss"]) for x in of]) for file, of in lines.items() if wrong[file]}
        worst = sorted(loss, key=loss.__getitem__, reverse=True)[: answers.WORST]
        strip = of_method(page, name).partition('<ul class="strip">')[2]
        assert re.findall("<small>([^<]*)</small>", strip) == worst
        entries = strip.split("<li>")[1:]
        for file, entry in zip(worst, entries, strict=True):
            count = "1 seed" if len(lines[file]) == 1 else f"{len(lines[file])} seeds"
            assert f"wrong in {wrong[file]} of {count}, mean loss {loss[file]:.2f}" in entry
            assert f"<strong>{Path(file).parent.name}</strong> taken for" in entry
            for other in {x["predicted"] for x in lines[file]} - {lines[file][0]["true"]}:
                assert other in entry
            place = re.search('href="#(worst-\\d+)"', entry)
            assert place is not None
            used.append(place[1])
            shown = Image.open(io.BytesIO(base64.b64decode(images[place[1]])))
            assert np.array_equal(np.asarray(shown), np.asarray(Image.open(pictures / file)))
    assert set(used) == set(images)
    assert page.count('predictions.csv" aria-label="Predictions of') == 6  # where all the others are


def test_the_page_is_the_same_without_the_runs(compared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    shutil.copytree(compared, folder)
    shutil.rmtree(folder / "runs")
    page = write_comparison(folder).read_text()
    assert of_method(page, "mixup") == of_method((compared / "index.html").read_text(), "mixup")
    (folder / answers.NAME).unlink()
    assert '<section id="classes">' not in write_comparison(folder).read_text()


def test_what_is_kept_counts_for_the_same_runs_only(compared: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "c"
    shutil.copytree(compared, folder)
    methods = json.loads((folder / "results.json").read_text())["methods"]
    read: list[Path] = []
    first = answers._predictions
    monkeypatch.setattr(answers, "_predictions", lambda file: read.append(file) or first(file))
    before = (folder / answers.NAME).read_bytes()
    answers.keep_answers(folder, methods, lambda _: {})
    assert read == []  # nothing is new
    assert (folder / answers.NAME).read_bytes() == before
    methods[1]["runs"].pop()
    found = answers.find_answers(folder, methods)
    assert [file.parent.name[:5] for file in read] == ["mixup", "mixup"]
    assert len(found["methods"]["mixup"]["runs"]) == 2
    (folder / answers.NAME).write_bytes(before[:-9])
    with pytest.raises(DataError, match="is damaged"):
        answers.find_answers(folder, methods)
    answers.keep_answers(folder, methods, lambda _: {})
    assert answers.find_answers(folder, methods) == found


def test_a_run_that_was_trained_again_is_read_again(compared: Path, tmp_path: Path) -> None:
    """Its folder has the same name; the result in it is another one."""
    folder = tmp_path / "c"
    shutil.copytree(compared, folder)
    methods = json.loads((folder / "results.json").read_text())["methods"]
    file = folder / methods[0]["runs"][0]["folder"] / "result.json"
    result = json.loads(file.read_text())
    confusion = result["test"]["confusion"]
    confusion[0] = confusion[0][::-1]
    file.write_text(json.dumps(result))
    answers.keep_answers(folder, methods, lambda _: {})
    kept = answers.find_answers(folder, methods)["methods"]["erm"]["runs"][0]
    assert kept["right"] == [row[i] for i, row in enumerate(confusion)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda method: method.pop("confusion"),
        lambda method: method["confusion"]["rows"].__setitem__(0, 99),
        lambda method: method["confusion"]["counts"].pop(),
        lambda method: method["runs"][0]["true"].pop(),
        lambda method: method["runs"][0]["right"].__setitem__(0, "many"),
        lambda method: method["worst"][0].pop("loss"),
        lambda method: method["worst"][0].update(taken_for=[["ant"]]),
        lambda method: method["runs"][0]["reliability"].pop("count"),
    ],
)
def test_what_is_kept_and_damaged_inside_is_named_and_made_again(compared: Path, tmp_path: Path, damage) -> None:
    folder = tmp_path / "c"
    shutil.copytree(compared, folder)
    methods = json.loads((folder / "results.json").read_text())["methods"]
    before = answers.find_answers(folder, methods)
    kept = json.loads(gzip.decompress((folder / answers.NAME).read_bytes()))
    damage(kept["methods"]["mixup"])
    (folder / answers.NAME).write_bytes(gzip.compress(json.dumps(kept).encode()))
    with pytest.raises(DataError, match=rf"{answers.NAME} does not hold"):
        answers.find_answers(folder, methods)
    answers.keep_answers(folder, methods, lambda _: {})
    assert answers.find_answers(folder, methods)["methods"] == before["methods"]


def test_damaged_predictions_are_left_out(compared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    shutil.copytree(compared, folder)
    (folder / answers.NAME).unlink()
    methods = json.loads((folder / "results.json").read_text())["methods"]
    broken = folder / methods[0]["runs"][0]["folder"] / "predictions.csv"
    broken.write_text(broken.read_text() + '90,"x.png,ant,bee,0.9,much\n')
    for file in (folder / "runs").glob("*/mistakes.json"):
        file.write_text('{"worst": [7]}' if file.parent.name.endswith("1") else "{")
    with pytest.warns(LessonplanWarning, match=r"predictions\.csv out of the samples"):
        found = answers.find_answers(folder, methods)
    assert max(sample["runs"] for sample in found["methods"]["erm"]["worst"]) < 3
    assert len(found["methods"]["erm"]["runs"]) == 3  # its counts stand in result.json
    assert found["pictures"] == {}


def test_samples_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "runs/a"
    folder.mkdir(parents=True)
    text = (
        "row,file,true,predicted,confidence,loss\n0,x.png,a,b,0.9,2.0\n1,x.png,a,b,0.9,3.0\n2,y.png,a,b,0.9,1.0\n"
    )
    (folder / "predictions.csv").write_text(text)
    (folder / "result.json").write_text(json.dumps({"test": {"confusion": [[0, 3], [0, 0]]}}))
    methods = [{"name": "erm", "runs": [{"folder": "runs/a", "status": "finished", "seed": 0}]}]
    worst = answers.find_answers(tmp_path, methods)["methods"]["erm"]["worst"]
    assert [(sample["name"], sample["loss"]) for sample in worst] == [
        ("x.png, row 1", 3.0), ("x.png, row 0", 2.0), ("y.png", 1.0),
    ]  # fmt: skip


# -- many classes --------------------------------------------------------------------------------------


def confused(classes: int) -> np.ndarray:
    """Mistakes of no pair in particular, and three pairs that are confused more often."""
    counts = 60 * np.eye(classes, dtype=np.int64) + np.roll(np.eye(classes, dtype=np.int64), 1, 1)
    for (true, predicted), count in {(3, 5): 30, (8, 2): 25, (1, 9): 20}.items():
        counts[true, predicted] = count
    return counts


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (12, [12]),
        (20, [20, 12, 6]),
        (24, [24, 12, 6]),
        (100, [100, 24, 12, 6]),
    ],
)
def test_levels_come_nearer_to_the_worst_pairs(classes: int, words: list[int]) -> None:
    counts, names = confused(classes), [f"c{i}" for i in range(classes)]
    levels = zoom_levels(counts, names)
    assert [len(level.names) for level in levels] == words
    assert [bool(level.picture) for level in levels] == [classes > 24] + [False] * (len(words) - 1)
    if classes > 12:
        assert levels[-1].names == ["c1", "c2", "c3", "c5", "c8", "c9"]
    for level in (level for level in levels if not level.picture):
        places = [int(name[1:]) for name in level.names]
        part = counts[np.ix_(places, places)]
        assert [[int(c.count) if c else 0 for c in row] for row in level.rows] == part.tolist()
        shares = 100 * part / counts.sum(1)[places][:, None]
        shown = [[float(c.share) if c else 0.0 for c in row] for row in level.rows]
        assert np.allclose(shown, shares, atol=0.5)


def test_the_picture_of_a_matrix_shows_its_shares() -> None:
    counts = confused(100)
    [level] = [level for level in zoom_levels(counts, [str(i) for i in range(100)]) if level.picture]
    image = Image.open(io.BytesIO(base64.b64decode(level.picture.removeprefix("data:image/png;base64,"))))
    alpha = np.asarray(image.convert("RGBA"))[..., 3].astype(float)
    assert alpha.shape == (100, 100)
    assert ((alpha > 0) == (counts > 0)).all()
    beside = np.where(np.eye(100, dtype=bool), 0, alpha)
    assert np.unravel_index(beside.argmax(), beside.shape) == (3, 5)
    share = counts / counts.sum(1, keepdims=True)
    assert (beside[8, 2] / beside[3, 5]) ** 2 == pytest.approx(share[8, 2] / share[3, 5], rel=0.02)


def many_classes(folder: Path, classes: int, methods: int = 1) -> str:
    """The page of a comparison, from what little of its runs it takes."""
    found = {"confusion": confused(classes).tolist()}
    rows: list[dict[str, Any]] = []
    for method in range(methods):
        for seed in range(2):
            run = folder / f"runs/{method}-{seed}"
            run.mkdir(parents=True)
            names = [f"kind {i}" for i in range(classes)]
            (run / "result.json").write_text(json.dumps({"test": found, "class_names": names}))
            rows.append({"folder": f"runs/{method}-{seed}", "seed": seed, "status": "finished"})
    stored = [{"name": f"m{m}", "runs": rows[2 * m : 2 * m + 2], "difference": None} for m in range(methods)]
    (folder / "results.json").write_text(json.dumps({"schema": 1, "methods": stored, "reference": "m0"}))
    return write_comparison(folder).read_text()


def test_many_classes_are_zoomed_without_a_script(tmp_path: Path) -> None:
    page = of_method(many_classes(tmp_path, 100), "m0")
    assert re.findall(r"<label for=\"zoom-1-\d\">([^<]*)</label>", page) == [
        "all 100 classes", *(f"{n} classes of the worst pairs" for n in (24, 12, 6)),
    ]  # fmt: skip
    assert page.count('<div class="level">') == 4
    assert page.count('<img class="map"') == 1
    assert table(page, "Confusion matrix of m0: 6 classes")["kind 3"] == ["", "", "120 66", "60 33", "", ""]
    assert len(table(page, "Scores of each class")) == 100
    assert "left out" not in page


def test_a_page_of_many_methods_stays_small(tmp_path: Path) -> None:
    page = many_classes(tmp_path, 150, methods=20)
    part = of_method(page, "m7")
    assert len(table(part, "Scores of each class")) == 25
    assert "125 better classes are left out" in part
    assert len(page) < 1_500_000


@pytest.mark.parametrize(("classes", "levels"), [(12, []), (20, ["all 20", "12", "6"]), (60, ["24", "12", "6"])])
def test_a_runs_page_has_the_zoom_where_its_figure_has_no_numbers(tmp_path: Path, classes, levels) -> None:
    many_classes(tmp_path, classes)
    page = write_run(tmp_path / "runs/0-0").read_text()
    shown = re.findall(r"<label for=\"zoom-\d\">([^<]*)</label>", page)
    assert [words.partition(" classes")[0] for words in shown] == levels
    if levels:
        cells = table(page, "Confusion matrix, the worst pairs: 6 classes")
        assert cells["kind 8"] == ["", "25 29", "", "", "60 70", "1 1.2"]


def test_without_a_test_part_the_validation_part_is_shown(tmp_path: Path) -> None:
    many_classes(tmp_path, 3 + 9)
    for file in (tmp_path / "runs").glob("*/result.json"):
        file.write_text(file.read_text().replace('"test"', '"val"'))
    page = write_comparison(tmp_path).read_text()
    assert "Of the validation data" in page
    assert "<strong>m0</strong>: 2 seeds," in page


def test_runs_of_older_versions_are_left_out_or_named(tmp_path: Path) -> None:
    many_classes(tmp_path, 12, methods=2)
    for place in ("0-0", "1-0", "1-1"):
        (tmp_path / f"runs/{place}/result.json").write_text(json.dumps({"test": {"accuracy": 0.5}}))
    page = write_comparison(tmp_path).read_text()
    assert "<strong>m0</strong>: 1 seed," in page
    assert "Nothing is known of m1." in page


def test_what_is_kept_is_small(compared: Path) -> None:
    assert (compared / answers.NAME).stat().st_size < 10_000
    stored = json.loads(gzip.decompress((compared / answers.NAME).read_bytes()))
    assert set(stored["methods"]) == set(METHODS)
