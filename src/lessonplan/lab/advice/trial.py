"""One run of a tournament, as a job that any process can do."""

from __future__ import annotations

import csv
import shutil
import time
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lessonplan.errors import DataError, first_line
from lessonplan.files import remove_leftovers, write_json
from lessonplan.lab.advice.labelled import Labelled
from lessonplan.lab.plan_file import PlanFile
from lessonplan.network.threads import cpu_threads
from lessonplan.settings import Settings
from lessonplan.stored import read_json
from lessonplan.train.fitting import fit
from lessonplan.train.run_folder import stored_threads

OUTCOME = "trial.json"


@dataclass
class Trial:
    """A plan trained in one round, judged on what the round holds back.

    Args:
        entry: the plan, with its network and budget.
        round: its number, from 0; the same for all plans whose results are paired. None: the training at the end,
            on all labelled samples, judged on the test part if there is one.
        folder: where the run is stored.
        labelled: the samples.
        threads: CPU threads where the plan names none, and the run was not begun with others: however many runs
            there are at a time, the outcome is the same.
        decides: whether the plan decides by validation, which then has a part of its own.
    """

    entry: PlanFile
    round: int | None
    folder: Path
    labelled: Labelled
    threads: int = 1
    decides: bool = False

    @property
    def label(self) -> str:
        """For progress and logs."""
        when = "all labelled samples" if self.round is None else f"round {self.round + 1}"
        return f"{self.entry.name}, {when}"

    @property
    def finished(self) -> bool:
        """Whether it was done before."""
        return (self.folder / OUTCOME).exists()

    def do(self) -> None:
        """Train, and keep which samples were answered rightly; of a round the weights go, its numbers stay."""
        started = time.perf_counter()
        model = self.entry.model
        assert model is not None
        settings = {**self.entry.method.settings}
        settings["threads"] = stored_threads(self.folder) or settings.get("threads") or self.threads
        with cpu_threads(settings["threads"]):
            self._train(model, settings, started)

    def _train(self, model: str, settings: dict[str, Any], started: float) -> None:
        assert self.entry.budget is not None
        data = self.labelled.opened(model, Settings.make(**settings))
        if self.round is None:
            data = self.labelled.whole(data, decides=self.decides)
        else:
            data = self.labelled.of_round(data, self.round, decides=self.decides)
        judged = data.test if data.test is not None else data.val
        seed = self.labelled.seed + (self.round or 0)
        self.folder.mkdir(parents=True, exist_ok=True)
        # What each run says of its weights would be said a hundred times.
        with (self.folder / "log.txt").open("a") as log, redirect_stderr(log):
            run = fit(
                model,
                data,
                self.entry.method.fresh_plan(),
                self.entry.budget,
                seed=seed,
                out=self.folder,
                **settings,
            )
        right = _right(self.folder) if judged is not None else []
        outcome = {
            "seconds": time.perf_counter() - started,
            "cost": run.result["cost"],
            "samples": judged.rows.tolist() if judged is not None else [],
            "right": right,
        }
        remove_leftovers(self.folder)
        write_json(self.folder / OUTCOME, outcome)
        self.tidy()

    def tidy(self) -> None:
        """Let a finished round's weights and checkpoints go; a hundred networks would fill the disk."""
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        if self.round is not None:
            (self.folder / "weights.safetensors").unlink(missing_ok=True)

    def outcome(self) -> dict[str, Any]:
        """What it found: wall-clock ``seconds``, ``cost``, judged ``samples``, and ``right`` for each of them."""
        return read_json(self.folder / OUTCOME)


def _right(folder: Path) -> list[int]:
    """1 for each judged sample that was answered rightly, 0 for the others, in the part's order."""
    file = folder / "predictions.csv"
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return [int(row["true"] == row["predicted"]) for row in csv.DictReader(lines)]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DataError(f"{file} is damaged ({first_line(error)}): delete {folder} to train it again") from None
