"""What a loop does when a cascade moves on: best weights back, the optimizer anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn
from torch.optim import Optimizer

from lessonplan.mix.base import Mix, StepResult
from lessonplan.network.learner import restart
from lessonplan.parts.state import Stateful


class Stages(Stateful):
    """A mix, and the network that it trains: keeps a stage's best weights and puts them back when it ends::

        stages = lp.mix.Stages(mix, model, optimizer)
        for epoch in range(epochs):
            stages.advance(epoch / epochs)
            ...                                  # train an epoch with mix(x, y)
            stages.step(validation_accuracy)     # for cascades that switch on plateaus

    ``fit`` and ``lp.batches`` do so by themselves (thesis, algorithm 2).

    Args:
        mix: whichever; one without stages has no use for it.
        model: whose weights are kept.
        optimizer: starts anew where the mix says so (``reset_optimizer``); None leaves it alone.
        on_switch: called after a switch; the place to start a schedule of the learning rate anew.
    """

    STATE: ClassVar[tuple[str, ...]] = ("best", "mix")

    def __init__(
        self,
        mix: Mix,
        model: nn.Module,
        optimizer: Optimizer | None = None,
        on_switch: Callable[[], object] | None = None,
    ) -> None:
        self.mix, self.model, self.optimizer, self.on_switch = mix, model, optimizer, on_switch
        self.best: dict[str, Tensor] | None = None

    def advance(self, progress: float, *, epoch_start: bool = True) -> bool:
        """As ``Mix.advance``; after a switch the best weights are back."""
        switched = self.mix.advance(progress, epoch_start=epoch_start)
        if switched:
            self.begin()
        return switched

    def step(self, metric: float) -> StepResult:
        """As ``Mix.step``: ``"improved"`` weights are kept, after ``"switched"`` the best ones are back."""
        outcome = self.mix.step(metric)
        if outcome == "improved":
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        elif outcome == "switched":
            self.begin()
        return outcome

    def begin(self) -> None:
        """Begin a stage, after the mix has moved on."""
        if self.best is not None:
            self.model.load_state_dict(self.best)
            self.best = None
        if self.optimizer is not None and self.mix.effects_of_switch().reset_optimizer:
            restart(self.optimizer)
        if self.on_switch is not None:
            self.on_switch()
