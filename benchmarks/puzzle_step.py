"""What a training step costs with Puzzle Mix: WRN-16-2, batch 100 of 32 x 32, beside a plain step.

    OMP_NUM_THREADS=1 python benchmarks/puzzle_step.py [--repetitions 5]

The floor is 5/3 (one more forward pass, and a backward pass without the weights' gradients) and 2 with
`clean_weight`. Blocks are drawn from 2, 4, 8, 16 as in training. Memory is the growth of the process' peak over
three steps, each side in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from typing import Any

import psutil
import torch
import torch.nn.functional as F

from lessonplan.mix import PuzzleMix
from lessonplan.models import build_model
from timing import interleaved, ratio, repetitions, show, spread

BATCH, CLASSES, STEPS = 100, 10, 4
SIDES: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "puzzle": {},
    "puzzle, clean_weight=1": {"clean_weight": 1.0},
    "puzzle, adversarial_p=1": {"adversarial_p": 1.0},
}


def make_step(options: dict[str, Any] | None) -> Callable[[], None]:
    """A step of SGD on random images."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, 3, 32, 32, generator=generator)
    y = torch.randint(CLASSES, (BATCH,), generator=generator)
    model = build_model("wrn-16-2", shape=(3, 32, 32), num_classes=CLASSES, seed=0)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    mix = PuzzleMix(num_classes=CLASSES, model=model, **options) if options is not None else None

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        inputs, target = mix(x, y) if mix is not None else (x, F.one_hot(y, CLASSES).float())
        logits = model(inputs.contiguous(memory_format=torch.channels_last))
        F.cross_entropy(logits, target).backward()
        optimizer.step()

    return step


def peak(name: str) -> float:
    """By how many MB three steps raise the peak of this process."""
    torch.set_num_threads(1)
    step = make_step(SIDES[name])
    before = psutil.Process().memory_info().rss
    for _ in range(3):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before / 2**20


def main() -> None:
    """Print the table."""
    count = repetitions(__doc__, 5)
    torch.set_num_threads(1)
    # Memory first: on Linux a process starts with its parent's peak.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = {name: pool.apply(peak, (name,)) for name in SIDES}
    times = interleaved({name: make_step(options) for name, options in SIDES.items()}, count, STEPS)
    rows = [
        [
            name,
            spread(times[name], 1e3, 0),
            spread(ratio(times, name, "plain")),
            f"{memory[name]:.0f}",
            f"{memory[name] / memory['plain']:.2f}",
        ]
        for name in SIDES
    ]
    show("A training step", ["step", "ms", "of plain", "peak MB", "of plain"], rows)


if __name__ == "__main__":
    main()
