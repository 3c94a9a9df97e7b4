"""A curriculum: candidates ordered or sampled by what a finished network, the teacher, loses on them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from lessonplan.batch import Batch
from lessonplan.errors import ConfigError, DataError
from lessonplan.order.by_score import ByScore, Score
from lessonplan.parts.part import Occasion


@dataclass(eq=False, kw_only=True)
class TeacherLed(ByScore):
    """Of k candidates the one that a teacher finds easiest (curriculum learning; thesis sections 2.1 and 2.5).

    The scores are the teacher's losses, which stay what they are while the student learns: a look at the
    candidates costs no pass.

    Args:
        run: losses ``(N,)`` of the teacher on every training sample (``lessonplan.select.holdout_losses`` of its
            network), or the folder of a finished run that has such a network, which whoever runs the training
            resolves by ``give_losses``.
        k: candidates for each look, or "all" (with ``winners="all"`` an epoch is sorted once).
        order: "ascending" begins with what is easy for the teacher, "descending" with what is hard.
        items, temperature, winners, pool, losers, warmup: see ``ByScore``.

    >>> TeacherLed(run="runs/teacher", k="all", winners="all").config()
    {'name': 'teacher', 'winners': 'all', 'k': 'all', 'run': 'runs/teacher'}
    """

    name: ClassVar[str] = "teacher"
    first_option: ClassVar[str | None] = "run"
    STATE: ClassVar[tuple[str, ...]] = ("losses=_losses",)
    score: Literal["loss", "label"] | Score = field(default="loss", init=False, repr=False)
    run: Tensor | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._losses: Tensor | None = None
        self._samples: int | None = None
        if isinstance(self.run, Tensor):
            self.give_losses(self.run)

    def give_losses(self, losses: Tensor) -> None:
        """Hear the teacher's losses on all training samples, ``(N,)``.

        Raises:
            DataError: they are not one finite number for each training sample.
        """
        if losses.ndim != 1 or not bool(losses.isfinite().all()):
            raise DataError(
                f"{self.name}: the teacher's losses have the shape {tuple(losses.shape)}, or one is not finite:"
                " give one finite number for each training sample, (N,)"
            )
        self._losses = losses.detach().float().cpu()
        self._check_length()

    def setup(self, occasion: Occasion) -> None:
        """See that there is a loss for each sample."""
        super().setup(occasion)
        self._samples = len(occasion.data)
        self._check_length()

    def needs_network(self) -> bool:
        """No: the teacher has spoken before the training begins."""
        return False

    def _scores(self, batch: Batch) -> Tensor:
        if self._losses is None:
            raise ConfigError(
                f"{self.name} does not know the teacher's losses: give run=FOLDER of a finished run (to fit, or on"
                " the command line), or run=holdout_losses(network, data)"
            )
        return self._losses[batch.indices]

    def config(self) -> dict[str, Any]:
        """Name and options; a tensor by its checksum."""
        config = super().config()
        if isinstance(self.run, Tensor) and self._losses is not None:
            config["run"] = hashlib.sha256(self._losses.numpy().tobytes()).hexdigest()[:16]
        return config

    def _restored(self) -> None:
        self._check_length()

    def _check_length(self) -> None:
        if self._losses is not None and self._samples is not None and len(self._losses) != self._samples:
            raise DataError(
                f"{self.name}: {len(self._losses)} losses of the teacher for {self._samples} training samples:"
                " give one for each, in their order"
            )
