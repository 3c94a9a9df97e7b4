"""Claim: heads on frozen features train nearly as fast as the shortest loop; features come as fast as by hand.

An epoch over 2,000 kept features (1,280 numbers each, ten classes) by ``fit`` with ``tune="head"``, against the
matrix products of the same updates alone: logits, gradient of the weights, for the same batches; of the automatic
size (166), of 32, and of all samples. Beside both the shortest loop that trains such a head in PyTorch: a linear
layer, cross-entropy, fused AdamW, no records, no seeds. Then the first pass over pictures,
as ``fit`` makes features, against a loop with timm's own transform and a DataLoader with as many workers, over
the same files with the same network. ``--photos FOLDER`` of classes, ``--weights FILE`` for tf_efficientnet_lite0.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import lessonplan as lp
from lessonplan.models.beside_torchvision import import_beside_torchvision
from lessonplan.train.origin import origin_of

SAMPLES, LENGTH, CLASSES = 2000, 1280, 10
BATCHES = {"auto": SAMPLES // 12, 32: 32, "all": SAMPLES}
EPOCHS, SIZE, MODEL = 20, 128, "timm:tf_efficientnet_lite0"


def products(x: torch.Tensor, batch: int) -> float:
    """Seconds an epoch of logits and gradients, by two matrix products a batch."""
    weight = torch.zeros(CLASSES, LENGTH)
    started = time.perf_counter()
    for _ in range(EPOCHS):
        for at in torch.randperm(SAMPLES).split(batch):
            some = x.index_select(0, at)
            logits = some @ weight.T
            (logits.T @ some).mul_(1e-6)
    return (time.perf_counter() - started) / EPOCHS


def by_hand(x: torch.Tensor, y: torch.Tensor, batch: int) -> float:
    """Seconds an epoch of the shortest loop."""
    head = nn.Linear(LENGTH, CLASSES)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, fused=True)
    started = time.perf_counter()
    for _ in range(EPOCHS):
        for at in torch.randperm(SAMPLES).split(batch):
            loss = nn.functional.cross_entropy(head(x.index_select(0, at)), y[at])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return (time.perf_counter() - started) / EPOCHS


def network() -> nn.Sequential:
    """Pixels to features to logits; the features cost nothing beside the head's epochs."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, LENGTH))
    return nn.Sequential(OrderedDict(body=body, head=nn.Linear(LENGTH, CLASSES)))


def fitted(data: Any, weights: Path, batch: int | str) -> float:
    """Seconds an epoch of a linear head by ``fit``, as it counts them."""
    with contextlib.redirect_stderr(io.StringIO()):
        run = lp.fit(network(), data, budget=f"{EPOCHS}ep", batch_size=batch, tune="head", weights=str(weights),
                     feature_cache=str(weights.parent))  # fmt: skip
    return float(run.result["seconds"]) / EPOCHS


def by_timm(photos: Path, model: nn.Module, workers: int) -> float:
    """Seconds of a pass with timm's transform and a DataLoader."""
    data = import_beside_torchvision("timm.data")
    folder = data.ImageDataset(str(photos), transform=data.create_transform((3, SIZE, SIZE), crop_pct=0.875,
        interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3))  # fmt: skip
    loader = torch.utils.data.DataLoader(folder, batch_size=32, num_workers=workers)
    started = time.perf_counter()
    with torch.no_grad():
        for x, _ in loader:
            model(x)
    return time.perf_counter() - started


def by_fit(photos: Path, weights: str, workers: int) -> float:
    """Seconds of a run whose head is not trained: pictures read and forwarded once."""
    with tempfile.TemporaryDirectory() as cache, contextlib.redirect_stderr(io.StringIO()):
        started = time.perf_counter()
        needs = origin_of(MODEL, weights).needs
        options = {"image_size": SIZE, "workers": workers, "test_fraction": 0.0, "memory_limit": 0}
        data = lp.data.load(f"folder:{photos}", input=needs, **options)
        lp.fit(MODEL, data, weights=weights, tune="head", fit_head="ncm", feature_cache=cache)
        return time.perf_counter() - started


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (SAMPLES + 10, 3, 8, 8), generator=generator, dtype=torch.uint8)
    x, y = torch.randn(SAMPLES, LENGTH, generator=generator), torch.arange(SAMPLES + 10) % CLASSES
    data = lp.data.load((pixels[:-10], y[:-10]), test=(pixels[-10:], y[-10:]), augment="none")
    with tempfile.TemporaryDirectory() as kept:
        weights = Path(kept) / "weights.pt"
        torch.save(network().state_dict(), weights)
        fitted(data, weights, "all")  # features are made here
        for batch, size in BATCHES.items():
            found = [(products(x, size), by_hand(x, y[:-10], size), fitted(data, weights, batch))
                     for _ in range(options.rounds)]  # fmt: skip
            bare, hand, ours = (np.median([one[i] for one in found]) * 1000 for i in range(3))
            words = f"batches of {size} ({batch})" if batch != size else f"batches of {size}"
            print(f"{words}: products {bare:.1f} ms an epoch, the shortest loop {hand:.1f} ms"
                  f" ({hand / bare:.2f} x), fit {ours:.1f} ms ({ours / bare:.2f} x)")  # fmt: skip
    if options.photos is None or options.weights is None:
        print("no --photos and --weights: the pass over photographs was not timed")
        return
    model = origin_of(MODEL, options.weights).network(shape=(3, SIZE, SIZE), num_classes=CLASSES, seed=0)[0].eval()
    pairs = []
    for _ in range(options.rounds):
        pairs.append((by_timm(options.photos, model, options.workers),
                      by_fit(options.photos, options.weights, options.workers)))  # fmt: skip
    theirs, ours = (np.median([pair[i] for pair in pairs]) for i in (0, 1))
    print(f"first pass: timm's loop {theirs:.1f} s, fit {ours:.1f} s, {ours / theirs:.2f} x")


if __name__ == "__main__":
    main()
