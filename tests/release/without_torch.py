"""What must work on every Python version without PyTorch (``make test-pythons``).

It stands by itself: pytest, and PyTorch beside it, are not there.
"""

from __future__ import annotations

import compileall
import contextlib
import io
import json
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"


def outcome(line: str) -> tuple[int, str, str]:
    """Exit code and both outputs of a command."""
    from lessonplan import cli

    out, err = io.StringIO(), io.StringIO()
    code = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(line.split())
        except SystemExit as stop:
            code = stop.code
    return int(code or 0), out.getvalue(), err.getvalue()


def main() -> None:
    """Compile every file; help, mistakes, completion and the doctor of every command."""
    assert compileall.compile_dir(str(SOURCE), quiet=1, force=True)
    sys.path.insert(0, str(SOURCE))
    from lessonplan.cli import COMMANDS

    for name in COMMANDS:
        code, out, _ = outcome(f"{name} --help")
        assert code == 0, name
        assert f"lessonplan {name}" in out
    for line, said in (("train --out x --lr -1", "lr=-1"), ("comapre", "'compare'"), ("lr --form 1", "'--from'")):
        code, _, err = outcome(line)
        assert code == 2, line
        assert said in err, err
    for shell in ("bash", "zsh", "fish"):
        code, out, _ = outcome(f"completion {shell}")
        assert code == 0
        assert "--per-class" in out, shell
    code, out, _ = outcome("doctor --json")
    found = json.loads(out)
    assert found["exit_code"] == code
    assert found["result"]["versions"]["torch"] is None, "this is meant for an environment without PyTorch"
    print(f"Python {sys.version.split()[0]}: {len(COMMANDS)} commands answer")


if __name__ == "__main__":
    main()
