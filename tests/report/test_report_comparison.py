"""The comparison's page: what it says must be what the folder holds, and nothing of it may run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lessonplan.errors import DataError, LessonplanWarning
from lessonplan.report import write_comparison, write_run

VOID = {"meta", "link", "br", "img", "input", "path", "use"}


class Page(HTMLParser):
    """Every element with its attributes and the text inside it, and whether all tags were closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[int] = []
        self.balanced = True
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.elements[self.open.pop()][0] != tag:
            self.balanced = False

    def handle_data(self, data):
        for index in self.open:
            self.elements[index][2].append(data)

    def all(self, tag: str, **attributes: str) -> list[tuple[dict[str, str | None], str]]:
        return [
            (attrs, " ".join("".join(text).split()))
            for name, attrs, text in self.elements
            if name == tag and all(attrs.get(key) == value for key, value in attributes.items())
        ]

    def results(self) -> dict[str, list[str]]:
        """Method -> the cells of its row in the results table."""
        start = next(
            i for i, (tag, attrs, _) in enumerate(self.elements) if attrs.get("class") == "sortable results"
        )
        rows: dict[str, list[str]] = {}
        name = ""
        for tag, attrs, text in self.elements[start + 1 :]:
            if tag == "table":
                break
            if tag == "th" and attrs.get("scope") == "row":
                name = str(attrs["data-value"])
                rows[name] = []
            elif tag == "td":
                rows[name].append(" ".join("".join(text).split()))
        return rows


@pytest.fixture(scope="module")
def written(tmp_path_factory, synthetic):
    root = tmp_path_factory.mktemp("comparison")
    results = synthetic.write_comparison_folder(root)
    write_run(root / "runs/m1-seed0-0a1b2c3d")
    return root, results, Page(write_comparison(root))


def test_is_one_small_self_contained_well_formed_file(written):
    root, _, page = written
    assert (root / "index.html").stat().st_size < 3_000_000
    assert not list(root.glob(".index*"))
    assert page.balanced
    assert not page.open
    addresses = [attrs.get(key) for _, attrs, _ in page.elements for key in ("src", "href", "xlink:href")]
    for address in filter(None, addresses):
        inner = address.startswith(("#", "data:"))
        assert inner or (root / address).exists(), address
    assert "@import" not in page.source
    assert re.findall(r"url\((?!#)[^)]*\)", page.source) == []


def test_ids_are_unique_and_references_resolve(written):
    _, _, page = written
    ids = [attrs["id"] for _, attrs, _ in page.elements if attrs.get("id")]
    assert len(ids) == len(set(ids))
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', page.source)
    assert used
    assert {first or second for first, second in used} <= set(ids)


def test_table_numbers_are_those_of_the_results(written):
    _, results, page = written
    rows = page.results()
    assert list(rows) == [method["name"] for method in results["methods"]]
    for method in results["methods"]:
        cells = rows[method["name"]]
        low, high = method["ci_t"]
        assert cells[0] == str(method["n"])
        assert cells[1] == f"{100 * method['mean']:.2f}[{100 * low:.2f}, {100 * high:.2f}]"
        assert cells[6] == f"{method['test_loss']:.3f}"
        assert cells[8] == "90,000"
        difference = method["difference"]
        if difference is None:
            assert cells[3:6] == ["\N{EN DASH}", "\N{EN DASH}", "reference"]
            continue
        signed = [
            f"{100 * value:+.2f}".replace("-", "\N{MINUS SIGN}")
            for value in (difference["mean"], *difference["ci_t"])
        ]
        assert cells[3] == f"{signed[0]}[{signed[1]}, {signed[2]}]"
        assert cells[5].split()[-1] == difference["verdict"]


def test_holds_every_part_in_order(written):
    _, _, page = written
    sections = [attrs["id"] for attrs, _ in page.all("section")]
    assert sections == [
        "results", "classes", "source", "curves", "scores", "examples", "figures", "cost", "failures", "runs",
        "configuration", "environment",
    ]  # fmt: skip
    plots = page.all("svg", role="img")
    # Four measures of validation data, loss of the updates, norm and clock against three axes (no clock against
    # itself), with scores, differences and two bars of cost.
    axes = [attrs["id"] for attrs, _ in page.all("input", type="radio")]
    assert axes == ["axis-cost", "axis-epochs", "axis-updates"][: len(axes)]
    assert len(plots) == 7 * len(axes) + 4
    assert all(attrs.get("aria-label") for attrs, _ in plots)
    images = [attrs for attrs, _ in page.all("img")]
    assert [image["alt"] for image in images] == [
        "erm: images as they are", "mixup: two images, 0.70 and 0.30", "Figure 3.1: accuracy against K",
    ]  # fmt: skip
    assert {(image["width"], image["height"]) for image in images} == {("120", "60")}
    assert "A. Author, 2020 & later" in [text for _, text in page.all("p")]
    assert [text for _, text in page.all("span", **{"class": "verdict not"})] == ["did not hold"]
    assert "Ours is <smaller> than theirs." in [text for _, text in page.all("p")]
    assert "Table 3.1: error" in [text for _, text in page.all("caption")]
    cells = [text for _, text in page.all("td")]
    assert cells.index("0.651") + 1 == cells.index("0.66")


def test_answer_names_the_verdicts(written):
    _, results, page = written
    (answer,) = [text for _, text in page.all("p", **{"class": "answer"})]
    for method in results["methods"][1:]:
        word = method["difference"]["verdict"]
        clause = next(part for part in re.split("[;:.] ", answer) if method["name"] in part)
        assert word in clause
    assert "the same cost (90,000 forward passes per run)" in answer


def test_curves_of_failed_runs_do_not_cut_the_others_short(written):
    _, _, page = written
    labels = [str(attrs["aria-label"]) for attrs, _ in page.all("svg") if "validation acc" in str(attrs)]
    (label,) = [label for label in labels if "against cost" in label]
    ends = {name: float(value) for name, value in re.findall(r"(\w+) (\d+\.?\d*)(?:,| and|\.$)", label)}
    assert ends["cascade"] > 70  # after four epochs, where its last seed failed, it had reached 44


def test_failures_and_links(written):
    _, _, page = written
    assert "NaN in the loss at step 40 <b>" in [text for _, text in page.all("td")]
    assert page.all("b") == []
    links = [attrs["href"] for attrs, text in page.all("a") if text == "open"]
    assert "runs/m1-seed0-0a1b2c3d/index.html" in links
    assert "runs/m0-seed0-0a1b2c3d/" in links


def test_user_strings_cannot_become_elements(written, synthetic):
    _, _, page = written
    scripts = page.all("script")
    assert len(scripts) == 1
    assert "alert(1)" not in scripts[0][1]
    assert synthetic.NASTY not in page.source
    assert synthetic.NASTY in page.results()
    policy = next(attrs["content"] for attrs, _ in page.all("meta") if attrs.get("http-equiv"))
    assert "script-src 'sha256-" in str(policy)


def test_addresses_in_results_are_not_trusted(tmp_path, synthetic):
    root = tmp_path / "comparison"
    results = synthetic.write_comparison_folder(root, skills={"erm": 0.8}, seeds=2, extras=False)
    (tmp_path / "outside").mkdir()
    for run, folder in zip(results["methods"][0]["runs"], ("javascript:alert(1)", "../outside"), strict=True):
        run["folder"] = folder
    (root / "results.json").write_text(json.dumps(results))
    page = Page(write_comparison(root))
    assert [attrs["href"] for attrs, _ in page.all("a") if not str(attrs["href"]).startswith("#")] == [
        "results.json"
    ]


def test_single_seed_decides_nothing(tmp_path, synthetic):
    synthetic.write_comparison_folder(tmp_path, skills={"erm": 0.8, "sum": 0.9}, seeds=1, val=False, extras=False)
    page = Page(write_comparison(tmp_path))
    assert "Nothing can be decided yet" in page.all("p", **{"class": "answer"})[0][1]
    assert page.results()["sum"][1].endswith("\N{EN DASH}")
    assert {"better", "worse"}.isdisjoint(page.results()["sum"])
    labels = [str(attrs["aria-label"]) for attrs, _ in page.all("svg", role="img")]
    assert any("training accuracy" in label for label in labels)
    assert not any("validation" in label for label in labels)


def test_one_shared_seed_has_a_difference_without_interval(tmp_path, synthetic):
    results = synthetic.write_comparison_folder(tmp_path, skills={"erm": 0.8, "sum": 0.9}, seeds=1, extras=False)
    lonely = dict.fromkeys(("ci_t", "ci_bootstrap", "p", "p_holm")) | {"mean": -0.0125, "verdict": "undecided"}
    results["methods"][1]["difference"] = lonely
    (tmp_path / "results.json").write_text(json.dumps(results))
    cells = Page(write_comparison(tmp_path)).results()["sum"]
    assert cells[3:6] == ["\N{MINUS SIGN}1.25\N{EN DASH}", "\N{EN DASH}", "undecided"]


def test_all_runs_failed_and_everything_null(tmp_path, synthetic):
    results = synthetic.write_comparison_folder(tmp_path, skills={"erm": 0.8, "sum": 0.9}, seeds=2, extras=False)
    for method in results["methods"]:
        for run in method["runs"]:
            run |= {key: None for key in run if key not in ("seed", "folder")} | {"status": "failed"}
        method |= dict.fromkeys(
            ("mean", "ci_t", "ci_bootstrap", "test_loss", "cost", "seconds", "param_norm", "difference", "finding")
        ) | {"n": 0}
    results |= {"config": {}, "environment": {}, "created": None}
    (tmp_path / "results.json").write_text(json.dumps(results))
    page = Page(write_comparison(tmp_path))
    assert set(page.results()["sum"]) == {"0", "\N{EN DASH}", "\N{EN DASH}\N{EN DASH}"}
    assert "None" not in re.sub(r"<(style|script).*?</\1>", "", page.source, flags=re.DOTALL)
    assert "nan" not in page.source


def test_heavy_pictures_are_packed_and_broken_ones_left_out(tmp_path, synthetic):
    synthetic.write_comparison_folder(tmp_path, skills={"erm": 0.8, "sum": 0.9}, seeds=2)
    noise = np.random.default_rng(0).integers(0, 255, (1500, 2000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "figures/a.png")
    (tmp_path / "figures/b.png").write_bytes((tmp_path / "figures/a.png").read_bytes()[:5000])
    with pytest.warns(LessonplanWarning, match=r"b\.png"):
        path = write_comparison(tmp_path)
    assert (tmp_path / "figures/a.png").stat().st_size > 3_000_000 > path.stat().st_size
    assert [attrs["alt"] for attrs, _ in Page(path).all("img")][-2:] == ["a", "Figure 3.1: accuracy against K"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no results.json"), ("{", "not valid JSON"), ('{"schema": 2}', "layout 2"), ("[]", "JSON object")],
)
def test_no_comparison_is_said_in_one_sentence(tmp_path, content, message):
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(DataError, match=message):
        write_comparison(tmp_path)
    assert not (tmp_path / "index.html").exists()


def test_report_never_imports_torch():
    code = "import sys, lessonplan.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
