"""Comparisons on a real SLURM of one node, this machine: runs that reach their limit, one that is cancelled.

``python benchmarks/slurm_cluster.py OUT``, as root, where Debian's packages slurmctld, slurmd and munge are
installed; OUT is a folder that does not exist yet. The controller and the node keep no accounts (``sacct`` answers
with an error, as on many small clusters). Printed: what happened when, and whether anything came out otherwise
than without a cluster.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

BEGAN = time.monotonic()
CONFIGURATION = """\
ClusterName=loop
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16827
SlurmdPort=16828
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPidFile={out}/slurmctld.pid
SlurmdPidFile={out}/slurmd.pid
StateSaveLocation={out}/state
SlurmdSpoolDir={out}/spool
SlurmctldLogFile={out}/slurmctld.log
SlurmdLogFile={out}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=short Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def say(text: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.0f} s  {text}", flush=True)


def told(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def start(out: Path) -> None:
    """Munge, the controller and the node; the node is idle afterwards."""
    for folder in ("state", "spool"):
        (out / folder).mkdir(parents=True)
    host = socket.gethostname().partition(".")[0]
    (out / "slurm.conf").write_text(CONFIGURATION.format(host=host, out=out))
    os.environ["SLURM_CONF"] = str(out / "slurm.conf")
    if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode:
        told("install", "-d", "-o", "munge", "/run/munge")
        told("su", "-s", "/bin/sh", "munge", "-c", "/usr/sbin/munged")
    told("slurmctld", "-i")
    told("slurmd")
    while "idle" not in told("sinfo", "--noheader", "--format=%t"):
        time.sleep(0.5)
    say(f"{told('slurmctld', '-V')}: one node of 2 cores, no accounts")


def stop(out: Path) -> None:
    for name in ("slurmd", "slurmctld"):
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((out / f"{name}.pid").read_text()), signal.SIGTERM)


def compare(out: Path, methods: str, budget: str, *more: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "lessonplan",
        "compare",
        "--data",
        "digits",
        "--per-class",
        "10",
        "--seeds",
        "2",
    ]
    command += ["--methods", methods, "--budget", budget, "--threads", "1", "--out", str(out), *more]
    with out.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def watched(comparison: subprocess.Popen[bytes], cancel: bool) -> None:
    """Say what is new in the queue; perhaps cancel the first job that has run for 10 seconds."""
    seen: dict[str, str] = {}
    while comparison.poll() is None:
        for line in told("squeue", "--array", "--states=all", "--noheader", "--format=%i %T %M %r").splitlines():
            name, state, runs, reason = line.split(maxsplit=3)
            if seen.get(name) != state:
                seen[name] = state
                why = f" ({reason})" if state == "PENDING" else ""
                say(f"job {name}: {state.lower()}{why}, {runs}")
            if cancel and state == "RUNNING" and int(re.sub(r"\D", "", runs)) >= 10:
                told("scancel", name)
                say(f"job {name} cancelled by hand")
                cancel = False
        time.sleep(0.5)
    say(f"comparison over, exit status {comparison.returncode}")


def scores(out: Path) -> dict[str, tuple[float | None, str | None]]:
    results = json.loads((out / "results.json").read_bytes())
    rows = [run for method in results["methods"] for run in method["runs"]]
    return {row["folder"]: (row["test_accuracy"], row["error"]) for row in rows}


def main() -> None:
    out = Path(sys.argv[1]).resolve()
    out.mkdir(parents=True)
    start(out)
    try:
        say("runs of which each takes longer than its limit of a minute")
        there = out / "limit"
        watched(
            compare(there, "erm", "100k samples", "--run-on", "slurm:hours=0.017,partition=short"), cancel=False
        )
        say("a job that is cancelled, and the same command again")
        for cancel in (True, False):
            mine = compare(
                out / "cancelled", "erm,mixup", "20k samples", "--run-on", "slurm:hours=0.2", "--jobs", "2"
            )
            watched(mine, cancel)
            for name, (_, error) in scores(out / "cancelled").items():
                if error is not None:
                    say(f"{name}: {error.replace(str(out), 'OUT')}")
    finally:
        stop(out)
    for name, methods, budget in (("limit", "erm", "100k samples"), ("cancelled", "erm,mixup", "20k samples")):
        assert compare(out / f"{name}-here", methods, budget, "--jobs", "2").wait() == 0
        say(f"{name}: scores as without a cluster: {scores(out / name) == scores(out / f'{name}-here')}")


if __name__ == "__main__":
    main()
