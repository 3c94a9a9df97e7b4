"""Which network stored weights would fit, for the message that they do not fit another one."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError, DataError, visible
from lessonplan.models import build_model, model_names
from lessonplan.models.timm_adapter import timm_families, timm_names
from lessonplan.pretrained import Match, find_head, put_weights
from lessonplan.pretrained.renamed import layers_of
from lessonplan.progress import say
from lessonplan.stored import read_json

_NAMED = 3
_LIKELY = 6  # models of similar names that are tried first
_FEWEST = 20  # tensors of a network of timm: of fewer, its families are not searched
_FAMILIES = 6  # whose every model is tried
_SMALL = ("test_", "atto", "nano", "pico", "femto", "tiny", "_xxs", "_xs", "small")
_SECONDS = 60.0  # after which nothing more is tried


def nearest(model: str | Any, state: Mapping[str, Tensor], where: Path, shape: tuple[int, ...]) -> str:
    """What to give instead, as the end of a sentence; nothing where nothing is known.

    Networks of ours and those of timm whose names are like the file's are tried, and then those of timm whose
    layers are like the stored ones, whatever the file and its tensors are called.

    Args:
        model: what was asked for.
        state: stored tensors by name.
        where: they are from.
        shape: of one input.
    """
    if told := of_transformers(model, where.parent):
        return told
    stored = {name: value.to("meta") for name, value in state.items()}
    try:
        names = timm_names()
    except ConfigError:
        names = []
    best = _fitting([*model_names(), *(f"timm:{name}" for name in _likely(where.stem, names))], stored, shape)
    if not best and names and len(stored) >= _FEWEST:
        best = _among_families(stored, shape)
    if best:
        return f"; they fit {' or '.join(best[:_NAMED])}"
    asked = isinstance(model, str) and model.startswith("timm:")
    return "; timm.list_models() lists other networks" if asked else ""


def of_transformers(model: str | Any, folder: Path) -> str:
    """What to say of a file beside the configuration of a model of transformers; nothing of another."""
    try:
        told = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    except DataError:
        return ""
    kind = told.get("model_type")
    if not isinstance(kind, str):
        return ""
    asked = isinstance(model, str) and model.startswith("transformers:")
    why = (
        "transformers writes other names into its files than it reads"
        if asked
        else f"they lie with a {visible(kind)}"
    )
    return f"; {why}: give the file's folder, model='transformers:{folder}' and weights='pretrained'"


def _likely(stem: str, names: list[str]) -> list[str]:
    """Models of timm whose names are like a file's."""
    stem = stem.replace("-", "_")
    likely = difflib.get_close_matches(stem, names, n=_LIKELY, cutoff=0.3)
    likely += [name for name in names if name in stem][-_LIKELY:]
    likely += [f"tf_{name}" for name in likely if f"tf_{name}" in names]  # the same with TensorFlow's padding
    return likely


def _fitting(spellings: Iterable[str], stored: Mapping[str, Tensor], shape: tuple[int, ...]) -> list[str]:
    """The networks that take most of the stored tensors, of those that take them at all."""
    best: list[str] = []
    most = 0
    for spelling in dict.fromkeys(spellings):
        match = _match(_built(spelling, shape), stored)
        if match is not None and match.loaded >= most:  # which differ in their padding alone cannot be told apart
            best = [*best, spelling] if match.loaded == most else [spelling]
            most = match.loaded
    return best


def _built(spelling: str, shape: tuple[int, ...]) -> nn.Module | None:
    """A network without numbers, or None where it cannot be had for such inputs."""
    try:
        with torch.device("meta"):
            return build_model(spelling, shape=shape, num_classes=2)
    except (ConfigError, NotImplementedError, RuntimeError):
        return None


def _match(network: nn.Module | None, stored: Mapping[str, Tensor]) -> Match | None:
    if network is None:
        return None
    try:
        return put_weights(network, stored, find_head(network))
    except (ConfigError, NotImplementedError, RuntimeError):
        return None


def _among_families(stored: Mapping[str, Tensor], shape: tuple[int, ...]) -> list[str]:
    """Of timm's families those whose layers are most like the stored ones, one model after the other."""
    say("looking for a network that the weights fit; Ctrl-C ends it")
    until = time.monotonic() + _SECONDS
    found = _traits(stored)
    alike: list[tuple[float, list[str]]] = []
    for members in timm_families():
        if time.monotonic() > until:
            break
        if (network := _built(f"timm:{min(members, key=_size)}", shape)) is not None:
            alike.append((_alike(found, _traits(network.state_dict())), members))
    for _, members in sorted(alike, key=lambda pair: -pair[0])[:_FAMILIES]:
        for name in members:
            if time.monotonic() > until:
                return []
            if _match(_built(f"timm:{name}", shape), stored) is not None:
                twin = f"tf_{name}"  # the same with TensorFlow's padding
                return [f"timm:{known}" for known in (name, twin) if known == name or twin in members]
    return []


def _size(name: str) -> tuple[int, int]:
    """By which a family's models are sorted to take a small one, which is built soonest."""
    rank = next((at for at, word in enumerate(_SMALL) if word in name), len(_SMALL))
    return rank, len(name)


def _traits(state: Mapping[str, Tensor]) -> tuple[set[Any], set[Any]]:
    """Which patterns of names layers have, and of which kinds they are, whatever the width and the depth."""
    layers = layers_of({name: value.shape for name, value in state.items()})
    kinds = {
        tuple((kind, len(size), size[2:], len(size) > 2 and size[1] == 1) for kind, size in layer.signature)
        for layer in layers
    }
    return {layer.pattern for layer in layers}, kinds


def _alike(one: tuple[set[Any], set[Any]], other: tuple[set[Any], set[Any]]) -> float:
    """The share of traits that both have, of the patterns and of the kinds."""
    return sum(len(a & b) / max(1, len(a | b)) for a, b in zip(one, other, strict=True))
