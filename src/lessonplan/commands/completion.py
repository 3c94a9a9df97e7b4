"""``lessonplan completion``."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

import tyro

from lessonplan.commands.answer import TALK, Answer, Talk
from lessonplan.commands.common import Flat


@dataclass(frozen=True)
class Completion:
    """Options of ``lessonplan completion``."""

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    """bash: lessonplan completion bash > ~/.local/share/bash-completion/completions/lessonplan;
    zsh: lessonplan completion zsh > DIR/_lessonplan, with DIR in $fpath;
    fish: lessonplan completion fish > ~/.config/fish/completions/lessonplan.fish"""
    talk: Annotated[Talk, Flat] = TALK

    def run(self) -> Answer:
        """Give the script."""
        script = completion_script(self.shell)
        return Answer({"shell": self.shell, "script": script}, lambda: print(script))


def completion_script(shell: str) -> str:
    """The script that completes commands, options and choices, as the parser of the commands knows them."""
    from lessonplan.command_names import COMMANDS
    from lessonplan.commands import COMMAND_TYPES

    named = [
        Annotated[kind, tyro.conf.subcommand(name=name, description=COMMANDS[name], prefix_name=False)]
        for name, kind in COMMAND_TYPES.items()
    ]
    every: Any = Union[tuple(named)]  # noqa: UP007
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
        tyro.cli(every, args=["--tyro-write-completion", shell, "-"], prog="lessonplan")
    script = written.getvalue().rstrip("\n")
    # Each line that it prints is something to complete: help of several lines would be offered too.
    return re.sub(r"(?m)^.*COMPLETION_SPEC = .*$", lambda found: re.sub(r"\\{1,2}n", " ", found[0]), script)
