"""Stored PNGs as data URIs, so that a page needs no other file."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from lessonplan.errors import LessonplanWarning
from lessonplan.report.reading import read_json_if_there

_HEAVY = 250_000  # bytes; heavier pictures are packed smaller
_WIDEST = 1400  # px, twice the width a page gives a picture


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
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            kind, size = image.get_format_mimetype() or "image/png", image.size
            if len(content) > _HEAVY:
                packed = image.convert("RGB")
                packed.thumbnail((_WIDEST, 4 * _WIDEST))
                buffer = io.BytesIO()
                packed.save(buffer, format="WEBP", quality=88)
                content, kind, size = buffer.getvalue(), "image/webp", packed.size
    except (OSError, UnidentifiedImageError, ValueError) as error:
        warnings.warn(f"left the picture {path.name} out of the page: {error}", LessonplanWarning, stacklevel=2)
        return None
    return f"data:{kind};base64,{base64.b64encode(content).decode()}", *size


def file_stem(name: str) -> str:
    """A method's name reduced to what file names may hold.

    >>> file_stem("sum: k=4")
    'sum-k-4'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")


def read_pictures(folder: Path, order: Sequence[str] = ()) -> list[Picture]:
    """All ``*.png`` of a folder with the title and caption of the ``.json`` beside each.

    Args:
        folder: may be missing: then there are no pictures.
        order: names (methods) whose pictures come first, in this order; a picture of such a name without a
            title of its own is titled with it. The others follow by file name.
    """
    rank = {file_stem(name): (position, name) for position, name in reversed(list(enumerate(order)))}
    paths = sorted(folder.glob("*.png"), key=lambda path: (rank.get(path.stem, (len(order),))[0], path.name))
    pictures = []
    for path in paths:
        embedded = embed(path)
        if embedded is None:
            continue
        about = read_json_if_there(path.with_suffix(".json"))
        title = str(about.get("title") or (rank[path.stem][1] if path.stem in rank else path.stem))
        caption = str(about.get("caption") or "").removeprefix(f"{title}: ")
        pictures.append(Picture(title, caption, *embedded))
    return pictures
