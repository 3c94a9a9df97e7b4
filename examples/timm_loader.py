"""timm's own loader and loss with our mixup and CutMix in the place of timm's, as its train.py uses them.

pip install 'lessonplan[timm]'; python examples/timm_loader.py --epochs 6
"""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_digits

from lessonplan.integrations.timm import FastCollateMixup  # was: from timm.data import FastCollateMixup

# isort: split
# after lessonplan's, which helps where torchvision was built for another torch
import timm
from PIL import Image
from timm.data import create_loader
from timm.loss import SoftTargetCrossEntropy


class Digits(torch.utils.data.Dataset):
    """scikit-learn's digits as timm's loader wants samples: pictures, and a ``transform`` that it sets."""

    transform = None

    def __init__(self, train: bool) -> None:
        digits = load_digits()
        half = slice(0, 400) if train else slice(1000, None)
        self.images, self.labels = (digits.images[half] * 15).astype("uint8"), digits.target[half]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[object, int]:
        image = Image.fromarray(self.images[index]).convert("RGB")
        return self.transform(image) if self.transform else image, int(self.labels[index])


def loader_of(train: bool, collate_fn: FastCollateMixup | None = None) -> torch.utils.data.DataLoader:
    """timm's loader, which puts bytes together and normalises them behind its queue."""
    return create_loader(
        Digits(train), input_size=(3, 32, 32), batch_size=40, is_training=train, no_aug=True, num_workers=0,
        collate_fn=collate_fn, device=torch.device("cpu"), persistent_workers=False,
    )  # fmt: skip


def main(epochs: int = 6, mixup_off_epoch: int = 5) -> float:
    """Train a small network of timm's; returns its accuracy on other digits."""
    torch.manual_seed(0)
    mix = FastCollateMixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=10)
    loader = loader_of(True, mix)
    model = timm.create_model("test_resnet", num_classes=10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loss_fn = SoftTargetCrossEntropy()
    for epoch in range(epochs):
        if epoch >= mixup_off_epoch:
            loader.mixup_enabled = False  # which reaches ours
        model.train()
        for x, target in loader:
            loss = loss_fn(model(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: mixed {mix.mixup_enabled}, loss {loss.item():.3f}")
    model.eval()
    with torch.no_grad():
        right = [(model(x).argmax(1) == y).float() for x, y in loader_of(False)]
    return float(torch.cat(right).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    print(f"test accuracy {main(parser.parse_args().epochs):.3f}")
