"""One run of a comparison, as a job that any process can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from lessonplan import report
from lessonplan.data import Data
from lessonplan.data import load as load_data
from lessonplan.errors import ConfigError
from lessonplan.lab.evaluation import Evaluation, evaluate, subject_of
from lessonplan.lab.evaluation.running import is_complete, read_evaluation
from lessonplan.lab.methods import Method
from lessonplan.models.factory import Factory
from lessonplan.network.accelerator import resolve_device
from lessonplan.network.threads import cpu_threads
from lessonplan.settings import Settings
from lessonplan.train.beginning import network_at_start
from lessonplan.train.fitting import fit
from lessonplan.train.loggers import loggers
from lessonplan.train.origin import origin_of
from lessonplan.train.preparation import check_run
from lessonplan.train.run_folder import read_result, stored_threads

EVALUATED = "evaluation"
"""Folder of a run's evaluation inside of its own."""


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
        evaluation: what the network goes through after training, if anything.
        follows: folder of the run whose choices a control among its filters replays.
        threads: CPU threads where the settings name none, and the run was not begun with others: however many
            jobs there are at a time, the outcome is the same.
        log: where the run is recorded beside its folder, see ``lessonplan.train.loggers``.
    """

    method: Method
    seed: int
    folder: Path
    model: str | Factory
    data: Any
    budget: str
    data_options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    follows: Path | None = None
    threads: int = 1
    log: str = ""

    @property
    def label(self) -> str:
        """For progress and logs."""
        return f"{self.method.name}, seed {self.seed}"

    @property
    def kind(self) -> str:
        """What takes as long as it does: runs of one method."""
        return self.method.name

    @property
    def watches_test(self) -> bool:
        """Whether it looks at test data while it trains."""
        return {**self.settings, **self.method.settings}.get("evaluate_test") == "curve"

    @property
    def finished(self) -> bool:
        """Whether everything was done before."""
        trained = read_result(self.folder) is not None
        return trained and (self.evaluation is None or is_complete(self.folder / EVALUATED, self.evaluation))

    def network(self, data: Data) -> nn.Module:
        """The network as its training begins."""
        settings = {**self.settings, **self.method.settings}
        return network_at_start(self.model, data, Settings.make(**settings), self.seed)

    def do(self) -> None:
        """Train and evaluate; what the run found is in its folder afterwards."""
        settings = {**self.settings, **self.method.settings}
        data = load_job_data(self.data, self.data_options, self.seed, settings, self.model)
        settings["threads"] = stored_threads(self.folder) or settings.get("threads") or self.threads
        try:
            plan = self.method.fresh_plan()
            for control in self.method.controls(plan):
                control.of = str(self.follows)
            with cpu_threads(settings["threads"]):
                logs = loggers(self.log, self.folder)
                run = fit(
                    self.model,
                    data,
                    plan,
                    self.budget,
                    seed=self.seed,
                    out=self.folder,
                    callbacks=logs,
                    **settings,
                )
                if self.evaluation is not None:
                    self._evaluate(run.model, data)
        except Exception:
            if (self.folder / "config.yaml").exists():
                report.write_run(self.folder)
            raise
        report.write_run(self.folder)

    def _evaluate(self, network: nn.Module, data: Data) -> None:
        assert self.evaluation is not None
        subject = subject_of(
            network,
            data,
            data.preprocessing,
            name=self.label,
            device=data.train.device,
            folder=self.folder,
        )
        evaluate(subject, self.evaluation, out=self.folder / EVALUATED, live=False)


def check_job(job: Job, data: Data) -> None:
    """As ``check_run``, with the name of the method.

    Raises:
        ConfigError: the method does not fit the data or the settings; it is named.
    """
    settings = Settings.make(**{**job.settings, **job.method.settings})
    try:
        check_run(job.method.fresh_plan(), data, settings, job.seed)
    except ConfigError as error:
        raise ConfigError(f"method {job.method.name}: {error}") from None


def evaluation_row(job: Job) -> dict[str, float]:
    """The numbers of a run's evaluation by name; none where it was not done with the job's options."""
    folder = job.folder / EVALUATED
    found = read_evaluation(folder) if job.evaluation is not None and is_complete(folder, job.evaluation) else None
    measures: dict[str, float] = found["measures"] if found is not None else {}
    return measures


def load_job_data(spec: Any, options: dict[str, Any], seed: int, settings: dict[str, Any], model: Any) -> Data:
    """The split of a seed as the settings' weights ask for it, on the device that the settings mean."""
    device = resolve_device(settings.get("device", "auto"))
    chosen = Settings.make(**settings)
    needs = origin_of(model, chosen.weights).needs_for(chosen.tune) if chosen.weights is not None else None
    return load_data(spec, seed=seed, device=device, input=needs, **options)
