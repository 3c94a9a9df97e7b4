"""What makes two runs the same: everything that decides a run's outcome, as plain data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from lessonplan.data import Data
from lessonplan.models import count_parameters
from lessonplan.models.spec import model_identity
from lessonplan.network.network import LossFunction
from lessonplan.parts.identity import describe_function
from lessonplan.plan import Plan
from lessonplan.settings import Settings
from lessonplan.supply.epoch import HANDLED
from lessonplan.train.budget import Budget
from lessonplan.train.optimizer import OptimizerFactory, learning_schedule
from lessonplan.train.tuning import Tune

RUN_FORMAT = 5
"""Raised when a change of the code makes stored runs incomparable with new ones.

Format 2: the look-ahead keeps its winner's update, and functions of the user's own are told apart by what they do.
Format 3: the schedule ``stagnation`` judges the losses of each K by themselves. Stored runs of other schedules and
mixes are the same ones, but for selections that ended on augmented samples after an epoch that kept nothing
(``ended_early``). Runs with weights from elsewhere name ``batch_norm``, stacked look-aheads on their own losses
``dropout``, and runs that tell the network's stages apart ``stages``, since what they do was changed.
Format 4: a network that begins with weights from elsewhere, and trains more than its head, sees all of a picture.
Format 5: factors of losses are no part of smoothed or united labels, the loss of sums divides by the K of the
batch, which the schedule ``stagnation`` hears too, and gradual sums with ``draw=mixed`` keep their groups for an
epoch. Stored runs without any of these are the same ones.
"""

_ONE_K = {"sum", "mixup", "cutmix", "cutout", "manifold", "puzzle", "probability", "chain", "choice"}
"""Mixes whose number of images in a sum never changes, where those inside of them have one."""

_NOT_IDENTITY = {"checkpoint_every", "threads", "weights", "feature_cache"}
"""Settings that do not change a run's outcome; where weights lie does not, what they are is told apart."""


def run_config(
    model: str | nn.Module,
    data: Data,
    plan: Plan,
    budget: Budget,
    settings: Settings,
    seed: int,
    *,
    loss: LossFunction | None = None,
    optimizer: OptimizerFactory | None = None,
    weights: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A run's identity as plain data: two runs with the same one have the same outcome.

    ``weights`` are those that the network begins with, as ``Origin.identity`` tells them.
    """
    config: dict[str, Any] = {
        "format": RUN_FORMAT,
        "model": model if isinstance(model, str) else _describe_module(model),
        "data": {**data.description, "fingerprint": data.fingerprint},
        "plan": plan.config(),
        "budget": str(budget),
        "seed": seed,
        "settings": identity_settings(settings),
        "input": {
            "shape": list(data.shape),
            "classes": list(data.class_names),
            "preprocessing": data.preprocessing.to_dict(),
        },
    }
    if isinstance(model, str):
        config |= model_identity(model)
    if weights is not None:
        config["weights"] = weights
    config["settings"]["device"] = data.train.device.type
    for name, function in (("loss", loss), ("optimizer", optimizer)):
        if function is not None:
            config[name] = describe_function(function)
    return config


_ADDED = {name: Settings.model_fields[name].default for name in (
    "evaluate_train", "evaluate_test", "head", "tune", "head_lr", "layer_decay", "decay_norms",
    "label_smoothing", "fit_head", "features", "feature_views", "batch_norm", "mix_over", "grad_reduce",
    "focal_gamma", "shard",
)}  # fmt: skip
"""Settings that came later, with what they do where a run does not name them."""


def identity_settings(settings: Settings) -> dict[str, Any]:
    """The settings that decide a run's outcome, and what more it measures where it does."""
    found = settings.model_dump(mode="json", exclude=_NOT_IDENTITY) | _meant(settings)
    if settings.batch_norm == "sync":
        found["batch_norm"] = "sync"
    elif settings.weights is not None:  # tells runs from those that began before statistics could be frozen
        found["batch_norm"] = "frozen" if settings.frozen_statistics else "train"
    elif not settings.frozen_statistics:
        found["batch_norm"] = "auto"
    if Tune.parse(settings.tune).kind in ("last", "gradual") or settings.layer_decay != 1.0:
        found["stages"] = "as they run"
    return {name: value for name, value in found.items() if name not in _ADDED or value != _ADDED[name]}


def settings_of_format_1(settings: Settings) -> dict[str, Any]:
    """All settings, as format 1 wrote them into the names of a comparison's runs."""
    later = {"weights", "feature_cache", *(name for name in _ADDED if getattr(settings, name) == _ADDED[name])}
    return settings.model_dump(mode="json", exclude=later) | _meant(settings)


def _meant(settings: Settings) -> dict[str, str]:
    """What "auto" stands for, where older runs were stored by that name."""
    return {"optimizer": settings.update_rule, "schedule": learning_schedule(settings)}


def without_conduct(settings: dict[str, Any]) -> dict[str, Any]:
    """Given settings without those that do not change a run's outcome."""
    return {name: value for name, value in settings.items() if name not in _NOT_IDENTITY}


def format_of_search(weights: Any) -> int:
    """Of what several runs are part of; format 4 changed nothing without weights from elsewhere, 5 single runs."""
    return 4 if weights else 3


def older_formats(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A run's configuration as each format before this one wrote it, as far as it trained the same."""
    for as_format in (as_format_4, as_format_3, as_format_2, as_format_1):
        older = as_format(config)
        if older is not None:
            yield older


def as_format_4(config: dict[str, Any]) -> dict[str, Any] | None:
    """A run's configuration as format 4 wrote it, or None where format 4 trained otherwise."""
    settings, selects = config["settings"], config["plan"].get("select") is not None
    mixes = list(_mixes_in(config["plan"].get("mix")))
    smooths = settings.get("label_smoothing") or any(mix["name"].startswith("timm-") for mix in mixes)
    factors = selects and mixes and (smooths or any(mix.get("labels") == "union" for mix in mixes))
    divides = settings.get("loss") == "sum-bce"
    listens = divides or str(settings.get("schedule", "")).partition(":")[0] == "stagnation"
    images = (listens and any(map(_differs_by_batch, mixes))) or (divides and selects and mixes)
    grows = any(mix["name"] == "gradual" and mix.get("draw") == "mixed" for mix in mixes)
    if factors or images or grows:
        return None
    older = {**config, "format": 4}
    if "columns" in config.get("input", {}).get("preprocessing", {}):  # which nobody wrote down
        unnamed = {k: v for k, v in config["input"]["preprocessing"].items() if k != "columns"}
        older["input"] = {**config["input"], "preprocessing": unnamed}
    return older


def _mixes_in(mix: Any) -> Iterator[dict[str, Any]]:
    """A mix as it is described, and all inside of it."""
    if isinstance(mix, list):
        for part in mix:
            yield from _mixes_in(part)
    elif isinstance(mix, dict):
        if "name" in mix:
            yield mix
        for part in mix.values():
            yield from _mixes_in(part)


def _differs_by_batch(mix: dict[str, Any]) -> bool:
    """Whether some batches are made of more images than others, though it goes through no stages."""
    if mix["name"] != "choice":
        return str(mix["name"]) == "probability" or str(mix["name"]).startswith("timm-")
    return len({2 if part["name"] in _PAIRS else (part["name"], part.get("k")) for part in mix["mixes"]}) > 1


_PAIRS = {"mixup", "cutmix", "puzzle", "sample-pairing"}


def as_format_3(config: dict[str, Any]) -> dict[str, Any] | None:
    """A run's configuration as format 3 wrote it, or None where format 3 trained otherwise."""
    older = as_format_4(config)
    if older is None:
        return None
    told = "input" in config  # what the network sees is part of a run's own configuration
    tuned = "weights" in config and config["settings"].get("tune", _ADDED["tune"]) != "head"
    return None if tuned and not told else {**older, "format": 3}


def as_format_2(config: dict[str, Any]) -> dict[str, Any] | None:
    """A run's configuration as format 2 wrote it, or None where format 2 trained otherwise."""
    stagnates = str(config["settings"].get("schedule", "")).partition(":")[0] == "stagnation"
    older = as_format_3(config)
    return None if older is None or (stagnates and _changes_k(config["plan"]["mix"])) else {**older, "format": 2}


def _changes_k(mix: Any) -> bool:
    """Whether K changes while the schedule goes on; a cascade's schedule begins anew unless it is to be kept."""
    if isinstance(mix, list):
        return any(map(_changes_k, mix))
    if not isinstance(mix, dict):
        return False
    restarts = mix.get("name") == "cascade" and mix.get("lr_at_switch") != "keep"
    return ("name" in mix and mix["name"] not in _ONE_K and not restarts) or any(map(_changes_k, mix.values()))


def ended_early(config: dict[str, Any], result: dict[str, Any] | None) -> bool:
    """Whether a finished run of before format 3 ended though another augmentation might have been selected."""
    if config.get("format", 1) > 2 or result is None or result.get("stopped") != HANDLED:
        return False
    data = config.get("data")
    return not isinstance(data, dict) or data.get("augment") != "none"


def as_format_1(config: dict[str, Any]) -> dict[str, Any] | None:
    """A run's configuration as format 1 wrote it, so that its runs can be taken up.

    Returns:
        the configuration, or None where format 1 trained otherwise (a look-ahead whose winner is trained on as it
        is) or could not tell the run from others (functions without a name in its plan).
    """
    before = as_format_2(config)
    if before is None:
        return None
    plan = config["plan"]
    order = plan.get("order")
    if order is not None and order["name"] == "loss-delta" and plan["mix"] is None:
        return None
    older = {name: value for name, value in before.items() if name != "format"}
    older["plan"] = _each_text(_without(plan, "class"), dotted_name)
    augment = older["data"].get("augment") if isinstance(older["data"], dict) else None
    if augment is not None:
        older["data"] = {**older["data"], "augment": _TRANSFORM.sub(r"transform=\1", augment)}
    for name in ("loss", "optimizer"):
        if name in older:
            older[name] = _DESCRIBED.sub(r"\2", older[name])
    return None if "<" in f"{older['plan']}{older.get('loss')}{older.get('optimizer')}" else older


_TRANSFORM = re.compile(r"transform=[\w.]+:([\w.]+)(?: [0-9a-f]{12})?")


def dotted_name(described: str) -> str:
    """``module.name`` for what ``describe_function`` says of a function, other texts as they are."""
    return _DESCRIBED.sub(r"\1.\2", described)


_DESCRIBED = re.compile(r"^([\w.]+):([\w.<>]+)(?: [0-9a-f]{12})?$")


def _without(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: _without(item, key) for name, item in value.items() if name != key}
    return [_without(item, key) for item in value] if isinstance(value, list) else value


def _each_text(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {name: _each_text(item, change) for name, item in value.items()}
    if isinstance(value, list):
        return [_each_text(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def _describe_module(model: nn.Module) -> str:
    kind = type(model)
    return f"{kind.__module__}.{kind.__qualname__} with {count_parameters(model)} parameters"
