"""What code says of itself, as Markdown: options of dataclasses, their docstrings, what they take."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from lessonplan.commands.common import Folder

ENTRY = re.compile(r"^\*{0,2}(\w+(?:, \w+)*): (.*)$")
LIMITS = {"ge": "at least {:g}", "gt": "above {:g}", "le": "at most {:g}", "lt": "below {:g}"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown, with an empty line behind it."""
    lines = [head, ["---"] * len(head), *([cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n\n"


def cell(text: str) -> str:
    r"""A text as one cell: on one line, and no character of it is Markdown's, but for code.

    >>> cell("mixup|cutmix, ``batch 1*`` and 1*")
    'mixup\\|cutmix, `batch 1*` and 1\\*'
    """
    text = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", " ".join(text.split())).replace("``", "`")
    parts = text.split("`")
    parts[::2] = [part.replace("*", r"\*").replace("<", "&lt;") for part in parts[::2]]
    # a long word without a space may be broken at its commas, or the table is wider than the page
    parts[::2] = [re.sub(r"\S{25,}", lambda word: word[0].replace(",", ",<wbr>"), part) for part in parts[::2]]
    return "`".join(parts).replace("|", r"\|")


def summary(thing: Any) -> str:
    """How a docstring begins, up to its first empty line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split()).replace("``", "`")


def arguments(doc: str | None) -> dict[str, str]:
    """What the section ``Args:`` of a docstring says of each argument.

    >>> arguments("Do.\\n\\nArgs:\\n    a, b: both,\\n        or one.\\n    c: third.\\n\\nReturns:\\n    d: no.")
    {'a': 'both, or one.', 'b': 'both, or one.', 'c': 'third.'}
    """
    found: dict[str, str] = {}
    _, _, rest = inspect.cleandoc(doc or "").partition("Args:\n")
    names: list[str] = []
    for line in rest.splitlines():
        if line and not line.startswith(" "):
            break
        entry = ENTRY.match(line[4:]) if line.startswith("    ") and not line.startswith("     ") else None
        if entry:
            names = entry[1].split(", ")
        for name in names:
            found[name] = f"{found.get(name, '')} {entry[2] if entry else line.strip()}".strip()
    return found


def of_class(cls: type) -> dict[str, str]:
    """What a class and those it derives from say of its arguments; ``see Other`` is what that class says."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for name, text in (arguments(base.__doc__) if "__doc__" in vars(base) else {}).items():
            other = re.fullmatch(r"see ``(\w+)``\.", text)
            if not other:
                found[name] = text
            elif name not in found:
                found[name] = of_class(vars(sys.modules[base.__module__])[other[1]])[name]
    return found


def attribute_docs(cls: type) -> dict[str, str]:
    """The strings behind the fields of a dataclass."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = str(text.value.value)
    return found


def takes(hint: Any) -> str:
    """What an annotation allows, in words.

    >>> takes(typing.Literal["a", "b"] | int | None)
    '`a`, `b`, a whole number'
    """
    return ", ".join(dict.fromkeys(_takes(hint))) or "text"


PLAIN = {
    bool: "`true`, `false`", int: "a whole number", float: "a number", str: "text", Path: "a path",
    type(None): None, Folder: "a path or a URL",
}  # fmt: skip


def _takes(hint: Any) -> list[str]:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        limits = [_limits(extra) for extra in inside[1:]]
        plain = _takes(inside[0])
        return [", ".join([plain[0], *filter(None, limits)]), *plain[1:]] if plain else []
    if origin in (typing.Union, types.UnionType):
        return [word for member in inside for word in _takes(member)]
    if origin is typing.Literal:
        return [f"`{value}`" for value in inside]
    if origin is Callable:
        return ["a function (in Python)"]
    if inside:
        members = [_takes(member)[0] for member in inside if _takes(member) and member is not Ellipsis]
        return [f"several: {members[0]}"] if members else []
    word = PLAIN.get(hint, "text")
    return [word] if word else []


def _limits(extra: Any) -> str:
    """The bounds of a pydantic field."""
    bounds = getattr(extra, "metadata", ())
    said = [
        words.format(getattr(bound, name))
        for bound in bounds
        for name, words in LIMITS.items()
        if hasattr(bound, name)
    ]
    return ", ".join(said)


def default(value: Any) -> str:
    """A default as it would be written; nothing where there is none.

    >>> default(0.0005), default(True), default(None), default((0.5, 0.5))
    ('`0.0005`', '`true`', '', '`0.5/0.5`')
    """
    if value is None or value == "" or value == () or value is dataclasses.MISSING:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (list, tuple)):
        return f"`{'/'.join(map(str, value))}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
