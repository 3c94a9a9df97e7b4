"""An extension of griffe: examples with ``>>>`` in the text of a docstring become blocks of code."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?:^>>> .*\n?)(?:^(?!\s*$).*\n?)*(?:\n*^>>> .*\n?(?:^(?!\s*$).*\n?)*)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """A quotation of quotations is what Markdown would make of them."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(lambda found: fenced(found[0]), obj.docstring.value)


def fenced(example: str) -> str:
    """
    >>> fenced(">>> 1 + 1\\n2")
    '```pycon\\n>>> 1 + 1\\n2\\n```\\n'
    """
    return f"```pycon\n{example.rstrip()}\n```\n"
