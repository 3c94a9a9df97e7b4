"""SLURM's commands, played on this machine: jobs are the scripts that sbatch is given."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from lessonplan.errors import DataError

SBATCH = r"""
import os, re, subprocess, sys
from pathlib import Path

here = Path(__file__).parent
text = Path(sys.argv[1]).read_text()
if "--partition=nowhere" in text:
    sys.exit("sbatch: error: invalid partition specified: nowhere")
number = len(list(here.glob("script-*"))) + 100
(here / f"script-{number}").write_text(text)
array = re.search(r"--array=0-(\d+)%", text)
tasks = [None] if array is None else range(int(array[1]) + 1)
keeper = here / "keeper.py"
for task in tasks:
    subprocess.Popen(
        [sys.executable, str(keeper), sys.argv[1], str(number), "" if task is None else str(task)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )
print(f"Submitted batch job {number}")
"""

KEEPER = r"""
import os, subprocess, sys
from pathlib import Path

here, (script, number, task) = Path(__file__).parent, sys.argv[1:]
name = number + (f"_{task}" if task else "")
script = here / f"script-{number}"
for again in range(9):
    environment = {**os.environ, "SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
    environment |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NUM_NODES": "1"}
    environment |= {"SLURM_RESTART_COUNT": str(again)}
    environment |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": task} if task else {}
    with (here / f"log-{name}").open("ab") as log:
        code = subprocess.run(
            ["bash", str(script)], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    if not (here / f"requeue-{name}").exists():
        (here / f"state-{name}").write_text("FAILED" if code.returncode else "COMPLETED")
        break
    (here / f"requeue-{name}").rename(here / f"requeued-{name}-{again}")
"""

SRUN = r"""
import os, sys
from pathlib import Path

arguments = sys.argv[1:]
while arguments[0].startswith("--"):
    takes_value = arguments.pop(0) in ("--output", "--error")
    if takes_value:
        arguments.pop(0)
number, task = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_ARRAY_TASK_ID")
name = number + (f"_{task}" if task else "")
(Path(__file__).parent / f"pid-{name}").write_text(str(os.getpid()))
os.execvp(arguments[0], arguments)
"""

SCONTROL = r"""
import sys
from pathlib import Path

assert sys.argv[1] == "requeue", sys.argv
(Path(__file__).parent / f"requeue-{sys.argv[2]}").touch()
"""

SACCT = r"""
from pathlib import Path

print("JobID|State|NodeList")
for file in Path(__file__).parent.glob("state-*"):
    print(f"{file.name.removeprefix('state-')}|{file.read_text()}|here")
"""

NO_ACCOUNTS = r"""
import sys

sys.exit("Slurm accounting storage is disabled")
"""

SQUEUE = r"""
from pathlib import Path

here = Path(__file__).parent
for file in here.glob("pid-*"):
    state = here / file.name.replace("pid", "state")
    print(f"{file.name.removeprefix('pid-')}|{state.read_text() if state.exists() else 'RUNNING'}|here")
"""


def install(folder: Path) -> None:
    """Put the commands into a folder for the path."""
    folder.mkdir()
    (folder / "keeper.py").write_text(KEEPER)
    for name, code in {
        "sbatch": SBATCH,
        "srun": SRUN,
        "scontrol": SCONTROL,
        "sacct": SACCT,
        "squeue": SQUEUE,
        "scancel": "",
    }.items():
        command = folder / name
        command.write_text(f"#!{sys.executable}\n{code}")
        command.chmod(0o755)


@dataclass
class Note:
    """A task that says that it was done, or why not.

    Args:
        folder: where it says so.
        label: what it does: ``fails``, ``breaks``, ``waits`` to be told to leave, or anything else.
    """

    folder: Path
    label: str = "works"

    def do(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "began").open("a") as file:
            file.write("x")
        if self.label == "fails":
            raise DataError("the data are broken: mend them")
        if self.label == "breaks":
            raise RuntimeError("out of luck")
        if self.label == "waits" and not (self.folder / "saved").exists():
            try:
                time.sleep(120)
            except KeyboardInterrupt:
                (self.folder / "saved").touch()
                raise
        (self.folder / "done").touch()
