"""Accelerate: mixup and CutMix in turn, whose state the Accelerator stores with the rest.

pip install 'lessonplan[accelerate]'; python examples/accelerate_loop.py --epochs 6
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

import lessonplan as lp
from lessonplan.integrations.accelerate import register

# isort: split
# after lessonplan's, which says how it is installed where it is missing
from accelerate import Accelerator


def main(
    epochs: int = 6, out: Path = Path("accelerate"), resume: bool = False, stop: int | None = None
) -> torch.nn.Module:
    """Train on scikit-learn's digits; ``stop`` ends before the end, as if killed."""
    accelerator = Accelerator(cpu=True)
    data = lp.data.load("digits", per_class=20, val_per_class=10)
    model = lp.models.build_model("tiny", shape=data.shape, num_classes=data.num_classes, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    mix = lp.mix.Until(lp.mix.Choice([lp.mix.Mixup(), lp.mix.CutMix()], num_classes=data.num_classes), "80%")
    register(accelerator, mix)
    model, optimizer = accelerator.prepare(model, optimizer)
    begin = 0
    if resume:
        begin = max(int(folder.name) for folder in out.iterdir())
        accelerator.load_state(str(out / str(begin)))
    for epoch in range(begin, epochs if stop is None else stop):
        mix.advance(epoch / epochs)
        data.train.set_epoch(epoch)
        shuffled = torch.Generator().manual_seed(epoch)
        loader = accelerator.prepare(DataLoader(data.train, batch_size=20, shuffle=True, generator=shuffled))
        model.train()
        for x, y in loader:
            x, target = mix(x, y)
            loss = F.cross_entropy(model(x), target)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
        accelerator.save_state(str(out / str(epoch + 1)))
    return accelerator.unwrap_model(model)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("accelerate"))
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    main(given.epochs, given.out, given.resume)
