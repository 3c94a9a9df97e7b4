"""Cluster executors do what local ones do; Ray is stood in for where it is not installed."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from lessonplan.errors import ConfigError
from lessonplan.lab import compare
from lessonplan.lab.clusters import RayExecutor, SlurmExecutor, cluster_executor


class EagerRay(ModuleType):
    """The part of Ray that is used, doing tasks at once, in this process."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.cores: list[int] = []
        self.started = False

    def is_initialized(self) -> bool:
        return self.started

    def init(self, log_to_driver: bool) -> None:
        self.started = True

    def remote(self, num_cpus: int, max_retries: int):
        self.cores.append(num_cpus)

        def wrap(function):
            task = ModuleType("task")

            def start(*args):
                try:
                    function(*args)
                except Exception as error:
                    return (object(), error)
                return (object(), None)

            task.remote = start
            return task

        return wrap

    @staticmethod
    def wait(references, num_returns):
        return references[:num_returns], references[num_returns:]

    @staticmethod
    def get(reference):
        if reference[1] is not None:
            raise reference[1]


def scores(results: dict) -> list:
    return [[run["test_accuracy"] for run in method["runs"]] for method in results["methods"]]


OPTIONS = {"model": "fcnet-16", "seeds": 2, "budget": "200 samples", "per_class": 10, "threads": 1}


@pytest.mark.slow
def test_ray_gives_the_same_scores_and_reports_failures(tmp_path, monkeypatch):
    ray = EagerRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    here = compare("erm,mixup", out=tmp_path / "here", jobs=1, **OPTIONS)
    there = compare("erm,mixup", out=tmp_path / "there", executor="ray", **OPTIONS)
    assert scores(here) == scores(there)
    assert ray.started
    assert ray.cores == [1]
    broken = {"erm": None, "wild": {"settings": {"lr": 1e30}}}
    results = compare(broken, out=tmp_path / "broken", executor=RayExecutor(), **OPTIONS)
    assert [failure["method"] for failure in results["failures"]] == ["wild", "wild"]
    assert "NaN" in results["failures"][0]["error"]


def test_slurm_falls_back_to_this_machine(tmp_path):
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    here = compare("erm", out=tmp_path / "here", jobs=1, **{**OPTIONS, "seeds": 1})
    there = compare("erm", out=tmp_path / "there", executor=SlurmExecutor(tmp_path), **{**OPTIONS, "seeds": 1})
    assert scores(here) == scores(there)


def test_missing_packages_and_wrong_names(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'lessonplan\[ray\]'"):
        cluster_executor("ray", tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'slurm'"):
        cluster_executor("slum", tmp_path)


def test_the_time_limit_of_a_run(tmp_path, monkeypatch):
    asked = {}

    class AutoExecutor:
        def __init__(self, folder: str) -> None:
            asked["folder"] = folder

        def update_parameters(self, **parameters) -> None:
            asked.update(parameters)

    submitit = ModuleType("submitit")
    submitit.AutoExecutor = AutoExecutor
    monkeypatch.setitem(sys.modules, "submitit", submitit)
    cluster_executor("slurm", tmp_path)
    assert asked["timeout_min"] == 24 * 60
    cluster_executor("slurm:hours=1.5", tmp_path, threads=3)
    assert asked["timeout_min"] == 90
    assert asked["cpus_per_task"] == 3
    for text, words in (("slurm:hours=0", "above 0"), ("slurm:days=2", "days"), ("ray:hours=2", "hours")):
        with pytest.raises(ConfigError, match=words):
            cluster_executor(text, tmp_path)
