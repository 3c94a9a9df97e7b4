"""Python processes that this package starts for itself."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def python(code: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """A command that runs code as ``python -c`` does, but imports from where this process does.

    ``python -c`` and ``python -m`` look into the working directory first, where somebody else's ``numpy.py`` may
    lie among data.

    Args:
        code: whose first line may stand behind a semicolon.
        *arguments: what ``sys.argv[1:]`` is then.
        options: of Python.
    """
    return [sys.executable, *options, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}", *arguments]
