"""``compare``: methods times seeds, at equal compute, on equal splits."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from lessonplan.data import Data
from lessonplan.errors import ConfigError, unknown
from lessonplan.files import write_atomically
from lessonplan.lab.clusters import cluster_executor
from lessonplan.lab.config import Comparison, content_hash
from lessonplan.lab.evaluation import Evaluation
from lessonplan.lab.examples import write_examples
from lessonplan.lab.executor import Executor, InProcess, LocalProcesses
from lessonplan.lab.job import Job, check_job, load_job_data
from lessonplan.lab.methods import Method, read_methods
from lessonplan.lab.progress import RunCounter
from lessonplan.lab.results import summarise, write_results
from lessonplan.lock import sole_user
from lessonplan.models import check_model
from lessonplan.models.spec import model_identity
from lessonplan.parts.identity import describe_function
from lessonplan.plan import Plan
from lessonplan.report import write_comparison, write_run
from lessonplan.settings import Settings
from lessonplan.train.identity import (
    RUN_FORMAT,
    as_format_1,
    dotted_name,
    identity_settings,
    settings_of_format_1,
    without_conduct,
)
from lessonplan.train.origin import origin_of
from lessonplan.train.run_folder import describe_differences

_MAY_CHANGE = ("seeds", "level")


def compare(
    methods: str | Path | Sequence[str | Method] | Mapping[str, Plan | str | Mapping[str, Any]],
    data: Any = "digits",
    *,
    out: str | Path,
    model: str | Callable[[], nn.Module] = "tiny",
    seeds: int | Sequence[int] = 5,
    budget: str = "30k samples",
    reference: str | None = None,
    title: str | None = None,
    jobs: int | None = None,
    threads: int | None = None,
    executor: Executor | str | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
    level: float = 0.95,
    evaluation: Evaluation | None = None,
    **data_options: Any,
) -> dict[str, Any]:
    """Compare training procedures, paired by seed.

    Runs are stored under a hash of all that decides their outcome: the same call goes on where it stopped,
    costs nothing when everything is done, and does only what is new with more seeds or methods.

    Args:
        methods: see ``lessonplan.lab.methods.read_methods``.
        data: a source's name, or anything ``lessonplan.data.load`` takes.
        out: folder of the comparison: results.csv, results.json, index.html and runs/.
        model: name of a network, or a function that makes one.
        seeds: how many, or which.
        budget: what each run may spend.
        reference: the method the others are compared with; "erm" if there, else the first.
        title: headline of the page.
        jobs: runs at a time; None: one a core on the CPU, one at a time on a GPU.
        threads: CPU threads of a run; None shares the cores out.
        executor: where the runs are done instead of local processes: ``"ray"``, ``"slurm:hours=24"``,
            or one of your own.
        settings: settings of ``fit`` for all methods.
        device: where to train, the same as ``settings={"device": ...}``.
        level: confidence level of the intervals.
        evaluation: what every network goes through after training; its numbers are compared too.
        **data_options: ``per_class``, ``val_fraction`` (0.2 if not given), ``augment`` and the other options of
            ``lessonplan.data.load``.

    Returns:
        What results.json holds.

    Raises:
        ConfigError: something is wrong with the request; runs that fail do not raise, they are reported.
    """
    root = Path(out)
    if root.exists() and not root.is_dir():
        raise ConfigError(f"{root} is a file: give a folder for the comparison")
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs={jobs}: give at least 1 run at a time, or leave it out")
    chosen = read_methods(methods)
    if "val_per_class" not in data_options:
        data_options.setdefault("val_fraction", 0.2)
    comparison = Comparison.make(
        data=data if isinstance(data, str) else f"a {type(data).__name__} given in Python",
        model=model if isinstance(model, str) else describe_function(model),
        budget=budget,
        seeds=tuple(seeds) if not isinstance(seeds, int) else seeds,
        data_options=data_options,
        settings={**(settings or {}), **({"device": device} if device is not None else {})},
        level=level,
    )
    reference = _reference(reference, chosen)
    Settings.make(**comparison.settings)
    every = [Settings.make(**{**comparison.settings, **method.settings}).weights for method in chosen]
    needed = {weights for weights in (comparison.settings.get("weights"), *every) if weights is not None}
    network: Any = model if isinstance(model, str) or not needed else model()
    origins = {weights: origin_of(network, weights) for weights in needed}
    told = {weights: origin.identity for weights, origin in origins.items()}
    sample = load_job_data(data, data_options, comparison.seeds[0], comparison.settings, network)
    if isinstance(model, str):
        check_model(model, sample.shape)
    work = [
        _job(m, s, comparison, sample, root, data, model, evaluation, threads, told)
        for s in comparison.seeds
        for m in chosen
    ]
    waiting = [job for job in work if not job.finished]
    for job in {job.method.name: job for job in waiting}.values():
        check_job(job, sample)
    begun = [Settings.make(**{**job.settings, **job.method.settings}) for job in waiting]
    for weights, head in {(s.weights, s.head) for s in begun if s.weights is not None}:
        # once, and before any run: what does not fit or cannot be fetched would fail in every one of them
        origins[weights].network(shape=sample.shape, num_classes=sample.num_classes, seed=0, head=head)
    if isinstance(executor, str):
        executor = cluster_executor(executor, root, threads or 1) if waiting else None
    with sole_user(root):
        _claim_folder(root, comparison)
        write_examples(root, chosen, sample, comparison.seeds[0])
        table = _Table(
            title or f"{', '.join(m.name for m in chosen)} on {comparison.data}", comparison, reference, work, root
        )
        if waiting:
            _train(waiting, table, executor or _executor(jobs, threads, len(waiting), sample, root))
        results = table.store()
        for job in work:
            if (job.folder / "config.yaml").exists() and not (job.folder / "index.html").exists():
                write_run(job.folder)
        write_comparison(root)
    return results


@dataclass
class _Table:
    """The results so far, written anew whenever a run is over."""

    title: str
    comparison: Comparison
    reference: str
    jobs: Sequence[Job]
    root: Path
    errors: dict[Path, str] = field(default_factory=dict)

    def store(self) -> dict[str, Any]:
        results = summarise(self.title, self.comparison, self.reference, self.jobs, self.errors, self.root)
        write_results(self.root, results)
        return results


def _train(waiting: Sequence[Job], table: _Table, executor: Executor) -> None:
    """Do what is left to do."""
    table.store()
    with RunCounter(len(table.jobs), done=len(table.jobs) - len(waiting)) as counter:

        def report(job: Job, error: str | None) -> None:
            if error is not None:
                table.errors[job.folder] = error
            counter.finished(job.label, error)
            table.store()

        executor.run(waiting, report)


def _reference(given: str | None, methods: Sequence[Method]) -> str:
    names = [method.name for method in methods]
    if given is None:
        return "erm" if "erm" in names else names[0]
    if given not in names:
        raise unknown("reference", given, names)
    return given


def _decisive(config: dict[str, Any]) -> dict[str, Any]:
    """What cannot change from one part of a comparison to the next."""
    kept = {name: value for name, value in config.items() if name not in _MAY_CHANGE}
    return {**kept, "settings": without_conduct(kept.get("settings", {}))}


def _claim_folder(root: Path, comparison: Comparison) -> None:
    """Say what the folder compares; only seeds and methods may be added to it later."""
    file = root / "config.yaml"
    ours = _decisive(comparison.model_dump(mode="json"))
    if file.exists():
        theirs = yaml.safe_load(file.read_text())
        as_before = {**ours, "model": _plain_name(comparison.model)}
        if not isinstance(theirs, dict) or _decisive(theirs) not in (ours, as_before):
            differences = ", ".join(describe_differences(theirs, ours)) or "another kind of folder"
            raise ConfigError(
                f"{root} holds a comparison of another configuration ({differences}): give another folder"
            )
        return
    write_atomically(file, yaml.safe_dump(ours, sort_keys=False).encode())


def _job(
    method: Method,
    seed: int,
    comparison: Comparison,
    sample: Data,
    root: Path,
    data: Any,
    model: str | Callable[[], nn.Module],
    evaluation: Evaluation | None,
    threads: int | None,
    weights: Mapping[str, dict[str, Any]],
) -> Job:
    chosen = Settings.make(**{**comparison.settings, **method.settings})
    identity: dict[str, Any] = {
        "format": RUN_FORMAT,
        "seed": seed,
        "plan": method.plan.config(),
        "model": comparison.model,
        "budget": comparison.budget,
        "data": [view.source.fingerprint for view in (sample.train, sample.test) if view is not None],
        "data_options": comparison.data_options,
        "settings": identity_settings(chosen),
        **(model_identity(model) if isinstance(model, str) else {}),
        **({"weights": weights[chosen.weights]} if chosen.weights is not None else {}),
    }
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", method.name)[:40]
    folder = root / "runs" / f"{stem}-seed{seed}-{content_hash(identity)}"
    older = _as_format_1(identity, chosen)
    if older is not None and not folder.exists():
        stored = root / "runs" / f"{stem}-seed{seed}-{content_hash(older)}"
        folder = stored if stored.exists() else folder
    settings = {**comparison.settings, **({"threads": threads} if threads is not None else {})}
    return Job(method, seed, folder, model, data, comparison.budget, comparison.data_options, settings, evaluation)


def _as_format_1(identity: dict[str, Any], settings: Settings) -> dict[str, Any] | None:
    """What run format 1 named a run by, or None where it cannot be taken up."""
    older = as_format_1(identity)
    if older is None:
        return None
    every = settings_of_format_1(settings)
    return {**older, "format": 1, "model": _plain_name(identity["model"]), "settings": every}


def _plain_name(model: str) -> str:
    """A network's name, or that of the function that makes it as run format 1 wrote it."""
    dotted = dotted_name(model)
    return model if dotted == model else model.partition(":")[2].partition(" ")[0]


def _executor(jobs: int | None, threads: int | None, waiting: int, sample: Data, root: Path) -> Executor:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if jobs is None:
        jobs = cores if sample.train.device.type == "cpu" else 1
    jobs = max(1, min(jobs, waiting))
    if jobs == 1:
        return InProcess()
    return LocalProcesses(jobs, threads or max(1, cores // jobs), root / "log.txt")
