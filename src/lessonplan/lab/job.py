"""One run of a comparison, as a job that any process can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lessonplan.data import Data
from lessonplan.data import load as load_data
from lessonplan.errors import ConfigError
from lessonplan.lab.methods import Method
from lessonplan.report import write_run
from lessonplan.seeds import fold_seed
from lessonplan.settings import Settings
from lessonplan.train.budget import Budget
from lessonplan.train.fitting import fit, resolve_device
from lessonplan.train.randomness import seeded
from lessonplan.train.trainer import Trainer


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
    try:
        fit(model, data, job.method.fresh_plan(), job.budget, seed=job.seed, out=job.folder, **settings)
    except Exception:
        if (job.folder / "config.yaml").exists():
            write_run(job.folder)
        raise
    write_run(job.folder)


def check_job(job: Job, data: Data) -> None:
    """Find what would stop a run at its first update, without building its network.

    Raises:
        ConfigError: the method does not fit the data or the settings; it is named.
    """
    settings = Settings.make(**{**job.settings, **job.method.settings, "compile": False})
    stand_in = nn.ParameterList([torch.zeros(1)])
    try:
        Trainer(stand_in, data, job.method.fresh_plan(), Budget.parse(job.budget), settings, seed=job.seed)
    except ConfigError as error:
        raise ConfigError(f"method {job.method.name}: {error}") from None


def load_job_data(spec: Any, options: dict[str, Any], seed: int, device: str) -> Data:
    """The split of a seed, on the device that the settings mean."""
    return load_data(spec, seed=seed, device=resolve_device(device), **options)


def _made(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    with seeded(fold_seed(seed, "weights")):
        return factory()
