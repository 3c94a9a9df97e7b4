"""Results are kept out of where data are read, whichever function is asked to write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lessonplan as lp
from lessonplan.data import load
from lessonplan.data.results_place import refuse_among_classes, results_folder
from lessonplan.errors import ConfigError, DataError

WRITERS: dict[str, Callable[[Any, Path], Any]] = {
    "fit": lambda data, out: lp.fit("fcnet-16", data, budget="1 steps", out=out),
    "compare": lambda data, out: lp.compare({"erm": "none"}, data=data, out=out, seeds=1, budget="1 steps"),
    "tune": lambda data, out: lp.tune("lr=1e-3..1e-1 log", data, out=out),
    "advise": lambda data, out: lp.advise(data, out=out, budget="1M cost"),
    "check_data": lambda data, out: lp.check_data(data, out=out),
    "find_lr": lambda data, out: lp.find_lr("fcnet-16", data, out=out),
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for i, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for place in range(3):
            noise = np.random.default_rng(3 * i + place).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(noise).save(root / name / f"{place}.png")
    return root


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_refuses_a_place_among_the_classes(photos: Path, writer: str) -> None:
    for data in (photos, str(photos), f"folder:{photos}"):
        if writer == "fit" and isinstance(data, Path):
            continue  # takes a text or what was loaded
        with pytest.raises(ConfigError, match=r"lies among the class folders of .*give a folder elsewhere"):
            WRITERS[writer](data, photos / "results")
    assert sorted(path.name for path in photos.iterdir()) == ["cat", "dog"]


def test_a_place_is_refused_only_where_it_would_be_read(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for data in ("digits", f"csv:{photos}", f"{photos}/missing", 3, None, (1, 2)):
        refuse_among_classes(photos / "results", data)
    for place in (photos.parent / "results", photos / ".results"):
        refuse_among_classes(place, photos)
        assert results_folder(place, "the search", photos) == place
    with pytest.raises(ConfigError, match="is a file: give a folder for the search"):
        results_folder(photos / "cat" / "0.png", "the search")
    refuse_among_classes("results", np.zeros(2))  # whose truth is not asked
    monkeypatch.chdir(photos)
    refuse_among_classes("results", "")  # evaluate, where the run knows its data


def test_an_empty_text_is_not_the_current_folder(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--data "$UNSET"`` trained on whatever lay there."""
    monkeypatch.chdir(photos)
    for data in ("", " "):
        with pytest.raises(DataError, match="an empty text: give a name or a path"):
            load(data)
    assert load(".").num_classes == 2


@pytest.mark.parametrize(
    "use",
    [
        lambda: lp.fit("fcnet-8", "digits", budget="1 steps", out=""),
        lambda: lp.compare("erm", out="", seeds=1, budget="1 steps"),
        lambda: lp.advise("digits", out="", budget="1M cost"),
        lambda: lp.load(""),
        lambda: lp.fit("fcnet-8", "digits", budget="1 steps", weights=" "),
    ],
    ids=["fit", "compare", "advise", "load", "weights"],
)
def test_an_empty_text_is_no_place(
    use: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--out "$UNSET"`` wrote a run between the files of the current folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="an empty text names no folder and no file"):
        use()
    assert not list(tmp_path.iterdir())
