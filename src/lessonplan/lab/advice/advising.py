"""``advise``: which training procedure helps on these data, decided within a given time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lessonplan.data import Data
from lessonplan.data.resplit import check_labelled, labelled
from lessonplan.data.results_place import results_folder
from lessonplan.data.sources import describe
from lessonplan.errors import ConfigError, DataError
from lessonplan.lab.advice.allowance import Allowance
from lessonplan.lab.advice.ending import PLAN, train_named
from lessonplan.lab.advice.field import PLAIN, field_of
from lessonplan.lab.advice.first_look import look_first, weights_of
from lessonplan.lab.advice.labelled import Labelled
from lessonplan.lab.advice.preparing import prepare_plans
from lessonplan.lab.advice.record import Record, check_same, read_record
from lessonplan.lab.advice.tournament import Tournament
from lessonplan.lab.advice.verdict import verdict_of
from lessonplan.lab.data_options import check_data_options
from lessonplan.lab.executor import Executor, LocalProcesses
from lessonplan.lab.plan_file import PlanFile, plan_from, read_plan_file
from lessonplan.lab.runners import check_jobs, runner, runs_at_a_time
from lessonplan.lock import sole_user
from lessonplan.progress import Line, say
from lessonplan.report import write_run
from lessonplan.report.advice import write_advice
from lessonplan.report.advice_words import sentences
from lessonplan.settings import Settings
from lessonplan.stores import in_place
from lessonplan.train.identity import format_of_search, without_conduct
from lessonplan.train.origin import origin_of
from lessonplan.train.usage import environment


@dataclass
class Advice:
    """What a tournament found.

    Attributes:
        verdict: in plain words.
        kind: "better", "undecided" or "plain", see ``verdict_of``.
        plan: the plan that is named, with network, budget and settings.
        table: a row a plan: what it gained on plain training, with its interval.
        folder: of the tournament; ``model`` in it is the classifier, ``index.html`` the page.
        record: what ``advice.json`` holds.
    """

    verdict: str
    kind: str
    plan: PlanFile
    table: list[dict[str, Any]]
    folder: Path
    record: Record = field(repr=False)


@in_place
def advise(
    data: Any = "digits",
    *,
    out: str | Path,
    time: str | None = None,
    budget: str | None = None,
    model: str = "tiny",
    plans: str | Sequence[Any] | Mapping[str, Any] | None = None,
    each: str | None = None,
    val_fraction: float = 0.2,
    seed: int = 0,
    jobs: int | None = None,
    threads: int | None = None,
    executor: Executor | str | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
    level: float = 0.95,
    allow_duplicates: bool = False,
    **data_options: Any,
) -> Advice:
    """Find out which plan helps on these data, and train it on all of them.

    A tournament: in every round each plan trains on the same part of the labelled samples and is judged on the
    rest; plans that fall behind leave, plain training never does. Differences are called better or worse at a
    level that holds for all looks and plans together. Called again with more time it goes on.

    Args:
        data: a source's name, or anything ``lessonplan.data.load`` takes. A validation part of its own is what
            every round is judged on, a test part is read once after the decision; without one none is set aside.
        out: folder, or a URL that fsspec opens: advice.json, index.html, model/ (the classifier), plan.yaml,
            runs/.
        time: how long it may take in all its parts, "30min", training at the end included.
        budget: instead of time, the cost of all runs, "40M cost" (forward 1, backward 2 a sample).
        model: name of a network, for plans that name none.
        plans: see ``field_of``; None: a field that depends on whether there are pretrained weights.
        each: what each run trains; None chooses so that the tournament fits.
        val_fraction: of the labelled samples of each class that a round holds back, in (0, 1).
        seed: of test part, splits, weights and order.
        jobs: runs at a time; None: one a core on the CPU, one at a time on a GPU.
        threads: CPU threads of a run; None is 1. Results do not depend on ``jobs``, but their last digits depend
            on this: a run that was begun keeps what it began with.
        executor: where the runs are done instead of local processes: ``"ray"``, ``"slurm:hours=24"``, or your own.
        settings: settings of ``fit`` for all plans; a plan's own go first.
        device: where to train.
        level: of all intervals together, in (0.5, 1).
        allow_duplicates: go on though held-back pictures have near copies among those that are trained on.
        **data_options: ``per_class``, ``augment`` and the other options of ``lessonplan.data.load``.

    Returns:
        the verdict, the plan, the table.

    Raises:
        ConfigError: something is wrong with the request, or the time is too short.
        DataError: a class has fewer than three labelled samples and there is no validation part, or parts of the
            data overlap.
    """
    root = results_folder(out, "the tournament", data)
    allowance = Allowance.parse(time, budget)
    check_jobs(jobs)
    check_data_options(data_options, advise)
    if not 0.5 < level < 1:
        raise ConfigError(f"level={level!r}: give a confidence level between 0.5 and 1, such as 0.95")
    shared = {**(settings or {}), **({"device": device} if device is not None else {})}
    general = Settings.make(**shared)
    entries = [
        entry.with_defaults(model=model, budget=None, settings=shared) for entry in field_of(plans, general)
    ]
    source = Labelled(data, _options(data_options), val_fraction, seed)
    opened = source.opened(entries[0].model or model, Settings.make(**entries[0].method.settings))
    _check_enough(opened)
    identity = {**_identity(data, opened, source, entries), "level": level, "each": each}
    with sole_user(root):
        record = read_record(root)
        if record is None:
            record = Record(identity)
        check_same(record, identity, root)
        allowance.before = record.seconds
        threads = threads or 1
        if record.plans and _spent(record, allowance):
            return _stored(record, root)
        by = runner(executor, jobs, threads, opened, root)
        workers = _workers(by, jobs, allowance)
        # processes begin while the data are looked at
        with by if isinstance(by, LocalProcesses) else nullcontext():
            together = _looked_at(opened, entries, source, root, allowance, allow_duplicates)
            if not record.plans:
                record.together = together
            source = replace(source, together=record.together)
            say(
                f"{len(entries)} plans on {len(labelled(opened))} labelled samples of {opened.num_classes} classes"
            )
            budgeted, reserve = prepare_plans(
                record, entries, source, allowance, each, by, threads, workers, root, say
            )
            record.environment = environment(str(opened.train.device))
            record.allowance = {"total": allowance.total, "unit": allowance.unit, "workers": workers}
            record.store(root)
            tournament = Tournament(
                budgeted, source, root, record, allowance, reserve, by, level, threads, say=say
            )
            _decide(tournament, workers)
        record.seconds = allowance.seconds
        record.store(root)
        write_run(root / "model")
        write_advice(root)
        record.allowance["spent"] = allowance.total  # last: what is missing is made up for by the same call
        record.store(root)
        return _stored(record, root)


def _identity(data: Any, opened: Data, source: Labelled, entries: Sequence[PlanFile]) -> dict[str, Any]:
    """What may not change from one part of a tournament to the next."""
    return {
        "format": format_of_search(_weights(entries)),
        "data": data if isinstance(data, str) else f"a {type(data).__name__} given in Python",
        "fingerprint": opened.train.source.fingerprint,
        "options": {k: describe(v) if k == "test" else v for k, v in source.options.items() if k != "workers"},
        "val_fraction": source.fraction,
        "seed": source.seed,
        "plans": {e.name: {**e.content(), "settings": without_conduct(e.method.settings)} for e in entries},
        "weights": _weights(entries),
    }


def _workers(executor: Executor, jobs: int | None, allowance: Allowance) -> int:
    """Trials at a time.

    Raises:
        ConfigError: nobody knows, and the time is to be planned.
    """
    at_once = runs_at_a_time(executor, jobs)
    if at_once is None and allowance.unit == "seconds":
        raise ConfigError(
            "nobody knows how many runs the executor does at a time, by which the time is planned: give jobs, or a"
            " budget instead of time"
        )
    return at_once or 1


def _looked_at(
    opened: Data,
    entries: Sequence[PlanFile],
    source: Labelled,
    root: Path,
    allowance: Allowance,
    allow_duplicates: bool,
) -> list[list[int]]:
    """``look_first``, labels judged by the first plan that has weights."""
    good = next((entry for entry in entries if entry.method.settings.get("weights")), None)
    return look_first(
        opened,
        weights_of(str(good.model), good.method.settings) if good is not None else None,
        root,
        per_class=source.options.get("per_class"),
        val_fraction=source.fraction,
        seconds=allowance.total if allowance.unit == "seconds" else None,
        allow_duplicates=allow_duplicates,
        say=say,
    )


def _decide(tournament: Tournament, workers: int) -> None:
    allowance = tournament.allowance
    with Line("tournament", total=allowance.total, done=tournament.spent) as tournament.line:
        tournament.run()
    record = tournament.record
    record.verdict = verdict_of(tournament, workers)
    record.store(tournament.root)
    say(f"training {record.verdict['plan']} on all labelled samples")
    record.final = train_named(tournament, record.verdict["plan"])


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``load`` for data that are opened once: no share is validated on yet, none tested on unasked."""
    if given.get("label_noise"):
        raise ConfigError("label_noise is for experiments: advise needs the labels as they are, leave it out")
    options = {"test_fraction": 0.0, **given}
    if options.get("per_class") is not None and options.get("val_per_class") is None:
        options["val_fraction"] = 0  # as many as are asked for, a validation part of the set's own left alone
    return options


def _check_enough(data: Data) -> None:
    if data.val is None:
        check_labelled(data)
    elif len(data.val) < 2:
        raise DataError("the validation part has a single sample: leave it out, or give more")


def _weights(entries: Sequence[PlanFile]) -> dict[str, Any]:
    """What tells the weights that runs begin with from others."""
    found = {(e.model, e.method.settings["weights"]) for e in entries if e.method.settings.get("weights")}
    return {f"{m} {w}": origin_of(str(m), w).identity for m, w in sorted(found, key=str)}


def _spent(record: Record, allowance: Allowance) -> bool:
    """Whether earlier parts did all that is allowed now."""
    last = record.allowance
    return (
        bool(record.final.get("folder"))
        and last.get("unit") == allowance.unit
        and last.get("spent", 0.0) >= allowance.total
    )


def _stored(record: Record, root: Path) -> Advice:
    told = {"name": PLAIN, "mean": 0.0, "score": record.verdict["scores"][PLAIN], "left_out": None}
    table = [told]
    for name, about in record.plans.items():
        if name != PLAIN:
            row = {"name": name, "score": record.verdict["scores"].get(name), "left_out": about.get("left_out")}
            table.append({**row, **record.standing.get(name, {})})
    plan = read_plan_file(root / PLAN) if (root / PLAN).exists() else plan_from({}, PLAIN)
    words = sentences(asdict(record), root)
    return Advice(" ".join(words), record.verdict["kind"], plan, table, root, record)
