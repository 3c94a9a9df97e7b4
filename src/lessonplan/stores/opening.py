"""``opened``: a result folder to work in, wherever it is."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from lessonplan.errors import LessonplanError, LessonplanWarning
from lessonplan.lock import sole_user
from lessonplan.progress import Line
from lessonplan.stores.address import home_of, is_url, plain
from lessonplan.stores.copy import Copy
from lessonplan.stores.holding import Holding
from lessonplan.stores.objects import Found, Objects
from lessonplan.stores.sending import Sender
from lessonplan.stores.sync import Sync, check_ours

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Location:
    """Where a command's or function's results are.

    Attributes:
        folder: to work in: what was given, or a local copy of what a URL holds.
        url: what was given, if that is a URL.
        kept: why not all is at the URL, in one sentence with the folder that has it; known at the end.
    """

    folder: Path
    url: str | None = None
    kept: str | None = None


@contextmanager
def opened(out: str | Path) -> Iterator[Location]:
    """A result folder, or a URL in its place: what it holds is fetched, and what is finished inside is sent.

    The copy is in ``lessonplan.cache``'s folder ``stores``. Sending goes on in the background, and ends with the
    ``with``. Nothing that was computed is lost: where the store stays away it is in the copy, which a warning at
    the end names, and is sent when the same is opened again.

    Args:
        out: a folder, or a URL that fsspec opens.

    Raises:
        ConfigError: the URL cannot be used, holds something else, or another process is at work in it.
        StoreError: the store does not answer or refuses, at the beginning.
    """
    if not is_url(out):
        yield Location(Path(out))
        return
    url = plain(str(out))
    objects, home = Objects(url), home_of(url)
    try:
        with sole_user(home):  # also of the record of what was sent, on this machine
            for leftover in ("sending", "coming"):
                shutil.rmtree(home / leftover, ignore_errors=True)
            copy = Copy(home, "work")
            place = Location(copy.folder, url)
            check_ours(url, objects.listing())  # before anything is put there
            holding = Holding(objects)
            try:
                objects.remove_parts()
                sync = Sync(objects, copy, spared=_of_finished_runs)
                sync.fetch()
                sender = Sender(sync, holding)
                try:
                    yield place
                finally:
                    place.kept = _finish(sender, sync)
            finally:
                holding.release(answers=place.kept is None)
    except LessonplanError as error:
        error.args = (str(error).replace(str(home / "work"), url).replace(str(home), url),)
        raise


def in_place(work: Callable[P, R]) -> Callable[P, R]:
    """A function whose argument ``out`` is a folder, as one that takes a URL too; see ``opened``."""

    @wraps(work)
    def there(*args: P.args, **given: P.kwargs) -> R:
        out = given.get("out")
        if not isinstance(out, (str, Path)) or not is_url(out):
            return work(*args, **given)
        with opened(out) as place:
            given["out"] = place.folder
            return work(*args, **given)

    return there


def _finish(sender: Sender, sync: Sync) -> str | None:
    """Send what is left; the sentence about what could not be."""
    url, folder = sync.objects.url, sync.copy.folder
    with Line(f"sending to {url} (Ctrl-C leaves the rest in {folder})"):
        try:
            if sender.finish():
                return None
        except KeyboardInterrupt:
            sender.why = sender.why or "stopped"
    left = sync.unsent()
    if not left and sender.why is None:
        return None
    files = f"{len(left)} files of it were" if left else "it was"
    kept = (
        f"{files} not sent to {url} ({sender.why or 'it does not answer'}): all is in {folder}, and the same"
        " command again sends it"
    )
    warnings.warn(kept, LessonplanWarning, stacklevel=4)
    return kept


def _of_finished_runs(name: str, there: dict[str, Found]) -> bool:
    """Whether it is a checkpoint of a finished run of a comparison, which nobody asks for there."""
    run, found, _ = name.partition("/checkpoints/")
    table = f"{run.rpartition('runs/')[0]}results.json"
    return bool(found) and "runs/" in run and table in there and f"{run}/result.json" in there
