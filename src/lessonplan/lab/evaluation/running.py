"""``evaluate``: the parts one after the other, each stored as it is finished."""

from __future__ import annotations

import time
import warnings
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from lessonplan import report
from lessonplan.data.results_place import results_folder
from lessonplan.errors import ConfigError, DataError, LessonplanWarning
from lessonplan.evaluation import PARTS, Evaluation, EvaluationPart
from lessonplan.files import remove_leftovers, write_json
from lessonplan.lab.config import content_hash
from lessonplan.lab.evaluation.pictures import Picture
from lessonplan.lab.evaluation.progress import Steps
from lessonplan.lab.evaluation.subject import Subject
from lessonplan.lab.evaluation.work import Work
from lessonplan.lock import sole_user
from lessonplan.network.accelerator import synchronise
from lessonplan.stored import read_json
from lessonplan.stores import in_place
from lessonplan.train.usage import environment

FILE = "evaluation.json"
SCHEMA = 1
_FORMAT = 1  # raised when a change of the code makes stored parts incomparable with new ones


@in_place
def evaluate(
    subject: Subject, options: Evaluation | None = None, *, out: str | Path, live: bool = True
) -> dict[str, Any]:
    """Judge a network; called again with the same network and options, it does only what is not stored yet.

    Args:
        subject: what ``run_subject``, ``model_subject`` or ``subject_of`` gave.
        options: what to do; classification alone if not given.
        out: folder, or a URL that fsspec opens, for ``evaluation.json``, ``index.html`` and ``pictures/``.
        live: show progress, and write the page whenever a part is finished; otherwise once, at the end.

    Returns:
        What ``evaluation.json`` holds; ``["measures"]`` are its numbers by name.

    Raises:
        ConfigError, DataError: something cannot be evaluated; what was finished before is stored.
    """
    options = options or Evaluation()
    root = results_folder(out, "the evaluation")
    parts = _chosen(subject, options)
    identity = subject.fingerprint()
    with sole_user(root), Steps(quiet=not live) as steps:
        stored = _stored(root)
        results = _header(subject, options, [part.name for part in parts])
        for part in parts:
            uses = {use: getattr(options, use) for use in sorted(part.uses(options))}
            key = content_hash([_FORMAT, identity, part.name, uses])
            found = stored.get("parts", {}).get(part.name)
            if not isinstance(found, dict) or found.get("key") != key:
                found = {"key": key, **_do(part, Work(subject, options, steps), root)}
            results["parts"][part.name] = found
            results["measures"] |= found["measures"]
            steps.found({**_overall(found), **found["measures"]})
            write_json(root / FILE, results)
            if live:
                report.write_evaluation(root)
        if not live:
            report.write_evaluation(root)
    return results


def _overall(found: dict[str, Any]) -> dict[str, float]:
    return {"accuracy": found["accuracy"]} if "accuracy" in found else {}


def _chosen(subject: Subject, options: Evaluation) -> list[EvaluationPart]:
    """The parts to do, each of them possible.

    Raises:
        ConfigError, DataError: images are needed and there are none, or too few samples.
    """
    subject.view(options.on)
    corrupted = subject.data.train.noise is not None
    chosen = [part for part in PARTS if part.asked(options, corrupted)]
    need = [part.name for part in chosen if part.images]
    if need and not subject.is_image:
        raise ConfigError(
            f"{' and '.join(need)}: for images in [0, 1] only, and these samples are features: leave it out"
        )
    for part in chosen:
        check = getattr(_module(part), "check", None)
        if check is not None:
            check(subject, options)
    return chosen


def _module(part: EvaluationPart) -> ModuleType:
    """Where it is written what a part does."""
    return import_module(f"lessonplan.lab.evaluation.parts.{part.name}")


def _do(part: EvaluationPart, work: Work, root: Path) -> dict[str, Any]:
    """A part's result with its time; its pictures go into files."""
    started = time.perf_counter()
    result: dict[str, Any] = _module(part).run(work)
    synchronise(work.subject.device)
    pictures: list[Picture] = result.pop("pictures", [])
    remove_leftovers(root / "pictures" / part.name)
    for figure, title, caption in pictures:
        stem = root / "pictures" / part.name / report.file_stem(title)
        write_json(stem.with_suffix(".json"), {"title": title, "caption": caption})
        report.save_png(figure, stem.with_suffix(".png"))
    return {**result, "seconds": time.perf_counter() - started}


def _header(subject: Subject, options: Evaluation, planned: list[str]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "title": f"{subject.name} on {options.on} data",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "subject": {
            "name": subject.name,
            "run": subject.folder is not None,
            "data": subject.data.description,
            "classes": list(subject.data.class_names),
            "note": subject.note,
        },
        "options": evaluated_options(options),
        "planned": planned,
        "parts": {},
        "measures": {},
        "environment": environment(subject.device.type),
    }


def evaluated_options(options: Evaluation) -> dict[str, Any]:
    """Options as ``evaluation.json`` holds them."""
    found: dict[str, Any] = options.model_dump(mode="json")
    return found


def read_evaluation(folder: Path) -> dict[str, Any] | None:
    """What a folder's ``evaluation.json`` holds; None where there is none.

    Raises:
        DataError: it cannot be read.
    """
    return read_json(folder / FILE) if (folder / FILE).exists() else None


def is_complete(folder: Path, options: Evaluation) -> bool:
    """Whether an evaluation with these options was finished in a folder."""
    found = _stored(folder)
    return (
        bool(found)
        and found.get("options") == evaluated_options(options)
        and set(found["parts"]) == set(found.get("planned", ()))
    )


def _stored(root: Path) -> dict[str, Any]:
    """What an earlier evaluation left; nothing where it cannot be read: that is done again."""
    try:
        found = read_evaluation(root)
    except DataError as error:
        warnings.warn(f"{error}; it is done again", LessonplanWarning, stacklevel=3)
        return {}
    sound = found is not None and found.get("schema") == SCHEMA and isinstance(found.get("parts"), dict)
    return found if sound and found is not None else {}
