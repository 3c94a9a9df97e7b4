"""``check_data``: a look at the data before any training."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lessonplan.data import Data
from lessonplan.data import load as load_data
from lessonplan.data.base import original_sizes
from lessonplan.data.results_place import refuse_among_classes
from lessonplan.data.walk import strange_endings
from lessonplan.errors import ConfigError
from lessonplan.files import write_json
from lessonplan.lab.data_check.copies import equal_copies, near_record
from lessonplan.lab.data_check.differences import effect
from lessonplan.lab.data_check.glance import BLANK, Glance, glance
from lessonplan.lab.data_check.labels import LeftOut, Weights, doubted
from lessonplan.lab.data_check.parts import HELD_BACK, LISTED, SHOWN, Samples, samples_of
from lessonplan.lab.data_options import check_data_options
from lessonplan.network.accelerator import resolve_device
from lessonplan.report.data_check import write_data_check
from lessonplan.report.data_words import findings, leaks
from lessonplan.stores import in_place
from lessonplan.train.origin import origin_of

FILE = "data.json"
_TINY = 2.0  # times that a picture is enlarged at most


@dataclass
class DataCheck:
    """What a look at the data found.

    Attributes:
        findings: pairs of a level (``"error"``, ``"warning"`` or ``"note"``) and a sentence.
        leaks: held-back pictures of which training has a near copy.
        record: what ``data.json`` holds.
        folder: of the page, or None.
    """

    findings: list[tuple[str, str]]
    leaks: int
    record: dict[str, Any] = field(repr=False)
    folder: Path | None = None


@in_place
def check_data(
    data: Any = "digits",
    *,
    test: Any = None,
    out: str | Path | None = None,
    model: str | None = None,
    weights: str | None = None,
    per_class: int | None = None,
    val_fraction: float = 0.2,
    image_size: int | tuple[int, int] | None = None,
    workers: int = 2,
    seed: int = 0,
    device: str = "auto",
    **data_options: Any,
) -> DataCheck:
    """Look at data before any training: nothing is removed, nothing is changed.

    Classes and counts; files that cannot be read, tiny and blank pictures; exact and near copies within and across
    the parts of the set; light and size of the parts; labels that may be wrong.

    Args:
        data: a source's name, or anything ``lessonplan.data.load`` takes.
        test: test data of their own, given in the same ways.
        out: folder for ``index.html`` and ``data.json``; None writes nothing.
        model: network whose features labels are judged by, with ``weights``.
        weights: ``"pretrained"``, a file, or a run's folder. None: tables are judged by their own numbers,
            pictures by 32 x 32 thumbnails, where these tell enough.
        per_class: labels of a class that are going to be used; None: all.
        val_fraction: of the labels of a class that is going to judge, in (0, 1); for what is said of precision.
        image_size: as in ``load``.
        workers: threads that decode.
        seed: of folds.
        device: where features are computed.
        **data_options: other options of ``lessonplan.data.load``: ``classes``, and how files are read:
            ``clip_seconds``, ``memory_limit``.

    Returns:
        what was found.

    Raises:
        DataError: the data cannot be opened, or no picture can be read. ConfigError: options that cannot be used.

    >>> found = check_data("table:iris")
    >>> found.leaks, found.record["classes"][0]["training"]
    (0, 50)
    """
    if (model is None) != (weights is None):
        given, missing = ("model", "weights") if weights is None else ("weights", "model")
        raise ConfigError(
            f"{given} is given without {missing}: labels are judged by a network with weights, give both"
        )
    if not 0 < val_fraction < 1:
        raise ConfigError(f"val_fraction={val_fraction!r}: give a fraction above 0 and below 1")
    if per_class is not None and per_class < 1:
        raise ConfigError(f"per_class={per_class}: give a whole number of at least 1, or leave it out")
    refused = {"test_fraction", "val_per_class", "augment", "label_noise", "on_bad", "input"} & set(data_options)
    if refused:
        raise ConfigError(f"{', '.join(sorted(refused))} changes nothing of a look at the data: leave it out")
    check_data_options(data_options, check_data)
    if out is not None:
        refuse_among_classes(out, data, test)
    by = Weights(model, weights) if model is not None and weights is not None else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*cannot be read.*left out")  # they are told of below
        warnings.filterwarnings("ignore", message=".*are left out, for their endings are not read")
        opened = load_data(
            data,
            test=test,
            test_fraction=0.0,
            image_size=image_size,
            on_bad="skip",
            workers=workers,
            seed=seed,
            device=resolve_device(device),
            input=origin_of(by.model, by.weights).needs if by is not None else None,
            **data_options,
        )
    try:
        record = look(opened, by, per_class=per_class, val_fraction=val_fraction, workers=workers, seed=seed)
    finally:
        opened.close()
    if out is not None:
        store(record, Path(out))
    return DataCheck(findings(record), leaks(record), record, Path(out) if out is not None else None)


def store(record: dict[str, Any], folder: Path) -> None:
    """Write ``data.json`` and the page.

    Raises:
        DataError: the folder cannot be written to.
    """
    write_json(folder / FILE, record)
    write_data_check(folder)


def look(
    data: Data,
    weights: Weights | None,
    *,
    per_class: int | None,
    val_fraction: float,
    workers: int,
    seed: int,
    seconds: float | None = None,
) -> dict[str, Any]:
    """What ``data.json`` holds, of data that are open: as plain values.

    Args:
        data: without label noise; a validation part is one of the data's own.
        weights: features that labels are judged by.
        per_class, val_fraction: what is asked for.
        workers: threads that decode.
        seed: of folds.
        seconds: how long each of the two slow parts (looking at pictures, features) may take; what would take
            longer is left out, and said.
    """
    samples, everything = samples_of(data)
    recorded = "spectrograms" in data.description
    pictures = len(data.shape) == 3 and not recorded
    seen = glance(samples, workers, seconds) if len(data.shape) == 3 else None
    copies, exact = equal_copies(everything, len(samples))
    near, linked = near_record(data, samples, seen if pictures else None, exact, pictures)
    record: dict[str, Any] = {
        "schema": 1,
        "data": data.description["source"],
        "fingerprint": data.fingerprint,
        "shape": list(data.shape),
        "kind": "pictures" if pictures else "recordings" if recorded else "tables",
        "parts": {part.name: len(part) for part in samples.parts},
        "classes": _classes(data, samples),
        "asked": {"per_class": per_class, "val_fraction": val_fraction, "own_validation": data.val is not None},
        "unreadable": {
            "count": len(data.unreadable),
            "files": [list(told) for told in data.unreadable[:LISTED]],
        },
        "other_endings": dict(strange_endings(Counter(data.description.get("other_endings", {})))),
        "unused_folders": list(data.description.get("unused_folders", [])),
        "unlabelled_folders": list(data.description.get("unlabelled_folders", [])),
        "tiny": _tiny(data, samples) if pictures else None,
        "blank": _blank(samples, seen) if pictures and seen is not None else None,
        "copies": copies,
        "near": near,
        "differences": _differences(samples, seen) if pictures else [],
    }
    try:
        about, chosen, suspects = doubted(data, samples, linked, seen, weights, seed, seconds)
    except LeftOut as reason:
        return {**record, "suspects": {"left_out": str(reason)}}
    listed = [
        {
            **samples.told(int(chosen[row]), picture=pictures and place < SHOWN),
            "instead": data.class_names[int(instead)],
        }
        for place, (row, instead) in enumerate(zip(suspects.rows[:LISTED], suspects.classes, strict=False))
    ]
    told = {**about, "count": len(suspects.rows), "share": suspects.share, "samples_listed": listed}
    return {**record, "suspects": told}


def _classes(data: Data, samples: Samples) -> list[dict[str, Any]]:
    counts = {
        part.name: torch.bincount(part.source.labels[part.rows], minlength=data.num_classes).tolist()
        for part in samples.parts
    }
    return [
        {"class": name, **{part: count[number] for part, count in counts.items()}}
        for number, name in enumerate(data.class_names)
    ]


def _tiny(data: Data, samples: Samples) -> dict[str, Any] | None:
    """Pictures that are enlarged more than twice; None where sizes are not known."""
    sizes = _sizes(samples)
    if sizes is None:
        return None
    wanted = torch.tensor(data.shape[1:])
    enlarged = (wanted / sizes).amax(1)
    found = (enlarged > _TINY).nonzero().flatten()
    order = found[enlarged[found].argsort(descending=True, stable=True)]
    files = [
        {**samples.told(int(i), picture=place < SHOWN // 4), "size": sizes[i].tolist()}
        for place, i in enumerate(order[:LISTED])
    ]
    return {"to": list(data.shape[1:]), "count": len(found), "files": files}


def _sizes(samples: Samples) -> Tensor | None:
    found = [original_sizes(part.source) for part in samples.parts]
    if any(sizes is None for sizes in found):
        return None
    return torch.cat([s[p.rows] for s, p in zip(found, samples.parts, strict=True) if s is not None])


def _blank(samples: Samples, seen: Glance) -> dict[str, Any]:
    found = (seen.contrast < BLANK).nonzero().flatten()
    return {"count": len(found), "files": [samples.told(int(i)) for i in found[:LISTED]]}


def _differences(samples: Samples, seen: Glance | None) -> list[dict[str, Any]]:
    """Light and size of the other parts against training."""
    measures: dict[str, Tensor] = {}
    if seen is not None:
        measures |= {"brightness": seen.brightness, "contrast": seen.contrast}
    sizes = _sizes(samples)
    if sizes is not None:
        measures |= {"size": sizes.prod(1).double().sqrt().log2(), "width": (sizes[:, 1] / sizes[:, 0]).log2()}
    found = []
    for name in HELD_BACK:
        for measure, values in measures.items():
            first, second = values[samples.of("training")], values[samples.of(name)]
            between = effect(first, second)
            if between is not None:
                means = [float(v.double().mean()) for v in (first, second)]
                known = math.isfinite(between.d)
                found.append(
                    {
                        "part": name,
                        "of": measure,
                        "d": between.d if known else None,
                        "interval": [between.low, between.high] if known else None,
                        "word": between.word,
                        "means": means,
                    }
                )
    return found
