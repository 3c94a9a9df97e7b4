"""The page of an evaluation: what a network's predictions are worth, and what they survive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lessonplan.errors import DataError
from lessonplan.report import run_plots
from lessonplan.report.evaluation_plots import confidences, curve, reliability_diagram
from lessonplan.report.formatting import MISSING, count, duration, fixed, number, percent, points
from lessonplan.report.palette import style
from lessonplan.report.panels import Panel, panel
from lessonplan.report.pictures import Picture, read_pictures
from lessonplan.report.reading import Json, read_json
from lessonplan.report.render import write_page

NAMES = {
    "ttsa": "test-time sums",
    "mi_predicted": "Mixup Inference, predicted class",
    "mi_other": "Mixup Inference, other classes",
}
ATTACKS = {"none": "none", "fgsm": "FGSM", "bim": "BIM", "mim": "MIM", "pgd": "PGD", "autoattack": "AutoAttack"}


def write_evaluation(folder: Path) -> Path:
    """Write ``index.html`` of an evaluation from its ``evaluation.json`` and ``pictures/``.

    Returns:
        The path of the page.

    Raises:
        DataError: a file is missing or damaged, or the page cannot be written.
    """
    folder = Path(folder)
    return write_page(folder, "evaluation.html", evaluation_context(folder))


def evaluation_context(folder: Path) -> dict[str, Any]:
    """Everything the template ``evaluation.html`` shows; parts that were not done are empty.

    Raises:
        DataError: the file is missing or damaged, or of a layout this version does not know.
    """
    results = read_json(folder / "evaluation.json")
    if results.get("schema") != 1 or not isinstance(results.get("parts"), dict):
        raise DataError(f"{folder / 'evaluation.json'} has a layout that this version of lessonplan does not read")
    parts: Json = results["parts"]
    names = [str(name) for name in results["subject"]["classes"]]
    return {
        "title": str(results["title"]),
        "results": results,
        "of_run": (folder.parent / "result.json").is_file(),
        "on": results["options"]["on"],
        "waiting": [name.replace("_", " ") for name in results["planned"] if name not in parts],
        "cards": cards(results),
        "findings": findings(results),
        "classification": parts.get("classification"),
        "classes": _class_panels(parts.get("classification") or {}, names),
        "noise": parts.get("label_noise"),
        "test_time": parts.get("test_time"),
        "test_time_rows": _test_time_rows(parts.get("test_time") or {}),
        "test_time_panels": _test_time_panels(parts.get("test_time") or {}),
        "attacks": parts.get("attacks"),
        "attack_names": ATTACKS,
        "defence_names": NAMES,
        "eps": eps_words(parts["attacks"]["eps"]) if "attacks" in parts else "",
        "attack_panels": _attack_panels(parts.get("attacks") or {}),
        "ood": parts.get("ood"),
        "ood_panels": _ood_panels(parts.get("ood") or {}),
        "localisation": parts.get("localisation"),
        "localisation_panels": _localisation_panels(parts.get("localisation") or {}),
        "between": parts.get("between"),
        "between_panels": _between_panels(parts.get("between") or {}),
        "attacked": _pictures(folder, "attacks", parts),
        "maps": _pictures(folder, "localisation", parts),
        "config": {"subject": results["subject"], "options": results["options"]},
        "environment": results["environment"],
    }


def _pictures(folder: Path, part: str, parts: Json) -> list[Picture]:
    """The pictures of a part, if it was done."""
    return read_pictures(folder / "pictures" / part) if part in parts else []


def findings(results: Json) -> list[str]:
    """What was found, a sentence a part; robustness of a defence is the smaller of its two columns."""
    parts, said = results["parts"], []
    test_time, attacked = parts.get("test_time"), parts.get("attacks")
    if test_time is not None:
        m = test_time["measures"]
        said.append(
            f"Test-time sums of {test_time['k']} with {test_time['copies']} copies reach"
            f" {percent(m['ttsa_accuracy'])}% where the plain prediction reaches {percent(m['clean_accuracy'])}%"
            f" ({points(m['ttsa_accuracy'] - m['clean_accuracy'])} points), on {count(test_time['samples'])}"
            " samples."
        )
    if attacked is not None:
        worst = min(attacked["rows"][1:], key=lambda row: row["accuracy"])
        on = " on the margin" if worst["loss"] == "margin" else ""
        said.append(
            f"Of the attacks at eps {eps_words(attacked['eps'])}, {ATTACKS[worst['attack']]}{on} leaves the least:"
            f" {percent(worst['accuracy'])}% of {count(attacked['samples'])} images are still right"
            f" ({percent(attacked['rows'][0]['accuracy'])}% without)."
        )
        blind = [row for row in attacked["rows"][1:] if (row["no_gradient"] or 0) > 0.01]
        if blind:
            said.append(
                "On some images an attack had no gradient (last column), so that right predictions there say"
                " nothing: look at the row of the margin."
            )
        for name, rows in (attacked.get("defences") or {}).get("tables", {}).items():
            said.append(_verdict(name, rows, attacked["defences"]["samples"]))
    if parts.get("ood") is not None:
        mean = parts["ood"]["report"]["mean"]
        said.append(
            f"Confidence tells other data from these with an AUROC of {fixed(mean['auroc'], 3)}, mean over"
            f" {len(parts['ood']['report']) - 1} sets."
        )
    return said


def _verdict(name: str, rows: list[Json], samples: int) -> str:
    """What a defence is worth, in words."""
    worst = min(rows[1:], key=lambda row: row["robust"])
    text = (
        f"{NAMES[name][0].upper()}{NAMES[name][1:]} under {ATTACKS[worst['attack']]} ({samples} images):"
        f" {percent(worst['undefended'])}% undefended, {percent(worst['transfer'])}% if the attacker does not"
        f" know of them, {percent(worst['adaptive'])}% otherwise; robust accuracy {percent(worst['robust'])}%"
    )
    if worst["transfer"] > worst["undefended"] and worst["robust"] <= worst["undefended"]:
        return f"{text}: what the defence seems to gain is a hidden gradient."
    return f"{text}."


def cards(results: Json) -> list[tuple[str, str]]:
    """The headline numbers that are known, as names and text."""
    found, measures = results["parts"].get("classification") or {}, results["measures"]
    share = [
        ("Accuracy", found.get("accuracy")),
        ("Top-5 accuracy", found.get("top5")),
        ("With test-time sums", measures.get("ttsa_accuracy")),
        *[(f"Under {word}", measures.get(f"{key}_accuracy")) for key, word in ATTACKS.items()],
        *[(f"{word}, test-time sums", measures.get(f"{key}_robust_accuracy")) for key, word in ATTACKS.items()],
        ("Boxes right", measures.get("max_box_accuracy")),
        ("Error between samples", measures.get("between_miss")),
        ("Training error, corrupted", measures.get("train_error_corrupted")),
    ]
    known = [(name, f"{percent(value)} %") for name, value in share if number(value) is not None]
    rest = (
        ("Loss", fixed(found.get("loss"), 3)),
        ("Calibration error", fixed(found.get("calibration_error"), 3)),
        ("AUROC, other data", fixed(measures.get("ood_auroc"), 3)),
        ("Norm of the weights", fixed(found.get("param_norm"), 1)),
        ("Time", duration(sum(part["seconds"] for part in results["parts"].values()))),
    )
    return known + [(name, value) for name, value in rest if value != MISSING]


def _class_panels(found: Json, names: list[str]) -> list[Panel]:
    if not found:
        return []
    bins = found["reliability"]
    panels = panel(
        "Calibration",
        "Bars above the line: too modest; below: too sure. Darker bars hold more samples.",
        reliability_diagram(bins["count"], bins["confidence"], bins["accuracy"]),
    )
    values, confusion = found["per_class_accuracy"], found["confusion"]
    labels = names if len(names) == len(values) else [str(index) for index in range(len(values))]
    panels += panel("Accuracy per class", "", run_plots.class_accuracy(values, labels))
    counts = np.asarray(confusion, dtype=np.float64)
    text = "Shaded by the share of each true class (square root)."
    return panels + panel("Confusion matrix", text, run_plots.confusion_matrix(counts, labels))


def _test_time_rows(found: Json) -> list[tuple[str, str]]:
    if not found:
        return []
    rows = [("plain prediction", percent(found["measures"]["clean_accuracy"]))]
    return rows + [(NAMES[name], percent(curve_[-1][1])) for name, curve_ in found["by_copies"].items()]


def _test_time_panels(found: Json) -> list[Panel]:
    if not found:
        return []
    clean = found["measures"]["clean_accuracy"]
    series = {NAMES[name]: (points, style(i + 1)) for i, (name, points) in enumerate(found["by_copies"].items())}
    dashed = "The dashed line is the plain prediction of the same samples."
    panels = panel(
        "Accuracy against copies",
        f"Predictions averaged over so many sums, on {count(found['samples'])} samples. {dashed}",
        curve(series, name="copies", xlabel="copies", ylabel="accuracy (%)", doubling=True, line_at=clean),
        [(label, look) for label, (_, look) in series.items()],
    )
    weights = {"test-time sums": (found["by_weight"], style(1))}
    text = (
        f"How much the tested sample counts in a sum of {found['k']}; on {count(found['weight_samples'])} samples."
    )
    few = found.get("weight_clean_accuracy")  # evaluations of before have none
    svg = curve(weights, name="weights", xlabel="lambda", ylabel="accuracy (%)", doubling=True, line_at=few)
    return panels + panel("Accuracy against lambda", text if few is None else f"{text} {dashed}", svg)


def _attack_panels(found: Json) -> list[Panel]:
    if not found:
        return []
    points = [[255 * eps, value] for eps, value in found["curve"]["points"]]
    word = ATTACKS[found["curve"]["attack"]]
    text = f"{word} at other budgets, on {count(found['curve']['samples'])} images."
    svg = curve(
        {word: (points, style(1))}, name="eps", xlabel="eps (1/255 of the pixel range)", ylabel="accuracy (%)"
    )
    return panel("Accuracy against eps", text, svg)


def _ood_panels(found: Json) -> list[Panel]:
    if not found:
        return []
    looks = {name: style(i) for i, name in enumerate(found["confidence"])}
    shares = {name: (values, looks[name]) for name, values in found["confidence"].items()}
    words = {"in": "like the training data"}
    legend = [(words.get(name, name), look) for name, look in looks.items()]
    text = "Where the outlines overlap, confidence tells nothing."
    return panel("Confidence on each set", text, confidences(shares), legend)


def _localisation_panels(found: Json) -> list[Panel]:
    if not found:
        return []
    text = "The box around everything above a share of the map's maximum, IoU at least .5."
    svg = curve(
        {"true class": (found["curve"], style(1))},
        name="boxes",
        xlabel="threshold",
        ylabel="boxes right (%)",
        line_at=found["whole_image"],
    )
    return panel("Boxes against the threshold", f"{text} The dashed line takes the whole image as box.", svg)


def _between_panels(found: Json) -> list[Panel]:
    if not found:
        return []
    points = found["curve"]
    misses = {"error": ([[p["lam"], p["miss"]] for p in points], style(1))}
    norms = {"norm": ([[p["lam"], p["gradient_norm"]] for p in points], style(2))}
    text = f"{count(found['pairs'])} pairs of training samples; wrong is a class that is neither of the two."
    axis = "share of the first sample"
    panels = panel(
        "Errors between samples", text, curve(misses, name="misses", xlabel=axis, ylabel="neither class (%)")
    )
    svg = curve(norms, name="norms", xlabel=axis, ylabel="L2 norm of the gradient", percent=False)
    return panels + panel(
        "Gradient between samples", "Of the loss with respect to the input, mean over pairs.", svg
    )


def eps_words(eps: float) -> str:
    """A budget as people write it.

    >>> eps_words(8 / 255), eps_words(0.03)
    ('8/255', '0.03')
    """
    scaled = 255 * eps
    return f"{scaled:.0f}/255" if abs(scaled - round(scaled)) < 1e-6 and scaled >= 0.5 else f"{eps:g}"
