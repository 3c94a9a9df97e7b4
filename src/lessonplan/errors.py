"""What a user did wrong, said in one sentence: what was given, what is allowed, what to do."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable

_LINE = 200
_LISTED = 12  # a longer list of names helps nobody who was offered the right one


class LessonplanError(ValueError):
    """A mistake in what the user gave; the command line prints it in one line and exits with 2."""


class DataError(LessonplanError):
    """Data that are missing, broken or do not fit what was asked of them."""


class ConfigError(LessonplanError):
    """A setting, name or specification that cannot be used."""


class LessonplanWarning(UserWarning):
    """Something the user should know, though the work goes on."""


def unknown(kind: str, given: str, allowed: Iterable[str]) -> ConfigError:
    """An error for a name nobody knows, with the nearest right spelling.

    Args:
        kind: what the name should have named, for example ``"mix"``.
        given: the name as the user wrote it.
        allowed: every name that would have been right.

    >>> print(unknown("mix", "mixpu", ["mixup", "cutmix"]))
    unknown mix 'mixpu': did you mean 'mixup'? (known: cutmix, mixup)
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(given.lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else ""
    known = f"(known: {', '.join(names)})" if not near or len(names) <= _LISTED else ""
    known = known if names else "there are none"
    return ConfigError(f"unknown {kind} {given!r}: {' '.join(filter(None, (hint, known)))}")


def require(condition: bool, message: str) -> None:
    """Raise a ``ConfigError`` with this message unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def first_line(error: Exception | str) -> str:
    """What a library's error says first, in whole words, for a sentence of ours.

    >>> first_line(OSError("the disk is on fire\\nTraceback ..."))
    'the disk is on fire'
    """
    said = str(error).strip() or type(error).__name__
    return textwrap.shorten(said.partition("\n")[0], _LINE, placeholder=" ...")
