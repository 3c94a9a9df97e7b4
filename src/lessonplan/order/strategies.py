"""From scores to positions: which candidates are taken, in which order."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from lessonplan.errors import ConfigError

Ordering = Literal["ascending", "descending"]
Sampling = Literal["smallest", "largest", "weighted", "inverse", "uniform"]
Strategy = Literal["ascending", "descending", "smallest", "largest", "weighted", "inverse", "uniform"]
ORDERINGS: tuple[str, ...] = get_args(Ordering)
SAMPLINGS: tuple[str, ...] = get_args(Sampling)


def pick(
    scores: Tensor, strategy: Strategy, count: int, generator: torch.Generator, temperature: float = 1.0
) -> Tensor:
    """The positions that a strategy takes (thesis, section 2.3).

    Args:
        scores: ``(N,)``, on any device.
        strategy: ``"ascending"`` and ``"descending"`` order, and the first ``count`` come without repeats;
            ``"smallest"`` and ``"largest"`` are the same choice for items that stay available; ``"weighted"``
            draws with replacement, with probabilities proportional to ``score ** (1 / temperature)``,
            ``"inverse"`` to ``score ** (-1 / temperature)``, ``"uniform"`` regardless of scores.
        count: how many, at least 1; orders take at most N.
        generator: on the CPU; used by the strategies that draw.
        temperature: above 0; large ones make draws more alike to uniform ones, small ones to the extremes.

    Returns:
        ``(count,)`` int64 on the CPU. Ties keep their order; NaN scores come last and are never drawn by weight.

    Raises:
        ConfigError: a weighted draw among negative scores.

    >>> pick(torch.tensor([3.0, 1.0, 2.0]), "descending", 2, torch.Generator()).tolist()
    [0, 2]
    """
    values = scores.detach().double().cpu()
    if strategy in ("ascending", "smallest", "descending", "largest"):
        down = strategy in ("descending", "largest")
        values = values.nan_to_num(-torch.inf if down else torch.inf, torch.inf, -torch.inf)
        return values.argsort(descending=down, stable=True)[:count]
    return torch.multinomial(draw_weights(values, strategy, temperature), count, True, generator=generator)


def draw_weights(values: Tensor, strategy: Strategy, temperature: float) -> Tensor:
    """Probabilities ``(N,)`` of the drawing strategies, see ``pick``.

    >>> draw_weights(torch.tensor([1.0, 3.0]), "weighted", 1.0).tolist()
    [0.25, 0.75]
    """
    if strategy == "uniform":
        return torch.full((len(values),), 1 / len(values), dtype=torch.float64)
    if (values < 0).any():
        raise ConfigError(
            f"order={strategy!r} draws in proportion to scores, but one is {values.min():g}: use scores of at"
            " least 0, or order=ascending, descending, smallest or largest"
        )
    # Through logarithms, so that small temperatures neither overflow nor lose the differences.
    tiny = torch.finfo(torch.float64).tiny
    logs = values.double().clamp(min=tiny).log() * ((1 if strategy == "weighted" else -1) / temperature)
    logs = logs.nan_to_num(-torch.inf, torch.inf, -torch.inf)
    if bool(torch.isneginf(logs).all()):
        logs = torch.zeros_like(logs)
    return logs.softmax(0)


def check_strategy(name: str, order: str, temperature: float) -> None:
    """Raise a ``ConfigError`` for an order that does not exist, or a temperature that is not above 0."""
    allowed = get_args(Strategy)
    if order not in allowed:
        raise ConfigError(f"{name}: order={order!r}: give one of {', '.join(allowed)}")
    if not temperature > 0:
        raise ConfigError(f"{name}: temperature={temperature}: give a number above 0")
