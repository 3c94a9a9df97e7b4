"""How the pictures of the cards look: one width that a phone can show, a white ground that dark pages can show."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

FOLDER = Path(__file__).parents[1] / "pictures" / "cards"
WIDTH = 5.6  # inches: 540 pixels, of which a phone shows two thirds
INK, GREY, PALE, TEAL, ORANGE, VIOLET = "#222222", "#8a8a8a", "#d9d9d9", "#00796b", "#d55e00", "#5a4bb0"
LOOK = {
    "font.size": 11, "axes.edgecolor": GREY, "axes.labelcolor": INK, "axes.titlesize": 11, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "figure.facecolor": "white", "savefig.facecolor": "white",
    "legend.frameon": False, "legend.fontsize": 10.5,
}  # fmt: skip


def charts(height: float, columns: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of the cards' width with axes side by side."""
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False, **options)
    return figure, list(axes[0])


def save(figure: Figure, name: str, folder: Path = FOLDER) -> None:
    """As PNG of few colours."""
    held = io.BytesIO()
    with matplotlib.rc_context(LOOK):
        figure.savefig(held, dpi=190)
    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.open(held).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    picture.save(folder / f"{name}.png", optimize=True)


def sheet(
    name: str,
    rows: Sequence[tuple[str, Sequence[NDArray[Any] | None], Sequence[str]]],
    folder: Path = FOLDER,
    cell: float = 0.86,
) -> None:
    """Rows of small pictures as PNG.

    Args:
        name: of the file.
        rows: what each row is, its pictures (``(H, W)`` in [0, 1], or ``(H, W, 3)``; None leaves a
            gap), and a text under each.
        folder: where it goes.
        cell: height of a picture in inches.
    """
    columns = max(len(pictures) for _, pictures, _ in rows)
    heights = [
        0.26 + cell + 0.2 * (max((t.count("\n") + 1 for t in texts if t), default=0)) for _, _, texts in rows
    ]
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.06))
        top = sum(heights) + 0.03
        for (title, pictures, texts), height in zip(rows, heights, strict=True):
            figure.text(0.02, (top - 0.02) / figure.get_figheight(), title, va="top", fontweight="bold")
            for place, picture in enumerate(pictures):
                if picture is None:
                    continue
                width = 0.96 / columns
                box = [0.02 + place * width, (top - 0.26 - cell) / figure.get_figheight(), width * 0.94, 0.0]
                box[3] = cell / figure.get_figheight()
                ax = figure.add_axes(tuple(box))  # type: ignore[arg-type]
                ax.imshow(picture, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
                ax.set_xticks([])
                ax.set_yticks([])
                for spine in ax.spines.values():
                    spine.set(visible=True, color=PALE)
                if place < len(texts) and texts[place]:
                    ax.set_xlabel(texts[place], labelpad=3, fontsize=10.5)
            top -= height
    save(figure, name, folder)


def pixels(x: Any) -> list[NDArray[Any]]:
    """``(N, 1, H, W)`` in 0 to 255 as pictures in [0, 1]."""
    array = np.asarray(x.detach().float() / 255).clip(0, 1)
    return list(array[:, 0])


def said(target: Any) -> str:
    """A soft label in short, a class a line, the largest share first."""
    parts = [(float(share), place) for place, share in enumerate(target) if share > 0.005]
    parts.sort(key=lambda part: -part[0])
    if len(parts) == 1:
        return str(parts[0][1])
    return "\n".join(f"{share:.0%} {place}" for share, place in parts)
