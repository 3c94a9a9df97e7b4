"""The plans that compete when nobody names any: what has helped elsewhere, each against plain training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lessonplan.errors import ConfigError
from lessonplan.lab.methods import Method, read_methods
from lessonplan.lab.plan_file import PlanFile, read_plan_file
from lessonplan.settings import Settings
from lessonplan.train.optimizer import learning_rate

PLAIN = "plain"
"""Name of the reference: all samples as they come, the given settings."""

HEAD_BUDGET = "300 steps"
"""What a head on kept features trains; next to nothing beside the network that made them."""

_SCRATCH = {
    "mixup": "mixup:until=80%",
    "cascade-4": "cascade:k=4,patience=none,shares=.4/.4/.2",
    "cascade-2": "cascade:k=2,patience=none,shares=.7/.3",
    "cutmix": "cutmix:p=0.5",
    "gradual-4": "gradual:k=4",
    "filter": "select:accuracy:margin=0.2",
    "lr-third": "",
    "lr-threefold": "",
}
_PRETRAINED = {
    "probe": "tune:head",
    "logreg": "logreg",
    "lr-third": "",
    "mixup": "mixup:alpha=0.4",
    "probe-mixup": "tune:head + mixup",
    "cascade-2": "cascade:k=2,patience=none,shares=.7/.3",
    "cutmix": "cutmix:p=0.5",
    "smooth": "label_smoothing:0.1",
    "lr-threefold": "",
    "filter": "select:accuracy:margin=0.2",
}


def field_of(plans: str | Sequence[Any] | Mapping[str, Any] | None, settings: Settings) -> list[PlanFile]:
    """The plans of a tournament, the reference first.

    Args:
        plans: None for the default field, which depends on whether the network has pretrained weights; else what
            ``read_methods`` takes, a plan file, or several of these, files among them (ending in .yaml or .yml).
        settings: of all plans; the reference has these alone.

    Raises:
        ConfigError: a plan is unknown, a name is given twice, or there is nothing but plain training.

    >>> [entry.name for entry in field_of("erm,mixup,best=cascade:k=8", Settings())]
    ['plain', 'mixup', 'best']
    """
    found = _default(settings) if plans is None else _given(plans)
    if PLAIN not in [entry.name for entry in found]:
        plain = read_methods({PLAIN: "none"})[0]
        found = [PlanFile(plain), *found]
    found.sort(key=lambda entry: entry.name != PLAIN)
    reference = found[0]
    found = [reference, *(entry for entry in found[1:] if _what(entry) != _what(reference))]
    names = [entry.name for entry in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"plan {twice!r} is given twice: give one of them another name")
    if len(found) < 2:
        raise ConfigError("only plain training is there: give at least one other plan, or leave out --plans")
    return found


def _what(entry: PlanFile) -> dict[str, Any]:
    """A plan without its name: what ``erm`` names is plain training."""
    return {**entry.content(), "name": None}


def _default(settings: Settings) -> list[PlanFile]:
    rate = learning_rate(settings)
    rates = {"lr-third": rate / 3, "lr-threefold": rate * 3}
    table = _SCRATCH if settings.weights is None else _PRETRAINED
    if settings.weights is not None and settings.tune == "head":  # the whole network is not asked for
        table = {
            name: text for name, text in _PRETRAINED.items() if name not in ("probe", "cutmix", "probe-mixup")
        }
    texts = {n: text or f"lr:{rates[n]:.2g}" for n, text in table.items()}
    return [PlanFile(method) for method in read_methods(texts)]


def _given(plans: str | Sequence[Any] | Mapping[str, Any]) -> list[PlanFile]:
    if isinstance(plans, Mapping):
        return [PlanFile(method) for method in read_methods(plans)]
    if isinstance(plans, (str, Path)):
        files = [part.strip() for part in str(plans).split(",")]
        if all(part.endswith((".yaml", ".yml")) for part in files):
            return [read_plan_file(part) for part in files]
        return [PlanFile(method) for method in read_methods(str(plans))]
    found: list[PlanFile] = []
    for item in plans:
        if isinstance(item, PlanFile):
            found.append(item)
        elif isinstance(item, Method):
            found.append(PlanFile(item))
        else:
            found += _given(item)
    return found
