"""The search over files: trees as jobs, survivors between epochs, a summary as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lessonplan.data.results_place import results_folder
from lessonplan.errors import ConfigError, RunFailed
from lessonplan.lab.clusters import cluster_executor
from lessonplan.lab.executor import Executor, InProcess, LocalProcesses
from lessonplan.lab.ordering import store
from lessonplan.lab.ordering.config import OrderingConfig
from lessonplan.lab.ordering.estimate import check_feasible
from lessonplan.lab.ordering.job import THREADS, TreeJob, make_engine, on_device, search_plan
from lessonplan.lab.ordering.network import search_network
from lessonplan.lab.ordering.samples import Samples, load_samples
from lessonplan.lab.ordering.summary import THESIS_CITATION, judge_claims, summarise_epoch, thesis_epochs
from lessonplan.lab.progress import RunCounter
from lessonplan.lock import sole_user
from lessonplan.machine import usable_cores
from lessonplan.network.accelerator import resolve_device
from lessonplan.network.threads import cpu_threads
from lessonplan.network.untouched import seeded
from lessonplan.order.perfect import State, Tree
from lessonplan.order.perfect.engine import check_network
from lessonplan.order.perfect.search import next_starts
from lessonplan.order.perfect.state import start_state
from lessonplan.parts.identity import describe_function
from lessonplan.report.ordering import write_ordering
from lessonplan.seeds import fold_seed
from lessonplan.stores import in_place
from lessonplan.train.usage import environment

_WORTH_PROCESSES = 20.0  # seconds of work; starting processes takes some of them

FORMAT = 1
"""Raised when a change of the code makes stored trees incomparable with new ones."""


@dataclass(frozen=True)
class Build:
    """Makes the network with the weights of a seed, in any process."""

    model: str | Callable[[], nn.Module]
    shape: tuple[int, ...]
    outputs: int
    seed: int

    def __call__(self) -> nn.Module:
        if isinstance(self.model, str):
            return search_network(self.model, self.shape, self.outputs, self.seed)
        with seeded(self.seed):
            return self.model()


@in_place
def search_orderings(
    data: str,
    *,
    out: str | Path,
    epochs: int = 13,
    model: str | Callable[[], nn.Module] = "small-conv",
    title: str | None = None,
    jobs: int | None = None,
    executor: Executor | str | None = None,
    chunk: int | None = None,
    device: str = "auto",
    max_hours: float = 48.0,
    **options: Any,
) -> dict[str, Any]:
    """Train every order of an epoch's batches, keep survivors, repeat; called again it goes on where it stopped.

    Args:
        data: source of samples, see ``lessonplan.data.load``.
        out: folder: ``runs.csv`` (a row a run), ``ordering.json`` (the summary), ``index.html``. A search that was
            killed goes on behind its last finished tree; a finished one can be given more epochs.
        epochs: how many. The first has one tree of all orders, every other one ``survivors`` trees.
        model: name of a network, or a function that makes one.
        title: headline of the page.
        jobs: trees at a time, each with one thread; None: one a core on the CPU, one on a GPU
            and in a search of a few seconds.
        executor: where trees are trained instead: ``"ray"``, ``"slurm:hours=24"`` or an executor.
        chunk: networks trained together, see ``lessonplan.order.perfect.Engine``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        max_hours: a search that would take longer is refused before it begins.
        options: fields of ``OrderingConfig``.

    Returns:
        The summary, as in ``ordering.json``.

    Raises:
        ConfigError: options that cannot be used, a search that would take longer than ``max_hours``, a network
            with batch norm, divergence. DataError: data that are missing, broken or too few.
    """
    if epochs < 1:
        raise ConfigError(f"epochs={epochs}: give at least 1")
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs={jobs}: give at least 1 tree at a time, or leave it out")
    named = model if isinstance(model, str) else describe_function(model)
    config = OrderingConfig.make(data=data, model=named, **options)
    samples = load_samples(config)
    place = resolve_device(device)
    build = Build(model, tuple(samples.x.shape[1:]), samples.outputs, fold_seed(config.seed, "weights"))
    check_network(build())
    folder = results_folder(out, "the search", data)
    if isinstance(executor, str):
        executor = cluster_executor(executor, folder, 1, jobs)
    with sole_user(folder):
        store.claim_folder(folder, _identity(config, samples))
        search = _Search(folder, config, samples, build, str(place), chunk, epochs, title or "Perfect ordering")
        with cpu_threads(THREADS):
            summary = search.run(executor, jobs, max_hours)
        write_ordering(folder)
    return summary


class _Search:
    """A search under way in its folder."""

    def __init__(
        self,
        folder: Path,
        config: OrderingConfig,
        samples: Samples,
        build: Build,
        device: str,
        chunk: int | None,
        epochs: int,
        title: str,
    ) -> None:
        self.folder, self.config, self.samples, self.build = folder, config, samples, build
        self.device, self.chunk, self.epochs, self.title = device, chunk, epochs, title
        self.plan = search_plan(config, len(samples.y))
        self._began = time.monotonic()
        self._seconds_before = float(store.read_summary(folder).get("seconds", 0.0))

    def run(self, executor: Executor | None, jobs: int | None, max_hours: float) -> dict[str, Any]:
        """Do what is missing; the summary."""
        trees = store.read_trees(self.folder)
        last = max((epoch for epoch, _ in trees), default=0)
        if last < self.epochs or not self._complete(trees, self.epochs):
            store.write_samples(self.folder, self.samples)
            seconds = self._estimate(jobs, max_hours)
            executor = executor or self._executor(jobs, seconds)
            with RunCounter(
                self.config.trees(self.epochs), done=len(trees), unit="trees", measure="accuracy of an order"
            ) as counter:
                for epoch in range(max(1, store.latest_epoch(self.folder)), self.epochs + 1):
                    self._epoch(epoch, executor, trees, counter)
            (self.folder / "work" / "samples.safetensors").unlink(missing_ok=True)
        return self._summarise(trees)

    def _epoch(
        self, epoch: int, executor: Executor, trees: dict[tuple[int, int], Tree], counter: RunCounter
    ) -> None:
        """Train the missing trees of an epoch and put all rows together."""
        starts = store.read_starts(self.folder, epoch)
        if starts is None:
            starts = self._begin(epoch, trees)
        jobs = [
            TreeJob(self.folder, self.config, self.build, epoch, number, self.device, self.chunk)
            for number in range(len(starts))
            if (epoch, number) not in trees
        ]
        errors: list[str] = []

        def report(job: TreeJob, error: str | None) -> None:
            best = store.best_accuracy(self.folder, job.epoch, job.start) if counter.line.shown else None
            counter.finished(job.label, error, best)
            if error is not None:
                errors.append(f"{job.label}: {error}")

        if jobs:
            executor.run(jobs, report)
        if errors:
            raise RunFailed(
                f"{len(errors)} of {len(jobs)} trees failed ({errors[0]}): what is finished is kept, mend that and"
                " run again"
            )
        trees.update(store.read_trees(self.folder))
        store.merge_trees(self.folder, trees.values())
        self._summarise(trees)

    def _begin(self, epoch: int, trees: dict[tuple[int, int], Tree]) -> list[State]:
        """The starts of an epoch: the network itself, or the survivors of the epoch before."""
        if epoch == 1:
            starts = [start_state(self.build())]
        else:
            before = store.read_starts(self.folder, epoch - 1)
            assert before is not None  # an epoch begins when the one before it is complete
            engine = make_engine(self.folder, self.config, self.build, self.device, self.chunk)
            starts = next_starts(
                engine,
                self.plan.batches(epoch - 1),
                [on_device(start, self.device) for start in before],
                [trees[epoch - 1, number] for number in range(len(before))],
                self.config.survivors,
                fold_seed(self.config.seed, epoch - 1),
            )
        store.write_starts(self.folder, epoch, starts)
        store.forget_starts(self.folder, epoch)
        return starts

    def _complete(self, trees: dict[tuple[int, int], Tree], epoch: int) -> bool:
        """Whether an epoch has all its trees."""
        starts = store.read_starts(self.folder, epoch)
        if starts is None:
            return store.latest_epoch(self.folder) > epoch
        return all((epoch, number) in trees for number in range(len(starts)))

    def _estimate(self, jobs: int | None, max_hours: float) -> float:
        """Seconds of work in the whole search."""
        engine = make_engine(self.folder, self.config, self.build, self.device, self.chunk)
        workers = jobs or (usable_cores() if self.device == "cpu" else 1)
        runs = self.config.runs(len(self.samples.y), self.epochs)
        return check_feasible(engine, self.plan, runs, workers, max_hours)

    def _executor(self, jobs: int | None, seconds: float) -> Executor:
        """This process for small searches and GPUs; otherwise one process a core."""
        if jobs is None:
            jobs = usable_cores() if self.device == "cpu" and seconds > _WORTH_PROCESSES else 1
        jobs = min(jobs, self.config.survivors)
        return InProcess() if jobs == 1 else LocalProcesses(jobs, 1, self.folder / "log.txt")

    def _summarise(self, trees: dict[tuple[int, int], Tree]) -> dict[str, Any]:
        numbers = sorted({epoch for epoch, _ in trees})
        rows = [summarise_epoch(n, [tree for (epoch, _), tree in trees.items() if epoch == n]) for n in numbers]
        like_thesis = is_thesis(self.config, len(self.samples.class_names))
        summary = {
            "schema": 1,
            "title": self.title,
            "epochs_wanted": self.epochs,
            "evaluated_on": "test" if self.config.evaluate_on == "test" else "validation",
            "training_samples": len(self.samples.y),
            "evaluation_samples": len(self.samples.y_eval),
            "classes": list(self.samples.class_names),
            "outputs": self.samples.outputs,
            "batches": self.config.batches(len(self.samples.y)),
            "runs": sum(row["runs"] for row in rows),
            "seconds": self._seconds_before + time.monotonic() - self._began,
            "epochs": rows,
            "claims": judge_claims(rows),
            "source": _thesis() if like_thesis else None,
            "config": _identity(self.config, self.samples),
            "environment": environment(self.device),
        }
        store.write_summary(self.folder, summary)
        return summary


def is_thesis(config: OrderingConfig, classes: int) -> bool:
    """Whether a search has the sizes of the thesis' experiment, so that its numbers belong beside."""
    sizes = (classes, config.per_class, config.batch_size, config.survivors, config.max_permutations)
    return sizes == (2, 24, 8, 12, None)


def _thesis() -> dict[str, Any]:
    epochs = thesis_epochs()
    return {"citation": THESIS_CITATION, "epochs": epochs, "claims": judge_claims(epochs)}


def _identity(config: OrderingConfig, samples: Samples) -> dict[str, Any]:
    return {
        "format": FORMAT,
        **config.model_dump(mode="json"),
        "lr": config.learning_rate,
        "momentum": config.used_momentum,
        "outputs": samples.outputs,
        "samples": samples.fingerprint,
    }
