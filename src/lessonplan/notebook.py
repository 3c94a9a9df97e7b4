"""What notebooks show of runs, results, data and mixes: a table, a curve, a contact sheet.

Colours come from the notebook's theme where it has one. Everything that has a name by others is escaped.
"""

from __future__ import annotations

import base64
import copy
import io
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from lessonplan.data import Data, load
from lessonplan.errors import first_line, visible
from lessonplan.lab.examples import mixed_images
from lessonplan.lab.results import Results
from lessonplan.mix import Mix
from lessonplan.report.at_features import of_features
from lessonplan.report.formatting import (
    MISSING,
    compact,
    duration,
    fixed,
    interval,
    number,
    p_value,
    percent,
    points,
)
from lessonplan.report.palette import HUES, Style, style, styles
from lessonplan.report.plots import paired_differences
from lessonplan.report.run_plots import curves
from lessonplan.train.fitting import Run

_PICTURES = 12
_CLASSES = 12  # whose sizes are listed
_PLOT_WIDTH = 420  # pixels
_COLOURS = {
    "--ink": "var(--jp-ui-font-color0, #22272c)",
    "--muted": "var(--jp-ui-font-color2, #66707a)",
    "--line": "var(--jp-border-color2, #c8ced4)",
    "--card": "var(--jp-layout-color0, #ffffff)",
    "--accent": HUES[1][0],
    **{f"--m{index}": light for index, (light, _) in enumerate(HUES)},
}
_numbers = itertools.count()  # ids of figures differ on a page of many cells


def html_of(thing: Any) -> str:
    """A piece of HTML that stands by itself.

    Args:
        thing: a ``Run``, ``Results``, ``Data`` or ``Mix``.
    """
    kinds: tuple[tuple[type, Callable[[Any], Iterable[Markup]]], ...] = (
        (Run, _run),
        (Results, _results),
        (Data, _data),
        (Mix, _mix),
    )
    draw = next(draw for kind, draw in kinds if isinstance(thing, kind))
    colours = ";".join(f"{name}:{value}" for name, value in _COLOURS.items())
    return f'<div style="{colours};color:var(--ink)">{Markup("").join(draw(thing))}</div>'


# -- what each shows -----------------------------------------------------------------------------------


def _run(run: Run) -> Iterable[Markup]:
    result = run.result
    yield _heading(f"Run in {run.folder}" if run.folder is not None else "Run")
    rows = [(f"{name} accuracy, %", percent((result.get(name) or {}).get("accuracy"))) for name in ("test", "val")]
    yield _table(
        ("", ""),
        [
            *[row for row in rows if row[1] != MISSING],
            ("epochs", fixed(result.get("epochs"), 1)),
            ("sample passes", compact(result.get("samples"))),
            ("time", duration(result.get("seconds"))),
            ("parameters", compact(result.get("parameters"))),
            ("ended by", str(result.get("stopped", ""))),
        ],
    )
    for key, label, factor in (("loss", "loss", 1.0), ("accuracy", "accuracy (%)", 100.0)):
        series = [((part, *_curve(run, part, key)), style(look)) for look, part in ((0, "train"), (1, "val"))]
        yield _figure(curves(series, name=_id(), ylabel=label, factor=factor), series)


def _results(results: Results) -> Iterable[Markup]:
    reference = results["reference"]
    yield _heading(results["title"])
    rows = []
    mixed = of_features(results["methods"])
    for method in results["methods"]:
        difference = method["difference"] or {}
        verdict = "reference" if method["name"] == reference else difference.get("verdict", "")
        rows.append(
            (
                method["name"] + (", of features" if method["name"] in mixed else ""),
                str(method["n"]),
                percent(method["mean"]),
                interval(method["ci_t"]),
                points(difference.get("mean")),
                interval(difference.get("ci_t"), signed=True),
                p_value(difference.get("p_holm")),
                verdict,
            )
        )
    level = f"{100 * results['level']:g}% interval"
    yield _table(
        ("method", "n", "test, %", level, f"minus {reference}", "interval", "Holm p", "verdict"),
        rows,
        words=(0, 7),
    )
    looks = styles([method["name"] for method in results["methods"]], reference)
    yield _figure(paired_differences(results["methods"], reference, looks))
    for failure in results["failures"]:
        yield _note(f"FAILED {failure['method']}, seed {failure['seed']}: {failure['error']}")


def _data(data: Data) -> Iterable[Markup]:
    described = data.description
    yield _heading(str(described.get("source", "data")))
    views = [(name, view) for name in ("train", "val", "test") if (view := getattr(data, name)) is not None]
    rows = [
        ("samples of shape", " x ".join(map(str, data.shape))),
        ("augmentation", str(described.get("augment"))),
        ("mean", ", ".join(fixed(value, 3) for value in data.mean.tolist()[:3])),
    ]
    yield _table(("", ""), [*rows, *([("left out", str(len(data.unreadable)))] if data.unreadable else [])])
    counts = [torch.bincount(view.labels.cpu(), minlength=data.num_classes).tolist() for _, view in views]
    classes = [(name, *(str(of[i]) for of in counts)) for i, name in enumerate(data.class_names[:_CLASSES])]
    if data.num_classes > _CLASSES:
        classes.append((f"and {data.num_classes - _CLASSES} more", *("" for _ in views)))
    totals = ("all", *(str(len(view)) for _, view in views))
    yield _table(("class", *(name for name, _ in views)), [*classes, totals])
    yield _sheet(mixed_images(None, data, count=_PICTURES), f"training samples of {described.get('source')}")


def _mix(mix: Mix) -> Iterable[Markup]:
    yield _heading(str(mix))
    yield _table(("option", "value"), [(name, str(value)) for name, value in mix.options().items()])
    described = mix.describe()
    if described:
        yield _table(("now", ""), [(name, str(value)) for name, value in described.items()])
    try:
        sheet = mixed_images(_for_digits(mix), load("digits", seed=0), count=8)
    except Exception as error:  # a mix of other samples, or of the user's own, which may raise anything
        yield _note(f"no pictures: {first_line(error)}")
    else:
        yield _sheet(sheet, f"embedded digits under {mix}")


def _for_digits(mix: Mix) -> Mix:
    """A copy in the state that it is in, for ten classes: showing a mix must not change what it does next."""
    own = copy.deepcopy(mix)
    waiting = [own]
    while waiting:
        part = waiting.pop()
        part.num_classes = 10
        waiting.extend(part.children())
    return own


# -- pieces --------------------------------------------------------------------------------------------


def _heading(text: str) -> Markup:
    return Markup('<p style="margin:0 0 .4em"><b>{}</b></p>').format(visible(text))


def _note(text: str) -> Markup:
    return Markup('<p style="margin:.4em 0;color:var(--muted)">{}</p>').format(visible(text))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int] = (0,)) -> Markup:
    """A table; the columns of ``words`` are aligned to the left, all others are numbers."""

    def line(tag: str, cells: Sequence[str]) -> Markup:
        made = [
            Markup('<{0} style="text-align:{1};padding:.15em .8em">{2}</{0}>').format(
                Markup(tag), Markup("left" if at in words else "right"), visible(str(cell))
            )
            for at, cell in enumerate(cells)
        ]
        return Markup("<tr>{}</tr>").format(Markup("").join(made))

    head = line("th", columns) if any(columns) else Markup("")
    body = Markup("").join(line("td", row) for row in rows)
    return Markup('<table style="margin:.4em 0">{}{}</table>').format(head, body)


def _figure(svg: Markup | None, series: Sequence[tuple[tuple[Any, ...], Style]] = ()) -> Markup:
    """A drawing with the names of its lines, or nothing."""
    if svg is None:
        return Markup("")
    names = [
        Markup('<span style="color:var({})">{}</span>').format(Markup(look.variable), curve[0])
        for curve, look in series
        if len(curve[1])
    ]
    legend = Markup("<br>{}").format(Markup(" &nbsp; ").join(names)) if names else Markup("")
    box = Markup('<div style="display:inline-block;width:{}px;vertical-align:top">{}{}</div>')
    return box.format(_PLOT_WIDTH, svg, legend)


def _sheet(figure: Figure | None, words: str) -> Markup:
    """Pictures side by side, or nothing where samples are no pictures."""
    if figure is None:
        return Markup("")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi, metadata={"Software": None})
    coded = base64.b64encode(buffer.getvalue()).decode()
    return Markup('<img style="max-width:100%" alt="{}" src="data:image/png;base64,{}">').format(
        escape(visible(words)), Markup(coded)
    )


def _curve(run: Run, part: str, key: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Cost and value where a value is known."""
    found = [
        (record["cost"], value)
        for record in run.history
        if (value := number((record.get(part) or {}).get(key))) is not None
    ]
    return np.array([x for x, _ in found], float), np.array([y for _, y in found], float)


def _id() -> str:
    return f"notebook-{next(_numbers)}"
