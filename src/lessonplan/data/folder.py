"""Folders of images: a class is a subfolder; Tiny-ImageNet-200's annotated validation part is understood."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from lessonplan.data.base import Options, Parts
from lessonplan.data.encoded import Files, Labelled, build
from lessonplan.data.kinds import IMAGE_ENDINGS
from lessonplan.errors import DataError

TRAIN, TESTS = ("train", "training"), ("test", "testing", "val", "valid", "validation")
_ANNOTATIONS = "val_annotations.txt"


def from_images(root: Path, options: Options) -> Parts:
    """Sources from a folder of images: CUB-200-2011 as it is distributed, or what ``from_folder`` reads."""
    from lessonplan.data.cub import cub_root, from_cub  # which builds on this module

    birds = cub_root(root)
    return from_folder(root, options) if birds is None else from_cub(birds, options)


def from_folder(root: Path, options: Options) -> Parts:
    """Sources from a folder ``CLASS/*.png``, or ``train/CLASS/*`` beside ``test/CLASS/*`` or ``val/CLASS/*``.

    Raises:
        DataError: no such folder, no class folders, a class without images, unreadable images.
    """
    if not root.is_dir():
        raise DataError(f"{root} does not exist or is no folder: give a folder with one subfolder per class")
    names = {entry.name.lower(): entry for entry in root.iterdir() if entry.is_dir()}
    training = next((names[n] for n in TRAIN if n in names), None)
    if training is None:
        return build(class_folders(root), None, options)
    tests = [names[n] for n in TESTS if n in names]
    annotated = next((t for t in tests if (t / _ANNOTATIONS).is_file()), None)
    train = class_folders(training)
    if annotated is not None:
        test: Labelled | None = annotated_folder(annotated, train.class_names)
    else:
        test = class_folders(tests[0]) if tests else None
    parts = build(train, test, options)
    used = annotated or (tests[0] if tests else None)
    notes: dict[str, Any] = {"test_folder": used.name} if used is not None else {}
    unused = [t.name for t in tests if t is not used]
    parts.notes |= notes | ({"unused_folders": unused} if unused else {})
    return parts


def class_folders(root: Path) -> Labelled:
    """The images below each subfolder, classes and files in the order of their names."""
    classes = sorted(e for e in root.iterdir() if e.is_dir() and not e.name.startswith("."))
    if not classes:
        raise DataError(f"{root} has no subfolders: put the images of each class into a folder named after it")
    paths: list[Path] = []
    labels: list[int] = []
    for number, folder in enumerate(classes):
        found = image_files(folder)
        if not found:
            raise DataError(f"the class folder {folder} holds no images: add some or remove the folder")
        paths += found
        labels += [number] * len(found)
    names = tuple(folder.name for folder in classes)
    return Labelled(Files(root, paths), torch.tensor(labels, dtype=torch.int64), names)


def image_files(folder: Path) -> list[Path]:
    """All image files below a folder, hidden ones excepted, in a fixed order."""
    found: list[Path] = []
    for where, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith(".")]
        found += [
            Path(where, f) for f in files if not f.startswith(".") and Path(f).suffix.lower() in IMAGE_ENDINGS
        ]
    return sorted(found)


def annotated_folder(root: Path, class_names: tuple[str, ...]) -> Labelled:
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
        if not path.is_file():
            raise DataError(f"{where}, line {at}, names {fields[0]}, which is not in {root / 'images'}")
        paths.append(path)
        labels.append(number[fields[1]])
        if len(fields) == 6 and all(value.strip().isdigit() for value in fields[2:]):
            left, top, right, bottom = map(int, fields[2:])
            boxes.append([left, top, right + 1.0, bottom + 1.0])
    known = torch.tensor(boxes) if boxes and len(boxes) == len(paths) else None
    return Labelled(Files(root, paths), torch.tensor(labels, dtype=torch.int64), class_names, known)
