"""How Puzzle Mix comes to a mixed image, step by step, as in its authors' figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lessonplan import report
from lessonplan.data import Data
from lessonplan.data.needs import InputNeeds
from lessonplan.errors import ConfigError
from lessonplan.lab.examples import bind, label_text, training_images
from lessonplan.mix import Mix, PuzzleMix
from lessonplan.mix.puzzle.blocks import enlarge
from lessonplan.train import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STEPS = ("first", "second", "saliency of first", "saliency of second", "mask", "first moved", "second moved")
_ROWS = 8
_COLOURS = "magma"


def puzzle_steps(
    mix: Mix | None, data: Data, count: int = _ROWS, seed: int = 0, model: nn.Module | None = None
) -> Figure | None:
    """A row an image: both images, their saliency, the mask (white: the first image), both moved, the result.

    Args:
        mix: a ``PuzzleMix``, or mixes around one.
        data: where the images come from.
        count: rows.
        seed: which images.
        model: the network that is asked; None is an untrained one.

    Returns:
        a figure, or None where samples are no gray or RGB images.

    Raises:
        ConfigError: there is no puzzle in the mix.
    """
    puzzle = next((m for m in _all(mix) if isinstance(m, PuzzleMix)), None)
    if mix is None or puzzle is None:
        raise ConfigError("only puzzle can be explained: give --mix puzzle, with the options of your choice")
    if len(data.shape) != 3 or data.shape[0] not in (1, 3):
        return None
    bind(mix, data, seed, model)
    x, y = training_images(data, max(count, 2), seed)
    x = x.float()
    found, permutation, target = puzzle.explain(x, y)
    height, width = x.shape[-2:]
    n = found.saliency[0].shape[-1]
    tall, wide = height + -height % n, width + -width % n
    maps = [enlarge(s, tall, wide)[:, :height, :width] for s in found.saliency]
    peak = torch.stack(maps).amax((0, 2, 3)).view(-1, 1, 1)
    columns = [
        _pixels(x),
        _pixels(x[permutation]),
        *(report.heat((m / peak).cpu().numpy(), _COLOURS) for m in maps),
        _pixels(255 * found.mask.unsqueeze(1)),
        *(_pixels(m) for m in found.moved),
        _pixels(found.mixed),
    ]
    images, titles = [], []
    for row in range(min(count, len(x))):
        images += [column[row] for column in columns]
        titles += [*_STEPS, label_text(target[row], data.class_names)]
    return report.image_grid(np.stack(images), titles, columns=len(columns))


def input_of(folder: Path) -> InputNeeds:
    """What a finished run does to its images, for showing its network others as it saw them.

    Raises:
        ConfigError: the run is not finished.
    """
    return InputNeeds.of_run(load(folder).preprocessing)


def trained_network(folder: Path, data: Data) -> nn.Module:
    """The network of a finished run, for images of these data.

    Raises:
        ConfigError: the run is not finished, or was trained on other shapes or classes.
    """
    classifier = load(folder)
    shape, classes = tuple(classifier.preprocessing.shape), len(classifier.class_names)
    if shape != tuple(data.shape) or classes != data.num_classes:
        raise ConfigError(
            f"{folder} was trained on {classes} classes of shape {shape}, these data have {data.num_classes} of"
            f" shape {tuple(data.shape)}: give the data of the run"
        )
    return classifier.model


def _all(mix: Mix | None) -> Iterator[Mix]:
    if mix is not None:
        yield mix
        for child in mix.children():
            yield from _all(child)


def _pixels(x: Tensor) -> NDArray[np.uint8]:
    """``(N, 1 or 3, H, W)`` in 0 to 255 as RGB ``(N, H, W, 3)``."""
    rgb = x.detach().round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)
    pixels: NDArray[np.uint8] = rgb.permute(0, 2, 3, 1).cpu().numpy()
    return pixels
