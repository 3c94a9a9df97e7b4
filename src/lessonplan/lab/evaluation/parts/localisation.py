"""The part of an evaluation that asks where the network looks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.data import Data
from lessonplan.errors import ConfigError, DataError
from lessonplan.evaluate.localise import (
    boxes_from_maps,
    cam,
    grad_cam,
    localisation_accuracy,
    max_box_accuracy,
    paste_on_clutter,
    resize_maps,
)
from lessonplan.evaluate.network import predict_logits
from lessonplan.evaluation import Evaluation
from lessonplan.lab.evaluation.pictures import FOUND_COLOUR, TRUE_COLOUR, map_pictures
from lessonplan.lab.evaluation.subject import Subject
from lessonplan.lab.evaluation.work import BATCH, Work
from lessonplan.network.untouched import evaluating

_KNOWN = "the true boxes of the data"
_WORDS = {"cam": "CAM", "grad-cam": "Grad-CAM"}


def run(work: Work) -> dict[str, Any]:
    """Boxes from class activation maps, beside the data's own boxes or on canvases with clutter.

    The threshold of the boxes is chosen on training images (MaxBoxAcc); top-1 localisation, where class and box
    must be right, is judged with it.

    Raises:
        ConfigError: the network has no feature maps.
    """
    limit = work.options.curve_limit
    method = _method(work.subject)
    chosen = _boxed(work, "train", limit)
    canvases, boxes, labels, about = _boxed(work, work.options.on, limit)
    work.steps.begin(f"{method} maps", len(canvases) + len(chosen[0]))
    threshold = max_box_accuracy(_maps(work, method, chosen[0], chosen[2]), chosen[1]).threshold
    maps = _maps(work, method, canvases, labels)
    best = max_box_accuracy(maps, boxes)
    correct = predict_logits(work.subject.model, canvases, batch_size=BATCH).argmax(1) == labels
    known = torch.ones(len(labels), dtype=torch.bool)
    measures = {
        "localisation_accuracy": localisation_accuracy(maps, boxes, correct, threshold),
        "localisation_known_accuracy": localisation_accuracy(maps, boxes, known, threshold),
        "max_box_accuracy": best.best,
    }
    names = work.subject.data.class_names
    pictures = map_pictures(
        canvases,
        maps,
        [names[label] for label in labels.tolist()],
        "Where the network looks",
        f"Each image, and the map of its true class ({_WORDS[method]}); true box red, found one green.",
        [*((one, TRUE_COLOUR) for one in boxes.unbind(1)), (boxes_from_maps(maps, threshold), FOUND_COLOUR)],
    )
    return {
        "method": method,
        "boxes": about,
        "samples": len(canvases),
        "threshold": threshold,
        "correct": correct.double().mean().item(),
        "curve": [[t, value] for t, value in best.curve.items()],
        "whole_image": localisation_accuracy(torch.zeros_like(maps), boxes, known, 0.0),
        "measures": measures,
        "pictures": pictures,
    }


def check(subject: Subject, options: Evaluation) -> None:
    """Boxes must be there where only the data's own will do.

    Raises:
        DataError: they are not.
    """
    if options.true_boxes:
        check_boxes(subject.data, ("train", options.on))


def check_boxes(data: Data, parts: Iterable[str]) -> None:
    """See that parts of the data have boxes of their own.

    Raises:
        DataError: one has none.
    """
    for name in parts:
        view = getattr(data, name)
        if view is None or view.boxes is None or bool(view.boxes.isnan().all()):
            raise DataError(
                f"true_boxes: the {name} part has no boxes (Kaggle has those of ImageNet, LOC_train_solution.csv"
                " and LOC_val_solution.csv): put the lists beside the pictures, or leave true_boxes out"
            )


def _method(subject: Subject) -> str:
    """``"cam"`` where the network allows it, ``"grad-cam"`` otherwise.

    Raises:
        ConfigError: it has no feature maps.
    """
    one = torch.full((1, *subject.data.shape), 0.5, device=subject.device)
    try:
        cam(subject.model, one)
        return "cam"
    except ConfigError:
        grad_cam(subject.model, one)
        return "grad-cam"


def _maps(work: Work, method: str, images: Tensor, labels: Tensor) -> Tensor:
    parts = []
    for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        x = x.to(work.subject.device)
        found = cam(work.subject.model, x, y) if method == "cam" else grad_cam(work.subject.model, x, None, y)
        parts.append(resize_maps(found, (x.shape[2], x.shape[3])).cpu())
        work.steps.advance(len(x))
    return torch.cat(parts)


def _boxed(work: Work, on: str, limit: int) -> tuple[Tensor, Tensor, Tensor, str]:
    """Images, their boxes ``(N, B, 4)`` (top, bottom, left, right), true labels, where the boxes come from."""
    subject = work.subject
    view = subject.view(on)
    rows = subject.rows(view, limit, work.options.seed)
    if view.boxes is not None:
        every = view.boxes[rows].view(len(rows), -1, 4)
        known = ~every[:, 0, 0].isnan()
        left, top, right, bottom = every[known].round().long().unbind(2)
        boxes = torch.stack([top, torch.maximum(bottom, top + 1), left, torch.maximum(right, left + 1)], 2)
        rows = rows[known]
        if len(rows):
            return subject.samples(view, rows), boxes, view.clean_labels[rows], _KNOWN
        rows = subject.rows(view, limit, work.options.seed)
    images, labels = subject.samples(view, rows), view.clean_labels[rows]
    height, width = images.shape[2:]
    if _takes(subject.model, torch.zeros(1, images.shape[1], 2 * height, 2 * width, device=subject.device)):
        size, scale, about = (
            (2 * height, 2 * width),
            1.0,
            "images pasted on cluttered canvases of twice their side",
        )
    else:
        size, scale, about = (height, width), 0.5, "images pasted on cluttered canvases at half their size"
    piece = max(1, min(height, width) // 5)
    generator = work.generator("canvas", on)
    canvases, boxes = paste_on_clutter(images, size, scales=(scale,), piece=piece, generator=generator)
    return canvases, boxes[:, None], labels, about


@torch.no_grad()
def _takes(model: nn.Module, x: Tensor) -> bool:
    """Whether a network takes images of this size."""
    with evaluating(model):
        try:
            model(x)
        except (RuntimeError, ValueError, AssertionError):  # what networks of a fixed size raise differs
            return False
    return True
