"""``lessonplan report``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from lessonplan.commands.answer import TALK, Answer, Talk
from lessonplan.commands.common import Flat, Folder
from lessonplan.errors import ConfigError
from lessonplan.stores import fetched, is_url, somebody_at_work


@dataclass(frozen=True)
class Report:
    """Options of ``lessonplan report``."""

    folder: Annotated[Folder, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """folder of a run, a comparison, a reproduction or a tournament, or its URL (whose pages are written to a
    copy)"""
    talk: Annotated[Talk, Flat] = TALK

    watch: bool = False
    """serve a page over a comparison that is running, to this machine alone: runs done, running and failed, time
    left, curves so far, of a folder or a URL; Ctrl-C ends it"""
    port: int | None = None
    """of the page that --watch serves; a free one if not given"""

    def run(self) -> Answer:
        """Write the pages again, or serve one."""
        if self.watch:
            return self._watch()
        if self.port is not None:
            raise ConfigError("--port is for the page that --watch serves: give both, or none")
        from lessonplan.report import write_pages

        page = write_pages(fetched(self.folder, "pages"))
        return Answer({"page": page}, lambda: print(f"page: {page}"))

    def _watch(self) -> Answer:
        import sys
        from contextlib import suppress

        from lessonplan.report.watching import Watch

        folder = fetched(self.folder, "progress")
        renew = self._renew if is_url(self.folder) else None
        with Watch(folder, self.port or 0, renew) as server, suppress(KeyboardInterrupt):
            print(f"page: {server.address} (Ctrl-C ends it)", file=sys.stderr, flush=True)
            server.serve_forever()
        return Answer({"page": server.address}, lambda: None)

    def _renew(self) -> bool:
        fetched(self.folder, "progress", quiet=True)
        return somebody_at_work(self.folder)
