"""SLURM through submitit: with its local executor, and with SLURM's commands played by scripts."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from fake_slurm import NO_ACCOUNTS, SACCT, Note, install
from lessonplan.errors import ConfigError
from lessonplan.lab import compare
from lessonplan.lab.clusters import cluster_executor

pytest.importorskip("submitit", reason="the extra slurm is not installed")

from lessonplan.lab import on_slurm


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The folder of the commands."""
    commands = tmp_path / "commands"
    install(commands)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([*paths, *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    )
    monkeypatch.setattr(on_slurm, "_POLL_SECONDS", 0.1)
    return commands


def run(text: str, tmp_path: Path, *labels: str, **options) -> list[tuple[str, str | None]]:
    found = []
    executor = cluster_executor(text, tmp_path / "out", **options)
    jobs = [Note(tmp_path / f"task-{place}", label) for place, label in enumerate(labels)]
    executor.run(jobs, lambda job, error: found.append((job.label, error)))
    return sorted(found)


def preempt_when(there: Path, pid: Path, times: int = 1) -> threading.Thread:
    """Send the notice to a job, once it has begun to work."""

    def watch() -> None:
        while not (there.exists() and pid.exists()):
            time.sleep(0.02)
        os.kill(int(pid.read_text()), signal.SIGUSR2)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_wave_is_one_array_with_what_was_asked_for_and_every_outcome_is_told(tmp_path, slurm):
    text = "slurm:hours=1.5,partition=gpu,gpus=2,memory=512MB,account=us,constraint=a100"
    found = run(text, tmp_path, "works", "fails", "breaks", threads=3, at_once=2)
    expected = [
        ("breaks", "RuntimeError: out of luck"),
        ("fails", "the data are broken: mend them"),
        ("works", None),
    ]
    assert found == expected
    scripts = list(slurm.glob("script-*"))
    assert len(scripts) == 1
    asked = dict(re.findall(r"#SBATCH --([a-z-]+)(?:=(\S+))?", scripts[0].read_text()))
    assert asked["array"] == "0-2%2"
    wanted = {"time": "90", "partition": "gpu", "gpus-per-node": "2", "mem": "512MB", "cpus-per-task": "3"}
    wanted |= {"account": "us", "constraint": "a100", "requeue": "", "signal": "USR2@90"}
    assert {name: asked[name] for name in wanted} == wanted


@pytest.mark.slow
def test_a_preempted_job_saves_is_queued_again_and_ends(tmp_path, slurm):
    preempt_when(tmp_path / "task-0" / "began", slurm / "pid-100")
    assert run("slurm", tmp_path, "waits") == [("waits", None)]
    assert (slurm / "requeued-100-0").exists()
    assert (tmp_path / "task-0" / "began").read_text() == "xx"


@pytest.mark.slow
def test_a_preempted_run_goes_on_from_its_checkpoint_and_ends_with_the_same_scores(tmp_path, slurm):
    options = {"model": "fcnet-16", "seeds": 2, "budget": "15k samples", "per_class": 10, "threads": 1}
    here = compare("erm", out=tmp_path / "here", jobs=1, **options)
    metrics = tmp_path / "there" / "runs"
    for seed in (0, 1):  # each by itself: a job that has not begun yet does not hear of it
        (name,) = (path.name for path in (tmp_path / "here" / "runs").iterdir() if f"-seed{seed}-" in path.name)
        preempt_when(metrics / name / "metrics.jsonl", slurm / f"pid-100_{seed}")
    there = compare("erm", out=tmp_path / "there", executor="slurm:hours=0.5", **options)
    assert list(slurm.glob("requeued-100_*"))
    scores = [[run["test_accuracy"] for run in found["methods"][0]["runs"]] for found in (here, there)]
    assert scores[0] == scores[1]
    assert None not in scores[0]
    assert not list(metrics.glob("*/.lease*"))


@pytest.mark.slow
def test_the_same_way_on_this_machine_with_so_many_at_a_time(tmp_path, slurm):
    assert run("slurm:on=local", tmp_path, "works", "fails", at_once=1) == [
        ("fails", "the data are broken: mend them"),
        ("works", None),
    ]
    assert not list(slurm.glob("script-*"))


@pytest.mark.slow
@pytest.mark.parametrize("accounts", [True, False])
def test_a_job_that_was_cancelled_is_told_whether_or_not_accounts_are_kept(tmp_path, slurm, accounts):
    if not accounts:
        (slurm / "sacct").write_text(f"#!{sys.executable}\n{NO_ACCOUNTS}")

    def cancel() -> None:
        began, pid = tmp_path / "task-0" / "began", slurm / "pid-100_0"
        while not (began.exists() and pid.exists()):
            time.sleep(0.02)
        os.kill(int(pid.read_text()), signal.SIGKILL)

    threading.Thread(target=cancel, daemon=True).start()
    (works, lost) = sorted(run("slurm", tmp_path, "waits", "works"), reverse=True)
    assert works == ("works", None)
    assert lost[0] == "waits"
    assert lost[1] is not None
    assert "job 100_0 left no result, its state is FAILED; its log, if it came to one, is" in lost[1]


def test_states_from_the_queue_know_what_is_running_what_has_ended_and_what_is_gone(slurm):
    from lessonplan.lab import slurm_states

    submitit = pytest.importorskip("submitit")
    (slurm / "sacct").write_text(f"#!{sys.executable}\n{NO_ACCOUNTS}")
    slurm_states.watch_the_queue_without_accounting()
    watcher = submitit.SlurmJob.watcher
    assert isinstance(watcher, slurm_states.QueueWatcher)
    jobs = {"7_0": "RUNNING", "7_1": "CONFIGURING", "7_2": "NODE_FAIL", "7_3": "PREEMPTED", "8": "PENDING"}
    for name in (*jobs, "9"):
        watcher.register_job(name)
    queue = "\n".join(f"{name}|{state}|n1" for name, state in jobs.items()) + "\n7_[4-9]|PENDING|\n10|RUNNING|n2\n"
    (slurm / "squeue").write_text(f"#!{sys.executable}\nprint({queue!r})")
    watcher.update()
    assert {name for name in (*jobs, "9") if watcher.is_done(name, mode="cache")} == {"7_2"}
    assert watcher.get_state("9", mode="cache") == "UNKNOWN"  # submitted a moment ago
    (slurm / "squeue").write_text(f"#!{sys.executable}\nprint('7_0|RUNNING|n1')")
    watcher.update()
    assert not watcher.is_done("7_0", mode="cache")
    assert watcher.get_state("7_3", mode="cache") == "GONE"
    assert all(watcher.is_done(name, mode="cache") for name in ("7_1", "7_2", "7_3", "8"))
    (slurm / "sacct").write_text(f"#!{sys.executable}\n{SACCT}")
    slurm_states.watch_the_queue_without_accounting()
    assert not isinstance(submitit.SlurmJob.watcher, slurm_states.QueueWatcher)


def test_what_slurm_refuses_is_told_in_its_words(tmp_path, slurm):
    with pytest.raises(ConfigError, match=r"SLURM did not take the runs .*invalid partition specified: nowhere"):
        run("slurm:partition=nowhere", tmp_path, "works")


def test_without_slurm_a_sentence_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no sbatch on the path.*login node.*slurm:on=local"):
        cluster_executor("slurm", tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("hours=0", "above 0"),
        ("hours=inf", "above 0"),
        ("days=2", "days"),
        ("cpus=0", "slurm:cpus=0: give at least 1"),
        ("gpus=-1", "slurm:gpus=-1: give at least 0"),
        ("memory=much", "write 16GB or 512MB"),
        ("memory=0", "above 0"),
        ("on=moon", "give slurm, or local"),
        ("partition", "write option=value"),
    ],
)
def test_options_that_cannot_be_used(tmp_path, slurm, options, words):
    with pytest.raises(ConfigError, match=words):
        cluster_executor(f"slurm:{options}", tmp_path)
