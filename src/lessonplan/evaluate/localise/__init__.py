"""Where a network sees what it names: activation maps, boxes, and a set with boxes where none is at hand."""

from lessonplan.evaluate.localise.boxes import (
    BoxAccuracy,
    boxes_from_maps,
    iou,
    localisation_accuracy,
    max_box_accuracy,
)
from lessonplan.evaluate.localise.canvas import paste_on_clutter
from lessonplan.evaluate.localise.maps import cam, grad_cam, resize_maps

__all__ = [
    "BoxAccuracy",
    "boxes_from_maps",
    "cam",
    "grad_cam",
    "iou",
    "localisation_accuracy",
    "max_box_accuracy",
    "paste_on_clutter",
    "resize_maps",
]
