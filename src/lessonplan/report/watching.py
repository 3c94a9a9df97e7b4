"""A page over a running comparison, served to this machine alone: one address, and no other file is read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lessonplan.errors import ConfigError, LessonplanError
from lessonplan.report.live import REFRESH_SECONDS, live_context
from lessonplan.report.reading import read_results
from lessonplan.report.render import page_text

HOST = "127.0.0.1"


class Watch(ThreadingHTTPServer):
    """Serves the page; ``serve_forever`` works until ``shutdown``.

    Args:
        folder: of the comparison.
        port: of this machine, 0 to 65535; 0 takes a free one.
        renew: for a copy of a comparison elsewhere: fetches what has changed, and says whether somebody is at work
            there; called before the folder is read. None: the folder is the comparison's own.

    Raises:
        DataError: the folder is no comparison. ConfigError: the port cannot be had.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0, renew: Callable[[], bool] | None = None) -> None:
        read_results(folder)
        if not 0 <= port <= 65535:
            raise ConfigError(f"port={port}: give a port from 1 to 65535, or 0 for a free one")
        self._folder, self._renew = folder, renew
        self._lock = threading.Lock()
        self._read = -float("inf")
        self._page = b""
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise ConfigError(
                f"port {port} cannot be had ({error.strerror or error}): give another --port, or none"
            ) from None

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://{HOST}:{self.server_port}/"

    def page(self) -> bytes:
        """The page; however many ask, the folder is read once in some seconds."""
        with self._lock:
            if time.monotonic() - self._read >= REFRESH_SECONDS / 2:
                at_work = None if self._renew is None else self._renew()
                shown = page_text(self._folder, "live.html", lambda: live_context(self._folder, at_work))
                self._page = shown.encode("utf-8", errors="replace")
                self._read = time.monotonic()
            return self._page


class _Handler(BaseHTTPRequestHandler):
    server: Watch
    server_version = "lessonplan"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        self._answer(self.wfile.write)

    def do_HEAD(self) -> None:
        self._answer(lambda content: None)

    def _answer(self, write: Callable[[bytes], Any]) -> None:
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in (HOST, "localhost"):  # another site's name that was made to lead here
            self._send(
                HTTPStatus.MISDIRECTED_REQUEST, b"this page is for this machine alone\n", "text/plain", write
            )
        elif self.path.partition("?")[0] != "/":
            self._send(HTTPStatus.NOT_FOUND, b"there is one page: /\n", "text/plain", write)
        else:
            try:
                content = self.server.page()
            except LessonplanError as error:  # a file is being written, or was damaged; the next look may do
                self._send(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode(), "text/plain", write)
            else:
                self._send(HTTPStatus.OK, content, "text/html", write)

    def _send(self, status: HTTPStatus, content: bytes, kind: str, write: Callable[[bytes], Any]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Refresh", str(REFRESH_SECONDS))
        self.end_headers()
        write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is for the user."""
