"""A process that does jobs: reads them from standard input, answers on standard output.

Started by ``lessonplan.lab.executor``. A job is a length of 8 bytes and a pickle that the starting
process made, sent through a pipe that nobody else has; the answer is one line of JSON. Everything printed goes to
standard error.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from typing import BinaryIO

from lessonplan.leaving import leave

LENGTH_BYTES = 8


def serve(jobs: BinaryIO, answers: BinaryIO, soon: bool = False) -> None:
    """Do jobs until the input ends; data that they share are opened once.

    Args:
        jobs: where they come from.
        answers: where their outcomes go.
        soon: whether jobs are sure to come, so that PyTorch is imported while they are waited for.
    """
    if soon:
        import lessonplan.train  # noqa: F401
    header = jobs.read(LENGTH_BYTES)
    if not header:
        return
    from lessonplan.data.sources import opening_once  # imports torch, which only a worker with work needs
    from lessonplan.lab.task import Mishap, attempt

    with opening_once():
        while header:
            payload = jobs.read(int.from_bytes(header, "big"))
            error = attempt(pickle.loads(payload))
            suspect = error.suspect if isinstance(error, Mishap) else None
            answers.write(json.dumps({"error": error, "suspect": suspect}).encode() + b"\n")
            answers.flush()
            header = jobs.read(LENGTH_BYTES)


def main(soon: bool = False) -> None:
    """Keep the real standard output for answers, whatever a run prints; see ``serve``."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        serve(sys.stdin.buffer, answers, soon)
    except KeyboardInterrupt:
        os._exit(130)  # the runs are saved, and somebody waits
    leave(0)
