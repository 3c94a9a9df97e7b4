"""The state of a mix where several processes train together: each has draws of its own, a checkpoint is one."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

from lessonplan.errors import ConfigError
from lessonplan.mix.base import Mix


def gather(mix: Mix) -> list[dict[str, Any]]:
    """The states of all processes, for a checkpoint that one of them writes; all of them have to ask."""
    state = mix.state_dict()
    if not _together():
        return [state]
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, state)
    return states


def scatter(mix: Mix, states: list[dict[str, Any]]) -> None:
    """Take back what ``gather`` gave: this process' own.

    Raises:
        ConfigError: another number of processes stored them.
    """
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if _together() else (0, 1)
    if len(states) != ranks:
        raise ConfigError(
            f"the checkpoint holds the mix of {len(states)} processes, and {ranks} train now: resume with as many,"
            " or begin anew from its weights"
        )
    mix.load_state_dict(states[rank])


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
