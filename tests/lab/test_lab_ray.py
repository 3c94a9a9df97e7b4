"""Ray: with Ray itself where it is installed, else with a stand-in that does tasks at once."""

from __future__ import annotations

import socket
import sys
import time

import pytest

from eager_ray import EagerRay
from fake_slurm import Note
from lessonplan.errors import ConfigError, LessonplanWarning
from lessonplan.lab import on_ray
from lessonplan.lab.clusters import cluster_executor
from lessonplan.lab.comparison import compare


@pytest.fixture
def ray(monkeypatch):
    stand_in = EagerRay()
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return stand_in


def run(text, tmp_path, *labels, **options):
    found = []
    executor = cluster_executor(text, tmp_path, **options)
    jobs = [Note(tmp_path / f"task-{place}", label) for place, label in enumerate(labels)]
    executor.run(jobs, lambda job, error: found.append((job.label, error)))
    return found


def test_what_a_run_needs_is_asked_for_and_every_outcome_is_told(tmp_path, ray):
    found = run("ray:cpus=2,memory=512MB,retries=5", tmp_path, "works", "fails", "breaks", "dies", threads=3)
    assert ray.asked == [{"num_cpus": 2.0, "num_gpus": 0, "max_retries": 5, "memory": 2**29}]
    assert found == [
        ("works", None),
        ("fails", "the data are broken: mend them"),
        ("breaks", "RuntimeError: out of luck"),
        ("dies", "The node died. The same command goes on from the last checkpoint"),
    ]
    assert ray.joined == [None]
    assert ray.most == 4


def test_cores_are_the_threads_where_none_are_given_and_jobs_bounds_runs_at_a_time(tmp_path, ray):
    assert run("ray", tmp_path, *["works"] * 7, threads=3, at_once=2) == [("works", None)] * 7
    assert ray.asked[0]["num_cpus"] == 3
    assert ray.most == 2


def test_an_iterator_is_taken_as_machines_have_room(tmp_path, ray):
    executor = cluster_executor("ray", tmp_path, threads=2)
    taken, over = [], []

    def jobs():
        for place in range(5):
            taken.append(len(over))
            yield Note(tmp_path / f"task-{place}", "works")

    executor.run(jobs(), lambda job, error: over.append(error))
    assert executor.room() == 2  # of the four cores that are alive
    assert over == [None] * 5
    assert taken == [0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "room"), [("ray:cpus=0.5", 8), ("ray:cpus=3", 1), ("ray:gpus=1", 1), ("ray:memory=3GB", 2)]
)
def test_room_is_what_the_living_machines_hold(text, room, tmp_path, ray):
    assert cluster_executor(text, tmp_path).room() == room
    assert cluster_executor(text, tmp_path, at_once=7).room() == 7


def test_needs_that_no_machine_has_are_told(tmp_path, ray):
    with pytest.warns(LessonplanWarning, match=r"no machine .* has 1 CPU and 2 GPUs \(at most 4 CPUs, 0 GPUs\)"):
        run("ray:gpus=2", tmp_path, "works")
    with pytest.warns(
        LessonplanWarning, match=r"has 1 CPU and .* and 16 GiB of memory \(at most .*, 8 GiB of mem"
    ):
        run("ray:memory=16GB", tmp_path, "works")


@pytest.fixture
def silent_port():
    """Something listens, and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_where_nothing_listens_the_command_that_starts_one_is_told(tmp_path, ray, silent_port, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = rf"no Ray cluster answers at 127.0.0.1:{port} \(Connection refused\).*ray start --head --port={port}"
    began = time.monotonic()
    with pytest.raises(ConfigError, match=words):
        cluster_executor(f"ray:address=127.0.0.1:{port}", tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", f"ray://127.0.0.1:{port}")
    with pytest.raises(ConfigError, match=r"ray start --head --port=6379"):
        cluster_executor("ray", tmp_path)
    assert time.monotonic() - began < 20
    assert not ray.joined


def test_what_listens_and_is_no_ray_is_given_up(tmp_path, ray, silent_port, monkeypatch):
    assert on_ray.CONNECT_SECONDS < on_ray.ANSWER_SECONDS < 20
    monkeypatch.setattr(on_ray, "ANSWER_SECONDS", on_ray.CONNECT_SECONDS + 0.5)
    ray.answers = False
    words = rf"something listens at 127.0.0.1:{silent_port}, but Ray did not answer .*RAY_AUTH_MODE=token"
    with pytest.raises(ConfigError, match=words):
        run(f"ray:address=127.0.0.1:{silent_port}", tmp_path, "works")
    with pytest.raises(ConfigError, match=r"no Ray cluster of this machine answered .*start one with 'ray start"):
        run("ray:address=auto", tmp_path, "works")
    with pytest.raises(ConfigError, match="Ray did not answer"):  # and the folder is as it was
        compare("erm", "digits", out=tmp_path / "c", executor=f"ray:address=127.0.0.1:{silent_port}")
    assert not (tmp_path / "c").exists()


def test_local_takes_no_options(tmp_path):
    with pytest.raises(ConfigError, match="local takes no options, and got 'cpus=2': --jobs says"):
        cluster_executor("local:cpus=2", tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("cpus=0", "ray:cpus=0: give the cores"),
        ("gpus=-1", "give at least 0"),
        ("retries=-1", "give at least 0"),
        ("hours=2", "hours"),
        ("address=head", "write HOST:PORT"),
        ("address=head:port", "write HOST:PORT"),
        ("memory=-1", "write 16GB or 512MB"),
    ],
)
def test_options_that_cannot_be_used(tmp_path, ray, options, words):
    with pytest.raises(ConfigError, match=words):
        cluster_executor(f"ray:{options}", tmp_path)


def test_missing_packages_and_wrong_names(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'lessonplan\[ray\]'"):
        cluster_executor("ray", tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'slurm'"):
        cluster_executor("slum", tmp_path)
