"""What a user did wrong, said in one sentence: what was given, what is allowed, what to do."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterable, Sequence

_LINE, _TAIL, _LONGEST = 200, 20, 4000  # characters
_ENDLESS = re.compile(r"\S{400,}")  # no word, but what somebody gave for one
_LISTED = 12  # a longer list of names helps nobody who was offered the right one


class LessonplanError(ValueError):
    """A mistake in what the user gave; the command line prints it in one line and exits with 2.

    >>> len(str(LessonplanError("unknown name " + "a" * 1_000_000))) < 500
    True
    """

    def __init__(self, message: str = "") -> None:
        short = _ENDLESS.sub(lambda found: f"{found[0][:_LINE]}...{found[0][-_TAIL:]}", message)
        super().__init__(short if len(short) <= _LONGEST else f"{short[:_LONGEST]} ...")


class DataError(LessonplanError):
    """Data that are missing, broken or do not fit what was asked of them."""


class ConfigError(LessonplanError):
    """A setting, name or specification that cannot be used."""


class MachineError(LessonplanError):
    """Something of this machine at this moment, such as a full disk: later the same may well go."""


class DiskError(DataError, MachineError):
    """A disk or folder that does not take what is written."""


class RunFailed(LessonplanError):
    """Work that was begun and failed, which may be no mistake of the user's: the command line exits with 1."""


class LessonplanWarning(UserWarning):
    """Something the user should know, though the work goes on."""


class MachineWarning(LessonplanWarning):
    """Something about the machine at this moment, which another moment may not show."""


def unknown(kind: str, given: str, allowed: Iterable[str]) -> ConfigError:
    """An error for a name nobody knows, with the nearest right spelling.

    Args:
        kind: what the name should have named, for example ``"mix"``.
        given: the name as the user wrote it.
        allowed: every name that would have been right.

    >>> print(unknown("mix", "mixpu", ["mixup", "cutmix"]))
    unknown mix 'mixpu': did you mean 'mixup'? (known: cutmix, mixup)
    >>> print(unknown("mix", "photos", ["mixup", "cutmix"]))
    unknown mix 'photos' (known: cutmix, mixup)
    """
    names = sorted(allowed)
    heads = {
        name.partition(":")[0]: name for name in reversed(names)
    }  # what is to follow a colon is no part of it
    near = difflib.get_close_matches(given.lower(), heads, n=1, cutoff=0.5)
    hint = f": did you mean {heads[near[0]]!r}?" if near else ""
    known = f" (known: {', '.join(names)})" if not near or len(names) <= _LISTED else ""
    known = known if names else ": there are none"
    return ConfigError(f"unknown {kind} {given!r}{hint}{known}")


def require(condition: bool, message: str) -> None:
    """Raise a ``ConfigError`` with this message unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def visible(text: str) -> str:
    r"""Text for a terminal: what would control it, or turn the direction of writing, is written out.

    Names of classes, methods and files come with data that others have made.

    >>> visible("a\x1b[2Jb"), visible("two\nlines")
    ('a\\x1b[2Jb', 'two\nlines')
    """
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def out_of_memory(error: BaseException) -> bool:
    """Whether memory was short, on the host or on an accelerator.

    PyTorch raises a RuntimeError for the former, and a compiled module that does not fit is an ImportError.

    >>> out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."))
    True
    """
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "AcceleratorOutOfMemory"):
        return True
    return isinstance(error, (RuntimeError, ImportError)) and any(said in str(error) for said in _SHORT_OF_MEMORY)


_OF_THE_HOST = (
    "can't allocate memory", "cannot allocate memory", "not enough memory", "can't start new thread",
    "failed to map segment",
)  # fmt: skip
_SHORT_OF_MEMORY = ("out of memory", *_OF_THE_HOST)


def machine_out_of_memory(error: BaseException) -> bool:
    """Whether the host's memory was short, which others use too; an accelerator's is the program's own.

    >>> machine_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate ..."))
    False
    """
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, (RuntimeError, ImportError)) and any(said in str(error) for said in _OF_THE_HOST)


def first_line(error: Exception | str) -> str:
    """What a library's error says first, in whole words, for a sentence of ours.

    >>> first_line(OSError("the disk is on fire\\nTraceback ..."))
    'the disk is on fire'
    """
    said = str(error).strip() or type(error).__name__
    return textwrap.shorten(said.partition("\n")[0], _LINE, placeholder=" ...")


def in_short(names: Sequence[str], most: int = 8) -> str:
    """Names in a sentence: the first of them, and how many more there are.

    >>> in_short(["a", "b"]), in_short(["a", "b", "c"], most=1)
    ("'a', 'b'", "'a' and 2 more")
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
