"""What every part of an evaluation works on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lessonplan.evaluate import MixupInference, RandomisedDefence, TestTimeSum, predict_logits
from lessonplan.evaluation import Evaluation
from lessonplan.lab.evaluation.progress import Steps
from lessonplan.lab.evaluation.subject import Subject
from lessonplan.seeds import fold_seed

BATCH = 256


@dataclass
class Work:
    """What every part works on.

    Attributes:
        subject: the network and its data.
        options: what was asked for.
        steps: hears how far it is.
    """

    subject: Subject
    options: Evaluation
    steps: Steps

    def generator(self, *purpose: str) -> torch.Generator:
        """A generator of its own for each purpose."""
        return torch.Generator().manual_seed(fold_seed(self.options.seed, "evaluation", *purpose))

    def judged(self, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """Samples and labels of the part that is judged, at most ``limit`` (None: the options')."""
        view = self.subject.view(self.options.on)
        rows = self.subject.rows(view, limit or self.options.limit, self.options.seed)
        return self.subject.samples(view, rows), view.labels[rows]

    def training(self, limit: int) -> tuple[Tensor, Tensor]:
        """Training samples without augmentation, and their true labels."""
        view = self.subject.data.train
        rows = self.subject.rows(view, limit, self.options.seed)
        return self.subject.samples(view, rows), view.clean_labels[rows]

    def defences(self, purpose: str) -> dict[str, RandomisedDefence]:
        """The test-time sums that were asked for, and Mixup Inference where it was."""
        wanted = self.options.ttsa
        if wanted is None:
            return {}
        pool, labels = (t.to(self.subject.device) for t in self.training(self.options.pool))
        found: dict[str, RandomisedDefence] = {
            "ttsa": TestTimeSum(
                self.subject.model,
                pool,
                wanted.k,
                wanted.copies,
                wanted.weight,
                of=wanted.of,
                generator=self.generator(purpose, "ttsa"),
            )
        }
        if self.options.mixup_inference:
            for variant in ("predicted", "other"):
                found[f"mi_{variant}"] = MixupInference(
                    self.subject.model,
                    pool,
                    labels,
                    "other" if variant == "other" else "predicted",
                    copies=wanted.copies,
                    generator=self.generator(purpose, variant),
                )
        return found

    def predict(self, on: str | None = None) -> Tensor:
        """Logits of a whole part of the data, read batch by batch: it need not fit into memory."""
        view = self.subject.view(on or self.options.on)
        parts = []
        for rows in torch.arange(len(view)).split(BATCH):
            parts.append(predict_logits(self.subject.model, self.subject.samples(view, rows), batch_size=BATCH))
            self.steps.advance(len(rows))
        return torch.cat(parts)
