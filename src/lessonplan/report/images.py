"""Small images side by side, enlarged without smoothing, each with its mixture written under it."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lessonplan.errors import ConfigError, DataError
from lessonplan.progress import say

_DPI = 100
_GAP = 14  # px between cells and around the grid
_FONT = 8.5  # pt
_LINE = 15  # px per line of a title
_CHARACTER = 7.2  # px, the average of the font at that size
_SMALLEST = 112  # px: narrower cells have no room for a title
_MOST_LINES = 8
_NO_GLYPH = "missing from"  # a font; older versions of matplotlib say "current font"


def wrap_title(title: str, width: int) -> str:
    """Break a title into lines of at most ``width`` characters, a weight staying beside its name.

    >>> print(wrap_title("0.50 cat + 0.50 dog", 12))
    0.50 cat
    + 0.50 dog
    """
    terms = [term.replace(" ", "\xa0", 1) for term in " ".join(title.split()).split(" + ")]
    text = " +\xa0".join(terms) if len(terms) > 1 else " ".join(title.split())
    lines = textwrap.wrap(text, width=max(width, 4), max_lines=_MOST_LINES, placeholder="…")
    return "\n".join(lines).replace("\xa0", " ")


def image_grid(
    images: NDArray[np.uint8], titles: Sequence[str] = (), columns: int = 4, scale: int | None = None
) -> Figure:
    """A grid of images, row by row, every pixel an exact square.

    Args:
        images: ``(N, H, W)`` gray or ``(N, H, W, 3)`` RGB, uint8, N >= 1.
        titles: one text per image, wrapped below it; none at all leaves the images bare.
        columns: images in a row, >= 1.
        scale: screen pixels per image pixel, >= 1; None enlarges small images to about 128 pixels.

    Returns:
        A matplotlib figure on white, sized to fit; write it with :func:`save_png`.

    Raises:
        DataError: for another shape or type, or a wrong number of titles.
        ConfigError: for ``columns`` or ``scale`` below 1.

    >>> figure = image_grid(np.zeros((2, 8, 8), dtype=np.uint8), ["0.50 one + 0.50 two", "three"], columns=2)
    >>> len(figure.images), len(figure.texts)
    (2, 2)
    """
    gray = images.ndim == 3
    if images.dtype != np.uint8 or not (gray or (images.ndim == 4 and images.shape[-1] == 3)) or not images.size:
        raise DataError(
            f"an image grid needs uint8 images of shape (N, H, W) or (N, H, W, 3), "
            f"not {images.dtype} of shape {tuple(images.shape)}"
        )
    n, height, width = images.shape[:3]
    if titles and len(titles) != n:
        raise DataError(f"{len(titles)} titles were given for {n} images; give one each, or none")
    if columns < 1 or (scale is not None and scale < 1):
        raise ConfigError(f"columns and scale must be at least 1, not columns={columns}, scale={scale}")
    factor = scale or max(1, round(128 / max(height, width)))
    columns = min(columns, n)
    tall, wide = height * factor, width * factor
    cell = max(wide, _SMALLEST) if titles else wide
    texts = [wrap_title(title, int(cell / _CHARACTER)) for title in titles]
    rows = math.ceil(n / columns)
    lines = [
        max((text.count("\n") + 1 for text in texts[row * columns : (row + 1) * columns]), default=0)
        for row in range(rows)
    ]
    heights = [tall + (4 + _LINE * count if count else 0) for count in lines]
    total_width = columns * cell + (columns + 1) * _GAP
    total_height = sum(heights) + (rows + 1) * _GAP
    figure = Figure(figsize=(total_width / _DPI, total_height / _DPI), dpi=_DPI, facecolor="white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        left = _GAP + column * (cell + _GAP)
        top = _GAP + sum(heights[:row]) + row * _GAP
        large = image.repeat(factor, axis=0).repeat(factor, axis=1)
        rgb = np.repeat(large[..., None], 3, axis=-1) if gray else large
        figure.figimage(rgb, xo=left + (cell - wide) // 2, yo=total_height - top - tall, origin="upper")
        if titles:
            figure.text(
                (left + cell / 2) / total_width,
                1 - (top + tall + 4) / total_height,
                texts[index],
                ha="center",
                va="top",
                fontsize=_FONT,
                color="#22272c",
                linespacing=1.25,
                parse_math=False,
            )
    return figure


def heat(values: NDArray[np.floating], colours: str) -> NDArray[np.uint8]:
    """Values in [0, 1] as colours of one of matplotlib's maps: ``(...)`` to RGB ``(..., 3)``."""
    coloured: NDArray[np.uint8] = matplotlib.colormaps[colours](values, bytes=True)
    return coloured[..., :3]


def save_png(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, pixel for pixel; folders on the way are made.

    Raises:
        ConfigError: if the path does not end in ``.png``.
        DataError: if the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise ConfigError(f"pictures are written as PNG: give a path that ends in .png, not {str(path)!r}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context({"savefig.bbox": None}), warnings.catch_warnings(record=True) as heard:
            warnings.filterwarnings("always", message=f".*{_NO_GLYPH}")
            figure.savefig(target, format="png", dpi=figure.dpi, metadata={"Software": None})
        missing = [warning for warning in heard if _NO_GLYPH in str(warning.message)]
        for other in heard:
            if other not in missing:
                warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
        if missing:
            say(f"{target} has boxes in the place of characters that its font lacks; names elsewhere are whole")
    except OSError as error:
        raise DataError(f"cannot write {target}: {error.strerror or error}") from error
    return target
