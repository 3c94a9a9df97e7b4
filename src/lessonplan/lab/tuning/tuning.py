"""``tune``: search the numbers of one plan, each trial at the same cost, judged on validation samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from lessonplan.data.resplit import check_labelled
from lessonplan.data.results_place import results_folder
from lessonplan.data.sources import describe
from lessonplan.errors import ConfigError, RunFailed
from lessonplan.lab.advice.labelled import Labelled
from lessonplan.lab.advice.optimism import optimism
from lessonplan.lab.data_options import check_data_options
from lessonplan.lab.executor import Executor, LocalProcesses
from lessonplan.lab.methods import Method, read_methods
from lessonplan.lab.plan_file import PlanFile, read_plan_file
from lessonplan.lab.progress import RunCounter
from lessonplan.lab.runners import runner
from lessonplan.lab.task import Mishap, go_on
from lessonplan.lab.tuning.binding import check_names, with_values
from lessonplan.lab.tuning.record import Record, read_record
from lessonplan.lab.tuning.space import Dimension, read_search
from lessonplan.lab.tuning.suggest import Values, importances, resolve_sampler, suggest, write_study
from lessonplan.lab.tuning.trial import TuneTrial, split_of
from lessonplan.lock import sole_user
from lessonplan.plan import Plan
from lessonplan.progress import say
from lessonplan.report.formatting import duration
from lessonplan.report.tune import write_tune
from lessonplan.report.tune_words import score_text, values_text
from lessonplan.settings import Settings
from lessonplan.stores import in_place
from lessonplan.train.budget import Budget
from lessonplan.train.identity import format_of_search, without_conduct
from lessonplan.train.origin import origin_of
from lessonplan.train.preparation import check_run
from lessonplan.train.usage import environment

GIVEN, BEST, STUDY = "given.yaml", "best.yaml", "optuna.journal"
_ATTEMPTS = 2  # a process may be killed once for reasons that are not the trial's


@dataclass
class Tuning:
    """What a search found.

    Attributes:
        best: the plan with the values of the best trial, its network and budget.
        score: its mean validation score (a loss with its sign turned); optimistic, since it was picked for it.
        table: a row a trial: number, values, score, scores, seconds, cost, error.
        folder: of the search; ``best.yaml`` in it is the plan, ``index.html`` the page.
        record: what ``tune.json`` holds.
    """

    best: PlanFile
    score: float
    table: list[dict[str, Any]]
    folder: Path
    record: Record = field(repr=False)


@in_place
def tune(
    search: str | Mapping[str, str],
    data: Any = "digits",
    plan: PlanFile | Plan | str | Path | None = None,
    *,
    out: str | Path,
    model: str = "tiny",
    budget: str = "100k cost",
    trials: int = 20,
    splits: int = 1,
    sampler: str = "auto",
    at_once: int = 4,
    val_fraction: float = 0.2,
    seed: int = 0,
    jobs: int | None = None,
    threads: int | None = None,
    executor: Executor | str | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
    **data_options: Any,
) -> Tuning:
    """Search the numbers of one plan; each trial has the same budget and is judged on validation samples.

    Test samples are set aside as ``train`` sets them aside, and no run of a search sees them. A search that was
    stopped goes on as it would have, and one that is over goes on with more ``trials``.

    Args:
        search: ranges and choices by name, ``"lr=1e-3..1e-1 log, mix.k=2|4|8, select.margin=0..0.5"``; settings by
            their names, options of the plan's parts as ``part.option``, or ``part.member.option`` where several
            members of a part have it.
        data: a source's name, or anything ``lessonplan.data.load`` takes.
        plan: what is tuned: a plan file, a text, a plan; None: plain training.
        out: folder, or a URL that fsspec opens: tune.json, index.html, best.yaml, given.yaml (the plan as it
            was), runs/, and optuna.journal
            where Optuna is installed.
        model: name of a network, where the plan file names none.
        budget: of each run, where the plan file names none; one in ``cost`` makes trials that select, or mix
            several images, as dear as others.
        trials: how many in all, at least 1.
        splits: how many splits and seeds each trial is trained on; its score is their mean. The same for all
            trials. A validation part of the data's own stays, and seeds alone differ.
        sampler: see ``resolve_sampler``; "auto" is Optuna's where it is installed, else random search.
        at_once: trials that are suggested from the same results, at least 1: fewer learn more from each other,
            more can be done at a time. Results depend on this, so that they do not on ``jobs``.
        val_fraction: of the labelled samples of each class that a split validates on, in (0, 1).
        seed: of test part, splits, weights, order and suggestions.
        jobs: runs at a time; None: one a core on the CPU, one at a time on a GPU.
        threads: CPU threads of a run; None is 1, see ``compare``.
        executor: where the runs are done instead of local processes: ``"ray"``, ``"slurm:hours=24"``, or your own.
        settings: settings of ``fit``; the plan file's own go first, and ``watch`` says which metric counts.
        device: where to train.
        **data_options: ``per_class``, ``augment`` and the other options of ``lessonplan.data.load``.

    Returns:
        the best plan, its score, the table of trials.

    Raises:
        ConfigError: a name is unknown, a range is none, a value is refused, or every trial failed.
        RunFailed: the machine kept a trial from being done (disk, memory); the same call goes on.
        DataError: the data cannot be opened, or have too few samples to judge by.
    """
    root = results_folder(out, "the search", data)
    for name, number in (("trials", trials), ("splits", splits), ("at_once", at_once)):
        if number < 1:
            raise ConfigError(f"{name}={number}: give at least 1")
    if not 0 < val_fraction < 1:
        raise ConfigError(
            f"val_fraction={val_fraction!r}: trials are judged on validation samples, give a fraction above 0 and"
            " below 1"
        )
    check_data_options(data_options, tune)
    Budget.parse(budget)
    shared = {**(settings or {}), **({"device": device} if device is not None else {})}
    entry = _entry(plan).with_defaults(model=model, budget=budget, settings=shared)
    dimensions = check_names(entry, read_search(search))
    chosen = resolve_sampler(sampler)
    if sampler == "auto" and chosen == "random":
        say("Optuna is not installed (pip install 'lessonplan[tune]'): trials are drawn at random")
    source = Labelled(data, _data_options(data_options), val_fraction, seed)
    held = Settings.make(**entry.method.settings)
    opened = source.opened(entry.model or model, held)
    if opened.val is None:
        check_labelled(opened)
    first = split_of(source, opened, 0)
    for dimension in dimensions:
        for value in dimension.ends():
            _check(with_values(entry, {dimension.name: value}), first, seed, f"{dimension.name}={value}")
    threads = threads or 1
    identity = {
        "format": format_of_search(held.weights),
        "data": data if isinstance(data, str) else f"a {type(data).__name__} given in Python",
        "fingerprint": opened.train.source.fingerprint,
        "options": {k: describe(v) if k == "test" else v for k, v in source.options.items() if k != "workers"},
        "val_fraction": val_fraction,
        "seed": seed,
        "plan": {**entry.content(), "settings": without_conduct(entry.method.settings)},
        "weights": origin_of(str(entry.model), held.weights).identity if held.weights is not None else None,
        "search": [dimension.text() for dimension in dimensions],
        "watch": held.watch,
        "splits": splits,
        "sampler": chosen,
        "at_once": at_once,
    }
    with sole_user(root):
        record = read_record(root, identity)
        record.wanted = max(trials, len(record.trials))
        record.environment = environment(str(opened.train.device))
        entry.write(root / GIVEN)
        by = runner(executor, jobs, threads, opened, root)
        with by if isinstance(by, LocalProcesses) else nullcontext():
            _Search(entry, dimensions, source, root, record, by, threads).run()
        write_tune(root)
        return _found(entry, record, root)


@dataclass
class _Search:
    """Trials in waves: each wave is suggested from all that came before it, and done as processes are free."""

    entry: PlanFile
    dimensions: Sequence[Dimension]
    labelled: Labelled
    root: Path
    record: Record
    executor: Executor
    threads: int
    counter: RunCounter = field(init=False, repr=False)
    _errors: dict[tuple[int, int], str] = field(default_factory=dict)

    def run(self) -> None:
        """Until there are as many trials as are wanted."""
        trials, at_once = self.record.trials, self.record.identity["at_once"]
        watch = self.record.identity["watch"]
        over = [(number, trial["score"]) for number, trial in enumerate(trials) if "score" in trial]
        self.counter = RunCounter(
            self.record.wanted, len(over), "trials", f"val {watch}", lambda score: score_text(score, watch)
        )
        with self.counter:
            for number, score in over:
                self.counter.known(f"trial {number + 1}", score)
            for start in range(0, self.record.wanted, at_once):
                numbers = range(start, min(start + at_once, self.record.wanted))
                for number in numbers[len(trials) - start if len(trials) > start else 0 :]:
                    trials.append({"values": self._suggested(start, number)})
                self.record.store(self.root)
                self._train(numbers)
                self._conclude()

    def _suggested(self, start: int, number: int) -> Values:
        return suggest(
            self.dimensions,
            _done(self.record.trials[:start]),
            [trial["values"] for trial in self.record.trials[start:number]],
            number=number,
            seed=self.labelled.seed,
            sampler=self.record.identity["sampler"],
        )

    def _train(self, numbers: Sequence[int]) -> None:
        for _ in range(_ATTEMPTS):
            waiting = [
                self._job(number, repeat)
                for number in numbers
                if "score" not in self.record.trials[number] and self._first(number) == number
                for repeat in range(self.record.identity["splits"])
            ]
            waiting = [job for job in waiting if not job.finished]
            if waiting:
                self.executor.run(waiting, self._report)
        for number in numbers:
            if "score" not in self.record.trials[number]:
                self._stop_at_mishap(number)
                self._settle(number)

    def _stop_at_mishap(self, number: int) -> None:
        """End the command where the machine kept a trial from being done, so that it is done later.

        Raises:
            RunFailed: it did. What may be the trial's own fault (the memory it needs) is, if it comes again.
        """
        trial, splits = self.record.trials[number], self.record.identity["splits"]
        known = [self._errors.get((self._first(number), repeat)) for repeat in range(splits)]
        mishap = next((error for error in known if isinstance(error, Mishap)), None)
        if mishap is None or (mishap.suspect and trial.get("suspected")):
            return
        if mishap.suspect:
            trial["suspected"] = str(mishap)
            self.record.store(self.root)
        raise RunFailed(f"trial {number + 1} ({values_text(trial['values'])}): {mishap}; {go_on(mishap, 'trial')}")

    def _first(self, number: int) -> int:
        """The first trial of the same values: the same runs would only be done again."""
        values = self.record.trials[number]["values"]
        return next(n for n, trial in enumerate(self.record.trials) if trial["values"] == values)

    def _job(self, number: int, repeat: int) -> TuneTrial:
        entry = with_values(self.entry, self.record.trials[number]["values"])
        folder = self.root / "runs" / f"trial{self._first(number):03d}-split{repeat}"
        return TuneTrial(entry, number, repeat, folder, self.labelled, self.threads)

    def _report(self, job: TuneTrial, error: str | None) -> None:
        if error is not None:
            self._errors[job.number, job.repeat] = error
        jobs = [self._job(job.number, repeat) for repeat in range(self.record.identity["splits"])]
        if all(other.finished for other in jobs) and "score" not in self.record.trials[job.number]:
            self._settle(job.number)
        else:
            self.counter.line.update(what=job.label)

    def _settle(self, number: int) -> None:
        """Write down what a trial found; one that failed twice has no score."""
        trial = self.record.trials[number]
        trial.pop("suspected", None)
        jobs = [self._job(number, repeat) for repeat in range(self.record.identity["splits"])]
        found = [job.outcome() for job in jobs if job.finished]
        whole = len(found) == len(jobs)
        scores = [outcome["score"] for outcome in found]
        trial |= {"scores": scores, "score": fmean(scores) if whole else None}
        trial |= {key: sum(outcome[key] for outcome in found) for key in ("seconds", "cost")}
        if not whole:
            first = self._first(number)
            known = (self._errors.get((first, repeat)) for repeat in range(len(jobs)))
            trial["error"] = next(filter(None, known), None) or self.record.trials[first].get("error") or "stopped"
        self.record.store(self.root)
        self.counter.finished(f"trial {number + 1}", trial.get("error"), trial["score"])
        best, watch = self.record.best, self.record.identity["watch"]
        says = trial["error"] if not whole else score_text(trial["score"], watch)
        leads = (
            "" if best is None else f"; best {score_text(self.record.trials[best]['score'], watch)} ({best + 1})"
        )
        say(
            f"trial {number + 1} of {self.record.wanted}: {values_text(trial['values'])}: {says}{leads},"
            f" {duration(trial['seconds'])}"
        )

    def _conclude(self) -> None:
        """What the trials so far say together."""
        done = _done(self.record.trials)
        self.record.importance = importances(self.dimensions, done)
        whole = {str(n): dict(enumerate(t["scores"])) for n, t in enumerate(self.record.trials) if _over(t)}
        self.record.optimism = optimism(whole, list(whole)) if len(whole) > 1 else None
        self.record.store(self.root)
        write_study(self.root / STUDY, self.dimensions, done)
        if self.record.best is not None:
            best_plan(self.entry, self.record).write(self.root / BEST)


def best_plan(entry: PlanFile, record: Record) -> PlanFile:
    """The plan with the values of the best trial, called ``NAME-tuned``."""
    assert record.best is not None
    found = with_values(entry, record.trials[record.best]["values"])
    method = replace(found.method, name=f"{entry.name}-tuned", settings=without_conduct(found.method.settings))
    return replace(found, method=method)


def _over(trial: dict[str, Any]) -> bool:
    return trial.get("score") is not None


def _done(trials: Sequence[dict[str, Any]]) -> list[tuple[Values, float]]:
    """Values and scores; a trial that failed (at a learning rate that ends in NaN) counts as the worst of all."""
    scores = [trial["score"] for trial in trials if _over(trial)]
    worst = min(scores, default=0.0)
    return [(trial["values"], trial["score"] if _over(trial) else worst) for trial in trials]


def _entry(plan: PlanFile | Plan | str | Path | None) -> PlanFile:
    if isinstance(plan, PlanFile):
        return plan
    if isinstance(plan, Path) or (isinstance(plan, str) and plan.endswith((".yaml", ".yml"))):
        return read_plan_file(plan)
    if isinstance(plan, Plan):
        return PlanFile(Method("plan", plan))
    return PlanFile(read_methods({"plan": plan or "none"})[0])


def _data_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``load`` for data that are opened once; the test part is that of ``train``."""
    options = dict(given)
    if options.get("per_class") is not None and options.get("val_per_class") is None:
        options["val_fraction"] = 0  # as many as are asked for, a validation part of the set's own left alone
    return options


def _check(entry: PlanFile, data: Any, seed: int, what: str) -> None:
    try:
        check_run(entry.method.fresh_plan(), data, Settings.make(**entry.method.settings), seed)
    except ConfigError as error:
        raise ConfigError(f"a trial with {what} cannot be trained: {error}") from None


def _found(entry: PlanFile, record: Record, root: Path) -> Tuning:
    if record.best is None:
        reason = record.trials[0].get("error")
        raise ConfigError(f"none of {len(record.trials)} trials could be trained; the first one: {reason}")
    rows = [{"number": number + 1, **trial} for number, trial in enumerate(record.trials)]
    return Tuning(best_plan(entry, record), record.trials[record.best]["score"], rows, root, record)
