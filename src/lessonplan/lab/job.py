"""One run of a comparison, as a job that any process can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from lessonplan.data import Data, OpenedData, open_data
from lessonplan.data import load as load_data
from lessonplan.lab.methods import Method
from lessonplan.train.fit import fit, resolve_device

_OPENING = ("image_size", "on_bad", "memory_limit", "test")
"""Options that decide how files are read, as opposed to how samples are split."""


@dataclass
class Job:
    """A run to be done.

    Args:
        method: the plan and its settings.
        seed: of split, weights, order and mixes.
        folder: where the run is stored.
        model: name of a network, or a function that makes one.
        data: name of a source, or anything ``lessonplan.data.load`` takes.
        data_options: options of ``lessonplan.data.load``.
        budget: text of the budget.
        settings: settings of ``fit``.
    """

    method: Method
    seed: int
    folder: Path
    model: str | Callable[[], nn.Module]
    data: Any
    budget: str
    data_options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """For progress and logs."""
        return f"{self.method.name}, seed {self.seed}"


def do_job(job: Job) -> None:
    """Train; what the run found is in its folder afterwards."""
    model = job.model if isinstance(job.model, str) else _made(job.model, job.seed)
    settings = {**job.settings, **job.method.settings}
    data = load_job_data(job.data, job.data_options, job.seed, settings.get("device", "auto"))
    fit(model, data, job.method.fresh_plan(), job.budget, seed=job.seed, out=job.folder, **settings)


def load_job_data(spec: Any, options: dict[str, Any], seed: int, device: str) -> Data:
    """The split of a seed; files are opened once a process."""
    opening = {k: v for k, v in options.items() if k in _OPENING}
    rest = {k: v for k, v in options.items() if k not in _OPENING}
    opened = _open_once(spec, **opening) if isinstance(spec, str) else spec
    return load_data(opened, seed=seed, device=resolve_device(device), **rest)


@lru_cache(maxsize=2)
def _open_once(spec: str, **options: Any) -> OpenedData:
    return open_data(spec, **options)


def _made(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    from lessonplan.seeds import fold_seed
    from lessonplan.train.randomness import seeded

    with seeded(fold_seed(seed, "weights")):
        return factory()
