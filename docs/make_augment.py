"""Draw ``docs/pictures/augment.png``, what each word of an augmentation does: ``docs/make_augment.py FOLDER``.

FOLDER holds photographs in folders by class.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

import lessonplan as lp
from lessonplan.data.augmentation.warp import WORDS
from lessonplan.data.augmentation.words import EXAMPLES

SHOWN, SIDE = 6, 128


def main() -> None:
    """A row for each word, the pictures as they are first."""
    data = lp.data.load(f"folder:{sys.argv[1]}", image_size=SIDE, per_class=4, seed=2)
    rows = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(5))[:SHOWN]
    raw = data.train.raw(rows)
    words = ["as they are", "flip", "crop:16", *WORDS.values(), *EXAMPLES]
    lines = (len(words) + 1) // 2
    figure = Figure(figsize=(13, 0.88 * lines))
    axes = figure.subplots(
        lines, 2, gridspec_kw={"left": 0.11, "right": 0.99, "top": 0.99, "bottom": 0.01, "wspace": 0.32}
    )
    axes = axes.T.flatten()
    for ax, word in zip(axes, words, strict=False):
        # a probability of 1 shows what the word does
        text = {"grey:0.2": "grey:1", "sobel:0.2": "sobel:1", "blur:0.5": "blur:1"}.get(word, word)
        change = lp.data.Augment.parse("none" if word == words[0] else text)
        pictures = change(raw, rows, seed=1, epoch=0).permute(0, 2, 3, 1)
        ax.imshow(torch.cat(list(pictures), 1).numpy())
        ax.set_ylabel(word, rotation=0, ha="right", va="center", fontsize=9)
        ax.set_xticks([])
        ax.set_yticks([])
        for side in ax.spines.values():
            side.set_visible(False)
    for ax in axes[len(words) :]:
        ax.set_axis_off()
    figure.savefig(Path(__file__).parent / "pictures" / "augment.png", dpi=100)


if __name__ == "__main__":
    main()
