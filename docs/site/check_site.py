"""Look at a built site: nothing comes from the net, no link is dead. ``python docs/site/check_site.py FOLDER``."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# what a browser fetches by itself; an <a> is followed by readers alone
LOADED = {
    "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src",
    "embed": "src", "object": "data", "link": "href", "use": "href", "image": "href",
}  # fmt: skip
NOT_LOADED = {"canonical", "prev", "next", "alternate"}
STYLE = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")


class Page(HTMLParser):
    """The names that can be linked on a page, and what it loads and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = {"", "__search", "__toc", "__drawer"}
        self.loads: list[str] = []
        self.links: list[str] = []
        self._style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names |= {given[name] for name in ("id", "name") if name in given}
        self._style = tag == "style"
        if tag in LOADED and LOADED[tag] in given and given.get("rel") not in NOT_LOADED:
            self.loads.append(given[LOADED[tag]])
        self.loads += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]
        self.loads += styled(given.get("style", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])

    def handle_data(self, data: str) -> None:
        if self._style:
            self.loads += styled(data)


def styled(text: str) -> list[str]:
    """The addresses in a style sheet."""
    return [first or second for first, second in STYLE.findall(text)]


def problems(site: Path) -> list[str]:
    """A sentence for each address that is wrong."""
    found = []
    page = cache(lambda path: Page(path.read_text(encoding="utf-8")))
    for file in sorted(site.rglob("*.html")):
        here = page(file)
        if file.name == "404.html":  # a server shows it at any address: its own are from the root
            found += [_wrong(site, file, address, page) for address in here.loads if urlsplit(address).netloc]
            continue
        found += [_wrong(site, file, address, page) for address in here.loads]
        found += [_wrong(site, file, address, page) for address in here.links if not urlsplit(address).scheme]
    for file in sorted(site.rglob("*.css")):
        addresses = styled(file.read_text(encoding="utf-8"))
        found += [_wrong(site, file, address, page) for address in addresses]
    return [problem for problem in found if problem]


def _wrong(site: Path, file: Path, address: str, page: Callable[[Path], Page]) -> str:
    parts = urlsplit(address)
    if parts.scheme in ("data", "blob", "about"):
        return ""
    where = f"{file.relative_to(site)}: {address}"
    if parts.scheme or parts.netloc:
        return f"{where} comes from the net"
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if not target.is_file():
        return f"{where} is not there"
    if target.suffix == ".html" and unquote(parts.fragment) not in page(target).names:
        return f"{where} has no such place"
    return ""


if __name__ == "__main__":
    told = problems(Path(sys.argv[1]).resolve())
    print(*told[:50], sep="\n")
    print(f"{len(list(Path(sys.argv[1]).rglob('*.html')))} pages looked at, {len(told)} wrong addresses")
    sys.exit(bool(told))
