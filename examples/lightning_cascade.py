"""Lightning: a cascade that switches on plateaus; its state is in Lightning's checkpoints.

pip install 'lessonplan[lightning]'; python examples/lightning_cascade.py --epochs 12
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

import lessonplan as lp
from lessonplan.integrations.lightning import MixCallback

# isort: split
# after lessonplan's, which helps where torchvision was built for another torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torchmetrics.classification import MulticlassAccuracy


class Net(LightningModule):
    """A small network that trains on mixed batches."""

    def __init__(self, data: lp.data.Data, mix: lp.mix.Mix | None) -> None:
        super().__init__()
        self.net = lp.models.build_model("tiny", shape=data.shape, num_classes=data.num_classes, seed=0)
        self.mix = mix
        self.right = MulticlassAccuracy(data.num_classes, average="micro")

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of a mixed batch."""
        x, target = self.mix(*batch) if self.mix is not None else batch
        return F.cross_entropy(self(x), target)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Accuracy on samples as they are."""
        x, y = batch
        self.right(self(x), y)
        self.log("val_accuracy", self.right)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def main(
    epochs: int = 12,
    out: Path = Path("lightning"),
    resume: Path | None = None,
    mix: lp.mix.Mix | None = None,
    **trainer_options: Any,
) -> tuple[Net, Trainer]:
    """Train on scikit-learn's digits."""
    seed_everything(0, verbose=False)
    data = lp.data.load("digits", per_class=20, val_per_class=10)
    mix = mix or lp.mix.Cascade(k=4, num_classes=data.num_classes, patience=2, lr_at_switch="keep")
    net = Net(data, mix)
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=[MixCallback(mix, monitor="val_accuracy")],
        default_root_dir=out,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **trainer_options,
    )
    train = DataLoader(data.train, batch_size=20, shuffle=True, generator=torch.Generator().manual_seed(0))
    trainer.fit(net, train, DataLoader(data.val, batch_size=100), ckpt_path=resume)
    return net, trainer


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("lightning"))
    parser.add_argument("--resume", type=Path, help="a checkpoint of Lightning's")
    given = parser.parse_args()
    trained, trainer = main(given.epochs, given.out, given.resume)
    print(f"{trained.mix.describe()}, validation accuracy {trainer.callback_metrics['val_accuracy']:.3f}")
