"""URLs of folders in object stores, and where their local copies are."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from lessonplan.cache import cache_folder
from lessonplan.errors import ConfigError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.+)", re.DOTALL)
_SQUEEZED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/[^/\\]")  # what pathlib makes of a URL


def is_url(place: str | Path) -> bool:
    """Whether a result folder is named by a URL.

    Raises:
        ConfigError: it is a path that pathlib has made of a URL, or an empty text, of which pathlib would make the
            current folder.

    >>> is_url("s3://bucket/run"), is_url("runs/mine"), is_url(Path("runs"))
    (True, False, False)
    """
    if isinstance(place, Path):
        if (found := _SQUEEZED.match(str(place))) is not None:
            scheme = found[1]
            raise ConfigError(
                f"{place} seems to be a URL as a Path, which loses a slash: give it as text, '{scheme}://...'"
            )
        return False
    if not place.strip():
        raise ConfigError("an empty text names no folder and no file: give one ('.' is the current folder)")
    return "://" in place


def protocol_of(url: str) -> str:
    """What stands before the ``://``.

    Raises:
        ConfigError: it is no URL of a folder.

    >>> protocol_of("s3://bucket/run")
    's3'
    """
    found = _URL.fullmatch(url)
    if found is None or not found[2].strip("/"):
        raise ConfigError(
            f"{url!r} is no URL of a folder: write PROTOCOL://PLACE/FOLDER, for example s3://bucket/run"
        )
    return found[1].lower()


def plain(url: str) -> str:
    """A URL without slashes at its end.

    Raises:
        ConfigError: it is no URL of a folder.
    """
    protocol_of(url)
    return url.rstrip("/")


def at(url: str, name: str) -> str:
    """What lies below a URL.

    >>> at("s3://bucket/run/", "index.html")
    's3://bucket/run/index.html'
    """
    return f"{url.rstrip('/')}/{name}"


def home_of(url: str) -> Path:
    """The folder of this machine that belongs to a URL, below ``cache_folder("stores")``."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", url).strip("-")[-60:]
    return cache_folder("stores") / f"{stem}-{hashlib.blake2b(url.encode(), digest_size=4).hexdigest()}"
