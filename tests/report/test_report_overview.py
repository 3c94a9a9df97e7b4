"""The page over several comparisons, and all pages of a folder written again."""

from __future__ import annotations

import json

import pytest

from lessonplan.errors import DataError
from lessonplan.report import write_overview, write_pages


@pytest.fixture
def several(tmp_path, synthetic):
    for part in ("small, 100 per class", "large"):
        synthetic.write_comparison_folder(tmp_path / part, skills={"erm": 0.85, "mixup": 0.91}, seeds=2)
    about = {"title": "Two <comparisons>", "parts": ["small, 100 per class", "large"]}
    (tmp_path / "overview.json").write_text(json.dumps(about))
    return tmp_path


def test_links_every_comparison_and_says_what_was_found(several):
    text = write_overview(several).read_text()
    assert "Two &lt;comparisons&gt;" in text
    assert 'href="small%2C%20100%20per%20class/index.html"' in text
    assert 'href="large/index.html"' in text
    finding = json.loads((several / "large" / "results.json").read_text())["methods"][0]["finding"]
    assert text.count(finding) == 2


@pytest.mark.slow
def test_every_page_is_written_again(several):
    page = write_pages(several)
    assert page == several / "index.html"
    runs = list(several.glob("*/runs/*/config.yaml"))
    assert runs
    assert all((run.parent / "index.html").exists() for run in runs)
    assert (several / "large" / "index.html").exists()


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(DataError, match="is no run"):
        write_pages(tmp_path)


def test_claims_over_all_comparisons_are_shown(tmp_path):
    (tmp_path / "overview.json").write_text(
        '{"title": "T", "parts": [], "claims": ["held in 2 of 2 parts: A < B."]}'
    )
    assert "<li>held in 2 of 2 parts: A &lt; B.</li>" in write_overview(tmp_path).read_text()
