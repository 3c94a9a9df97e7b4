"""Where things are kept that can be made again: features, indices of shards."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(kind: str, given: str | None = None) -> Path:
    """The folder of one kind of things: as given, ``$LESSONPLAN_CACHE/KIND``, or below the user's cache folder."""
    if given is not None:
        return Path(given).expanduser()
    home = os.environ.get("LESSONPLAN_CACHE")
    if home:
        return Path(home).expanduser() / kind
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lessonplan" / kind
