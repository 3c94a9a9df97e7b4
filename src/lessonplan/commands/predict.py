"""``lessonplan predict``."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from lessonplan.commands.answer import TALK, Answer, Talk
from lessonplan.commands.common import Flat, Folder
from lessonplan.data.kinds import IMAGE_ENDINGS, SOUND_ENDINGS
from lessonplan.data.walk import files_below, in_words, printable, strange_endings, to_convert
from lessonplan.errors import ConfigError, DataError, in_short, visible
from lessonplan.files import growing
from lessonplan.progress import Line
from lessonplan.stores.address import is_url

if TYPE_CHECKING:
    from torch import Tensor

    from lessonplan.train import Classifier


@dataclass(frozen=True)
class Predict:
    """Options of ``lessonplan predict``."""

    trained: Annotated[Folder, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of a finished run, or its URL"""
    images: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE_OR_FOLDER")]
    """an image (a recording, for a network of recordings), or a folder that is searched for them; for a network of
    features a table as for csv:PATH, whose columns are found by their names"""
    out: Path = Path("predictions.csv")
    """CSV file to write: file (or row), class, probability, and the probability of each class"""
    talk: Annotated[Talk, Flat] = TALK

    def run(self) -> Answer:
        """Classify every readable image; name the others."""
        from lessonplan.train import load

        classifier = load(self.trained)
        if len(classifier.preprocessing.shape) == 1:
            return self._classify(classifier, *_rows(self._path("csv:"), classifier), "row", [])
        sound = classifier.preprocessing.audio is not None
        kind, endings = ("recording", SOUND_ENDINGS) if sound else ("image", IMAGE_ENDINGS)
        paths = _files(self._path(), kind, endings)
        left_out: list[dict[str, str]] = []
        tried = ((printable(str(path)), _read(path, classifier, left_out)) for path in paths)
        return self._classify(classifier, len(paths), tried, kind, left_out)

    def _path(self, kind: str = "") -> Path:
        """What is to be classified, behind the kind of data that it is.

        Raises:
            ConfigError: it is a URL.
        """
        if is_url(self.images):
            raise ConfigError(f"{self.images} is a URL: give a path of this machine")
        return Path(self.images.removeprefix(kind) if not Path(self.images).exists() else self.images)

    def _classify(
        self,
        classifier: Classifier,
        count: int,
        samples: Iterable[tuple[str, Tensor | None]],
        kind: str,
        left_out: list[dict[str, str]],
    ) -> Answer:
        """Classify samples of one row each as they come; those that are None could not be read."""
        import torch

        from lessonplan.train.judged import predicted_cells

        called = "row" if kind == "row" else "file"
        classified, tried = 0, iter(samples)
        told: list[dict[str, Any]] = []  # filled for scripts alone: there may be millions
        with ExitStack() as stack, Line("classifying", total=count, unit=f"{kind}s") as line:
            writer: Any = None
            while some := list(islice(tried, _TOGETHER)):
                line.update(advance=len(some))
                read = [(name, x) for name, x in some if x is not None]
                if not read:
                    continue
                if writer is None:
                    file = stack.enter_context(growing(self.out))
                    writer = csv.writer(file)
                    writer.writerow([called, "class", "probability", *classifier.class_names])
                rows = classifier.probabilities(torch.cat([x for _, x in read])).tolist()
                for (name, _), row in zip(read, rows, strict=True):
                    best, probability, each = predicted_cells(row, classifier.class_names)
                    if self.talk.json:
                        shares = dict(zip(classifier.class_names, row, strict=True))
                        told.append({called: name, "class": best, "probabilities": shares})
                    writer.writerow([name, best, probability, *each])
                file.flush()  # what is done stays, whatever comes
                classified += len(read)
        if not classified:
            raise DataError(f"none of the {count} files in {self.images} can be read as {kind}s")
        summary = f"{classified} {kind}s classified, {count - classified} unreadable: {self.out}"
        found = {"file": self.out, "classified": classified, "left_out": left_out, "predictions": told}
        return Answer(found, lambda: print(summary))


def _rows(path: Path, classifier: Classifier) -> tuple[int, Iterable[tuple[str, Tensor | None]]]:
    """The rows of a table as the network takes them."""
    from lessonplan.data.base import Options
    from lessonplan.data.delimited import features

    taken = classifier.preprocessing
    names, raw, left = features(path, taken.shape[0], Options(), taken.columns)
    if left:
        print(visible(f"lessonplan: columns that the network does not take: {in_short(left)}"), file=sys.stderr)
    return len(names), zip(names, classifier.preprocessing(raw).split(1), strict=True)


_TOGETHER = 64


def _read(path: Path, classifier: Classifier, left_out: list[dict[str, str]]) -> Tensor | None:
    """A file as the network takes it; one that cannot be read is named, and costs no other."""
    try:
        return classifier.preprocessing([path])
    except Exception as error:  # whatever a damaged file makes a reader raise
        reason = str(error).partition("\n")[0]
        left_out.append({"file": printable(str(path)), "reason": reason})
        print(visible(f"lessonplan: {printable(str(path))} is left out: {reason}"), file=sys.stderr)
        return None


def _files(path: Path, kind: str, endings: frozenset[str]) -> list[Path]:
    if path.is_dir():
        found = files_below(path, endings)
        strange = in_words(strange_endings(found.others)) + to_convert(found.others)
        if not found.files:
            there = f", but files ending in {strange}" if strange else ""
            raise DataError(f"{path} holds no {kind}s ({', '.join(sorted(endings))}){there}")
        if strange:
            print(visible(f"lessonplan: left out for their endings: {strange}"), file=sys.stderr)
        return found.files
    if not path.is_file():
        raise DataError(f"{path} does not exist, or is no file: give a file or a folder of {kind}s")
    return [path]
