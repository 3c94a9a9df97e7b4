"""``lessonplan predict``."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lessonplan.data.kinds import IMAGE_ENDINGS, SOUND_ENDINGS
from lessonplan.errors import DataError


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
        from lessonplan.train import load

        classifier = load(self.trained)
        sound = classifier.preprocessing.audio is not None
        kind, endings = ("recording", SOUND_ENDINGS) if sound else ("image", IMAGE_ENDINGS)
        paths = _files(self.images, kind, endings)
        readable, unreadable = [], []
        for path in paths:
            try:
                classifier.preprocessing([path])
                readable.append(path)
            except DataError:
                unreadable.append(path)
        for path in unreadable:
            print(
                f"lessonplan: {path} cannot be read as a{'n' if kind == 'image' else ''} {kind} and is left out",
                file=sys.stderr,
            )
        if not readable:
            raise DataError(f"none of the {len(paths)} files in {self.images} can be read as {kind}s")
        probabilities = classifier.predict(readable)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with self.out.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "class", "probability", *classifier.class_names])
            for path, row in zip(readable, probabilities.tolist(), strict=True):
                best = max(range(len(row)), key=row.__getitem__)
                writer.writerow(
                    [path, classifier.class_names[best], f"{row[best]:.6f}", *(f"{p:.6f}" for p in row)]
                )
        print(f"{len(readable)} {kind}s classified, {len(unreadable)} unreadable: {self.out}")
        return 0


def _files(path: Path, kind: str, endings: frozenset[str]) -> list[Path]:
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix.lower() in endings)
        if not files:
            raise DataError(f"{path} holds no {kind}s ({', '.join(sorted(endings))})")
        return files
    if not path.exists():
        raise DataError(f"{path} does not exist: give a file or a folder of {kind}s")
    return [path]
