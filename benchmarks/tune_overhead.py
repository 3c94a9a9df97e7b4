"""Claim: fine-tuning a pretrained network at 128 pixels by ``fit`` is at most 5% slower than a hand-written loop.

tf_efficientnet_lite0, all of it trained, on 160 colour images in memory. The loop is the shortest there is: timm's
network with the same weights from the same file, normalised float tensors, batches of 16, AdamW, a cosine, no
metrics, no checks. ``fit`` normalises uint8 images, gathers losses, watches for NaN; its time is that of the whole
call, reading the weights and the final evaluation on ten images included.
"""

from __future__ import annotations

import math
import tempfile
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import lessonplan as lp
from lessonplan.data import Data
from lessonplan.models.beside_torchvision import import_beside_torchvision
from timing import interleaved, ratio, repetitions, show, spread

MODEL, SIZE, SAMPLES, BATCH, LR, STEPS = "tf_efficientnet_lite0", 128, 160, 16, 3e-4, 20


def synthetic() -> Data:
    """Images of ten classes, 160 to train on and ten to test on."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(SAMPLES + 10) % 10
    x = torch.randint(0, 256, (SAMPLES + 10, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    train, test = ((x[part], labels[part]) for part in (slice(SAMPLES), slice(SAMPLES, None)))
    return lp.data.load(train, test=test, augment="none")


def network(classes: int) -> nn.Module:
    """timm's own, with weights drawn anew."""
    created: nn.Module = import_beside_torchvision("timm").create_model(MODEL, num_classes=classes)
    return created


def by_hand(weights: Path, x: torch.Tensor, y: torch.Tensor, channels_last: bool) -> nn.Module:
    """AdamW over tensors."""
    model = network(10)
    state = torch.load(weights, weights_only=True)
    model.load_state_dict({name: value for name, value in state.items() if "classifier" not in name}, strict=False)
    model.train()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), LR)
    for done in range(STEPS):
        if done % (SAMPLES // BATCH) == 0:
            batches = iter(torch.randperm(SAMPLES).split(BATCH))
        at = next(batches)
        loss = F.cross_entropy(model(x[at]), y[at])
        optimizer.param_groups[0]["lr"] = LR * (1 + math.cos(math.pi * done / STEPS)) / 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return model


def with_fit(weights: Path, data: Data, channels_last: bool) -> lp.Run:
    """The same by ``fit``."""
    return lp.fit(f"timm:{MODEL}", data, None, f"{STEPS} steps", batch_size=BATCH, lr=LR, weights=str(weights),
                  channels_last=channels_last)  # fmt: skip


def main() -> None:
    """Measure, and print the table."""
    count = repetitions(__doc__, 7)
    data = synthetic()
    x, y = data.train.fetch(torch.arange(SAMPLES))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        torch.save(network(1000).state_dict(), weights)
        for channels_last in (False, True):
            result = with_fit(weights, data, channels_last).result
            assert (result["steps"], result["samples"]) == (STEPS, STEPS * BATCH)
            times = interleaved(
                {
                    "hand": partial(by_hand, weights, x, y, channels_last),
                    "fit": partial(with_fit, weights, data, channels_last),
                },
                count,
            )
            rows.append(
                [
                    f"{STEPS} updates of {BATCH}{', channels last' if channels_last else ''}",
                    spread(times["hand"]),
                    spread(times["fit"]),
                    spread([100 * (r - 1) for r in ratio(times, "fit", "hand")], digits=1),
                ]
            )
    show(
        f"fine-tuning {MODEL} at {SIZE} pixels: fit against a hand-written loop",
        ["", "by hand, seconds", "fit, seconds", "slower by %"],
        rows,
        ["to reach: at most 5% slower"],
    )


if __name__ == "__main__":
    main()
