"""The command line. Heavy imports wait until a command runs, so that --help answers at once."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence

from lessonplan import __version__
from lessonplan.errors import ConfigError, LessonplanError, unknown

COMMANDS = {
    "compare": "Compare training procedures over several seeds, paired and at equal compute.",
    "train": "Train one network; run again to resume.",
    "lr": "Find a learning rate: train a few steps while it rises, and see where the loss falls.",
    "check": "Try a mix, filter, selector, order or network of your own.",
    "preview": "Draw mixed images with their labels.",
    "order": "Search the best order of a few batches: every permutation, epoch after epoch.",
    "predict": "Classify images or recordings with a trained network.",
    "export": "Write a trained network as an ONNX file.",
    "evaluate": "Judge a trained network: attacks, test-time sums, out-of-distribution, localisation.",
    "recipes": "List the experiments that can be reproduced.",
    "reproduce": "Run an experiment of the sources, beside the sources' numbers.",
    "report": "Write the pages of a folder again.",
}
INTERRUPTED, BROKEN_PIPE = 130, 141


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point: exit code 0, 1 if runs failed, 2 for a user's mistake, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:  # whoever read the output, head for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except LessonplanError as error:
        print(f"lessonplan: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("lessonplan: stopped; run the same command again to go on", file=sys.stderr, flush=True)
        if argv is None:
            os._exit(INTERRUPTED)  # taking PyTorch apart in good order would keep the user waiting for a second
        sys.exit(INTERRUPTED)


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
    return _run(name, rest)


def _run(name: str, arguments: list[str]) -> int:
    """Read a command's arguments and do it."""
    import tyro
    from pydantic import ValidationError

    from lessonplan.commands import COMMAND_TYPES, option_names
    from lessonplan.strict import explain

    kind = COMMAND_TYPES[name]
    known = [*option_names(kind), "--help"]
    for argument in arguments:
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
        raise explain(error, "setting ") from None
    code: int = command.run()
    return code


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
