"""Stores for tests: fsspec's memory and local ones, and one that fails when it is told to."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

fsspec = pytest.importorskip("fsspec", reason="the extra fsspec is not installed")

from fsspec.implementations.memory import MemoryFileSystem  # noqa: E402

from lessonplan.stores import holding, sending  # noqa: E402
from lessonplan.stores import objects as objects_module  # noqa: E402


class Told(MemoryFileSystem):
    """A store in memory that calls ``before`` and ``after`` around whatever is asked of it.

    It shows an object when all of it is there, as S3 does (``protocol`` is one of those known to), and makes
    objects only where there is none.
    """

    protocol = "told"
    root_marker = ""
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    before: Callable[[str, str], None] = staticmethod(lambda operation, path: None)
    after: Callable[[str, str], None] = staticmethod(lambda operation, path: None)

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(str(path).replace("told://", "memory://"))

    def _asked(self, operation, path, work):
        type(self).before(operation, path)
        given = work()
        type(self).after(operation, path)
        return given

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        return self._asked("write", path, lambda: super(Told, self).pipe_file(path, value, mode=mode))

    def rm_file(self, path):
        return self._asked("remove", path, lambda: super(Told, self)._rm(path))

    def cat_file(self, path, **kwargs):
        return self._asked("read", path, lambda: super(Told, self).cat_file(path, **kwargs))

    def get_file(self, path, lpath, **kwargs):
        return self._asked("read", path, lambda: super(Told, self).get_file(path, lpath, **kwargs))

    def find(self, path, **kwargs):
        return self._asked("list", path, lambda: super(Told, self).find(path, **kwargs))


def failing_each(number: int) -> Callable[[str, str], None]:
    """Each so many-th call fails, as on a bad line."""
    count = itertools.count(1)

    def before(operation: str, path: str) -> None:
        if next(count) % number == 0:
            raise OSError("Connection reset by peer")

    return before


@pytest.fixture
def told(monkeypatch):
    """The class of ``told://``, empty, silent and a store that shows whole objects only."""
    fsspec.register_implementation("told", Told, clobber=True)
    monkeypatch.setattr(Told, "store", {})
    monkeypatch.setattr(Told, "pseudo_dirs", [""])
    monkeypatch.setattr(Told, "before", staticmethod(lambda operation, path: None))
    monkeypatch.setattr(Told, "after", staticmethod(lambda operation, path: None))
    monkeypatch.setattr(objects_module, "_WHOLE", objects_module._WHOLE | {"told"})
    monkeypatch.setattr(objects_module, "_ONE_STEP", objects_module._ONE_STEP | {"told"})
    return Told


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """Each test has a cache and a memory of its own, and nobody waits for long."""
    monkeypatch.setenv("LESSONPLAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    monkeypatch.setattr(objects_module, "_WAITS", (0.01, 0.01))
    monkeypatch.setattr(sending, "PERIOD_SECONDS", 0.05)
    monkeypatch.setattr(sending, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(holding, "READ_BACK_SECONDS", 0.2)
