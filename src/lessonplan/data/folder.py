"""Folders of images: a class is a subfolder, and the parts of a set are folders of such folders."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lessonplan.data.base import Options, Parts
from lessonplan.data.encoded import Files, Labelled, build
from lessonplan.data.imagenet import flat_part, listed_boxes
from lessonplan.data.join import VALIDATION
from lessonplan.data.kinds import IMAGE_ENDINGS
from lessonplan.data.walk import (
    any_below,
    files_below,
    in_words,
    left_out,
    printable,
    subfolders,
    to_convert,
    unwanted,
)
from lessonplan.errors import DataError
from lessonplan.progress import step

TRAIN, TESTS = ("train", "training"), ("test", "testing")
_PARTS = frozenset({*TRAIN, *TESTS, *VALIDATION})


def from_images(root: Path, options: Options) -> Parts:
    """Sources from a folder of images: CUB-200-2011 as it is distributed, or what ``from_folder`` reads."""
    from lessonplan.data.cub import cub_root, from_cub  # which builds on this module

    birds = cub_root(root)
    return from_folder(root, options) if birds is None else from_cub(birds, options)


def from_folder(root: Path, options: Options) -> Parts:
    """Sources from a folder ``CLASS/*.png``, or ``train/CLASS/*`` beside ``test/`` and ``val/``.

    With ``test/CLASS/*`` and ``val/CLASS/*`` the latter decides during training; one of them alone is for testing.
    Parts without classes (pictures that lie loose) are unlabelled and left out, unless a list says what they show:
    Tiny ImageNet's ``val_annotations.txt`` and the lists of ``lessonplan.data.imagenet``.

    Raises:
        DataError: no such folder, no class folders, a class without images, unreadable images.
    """
    if not root.is_dir():
        raise DataError(f"{root} does not exist or is no folder: give a folder with one subfolder per class")
    layout = _layout(root)
    if layout.train is None:
        layout.take(root, layout.classes)
        return layout.finish(build(layout.read["classes"], None, options))
    train = layout.take(layout.train, subfolders(layout.train))
    for part in layout.parts:
        layout.take_part(part, train.class_names)
    labelled = {name: layout.read[name] for name in (*TESTS, *VALIDATION) if name in layout.read}
    names = list(labelled)
    test = names[0] if names else None
    validation = next((n for n in names[1:] if n in VALIDATION), None) if test in TESTS else None
    parts = build(
        train,
        labelled[test] if test is not None else None,
        options,
        labelled[validation] if validation is not None else None,
    )
    layout.used(test, validation)
    return layout.finish(parts)


def among_classes(root: Path, place: Path) -> bool:
    """Whether what is written to a folder ``place`` would be read as a class, or as samples of one."""
    from lessonplan.data.cub import cub_root  # which builds on this module

    place = place.resolve()
    if not root.is_dir() or not place.is_relative_to(root.resolve()) or cub_root(root) is not None:
        return False
    layout = _layout(root)
    read = [root] if layout.train is None else [layout.train, *layout.parts]
    within = [place.relative_to(part) for part in map(Path.resolve, read) if place.is_relative_to(part)]
    return any(not any(map(unwanted, below.parts)) for below in within)  # hidden folders are not read


@dataclass
class _Layout:
    """What a folder holds, and what was found while reading it.

    Attributes:
        classes: class folders, where the folder has no parts.
        train, parts: the training folder and the other parts.
        read: the parts that were read, by name.
        notes: for the description of the data.
        others: files that are no images to us, by ending.
    """

    root: Path
    classes: list[Path] = field(default_factory=list)
    train: Path | None = None
    parts: list[Path] = field(default_factory=list)
    read: dict[str, Labelled] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)

    def take(self, part: Path, classes: list[Path]) -> Labelled:
        """Read class folders."""
        found, others = _class_folders(part, classes, self.root)
        self.others += others
        self.read["classes" if part == self.root else part.name.lower()] = found
        return found

    def take_part(self, part: Path, class_names: tuple[str, ...]) -> None:
        """Read a part beside the training part; without labels it is noted."""
        name, classes = part.name.lower(), subfolders(part)
        listed = flat_part(part, self.root, class_names)
        if listed is not None:
            self.read[name] = listed
            return
        filled = [folder for folder in classes if any_below(folder, IMAGE_ENDINGS)]
        # One folder that is no class, such as test/images, is a place for pictures.
        if not filled or (len(filled) == 1 and printable(filled[0].name) not in class_names):
            if any_below(part, IMAGE_ENDINGS):
                self.notes.setdefault("unlabelled_folders", []).append(part.name)
            return
        self.take(part, filled)

    def used(self, test: str | None, validation: str | None) -> None:
        """Note which folders are what."""
        named = {part.name.lower(): part.name for part in self.parts}
        if test is not None:
            self.notes["test_folder"] = named[test]
        if validation is not None:
            self.notes["validation_folder"] = named[validation]
        unused = [part.name for part in self.parts if part.name.lower() not in (test, validation)]
        if unused:
            self.notes["unused_folders"] = [*unused, *self.notes.get("unused_folders", [])]

    def finish(self, parts: Parts) -> Parts:
        """The sources, with what there is to say of them."""
        if self.others:
            self.notes["other_endings"] = left_out(self.others, self.root)
        parts.notes |= self.notes
        return parts


def _layout(root: Path) -> _Layout:
    """Whether a folder holds classes, or parts that hold classes."""
    folders = subfolders(root)
    parts = {folder.name.lower(): folder for folder in folders if folder.name.lower() in _PARTS}
    training = next((parts[name] for name in TRAIN if name in parts), None)
    filled = [f for f in folders if f not in parts.values() and any_below(f, IMAGE_ENDINGS)]
    if training is None:
        if parts and not filled and any(any_below(part, IMAGE_ENDINGS) for part in parts.values()):
            raise DataError(f"{root} has {', '.join(sorted(parts))} and no train: name the training part so")
        return _Layout(root, folders)
    others = [part for part in parts.values() if part != training]
    inner = {printable(f.name) for f in subfolders(training) if any_below(f, IMAGE_ENDINGS)}
    if not inner and not filled:
        raise DataError(
            f"{training} has no subfolders with images: put the images of each class into a folder named after it"
        )
    if filled:
        # A class may be called train; it is the training part where another part has the same classes.
        held = {printable(f.name) for part in others for f in subfolders(part)}
        if not inner & held:
            return _Layout(root, folders)
    layout = _Layout(root, train=training, parts=others)
    if filled:
        layout.notes["unused_folders"] = [folder.name for folder in filled]
    return layout


def _class_folders(root: Path, classes: list[Path], above: Path) -> tuple[Labelled, Counter[str]]:
    """The images of class folders of a part, called by their paths below what is above it."""
    if not classes:
        raise DataError(f"{root} has no subfolders: put the images of each class into a folder named after it")
    paths: list[Path] = []
    labels: list[int] = []
    others: Counter[str] = Counter()
    numbers: dict[str, int] = {}
    with step("listing pictures", len(classes), "folders") as line:
        for folder in classes:
            found = files_below(folder, IMAGE_ENDINGS, apart=classes)
            others += found.others
            if not found.files:
                strange = in_words(found.others)
                what = f"no images we read, but files ending in {strange}" if strange else "no images"
                remedy = f"add some or remove the folder{to_convert(found.others)}"
                raise DataError(f"the class folder {folder} holds {what}: {remedy}")
            number = numbers.setdefault(printable(folder.name), len(numbers))
            paths += found.files
            labels += [number] * len(found.files)
            line.update(advance=1)
    names, numbered = tuple(numbers), torch.tensor(labels, dtype=torch.int64)
    return Labelled(Files(above, paths), numbered, names, listed_boxes(root, above, paths, names)), others
