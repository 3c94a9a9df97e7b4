"""The pages in results/ are complete: every link of theirs leads somewhere."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest

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
