"""A comparison's options, and the hash that stands for a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lessonplan.errors import ConfigError
from lessonplan.lab import comparison
from lessonplan.lab.config import Comparison, content_hash
from lessonplan.lab.job import Job


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seeds": 0}, ["seeds", "at least one"]),
        ({"seeds": ()}, ["seeds", "at least one"]),
        ({"seeds": (1, 1)}, ["each once"]),
        ({"seeds": "a"}, ["seeds"]),
        ({"budget": "20"}, ["20", "20ep"]),
        ({"budget": "0ep"}, ["0ep"]),
        ({"level": 1.0}, ["level=1.0"]),
        ({"level": 0.2}, ["level=0.2"]),
        ({"bugdet": "2ep"}, ["bugdet", "budget"]),
    ],
)
def test_options_that_cannot_be_used(given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Comparison.make(**given)
    for word in words:
        assert word in str(caught.value)


def test_seeds_are_a_count_or_a_list() -> None:
    assert Comparison.make(seeds=3).seeds == (0, 1, 2)
    assert Comparison.make(seeds=(5, 2)).seeds == (5, 2)


def test_budgets_written_differently_are_the_same() -> None:
    assert Comparison.make(budget="30k samples") == Comparison.make(budget="30000samples")


def test_hash_of_nested_values_ignores_order() -> None:
    assert content_hash({"a": {"x": 1, "y": 2}, "b": 3}) == content_hash({"b": 3, "a": {"y": 2, "x": 1}})
    assert content_hash({"a": [1, 2]}) != content_hash({"a": [2, 1]})


class Listing:
    """Does no job; remembers where each would have gone."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def run(self, jobs: Iterable[Job], report: Callable[[Job, str | None], None]) -> None:
        self.names += [job.folder.name for job in jobs]


def images(key: int) -> tuple[Any, Any]:
    """48 grey 8 x 8 images of three classes."""
    rng = np.random.default_rng(key)
    return rng.integers(0, 256, (48, 8, 8), dtype=np.uint8), np.arange(48) % 3


BASE: dict[str, Any] = {
    "methods": {"m": "sum:k=2"},
    "data": images(0),
    "model": "fcnet-4",
    "seeds": (3,),
    "budget": "2ep",
    "settings": {"lr": 0.01, "momentum": 0.5, "batch_size": 4},
    "per_class": 6,
    "val_fraction": 0.34,
}


@pytest.fixture
def run_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Folder names of the runs that a comparison would make."""
    monkeypatch.setattr("lessonplan.report.write_comparison", lambda root: None)
    monkeypatch.setattr(comparison, "write_examples", lambda *_: None)
    count = iter(range(100))

    def names(**changes: Any) -> list[str]:
        executor = Listing()
        given = {**BASE, **changes}
        options = {k: v for k, v in given.items() if v is not None}
        comparison.compare(**options, out=tmp_path / str(next(count)), executor=executor)
        return executor.names

    return names


CHANGES: dict[str, dict[str, Any]] = {
    "data": {"data": images(1)},
    "number of samples": {"per_class": 7},
    "validation": {"val_fraction": 0.5},
    "augmentation": {"augment": "flip"},
    "test split": {"test_fraction": 0.25},
    "kind of mix": {"methods": {"m": "mixup"}},
    "option of the mix": {"methods": {"m": "sum:k=3"}},
    "setting of the comparison": {"settings": {"lr": 0.02, "momentum": 0.5, "batch_size": 4}},
    "setting of the method": {"methods": {"m": {"mix": "sum:k=2", "settings": {"clip": 1.0}}}},
    "budget": {"budget": "3ep"},
    "seed": {"seeds": (4,)},
    "model": {"model": "fcnet-5"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_everything_that_decides_an_outcome_changes_the_hash(run_names: Any, change: dict[str, Any]) -> None:
    [before], [after] = run_names(), run_names(**change)
    assert before.rsplit("-", 1)[1] != after.rsplit("-", 1)[1]


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"batch_size": 4, "momentum": 0.5, "lr": 0.01}},
        {
            "settings": {"momentum": 0.5, "lr": 0.01, "batch_size": 4, "weight_decay": 5e-4}
        },  # the default, spelled out
        {"methods": {"m": {"settings": {}, "mix": "sum:k=2"}}},
        {"level": 0.9, "title": "another", "threads": 1, "jobs": 2},
        {"data": images(0)},  # another object of the same content
        {"budget": "2 epochs"},
    ],
    ids=["order", "default", "form", "presentation", "same data", "spelling"],
)
def test_what_decides_nothing_leaves_the_hash(run_names: Any, change: dict[str, Any]) -> None:
    assert run_names() == run_names(**change)


def test_other_methods_and_seeds_beside_it_do_not_matter(run_names: Any) -> None:
    many = run_names(methods={"z": "erm", "m": "sum:k=2"}, seeds=(1, 3))
    assert len(set(many)) == 4
    assert set(run_names()) < set(many)
