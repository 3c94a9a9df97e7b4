"""``compare``: methods times seeds, at equal compute, on equal splits."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from lessonplan import report
from lessonplan.data.results_place import results_folder
from lessonplan.errors import ConfigError, LessonplanWarning, unknown
from lessonplan.files import write_atomically
from lessonplan.kept_metrics import keep_metrics
from lessonplan.lab.config import Comparison
from lessonplan.lab.data_options import check_data_options
from lessonplan.lab.evaluation import Evaluation
from lessonplan.lab.evaluation.other_data import check_sets
from lessonplan.lab.evaluation.parts.localisation import check_boxes
from lessonplan.lab.examples import write_examples
from lessonplan.lab.executor import Executor, LocalProcesses
from lessonplan.lab.job import Job, check_job, load_job_data
from lessonplan.lab.kept_rows import KeptRows
from lessonplan.lab.methods import Method, read_methods
from lessonplan.lab.progress import RunCounter
from lessonplan.lab.recording import record_comparison
from lessonplan.lab.results import Results, summarise, write_results
from lessonplan.lab.runners import check_jobs, runner
from lessonplan.lab.runs import Runs, plain_name
from lessonplan.lab.worst_pictures import pictures_of
from lessonplan.lock import sole_user
from lessonplan.models import check_model
from lessonplan.models.factory import Factory
from lessonplan.network.accelerator import resolve_device
from lessonplan.parts.identity import describe_function
from lessonplan.plan import Plan
from lessonplan.progress import say
from lessonplan.report.answers import keep_answers
from lessonplan.report.formatting import number
from lessonplan.settings import Settings
from lessonplan.stored import read_yaml
from lessonplan.stores import in_place
from lessonplan.train.identity import without_conduct
from lessonplan.train.origin import origin_of
from lessonplan.train.records import records, refusals
from lessonplan.train.run_folder import describe_differences, in_words, read_result

_MAY_CHANGE = ("seeds", "level")
_SHARE = 20  # times what storing the table took passes before it is stored again


@in_place
def compare(
    methods: str | Path | Sequence[str | Method] | Mapping[str, Plan | str | Mapping[str, Any]],
    data: Any = "digits",
    *,
    out: str | Path,
    model: str | Factory = "tiny",
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
    log: str = "",
    **data_options: Any,
) -> Results:
    """Compare training procedures, paired by seed.

    Runs are stored under a hash of all that decides their outcome: the same call goes on where it stopped,
    costs nothing when everything is done, and does only what is new with more seeds or methods.

    Args:
        methods: see ``lessonplan.lab.methods.read_methods``.
        data: a source's name, or anything ``lessonplan.data.load`` takes.
        out: folder of the comparison, or a URL that fsspec opens: results.csv, results.json, metrics.jsonl.gz
            and answers.json.gz (of all runs), index.html and runs/.
        model: name of a network, or a function that makes one (``lessonplan.models.factory``).
        seeds: how many, or which.
        budget: what each run may spend.
        reference: the method the others are compared with; "erm" if there, else the first.
        title: headline of the page.
        jobs: runs at a time; None: one a core on the CPU, one a GPU; on a cluster as many as it takes.
        threads: CPU threads of a run; None is 1. Results do not depend on ``jobs``, but their last digits depend
            on this: a run that was begun keeps what it began with.
        executor: where the runs are done instead of local processes: ``"ray:address=head:6379,gpus=1"``,
            ``"slurm:hours=2,partition=gpu"`` (see ``lessonplan.lab.clusters``), or one of your own.
        settings: settings of ``fit`` for all methods.
        device: where to train, the same as ``settings={"device": ...}``.
        level: confidence level of the intervals.
        evaluation: what every network goes through after training; its numbers are compared too.
        log: where runs and comparison are recorded beside their folders: ``tensorboard``, ``wandb``, ``mlflow``,
            separated by commas, with options behind a colon (``wandb:project=NAME,entity=NAME,group=NAME``,
            ``mlflow:experiment=NAME``).
        **data_options: ``per_class``, ``val_fraction`` (0.2 if not given), ``augment`` and the other options of
            ``lessonplan.data.load``.

    Returns:
        What results.json holds, a dictionary; a notebook shows its table.

    Raises:
        ConfigError: something is wrong with the request; runs that fail do not raise, they are reported.
    """
    root = results_folder(out, "the comparison", data)
    check_jobs(jobs)
    check_data_options(data_options, compare)
    if isinstance(model, nn.Module):
        raise ConfigError(
            f"model is one {type(model).__name__}, and each run needs a fresh network: give a function that makes"
            " it"
        )
    recorded = records(log, root)
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
    origins = {weights: origin_of(model, weights) for weights in needed}
    sample = load_job_data(data, data_options, comparison.seeds[0], comparison.settings, model)
    if sample.test is None:
        raise ConfigError(
            "a comparison is judged by test data, and these have none: give a test set (test=...), or a"
            " test_fraction above 0"
        )
    told = {weights: origin.identity_for(sample.class_names) for weights, origin in origins.items()}
    if isinstance(model, str):
        check_model(model, sample.shape)
    if evaluation is not None:
        check_sets(evaluation.ood, sample, sample.preprocessing)
        if evaluation.true_boxes:
            check_boxes(sample, ("train", evaluation.on))
    runs = Runs(comparison, sample, root, data, model, evaluation, threads, told, log)
    work = [job for seed in comparison.seeds for job in runs.of_seed(chosen, seed)]
    waiting = [job for job in work if not job.finished]
    for job in {job.method.name: job for job in waiting}.values():
        check_job(job, sample)
    begun = [Settings.make(**{**job.settings, **job.method.settings}) for job in waiting]
    if executor is None:  # on other machines there may be more
        for asked in {settings.device for settings in begun}:
            resolve_device(asked)
    for weights, head in {(s.weights, s.head) for s in begun if s.weights is not None}:
        # once, and before any run: what does not fit or cannot be fetched would fail in every one of them
        origins[weights].network(shape=sample.shape, num_classes=sample.num_classes, seed=0, head=head)
    named = any(":" in str(settings.device) for settings in begun)
    by = None
    if waiting:
        for record in recorded:
            with refusals(record, "be reached"):
                record.reach()
        by = runner(executor, jobs, threads or 1, sample, root, most=len(waiting), named=named)
    with sole_user(root):
        _claim_folder(root, comparison)
        _tell_of_others(root, work)
        title = title or f"{', '.join(m.name for m in chosen)} on {comparison.data}"
        table = _Table(title, comparison, reference, work, root)
        try:
            with by if isinstance(by, LocalProcesses) else nullcontext():  # they begin meanwhile
                begun_first = {job.method.name: job for job in work[: len(chosen)]}
                seed = comparison.seeds[0]
                write_examples(root, chosen, sample, seed, lambda m: begun_first[m.name].network(sample))
                if by is not None:
                    _train(waiting, table, by)
        finally:  # what was done before an interruption is told too
            results = table.store()
        keep_metrics(root, [job.folder for job in work])
        for job in work:
            if (job.folder / "config.yaml").exists() and not (job.folder / "index.html").exists():
                report.write_run(job.folder)
        keep_answers(root, results["methods"], lambda names: pictures_of(sample, names))
        report.write_comparison(root)
        if waiting:
            record_comparison(recorded, root, results)
        elif recorded:
            say(f"all runs were finished before: nothing is recorded by log={log}")
    return results


@dataclass
class _Table:
    """The results so far, written anew when a run is over."""

    title: str
    comparison: Comparison
    reference: str
    jobs: Sequence[Job]
    root: Path
    errors: dict[Path, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rows = KeptRows(self.root)
        self._next = 0.0

    def store(self) -> Results:
        began = time.monotonic()
        results = summarise(self.title, self.comparison, self.reference, self.jobs, self.errors, self._rows.row)
        write_results(self.root, results)
        now = time.monotonic()
        self._next = now + _SHARE * (now - began)
        return results

    def store_in_time(self) -> None:
        """Store, unless a large table was stored only just: it is stored again later, or at the end."""
        if time.monotonic() >= self._next:
            self.store()


def _train(waiting: Sequence[Job], table: _Table, executor: Executor) -> None:
    """Do what is left to do."""
    table.store()
    with RunCounter(len(table.jobs), done=len(table.jobs) - len(waiting)) as counter:
        if counter.line.shown:
            left = {id(job) for job in waiting}
            for job in table.jobs:
                if id(job) not in left:
                    counter.known(job.label, _val_accuracy(job))

        def over(job: Job, error: str | None) -> None:
            if error is not None:
                table.errors[job.folder] = error
            counter.finished(job.label, error, _val_accuracy(job))
            table.store_in_time()

        # A control replays what another run kept: it waits until that run is over.
        for wave in ([job for job in waiting if job.follows is None], [job for job in waiting if job.follows]):
            if wave:
                executor.run(wave, over)


def _val_accuracy(job: Job) -> float | None:
    judged = (read_result(job.folder) or {}).get("val") or {}
    return number(judged.get("accuracy"))


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


def _tell_of_others(root: Path, work: Sequence[Job]) -> None:
    """Say which runs lie in the folder and not in the table: those of methods or seeds that are not given now."""
    ours = {job.folder.name for job in work}
    others = sorted({file.parent.name for file in (root / "runs").glob("*/result.json")} - ours)
    if others:
        warnings.warn(
            f"{root} also has finished runs that are not in this table, {len(others)} of them"
            f" ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''}): give their methods and seeds too to"
            " have them in it",
            LessonplanWarning,
            stacklevel=3,
        )


def _claim_folder(root: Path, comparison: Comparison) -> None:
    """Say what the folder compares; only seeds and methods may be added to it later."""
    file = root / "config.yaml"
    ours = _decisive(comparison.model_dump(mode="json"))
    if file.exists():
        theirs = read_yaml(file)
        as_before = {**ours, "model": plain_name(comparison.model)}
        same = isinstance(theirs, dict) and _decisive(theirs) in (ours, as_before)
        # A refused first try may have left a configuration with which no run was begun.
        idle = isinstance(theirs, dict) and set(theirs) == set(ours) and not any((root / "runs").glob("*"))
        if not same and not idle:
            differences = in_words(describe_differences(theirs, ours)) or "another kind of folder"
            raise ConfigError(
                f"{root} holds a comparison of another configuration ({differences}): give another folder"
            )
        if same:
            return
    write_atomically(file, yaml.safe_dump(ours, sort_keys=False).encode())
