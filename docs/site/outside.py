"""A hook of MkDocs: what the guides link outside of ``docs/`` becomes part of the site, and links follow.

So the guides read as they stand on the repository's web page, and no link of the site leads out of it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[2]
PAGES = ("results/README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
ELSEWHERE = {
    "README.md": "docs/index.md",
    "results": "results/README.md",
    "docs/methods": "docs/methods/README.md",
}
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")
FENCE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages beside ``docs/``, everything stored in ``results/``, and single files that pages link."""
    kept = [f.relative_to(ROOT).as_posix() for f in sorted((ROOT / "results").rglob("*")) if f.is_file()]
    linked = [
        target
        for page in [*PAGES, *(f"docs/{f.src_uri}" for f in files if f.is_documentation_page())]
        for target in _targets((ROOT / page).read_text(encoding="utf-8"), page)
    ]
    linked = [path for path in linked if not path.startswith("docs/")]
    outside = [path for path in linked if (ROOT / path).is_file()]
    for folder in dict.fromkeys(path for path in linked if (ROOT / path).is_dir()):
        shown = (file for file in (ROOT / folder).iterdir() if file.is_file() and file.suffix != ".gz")
        names = sorted(file.name for file in shown)
        outside += [f"{folder}/{name}" for name in names]
        listed = f"# `{folder}/`\n\n" + "".join(f"- [{name}]({quote(name)})\n" for name in names)
        level = InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, f"{folder}/index.md", content=listed, inclusion=level))
    for path in dict.fromkeys([*PAGES, *kept, *outside]):
        if not path.endswith(".gz"):
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links of the repository into links of the site."""
    source = _source(page.file.src_uri)
    if not (ROOT / source).exists():
        return markdown  # made while building: its links are the site's

    def turned(match: re.Match[str]) -> str:
        target = _resolved(match[2], source)
        place = posixpath.relpath(_place(target), posixpath.dirname(page.file.src_uri) or ".")
        return f"{match[1]}{quote(place)}{match[3] or ''}{match[4]}"

    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(turned, part) for part in parts)


def _targets(text: str, source: str) -> Iterator[str]:
    for match in LINK.finditer(FENCE.sub("", text)):
        yield _resolved(match[2], source)


def _resolved(link: str, source: str) -> str:
    """The file that a link in a file means, both from the repository's root."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), unquote(link)))
    return ELSEWHERE.get(target, target)


def _source(place: str) -> str:
    return place if place in PAGES else f"docs/{place}"


def _place(target: str) -> str:
    return f"{target}/index.md" if (ROOT / target).is_dir() else target.removeprefix("docs/")
