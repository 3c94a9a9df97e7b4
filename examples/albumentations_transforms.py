"""Albumentations: a pipeline as transform of a dataset in a loop of one's own, as augmentation of ``lp.fit``.

pip install 'lessonplan[albumentations]'; python examples/albumentations_transforms.py --epochs 4
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, default_collate

import lessonplan as lp
from lessonplan.integrations.albumentations import Transform

# isort: split
import albumentations as A

RANDOM = (A.Affine(rotate=(-10, 10), p=1), A.RandomBrightnessContrast(), A.CoarseDropout())
FIXED = (A.CLAHE(p=1),)  # what every picture gets, also in a test, and each time alike


class Cloth(Dataset):
    """Noisy pictures of three weaves, as arrays (H, W, 3), and a pipeline as ``transform``."""

    classes = ("across", "checks", "down")

    def __init__(self, count: int, seed: int, transform: A.Compose | None = None) -> None:
        rng = np.random.default_rng(seed)
        row, column = np.mgrid[:32, :32] // 4 % 2
        self.labels = np.arange(count) % 3
        weaves = np.stack([row, row ^ column, column])[self.labels]
        noisy = 80 * weaves[..., None] + rng.normal(80, 50, (count, 32, 32, 3))
        self.images, self.transform = noisy.clip(0, 255).astype(np.uint8), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image = self.images[index]
        return (self.transform(image=image)["image"] if self.transform else image), int(self.labels[index])


def main(epochs: int = 4) -> tuple[float, float]:
    """Accuracies on other pictures: of a loop of one's own, and of ``lp.fit``."""
    torch.manual_seed(0)
    test = Cloth(60, seed=1, transform=A.Compose(FIXED))
    alone = own_loop(Cloth(90, seed=0, transform=A.Compose([*FIXED, *RANDOM], seed=0)), test, epochs)
    # what is random belongs into augment=, where it is a function of the seed, the epoch and the sample
    augment = lp.data.Augment(transform=Transform(A.Compose(RANDOM)))
    train = Cloth(90, seed=0, transform=A.Compose(FIXED))
    run = lp.fit("tiny", lp.data.load(train, test=test, augment=augment), "mixup", f"{epochs}ep", batch_size=15)
    return alone, run.result["test"]["accuracy"]


def own_loop(train: Cloth, test: Cloth, epochs: int) -> float:
    """Pictures are changed one by one as they are read, and mixed while batches are put together."""
    mix = lp.mix.CutMix(num_classes=3)

    def batch(pairs: list[tuple[np.ndarray, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = default_collate(pairs)
        return x.permute(0, 3, 1, 2) / 255, y

    loader = DataLoader(train, batch_size=15, shuffle=True, collate_fn=lambda pairs: mix(*batch(pairs)))
    model = lp.models.build_model("tiny", shape=(3, 32, 32), num_classes=3, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(epochs):
        model.train()
        for x, target in loader:
            loss = F.cross_entropy(model(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")
    model.eval()
    with torch.no_grad():
        right = [model(x).argmax(1) == y for x, y in DataLoader(test, batch_size=30, collate_fn=batch)]
    return float(torch.cat(right).float().mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    print("test accuracy of the loop {:.3f}, of fit {:.3f}".format(*main(parser.parse_args().epochs)))
