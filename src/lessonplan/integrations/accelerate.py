"""Accelerate (``pip install 'lessonplan[accelerate]'``): a mix in the checkpoints of an ``Accelerator``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lessonplan.integrations.given import the_mix
from lessonplan.integrations.packages import need
from lessonplan.integrations.ranks import gather, scatter
from lessonplan.mix.base import Mix

if TYPE_CHECKING:
    from accelerate import Accelerator
else:
    need("accelerate", "accelerate")


__all__ = ["MixState", "register"]


class MixState:
    """A mix as Accelerate stores it: one file for all processes, of which each has draws of its own.

    Args:
        mix: whose state it is.
    """

    def __init__(self, mix: Mix) -> None:
        self.mix = mix

    def state_dict(self) -> dict[str, Any]:
        """The states of all processes."""
        return {"mix": gather(self.mix)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back this process' own."""
        scatter(self.mix, state["mix"])


def register(accelerator: Accelerator, mix: Mix) -> None:
    """Let ``accelerator.save_state`` and ``load_state`` store and take back a mix::

        register(accelerator, mix)
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    Args:
        accelerator: of the loop.
        mix: what the loop mixes with; ``lp.mix.Stages`` and ``lp.batches`` can be registered by themselves
            (``accelerator.register_for_checkpointing``) where one process trains.

    Raises:
        ConfigError: ``mix`` is no mix.
    """
    state = MixState(the_mix(mix))
    accelerator.register_for_checkpointing(state)
