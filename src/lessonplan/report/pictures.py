"""Stored PNGs as data URIs, so that a page needs no other file."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from lessonplan.errors import LessonplanWarning
from lessonplan.report.reading import read_json_if_there

_LONGEST = 80  # characters of a file's name
_HEAVY = 250_000  # bytes; heavier pictures are packed smaller
_WIDEST = 1400  # px, twice the width a page gives a picture
_LIGHT = 4000  # characters of a small picture; heavier ones, photographs, are packed smaller
SMOOTH = 64
"""Pixels on the longer side below which a picture is enlarged pixel for pixel."""


@dataclass(frozen=True)
class Picture:
    """A picture inside the page; ``width`` and ``height`` in px are those of the file as embedded."""

    title: str
    caption: str
    uri: str
    width: int
    height: int


def embed(path: Path) -> tuple[str, int, int] | None:
    """A picture as ``(data URI, width, height)``, or None with a warning if it cannot be read.

    Pictures of more than 250 kB are scaled to at most 1400 px of width and stored as WebP.
    """
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            image.load()
            kind, size = "image/png", image.size
            if len(content) > _HEAVY:
                packed = image.convert("RGB")
                packed.thumbnail((_WIDEST, 4 * _WIDEST))
                buffer = io.BytesIO()
                packed.save(buffer, format="WEBP", quality=88)
                content, kind, size = buffer.getvalue(), "image/webp", packed.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        warnings.warn(f"left the picture {path.name} out of the page: {error}", LessonplanWarning, stacklevel=2)
        return None
    return f"data:{kind};base64,{base64.b64encode(content).decode()}", *size


def file_stem(name: str) -> str:
    """A name reduced to what file names may hold; one that loses by it gets a hash, to stay apart from others.

    >>> file_stem("sum-k4"), file_stem("sum: k=4")
    ('sum-k4', 'sum-k-4-e3ce7f')
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:_LONGEST]
    return stem if stem and stem == name else f"{stem or 'name'}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def read_pictures(folder: Path, order: Sequence[str] = ()) -> list[Picture]:
    """All ``*.png`` of a folder with the title and caption of the ``.json`` beside each.

    Args:
        folder: may be missing: then there are no pictures.
        order: names (methods) whose pictures come first, in this order; a picture of such a name without a
            title of its own is titled with it. The others follow by file name.
    """
    stems = {file_stem(name): name for name in reversed(order)}
    found = []
    for path in sorted(folder.glob("*.png")):
        about = read_json_if_there(path.with_suffix(".json"))
        name = about.get("method", stems.get(path.stem))
        found.append((order.index(name) if name in order else len(order), path, name, about))
    pictures = []
    for position, path, name, about in sorted(found, key=lambda one: one[:2]):
        embedded = embed(path)
        if embedded is None:
            continue
        title = str(about.get("title") or (name if position < len(order) else path.stem))
        caption = str(about.get("caption") or "").removeprefix(f"{title}: ")
        pictures.append(Picture(title, caption, *embedded))
    return pictures


def stored_picture(png: Any) -> tuple[str | None, int, int]:
    """A picture that a file of ours holds as base64 PNG, as a data URI with its size; nothing where it is none."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(str(png or ""), validate=True)), formats=("PNG",)) as image:
            return f"data:image/png;base64,{png}", *image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # what is no base64 is a ValueError
        return None, 0, 0


def small_picture(png: Any) -> tuple[str | None, int, int]:
    """As ``stored_picture``; a photograph, of which a page may have dozens, as WebP."""
    uri, width, height = stored_picture(png)
    if uri is None or len(uri) <= _LIGHT:
        return uri, width, height
    buffer = io.BytesIO()
    try:
        with Image.open(io.BytesIO(base64.b64decode(str(png))), formats=("PNG",)) as image:
            image.convert("RGB").save(buffer, format="WEBP", quality=80)
    except (OSError, SyntaxError, ValueError):  # its pixels are damaged
        return None, 0, 0
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", width, height
