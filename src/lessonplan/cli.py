"""The command line. Heavy imports wait until a command runs, so that --help answers at once."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import sys
import warnings
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from lessonplan import __version__
from lessonplan.command_names import COMMANDS
from lessonplan.errors import (
    ConfigError,
    LessonplanError,
    LessonplanWarning,
    RunFailed,
    out_of_memory,
    unknown,
    visible,
)
from lessonplan.launched import first_of_all, leave_with_torchrun, started_together
from lessonplan.leaving import leave
from lessonplan.signals import sigterm_interrupts

__all__ = ["COMMANDS", "main"]
FAILED, MISTAKE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141
_ALONE = r"(?<![\w:,=>/.'\"#-])"  # not within a plan's text, a path or another's words
_ARGUMENT = re.compile(
    rf"{_ALONE}(?:setting )?(?P<name>[a-z_]{{2,}})=(?P<value>'[^']*'|\([^()]*\)|[^\s,;:)'\"]+(?=[\s,;:)]|$))"
)
_NAME = re.compile(rf"{_ALONE}[a-z]+(?:_[a-z]+)+(?![\w=(/'\"]|[:.]\S)")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point: exit code 0, 1 if runs failed, 2 for a user's mistake, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for_script = arguments[0] if "--json" in arguments[1:] else None
    formatted, warnings.formatwarning = warnings.formatwarning, _warned
    if argv is None:
        leave_with_torchrun()
    try:
        with sigterm_interrupts():
            code = _dispatch(arguments)
        sys.stdout.flush()
        if argv is None and started_together() > 1:
            leave(code)
        sys.exit(code)
    except BrokenPipeError:  # whoever read the output, head for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except LessonplanError as error:
        code = FAILED if isinstance(error, RunFailed) else MISTAKE
        if argv is None and started_together() > 1:
            _say(str(error), code, for_script)
            os._exit(code)  # taking leave of other ranks in good order would be waiting for those that are gone
        _fail(str(error), code, for_script)
    except OSError as error:  # what no reader or writer of ours has said better
        where = f"{error.filename}: " if error.filename is not None else ""
        _fail(f"{where}{error.strerror or error}", MISTAKE, for_script)
    except KeyboardInterrupt:
        _stopped(for_script)
        if argv is None:
            os._exit(INTERRUPTED)  # taking PyTorch apart in good order would keep the user waiting for a second
        sys.exit(INTERRUPTED)
    except (MemoryError, RuntimeError, ImportError) as error:
        if not out_of_memory(error):
            raise
        smaller = "out of memory: give a smaller --batch-size, --image-size, --pad or network, or fewer --jobs"
        _fail(smaller, FAILED, for_script)
    finally:
        warnings.formatwarning = formatted


def _warned(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning of ours as one line; others as Python writes them."""
    if issubclass(category, LessonplanWarning):
        return f"lessonplan: warning: {visible(' '.join(str(message).split()))}\n"
    where = f"{filename}:{lineno}: {category.__name__}"
    return f"{where}: {visible(str(message))}\n"


def _fail(text: str, code: int, command: str | None) -> NoReturn:
    """One line on standard error, for a script (``command``) an object on standard output, and an exit code."""
    _say(text, code, command)
    sys.exit(code)


def _say(text: str, code: int, command: str | None) -> None:
    """The same without the end; of several ranks each says who it is, and the first one gives the object."""
    line = visible(" ".join(text.split()))
    who = f"rank {os.environ['RANK']}: " if started_together() > 1 else ""
    print(f"lessonplan: {who}{line}", file=sys.stderr, flush=True)
    if command is not None and first_of_all():
        _give(command, code, error=line)


def _stopped(command: str | None) -> None:
    line = "stopped; run the same command again to go on"
    print(f"lessonplan: {line}", file=sys.stderr, flush=True)
    if command is not None and first_of_all():
        _give(command, INTERRUPTED, error=line)


def _give(command: str, code: int, **found: Any) -> None:
    """The one object that a script reads from standard output."""
    import json

    envelope = {"command": command, "version": __version__, "exit_code": code, **found}
    print(json.dumps(envelope, allow_nan=False), flush=True)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"lessonplan {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    if name != "train" and started_together() > 1:
        raise ConfigError(f"lessonplan {name} is not shared out over ranks: run it without torchrun")
    return _run(name, rest)


def _run(name: str, arguments: list[str]) -> int:
    """Read a command's arguments and do it."""
    import tyro
    from pydantic import ValidationError

    from lessonplan.commands import COMMAND_TYPES, option_names
    from lessonplan.strict import explain

    kind = COMMAND_TYPES[name]
    known = [*option_names(kind), "--help"]
    for argument in itertools.takewhile("--".__ne__, arguments):  # behind it stands what has no name
        flag = argument.split("=", 1)[0].replace("_", "-")
        if argument.startswith("--") and flag not in known:
            raise unknown(f"option of {name}", flag, known)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            command = tyro.cli(kind, args=arguments, prog=f"lessonplan {name}", description=COMMANDS[name])
    except SystemExit as stop:
        if stop.code in (0, None):
            return 0
        raise ConfigError(_one_line(said.getvalue(), name)) from None
    except ValidationError as error:
        raise ConfigError(_as_option(str(explain(error, "setting ")), known)) from None
    from lessonplan.commands.answer import plain
    from lessonplan.commands.common import refuse_results_among_classes, refuse_urls
    from lessonplan.progress import aloud, silence

    refuse_urls(command)
    refuse_results_among_classes(command)
    talk = command.talk
    # Whatever a library or a part of the user's prints is none of a script's business.
    elsewhere = contextlib.redirect_stdout(sys.stderr) if talk.json else contextlib.nullcontext()
    with silence(talk.quiet), aloud(first_of_all()), elsewhere:
        try:
            answer = command.run()
        except LessonplanError as error:
            error.args = (_as_option(str(error), known),)
            raise
    if not first_of_all():
        return int(answer.code)
    if talk.json:
        _give(name, answer.code, result=plain(answer.data))
    elif not talk.quiet:
        answer.show()
    return int(answer.code)


def _as_option(text: str, known: Collection[str]) -> str:
    """What a function says of arguments, as the command line says it of options.

    >>> _as_option("setting batch_size=0: give at least 1", ["--batch-size"])
    '--batch-size 0: give at least 1'
    >>> _as_option("keep='best' needs validation: give val_fraction, or keep='last'", ["--keep", "--val-fraction"])
    "--keep 'best' needs validation: give --val-fraction, or --keep 'last'"
    >>> _as_option("mixup:alpha=0: give a number above 0", ["--alpha"])
    'mixup:alpha=0: give a number above 0'
    """

    def spelled(found: re.Match[str]) -> str:
        option = f"--{found['name'].replace('_', '-')}"
        return f"{option} {found['value']}" if option in known else found[0]

    text = _ARGUMENT.sub(spelled, text)
    return _NAME.sub(
        lambda found: option if (option := f"--{found[0].replace('_', '-')}") in known else found[0], text
    )


def _one_line(box: str, name: str) -> str:
    """The message inside the parser's frame, without the frame, its title and the help below it."""
    lines = [line.strip("│ ") for line in re.sub(r"\x1b\[[0-9;]*m", "", box).strip().splitlines()]
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.startswith(("╭", "╰", "──", "--- ")) or not line.strip("-"):
            blocks.append([])
        elif line.startswith("Got errors"):
            break
        else:
            blocks[-1].append(line)
    # Where the terminal knows no frames, the title is a block of its own.
    blocks = [block for block in blocks if block][not box.lstrip().startswith("╭") :]
    message = " ".join(blocks[0]) if blocks else "the arguments cannot be read"
    return f"{message} (lessonplan {name} --help shows what can be given)"


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return (
        f"lessonplan {__version__}: choose, order and mix what a network trains on.\n\n"
        f"usage: lessonplan COMMAND [options]\n\n{lines}\n\n"
        "lessonplan COMMAND --help shows a command's options. Start with:\n"
        "  lessonplan compare --methods erm,mixup,sum,cascade --per-class 10 --seeds 3 --out first"
    )
