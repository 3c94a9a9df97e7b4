"""What a comparison's networks answered to the judged part: counts of each run, and a method's worst samples.

It is kept in one small file: pages are made from that where runs were left behind, and without reading the
predictions of every run again.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import heapq
import io
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from lessonplan.errors import DataError, LessonplanWarning, first_line
from lessonplan.files import write_atomically
from lessonplan.report.reading import Json, inside, read_json_if_there
from lessonplan.stored import read_packed

NAME = "answers.json.gz"
WORST = 8
"""Samples that are kept of a method, of those with the highest mean loss."""
_PARTS = {"test": "test", "val": "validation"}
_COLUMNS = ("true", "predicted", "confidence", "loss")  # behind the row and the name
_ODD = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError)
"""What values of a wrong kind make."""

Pictures = Callable[[Sequence[str]], Mapping[str, str]]
"""From names of samples (files, or where there are none indices in the data) to pictures as base64 PNG, without
those that it does not find."""
Said = tuple[float, str, str]
"""Of a sample its loss, true and predicted class."""


def keep_answers(root: Path, methods: Sequence[Json], pictures: Pictures) -> None:
    """Write what all runs of a comparison answered; of methods without new runs it is taken from the file.

    Args:
        root: the comparison's folder.
        methods: of ``results.json``.
        pictures: of samples that no run has kept one of.

    Raises:
        DataError: a run's result is damaged, or the file cannot be written.
    """
    try:
        kept = _read(root)
    except DataError:  # it is written anew
        kept = {"methods": {}, "pictures": {}}
    found = _found(root, methods, kept)
    shown = found["pictures"]
    missing = [sample["name"] for method in found["methods"].values() for sample in method["worst"]]
    missing = [name for name in dict.fromkeys(missing) if name not in shown]
    if missing:
        shown.update(pictures(missing))
    write_atomically(root / NAME, gzip.compress(json.dumps(found).encode(), compresslevel=6, mtime=0))


def find_answers(root: Path, methods: Sequence[Json]) -> Json:
    """What the finished runs of each method answered, from the file, or where that is of other runs, from theirs.

    Args:
        root: the comparison's folder.
        methods: of ``results.json``.

    Returns:
        ``methods``, by name: ``part`` ("test", or without one "validation"), ``class_names``, ``runs`` (of each
        ``folder``, ``seed``, ``right``, ``true`` and ``taken``, a number a class as for
        ``lessonplan.confusion.class_scores``, ``reliability`` and ``calibration_error``), ``confusion`` (where
        their summed matrix is not 0: ``rows``, ``columns``, ``counts``) and ``worst``, see ``_worst``. A method of
        which nothing is known is left out. ``pictures`` has PNGs as base64 by the samples' names, each once.

    Raises:
        DataError: the file or a run's result is damaged.
    """
    return _found(root, methods, _read(root))


def _found(root: Path, methods: Sequence[Json], kept: Json) -> Json:
    pictures: dict[str, str] = dict(kept["pictures"])
    found: dict[str, Json] = {}
    for method in methods:
        runs = [run for run in method.get("runs") or [] if run.get("status") == "finished"]
        known = kept["methods"].get(method["name"])
        if known is None or not _of_these(root, known, runs):
            try:
                known = _of_method(root, runs, pictures)
            except _ODD as error:
                what = f"{type(error).__name__}: {first_line(error)}"
                raise DataError(f"a result in {root / 'runs'} is damaged ({what}): put it back") from error
        if known is not None:
            found[method["name"]] = known
    shown = {sample["name"] for method in found.values() for sample in method["worst"]}
    return {"methods": found, "pictures": {name: png for name, png in pictures.items() if name in shown}}


def _of_these(root: Path, known: Json, runs: Sequence[Json]) -> bool:
    """Whether what was kept is of these runs, as far as they are there to be asked."""
    if [run["folder"] for run in known["runs"]] != [run.get("folder") for run in runs]:
        return False
    for kept in known["runs"]:
        result = _digest(inside(root, kept["folder"]))
        if result is not None and result != kept.get("result"):
            return False
    return True


def _digest(folder: Path | None) -> str | None:
    """What tells a run's result from another; None where it is not there."""
    try:
        content = (folder / "result.json").read_bytes() if folder is not None else None
    except OSError:
        return None
    return hashlib.blake2b(content, digest_size=8).hexdigest() if content is not None else None


def _read(root: Path) -> Json:
    file = root / NAME
    if not file.is_file():
        return {"methods": {}, "pictures": {}}
    again = "delete it, and repeat the comparison to write it again"
    text = read_packed(file, again)
    try:
        kept: Json = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is damaged ({first_line(error)}): {again}") from error
    try:
        for method in kept["methods"].values():
            _check(method)
        return {"methods": kept["methods"], "pictures": dict(kept["pictures"])}
    except _ODD:
        raise DataError(f"{file} does not hold what networks answered: {again}") from None


def _check(method: Json) -> None:
    """Raise one of ``_ODD`` where what is kept of a method is not what ``_of_method`` gives."""
    runs, confusion = method["runs"], method["confusion"]
    classes = len(runs[0]["true"])
    of_class = [run[key] for run in runs for key in ("right", "true", "taken")]
    triples = [confusion[key] for key in ("rows", "columns", "counts")]
    numbers = [n for values in (*of_class, *triples) for n in values]
    sound = (
        method["part"] in _PARTS.values()
        and {len(values) for values in of_class} == {classes}
        and len({len(values) for values in triples}) == 1
        and all(isinstance(n, int) and n >= 0 for n in numbers)
        and max(triples[0] + triples[1], default=0) < classes
        and all(isinstance(name, str) for name in method["class_names"])
        and len(method["class_names"]) in (0, classes)
    )
    for run in runs:
        _ = run["folder"], run["seed"], run["calibration_error"]
        bins = (
            [run["reliability"][key] for key in ("count", "confidence", "accuracy")] if run["reliability"] else []
        )
        sound = sound and len({len(values) for values in bins}) < 2
    for sample in method["worst"]:
        _ = sample["name"], sample["is_file"], sample["true"], sample["wrong"] + 0, sample["runs"] + 0
        _ = sample["loss"] + 0, [(other[0], other[1] + 0) for other in sample["taken_for"]]
    if not sound:
        raise ValueError("it does not fit together")


def _of_method(root: Path, runs: Sequence[Json], pictures: dict[str, str]) -> Json | None:
    """What the folders of a method's runs tell; pictures of its worst samples are added to the known ones."""
    judged: list[tuple[Json, Path, Json]] = []
    for run in runs:
        folder = inside(root, run.get("folder"))
        result = read_json_if_there(folder / "result.json") if folder is not None else {}
        part = "test" if result.get("test") else "val"
        if folder is not None and (result.get(part) or {}).get("confusion"):
            judged.append((run, folder, {**result[part], "part": part, "names": result.get("class_names") or []}))
    if not judged:
        return None
    first = judged[0][2]
    same = [one for one in judged if all(one[2][key] == first[key] for key in ("part", "names"))]
    matrices = [np.asarray(found["confusion"], dtype=np.int64) for *_, found in same]
    summed = np.sum(matrices, axis=0)
    rows, columns = summed.nonzero()
    return {
        "part": _PARTS[first["part"]],
        "class_names": first["names"],
        "runs": [
            {
                "folder": run["folder"],
                "result": _digest(inside(root, run["folder"])),
                "seed": run.get("seed"),
                "right": counts.diagonal().tolist(),
                "true": counts.sum(1).tolist(),
                "taken": counts.sum(0).tolist(),
                "reliability": found.get("reliability"),
                "calibration_error": found.get("calibration_error"),
            }
            for (run, _, found), counts in zip(same, matrices, strict=True)
        ],
        "confusion": {
            "rows": rows.tolist(),
            "columns": columns.tolist(),
            "counts": summed[rows, columns].tolist(),
        },
        "worst": _worst([folder for _, folder, _ in same], pictures),
    }


def _worst(folders: Sequence[Path], pictures: dict[str, str]) -> list[Json]:
    """The samples that were taken for another class at least once and have the highest mean loss.

    Args:
        folders: of runs; one without predictions has no say.
        pictures: those that runs have kept of them are added.

    Returns:
        at most ``WORST``, the worst first: ``name``, ``is_file``, ``true``, ``taken_for`` (other classes with how
        often, the most frequent first), ``loss`` (the mean), ``wrong`` and ``runs``, how many took it for another
        class, and how many had it in their part.
    """
    said: dict[str, list[Said]] = {}
    of_run: dict[Path, list[str]] = {}
    is_file = False
    for folder in folders:
        files, of_run[folder], lines = _predictions(folder / "predictions.csv")
        is_file = is_file or files
        for name, line in zip(of_run[folder], lines, strict=True):
            said.setdefault(name, []).append(line)
    means = (
        (-sum(loss for loss, _, _ in lines) / len(lines), place, name)
        for place, (name, lines) in enumerate(said.items())
        if any(true != predicted for _, true, predicted in lines)
    )
    chosen = heapq.nsmallest(WORST, means)
    _take_pictures(of_run, {name for *_, name in chosen}, pictures)
    worst = []
    for mean, _, name in chosen:
        others = Counter(predicted for _, true, predicted in said[name] if predicted != true)
        worst.append(
            {
                "name": name,
                "is_file": is_file,
                "true": said[name][0][1],
                "taken_for": [list(one) for one in others.most_common()],
                "loss": -mean,
                "wrong": others.total(),
                "runs": len(said[name]),
            }
        )
    return worst


def _predictions(file: Path) -> tuple[bool, list[str], list[Said]]:
    """Whether samples are files, their names, and what was said of them; nothing where they cannot be read, with a
    warning where there is a file.

    A name that several samples have gets the row behind it.
    """
    try:
        text = file.read_text(encoding="utf-8")
        # Only names have quotation marks; without any it is quicker to cut the first columns off.
        lines = csv.reader(io.StringIO(text, newline="")) if '"' in text else _cut(text)
        head = next(lines, [])
        if tuple(head[2:6]) != _COLUMNS:
            raise ValueError("it has other columns")
        rows = [(line[0], line[1], (float(line[5]), line[2], line[3])) for line in lines]
    except FileNotFoundError:
        return False, [], []
    except (OSError, ValueError, IndexError, csv.Error) as error:
        warnings.warn(
            f"left {file} out of the samples that a comparison is most wrong about: {first_line(error)}",
            LessonplanWarning,
            stacklevel=2,
        )
        return False, [], []
    often = Counter(name for _, name, _ in rows)
    names = [name if often[name] == 1 else f"{name}, row {row}" for row, name, _ in rows]
    return head[1] == "file", names, [said for *_, said in rows]


def _cut(text: str) -> Iterator[list[str]]:
    return (line.split(",", 6) for line in text.split("\n") if line)


def _take_pictures(of_run: Mapping[Path, Sequence[str]], wanted: set[str], pictures: dict[str, str]) -> None:
    """Add the pictures that runs have kept in ``mistakes.json``; one that is damaged has none."""
    for folder, names in of_run.items():
        if wanted <= pictures.keys():
            return
        with suppress(DataError, *_ODD):
            for sample in read_json_if_there(folder / "mistakes.json").get("worst") or []:
                row, png = sample.get("row"), sample.get("png")
                if (
                    isinstance(row, int)
                    and 0 <= row < len(names)
                    and isinstance(png, str)
                    and names[row] in wanted
                ):
                    pictures.setdefault(names[row], png)
