"""A comparison in the tools people watch runs with: pictures of its mixes and its final table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lessonplan.report.formatting import interval, p_value, percent, points
from lessonplan.train.loggers import flat_numbers, flat_texts, keep_record, known_records, opening
from lessonplan.train.records import Record, refusals


def record_comparison(records: Sequence[Record], root: Path, results: dict[str, Any]) -> None:
    """Write what a comparison found into a record of its own; its runs have theirs.

    The step is the number of its runs, so that a record of more of them goes on behind that of the first.

    Args:
        records: where, see ``lessonplan.train.records.records``.
        root: folder of the comparison.
        results: what results.json holds.
    """
    reference = results["reference"]
    columns = ("method", "n", "test %", "interval", f"minus {reference}", "interval of it", "Holm p", "verdict")
    rows: list[tuple[str, ...]] = []
    numbers: dict[str, float] = {}
    for method in results["methods"]:
        difference = method["difference"] or {}
        rows.append(
            (
                method["name"],
                str(method["n"]),
                percent(method["mean"]),
                interval(method["ci_t"]),
                points(difference.get("mean")),
                interval(difference.get("ci_t"), signed=True),
                p_value(difference.get("p_holm")),
                str(difference.get("verdict", "reference" if method["name"] == reference else "")),
            )
        )
        told = {"mean": method["mean"], "n": method["n"], "difference": difference.get("mean")}
        numbers |= dict(flat_numbers({_plain(method["name"]): told}))
    pictures = sorted((root / "examples").glob("*.png"))
    step = sum(method["n"] for method in results["methods"])
    for record in records:
        known = known_records(root).get(record.name)
        with refusals(record, opening(record, known is not None)):
            number = record.open(dict(flat_texts(results["config"])), (known or {}).get("id"), step)
        keep_record(record, {"id": number, "step": step})
        with refusals(record, "take the comparison, which its folder has"):
            record.numbers(numbers, step)
            for picture in pictures:
                record.picture(f"mixed samples/{picture.stem}", picture, step)
            record.table("comparison", columns, rows)
            record.close("failed" if results["failures"] else "finished")


def _plain(name: str) -> str:
    """A method's name with the characters that all tools take."""
    return "".join(c if c.isalnum() or c in "-_. " else "-" for c in name)
