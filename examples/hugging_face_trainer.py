"""Hugging Face's Trainer: a gradual cascade on a small ResNet, with resume_from_checkpoint.

pip install 'lessonplan[transformers]'; python examples/hugging_face_trainer.py --epochs 5
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import lessonplan as lp
from lessonplan.integrations.transformers import MixTrainer, Samples

# isort: split
# after lessonplan's, which helps where torchvision was built for another torch
from transformers import EvalPrediction, ResNetConfig, ResNetForImageClassification, TrainingArguments, set_seed


def accuracy(predicted: EvalPrediction) -> dict[str, float]:
    """The share of right answers."""
    return {"accuracy": float(np.mean(predicted.predictions.argmax(1) == predicted.label_ids))}


def main(
    epochs: int = 5,
    out: Path = Path("trainer"),
    resume: str | None = None,
    mix: lp.mix.Mix | str = "gradual:k=4",
    **options: Any,
) -> MixTrainer:
    """Train on scikit-learn's digits."""
    set_seed(0)
    data = lp.data.load("digits", per_class=20, val_per_class=10, augment="none")
    sizes = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"}
    model = ResNetForImageClassification(
        ResNetConfig(num_channels=1, num_labels=data.num_classes, downsample_in_first_stage=False, **sizes)
    )
    arguments = TrainingArguments(
        output_dir=str(out),
        num_train_epochs=epochs,
        per_device_train_batch_size=20,
        learning_rate=3e-3,
        eval_strategy="epoch",
        save_strategy="epoch",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        **options,
    )
    trainer = MixTrainer(
        model,
        arguments,
        train_dataset=Samples(data.train),
        eval_dataset=Samples(data.val),
        compute_metrics=accuracy,
        mix=mix,
        monitor="eval_accuracy",
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("trainer"))
    parser.add_argument("--resume", help="a checkpoint's folder")
    given = parser.parse_args()
    print(main(given.epochs, given.out, given.resume).evaluate())
