"""What the terminal shows, and what scripts read: progress lines, --quiet, --json, doctor, completion."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from rich.console import Console
from rich.text import Text

import lessonplan as lp
from lessonplan import cli, doctor, machine, progress
from lessonplan.commands import COMMAND_TYPES
from lessonplan.commands.doctor import lines
from lessonplan.errors import MachineWarning
from lessonplan.lab.evaluation.progress import Steps
from lessonplan.lab.progress import RunCounter
from lessonplan.machine import SAID_BY
from lessonplan.network.threads import own_threads

SMALL = "--data digits --per-class 10 --model fcnet-8 --threads 1"


def run_main(line: str | list[str]) -> int:
    """The exit code of a command done in this process."""
    with pytest.raises(SystemExit) as stop:
        cli.main(line.split() if isinstance(line, str) else line)
    return int(stop.value.code or 0)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error as a terminal of 200 columns; what is written to it."""
    written = io.StringIO()
    monkeypatch.setattr(
        progress, "_console", lambda: Console(file=written, force_terminal=True, width=200, color_system=None)
    )
    return written


def cells() -> list[list[str]]:
    """What the lines that are shown say, without their bars."""
    assert progress._shown is not None
    rows = [[column(task) for column in progress._shown.columns] for task in progress._shown.tasks]
    return [[cell.plain for cell in row if isinstance(cell, Text)] for row in rows]


# -- progress ------------------------------------------------------------------------------------------


def test_nothing_is_shown_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with RunCounter(2) as counter:
        counter.finished("a", None, 0.5)
        assert not counter.line.shown
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""


def test_quiet_is_silent_in_a_terminal(terminal: io.StringIO) -> None:
    with progress.silence(), RunCounter(2) as counter:
        counter.finished("a", None)
    with Steps(quiet=True) as steps:
        steps.begin("a", 3)
    assert terminal.getvalue() == ""
    assert not progress.is_silent()
    with progress.silence(False):
        assert not progress.is_silent()


def test_runs_with_rate_time_left_best_and_memory(terminal: io.StringIO, monkeypatch) -> None:
    clock = iter(float(second) for second in range(0, 100_000, 30))
    monkeypatch.setattr(progress, "_clock", lambda: next(clock))
    with RunCounter(10, done=4) as counter:
        for number, value in enumerate((0.5, 0.75, 0.25)):
            counter.finished(f"method{number}, seed 0", None, value)
        [row] = cells()
    assert row[0] == "method2, seed 0"
    assert "7/10 runs" in row
    assert "best val accuracy 0.750 (method1, seed 0)" in row
    (rate,) = [cell for cell in row if cell.endswith("/min")]
    # From one look at the clock to the next half a minute passes.
    assert 0 < float(rate.removesuffix("/min")) <= 2
    assert any(":" in cell and cell[0].isdigit() for cell in row), row  # the time that is left
    assert row[-1].endswith("GiB")
    assert float(row[-1].split()[0]) > 0.05
    assert "4/10 runs" in terminal.getvalue()


def test_a_failed_run_says_so_and_is_no_best(terminal: io.StringIO) -> None:
    with RunCounter(2) as counter:
        counter.finished("one [red]", "it broke")
        [row] = cells()
    assert "one [red]: failed" in row
    assert not any("best" in cell for cell in row)


def test_lines_stand_below_each_other(terminal: io.StringIO) -> None:
    with progress.Line("outer", total=2, unit="parts") as outer:
        with progress.Line("inner", total=3, unit="runs") as inner:
            inner.update(advance=1)
            assert [row[0] for row in cells()] == ["outer", "inner"]
        assert [row[0] for row in cells()] == ["outer"]
    assert not outer.shown
    outer.update(advance=1)  # nobody sees it, and nothing breaks
    assert progress._shown is None


@pytest.mark.parametrize("width", [60, 80, 120, 160])
def test_a_line_is_one_row(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(progress, "_console", lambda: console)
    words = "epoch 123  loss 2.260  val accuracy 0.200"
    with progress.Line(words, total=1.0) as line:
        line.update(0.5, rate="1,135 samples/s", best="best accuracy 0.200")
        lines = progress._shown
        page = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
        page.print(lines.make_tasks_table(lines.tasks))
    [row] = page.file.getvalue().rstrip("\n").split("\n")
    assert len(row.rstrip()) <= width
    assert "epoch" in row
    if width >= 80:
        assert "50%" in row
        assert "1,135 samples/s" in row
        assert "best accuracy 0.200" in row
        assert ("GiB" in row) is (width >= 95)
    if width == 160:
        assert words in row


def test_what_is_printed_into_a_file_stays_there(terminal: io.StringIO, capfd) -> None:
    with progress.Line("a", total=1):
        print("a result")
    assert capfd.readouterr().out == "a result\n"
    assert "a result" not in terminal.getvalue()


def test_a_training_shows_what_it_does(terminal: io.StringIO) -> None:
    seen: list[list[str]] = []

    class Look(lp.Callback):
        def on_batch_end(self, trainer) -> None:
            seen.extend(cells())

    run = lp.fit("fcnet-8", lp.data.load("digits", per_class=10, val_fraction=0.2), budget="6ep", threads=1,
                 batch_size=20, callbacks=[Look()])  # fmt: skip
    last = seen[-1]
    validated = [record["val"]["accuracy"] for record in run.history[:-1] if "val" in record]
    assert f"best accuracy {max(validated):.3f}" in last
    assert any(cell.endswith("samples/s") for cell in last)
    assert last[0].startswith(f"epoch {run.history[-2]['epoch']}  loss {run.history[-2]['train']['loss']:.3f}")
    assert any(cell.strip().endswith("%") and 0 < int(cell.strip()[:-1]) <= 100 for cell in last)
    assert progress._shown is None


@pytest.mark.parametrize("watch", ["accuracy", "loss"])
def test_the_best_is_by_the_metric_that_is_watched(terminal: io.StringIO, watch: str) -> None:
    seen: list[str] = []

    class Look(lp.Callback):
        def on_train_end(self, trainer) -> None:
            seen.extend(cell for row in cells() for cell in row)

    data = lp.data.load("digits", per_class=10, val_fraction=0.2)
    run = lp.fit("fcnet-8", data, budget="5ep", threads=1, lr=0.5, batch_size=20, watch=watch, callbacks=[Look()])
    values = [record["val"][watch] for record in run.history if "val" in record]
    best = min(values) if watch == "loss" else max(values)
    assert f"best {watch} {best:.3f}" in seen


# -- threads -------------------------------------------------------------------------------------------


def _load(monkeypatch: pytest.MonkeyPatch, load: float, threads: int = 2) -> None:
    """Four cores that so many processes want, and PyTorch's own number of threads."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(machine, "usable_cores", lambda: 4)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 2)
    for name in SAID_BY:
        monkeypatch.delenv(name, raising=False)


def test_a_busy_machine_gets_one_thread_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for load, threads, chosen in ((6.1, 4, 1), (6.1, 2, 1), (6.0, 4, 4), (40.0, 1, 1), (40.0, 3, 3), (0.2, 2, 2)):
        _load(monkeypatch, load, threads)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert own_threads() == chosen
        assert bool(said) is (chosen < threads)
        if said:
            assert "6 processes want its 4 cores" in str(said[0].message)
            assert f"--threads {threads}" in str(said[0].message)
    _load(monkeypatch, 9.0, 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert machine.busy() is not None
    assert own_threads() == 4, "who asks for them knows"


def test_training_takes_the_thread_that_it_says_and_keeps_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    data = lp.data.load("digits", per_class=10)
    _load(monkeypatch, 9.0)
    with pytest.warns(MachineWarning, match="training takes 1 instead of 2"):
        lp.fit("fcnet-8", data, budget="1 steps", out=tmp_path / "run")
    with pytest.warns(MachineWarning, match="training takes 1 instead of 2"):
        lp.find_lr("fcnet-8", data, steps=10)
    assert taken == [1, 2, 1, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lp.fit("fcnet-8", data, budget="1 steps", threads=2)
    assert taken[-2:] == [2, 2]


# -- doctor --------------------------------------------------------------------------------------------


def test_doctor_says_what_training_will_do_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    _load(monkeypatch, 9.0)
    found = {"cpu": {"device": "cpu", "devices": []}, "cuda": {"device": "cuda", "devices": ["one"]}}
    for device, threads, told in (("cpu", 4, True), ("cpu", 3, False), ("cpu", 1, False), ("cuda", 4, False)):
        monkeypatch.setattr(doctor, "ask", lambda _, d=device, n=threads: ({**found[d], "threads": n}, None))
        advice = doctor.examine()["threads"]["advice"]
        assert (advice is not None) is told
        assert not told or "training takes 1 thread" in advice


def test_doctor_says_what_is_there(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr(doctor, "ask", lambda script: ({"device": "cpu", "devices": [], "threads": 3}, None))
    assert run_main("doctor") == 0
    said = capsys.readouterr().out
    assert f"lessonplan   {lp.__version__}" in said
    assert f"PyTorch      {torch.__version__}" in said
    assert "threads      3 of" in said
    assert "[parquet]      pyarrow " in said
    assert "PROBLEM" not in said


def test_doctor_names_what_is_missing_and_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.metadata.version

    def version(name: str) -> str:
        if name == "pyarrow":
            raise doctor.metadata.PackageNotFoundError(name)
        return {"rich": "1.0", "timm": "0.1"}.get(name) or real(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor, "ask", lambda script: ({}, "ImportError: libgomp is missing"))
    found = doctor.examine()
    assert found["extras"]["parquet"]["install"] == "pip install 'lessonplan[parquet]'"
    assert found["extras"]["parquet"]["packages"][0]["words"] == "missing"
    assert found["extras"]["timm"]["packages"][0]["words"].startswith("0.1, needs >=1.0")
    assert not found["extras"]["timm"]["installed"]
    assert "dev" not in found["extras"]
    problems = {problem.split()[0]: problem for problem in found["problems"]}
    assert set(problems) == {"rich", "torch"}
    assert "cannot be imported: ImportError: libgomp is missing" in problems["torch"]
    assert "pip install 'rich>=13.7'" in problems["rich"]
    text = "\n".join(lines(found))
    assert "PROBLEM: rich is 1.0, needs >=13.7" in text
    assert "pyarrow missing: pip install 'lessonplan[parquet]'" in text


def test_doctor_answers_beside_a_broken_pytorch(tmp_path: Path) -> None:
    """A torch that ends its process while it is imported, as one built for another processor does."""
    (tmp_path / "torch.py").write_text("import os\nos._exit(132)\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(lp.__file__).parents[1]}"}
    done = subprocess.run(
        [sys.executable, "-m", "lessonplan", "doctor", "--json"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    [problem] = found["result"]["problems"]
    assert problem.startswith("torch is ")
    assert "ended with code 132" in problem
    assert found["result"]["machine"]["device"] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "module"), [("mkdocs-material", "material"), ("peft", "peft"), ("pyyaml", "yaml")]
)
def test_doctor_imports_as_we_do(name: str, module: str) -> None:
    """By the module's name, and beside a torchvision of another build."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{name} is not installed")
    tried = doctor._package(doctor.Requirement(name), try_import=True)
    assert tried.sound, tried.words


def test_doctor_tries_imports_in_a_process_of_their_own() -> None:
    assert doctor.ask("print('{\"a\": 1}')") == ({"a": 1}, None)
    assert doctor.ask("import no_such_module")[1] == "ModuleNotFoundError: No module named 'no_such_module'"
    requirement = doctor.Requirement("rich>=1")
    assert doctor._package(requirement, try_import=True).sound
    broken = doctor.Package("x", ">=1", "1.0", True, "ImportError: y")
    assert not broken.sound
    assert broken.words == "1.0, cannot be imported: ImportError: y"


# -- completion ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(f"completion {shell}") == 0
    script = capsys.readouterr().out
    assert all(f"'{name}'" in script for name in COMMAND_TYPES)
    assert "--per-class" in script


def complete(script: Path, *words: str) -> set[str]:
    """What bash offers for the last of the words."""
    line = " ".join(words)
    code = f"""
source {script}
COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
COMP_CWORD={len(words) - 1}
COMP_LINE='{line}'
COMP_POINT={len(line)}
$(complete -p lessonplan | sed 's/.*-F \\([^ ]*\\) .*/\\1/') lessonplan '{words[-1]}' '{words[-2]}'
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, env=environment)
    return set(done.stdout.split())


def test_bash_completes_commands_options_and_choices(tmp_path: Path, capsys) -> None:
    assert run_main("completion bash") == 0
    script = tmp_path / "lessonplan.bash"
    script.write_text(capsys.readouterr().out)
    assert complete(script, "lessonplan", "com") == {"compare", "completion"}
    assert complete(script, "lessonplan", "train", "--per-") == {"--per-class"}
    assert "--lowest" not in complete(script, "lessonplan", "lr", "--")
    assert {"--from", "--to", "--json", "--quiet"} <= complete(script, "lessonplan", "lr", "--")
    assert complete(script, "lessonplan", "reproduce", "--scale", "") == {"smoke", "cpu", "gpu", "paper"}


def test_bash_offers_nothing_but_what_begins_so(tmp_path: Path, capsys) -> None:
    """Help of several lines is help, not something to complete."""
    assert run_main("completion bash") == 0
    script = tmp_path / "lessonplan.bash"
    script.write_text(capsys.readouterr().out)
    for command in ("advise", "compare", "evaluate", "preview", "train"):
        assert all(word.startswith("--") for word in complete(script, "lessonplan", command, "--")), command
    assert complete(script, "lessonplan", "preview", "--me") == {"--memory-limit"}


# -- what scripts read ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run and a picture."""
    root = tmp_path_factory.mktemp("home")
    assert run_main(f"train {SMALL} --budget 2ep --out {root / 'run'} --quiet") == 0
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (8, 8), dtype=np.uint8)
        (root / "pictures").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / "pictures" / f"{i}.png")
    (root / "pictures" / "bad.png").write_bytes(b"nothing")
    (root / "own.py").write_text("from lessonplan.mix import Mixup\n\n\nclass Mine(Mixup):\n    pass\n")
    return root


COMMAND_LINES = {
    "train": f"train {SMALL} --budget 2ep --out {{home}}/run",
    "compare": f"compare {SMALL} --methods erm,mixup --seeds 2 --budget 1ep --jobs 1 --out {{new}}",
    "lr": f"lr {SMALL} --steps 10 --out {{new}}",
    "check": "check digits --per-class 10 --out {new}",
    "check a part": "check {home}/own.py:Mine",
    "preview": "preview --out {new}/a.png",
    "predict": "predict {home}/run {home}/pictures --out {new}/p.csv",
    "evaluate": "evaluate {home}/run --out {new}",
    "recipes": "recipes",
    "report": "report {home}/run",
    "doctor": "doctor",
    "completion": "completion zsh",
    "order": "order --data digits --classes 0,1 --per-class 4 --batch 4 --epochs 1 --evaluate 20 --out {new}",
    "explain-orders": "explain-orders {new}",
    "advise": f"advise {SMALL} --plans mixup --budget 40k\\ cost --each 1ep --jobs 1 --out {{new}}",
    "tune": f"tune {SMALL} --search lr=.01|.1 --trials 2 --budget 10k\\ cost --jobs 1 --out {{new}}",
    "reproduce": "reproduce thesis-3.4 --seeds 1 --jobs 1 --budget 80\\ samples --out {new}",
    "export": "export {home}/run --out {new}/m.onnx",
}
KEYS = {
    "train": {"test", "samples", "page", "folder", "weights"},
    "compare": {"methods", "failures", "page"},
    "lr": {"suggested", "loss", "lr"},
    "check": {"copies", "classes", "page"},
    "check a part": {"part", "checks"},
    "preview": {"file"},
    "predict": {"classified", "left_out", "predictions", "file"},
    "evaluate": {"measures", "parts"},
    "recipes": {"recipes"},
    "report": {"page"},
    "doctor": {"versions", "extras", "problems"},
    "completion": {"script"},
    "order": {"epochs", "runs"},
    "explain-orders": {"features", "foretold", "check", "page"},
    "advise": {"verdict", "kind", "table"},
    "tune": {"best", "score", "table"},
    "reproduce": {"results", "sources", "recipe"},
    "export": {"file", "class_names"},
}
SLOW = ("advise", "tune", "reproduce", "export", "order", "explain-orders")


def words(line: str, home: Path, new: Path) -> list[str]:
    return [word.format(home=home, new=new) for word in shlex.split(line)]


def test_every_command_has_a_line_here() -> None:
    assert {name.split()[0] for name in COMMAND_LINES} == set(COMMAND_TYPES) == set(cli.COMMANDS)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in COMMAND_LINES]
)
def test_json_is_one_object_on_standard_output(
    name: str, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch
) -> None:
    if name == "doctor":
        monkeypatch.setattr(doctor, "ask", lambda script: ({"device": "cpu", "threads": 1}, None))
    if name == "explain-orders":
        search = COMMAND_LINES["order"].replace("--per-class 4", "--per-class 6")
        assert run_main([*words(search, home, tmp_path / "new"), "--quiet"]) == 0
    code = run_main([*words(COMMAND_LINES[name], home, tmp_path / "new"), "--json"])
    found = json.loads(
        capfd.readouterr().out, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON")
    )
    assert (found["command"], found["exit_code"], found["version"]) == (name.split()[0], code, lp.__version__)
    assert KEYS[name] <= set(found["result"]), set(found["result"])
    assert code == 0 or name == "check"


@pytest.mark.parametrize("name", ["train", "preview", "predict", "recipes", "report"])
def test_quiet_says_nothing(name: str, home: Path, tmp_path: Path, capfd) -> None:
    assert run_main([*words(COMMAND_LINES[name], home, tmp_path / "new"), "--quiet"]) == 0
    printed = capfd.readouterr()
    assert printed.out == ""
    assert ("left out" in printed.err) is (name == "predict")  # a warning stays
    assert len(printed.err.splitlines()) <= 1


def test_predictions_for_a_script(home: Path, tmp_path: Path, capfd) -> None:
    assert run_main([*words(COMMAND_LINES["predict"], home, tmp_path / "new"), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)["result"]
    assert found["classified"] == len(found["predictions"]) == 3
    for row in found["predictions"]:
        assert row["class"] == max(row["probabilities"], key=row["probabilities"].__getitem__)
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    [left_out] = found["left_out"]
    assert left_out["file"].endswith("bad.png")
    assert left_out["reason"]


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("train --out x --lr -1 --json", 2, "--lr -1.0: give a number greater than 0"),
        ("recpes --json", 2, "did you mean 'recipes'"),
        ("predict nowhere nothing --json", 2, "no folder of a run"),
        ("train --out x --per-class few --json", 2, "'few'"),
    ],
)
def test_a_mistake_for_a_script(line: str, code: int, said: str, capfd) -> None:
    assert run_main(line) == code
    printed = capfd.readouterr()
    found = json.loads(printed.out)
    assert (found["command"], found["exit_code"]) == (line.split()[0], code)
    assert said in found["error"]
    assert printed.err == f"lessonplan: {found['error']}\n"


def test_what_a_part_of_the_users_prints_is_no_output(tmp_path: Path, capfd) -> None:
    (tmp_path / "loud.py").write_text(
        "from lessonplan.mix import Mixup\nprint('loaded')\n\n\nclass Loud(Mixup):\n    pass\n"
    )
    line = f"train {SMALL} --budget 1ep --mix {tmp_path / 'loud.py'}:Loud --out {tmp_path / 'run'} --json"
    assert run_main(line) == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out)["result"]["status"] == "finished"
    assert "loaded" in printed.err


def test_ctrl_c_for_a_script(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def interrupted(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_dispatch", interrupted)
    assert run_main("recipes --json") == 130
    assert json.loads(capsys.readouterr().out)["exit_code"] == 130
