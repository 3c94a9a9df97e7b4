"""Do the tests notice small faults? Faults drawn at random from the parts, and from what brings a run back.

    OMP_NUM_THREADS=1 python benchmarks/mutation.py [--mutants 620] [--seed 0] [--seconds 5] [--again]
        [--only PACKAGE ...] [--control N]

Needs mutmut, whose operators make the faults (``mutants.py`` says which), and coverage (``make mutation``
installs both). The tests are collected once, in a copy of the repository. For each fault a forked child takes
over the changed functions, or imports everything anew where more than functions changed, and runs the tests that
run the changed line (found by their coverage), the shorter ones first, until one fails. Left out are tests that
take more than a second of a processor, and what is beyond ``--seconds`` of tests: a fault counted as surviving
may still be seen by the rest. A child that takes several times as long as its tests do has seen the fault too
("timed out"). ``--control`` runs the same tests without a fault.

``results/benchmarks/mutation.csv`` has a row for each fault. A second call goes on where the first stopped;
``--again`` tries those that survived once more, with new tests; one that changes nothing has the reason in the
column ``why``. The same seed draws the same faults, but where the code was changed. Coverage is kept in
``build/mutation``: remove it after the library's code has changed. Prints a table, with 95% intervals after
Wilson.
"""

from __future__ import annotations

import argparse
import csv
import gc
import hashlib
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import coverage
import pytest
from rich.console import Console

from mutants import Mutant, drawn
from mutation_table import SURVIVED, table

ROOT = Path(__file__).parents[1]
SCRATCH = ROOT / "build" / "mutation"
TREE = SCRATCH / "tree"
RESULTS = ROOT / "results" / "benchmarks" / "mutation.csv"
PACKAGES = {  # name: where it is, its part of the sample, its tests
    "mix": ("src/lessonplan/mix", 0.35, ("tests/mix", "tests/test_same_weights.py", "src/lessonplan/mix")),
    "select": (
        "src/lessonplan/select",
        0.25,
        ("tests/select", "tests/train/test_training_with_selection.py", "src/lessonplan/select"),
    ),
    "order": (
        "src/lessonplan/order",
        0.25,
        ("tests/order", "tests/train/test_training_with_look_ahead.py", "src/lessonplan/order"),
    ),
    "snapshot": ("src/lessonplan/network/snapshot.py", 0.08, ("tests/test_snapshot.py", "src/lessonplan/network")),
    "checkpoint": (
        "src/lessonplan/train/checkpoint.py",
        0.07,
        (
            "tests/train/test_checkpoints.py",
            "tests/train/test_resume_everything.py",
            "tests/faults/test_damaged_runs.py",
        ),
    ),
}
SLOWEST_TEST = 1.0
CASES_AT_FIRST = 2
PYTEST = ("-o", "addopts=", "--doctest-modules", "--import-mode=importlib", f"--basetemp={SCRATCH / 'tmp'}", "-s",
          "-p", "no:cacheprovider", "-p", "no:terminal", "-p", "no:xdist",
          "-m", "not browser and not slow and not accelerator")  # fmt: skip
COLUMNS = ("mutant", "package", "file", "line", "scope", "was", "becomes", "first", "last", "by", "why")
Plan = list[str]


# -- children ----------------------------------------------------------------------------------------


def copy_repository() -> None:
    """The copy that faults are written into, in the place of the installed package."""
    shutil.rmtree(TREE, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith("results/"):
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)
    os.chdir(TREE)
    sys.path.insert(0, str(TREE / "src"))
    os.environ["PYTHONPATH"] = str(TREE / "src")


def in_child(work: Callable[[], Any], seconds: float) -> Any:
    """What ``work`` gives, as JSON; "timed out" where it needs more of a processor than ``seconds``, or dies."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 1))
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    end = time.monotonic() + 120 + 30 * seconds  # for one that waits, on a machine that others use too
    while time.monotonic() < end and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)  # with what it may have started
    os.waitpid(pid, 0)
    with os.fdopen(reading) as answer:
        said = answer.read()
    return json.loads(said) if said else "timed out"


class Tests:
    """A plugin that has collected tests run as one wishes, and keeps what became of them.

    Args:
        names: of a session of its own: which to run, in this order, until one fails.
        instead: what to do instead of running all tests; is given this.
    """

    def __init__(self, names: Plan | None = None, instead: Callable[[Tests], None] | None = None) -> None:
        self.names, self.instead = names, instead
        self.items: dict[str, pytest.Item] = {}
        self.failed: list[str] = []
        self.collected_wrongly = False

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.collected_wrongly |= report.failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        if self.instead is not None:
            self.instead(self)
        elif not self.collected_wrongly:
            self.run([name for name in self.names or () if name in self.items])
        return True

    def run(self, names: Plan, around: Callable[[str], Any] | None = None) -> str:
        """The first test that fails, or an empty string; with ``around`` all are run, each within it."""
        items = [self.items[name] for name in names]
        for item, following in zip(items, [*items[1:], None], strict=True):
            if around is None:
                item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
                if self.failed:
                    return self.failed[0]
            else:
                with around(item.nodeid):
                    item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        return ""


def run_anew(names: Plan) -> str:
    """As ``Tests.run``, with the library and the tests imported again."""
    for name, module in list(sys.modules.items()):
        if str(TREE) in (getattr(module, "__file__", None) or ""):
            del sys.modules[name]
    files = list(dict.fromkeys(name.partition("::")[0] for name in names))
    for file in files:
        tests = Tests([name for name in names if name.startswith(f"{file}::")])
        code = pytest.main([file, *PYTEST], plugins=[tests])
        if tests.failed:
            return tests.failed[0]
        if tests.collected_wrongly or code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return file
    return ""


def library_functions() -> dict[str, list[FunctionType]]:
    """All functions that were imported from each file of the copy."""
    found = defaultdict(list)
    for thing in gc.get_objects():
        if type(thing) is FunctionType and thing.__code__.co_filename.startswith(str(TREE)):
            found[thing.__code__.co_filename].append(thing)
    return found


def take_over(functions: list[FunctionType], path: Path, text: str) -> bool:
    """Give the functions of a file the code of ``text``, or say that it differs in more than functions' code."""
    old, new = (compile(source, str(path), "exec") for source in (path.read_text(), text))
    if _without_functions(old) != _without_functions(new):
        return False
    codes = _function_codes(new)
    try:
        for function in functions:
            [code] = codes[_key(function.__code__)]
            function.__code__ = code
    except ValueError:  # none, or more than one of that name and line; or its variables differ
        return False
    return True


def _inner(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _is_function(code: CodeType) -> bool:
    return bool(code.co_flags & 1)  # "optimized", which the bodies of modules and classes are not


def _without_functions(code: CodeType) -> tuple[Any, ...]:
    constants = tuple(repr(constant) for constant in code.co_consts if not isinstance(constant, CodeType))
    inner = tuple(_without_functions(part) for part in _inner(code) if not _is_function(part))
    return code.co_code, code.co_names, constants, inner


def _key(code: CodeType) -> tuple[str, int]:
    return getattr(code, "co_qualname", code.co_name), code.co_firstlineno


def _function_codes(code: CodeType) -> dict[tuple[str, int], list[CodeType]]:
    found = defaultdict(list)
    for part in _inner(code):
        if _is_function(part):
            found[_key(part)].append(part)
        for key, codes in _function_codes(part).items():
            found[key] += codes
    return found


# -- which tests run which line ----------------------------------------------------------------------


def measure(tests: Tests, names: Plan) -> dict[str, Any]:
    """{name: {"seconds": of a processor, "lines": {path: lines}}}, without those that fail or take long."""
    measured = coverage.Coverage(data_file=None, config_file=False, include=[f"{TREE}/src/lessonplan/*"])
    seconds: dict[str, float] = {}

    def too_long(*_: object) -> None:
        pytest.fail(f"takes more than {SLOWEST_TEST} s of a processor")

    @contextmanager
    def around(name: str) -> Iterator[None]:
        measured.switch_context(name)
        began = sum(os.times()[:4])
        signal.setitimer(signal.ITIMER_PROF, SLOWEST_TEST)
        yield
        signal.setitimer(signal.ITIMER_PROF, 0)
        seconds[name] = sum(os.times()[:4]) - began

    signal.signal(signal.SIGPROF, too_long)
    measured.start()
    tests.run(names, around)
    measured.stop()
    found: dict[str, Any] = {
        name: {"seconds": round(taken, 3), "lines": defaultdict(list)}
        for name, taken in seconds.items()
        if name not in tests.failed and taken <= SLOWEST_TEST
    }
    data = measured.get_data()
    for path in data.measured_files():
        for line, contexts in data.contexts_by_lineno(path).items():
            for name in contexts:
                if name in found:
                    found[name]["lines"][str(Path(path).relative_to(TREE))].append(line)
    return found


class Coverage:
    """Which tests run which lines, and how long they take."""

    def __init__(self, tests: Tests) -> None:
        self.seconds: dict[str, float] = {}
        self.by_line: dict[tuple[str, int], set[str]] = defaultdict(set)
        folder = SCRATCH / "coverage"
        folder.mkdir(parents=True, exist_ok=True)
        files = defaultdict(list)
        for name in tests.items:
            files[name.partition("::")[0]].append(name)
        for file, names in files.items():
            digest = hashlib.sha256((TREE / file).read_bytes()).hexdigest()[:10]
            kept = folder / f"{file.replace('/', '.')}-{digest}.json"
            if not kept.exists():
                print(f"coverage of {file}", flush=True)

                def keep(kept: Path = kept, names: Plan = names) -> str:
                    kept.write_text(json.dumps(measure(tests, names)))
                    return ""

                if in_child(keep, 10 + SLOWEST_TEST * len(names)) or not kept.exists():
                    print(f"{file} could not be measured and is left out", flush=True)
                    continue
            for name, test in json.loads(kept.read_text()).items():
                self.seconds[name] = test["seconds"]
                for path, lines in test["lines"].items():
                    for line in lines:
                        self.by_line[path, line].add(name)

    def plan(self, mutant: Mutant, most_seconds: float) -> Plan:
        """Tests that run the innermost place that any runs: a few cases of each first, of these the short ones."""
        tests: set[str] = set()
        for first, last in mutant.places:
            tests = set().union(*(self.by_line.get((mutant.path, line), ()) for line in range(first, last + 1)))
            if tests:
                break
        cases: dict[str, int] = defaultdict(int)
        ordered = []
        for name in sorted(tests, key=lambda name: (self.seconds[name], name)):
            function = name.partition("[")[0]
            cases[function] += 1
            ordered.append((cases[function] > CASES_AT_FIRST, self.seconds[name], name))
        plan, left = [], most_seconds
        for _, seconds, name in sorted(ordered):
            left -= seconds
            if left >= 0 or not plan:
                plan.append(name)
        return plan


# -- faults ------------------------------------------------------------------------------------------


class Trial:
    """Tries faults out, in a session of pytest that has collected the tests."""

    def __init__(self, tests: Tests, most_seconds: float) -> None:
        self.tests, self.most_seconds = tests, most_seconds
        self.coverage = Coverage(tests)
        self.functions = library_functions()
        gc.collect()
        gc.freeze()
        sys.dont_write_bytecode = True

    def __call__(self, mutant: Mutant, text: str) -> tuple[str, str]:
        """What becomes of a fault, and the test that saw it."""
        names = self.coverage.plan(mutant, self.most_seconds)
        if not names:
            return "no test", ""
        path = TREE / mutant.path

        def first_to_fail() -> str:
            taken = take_over(self.functions.get(str(path), []), path, text)
            path.write_text(text)  # for processes that a test starts
            return self.tests.run(names) if taken else run_anew(names)

        content = path.read_bytes()
        by = in_child(first_to_fail, 10 + 5 * sum(self.coverage.seconds[name] for name in names))
        path.write_bytes(content)
        if by == "timed out":
            return by, ""
        return ("killed", by) if by else ("survived", "")


def files_of(package: str) -> list[str]:
    where = PACKAGES[package][0]
    found = (ROOT / where).rglob("*.py") if (ROOT / where).is_dir() else ROOT.glob(where)
    return sorted(str(path.relative_to(ROOT)) for path in found)


def draw(count: int, seed: int, only: list[str]) -> tuple[dict[str, int], list[Mutant]]:
    """As ``mutants.drawn``, so many of all packages."""
    packages = {name: (files_of(name), round(count * PACKAGES[name][1])) for name in only}
    return drawn(ROOT, packages, seed, SCRATCH / "faults")


# -- results -----------------------------------------------------------------------------------------


def read() -> dict[str, dict[str, str]]:
    if not RESULTS.exists():
        return {}
    with RESULTS.open(newline="") as file:
        return {row["mutant"]: row for row in csv.DictReader(file)}


def write(rows: dict[str, dict[str, str]]) -> None:
    part = RESULTS.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())
    part.replace(RESULTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=620, help="how many faults are drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0, help="of tests, at most, for each fault")
    parser.add_argument("--only", nargs="+", choices=PACKAGES, default=list(PACKAGES), help="these packages")
    parser.add_argument("--again", action="store_true", help="try the unexplained survivors once more")
    parser.add_argument("--control", type=int, default=0, help="run the tests of so many without their fault")
    options = parser.parse_args()
    totals, mutants = draw(options.mutants, options.seed, options.only)
    rows = read()
    todo = [
        mutant
        for mutant in mutants
        if mutant.name not in rows
        or (options.again and rows[mutant.name]["last"] in SURVIVED and not rows[mutant.name]["why"])
    ]

    def work(tests: Tests) -> None:
        trial = Trial(tests, options.seconds)
        for mutant in todo[: options.control]:
            print("control:", *trial(mutant, (TREE / mutant.path).read_text()), flush=True)
        for place, mutant in enumerate(todo, 1):
            fate, by = trial(mutant, mutant.text)
            row = rows.setdefault(mutant.name, {"mutant": mutant.name, "package": mutant.package, "why": ""})
            # code that came with the new tests has no before
            row.setdefault("first", "" if options.again else fate)
            row |= {"file": mutant.path, "line": str(mutant.places[0][0]), "scope": mutant.scope}
            row |= {"was": mutant.was, "becomes": mutant.becomes, "last": fate, "by": by}
            write(rows)
            where = f"{mutant.path}:{row['line']}"
            print(f"{place}/{len(todo)} {fate}: {where} {mutant.was} -> {mutant.becomes}", flush=True)

    if todo:
        copy_repository()
        tests = [test for package in options.only for test in PACKAGES[package][2]]
        pytest.main([*tests, *PYTEST], plugins=[Tests(instead=work)])
    names = {mutant.name for mutant in mutants}
    for row in rows.values():
        if row["package"] in options.only and row["mutant"] not in names:
            row["last"] = ""  # its code is gone
    write(rows)
    Console(width=160).print(table(list(rows.values()), totals))


if __name__ == "__main__":
    main()
