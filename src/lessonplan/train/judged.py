"""What a finished network says of every sample of a part: a table of it, and what it is most wrong about."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lessonplan.data import View
from lessonplan.data.small import small_pictures
from lessonplan.data.walk import printable
from lessonplan.files import write_atomically, write_json

MOST_COLUMNS = 100
"""Classes up to which the table has a column of probabilities for each."""
MOST_MISTAKES = 16
_TOGETHER = 4096


@dataclass(frozen=True)
class Judged:
    """A part of the data with the network's word on it.

    Attributes:
        part: ``"test"`` or ``"val"``.
        view: its samples.
        logits: ``(N, C)``, on the CPU.
        labels: ``(N,)``.
        class_names: a name a class; outputs beyond them are called by their number.
    """

    part: str
    view: View
    logits: Tensor
    labels: Tensor
    class_names: Sequence[str]

    @property
    def names(self) -> list[str]:
        """A name for every output."""
        return [*self.class_names, *map(str, range(len(self.class_names), self.logits.shape[1]))]

    def write(self, folder: Path) -> None:
        """Write ``predictions.csv`` and ``mistakes.json``, each at once or not at all.

        Raises:
            DataError: the disk is full or refuses them.
        """
        write_atomically(folder / "predictions.csv", self.table().encode("utf-8", "backslashreplace"))
        write_json(folder / "mistakes.json", self.mistakes())

    def table(self) -> str:
        """A line of CSV a sample, in the part's order.

        Columns: its row in the part; the path of its file below the data's folder, or where there is none its
        index in the data; true and predicted class; the probability of the latter; the cross-entropy; and with at
        most 100 classes the probability of each.
        """
        names, positions = self.names, torch.arange(len(self.labels))
        files = self.view.file_names(positions)
        where = list(map(printable, files)) if files is not None else list(map(str, self.view.rows.tolist()))
        shown = names if len(names) <= MOST_COLUMNS else []
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(
            ["row", "index" if files is None else "file", "true", "predicted", "confidence", "loss", *shown]
        )
        for some in positions.split(_TOGETHER):
            labels, losses = self.labels[some].tolist(), self._losses(some).tolist()
            probabilities = self.logits[some].double().softmax(1)
            for i, label, loss, row in zip(some.tolist(), labels, losses, probabilities.tolist(), strict=True):
                predicted, confidence, each = predicted_cells(row, names)
                cells = each if shown else []
                writer.writerow([i, where[i], names[label], predicted, confidence, f"{loss:.6f}", *cells])
        return out.getvalue()

    def mistakes(self) -> dict[str, Any]:
        """The samples taken for another class that have the highest loss, with small pictures as base64 PNG."""
        losses = self._losses(torch.arange(len(self.labels)))
        predicted = self.logits.argmax(1)
        wrong = (predicted != self.labels).nonzero().flatten()
        worst = wrong[losses[wrong].argsort(descending=True, stable=True)][:MOST_MISTAKES]
        files = self.view.file_names(worst)
        pictures = small_pictures(self.view.raw(worst)) if len(worst) else []
        probabilities = self.logits[worst].double().softmax(1)
        samples = [
            {
                "row": row,
                "file": None if files is None else printable(files[place]),
                "true": self.names[int(self.labels[row])],
                "predicted": self.names[int(predicted[row])],
                "probability": probabilities[place, predicted[row]].item(),
                "probability_of_true": probabilities[place, self.labels[row]].item(),
                "loss": losses[row].item(),
                "png": pictures[place],
            }
            for place, row in enumerate(worst.tolist())
        ]
        return {"part": self.part, "samples": len(self.labels), "wrong": len(wrong), "worst": samples}

    def _losses(self, rows: Tensor) -> Tensor:
        return F.cross_entropy(self.logits[rows].double(), self.labels[rows], reduction="none")


def predicted_cells(row: Sequence[float], names: Sequence[str]) -> tuple[str, str, list[str]]:
    """A sample's probabilities as cells of a table: the likeliest class, its probability, that of each class.

    >>> predicted_cells([0.25, 0.75], ["cat", "dog"])
    ('dog', '0.750000', ['0.250000', '0.750000'])
    """
    best = max(range(len(row)), key=row.__getitem__)
    return names[best], f"{row[best]:.6f}", [f"{p:.6f}" for p in row]
