"""Claim: Lightning's and Hugging Face's loops are at most 3% slower with an empty plan of ours than without us.

The loops are those of ``examples/``: their network, batches of 20 digits of 8 x 8 pixels, their optimizers.
Without us the same loop reads normalised tensors in memory and knows nothing of mixes. Both end with the same
weights, but for the plan's own order of samples in ``PlanLoader``. Seconds are the processor's (one thread, no
workers), of the whole fit without validation.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import lessonplan as lp
from lessonplan.integrations.lightning import MixCallback, PlanLoader
from lessonplan.integrations.transformers import MixTrainer, Samples
from timing import interleaved, ratio, repetitions, show, spread

# isort: split
# after lessonplan's, which helps where torchvision was built for another torch
import transformers
from lightning.pytorch import Callback, LightningModule, Trainer

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import lightning_cascade

BATCH, EPOCHS = 20, 4


class PlanNet(lightning_cascade.Net):
    """The example's network on what ``lp.batches`` gives."""

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """The weighted loss."""
        x, target, weights = batch
        losses: Tensor = nn.functional.cross_entropy(self(x), target, reduction="none")
        return (losses * weights).mean()


class Named(Dataset[dict[str, Any]]):
    """Tensors as samples with the names that models of transformers know."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": self.x[index], "labels": int(self.y[index])}


class Sides:
    """The same training with and without us."""

    def __init__(self, data: lp.data.Data, folder: Path) -> None:
        self.data, self.folder = data, folder
        self.x, self.y = data.train.fetch(torch.arange(len(data.train)))

    def lightning(self, *, ours: bool) -> nn.Module:
        """The example with ``MixCallback`` and our view of the data, or neither."""
        follower = MixCallback("none") if ours else None
        net = lightning_cascade.Net(self.data, follower.mix if follower is not None else None)
        samples = self.data.train if ours else TensorDataset(self.x, self.y)
        order = torch.Generator().manual_seed(0)
        loader = DataLoader(samples, batch_size=BATCH, shuffle=True, generator=order)
        self._fit(net, loader, EPOCHS, [follower] if follower is not None else [])
        return net

    def plan_loader(self) -> nn.Module:
        """An empty plan's batches."""
        net = PlanNet(self.data, None)
        loop = lp.batches(net.net, self.data, None, epochs=EPOCHS, batch_size=BATCH)
        loader = PlanLoader(loop, updates=len(self.data.train) // BATCH)
        self._fit(net, loader, -1, [loader.callback])
        return net

    def _fit(self, net: LightningModule, loader: Any, epochs: int, callbacks: list[Callback]) -> None:
        Trainer(
            max_epochs=epochs,
            callbacks=callbacks,
            default_root_dir=self.folder,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        ).fit(net, loader)

    def trainer(self, *, ours: bool) -> nn.Module:
        """The example with ``MixTrainer`` and our view of the data, or the Trainer alone."""
        transformers.set_seed(0)
        sizes = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"}
        model = transformers.ResNetForImageClassification(
            transformers.ResNetConfig(num_channels=1, num_labels=10, downsample_in_first_stage=False, **sizes)
        )
        arguments = transformers.TrainingArguments(
            output_dir=str(self.folder),
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            learning_rate=3e-3,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        if ours:
            samples = Samples(self.data.train)
            MixTrainer(model, arguments, train_dataset=samples, mix="none").train()
        else:
            transformers.Trainer(model, arguments, train_dataset=Named(self.x, self.y)).train()
        return model


def check(a: nn.Module, b: nn.Module) -> None:
    """Both are one network."""
    for mine, other in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0)


def main() -> None:
    """Measure, and print the table."""
    count = repetitions(__doc__, 7)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=UserWarning)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(lp.data.load("digits", per_class=60, val_per_class=10, augment="none"), Path(folder))
        check(sides.lightning(ours=True), sides.lightning(ours=False))
        check(sides.trainer(ours=True), sides.trainer(ours=False))
        pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "Lightning, MixCallback": (
                lambda: sides.lightning(ours=False),
                lambda: sides.lightning(ours=True),
            ),
            "Lightning, PlanLoader": (lambda: sides.lightning(ours=False), sides.plan_loader),
            "Trainer, MixTrainer": (lambda: sides.trainer(ours=False), lambda: sides.trainer(ours=True)),
        }
        updates = EPOCHS * (len(sides.data.train) // BATCH)
        for name, (without, ours) in pairs.items():
            times = interleaved({"without": without, "with": ours}, count, clock=time.process_time)
            slower = [100 * (r - 1) for r in ratio(times, "with", "without")]
            rows.append([name, spread(times["without"]), spread(times["with"]), spread(slower, digits=1)])
    show(
        f"loops of others with an empty plan, {updates} updates of {BATCH}",
        ["", "without us, seconds", "with us, seconds", "slower by %"],
        rows,
        ["to reach: at most 3% slower; with MixCallback and MixTrainer the weights are the same, bit for bit"],
    )


if __name__ == "__main__":
    main()
