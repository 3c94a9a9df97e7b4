"""What a comparison or run folder holds, read without trusting it to be complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lessonplan.errors import DataError
from lessonplan.files import read_some_json_lines
from lessonplan.report.axes import COST, Axis
from lessonplan.report.formatting import number
from lessonplan.stored import read_json, read_yaml

Json = dict[str, Any]
Floats = NDArray[np.float64]
MOST_LINES = 4000  # of a run's metrics that are read for a page, more than a figure has pixels


@dataclass(frozen=True)
class Run:
    """One run's folder; a run that is still going has no result, one that failed early no epochs.

    Attributes:
        folder: where it lies.
        config: the settings, empty if there is no ``config.yaml``.
        epochs: the lines of ``metrics.jsonl``, oldest first; of very many some at equal distances.
        lines: how many there are.
        result: ``result.json``, empty while the run is unfinished.
    """

    folder: Path
    config: Json = field(default_factory=dict)
    epochs: list[Json] = field(default_factory=list)
    lines: int = 0
    result: Json = field(default_factory=dict)
    _columns: dict[tuple[str, ...], Floats] = field(default_factory=dict, repr=False, compare=False)

    def curve(self, *keys: str, against: Axis = COST) -> tuple[Floats, Floats]:
        """Cost and a value per epoch, both of shape ``(E,)``, for the epochs where both are known.

        Args:
            keys: the path to the value inside a line, for example ``"val", "accuracy"``.
            against: what takes the place of cost.
        """
        return self._known(self._column(keys), against)

    def points(self, value: Callable[[Json], float | None], against: Axis = COST) -> tuple[Floats, Floats]:
        """As ``curve``, for a value that is made of several in a line."""
        return self._known(_floats(map(value, self.epochs)), against)

    def _known(self, y: Floats, against: Axis) -> tuple[Floats, Floats]:
        x = self._column(against.keys)
        known = ~(np.isnan(x) | np.isnan(y))
        return x[known] + against.plus, y[known]

    def _column(self, keys: tuple[str, ...]) -> Floats:
        """The value of each line, nan where it is unknown; looked up once, since pages ask by many axes."""
        if keys not in self._columns:
            found: list[Any] = list(self.epochs)
            for key in keys:
                found = [value.get(key) if isinstance(value, dict) else None for value in found]
            self._columns[keys] = _floats(found)
        return self._columns[keys]

    def has(self, part: str) -> bool:
        """Whether a line has this part, for example ``"select"``."""
        return any(isinstance(line.get(part), dict) for line in self.epochs)


def _floats(values: Iterable[Any]) -> Floats:
    """As ``number`` does one by one: nan for what is no finite number."""
    known = (float, int)
    found = [v if isinstance(v, known) and not isinstance(v, bool) else np.nan for v in values]
    array = np.array(found, dtype=np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def known_at(line: Json, *keys: str) -> float | None:
    """The finite number at a path inside a line, or None.

    >>> known_at({"val": {"loss": 2}}, "val", "loss"), known_at({"train": None}, "train", "loss")
    (2.0, None)
    """
    value: Any = line
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return number(value)


def read_json_if_there(path: Path) -> Json:
    """A JSON object from a file; an empty one when there is no such file."""
    return read_json(path) if path.is_file() else {}


def read_run(folder: Path) -> Run:
    """A run's folder, whatever of it is there.

    Raises:
        DataError: if a file that is there cannot be understood.
    """
    path = folder / "config.yaml"
    config: Any = {}
    if path.is_file():
        config = read_yaml(path)
    epochs, lines = read_some_json_lines(folder / "metrics.jsonl", MOST_LINES)
    return Run(
        folder=folder,
        config=config if isinstance(config, dict) else {},
        epochs=epochs,
        lines=lines,
        result=read_json_if_there(folder / "result.json"),
    )


def read_results(folder: Path) -> Json:
    """``results.json`` of a comparison folder.

    Raises:
        DataError: if it is missing, damaged or of a layout this version does not know.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise DataError(f"{folder} is no comparison folder: it has no results.json")
    results = read_json(path)
    if results.get("schema") != 1:
        raise DataError(f"{path} has layout {results.get('schema')!r}; this version of lessonplan reads layout 1")
    if not isinstance(results.get("methods"), list):
        raise DataError(f"{path} lists no methods; repeat the comparison to write it again")
    return results


def inside(root: Path, relative: Any) -> Path | None:
    """The path below ``root`` that a stored string names, or None if it leads elsewhere or to nothing."""
    if not isinstance(relative, str) or not relative:
        return None
    path = (root / relative).resolve()
    return path if path.is_relative_to(root.resolve()) and path.exists() else None
