"""Caltech-UCSD Birds-200-2011 as it is unpacked: image lists with classes, parts and boxes."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from lessonplan.data.base import Options, Parts
from lessonplan.data.encoded import Files, Labelled, build
from lessonplan.data.walk import lies_in
from lessonplan.errors import DataError

_IMAGES, _SPLIT, _BOXES = "images.txt", "train_test_split.txt", "bounding_boxes.txt"
_LABELS, _CLASSES = "image_class_labels.txt", "classes.txt"


def cub_root(path: Path) -> Path | None:
    """The folder with ``images.txt`` and ``images/``, if it is here or in a subfolder ``CUB_200_2011``."""
    for root in (path, path / "CUB_200_2011"):
        if (root / _IMAGES).is_file() and (root / "images").is_dir():
            return root
    return None


def from_cub(root: Path, options: Options) -> Parts:
    """Training and test source of the birds; both have ``boxes`` where ``bounding_boxes.txt`` is there.

    Every list has one line for an image, its number first (or a class, in ``classes.txt``): ``images.txt`` the
    path below ``images``, ``train_test_split.txt`` 1 for training, ``image_class_labels.txt`` the class,
    ``bounding_boxes.txt`` left, top, width and height in pixels. Without the lists of classes, the folder of an
    image is its class.

    Raises:
        DataError: a list that lacks, is damaged, or names what is not there; unreadable images.
    """
    paths = {key: fields[0] for key, fields in _read(root / _IMAGES, 1).items()}
    training = _read(root / _SPLIT, 1)
    names = _class_names(root, paths)
    boxes = {key: _box(root, key, fields) for key, fields in _read(root / _BOXES, 4).items()} if (
        root / _BOXES
    ).is_file() else None  # fmt: skip
    for which, found in ((_SPLIT, training), (_BOXES, boxes)):
        lacking = next((key for key in paths if found is not None and key not in found), None)
        if lacking is not None:
            raise DataError(f"{root / which} has no line for image {lacking} ({paths[lacking]}): unpack it again")
    gone = next((name for name in paths.values() if not lies_in(root / "images", name)), None)
    if gone is not None:
        raise DataError(f"{root / _IMAGES} names {gone}, which is not in {root / 'images'}: unpack it again")
    classes = tuple(sorted(set(names.values())))

    def part(flag: str) -> Labelled | None:
        keys = [key for key in paths if training[key][0] == flag]
        if not keys:
            return None
        labels = torch.tensor([classes.index(names[key]) for key in keys], dtype=torch.int64)
        files = Files(root / "images", [root / "images" / paths[key] for key in keys])
        return Labelled(files, labels, classes, torch.tensor([boxes[k] for k in keys]) if boxes else None)

    train = part("1")
    if train is None:
        raise DataError(f"{root / _SPLIT} keeps no image for training (1 behind its number)")
    return build(train, part("0"), options)


def _class_names(root: Path, paths: dict[str, str]) -> dict[str, str]:
    """The name of each image's class."""
    if not ((root / _LABELS).is_file() and (root / _CLASSES).is_file()):
        return {key: path.split("/")[0] for key, path in paths.items()}
    classes = _read(root / _CLASSES, 1)
    labels = _read(root / _LABELS, 1)
    wrong = next((k for k in paths if k not in labels or labels[k][0] not in classes), None)
    if wrong is not None:
        raise DataError(f"{root / _LABELS} gives image {wrong} no class of {_CLASSES}: unpack it again")
    return {key: classes[labels[key][0]][0] for key in paths}


def _box(root: Path, key: str, fields: list[str]) -> list[float]:
    """Left, top, right, bottom."""
    try:
        x, y, width, height = map(float, fields)
    except ValueError:
        x = y = width = height = math.nan
    if not (width > 0 and height > 0 and math.isfinite(x + y + width + height)):
        raise DataError(f"{root / _BOXES} gives image {key} the box {' '.join(fields)}: unpack it again")
    return [x, y, x + width, y + height]


def _read(path: Path, count: int) -> dict[str, list[str]]:
    """Lines of a number and ``count`` fields behind it, by number."""
    if not path.is_file():
        raise DataError(f"{path} is missing: unpack the whole archive of CUB-200-2011")
    found = {}
    for at, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        fields = line.split()
        if fields and len(fields) != count + 1:
            raise DataError(f"{path}, line {at}: expected a number and {count} more, got {line!r}")
        if fields:
            found[fields[0]] = fields[1:]
    return found
