"""A comparison as data: what is the same for all methods."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from lessonplan.strict import Strict
from lessonplan.train.budget import Budget

_MOST_SEEDS = 10_000


class Comparison(Strict):
    """Everything that the methods of a comparison share."""

    KIND: ClassVar[str] = "option of a comparison"

    data: str = "digits"
    """Data source, spelled as ``lessonplan.data.kinds`` says."""
    model: str = "tiny"
    """Name of the network."""
    budget: str = "20ep"
    """Training of each run: 20ep, 4000 steps, 400k samples, 10min, 1.2M cost."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of each method for every seed; a seed fixes split, weights and order for all methods alike."""
    data_options: dict[str, Any] = Field(default_factory=dict)
    """Options of ``lessonplan.data.load``: per_class, val_fraction, augment, ..."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of ``fit`` for all methods."""
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence level of the intervals."""

    @field_validator("seeds", mode="before")
    @classmethod
    def _count(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            if value < 1:
                raise ValueError("give at least one seed")
            if value > _MOST_SEEDS:
                raise ValueError(f"give at most {_MOST_SEEDS} seeds")
            return tuple(range(value))
        if not isinstance(value, (list, tuple)):
            return value
        told_apart = {seed if isinstance(seed, int) else repr(seed) for seed in value}  # they may be anything yet
        if len(told_apart) < max(1, len(value)):
            raise ValueError("give at least one seed, each once")
        return value

    @field_validator("budget")
    @classmethod
    def _readable(cls, value: str) -> str:
        return str(Budget.parse(value))


def content_hash(value: Any) -> str:
    """Twelve hexadecimal digits that stand for a configuration.

    >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
