"""Attacks on the network, and on test-time sums as a defence."""

from __future__ import annotations

from collections.abc import Iterator

from lessonplan.report.evaluation_plots import curve
from lessonplan.report.formatting import count, percent
from lessonplan.report.palette import style
from lessonplan.report.panels import Panel, panel
from lessonplan.report.reading import Json
from lessonplan.report.sections.section import Column, Rows, Section, percent_cards
from lessonplan.report.sections.test_time import DEFENCES

NAMES = {"none": "none", "fgsm": "FGSM", "bim": "BIM", "mim": "MIM", "pgd": "PGD", "autoattack": "AutoAttack"}
_ON_NETWORK = (
    Column("Attack", "text"),
    Column("Loss", "text"),
    Column("Accuracy %", "strong"),
    Column("Top-5 %"),
    Column("Images without a gradient %"),
)
_ON_DEFENCE = (
    Column("Attack", "text"),
    Column("Undefended %"),
    Column("Transfer %", note="attacker does not know"),
    Column("Adaptive %", note="attacker knows"),
    Column("Robust %", "strong", note="the smaller of both"),
)
_HOW_TO_READ = (
    "Images made against the plain network may fail against the defence only because its gradient was hidden."
    " Robust is what is left when the attacker knows of the defence, or what the transferred images leave if that"
    " is less."
)


def section(found: Json, results: Json) -> Section:
    """The attacks, the defences against them, and the curve over eps."""
    measures, defences = results["measures"], found.get("defences") or {}
    return Section(
        "Attacks",
        about=f"Every pixel may change by at most eps = {eps_words(found['eps'])}; the attacker follows the"
        f" network's own gradient. {count(found['samples'])} images.",
        tables=[_on_network(found), *(_on_defence(name, defences) for name in _tables(found))],
        note=_HOW_TO_READ if defences else "",
        panels=_panels(found),
        cards=percent_cards(
            {f"Under {word}": measures.get(f"{key}_accuracy") for key, word in NAMES.items()}
            | {f"{word}, test-time sums": measures.get(f"{key}_robust_accuracy") for key, word in NAMES.items()}
        ),
        findings=list(_findings(found)),
    )


def eps_words(eps: float) -> str:
    """A budget as people write it.

    >>> eps_words(8 / 255), eps_words(0.03)
    ('8/255', '0.03')
    """
    scaled = 255 * eps
    return f"{scaled:.0f}/255" if abs(scaled - round(scaled)) < 1e-6 and scaled >= 0.5 else f"{eps:g}"


def _tables(found: Json) -> dict[str, list[Json]]:
    """The rows of each defence by its name."""
    tables: dict[str, list[Json]] = (found.get("defences") or {}).get("tables", {})
    return tables


def _on_network(found: Json) -> Rows:
    rows = [
        [
            NAMES[row["attack"]],
            row["loss"] or "",
            percent(row["accuracy"]),
            percent(row["top5"]),
            percent(row["no_gradient"]),
        ]
        for row in found["rows"]
    ]
    label = f"Attacks on the network, eps {eps_words(found['eps'])}, {count(found['samples'])} images"
    return Rows(label, _ON_NETWORK, rows)


def _on_defence(name: str, defences: Json) -> Rows:
    rows = [
        [NAMES[row["attack"]], *(percent(row[key]) for key in ("undefended", "transfer", "adaptive", "robust"))]
        for row in defences["tables"][name]
    ]
    title = f"{_capital(DEFENCES[name])}, as a defence"
    return Rows(
        title,
        _ON_DEFENCE,
        rows,
        title=title,
        caption=f"The first {count(defences['samples'])} of these images. Gradients of the adaptive column are"
        f" means over {defences['draws']} of the defence's own draws; images are judged on"
        f" {defences['judgements']} fresh predictions.",
    )


def _findings(found: Json) -> Iterator[str]:
    """What was found; robustness of a defence is the smaller of its two columns."""
    worst = min(found["rows"][1:], key=lambda row: float(row["accuracy"]))
    on = " on the margin" if worst["loss"] == "margin" else ""
    yield (
        f"Of the attacks at eps {eps_words(found['eps'])}, {NAMES[worst['attack']]}{on} leaves the least:"
        f" {percent(worst['accuracy'])}% of {count(found['samples'])} images are still right"
        f" ({percent(found['rows'][0]['accuracy'])}% without)."
    )
    if any((row["no_gradient"] or 0) > 0.01 for row in found["rows"][1:]):
        yield (
            "On some images an attack had no gradient (last column), so that right predictions there say nothing:"
            " look at the row of the margin."
        )
    for name, rows in _tables(found).items():
        yield _verdict(name, rows, found["defences"]["samples"])


def _verdict(name: str, rows: list[Json], samples: int) -> str:
    """What a defence is worth, in words."""
    worst = min(rows[1:], key=lambda row: float(row["robust"]))
    text = (
        f"{_capital(DEFENCES[name])} under {NAMES[worst['attack']]} ({samples} images):"
        f" {percent(worst['undefended'])}% undefended, {percent(worst['transfer'])}% if the attacker does not"
        f" know of them, {percent(worst['adaptive'])}% otherwise; robust accuracy {percent(worst['robust'])}%"
    )
    if worst["transfer"] > worst["undefended"] and worst["robust"] <= worst["undefended"]:
        return f"{text}: what the defence seems to gain is a hidden gradient."
    return f"{text}."


def _panels(found: Json) -> list[Panel]:
    line = [[255 * eps, value] for eps, value in found["curve"]["points"]]
    word = NAMES[found["curve"]["attack"]]
    text = f"{word} at other budgets, on {count(found['curve']['samples'])} images."
    svg = curve(
        {word: (line, style(1))}, name="eps", xlabel="eps (1/255 of the pixel range)", ylabel="accuracy (%)"
    )
    return panel("Accuracy against eps", text, svg)


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
