"""Copies within a set and across its parts: equal ones, which the loader keeps on one side, and near ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from lessonplan.data import Data
from lessonplan.data.base import groups_of
from lessonplan.lab.data_check.glance import BLANK, SIDE, Glance
from lessonplan.lab.data_check.near import near_copies
from lessonplan.lab.data_check.parts import HELD_BACK, LISTED, SHOWN, Samples


def equal_copies(samples: Samples, used: int) -> tuple[dict[str, Any], Tensor]:
    """Samples of equal content, those that the loader took out included; and their groups, of those in use."""
    keys = samples.keys()
    if keys is None:
        return {"checked": False}, torch.arange(used)
    groups = groups_of(keys)
    held = torch.unique(groups[samples.of(*HELD_BACK)])
    out = samples.of("left out")
    taken = out & torch.isin(groups, held)
    order = groups.argsort(stable=True)
    in_order, labels = groups[order], samples.labels[order]
    # A group whose neighbours in this order differ in their labels holds two or more.
    differ = (in_order[1:] == in_order[:-1]) & (labels[1:] != labels[:-1])
    split = torch.unique(in_order[1:][differ])
    conflicts = [
        [samples.told(int(i)) for i in order[in_order == group][: 2 * len(samples.class_names)]]
        for group in split[: LISTED // 10].tolist()
    ]
    labelled = groups[samples.of("training", "validation")]
    return {
        "checked": True,
        "within": len(labelled) - len(torch.unique(labelled)),
        "taken_out": int(taken.sum()),
        "conflicts": len(split),
        "conflicts_listed": conflicts,
    }, groups[:used]


def near_record(
    data: Data, samples: Samples, seen: Glance | None, exact: Tensor, pictures: bool
) -> tuple[dict[str, Any], Tensor]:
    """Near copies; and the number of each sample's group of copies, exact or near."""
    reason = ""
    if not pictures:
        reason = "only pictures have near copies that can be told"
    elif min(data.shape[1:]) < SIDE:
        reason = f"pictures of fewer than {SIDE} pixels on a side are too much alike to tell near copies"
    elif seen is None:
        reason = "it would have taken too long: lessonplan check does it without haste"
    if seen is None or reason:
        return {"left_out": reason}, exact
    pairs, alike, complete = near_copies(seen.thumbnails, seen.contrast >= BLANK)
    other = exact[torch.from_numpy(pairs)]
    distinct = other[:, 0] != other[:, 1]
    first, second, alike = (
        torch.from_numpy(pairs[:, 0])[distinct],
        torch.from_numpy(pairs[:, 1])[distinct],
        alike[distinct],
    )
    across = samples.part[first] != samples.part[second]
    leaked = torch.zeros(len(samples), dtype=torch.bool)
    for judges, other_part in ((first, second), (second, first)):
        # A test picture near a validation picture leaks too: validation decides what is trained, and is trained on
        # at the end. Of such a pair the later part is the one that is held back.
        leaked[judges[across & (samples.part[judges] > samples.part[other_part])]] = True
    order = (~across).int().argsort(stable=True)
    listed = [
        {
            "first": samples.told(int(first[i]), picture=place < SHOWN // 2),
            "second": samples.told(int(second[i]), picture=place < SHOWN // 2),
            "alike": float(alike[i]),
        }
        for place, i in enumerate(order[:LISTED])
    ]
    links = np.concatenate([np.stack([first.numpy(), second.numpy()]), _chain(exact)], axis=1)
    # 32-bit places: older SciPy finds no groups among 64-bit ones
    graph = coo_array((np.ones(links.shape[1]), links.astype(np.int32)), shape=(len(samples), len(samples)))
    _, groups = connected_components(graph, directed=False)
    labelled = samples.of("training", "validation")
    return {
        "together": _together(groups, exact, labelled, samples),
        "complete": complete,
        "pairs": len(first),
        "across": int(across.sum()),
        "leaks": {
            name: int((leaked & samples.of(name)).sum())
            for name in HELD_BACK
            if name in {part.name for part in samples.parts}
        },
        "other_class": int((samples.labels[first] != samples.labels[second]).sum()),
        "pairs_listed": listed,
    }, torch.from_numpy(groups.astype(np.int64))


def _together(
    groups: np.ndarray[Any, np.dtype[np.int32]], exact: Tensor, labelled: Tensor, samples: Samples
) -> list[list[int]]:
    """Rows of labelled samples that are near copies, group by group; equal ones alone are no group."""
    found: dict[int, list[int]] = {}
    for at in labelled.nonzero().flatten().tolist():
        found.setdefault(int(groups[at]), []).append(at)
    several = [members for members in found.values() if len({int(exact[at]) for at in members}) > 1]
    return [sorted(int(samples.rows[at]) for at in members) for members in several]


def _chain(groups: Tensor) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Each sample linked to the first one of its group, ``(2, N)``."""
    _, inverse = torch.unique(groups, return_inverse=True)
    first = torch.full((int(inverse.max()) + 1,), len(groups)).scatter_reduce(
        0, inverse, torch.arange(len(groups)), "amin"
    )
    return torch.stack([torch.arange(len(groups)), first[inverse]]).numpy()
