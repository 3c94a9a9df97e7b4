"""Parts of the user's own in texts: ``mypackage.mixes:Mine:k=3``, ``mixes.py:Mine``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lessonplan.errors import ConfigError, unknown

_ADDRESS = re.compile(
    r"(?P<home>[^:,=|]+\.py|[A-Za-z_][\w.]*):(?P<name>[A-Za-z_]\w*)(?::(?P<options>.*))?", re.DOTALL
)
_loaded: dict[Any, Own] = {}


@dataclass(frozen=True)
class Own:
    """A class or function of the user's own.

    Attributes:
        target: the class or function.
        address: ``module:name`` or ``FILE.py:name``, as it was written.
        options: what stood behind it, ``"k=3,p=0.5"`` or nothing.
        digest: twelve hexadecimal digits that stand for the content of the file it is in.
    """

    target: Any
    address: str
    options: str
    digest: str

    @property
    def identity(self) -> str:
        """The address and the file's content, as part of a run's identity."""
        return f"{self.address} {self.digest}"


def is_own(text: str) -> bool:
    """Whether a text is an address: of a file, a dotted module, or a module that is there.

    Known names with options are to be asked for first.

    >>> is_own("mypackage.mixes:Mine:k=3"), is_own("mixes.py:Mine"), is_own("mixup:alpha=0.4"), is_own("mixup")
    (True, True, False, False)
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        return False
    home = match["home"]
    if home.endswith(".py") or "." in home:
        return True
    _search_here()
    try:
        return importlib.util.find_spec(home) is not None
    except ValueError:  # __main__ has none
        return home in sys.modules


def load_own(text: str) -> Own:
    """Import what an address names; modules are looked for in the working directory too.

    Args:
        text: ``module:name`` or ``FILE.py:name``, options after another colon.

    Raises:
        ConfigError: no such module, file or name in it, or an import that fails.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            f"{text!r} is no address: write module:Class or FILE.py:Class, options after another colon"
        )
    home, name = match["home"], match["name"]
    module = _import(home)
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise unknown(f"name in {home}", name, public)
    file = getattr(module, "__file__", None)
    content = Path(file).read_bytes() if file is not None else b""
    own = Own(
        getattr(module, name), f"{home}:{name}", match["options"] or "", hashlib.sha256(content).hexdigest()[:12]
    )
    # A class of ours that a file merely imports keeps its own identity.
    if not getattr(own.target, "__module__", "").startswith("lessonplan."):
        _loaded[own.target] = own
    return own


def own_class(text: str, base: type, what: str) -> Own:
    """A class of the user's own that is a part of some kind.

    Args:
        text: its address, options after another colon.
        base: what it has to be derived from.
        what: the kind in words, ``"mix"``.

    Raises:
        ConfigError: there is none at the address, or it is of another kind.
    """
    own = load_own(text)
    if not (isinstance(own.target, type) and issubclass(own.target, base)):
        home = f"{base.__module__.rpartition('.')[0]}.{base.__name__}"
        raise ConfigError(f"{own.address} is no {what}: derive the class from {home}")
    return own


def own_of(target: Any) -> Own | None:
    """The address by which a class or function was loaded, or None."""
    try:
        return _loaded.get(target)
    except TypeError:  # cannot be hashed
        return None


def _import(home: str) -> ModuleType:
    try:
        if home.endswith(".py"):
            return _import_file(Path(home).expanduser())
        _search_here()
        return importlib.import_module(home)
    except ModuleNotFoundError as error:
        if error.name is not None and home.split(".")[0] == error.name.split(".")[0]:
            raise ConfigError(
                f"module {home} is not to be found: install it, start where it lies, or give FILE.py:Class"
            ) from None
        raise ConfigError(f"{home} cannot be imported: it needs {error.name}, which is not installed") from error
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{home} cannot be imported: {type(error).__name__}: {error}") from error


def _search_here() -> None:
    """Look for modules in the working directory too, as ``python -m`` does."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _import_file(path: Path) -> ModuleType:
    """A file as a module of its own, imported once for each content."""
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: give the Python file that holds the class")
    content = hashlib.sha256(str(path.resolve()).encode() + path.read_bytes()).hexdigest()[:12]
    name = f"lessonplan_own_{path.stem}_{content}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} cannot be imported: give a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
