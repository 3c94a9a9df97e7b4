"""A loop in plain PyTorch: a cascade that switches on plateaus, stored and gone on with.

python examples/plain_pytorch.py --epochs 12
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

import lessonplan as lp


def main(epochs: int = 12, checkpoint: Path | None = None, per_class: int = 20) -> float:
    """Train on scikit-learn's digits; returns the accuracy on the test part."""
    data = lp.data.load("digits", per_class=per_class, val_per_class=10)
    model = lp.models.build_model("tiny", shape=data.shape, num_classes=data.num_classes, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    mix = lp.mix.Cascade(k=4, num_classes=data.num_classes, patience=2, lr_at_switch="keep")
    stages = lp.mix.Stages(mix, model, optimizer)
    order = torch.Generator().manual_seed(0)
    loader = DataLoader(data.train, batch_size=20, shuffle=True, generator=order)
    begin = 0
    if checkpoint is not None and checkpoint.exists():
        stored = torch.load(checkpoint, weights_only=True)
        for part, name in ((model, "model"), (optimizer, "optimizer"), (stages, "stages")):
            part.load_state_dict(stored[name])
        order.set_state(stored["order"])
        begin = stored["epoch"]
        data.train.set_epoch(begin)
    for epoch in range(begin, epochs):
        stages.advance(epoch / epochs)
        model.train()
        for x, y in loader:
            x, target = mix(x, y)
            loss = F.cross_entropy(model(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy = evaluate(model, data.val)
        stages.step(accuracy)
        print(f"epoch {epoch}: {mix.current_k()} images in a sum, validation {accuracy:.3f}")
        if checkpoint is not None:
            parts = {"model": model, "optimizer": optimizer, "stages": stages}
            states = {name: part.state_dict() for name, part in parts.items()}
            torch.save({**states, "order": order.get_state(), "epoch": epoch + 1}, checkpoint)
    return evaluate(model, data.test)


@torch.no_grad()
def evaluate(model: torch.nn.Module, view: lp.data.View) -> float:
    """The share of a view that the model names rightly."""
    model.eval()
    right = [(model(x).argmax(1) == y).float() for x, y in DataLoader(view, batch_size=500)]
    return float(torch.cat(right).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--checkpoint", type=Path)
    given = parser.parse_args()
    print(f"test accuracy {main(given.epochs, given.checkpoint):.3f}")
