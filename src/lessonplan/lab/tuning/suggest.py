"""What is tried next: at random, or by Optuna from what was found."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from lessonplan.errors import ConfigError, unknown
from lessonplan.extras import refuse_other_versions
from lessonplan.lab.tuning.space import Dimension, Value
from lessonplan.seeds import fold_seed

SAMPLERS = ("tpe", "random")
STARTUP = 10
"""Trials that are drawn at random before Optuna's sampler has enough to go by (its own default)."""
_STUDY = "lessonplan"

Values = dict[str, Value]


def optuna() -> ModuleType | None:
    """Optuna, quiet; None where it is not installed."""
    try:
        found = importlib.import_module("optuna")
    except ImportError:
        return None
    found.logging.set_verbosity(found.logging.WARNING)
    return found


def resolve_sampler(name: str) -> str:
    """Which sampler is meant.

    Args:
        name: "tpe" (Optuna's tree-structured Parzen estimator, over all numbers together; Bergstra et al. 2011),
            "random", or "auto": the first where Optuna is installed.

    Raises:
        ConfigError: it is unknown, or needs Optuna.
    """
    if name == "auto":
        return "tpe" if optuna() is not None else "random"
    if name not in SAMPLERS:
        raise unknown("sampler", name, ["auto", *SAMPLERS])
    if name == "tpe" and optuna() is None:
        raise ConfigError("optuna is not installed: pip install 'lessonplan[tune]', or give --sampler random")
    if name == "tpe":
        refuse_other_versions("tune")
    return name


def suggest(
    dimensions: Sequence[Dimension],
    done: Sequence[tuple[Values, float]],
    pending: Sequence[Values],
    *,
    number: int,
    seed: int,
    sampler: str,
) -> Values:
    """The values of a trial: a pure function of these arguments, so that a search goes on as it would have.

    Args:
        dimensions: what is searched.
        done: values and scores of trials that are over, higher is better.
        pending: values of trials at work, which are not to be tried again.
        number: of the trial, from 0.
        seed: of the search.
        sampler: see ``resolve_sampler``.
    """
    drawn = fold_seed(seed, "trial", number) % 2**32
    if sampler == "random":
        places = np.random.default_rng(drawn).random(len(dimensions))
        return {d.name: d.at(float(place)) for d, place in zip(dimensions, places, strict=True)}
    library = optuna()
    assert library is not None
    made = library.samplers.TPESampler(seed=drawn, multivariate=True, constant_liar=True, n_startup_trials=STARTUP)
    study = library.create_study(direction="maximize", sampler=made)
    _fill(library, study, dimensions, done, pending)
    asked = study.ask(_distributions(library, dimensions)).params
    return {d.name: d.tidy(asked[d.name]) for d in dimensions}


def importances(dimensions: Sequence[Dimension], done: Sequence[tuple[Values, float]]) -> dict[str, float] | None:
    """Share of each number in what makes good trials good, in [0, 1] (PED-ANOVA, Watanabe et al. 2023, by Optuna).

    Returns:
        by name; None without Optuna, or where too few trials are over or all are alike.
    """
    library = optuna()
    if library is None or len(done) < STARTUP or len({score for _, score in done}) < 2:
        return None
    study = library.create_study(direction="maximize")
    _fill(library, study, dimensions, done, ())
    try:
        evaluator = library.importance.PedAnovaImportanceEvaluator()
        found = library.importance.get_param_importances(study, evaluator=evaluator)
    except (RuntimeError, ValueError):  # of too little variance, says each version in its own words
        return None
    return {d.name: float(found[d.name]) for d in dimensions if d.name in found}


def write_study(path: Any, dimensions: Sequence[Dimension], done: Sequence[tuple[Values, float]]) -> None:
    """Write the trials as a study of Optuna's, ``lessonplan`` by name, for its dashboard and its plots.

    Args:
        path: of a journal file, written anew.
        dimensions, done: see ``suggest``.
    """
    library = optuna()
    if library is None:
        return
    storages = importlib.import_module("optuna.storages")
    journal = importlib.import_module("optuna.storages.journal")
    partial = path.with_name(f"{path.name}.tmp")
    partial.unlink(missing_ok=True)
    storage = storages.JournalStorage(journal.JournalFileBackend(str(partial)))
    study = library.create_study(direction="maximize", study_name=_STUDY, storage=storage)
    _fill(library, study, dimensions, done, ())
    partial.replace(path)


def _fill(
    library: ModuleType,
    study: Any,
    dimensions: Sequence[Dimension],
    done: Sequence[tuple[Values, float]],
    pending: Sequence[Values],
) -> None:
    distributions, create = _distributions(library, dimensions), library.trial.create_trial
    waiting = library.trial.TrialState.RUNNING
    study.add_trials(
        [create(params=values, distributions=distributions, value=score) for values, score in done]
        + [create(state=waiting, params=values, distributions=distributions) for values in pending]
    )


def _distributions(library: ModuleType, dimensions: Sequence[Dimension]) -> Mapping[str, Any]:
    kinds = library.distributions

    def one(d: Dimension) -> Any:
        if d.choices:
            return kinds.CategoricalDistribution(d.choices)
        if d.whole:
            return kinds.IntDistribution(int(d.low or 0), int(d.high or 0), log=d.log)
        return kinds.FloatDistribution(d.low, d.high, log=d.log)

    return {d.name: one(d) for d in dimensions}
