"""torchvision: its folders and transforms as data, our MixUp and CutMix in the place of its own, torchmetrics.

pip install lessonplan torchvision torchmetrics; python examples/torchvision_v2.py --epochs 4
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, default_collate

import lessonplan as lp
from lessonplan.integrations.torchvision import CutMix, MixUp  # was: from torchvision.transforms.v2 import ...

# isort: split
from torchmetrics.classification import MulticlassAccuracy
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

CLASSES = ("across", "checks", "down")


def draw(folder: Path, count: int, seed: int) -> None:
    """Noisy pictures of cloth, a folder for each of three weaves."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:32, :32] // 4 % 2
    for name, weave in zip(CLASSES, (row, row ^ column, column), strict=True):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = 80 * weave[..., None] + rng.normal(80, 50, (32, 32, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{i}.png")


def main(epochs: int = 4) -> tuple[float, float]:
    """Accuracies on other pictures: of a loop of one's own, and of ``lp.fit`` on the same datasets."""
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        draw(Path(folder, "train"), 30, seed=0)
        draw(Path(folder, "test"), 20, seed=1)
        as_numbers = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        train = ImageFolder(f"{folder}/train", v2.Compose([*as_numbers, v2.RandomHorizontalFlip()]))
        test = ImageFolder(f"{folder}/test", v2.Compose(as_numbers))
        alone = own_loop(train, test, epochs)
        # what is random belongs into augment=, where it is a function of the seed, the epoch and the sample
        train.transform = v2.Compose(as_numbers)
        run = lp.fit("tiny", lp.data.load(train, test=test, augment="flip"), "mixup", f"{epochs}ep", batch_size=15)
        return alone, run.result["test"]["accuracy"]


def own_loop(train: ImageFolder, test: ImageFolder, epochs: int) -> float:
    """Mixed while batches are put together; targets are soft, and a metric that wants classes is given them."""
    mix = v2.RandomChoice([MixUp(num_classes=3), CutMix(num_classes=3)])
    loader = DataLoader(train, batch_size=15, shuffle=True, collate_fn=lambda pairs: mix(*default_collate(pairs)))
    model = lp.models.build_model("tiny", shape=(3, 32, 32), num_classes=3, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    seen, judged = (MulticlassAccuracy(3, average="micro") for _ in range(2))
    for epoch in range(epochs):
        model.train()
        for x, target in loader:
            logits = model(x)
            loss = F.cross_entropy(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen.update(logits, target.argmax(1))  # the class with the largest share of the picture
        print(f"epoch {epoch}: {seen.compute():.3f} of the larger parts of mixed pictures named")
        seen.reset()
    model.eval()
    with torch.no_grad():
        for x, y in DataLoader(test, batch_size=30):
            judged.update(model(x), y)
    return float(judged.compute())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    print("test accuracy of the loop {:.3f}, of fit {:.3f}".format(*main(parser.parse_args().epochs)))
