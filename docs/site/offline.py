"""A hook of MkDocs: search in pages that are opened as files, without the script that Material takes from afar."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

THEIRS = "https://unpkg.com/iframe-worker/shim"
OURS = "site/frame_worker.js"


def on_post_build(config: Any) -> None:
    """Put the address of our own script into every page."""
    site = Path(config.site_dir)
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if THEIRS in text:
            page.write_text(text.replace(THEIRS, os.path.relpath(site / OURS, page.parent)), encoding="utf-8")
