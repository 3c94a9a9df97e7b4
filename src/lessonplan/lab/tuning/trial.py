"""One run of a search, as a job that any process can do."""

from __future__ import annotations

import shutil
import time
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lessonplan.data import Data
from lessonplan.data.resplit import resplit
from lessonplan.files import remove_leftovers, write_json
from lessonplan.lab.advice.labelled import Labelled
from lessonplan.lab.plan_file import PlanFile
from lessonplan.network.threads import cpu_threads
from lessonplan.seeds import fold_seed
from lessonplan.settings import Settings
from lessonplan.stored import read_json
from lessonplan.train.fitting import fit
from lessonplan.train.run_folder import stored_threads

OUTCOME = "trial.json"


@dataclass
class TuneTrial:
    """A plan with the values of a trial, trained once and judged on validation samples.

    Args:
        entry: the plan with its network, budget and values.
        number: of the trial, from 0.
        repeat: number of the split and of the seed, from 0; the same for all trials.
        folder: where the run is stored.
        labelled: the samples.
        threads: CPU threads where the plan names none, and the run was not begun with others.
    """

    entry: PlanFile
    number: int
    repeat: int
    folder: Path
    labelled: Labelled
    threads: int = 1

    @property
    def label(self) -> str:
        """For progress and logs."""
        return f"trial {self.number + 1}, split {self.repeat + 1}"

    @property
    def finished(self) -> bool:
        """Whether it was done before."""
        return (self.folder / OUTCOME).exists()

    def do(self) -> None:
        """Train; what is kept are its numbers, not its weights."""
        started = time.perf_counter()
        assert self.entry.model is not None
        assert self.entry.budget is not None
        settings = {**self.entry.method.settings}
        settings["threads"] = stored_threads(self.folder) or settings.get("threads") or self.threads
        chosen = Settings.make(**settings)
        self.folder.mkdir(parents=True, exist_ok=True)
        with cpu_threads(settings["threads"]), (self.folder / "log.txt").open("a") as log, redirect_stderr(log):
            run = fit(
                self.entry.model,
                split_of(self.labelled, self.labelled.opened(self.entry.model, chosen), self.repeat),
                self.entry.method.fresh_plan(),
                self.entry.budget,
                seed=self.labelled.seed + self.repeat,
                out=self.folder,
                **settings,
            )
        outcome = {
            "score": score_of(run.result["val"], chosen.watch),
            "seconds": time.perf_counter() - started,
            "cost": run.result["cost"],
        }
        remove_leftovers(self.folder)
        write_json(self.folder / OUTCOME, outcome)
        self.tidy()

    def tidy(self) -> None:
        """Let weights and checkpoints go; a hundred networks would fill the disk."""
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        (self.folder / "weights.safetensors").unlink(missing_ok=True)

    def outcome(self) -> dict[str, Any]:
        """What it found: ``score``, higher is better, wall-clock ``seconds`` and ``cost``."""
        return read_json(self.folder / OUTCOME)


def split_of(labelled: Labelled, data: Data, repeat: int) -> Data:
    """What a repeat trains on and is judged by; test samples are in neither, and out of sight."""
    data = replace(data, test=None)
    if data.val is not None:  # of the data's own
        return data
    return resplit(data, labelled.fraction, fold_seed(labelled.seed, "tune", repeat))


def score_of(val: dict[str, Any], watch: str) -> float:
    """The metric that is searched for; a loss with its sign turned, so that higher is better."""
    return -float(val["loss"]) if watch == "loss" else float(val[watch.replace("-", "_")])
