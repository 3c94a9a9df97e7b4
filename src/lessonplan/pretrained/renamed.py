"""Stored tensors of other names and no order: told by shapes, and by the numbers in their names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

COUNT = "num_batches_tracked"
_KINDS = ("weight", "bias", "running_mean", "running_var")
_MANY = 4  # layers of a kind that no other kind has as many of by chance
_NUMBER = re.compile(r"\d+$")
Shapes = Mapping[str, torch.Size]


class Layer(NamedTuple):
    """The tensors of a layer; any that is no weight, bias or statistic stands alone.

    Attributes:
        pattern: its name with ``#`` for the numbers at the end of each part: ``layer#.#.conv#``.
        numbers: those.
        signature: shapes by kind, which layers have in common that can be taken for each other.
        tensors: their names by kind.
    """

    pattern: str
    numbers: tuple[int, ...]
    signature: tuple[tuple[str, torch.Size], ...]
    tensors: dict[str, str]


def keeps_order(state: Mapping[str, Tensor]) -> bool:
    """Whether names come in the order of a network's layers, or sorted, as safetensors has them.

    >>> a, b = torch.zeros(1), torch.zeros(1)
    >>> keeps_order({"stem.weight": a, "stem.bias": b}), keeps_order({"head.weight": a, "stem.weight": b})
    (True, False)
    """
    by_type: dict[torch.dtype, list[str]] = defaultdict(list)  # safetensors sorts by type first
    for name, value in state.items():
        by_type[value.dtype].append(name)
    return any(names != sorted(names) for names in by_type.values())


def layers_of(shapes: Shapes) -> list[Layer]:
    """The layers among tensors, in their order."""
    found: dict[str, dict[str, str]] = {}
    for name in shapes:
        module, _, kind = name.rpartition(".")
        if kind in _KINDS:
            found.setdefault(module, {})[kind] = name
        elif kind != COUNT:
            found[name] = {"": name}
    layers = []
    for module, tensors in found.items():
        numbers = tuple(int(n.group()) for part in module.split(".") if (n := _NUMBER.search(part)))
        pattern = ".".join(_NUMBER.sub("#", part) for part in module.split("."))
        signature = tuple(sorted((kind, shapes[name]) for kind, name in tensors.items()))
        layers.append(Layer(pattern, numbers, signature, tensors))
    return layers


def by_shapes(stored: Shapes, body: Shapes, head: Shapes) -> dict[str, str] | None:
    """Names of a network's tensors to stored ones; None where shapes and numbers leave a choice.

    Layers of the same shapes can be taken for each other. They are told apart where their names differ in numbers
    alone, which rise in both (``blocks.2.norm1`` and ``layers.2.ln_1``), and groups of them by how many there are,
    or by which pattern stands for which where there is no choice.

    Args:
        stored: shapes of a file's tensors by name, in any order.
        body: those of the network but for its head, in its order.
        head: those of the head, which may be of another size in the file, or missing.
    """
    theirs, mine = layers_of(stored), layers_of(body)
    groups, wanted = _grouped(theirs), _grouped(mine)
    pairs: list[tuple[list[Layer], list[Layer]]] = []
    known: set[tuple[str, str]] = set()
    while wanted:
        before = len(wanted)
        for signature, patterns in list(wanted.items()):
            chosen = _chosen(patterns, groups.get(signature, {}), known)
            if chosen is not None:
                pairs += [(patterns[a], groups[signature][b]) for a, b in chosen.items()]
                known |= set(chosen.items())
                del wanted[signature]
        if len(wanted) == before:
            return None
    if any([layer.numbers for layer in group] != sorted(layer.numbers for layer in group) for group, _ in pairs):
        return None  # the network's own numbers do not rise with its layers
    found: dict[str, str] = {}
    of_patterns: dict[tuple[str, str], list[tuple[Layer, Layer]]] = defaultdict(list)
    for ours, others in pairs:
        for layer, other in zip(ours, sorted(others, key=lambda layer: layer.numbers), strict=True):
            found |= {name: other.tensors[kind] for kind, name in layer.tensors.items()}
            of_patterns[layer.pattern, other.pattern].append((layer, other))
    if not all(_nested_alike(*zip(*matched, strict=True)) for matched in of_patterns.values()):
        return None
    left = [layer for layer in theirs if not set(layer.tensors.values()) & set(found.values())]
    return _with_head(found, left, layers_of(head))


def _nested_alike(mine: Sequence[Layer], theirs: Sequence[Layer]) -> bool:
    """Whether layers of two patterns are the same, each with its fellow: numbers may nest the other way round.

    ``conv1.0, conv1.1, ...`` has all first convolutions of some blocks first, ``blocks.0.conv1, blocks.0.conv2``
    those of the first block. Where one number varies there is no other order. Else the numbers must go through the
    same turns in both, and either stand behind the same word at last, or make other turns if they are exchanged.
    """
    ours, others = _varying(mine), _varying(theirs)
    if min(len(ours), len(others)) < 2:
        return True
    if _last_turns(mine, ours[-1]) != _last_turns(theirs, others[-1]):
        return False
    if _word(mine[0], ours[-1]) == _word(theirs[0], others[-1]):
        return True
    turns, their_turns = _turns(mine, ours), _turns(theirs, others)
    exchanged = list(permutations(range(len(ours))))[1:]
    return turns == their_turns and all({tuple(t[i] for i in e) for t in turns} != set(turns) for e in exchanged)


def _varying(layers: Sequence[Layer]) -> list[int]:
    """The places of the numbers that differ among layers."""
    return [at for at in range(len(layers[0].numbers)) if len({layer.numbers[at] for layer in layers}) > 1]


def _last_turns(layers: Sequence[Layer], place: int) -> list[int]:
    """Of each layer, where its number at a place comes among those with the same other numbers."""
    beside: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for layer in layers:
        beside[layer.numbers[:place] + layer.numbers[place + 1 :]].append(layer.numbers[place])
    return [
        sorted(beside[layer.numbers[:place] + layer.numbers[place + 1 :]]).index(layer.numbers[place])
        for layer in layers
    ]


def _turns(layers: Sequence[Layer], places: Sequence[int]) -> list[tuple[int, ...]]:
    """Of each layer which of the numbers at these places it has, counted from 0."""
    known = [sorted({layer.numbers[place] for layer in layers}) for place in places]
    return [tuple(of.index(layer.numbers[at]) for of, at in zip(known, places, strict=True)) for layer in layers]


def _word(layer: Layer, place: int) -> str:
    """What a number stands behind."""
    return [part for part in layer.pattern.split(".") if "#" in part][place].strip("#_")


def _grouped(layers: Iterable[Layer]) -> dict[tuple[tuple[str, torch.Size], ...], dict[str, list[Layer]]]:
    """Layers by signature and pattern."""
    found: dict[tuple[tuple[str, torch.Size], ...], dict[str, list[Layer]]] = {}
    for layer in layers:
        found.setdefault(layer.signature, {}).setdefault(layer.pattern, []).append(layer)
    return found


def _chosen(
    mine: Mapping[str, list[Layer]], theirs: Mapping[str, list[Layer]], known: set[tuple[str, str]]
) -> dict[str, str] | None:
    """Which stored pattern stands for which of the network's, of layers with one signature; None if undecided."""
    if sorted(map(len, mine.values())) != sorted(map(len, theirs.values())):
        return None
    fitting = {a: [b for b in theirs if len(theirs[b]) == len(mine[a])] for a in mine}
    for a, several in fitting.items():
        if len(mine) > 1 and (len(several) > 1 or len(mine[a]) < _MANY):  # so few may be others by chance
            fitting[a] = [b for b in several if (a, b) in known]
    chosen = {a: fits[0] for a, fits in fitting.items() if len(fits) == 1}
    if len(mine) - len(chosen) == 1:  # the last one is what is left
        (last,), left = set(mine) - set(chosen), set(theirs) - set(chosen.values())
        chosen |= {last: left.pop()} if len(left) == 1 else {}
    return chosen if len(chosen) == len(mine) == len(set(chosen.values())) else None


def _with_head(found: dict[str, str], left: list[Layer], head: list[Layer]) -> dict[str, str] | None:
    """Stored layers that are left over can be a head alone; None where they are something else."""
    if not left:
        return found
    if len(left) != len(head):
        return None
    for mine, other in zip(head, left, strict=True):
        inside, theirs = dict(mine.signature), dict(other.signature)
        if inside.keys() != theirs.keys() or any(inside[k][1:] != theirs[k][1:] for k in inside):
            return None
        found |= {name: other.tensors[kind] for kind, name in mine.tensors.items()}
    return found
