"""What is to be read from a URL, as a local folder, and whether somebody is at work there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from lessonplan.errors import ConfigError
from lessonplan.lock import in_turn
from lessonplan.progress import Line
from lessonplan.stores.address import home_of, is_url, plain
from lessonplan.stores.copy import Copy, is_private
from lessonplan.stores.holding import at_work
from lessonplan.stores.objects import Objects, StoreError
from lessonplan.stores.sync import check_ours

_OF: dict[str, Callable[[str], bool]] = {
    "network": lambda name: name in ("config.yaml", "result.json", "weights.safetensors", "metrics.jsonl"),
    "pages": lambda name: "checkpoints" not in name.split("/")[:-1] and _last(name) != "weights.safetensors",
    "progress": lambda name: _last(name) in ("results.json", "config.yaml", "result.json", "metrics.jsonl"),
}


def fetched(
    folder: str | Path, what: Literal["network", "pages", "progress"] = "network", *, quiet: bool = False
) -> Path:
    """A folder to read from; of a URL a copy on this machine, of which what has changed is fetched anew.

    Nothing is held and nothing sent: another process may be at work there.

    Args:
        folder: a folder, or a URL that fsspec opens.
        what: is fetched: ``"network"``, what tells and uses a run's network; ``"pages"``, all but checkpoints and
            weights; ``"progress"``, what tells how far runs are.
        quiet: do not say how far fetching is.

    Raises:
        ConfigError: the URL cannot be used, or holds nothing of ours. StoreError: it cannot be read.
    """
    if not is_url(folder):
        return Path(folder)
    url = plain(str(folder))
    objects, home = Objects(url), home_of(url)
    wanted = _OF[what]
    with in_turn(home):
        copy = Copy(home, "read")
        for tries_left in (2, 1, 0):
            there = objects.listing()
            check_ours(url, there)
            there = {name: found for name, found in there.items() if not is_private(name)}
            if not there:
                raise ConfigError(f"{url} holds nothing: give the --out of a training or comparison")
            copy.drop([name for name in copy.files if name not in there])
            news = {
                name: found
                for name, found in there.items()
                if wanted(name) and copy.files.get(name) != (copy.stamp(name), found.token)
            }
            try:
                with Line(f"fetching {url}", total=len(news), unit="files", quiet=quiet) as line:
                    copy.fetch(objects, news, lambda: line.update(advance=1))
                return copy.folder
            except StoreError:
                if not tries_left:  # else somebody is at work there, and an object has changed since it was listed
                    raise
    raise AssertionError


def somebody_at_work(url: str) -> bool:
    """Whether a process holds a URL.

    Raises:
        ConfigError: the URL cannot be used. StoreError: it cannot be read.
    """
    return at_work(Objects(plain(url)))


def _last(name: str) -> str:
    return name.rpartition("/")[2]
