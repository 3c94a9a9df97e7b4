"""How ranks that torchrun has started end."""

from __future__ import annotations

import subprocess
import sys

import pytest

RANK = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost"}
ENDS = """
import atexit, os, sys
import lessonplan.cli as cli

class Aborts:  # as gloo's threads do now and then while Python is taken apart
    __del__ = lambda self: os.abort()

kept = Aborts()
atexit.register(print, "told at the end")
cli._dispatch = lambda arguments: 3
sys.argv = ["lessonplan", "train"]
cli.main()
"""


@pytest.mark.parametrize(("environment", "code"), [(RANK, 3), ({}, -6)])
def test_a_rank_that_is_done_is_not_taken_apart(environment: dict[str, str], code: int) -> None:
    """What was registered for the end is done; a process that is alone ends as Python ends it."""
    ended = subprocess.run(
        [sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert (ended.returncode, ended.stdout) == (code, "told at the end\n"), ended.stderr
