"""``lessonplan predict``."""

from __future__ import annotations

import csv
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from lessonplan.data.kinds import IMAGE_ENDINGS, SOUND_ENDINGS
from lessonplan.data.walk import files_below, in_words, printable, strange_endings
from lessonplan.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from lessonplan.train import Classifier


@dataclass(frozen=True)
class Predict:
    """Options of ``lessonplan predict``."""

    trained: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of a finished run"""
    images: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE_OR_FOLDER")]
    """an image (a recording, for a network of recordings), or a folder that is searched for them"""
    out: Path = Path("predictions.csv")
    """CSV file to write: file, class, probability, and the probability of each class"""

    def run(self) -> int:
        """Classify every readable image; name the others."""
        import torch

        from lessonplan.train import load
        from lessonplan.train.judged import predicted_cells

        classifier = load(self.trained)
        sound = classifier.preprocessing.audio is not None
        kind, endings = ("recording", SOUND_ENDINGS) if sound else ("image", IMAGE_ENDINGS)
        paths = _files(self.images, kind, endings)
        classified = 0
        with ExitStack() as stack:
            writer: Any = None
            for start in range(0, len(paths), _TOGETHER):
                tried = [(path, _read(path, classifier)) for path in paths[start : start + _TOGETHER]]
                read = [(path, x) for path, x in tried if x is not None]
                if not read:
                    continue
                if writer is None:
                    self.out.parent.mkdir(parents=True, exist_ok=True)
                    file = stack.enter_context(self.out.open("w", newline="", encoding="utf-8"))
                    writer = csv.writer(file)
                    writer.writerow(["file", "class", "probability", *classifier.class_names])
                rows = classifier.probabilities(torch.cat([x for _, x in read])).tolist()
                for (path, _), row in zip(read, rows, strict=True):
                    name, probability, each = predicted_cells(row, classifier.class_names)
                    writer.writerow([printable(str(path)), name, probability, *each])
                file.flush()  # what is done stays, whatever comes
                classified += len(read)
        if not classified:
            raise DataError(f"none of the {len(paths)} files in {self.images} can be read as {kind}s")
        print(f"{classified} {kind}s classified, {len(paths) - classified} unreadable: {self.out}")
        return 0


_TOGETHER = 64


def _read(path: Path, classifier: Classifier) -> Tensor | None:
    """A file as the network takes it; one that cannot be read is named, and costs no other."""
    try:
        return classifier.preprocessing([path])
    except Exception as error:  # whatever a damaged file makes a reader raise
        print(
            f"lessonplan: {printable(str(path))} is left out: {str(error).partition(chr(10))[0]}", file=sys.stderr
        )
        return None


def _files(path: Path, kind: str, endings: frozenset[str]) -> list[Path]:
    if path.is_dir():
        found = files_below(path, endings)
        strange = in_words(strange_endings(found.others))
        if not found.files:
            there = f", but files ending in {strange}" if strange else ""
            raise DataError(f"{path} holds no {kind}s ({', '.join(sorted(endings))}){there}")
        if strange:
            print(f"lessonplan: left out for their endings: {strange}", file=sys.stderr)
        return found.files
    if not path.exists():
        raise DataError(f"{path} does not exist: give a file or a folder of {kind}s")
    return [path]
