"""Hugging Face's datasets: a DatasetDict for ``lp.fit``, its classes in predictions, a loop of one's own.

pip install lessonplan datasets; python examples/huggingface_datasets.py --epochs 4
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader

import lessonplan as lp

# isort: split
try:
    from datasets import ClassLabel, Dataset, DatasetDict, Features
    from datasets import Image as Picture
except ModuleNotFoundError as error:
    raise SystemExit(f"{error}: pip install datasets") from None

CLASSES = ["across", "checks", "down"]


def cloth(count: int, seed: int) -> Dataset:
    """Noisy pictures of three weaves, as ``datasets.load_dataset("imagefolder", ...)`` would give them."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:32, :32] // 4 % 2
    labels = [i % 3 for i in range(count)]
    weaves = np.stack([row, row ^ column, column])[labels]
    pixels = (80 * weaves[..., None] + rng.normal(80, 50, (count, 32, 32, 3))).clip(0, 255).astype(np.uint8)
    features = Features({"image": Picture(), "label": ClassLabel(names=CLASSES)})
    return Dataset.from_dict({"image": [Image.fromarray(p) for p in pixels], "label": labels}, features=features)


def main(epochs: int = 4) -> tuple[float, float, list[str]]:
    """Accuracies on other pictures of ``lp.fit`` and of a loop of one's own; what fit's network says of three."""
    torch.manual_seed(0)
    parts = DatasetDict(train=cloth(90, seed=0), test=cloth(60, seed=1))
    # the names of columns and classes are the data set's; what is random belongs into augment=
    data = lp.data.load(parts, augment="flip")
    run = lp.fit("tiny", data, "mixup", f"{epochs}ep", batch_size=15)
    trained = lp.Classifier(run.model, data.preprocessing, data.class_names)
    said = trained.classify([parts["test"][i]["image"] for i in range(3)])
    return run.result["test"]["accuracy"], own_loop(parts, epochs), said


def own_loop(parts: DatasetDict, epochs: int) -> float:
    """Pictures become tensors by ``with_transform``; the plan draws from the DataLoader's data set."""

    def tensors(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 for image in columns["image"]]
        return {"pixel_values": pixels, "labels": columns["label"]}

    def batch(items: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.stack([i["pixel_values"] for i in items]), torch.tensor([i["labels"] for i in items])

    loader = DataLoader(parts["train"].with_transform(tensors), batch_size=15, collate_fn=batch)
    model = lp.models.build_model("tiny", shape=(3, 32, 32), num_classes=3, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loop = lp.batches(model, loader, "select:topk:0.8 + cutmix", batch_size=15, epochs=epochs, optimizer=optimizer)
    while not loop.over:
        model.train()
        for x, target, weights in loop:
            loss = (F.cross_entropy(model(x), target, reduction="none") * weights).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {loop.epoch}: loss {loss.item():.3f}")
    model.eval()
    with torch.no_grad():
        read = DataLoader(parts["test"].with_transform(tensors), batch_size=30, collate_fn=batch)
        right = [model(x).argmax(1) == y for x, y in read]
    return float(torch.cat(right).float().mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    fitted, alone, said = main(parser.parse_args().epochs)
    print(f"test accuracy of fit {fitted:.3f}, of the loop {alone:.3f}; the first three are {', '.join(said)}")
