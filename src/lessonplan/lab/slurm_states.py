"""What became of SLURM's jobs where no accounting is kept; needs submitit."""

from __future__ import annotations

import re
import subprocess

import submitit
from submitit.slurm.slurm import SlurmInfoWatcher

_ASKING_SECONDS = 10.0
_SECONDS = 30  # between two looks at the queue, once jobs run long
_GONE = "GONE"
_ENDED = re.compile(
    "GONE|BOOT_FAIL|CANCELLED|COMPLETED|DEADLINE|FAILED|NODE_FAIL|OUT_OF_MEMORY|REVOKED|TIMEOUT",
)


def watch_the_queue_without_accounting() -> None:
    """Let submitit ask ``squeue`` where ``sacct`` does not answer.

    Small clusters often keep no accounting. A job that was cancelled, or whose node died, has left no result, and
    without its state one would wait for it for ever.
    """
    try:
        asked = ["sacct", "--noheader", "--allocations", "--format=JobID"]
        answer = subprocess.run(asked, capture_output=True, timeout=_ASKING_SECONDS, check=False)
        kept = answer.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        kept = False
    # one for all jobs of a process, as submitit has it
    submitit.SlurmJob.watcher = SlurmInfoWatcher(delay_s=_SECONDS) if kept else QueueWatcher(delay_s=_SECONDS)


class QueueWatcher(SlurmInfoWatcher):
    """States of this user's jobs as ``squeue`` tells them, which forgets jobs some minutes after their end.

    Of a preempted job it cannot be known whether it will be queued again: it is waited for until it is forgotten.
    """

    def _make_command(self) -> list[str] | None:
        if not self._registered - self._finished:
            return None
        return ["squeue", "--me", "--states=all", "--array", "--noheader", "--format=%i|%T|%N"]

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Whether a job has ended; the queue knows states that submitit does not (``CONFIGURING``)."""
        return _ENDED.fullmatch(self.get_state(job_id, mode=mode)) is not None

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """States by job; one that was in the queue before and is no longer has ended, nobody says how."""
        text = string if isinstance(string, str) else string.decode()
        rows = [line.strip().split("|") for line in text.splitlines() if re.match(r"\s*\d+(_\d+)?\|", line)]
        found = {name: {"JobID": name, "State": state, "NodeList": nodes} for name, state, nodes in rows}
        seen = self._registered & self._info_dict.keys()
        return found | {name: {"JobID": name, "State": _GONE, "NodeList": ""} for name in seen - found.keys()}
