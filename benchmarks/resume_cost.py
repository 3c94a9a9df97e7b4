"""Claim: being resumable costs at most 2% of a run's time, at one checkpoint a minute.

Two ways to know what a checkpoint costs. "alone": the state of a training is gathered, serialised, written,
synced and verified, many times in a row. "in training": the same short run with a checkpoint every few updates
and with none on the way; the difference, divided by the number of checkpoints. The share is extrapolated from
the dearer of the two to one checkpoint in 60 seconds.
"""

from __future__ import annotations

import statistics
import tempfile
from itertools import count as counter
from pathlib import Path

import torch

import lessonplan as lp
from lessonplan.data import Data
from lessonplan.train import Trainer
from lessonplan.train.checkpoint import Checkpoints
from timing import interleaved, repetitions, show, spread

STEPS, EVERY = 40, 4
MODELS = ("tiny", "wrn-16-1", "wrn-16-4")
BATCH = {"tiny": 50, "wrn-16-1": 20, "wrn-16-4": 4}


def synthetic() -> Data:
    """Colour images of 32 x 32 pixels of ten classes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (1000, 3, 32, 32), generator=generator, dtype=torch.uint8)
    test = torch.randint(0, 256, (10, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return lp.data.load((x, torch.arange(1000) % 10), test=(test, torch.arange(10)), augment="none")


class Keep(lp.Callback):
    """Keeps the trainer, to save its state again."""

    trainer: Trainer

    def on_train_end(self, trainer: Trainer) -> None:
        """After the last batch."""
        self.trainer = trainer


def main() -> None:
    """Measure, and print the table."""
    repeated = repetitions(__doc__, 7)
    data, rows, number = synthetic(), [], counter()
    with tempfile.TemporaryDirectory() as folder:

        def run(model: str, every: str) -> Trainer:
            keep, out = Keep(), Path(folder) / str(next(number))
            settings = {"batch_size": BATCH[model], "checkpoint_every": every}
            lp.fit(model, data, None, f"{STEPS} steps", out=out, callbacks=[keep], **settings)
            return keep.trainer

        for model in MODELS:
            state, saved = run(model, "1h").state, Checkpoints(Path(folder) / f"{model} alone")
            alone = interleaved({"": lambda s=state, c=saved: c.save(next(number), s.state_dict())}, 3 * repeated)[
                ""
            ]
            newest = saved.newest()
            assert newest is not None
            size = newest.stat().st_size / 2**20
            times = interleaved(
                {
                    "none": lambda model=model: run(model, "1h"),
                    "some": lambda model=model: run(model, f"{EVERY} steps"),
                },
                repeated,
            )
            checkpoints = STEPS // EVERY - 1  # the one at the end is made either way
            inside = [(s - n) / checkpoints for s, n in zip(times["some"], times["none"], strict=True)]
            dearest = max(statistics.median(alone), statistics.median(inside))
            rows.append(
                [model, f"{size:.1f}", spread(alone, 1e3, 1), spread(inside, 1e3, 1), f"{100 * dearest / 60:.2f}"]
            )
    show(
        "A checkpoint a minute",
        ["", "MB", "alone, milliseconds", "in training, milliseconds", "% of 60 seconds"],
        rows,
        ["to reach: at most 2%"],
    )


if __name__ == "__main__":
    main()
