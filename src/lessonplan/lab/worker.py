"""A process that does jobs: reads them from standard input, answers on standard output.

Started by ``lessonplan.lab.executor``. A job is a length of 8 bytes and a pickle that the starting
process made; the answer is one line of JSON. Everything printed goes to standard error.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import time
from typing import BinaryIO

from lessonplan.errors import LessonplanError

LENGTH_BYTES = 8


def serve(jobs: BinaryIO, answers: BinaryIO) -> None:
    """Do jobs until the input ends."""
    while header := jobs.read(LENGTH_BYTES):
        job = pickle.loads(jobs.read(int.from_bytes(header, "big")))
        answer: dict[str, str | None] = {"error": None}
        try:
            job.do()
        except LessonplanError as error:
            answer["error"] = str(error)
        except Exception as error:
            import traceback

            traceback.print_exc()
            answer["error"] = f"{type(error).__name__}: {error}"
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _leave_with_parent(parent: int) -> None:
    """End when the process that gives the jobs is gone, however it went."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def main() -> None:
    """Keep the real standard output for answers, whatever a run prints."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        serve(sys.stdin.buffer, answers)
    except KeyboardInterrupt:
        os._exit(130)  # the runs are saved, and somebody waits: no time to take PyTorch apart
