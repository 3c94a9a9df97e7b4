"""The documentation in a real browser: every page fits a phone and a desk, shows its pictures, and is found."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

HERE = Path(__file__).parent
SITE = HERE.parents[1] / "site"
KEPT = ("results", "demo")  # pages of comparisons are looked at in test_page.py
FEWEST = 60  # pages that the documentation has


@pytest.fixture(scope="module")
def seen(browser: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the browser saw of each page at each width, and what a search found."""
    assert (SITE / "index.html").is_file(), "make docs builds it, and make test-browser before these tests"
    pages = [SITE / "index.html", *sorted(p for p in SITE.rglob("*.html") if _ours(p.relative_to(SITE)))]
    work = tmp_path_factory.mktemp("site")
    probe = work / "site.html"
    addresses = json.dumps([page.as_uri() for page in pages])
    probe.write_text((HERE / "site.html").read_text().replace("PAGES_AS_JSON", addresses))
    command = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        f"--user-data-dir={work / 'profile'}", "--allow-file-access-from-files", "--window-size=1400,1000",
        "--virtual-time-budget=600000", "--dump-dom", probe.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    found = re.search(r'<pre id="report">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert found, f"the probe wrote no report (exit {done.returncode}): {done.stderr[-2000:]}"
    report: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return report


def _ours(page: Path) -> bool:
    return page.as_posix() not in ("404.html", "index.html") and page.parts[0] not in KEPT


def test_no_page_scrolls_sideways(seen: dict[str, Any]) -> None:
    assert len({page["page"] for page in seen["pages"]}) >= FEWEST
    assert {page["width"] for page in seen["pages"]} == {390, 1280}
    assert [(page["page"], page["width"]) for page in seen["pages"] if page["overflow"] > 0] == []


def test_every_page_has_a_heading_and_its_pictures(seen: dict[str, Any]) -> None:
    headings = {page["page"]: page["heading"].removesuffix("¶").strip() for page in seen["pages"]}
    compared = 0
    for source in sorted((SITE.parent / "docs").rglob("*.md")):
        page = (SITE / source.relative_to(SITE.parent / "docs")).with_suffix(".html").as_uri()
        first = source.read_text(encoding="utf-8").partition("\n")[0]
        if page in headings and "[" not in first:  # a link in it shows other words
            compared += 1
            assert headings[page] == re.sub("[`*]", "", first.removeprefix("#")).strip()
    assert compared >= FEWEST / 2
    assert [page["missing"] for page in seen["pages"] if page["missing"]] == []


def test_the_search_finds_a_card_without_a_server(seen: dict[str, Any]) -> None:
    assert any("methods/accuracy-filter" in link for link in seen["found"])
