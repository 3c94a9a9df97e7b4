"""Write ``docs/options.md``, all options of all commands, from the code: ``python docs/make_options.py``."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro
from made.told import arguments, attribute_docs, default, table, takes

import lessonplan as lp
from lessonplan.command_names import COMMANDS
from lessonplan.commands import COMMAND_TYPES, spelled
from lessonplan.commands.answer import Talk
from lessonplan.commands.common import DataOptions
from lessonplan.settings import Settings

HEAD = """# Options

Made by `python docs/make_options.py` from the definitions that the command line reads; a test compares them. A
command says the same with `--help`. What stands *behind* `--mix`, `--select`, `--order`, `--augment` and their
like is on a page of its own: [words](words.md). What commands have in common, resuming, `--json` and the rest,
is told in [the command line](command_line.md).

An option that is yes or no is written `--nesterov` or `--no-nesterov`. In Python the names have underscores,
`batch_size=32`: settings are arguments of `lp.fit` and keys of `settings` for `lp.compare`, `lp.advise` and
`lp.tune`, options of data are arguments of `lp.data.load`. An empty default means that nothing is given, or that
the sentence says what then holds.

"""
SHARED = {
    DataOptions: ("Where data come from", "Options of data"),
    Settings: ("Settings of training", "Settings"),
    Talk: ("What a command says", "What it says"),
}
HOW = {
    Settings: "",
    DataOptions: "In Python `memory_limit` is in bytes.\n\n",
    Talk: "All commands have them.\n\n",
}
COLUMNS = ("option", "takes", "default", "what it is")
FUNCTIONS = (lp.fit, lp.compare, lp.advise, lp.tune, lp.find_lr, lp.check_data, lp.data.load)


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of the command line.

    Attributes:
        name: as it is written.
        hint: its annotation.
        default: if it is not given; ``dataclasses.MISSING`` where it has to be.
        text: what it is.
    """

    name: str
    hint: Any
    default: Any
    text: str

    def row(self) -> tuple[str, str, str, str]:
        """Its line in a table."""
        said = "needed" if self.default is dataclasses.MISSING else default(self.default)
        allowed = takes(self.hint)
        if self.hint is bool:  # a flag, and not a word behind one
            allowed, said = "yes or no", "yes" if self.default else "no"
        return f"`{self.name}`", allowed.replace("`true`, `false`", "`True`, `False`"), said, self.text.rstrip(".")


def options(kind: Any) -> Iterator[Option]:
    """What a dataclass or a model asks for, without the groups that commands share."""
    if kind is Settings:
        for name, info in Settings.model_fields.items():
            hint = typing.get_type_hints(Settings, include_extras=True)[name]
            text = info.description or ""
            yield Option(
                f"--{name.replace('_', '-')}",
                hint,
                info.default,
                text if text[1:2].isupper() else text[:1].lower() + text[1:],
            )
        return
    # what evaluate asks is a dataclass without a source of its own: all is in its annotations
    texts = attribute_docs(kind) if kind.__module__.startswith("lessonplan") and _has_source(kind) else {}
    for field in dataclasses.fields(kind):
        hint = typing.get_type_hints(kind, include_extras=True)[field.name]
        extras = typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ()
        inside = type(field.default)
        if inside in SHARED:
            continue
        if dataclasses.is_dataclass(inside):
            yield from options(inside)
            continue
        config = next((extra for extra in extras if hasattr(extra, "metavar")), None)
        name = f"--{spelled(field.name)}"
        if any(extra is tyro.conf.Positional or "Positional" in repr(extra) for extra in extras):
            name = (config.metavar if config is not None else None) or field.name.upper()
        said = (config.help if config is not None else None) or texts.get(field.name, "")
        yield Option(name, typing.get_args(hint)[0] if extras else hint, field.default, said)


def _has_source(kind: type) -> bool:
    try:
        inspect.getsource(kind)
    except (OSError, TypeError):
        return False
    return True


def groups(kind: Any) -> list[Any]:
    """The shared groups that a command has, as it begins with them."""
    return [field.default for field in dataclasses.fields(kind) if type(field.default) in SHARED]


def options_page() -> str:
    """The whole page."""
    text = HEAD
    for name, kind in COMMAND_TYPES.items():
        text += f"## `lessonplan {name}`\n\n{COMMANDS[name]}\n\n"
        rows = [option.row() for option in options(kind)]
        if rows:
            text += table(COLUMNS, rows)
        shared = groups(kind)
        links = [
            f"[{title}](#{title.lower().replace(' ', '-')})" for title, _ in (SHARED[type(g)] for g in shared)
        ]
        text += f"Also: {', '.join(links)}.{_differences(shared)}\n\n"
    for group, (title, _) in SHARED.items():
        text += f"## {title}\n\n{HOW[group]}{table(COLUMNS, (option.row() for option in options(group)))}"
    return text + functions().rstrip("\n") + "\n"


def _differences(shared: list[Any]) -> str:
    """Where a command begins with other values of what it shares."""
    said = ""
    for group in shared:
        usual = type(group)()
        for name in type(group).model_fields if isinstance(group, Settings) else vars(usual):
            value = getattr(group, name)
            if value != getattr(usual, name):
                said += f" Here `--{name.replace('_', '-')}` is {default(value) or 'empty'} if not given."
    return said


def functions() -> str:
    """What the functions take in Python: each of their arguments."""
    text = "## In Python\n\nWhat the functions take beside settings and options of data.\n\n"
    for function in FUNCTIONS:
        signature = inspect.signature(function)
        said = arguments(function.__doc__)
        name = f"lp.data.{function.__name__}" if function is lp.data.load else f"lp.{function.__name__}"
        text += f"### `{name}`\n\n"
        rows = []
        for parameter in signature.parameters.values():
            stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
            value = parameter.default
            needed = value is parameter.empty and not stars
            shown = "needed" if needed else "" if value is parameter.empty else default(value)
            rows.append((f"`{stars}{parameter.name}`", shown, said.get(parameter.name, "")))
        text += table(("argument", "default", "what it is"), rows)
    return text


if __name__ == "__main__":
    (Path(__file__).parent / "options.md").write_text(options_page())
