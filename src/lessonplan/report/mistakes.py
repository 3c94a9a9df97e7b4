"""The samples a run is most wrong about, from its ``mistakes.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lessonplan.report.formatting import count, percent
from lessonplan.report.pictures import SMOOTH, stored_picture
from lessonplan.report.reading import Run, read_json_if_there

_PARTS = {"test": "test", "val": "validation"}


@dataclass(frozen=True)
class Mistake:
    """A sample as text; ``uri``, ``width`` and ``height`` of its picture, None where there is none."""

    true: str
    predicted: str
    sure: str
    where: str
    uri: str | None
    width: int
    height: int

    @property
    def sharp(self) -> bool:
        """Whether its pixels are to be seen as squares."""
        return max(self.width, self.height) < SMOOTH


def mistakes(run: Run) -> dict[str, Any]:
    """What the template shows: ``about`` and ``samples``; empty where nothing is known, or nothing was wrong."""
    stored = read_json_if_there(run.folder / "mistakes.json") if run.result else {}
    worst = [_mistake(sample) for sample in stored.get("worst") or []]
    if not worst:
        return {}
    part = _PARTS.get(str(stored.get("part")), "judged")
    return {
        "about": f"Of {count(stored.get('samples'))} {part} samples {count(stored.get('wrong'))} are taken for"
        " another class. These have the highest loss; the percentage is the probability of the class they are"
        " taken for. All are in predictions.csv.",
        "samples": worst,
    }


def _mistake(sample: dict[str, Any]) -> Mistake:
    uri, width, height = stored_picture(sample.get("png"))
    where = sample.get("file")
    return Mistake(
        true=str(sample.get("true")),
        predicted=str(sample.get("predicted")),
        sure=f"{percent(sample.get('probability'), 1)}\N{NO-BREAK SPACE}%",
        where=str(where) if where is not None else f"row {sample.get('row')}",
        uri=uri,
        width=width,
        height=height,
    )
