"""What a run's page says, ready for the template."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from lessonplan.report import run_plots
from lessonplan.report.at_chance import run_note as at_chance_note
from lessonplan.report.at_features import MIXED
from lessonplan.report.choices import choice_panels, choice_sentence
from lessonplan.report.class_panels import class_panels, class_tables, class_zoom
from lessonplan.report.formatting import MISSING, compact, count, duration, fixed, number, percent
from lessonplan.report.mistakes import mistakes
from lessonplan.report.palette import Style, style
from lessonplan.report.panels import Panel, legend_entries, panel
from lessonplan.report.reading import Json, Run, read_json_if_there
from lessonplan.report.run_order import order_panels, order_summary
from lessonplan.report.run_selection import selection_panels, selection_summary
from lessonplan.report.run_sets import held_out, set_panels, sets_of
from lessonplan.report.watched import run_note

_PARTS = (("train", "training", 2), ("val", "validation", 1), ("test", "test", 3))
_QUANTILES = (
    ("loss_worst", "worst"),
    ("loss_q99", "99% quantile"),
    ("loss_q90", "90% quantile"),
    ("loss", "mean"),
    ("loss_q50", "median"),
    ("loss_best", "best"),
)
_WATCHED = {"balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro F1"}
Legend = list[tuple[str, Style]]
Single = tuple[str, str, tuple[str, ...], str]  # title, caption, where in a line, axis label
_SINGLES: tuple[Single, ...] = (
    ("Learning rate", "", ("lr",), "learning rate"),
    ("Norm of the weights", "L2 norm of all parameters.", ("param_norm",), "L2 norm"),
    ("Speed", "Sample passes a second, those for scores included.", ("system", "samples_per_second"), "passes/s"),
    ("Memory", "Memory of the process.", ("system", "memory_mb"), "MB"),
    ("GPU memory", "", ("system", "gpu_memory_mb"), "MB"),
)


def _lines(run: Run, name: str, ylabel: str, key: str, factor: float = 1.0) -> tuple[Markup | None, Legend]:
    """Training and validation of one value in one figure, with the legend of those that are there."""
    series = [((word, *run.curve(part, key)), style(look)) for part, word, look in _PARTS]
    shown = [(curve[0], look) for curve, look in series if len(curve[1])]
    return run_plots.curves(series, name=name, ylabel=ylabel, factor=factor), shown


def _curve_panels(run: Run) -> list[Panel]:
    seen = "selected ones, which are harder than most" if run.has("select") else "mixed ones included"
    mixed = f"Training values are those of the samples as trained on, {seen}."
    panels: list[Panel] = []
    for title, name, ylabel, key, factor in (
        ("Loss", "loss", "loss", "loss", 1.0),
        ("Accuracy", "accuracy", "accuracy (%)", "accuracy", 100.0),
    ):
        svg, legend = _lines(run, name, ylabel, key, factor)
        panels += panel(title, mixed, svg, legend)
    watched = str((run.config.get("settings") or {}).get("watch")).replace("-", "_")
    if watched in _WATCHED:
        svg, legend = _lines(run, "watched", f"{_WATCHED[watched]} (%)", watched, 100.0)
        panels += panel(_WATCHED[watched], "Of the validation data, which it decides by.", svg, legend)
    part, where = _spread_of(run)
    series = [((word, *run.curve(part, key)), style(look)) for look, (key, word) in enumerate(_QUANTILES)]
    spread = run_plots.curves(series, name="quantiles", ylabel=f"{where} loss")
    text = f"How the {where} loss is spread over samples."
    legend = [(curve[0], look) for curve, look in series if len(curve[1])]
    panels += panel("Loss quantiles", text, spread, legend)
    panels += _belief_panels(run, part, where)
    for position, (title, text, keys, ylabel) in enumerate([*_SINGLES, *_mix_settings(run)]):
        series = [((title, *run.curve(*keys)), style(1))]
        svg = run_plots.curves(
            series, name=f"single-{position}", ylabel=ylabel, steps=keys[0] == "mix", from_zero=keys[0] == "system"
        )
        panels += panel(title, text, svg)
    return panels


def _spread_of(run: Run) -> tuple[str, str]:
    """The part whose samples' losses are spread out in figures, and its name."""
    held_out = (("val", "validation"), ("test", "test"))
    return next((part for part in held_out if len(run.curve(part[0], "loss_q50")[0])), ("train", "training"))


def _belief_panels(run: Run, part: str, where: str) -> list[Panel]:
    """How sure the network is of a part's samples, by quantiles."""
    panels: list[Panel] = []
    for name, text in (
        ("confidence", f"Highest probability of the {where} samples, right or wrong."),
        ("margin", "How much the highest probability leads the second: the gap of the top two."),
    ):
        keys = ((f"{name}_q90", "90% quantile"), (f"{name}_q50", "median"), (f"{name}_q10", "10% quantile"))
        series = [((word, *run.curve(part, key)), style(1 + place)) for place, (key, word) in enumerate(keys)]
        svg = run_plots.curves(series, name=f"beliefs-{name}", ylabel=f"{where} {name}", from_zero=True)
        panels += panel(name.capitalize(), text, svg, [(curve[0], look) for curve, look in series])
    return panels


def _mix_settings(run: Run) -> list[Single]:
    """The mix's settings that were logged as numbers, in their first order; K is named in words."""
    lines = [line["mix"] for line in run.epochs if isinstance(line.get("mix"), dict)]
    keys = dict.fromkeys(key for line in lines for key, value in line.items() if number(value) is not None)
    named = {"k": ("Images per mix (K)", "How many images one mixed sample holds.", "K")}
    words = {key: named.get(key, (f"Mix: {key}", "", key)) for key in keys}
    return [(title, text, ("mix", key), ylabel) for key, (title, text, ylabel) in words.items()]


def _cards(run: Run) -> list[tuple[str, str]]:
    """The headline numbers; for an unfinished run those of its last epoch."""
    test = run.result.get("test") or {}
    val = run.result.get("val") or {}
    last = run.epochs[-1] if run.epochs else {}
    val = val or last.get("val") or {}
    judged = _judged(run)[1]
    trained = run.result.get("train_set") or {}
    totals = {**last, **run.result}
    forwarded, backpropagated = totals.get("forwarded"), totals.get("backpropagated")
    differ = forwarded != backpropagated  # otherwise they are the samples again
    cards = [
        ("Test accuracy", f"{percent(test.get('accuracy'))} %"),
        ("Balanced accuracy", f"{percent(judged.get('balanced_accuracy'))} %"),
        ("Macro F1", f"{percent(judged.get('macro_f1'))} %"),
        ("Test loss", fixed(test.get("loss"), 3)),
        ("Top-5 accuracy", f"{percent(test.get('top5'))} %"),
        ("Calibration error", fixed(test.get("calibration_error"), 3)),
        ("Validation accuracy", f"{percent(val.get('accuracy'))} %"),
        ("Training-set accuracy", f"{percent(trained.get('accuracy'))} %"),
        ("Epochs", count(totals.get("epochs", totals.get("epoch")))),
        ("Steps", count(totals.get("steps", totals.get("step")))),
        ("Samples", compact(totals.get("samples"))),
        ("Images drawn", compact(totals.get("raw_samples"))),
        ("Forward passes", compact(forwarded) if differ else MISSING),
        ("Backward passes", compact(backpropagated) if differ else MISSING),
        ("Cost (forward passes)", compact(totals.get("cost"))),
        ("Time", duration(totals.get("seconds", (last.get("system") or {}).get("seconds")))),
        ("Norm of the weights", fixed(totals.get("param_norm"), 1)),
    ]
    return [(name, value) for name, value in cards if not value.startswith(MISSING)]


def _judged(run: Run) -> tuple[str, Json]:
    """What a finished run is judged by, in a word, and its numbers: the test part, else the validation part."""
    test = run.result.get("test") or {}
    return ("test", test) if test else ("validation", run.result.get("val") or {})


def _trained_on(run: Run) -> str:
    """What a head that was trained by itself has seen, and what a mix then is."""
    if run.result.get("at") != "features":
        return ""
    text = "The head alone was trained, on features that the frozen network made of every picture once."
    mixed = (run.config.get("plan") or {}).get("mix") is not None
    return f"{text} {MIXED}" if mixed else text


def _comparison(run: Run) -> Json:
    """``results.json`` of the comparison this run belongs to, empty for a run on its own."""
    folder = run.folder.resolve()
    return read_json_if_there(folder.parent.parent / "results.json") if folder.parent.name == "runs" else {}


def run_context(run: Run) -> dict[str, Any]:
    """Everything the template ``run.html`` shows; parts that a run does not have are empty."""
    comparison = _comparison(run)
    part, judged = _judged(run)
    names = [str(name) for name in run.result.get("class_names") or []]
    config = {key: value for key, value in run.config.items() if key != "environment"}
    environment = (
        run.result.get("environment") or run.config.get("environment") or comparison.get("environment") or {}
    )
    return {
        "title": run.folder.resolve().name,
        "status": str(run.result.get("status") or "unfinished"),
        "stopped": str(run.result.get("stopped") or ""),
        "error": str(run.result.get("error") or ""),
        "trained_on": _trained_on(run),
        "watched": run_note(run),
        "at_chance": at_chance_note(run.result),
        "sampled": len(run.epochs) if len(run.epochs) < run.lines - 1 else 0,
        "lines": run.lines,
        "comparison": str(comparison.get("title") or "the comparison") if comparison else "",
        "evaluated": (run.folder / "evaluation" / "index.html").is_file(),
        "cards": _cards(run),
        "curves": _curve_panels(run),
        "sets": set_panels(run),
        "sets_legend": legend_entries([(word, look) for _, word, look in sets_of(run)]),
        "sets_of": held_out(run)[1],
        "selection": selection_panels(run) + choice_panels(run.result),
        "selection_summary": f"{selection_summary(run)} {choice_sentence(run.result)}".strip(),
        "order": order_panels(run),
        "order_summary": order_summary(run),
        "classes_of": part,
        "classes": class_panels(judged, names, part),
        "class_tables": class_tables(judged, names),
        "zoom": class_zoom(judged, names),
        "mistakes": mistakes(run),
        "config": config,
        "environment": environment if isinstance(environment, dict) else {},
    }
