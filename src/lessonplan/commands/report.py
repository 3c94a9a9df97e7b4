"""``lessonplan report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lessonplan.commands.answer import TALK, Answer, Talk
from lessonplan.commands.common import Flat, Folder
from lessonplan.errors import ConfigError
from lessonplan.stores import fetched, is_url


@dataclass(frozen=True)
class Report:
    """Options of ``lessonplan report``."""

    folder: Annotated[Folder, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """folder of a run, a comparison, a reproduction or a tournament, or its URL (whose pages are written to a
    copy)"""
    talk: Annotated[Talk, Flat] = TALK

    watch: bool = False
    """serve a page over a comparison that is running, to this machine alone: runs done, running and failed, time
    left, curves so far; Ctrl-C ends it"""
    port: int | None = None
    """of the page that --watch serves; a free one if not given"""

    def run(self) -> Answer:
        """Write the pages again, or serve one."""
        if self.watch:
            return self._watch()
        if self.port is not None:
            raise ConfigError("--port is for the page that --watch serves: give both, or none")
        from lessonplan.report import write_pages

        page = write_pages(fetched(self.folder, run=False))
        return Answer({"page": page}, lambda: print(f"page: {page}"))

    def _watch(self) -> Answer:
        if is_url(self.folder):
            raise ConfigError(
                f"--watch looks at a folder of this machine: give lessonplan report {self.folder} now and then"
            )
        import sys
        from contextlib import suppress

        from lessonplan.report.watching import Watch

        with Watch(Path(self.folder), self.port or 0) as server, suppress(KeyboardInterrupt):
            print(f"page: {server.address} (Ctrl-C ends it)", file=sys.stderr, flush=True)
            server.serve_forever()
        return Answer({"page": server.address}, lambda: None)
