"""How processes end that need not take Python and PyTorch apart."""

from __future__ import annotations

import subprocess
import sys

import pytest

RANK = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost"}
BEGIN = """
import atexit, os, sys

class Aborts:  # as gloo's threads do now and then while Python is taken apart
    __del__ = lambda self: os.abort()

kept = Aborts()
atexit.register(print, "told at the end", file=sys.stderr)
"""
COMMAND = """
import lessonplan.cli as cli
cli._dispatch = lambda arguments: 3
sys.argv = ["lessonplan", "train"]
cli.main()
"""
WORKER = """
from lessonplan.lab.worker import main
main()
"""


@pytest.mark.parametrize(
    ("code", "environment", "ends"),
    [(COMMAND, RANK, 3), (COMMAND, {}, -6), (WORKER, {}, 0)],
    ids=["a rank", "a command that is alone", "a worker without jobs left"],
)
def test_who_is_done_is_not_taken_apart(code: str, environment: dict[str, str], ends: int) -> None:
    """What was registered for the end is done; a process that is alone ends as Python ends it."""
    ended = subprocess.run(
        [sys.executable, "-c", BEGIN + code],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    assert ended.returncode == ends, ended.stderr
    assert ended.stderr.startswith("told at the end\n")
