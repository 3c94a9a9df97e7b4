"""The pages in results/ are complete: every link of theirs leads somewhere."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest

from lessonplan.kept_metrics import read_kept

ROOT = Path(__file__).parents[2] / "results"
PAGES = sorted(ROOT.glob("**/index.html"))


@pytest.mark.parametrize("page", PAGES, ids=[page.parent.relative_to(ROOT).as_posix() for page in PAGES])
def test_no_link_is_dead(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r'(?:href|src)="([^"]+)"', text):
        target, _, anchor = unquote(unescape(link)).partition("#")
        if target.startswith(("data:", "http", "mailto:")):
            continue
        assert not target or (page.parent / target).exists(), link
        if anchor and not target:
            assert f'id="{anchor}"' in text, link


SOURCES = sorted(ROOT.glob("**/source.json"))


@pytest.mark.parametrize("file", SOURCES, ids=[file.parent.relative_to(ROOT).as_posix() for file in SOURCES])
def test_ours_stand_apart(file: Path) -> None:
    """No stored comparison is as large as a source's: its numbers are in tables of their own, on the page too."""
    source, page = json.loads(file.read_text()), unescape((file.parent / "index.html").read_text())
    for table in source["tables"]:
        assert table["title"] in page
        if not table["title"].startswith(("Ours, of another experiment", "Not in the thesis")):
            assert "ours" not in f"{table['columns']} {[row[0] for row in table['rows']]}"


COMPARED = sorted(file.parent for file in ROOT.glob("**/results.json"))


def test_the_metrics_that_are_promised_are_there() -> None:
    """Of the comparisons that the README names, those of every run; of no other."""
    text = " ".join((ROOT / "README.md").read_text().split())
    sentence = re.search(r"Metrics by epoch are kept .*? in: (.*?)\. [A-Z]", text)
    assert sentence is not None
    promised = re.findall(r"`([\w.-]+)`", sentence[1])
    assert promised
    for folder in COMPARED:
        kept = read_kept(folder)
        runs = {
            run["folder"]
            for m in json.loads((folder / "results.json").read_text())["methods"]
            for run in m["runs"]
        }
        assert set(kept) == (runs if folder.relative_to(ROOT).parts[0] in promised else set()), folder
        size = sum(file.stat().st_size for file in folder.glob("metrics.jsonl.gz"))
        assert size < max(400_000, 24_000 * len(kept)), folder  # in all, or for each of many runs


def test_every_folder_has_its_command() -> None:
    text = (ROOT / "README.md").read_text()
    assert all(f"`{folder.name}`" in text for folder in ROOT.iterdir() if folder.is_dir())
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / link).exists(), link
