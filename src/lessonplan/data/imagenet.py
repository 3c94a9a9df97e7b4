"""Parts of ImageNet and Tiny ImageNet whose pictures lie in one folder: lists say what they show."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lessonplan.data.boxes import stacked
from lessonplan.data.encoded import Files, Labelled
from lessonplan.data.join import VALIDATION
from lessonplan.data.kinds import IMAGE_ENDINGS
from lessonplan.data.limits import check_ratio
from lessonplan.data.walk import files_below, lies_in
from lessonplan.errors import DataError
from lessonplan.matlab import Announced, read_matlab

_ANNOTATIONS = "val_annotations.txt"
_NUMBERS = "ILSVRC2012_validation_ground_truth.txt"
_SYNSETS = "*validation_synset_labels.txt"
_KAGGLE = "LOC_val_solution.csv"
_BOXES = {_KAGGLE: None, "LOC_train_solution.csv": 4}
"""The lists of boxes, and how many of a picture are taken; None: all. Those of training choose a threshold."""
_SYNSET = re.compile(r"n\d{8}")
_NUMBER = re.compile(r"[0-9]{1,9}")


def flat_part(part: Path, root: Path, class_names: tuple[str, ...]) -> Labelled | None:
    """The pictures of a part with the classes that a list beside it (or above) gives them; None without a list.

    Read are Tiny ImageNet's ``val_annotations.txt``, and for ImageNet's ``val/``: Kaggle's
    ``LOC_val_solution.csv``, a ``*validation_synset_labels.txt`` (a synset a line), Caffe's ``val.txt`` (a file
    and the number of its synset in their order), and ``ILSVRC2012_validation_ground_truth.txt`` with the
    development kit's ``meta.mat``. Pictures of classes that training does not have are left out.

    Raises:
        DataError: a list that is damaged, or does not fit the pictures or the classes.
    """
    if (part / _ANNOTATIONS).is_file():
        return _annotated(part, class_names)
    if not any(map(_SYNSET.fullmatch, class_names)):
        return None
    files = {path.name: path for path in files_below(part, IMAGE_ENDINGS).files}
    if not files:
        return None
    synsets = _listed(part, root, sorted(files), class_names)
    if synsets is None:
        return None
    number = {name: i for i, name in enumerate(class_names)}
    kept = [(files[name], number[s]) for name in sorted(files) if (s := synsets.get(Path(name).stem)) in number]
    if not kept:
        raise DataError(f"the list of {part} names no picture of a class that training has")
    labels = torch.tensor([label for _, label in kept], dtype=torch.int64)
    paths = [path for path, _ in kept]
    return Labelled(Files(root, paths), labels, class_names, listed_boxes(part, root, paths, class_names))


def listed_boxes(part: Path, root: Path, paths: Sequence[Path], class_names: Sequence[str]) -> Tensor | None:
    """The boxes of what ImageNet's pictures show, ``(N, B, 4)``, see ``lessonplan.data.boxes``.

    They are in Kaggle's ``LOC_train_solution.csv`` and ``LOC_val_solution.csv``, beside the pictures or above:
    behind each picture's name its synset, left, top, right and bottom of each box, of the first and last pixel
    inside it; of training pictures the first four. None without such a list, or where it knows none of the
    pictures.

    Raises:
        DataError: a list that is damaged.
    """
    if not any(map(_SYNSET.fullmatch, class_names)):
        return None
    for name, most in _BOXES.items():
        where = next((place / name for place in _places(part, root) if (place / name).is_file()), None)
        if where is None:
            continue
        wanted = {path.stem for path in paths}
        found = {row[0]: _boxes(where, row)[:most] for row in _kaggle(where) if row[0] in wanted}
        if found:
            return stacked([found.get(path.stem, []) for path in paths])
    return None


def _boxes(where: Path, row: list[str]) -> list[list[float]]:
    """The boxes of a line: five words each, a synset and four numbers; none where there is the synset alone."""
    words = row[1].split()
    boxes: list[list[float]] = []
    if len(words) == 1:
        return boxes
    for at in range(0, len(words), 5):
        sides = words[at + 1 : at + 5]
        numbers = [int(side) for side in sides if _NUMBER.fullmatch(side)]
        if len(numbers) < 4 or numbers[0] > numbers[2] or numbers[1] > numbers[3]:
            raise DataError(
                f"{where} gives {row[0]} {' '.join(words[at : at + 5])!r}, not a synset and left, top, right and"
                " bottom of a box: fetch it again"
            )
        left, top, right, bottom = numbers
        boxes.append([left, top, right + 1.0, bottom + 1.0])
    return boxes


def _annotated(root: Path, class_names: tuple[str, ...]) -> Labelled:
    """Images whose classes are in ``val_annotations.txt``: file name, class and a box on each line.

    A box is left, top, right, bottom of the first and last pixel inside it; where one lacks, there are none.
    """
    where = root / _ANNOTATIONS
    number = {name: i for i, name in enumerate(class_names)}
    paths: list[Path] = []
    labels: list[int] = []
    boxes: list[list[float]] = []
    for at, line in enumerate(where.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) < 2 or fields[1] not in number:
            raise DataError(
                f"{where}, line {at}: expected a file name and one of the training classes, got {line!r}"
            )
        path = root / "images" / fields[0]
        if not lies_in(root / "images", fields[0]):
            raise DataError(f"{where}, line {at}, names {fields[0]}, which is not in {root / 'images'}")
        paths.append(path)
        labels.append(number[fields[1]])
        if len(fields) == 6 and all(map(_NUMBER.fullmatch, map(str.strip, fields[2:]))):
            left, top, right, bottom = map(int, fields[2:])
            boxes.append([left, top, right + 1.0, bottom + 1.0])
    known = torch.tensor(boxes) if boxes and len(boxes) == len(paths) else None
    return Labelled(Files(root, paths), torch.tensor(labels, dtype=torch.int64), class_names, known)


def _listed(part: Path, root: Path, names: list[str], class_names: tuple[str, ...]) -> Mapping[str, str] | None:
    """The synset of each picture, by its name without the ending; None where there is no list."""
    # Lists above all parts are of the validation pictures.
    for place in _places(part, root) if part.name.lower() in VALIDATION else (part,):
        if (place / _KAGGLE).is_file():
            return {row[0]: row[1].split()[0] for row in _kaggle(place / _KAGGLE)}
        for where in sorted(place.glob(_SYNSETS)):
            return _by_line(where, _text(where).split(), names)
        if (place / "val.txt").is_file():
            return _by_index(place / "val.txt", class_names)
        if (place / _NUMBERS).is_file():
            return _by_line(place / _NUMBERS, _synsets_of(place / _NUMBERS, part, root), names)
    return None


def _places(part: Path, root: Path) -> Iterator[Path]:
    """Where a list may lie: with the pictures, above them, and in a development kit."""
    above = list(root.resolve().parents)[:3]
    for place in (part, root, *above):
        yield place
        yield from sorted(kit / "data" for kit in place.glob("*devkit*") if (kit / "data").is_dir())


def _by_line(where: Path, synsets: list[str], names: list[str]) -> dict[str, str]:
    if len(synsets) != len(names):
        raise DataError(f"{where} has {len(synsets)} lines for {len(names)} pictures: it is of another folder")
    return {Path(name).stem: synset for name, synset in zip(names, synsets, strict=True)}


def _by_index(where: Path, class_names: tuple[str, ...]) -> dict[str, str]:
    """Caffe's list: numbers are positions among all synsets in their order."""
    found = {}
    for at, line in enumerate(_text(where).splitlines(), start=1):
        if not line.strip():
            continue
        name, _, index = line.rpartition(" ")
        if not _NUMBER.fullmatch(index) or not int(index) < len(class_names):
            raise DataError(
                f"{where}, line {at}: expected a file and a number below the {len(class_names)} training classes,"
                f" got {line!r}"
            )
        found[Path(name).stem] = sorted(class_names)[int(index)]
    return found


def _synsets_of(where: Path, part: Path, root: Path) -> list[str]:
    """The synsets of the development kit's numbers, which have an order of their own."""
    meta = next((place / "meta.mat" for place in _places(part, root) if (place / "meta.mat").is_file()), None)
    if meta is None:
        raise DataError(
            f"{where} numbers the classes as the development kit does: put its meta.mat beside it (or sort the"
            " pictures into folders of their synsets)"
        )

    def check(announced: Announced) -> None:
        if "synsets" not in announced:
            raise DataError(f"{meta} is not that of the development kit, which holds synsets: fetch it again")
        check_ratio(meta, sum(math.prod(shape) for shape in announced.values()), meta.stat().st_size)

    table = read_matlab(meta, ["synsets"], check, columns=["ILSVRC2012_ID", "WNID"])
    synset = dict(zip(table["ILSVRC2012_ID"].tolist(), table["WNID"].tolist(), strict=True))
    numbers = _text(where).split()
    strange = next((number for number in numbers if number not in synset), None)
    if strange is not None:
        raise DataError(f"{where} has the class {strange!r}, which {meta} does not name: fetch them again")
    return [synset[number] for number in numbers]


def _text(where: Path) -> str:
    return where.read_text(encoding="utf-8", errors="replace")


def _kaggle(where: Path) -> list[list[str]]:
    """The lines of one of Kaggle's lists that say something of a picture: its name, then synsets and boxes."""
    with where.open(newline="", encoding="utf-8", errors="replace") as file:
        try:
            return [row for row in csv.reader(file) if len(row) > 1 and _SYNSET.match(row[1])]
        except csv.Error as error:
            raise DataError(f"{where} is damaged ({error}): fetch it again") from None
