"""The runs of a comparison: what makes each the same as before, where it is stored, which one it follows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lessonplan.data import Data
from lessonplan.errors import ConfigError
from lessonplan.lab.config import Comparison, content_hash
from lessonplan.lab.evaluation import Evaluation
from lessonplan.lab.job import Job
from lessonplan.lab.methods import Method
from lessonplan.models.factory import Factory
from lessonplan.models.spec import model_identity
from lessonplan.settings import Settings
from lessonplan.stored import read_json
from lessonplan.train.identity import (
    RUN_FORMAT,
    as_format_1,
    as_format_2,
    as_format_3,
    as_format_4,
    dotted_name,
    ended_early,
    identity_settings,
    settings_of_format_1,
)
from lessonplan.train.run_folder import read_config


@dataclass(frozen=True)
class Runs:
    """What all runs of a comparison have in common.

    Args:
        comparison: what is compared, but for the methods.
        sample: the data of the first seed.
        root: folder of the comparison.
        data: name of a source, or anything ``lessonplan.data.load`` takes.
        model: name of a network, or a function that makes one.
        evaluation: what the networks go through after training, if anything.
        threads: CPU threads of a run; None leaves them.
        weights: of each text of weights, what they are.
        log: where the runs are recorded, see ``lessonplan.train.loggers``.
    """

    comparison: Comparison
    sample: Data
    root: Path
    data: Any
    model: str | Factory
    evaluation: Evaluation | None
    threads: int | None
    weights: Mapping[str, dict[str, Any]]
    log: str = ""

    def of_seed(self, methods: Sequence[Method], seed: int) -> list[Job]:
        """A job a method, in their order.

        Raises:
            ConfigError: a control follows a method that does not take part, or one that is a control itself.
        """
        leading = {m.name: self._job(m, seed, None) for m in methods if not self._followed(m, methods)}
        jobs = []
        for method in methods:
            name = self._followed(method, methods)
            if name is not None and name not in leading:
                raise ConfigError(
                    f"method {method.name} replays {name}, which is a control too: name what selects"
                )
            jobs.append(leading[method.name] if name is None else self._job(method, seed, leading[name]))
        return jobs

    def _followed(self, method: Method, methods: Sequence[Method]) -> str | None:
        """The method whose runs a method's control replays, if one of the comparison."""
        names = {str(control.of) for control in method.controls()}
        known = {other.name for other in methods}
        for name in names - known:
            if not Path(name).is_dir():
                raise ConfigError(
                    f"method {method.name}: matched-random:of={name} is neither a method of this comparison"
                    f" ({', '.join(sorted(known - {method.name}))}) nor the folder of a run: give one of them"
                )
        if len(names) > 1:
            raise ConfigError(f"method {method.name} replays {' and '.join(sorted(names))}: one at a time")
        return next(iter(names & known), None)

    def _job(self, method: Method, seed: int, followed: Job | None) -> Job:
        comparison = self.comparison
        chosen = Settings.make(**{**comparison.settings, **method.settings})
        views = (self.sample.train, self.sample.test)
        identity: dict[str, Any] = {
            "format": RUN_FORMAT,
            "seed": seed,
            "plan": method.plan.config(),
            "model": comparison.model,
            "budget": comparison.budget,
            "data": [view.source.fingerprint for view in views if view is not None],
            "data_options": comparison.data_options,
            "settings": identity_settings(chosen),
            **(model_identity(self.model) if isinstance(self.model, str) else {}),
            **({"weights": self.weights[chosen.weights]} if chosen.weights is not None else {}),
            **({"follows": followed.folder.name} if followed is not None else {}),
        }
        settings = {**comparison.settings, **({"threads": self.threads} if self.threads is not None else {})}
        return Job(
            method,
            seed,
            self._folder(method, seed, identity, chosen),
            self.model,
            self.data,
            comparison.budget,
            comparison.data_options,
            settings,
            self.evaluation,
            followed.folder if followed is not None else None,
            log=self.log,
        )

    def _folder(self, method: Method, seed: int, identity: dict[str, Any], chosen: Settings) -> Path:
        """Where the run is stored, perhaps under the name that an older format gave it."""
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", method.name)[:40]
        runs = self.root / "runs"
        folder = runs / f"{stem}-seed{seed}-{content_hash(identity)}"
        if folder.exists():
            return folder
        newer = (as_format(identity) for as_format in (as_format_4, as_format_3, as_format_2))
        for older in (*newer, _as_format_1(identity, chosen)):
            if older is None:
                continue
            stored = runs / f"{stem}-seed{seed}-{content_hash(older)}"
            if stored.exists() and not _ended_early(stored):
                return stored
        return folder


def _ended_early(folder: Path) -> bool:
    file = folder / "result.json"
    return ended_early(read_config(folder) or {}, read_json(file) if file.exists() else None)


def _as_format_1(identity: dict[str, Any], settings: Settings) -> dict[str, Any] | None:
    """What run format 1 named a run by, or None where it cannot be taken up."""
    older = as_format_1(identity)
    if older is None:
        return None
    every = settings_of_format_1(settings)
    return {**older, "format": 1, "model": plain_name(identity["model"]), "settings": every}


def plain_name(model: str) -> str:
    """A network's name, or that of the function that makes it as run format 1 wrote it."""
    dotted = dotted_name(model)
    return model if dotted == model else model.partition(":")[2].partition(" ")[0]
