"""The fault campaign: commands that are killed, refused memory, disk or their folder, and given once more.

Each case is a command of ours (train with every mix, selection and ordering; compare, order, evaluate, tune,
advise) and a fault at a random moment. It passes if the same command then finishes, what it leaves is equal bit
for bit to what an undisturbed one leaves (but for times), and nothing that was finished is done again. Commands
run in processes forked from this one, so that PyTorch is imported once.

    python benchmarks/faults.py OUT [--kills 500] [--others 140] [--ranks 10] [--seed 0]

OUT keeps a line a case in ``cases.jsonl``: the same call does again what did not pass, and goes on behind the last
one. Prints one table, and exits with 1 if a case did not pass. The same seed gives the same commands and the same
shares of their time; what a signal meets depends on the machine too.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml
from rich.console import Console
from rich.table import Table

from lessonplan.cli import main as lessonplan
from lessonplan.errors import LessonplanWarning
from lessonplan.files import write_atomically
from lessonplan.mix.text import MIXES
from lessonplan.order.lookahead.table import METHODS
from lessonplan.order.text import ORDERS
from lessonplan.select.text import PARTS, STAGES
from lessonplan.train.checkpoint import Checkpoints

BLOCK = 4096
PATIENCE = 600  # seconds that a command may take at most
REFUSED = 60  # seconds of a command that is refused memory
TOO_LONG = 98  # exit code of a command that was killed for that
RANKS_LEAVE = 30  # seconds in which ranks end when another one is gone
NEVER_THE_SAME = ("seconds", "environment", "system", "created", "pace")

RUN = "RUN"  # in an argument: a finished run
TORCHRUN = "torchrun"  # as the first argument: two ranks train together
DATA = ["--data", "digits", "--per-class", "10"]
TRAIN = ["train", *DATA, "--model", "fcnet-16", "--budget", "40 steps", "--batch-size", "10",
         "--evaluate-every", "1", "--checkpoint-every", "3 steps", "--threads", "1"]  # fmt: skip
OPTIONS = {"sum": ":k=2", "cascade": ":k=4,patience=1,shares=none", "gradual": ":k=4",
           "topk": ":0.5", "quantile": ":0.5", "random": ":0.5", "rho-loss": ":0.5,holdout=RUN"}  # fmt: skip
MORE = {
    "cosine, average": ["--mix", "mixup", "--ema", "0.9", "--keep", "best"],
    "bf16, exponential": ["--mix", "cutmix", "--precision", "bf16", "--schedule", "exponential"],
    "fp16, step": ["--mix", "sum:k=2", "--precision", "fp16", "--schedule", "step"],
    "stagnation": ["--mix", "mixup|cutmix", "--schedule", "stagnation:patience=10"],
    "head": ["--tune", "head", "--model", "tiny"],
    "everything": ["--select", "accuracy >> topk:0.5", "--order", "multi-attempt:k=3", "--mix", "mixup"],
}


def _commands() -> dict[str, list[str]]:
    """Every command by name, without ``--out``."""
    found = {"train plain": TRAIN}
    found |= {f"train mix {name}": [*TRAIN, "--mix", f"{name}{OPTIONS.get(name, '')}"] for name in MIXES}
    chosen = {name: f"{name}{OPTIONS.get(name, '')}" for name in PARTS}
    chosen |= {stage: f"accuracy >> topk:0.5 >> {stage}" for stage in STAGES}
    found |= {f"train select {name}": [*TRAIN, "--select", text] for name, text in chosen.items()}
    orders = {name: name for name in ORDERS if name != "by-score"}  # whose score is a function
    orders["teacher"] = "teacher:RUN"
    orders |= {
        f"loss-delta {method}": f"loss-delta:candidates=3,on=external,method={method}" for method in METHODS
    }
    found |= {f"train order {name}": [*TRAIN, "--order", text] for name, text in orders.items()}
    found |= {f"train {name}": [*TRAIN, *options] for name, options in MORE.items()}
    compared = ["--methods", "erm,mixup,filter=select:accuracy", "--seeds", "2", "--model", "fcnet-16"]
    compared += ["--budget", "20 steps", "--checkpoint-every", "3 steps", "--batch-size", "10"]
    found |= {f"compare {jobs}": ["compare", *DATA, *compared, "--jobs", jobs] for jobs in "12"}
    searched = ["--classes", "0,1", "--per-class", "6", "--batch", "4", "--epochs", "3", "--survivors", "3"]
    searched += ["--model", "fcnet-8", "--evaluate", "64"]
    found |= {f"order {jobs}": ["order", "--data", "digits", *searched, "--jobs", jobs] for jobs in "12"}
    trials = ["--model", "fcnet-16", "--batch-size", "10", "--checkpoint-every", "3 steps"]
    trials += ["--threads", "1", "--jobs", "1"]
    searched = ["--search", "lr=1e-3..1e-1 log, mix.k=2|3", "--mix", "sum", "--trials", "3", "--sampler", "random"]
    found["tune"] = ["tune", *DATA, *trials, *searched, "--budget", "20 steps"]
    labelled = ["--data", "digits", "--per-class", "20", "--each", "20 steps", "--budget", "8k cost"]
    found["advise"] = ["advise", *labelled, *trials, "--plans", "mixup,filter=select:accuracy"]
    found["ranks"] = [TORCHRUN, *TRAIN, "--mix", "cutmix", "--select", "accuracy"]
    found["evaluate"] = ["evaluate", RUN, "--attacks", "fgsm,pgd", "--limit", "32"]
    return found


# -- a command in a process of its own --------------------------------------------------------------


def start(arguments: list[str], said: Path, prepare: Callable[[], None] | None = None) -> int:
    """Fork a process that does a command, or torchrun with two that do; what they print goes into a file."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        code = 99
        try:
            if prepare is not None:
                prepare()
            if arguments[0] == TORCHRUN:
                together = [
                    "-m",
                    "torch.distributed.run",
                    "--standalone",
                    "--nproc-per-node",
                    "2",
                    "-m",
                    "lessonplan",
                ]
                os.execv(sys.executable, [sys.executable, *together, *arguments[1:]])
            lessonplan(arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return child


def end(child: int, patience: float = PATIENCE) -> int:
    """Wait for a process; its exit code, negative for a signal. One that takes for ever is killed."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return TOO_LONG


# -- what a command leaves --------------------------------------------------------------------------


def outcome(out: Path) -> dict[str, Any]:
    """All that matters of a folder: weights as bytes, results and metrics without what no two runs share."""
    found: dict[str, Any] = {}
    for file in sorted(out.rglob("*")):
        name = file.relative_to(out).as_posix()
        if file.name in ("weights.safetensors", "runs.csv", "predictions.csv", "results.csv"):
            found[name] = file.read_bytes() if file.name != "results.csv" else _without_times(file)
        elif file.name in ("result.json", "evaluation.json", "results.json", "ordering.json",
                           "tune.json", "advice.json"):  # fmt: skip
            found[name] = _stripped(json.loads(file.read_text()))
        elif file.name == "metrics.jsonl":
            found[name] = [_stripped(json.loads(line)) for line in file.read_text().splitlines()]
        elif file.name == "config.yaml":
            found[name] = yaml.safe_load(file.read_text())
    return found


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _stripped(v) for k, v in value.items() if k not in NEVER_THE_SAME}
    return [_stripped(item) for item in value] if isinstance(value, list) else value


def _without_times(file: Path) -> list[list[str]]:
    rows = [line.split(",") for line in file.read_text().splitlines()]
    at = rows[0].index("seconds")
    return [row[:at] + row[at + 1 :] for row in rows]


def finished(out: Path) -> dict[str, int]:
    """What is finished, and when it was."""
    return {str(file.relative_to(out)): file.stat().st_mtime_ns for file in out.rglob("result.json")}


def leftovers(out: Path) -> list[str]:
    """Temporary files, which a run that ended well has removed."""
    return [file.name for file in out.rglob(".*.tmp")]


# -- faults -----------------------------------------------------------------------------------------


class Case:
    """A command, its undisturbed outcome, and a folder to be disturbed."""

    def __init__(self, name: str, arguments: list[str], work: Path, moments: random.Random) -> None:
        self.name, self.work, self.moments = name, work, moments
        self.arguments, self.said = arguments, work / "said.txt"
        self.whole, self.out = work / "whole", work / "out"
        self.signals: Counter[str] = Counter()
        self.checked = 0  # damaged checkpoints beside the one that the command meets
        self.problems: list[str] = []
        self.seconds = 0.0

    def begin(self) -> None:
        """The undisturbed run, and how long it takes."""
        if any(RUN in word for word in self.arguments):
            run = self.work / "run"
            self.give([*TRAIN, "--out", str(run)], expected=0)
            self.arguments = [word.replace(RUN, str(run)) for word in self.arguments]
        started = time.monotonic()
        self.give([*self.arguments, "--out", str(self.whole)], expected=0)
        self.seconds = time.monotonic() - started

    def give(self, arguments: list[str], expected: int) -> None:
        """A command that nothing disturbs."""
        code = end(start(arguments, self.said))
        if code != expected:
            self.problem(f"exit code {code} instead of {expected}")

    def run(self, prepare: Callable[[], None] | None = None) -> int:
        """Start the command in the folder that is disturbed."""
        return start([*self.arguments, "--out", str(self.out)], self.said, prepare)

    def problem(self, what: str) -> None:
        self.problems.append(f"{what}: {self.said.read_text()[-300:] if self.said.exists() else ''}")

    def one_line(self, code: int, allowed: tuple[int, ...]) -> None:
        """What a fault may leave of a command: one of some exit codes, and no traceback."""
        if code not in allowed:
            self.problem(f"exit code {code}")
        if "Traceback" in self.said.read_text():
            self.problem("a traceback")

    def settle(self) -> None:
        """The fault is gone: the same command ends as the undisturbed one did, and does nothing twice."""
        before = finished(self.out)
        for attempt in range(3):  # workers of a killed command may hold a folder for a moment
            code = end(self.run())
            if code == 0 or "another process is at work" not in self.said.read_text():
                break
            time.sleep(1 + attempt)
        if code != 0:
            self.problem(f"the same command ended with {code}")
            return
        again = [name for name, when in before.items() if finished(self.out).get(name) != when]
        ours, theirs = outcome(self.out), outcome(self.whole)
        if ours != theirs:
            self.problem(f"another outcome in {[n for n in {*ours, *theirs} if ours.get(n) != theirs.get(n)]}")
        if again:
            self.problem(f"finished before and done again: {again}")
        if leftovers(self.out):
            self.problem(f"left over: {leftovers(self.out)}")


def killed(case: Case) -> None:
    """SIGKILL, SIGTERM or Ctrl-C at up to three moments."""
    for _ in range(case.moments.randint(1, 3)):
        number = case.moments.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        child = case.run()
        time.sleep(case.moments.uniform(0, case.seconds))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)
        code = end(child)
        if code == 0:
            continue
        case.signals[signal.Signals(number).name] += 1
        if number != signal.SIGKILL:
            # Before Python has its handlers, and after, the signal ends it as it ends any program.
            case.one_line(code, (130, -number))


def rank_killed(case: Case) -> None:
    """One of two ranks, or torchrun itself, is killed: the others end by themselves, soon."""
    child = case.run()
    time.sleep(case.moments.uniform(0, case.seconds))
    launcher = psutil.Process(child)
    ranks = launcher.children()
    meant = case.moments.randrange(3)
    with contextlib.suppress(psutil.NoSuchProcess):
        (ranks[meant] if meant < len(ranks) else launcher).kill()
        case.signals["SIGKILL"] += 1
    end(child)
    _, left = psutil.wait_procs(ranks, timeout=RANKS_LEAVE)
    if left:
        case.problem(f"{len(left)} ranks are there {RANKS_LEAVE} s later")
        for rank in left:
            rank.kill()


def disk_full(case: Case) -> None:
    """No file may grow beyond some KiB, as on a disk that is full."""
    limit = case.moments.randint(1, 40) * 1024

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    case.one_line(end(case.run(prepare)), (0, 1, 2))


def read_only(case: Case) -> None:
    """The folder, half filled, does not take anything."""
    _interrupted(case)
    case.out.mkdir(exist_ok=True)
    for path in (case.work, *case.work.parents[:1]):
        path.chmod(0o755)
    places = [case.out, *(p for p in case.out.rglob("*") if p.is_dir())]
    for place in places:
        place.chmod(0o555)
    for file in case.out.rglob("*"):
        if file.is_file():
            file.chmod(0o444)

    def prepare() -> None:
        if os.geteuid() == 0:  # whom no mode keeps out
            os.seteuid(65534)

    try:
        case.one_line(end(case.run(prepare)), (0, 1, 2))
    finally:
        for place in places:
            place.chmod(0o755)
        for file in case.out.rglob("*"):
            if file.is_file():
                file.chmod(0o644)


def memory(case: Case) -> None:
    """Hardly any memory beyond what the process has already."""
    more = case.moments.randint(1, 24) * 2**20

    def prepare() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    # A library that is refused memory may end the process by itself, or ask for it for ever (OpenBLAS does).
    code = end(case.run(prepare), patience=REFUSED)
    if code not in (0, 1, 2, -signal.SIGABRT, -signal.SIGSEGV, 127, TOO_LONG):
        case.problem(f"exit code {code}")


def clock(case: Case) -> None:
    """The clock of the wall jumps by years in both directions, and the command is killed on the way."""

    def prepare() -> None:
        jumps, real = random.Random(0), time.time
        time.time = lambda: real() + jumps.choice([-1, 0, 1]) * 3e8  # type: ignore[assignment]

    child = case.run(prepare)
    time.sleep(case.moments.uniform(0, case.seconds))
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    end(child)


def two_at_once(case: Case) -> None:
    """Two commands in one folder: one works, the other is refused, or finds all done."""
    other = case.work / "other.txt"
    first = case.run()
    time.sleep(case.moments.uniform(0, case.seconds / 2))
    second = start([*case.arguments, "--out", str(case.out)], other)
    codes = [end(first), end(second)]
    if not (0 in codes and set(codes) <= {0, 1, 2}):
        case.problem(f"exit codes {codes}")
    refused = [text for text, code in zip((case.said, other), codes, strict=True) if code]
    if any("another process is at work" not in text.read_text() for text in refused):
        case.problem("refused for another reason")


def checkpoint(case: Case) -> None:
    """A checkpoint that ends, or has a bit flipped, at a boundary of 4 KiB.

    At each boundary the damage must be seen and the checkpoint before be read instead; with one of them the
    command goes on.
    """
    _interrupted(case)
    newest = [found for folder in case.out.rglob("checkpoints") if (found := Checkpoints(folder).newest())]
    if not newest:
        return
    file = case.moments.choice(newest)
    content = file.read_bytes()
    damages = [kind(content, at) for at in range(0, len(content), BLOCK) for kind in (_cut, _flipped)]
    copied = case.work / "checkpoints"
    for damage in damages:
        shutil.rmtree(copied, ignore_errors=True)
        shutil.copytree(file.parent, copied)
        (copied / file.name).write_bytes(damage)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LessonplanWarning)
            found = Checkpoints(copied).load_newest()
        left = [path.name for path in copied.glob("step-*.ckpt")]
        if file.name in left or (found is None) != (not left):
            case.problem(f"damage at one of {len(damages)} places was not seen")
    case.checked += len(damages)
    file.write_bytes(case.moments.choice(damages))


def _cut(content: bytes, at: int) -> bytes:
    return content[:at]


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def _interrupted(case: Case) -> None:
    """Kill the command somewhere in its second half."""
    child = case.run()
    time.sleep(case.moments.uniform(case.seconds / 2, case.seconds))
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    end(child)


OTHERS = (checkpoint, disk_full, two_at_once, checkpoint, read_only, memory, clock)


# -- the campaign -----------------------------------------------------------------------------------


def do(number: int, fault: Callable[[Case], None], seed: int, commands: dict[str, list[str]]) -> dict[str, Any]:
    """One case, in a folder of its own that goes when it has passed."""
    moments = random.Random(f"{seed} {fault.__name__} {number}")
    names = [name for name in commands if (name == "ranks") == (fault is rank_killed)]
    if fault is checkpoint:
        names = [name for name in names if name.startswith(("train", "compare"))]
    name = names[number % len(names)]
    work = Path(tempfile.mkdtemp(prefix="faults-"))
    case = Case(name, commands[name], work, moments)
    case.begin()
    if not case.problems:
        fault(case)
        case.settle()
    if not case.problems:
        shutil.rmtree(work)
    return {
        "case": number, "fault": fault.__name__, "command": name, "signals": dict(case.signals),
        "checked": case.checked,
        "problems": case.problems, "kept": str(work) if case.problems else None,
    }  # fmt: skip


def campaign(out: Path, kills: int, others: int, ranks: int, seed: int) -> list[dict[str, Any]]:
    """Do what is left of a campaign; a line a case."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "cases.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    if any(case["seed"] != seed for case in done):
        raise SystemExit(f"{file} is of another seed: give another folder")
    commands = _commands()

    def add(fault: Callable[[Case], None], number: int) -> None:
        case = {"seed": seed, **do(number, fault, seed, commands)}
        same = [i for i, old in enumerate(done) if (old["fault"], old["case"]) == (fault.__name__, number)]
        done[same[0] if same else len(done) :] = [case, *done[same[0] + 1 if same else len(done) :]]
        write_atomically(file, "".join(json.dumps(one) + "\n" for one in done).encode())
        said = "passed" if not case["problems"] else f"FAILED {case['problems']}"
        print(f"{case['fault']} {number}: {case['command']} {case['signals'] or ''} {said}", file=sys.stderr)

    for case in [case for case in done if case["problems"]]:
        add({fault.__name__: fault for fault in (killed, rank_killed, *OTHERS)}[case["fault"]], case["case"])
    for number in range(sum(case["fault"] == "rank_killed" for case in done), ranks):
        add(rank_killed, number)
    for number in range(sum(case["fault"] not in ("killed", "rank_killed") for case in done), others):
        add(OTHERS[number % len(OTHERS)], number)
    while sum(sum(case["signals"].values()) for case in done if case["fault"] == "killed") < kills:
        add(killed, sum(case["fault"] == "killed" for case in done))
    return done


def table(done: list[dict[str, Any]], seed: int) -> Table:
    """A row a kind of command and fault."""
    title = f"Faults, then the same command again (seed {seed}, PyTorch {torch.__version__})"
    shown = Table("command", "fault", "cases", "SIGKILL", "SIGTERM", "Ctrl-C", "passed", title=title)
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for case in done:
        kind = " ".join(case["command"].split()[: 2 if case["command"].startswith("train") else 1])
        groups.setdefault((kind, case["fault"].replace("_", " ")), []).append(case)
    rows = [(*key, cases) for key, cases in sorted(groups.items())]
    for kind, fault, cases in [*rows, ("all", "", done)]:
        if kind == "all":
            shown.add_section()
        signals = sum((Counter(case["signals"]) for case in cases), Counter())
        passed = sum(not case["problems"] for case in cases)
        counts = (len(cases), signals["SIGKILL"], signals["SIGTERM"], signals["SIGINT"], passed)
        shown.add_row(kind, fault, *(str(count) for count in counts))
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=500, help="signals that end a command")
    parser.add_argument("--others", type=int, default=140, help="cases of all other faults")
    parser.add_argument(
        "--ranks", type=int, default=10, help="cases in which one of two ranks or torchrun is killed"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    # What commands import, here and not in each process again; the second by the first update of an optimizer.
    for module in ("torch._dynamo", "lessonplan.lab.comparison", "lessonplan.lab.evaluation.running",
                   "lessonplan.lab.ordering.search", "lessonplan.lab.tuning.tuning",
                   "lessonplan.lab.advice.advising", "lessonplan.report", "lessonplan.train", "sklearn.datasets",
                   "lessonplan.commands.train", "matplotlib.backends.backend_agg"):  # fmt: skip
        importlib.import_module(module)
    torch.set_num_threads(1)
    done = campaign(given.out, given.kills, given.others, given.ranks, given.seed)
    Console(width=110).print(table(done, given.seed))
    checked = sum(case["checked"] for case in done)
    print(f"checkpoints damaged at every boundary of {BLOCK} bytes, each seen or counted above: {checked}")
    return 1 if any(case["problems"] for case in done) else 0


if __name__ == "__main__":
    sys.exit(main())
