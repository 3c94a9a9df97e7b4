"""What the image and the label are called in items and tables of others."""

from __future__ import annotations

from collections.abc import Container, Iterable

IMAGES = ("image", "img", "pixel_values", "images", "jpg", "jpeg", "png", "webp")
LABELS = ("label", "fine_label", "labels", "target", "targets", "class", "cls", "y")


def column_of(present: Container[str], names: Iterable[str]) -> str | None:
    """The first of the names that is there.

    >>> column_of({"y": 1, "img": 2}, LABELS)
    'y'
    """
    return next((name for name in names if name in present), None)
