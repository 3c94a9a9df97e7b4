"""Pictures of what was evaluated: attacked images, and where the network looked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lessonplan import report
from lessonplan.lab.evaluation.subject import Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 6
_RED, _GREEN = (220, 40, 30), (30, 200, 60)
Picture = tuple["Figure", str, str]
"""Figure, title and caption."""


@torch.no_grad()
def attacked_images(subject: Subject, x: Tensor, attacked: Tensor, y: Tensor, eps: float) -> list[Picture]:
    """Images before and after an attack, and what was changed; nothing where they cannot be drawn."""
    if not drawable(x):
        return []
    x, attacked = x[:_SHOWN], attacked[:_SHOWN]
    before, after = (subject.model(t.to(subject.device)).argmax(1).tolist() for t in (x, attacked))
    names = subject.data.class_names
    rows = [rgb(x), rgb(attacked), rgb(0.5 + (attacked - x) / (2 * eps))]
    images = np.stack([row[i] for i in range(len(x)) for row in rows])
    titles = [
        text
        for i in range(len(x))
        for text in (
            f"{names[y[i]]}, taken for {names[before[i]]}",
            f"taken for {names[after[i]]}",
            "the change, enlarged",
        )
    ]
    bounds = f"grey: none; black and white: {255 * eps:.3g}/255"
    caption = f"Each image, the same after the last attack on the cross-entropy, and the change ({bounds})."
    return [(report.image_grid(images, titles, columns=6), "Attacked images", caption)]


def map_pictures(
    images: Tensor,
    maps: Tensor,
    titles: list[str],
    title: str,
    caption: str,
    boxes: list[tuple[Tensor, tuple[int, int, int]]],
) -> list[Picture]:
    """Images with their maps laid over them and boxes drawn.

    Args:
        images: ``(N, C, H, W)`` in [0, 1].
        maps: ``(N, H, W)`` in [0, 1].
        titles: one an image.
        title: of the picture.
        caption: below it.
        boxes: boxes ``(N, 4)``, top, bottom, left, right, and their colour.
    """
    if not drawable(images):
        return []
    count = min(8, len(images))
    shown = rgb(images[:count])
    heat = report.heat(maps[:count].cpu().numpy(), "turbo")
    drawn = (0.55 * shown + 0.45 * heat).astype(np.uint8)
    for corners, colour in boxes:
        for i in range(count):
            _outline(drawn[i], [int(v) for v in corners[i].tolist()], colour)
    both = np.stack([picture[i] for i in range(count) for picture in (shown, drawn)])
    texts = [text for i in range(count) for text in (titles[i], "map")]
    return [(report.image_grid(both, texts, columns=8), title, caption)]


TRUE_COLOUR, FOUND_COLOUR = _RED, _GREEN


def drawable(images: Tensor) -> bool:
    """Whether these are grey or RGB images."""
    return images.ndim == 4 and images.shape[1] in (1, 3)


def rgb(x: Tensor) -> NDArray[np.uint8]:
    """``(N, 1 or 3, H, W)`` in [0, 1] as ``(N, H, W, 3)``."""
    pixels = (255 * x.detach().cpu()).round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)
    array: NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).contiguous().numpy()
    return array


def _outline(image: NDArray[np.uint8], corners: list[int], colour: tuple[int, int, int]) -> None:
    top, bottom, left, right = corners
    bottom, right = min(bottom, image.shape[0]) - 1, min(right, image.shape[1]) - 1
    image[[top, bottom], left : right + 1] = colour
    image[top : bottom + 1, [left, right]] = colour
