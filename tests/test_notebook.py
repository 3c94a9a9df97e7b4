"""What notebooks show: the numbers that are there, pictures that are PNGs, and no HTML by others."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

import lessonplan as lp
from lessonplan.lab.results import Results
from lessonplan.mix import parse_mix

EVIL = "<script>alert(1)</script>"


class Reader(HTMLParser):
    """Cells, images and whether every tag is closed."""

    VOID = ("img", "br", "path", "use", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.images: list[np.ndarray] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes) -> None:
        found = dict(attributes)
        self.tags.add(tag)
        self.ids += [found["id"]] if "id" in found else []
        if tag in ("td", "th"):
            self.cells.append("")
        if tag == "img":
            coded = found["src"].removeprefix("data:image/png;base64,")
            self.images.append(
                np.asarray(Image.open(io.BytesIO(base64.b64decode(coded, validate=True))).convert("L"))
            )
        elif tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes) -> None:
        self.tags.add(tag)
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


@pytest.fixture(scope="module")
def run() -> lp.Run:
    data = lp.data.load("digits", per_class=10, val_fraction=0.2)
    return lp.fit("fcnet-8", data, budget="3ep", threads=1, batch_size=20)


def test_a_run_is_a_table_and_curves(run: lp.Run) -> None:
    shown = Reader(run._repr_html_())
    assert f"{100 * run.result['test']['accuracy']:.2f}" in shown.cells
    assert f"{100 * run.result['val']['accuracy']:.2f}" in shown.cells
    assert {"svg", "path"} <= shown.tags
    assert len(re.findall("<svg", run._repr_html_())) == 2  # loss, accuracy
    assert len(shown.ids) == len(set(shown.ids))
    again = Reader(run._repr_html_())
    assert not set(shown.ids) & set(again.ids)  # two cells of one notebook


def test_a_run_without_history(run: lp.Run) -> None:
    shown = Reader(lp.Run(run.model, {"samples": 3}, [])._repr_html_())
    assert "3" in shown.cells
    assert "svg" not in shown.tags


def method(name: str, mean: float, difference: dict | None) -> dict:
    runs = [{"seed": seed, "test_accuracy": mean, "status": "finished"} for seed in (0, 1)]
    return {
        "name": name,
        "n": 2,
        "mean": mean,
        "ci_t": (mean - 0.01, mean + 0.01),
        "difference": difference,
        "runs": runs,
    }


def test_results_are_a_dictionary_with_a_table() -> None:
    difference = {"mean": 0.02, "ci_t": (0.01, 0.03), "p_holm": 0.004, "verdict": "better"}
    difference |= {"ci_bootstrap": (0.01, 0.03), "n": 2, "seeds": [0, 1], "differences": [0.02, 0.02]}
    content = {
        "title": f"erm, mixup {EVIL}",
        "reference": "erm",
        "level": 0.95,
        "methods": [method("erm", 0.8, None), method(EVIL, 0.82, difference)],
        "failures": [{"method": EVIL, "seed": 3, "error": "<b>out", "folder": "x"}],
    }
    results = Results(content)
    assert results == content
    text = results._repr_html_()
    shown = Reader(text)
    assert "script" not in shown.tags
    assert "b" not in shown.tags - {"b"}
    assert EVIL in shown.cells
    assert {"82.00", "+2.00", "better", "reference"} <= set(shown.cells)
    assert "&lt;b&gt;out" in text


def test_compare_gives_one(tmp_path) -> None:
    results = lp.compare(
        {"erm": lp.Plan(), "mixup": "mixup"}, data="digits", per_class=10, model="fcnet-8", seeds=1,
        budget="1ep", jobs=1, threads=1, out=tmp_path,
    )  # fmt: skip
    assert isinstance(results, Results)
    assert {"erm", "mixup"} <= set(Reader(results._repr_html_()).cells)


def test_data_are_sizes_and_a_contact_sheet() -> None:
    data = lp.data.load("digits", per_class=10, val_fraction=0.2)
    shown = Reader(data._repr_html_())
    assert {"8", "2", str(len(data.test))} <= set(shown.cells)
    [sheet] = shown.images
    assert min(sheet.shape) > 200
    assert len(np.unique(sheet)) > 10


def test_names_in_data_are_escaped_and_many_classes_are_cut() -> None:
    x = np.random.default_rng(0).integers(0, 255, (80, 4, 4)).astype(np.uint8)
    names = [f"{EVIL}{i % 20}" for i in range(80)]
    shown = Reader(lp.data.load((x, names))._repr_html_())
    assert "script" not in shown.tags
    assert "and 8 more" in shown.cells
    assert sum(cell.startswith(EVIL) for cell in shown.cells) == 12


def test_tables_have_no_pictures() -> None:
    shown = Reader(lp.data.load("table:iris")._repr_html_())
    assert shown.images == []
    assert "setosa" in shown.cells


@pytest.mark.parametrize("text", ["mixup", "cascade:k=4", "cutmix >> cutout", "mixup|cutmix", "sum:k=2,until=80%"])
def test_a_mix_shows_mixed_digits_and_stays_as_it_was(text: str) -> None:
    mix, other = parse_mix(text), parse_mix(text)
    x, y = torch.rand(16, 1, 8, 8), torch.arange(16) % 7
    for each in (mix, other):
        each.finish_setup(7, 3)
    shown = Reader(mix._repr_html_())
    [sheet] = shown.images
    assert len(np.unique(sheet)) > 10
    for a, b in zip(mix(x, y), other(x, y), strict=True):
        assert torch.equal(a, b)


def test_mixes_differ_in_their_pictures() -> None:
    sheets = [Reader(parse_mix(text)._repr_html_()).images[0] for text in ("mixup:alpha=5", "sum:k=4")]
    assert sheets[0].shape != sheets[1].shape or not np.array_equal(*sheets)


@pytest.mark.parametrize("kind", [lp.mix.base.ConfigError, RuntimeError, ValueError, TypeError, ZeroDivisionError])
def test_a_mix_that_digits_do_not_fit_says_so(kind: type[Exception]) -> None:
    class Picky(lp.mix.Mixup):
        def _mix(self, x, y):
            raise kind(f"not these {EVIL}")

    text = Picky()._repr_html_()
    shown = Reader(text)
    assert shown.images == []
    assert "no pictures: not these &lt;script&gt;" in text
