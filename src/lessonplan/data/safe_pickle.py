"""Read pickles of plain values and number arrays, and nothing else: no code of the file is ever run."""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lessonplan.errors import DataError


class _Dtype:
    """A NumPy type as a pickle describes it."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like: bytes have none."""


class _Array:
    """A NumPy array as a pickle describes it."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = np.empty(0, dtype=np.uint8)

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        self.fill(raw, dtype, shape, "F" if fortran else "C")

    def fill(self, raw: Any, dtype: Any, shape: Any, order: str) -> _Array:
        if not isinstance(dtype, _Dtype) or dtype.name != "u1":
            raise pickle.UnpicklingError("arrays must hold unsigned bytes")
        if not isinstance(raw, (bytes, bytearray)):
            raise pickle.UnpicklingError("an array must come with its bytes")
        data = np.frombuffer(bytes(raw), dtype=np.uint8)
        self.value = data.reshape(shape, order="F" if order == "F" else "C")
        return self


class _Stand:
    """Stands for a global that a pickle names; can be called and nothing else, least of all changed."""

    make: Callable[..., Any]
    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "make", make)

    def __call__(self, *args: Any) -> Any:
        return self.make(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("a global cannot be changed")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a global cannot be changed")


def _dtype(name: Any, *_flags: Any) -> _Dtype:
    return _Dtype(name.decode("ascii") if isinstance(name, bytes) else str(name))


def _encode(text: Any, _encoding: Any = "latin1") -> bytes:
    return text if isinstance(text, bytes) else str(text).encode("latin1")


_STANDS: dict[tuple[str, str], Callable[..., Any]] = {
    ("multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numeric", "_frombuffer"): lambda raw, dtype, shape, order: _Array().fill(raw, dtype, shape, order),
    ("numpy", "ndarray"): lambda *_: _Array(),
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): lambda: b"",
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Our own stand-in for the few names that number arrays need; an error for all others."""
        inside = module in ("_codecs", "__builtin__") or module.split(".")[0] == "numpy"
        make = _STANDS.get((module.split(".")[-1], name)) if inside else None
        if make is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _Stand(make)


def load_plain(path: Path) -> Any:
    """Load a pickle of dictionaries, lists, strings, numbers and arrays of bytes.

    Args:
        path: the file; strings of Python 2 come as bytes.

    Raises:
        DataError: a damaged file, or one that asks for anything else.
    """
    try:
        with path.open("rb") as file:
            _check_numbers(file)
            file.seek(0)
            return _plain(_Unpickler(file, encoding="bytes").load())
    except pickle.UnpicklingError as e:
        raise DataError(f"{path} is damaged or holds more than plain data, and was not loaded ({e})") from e
    except Exception as e:  # a damaged pickle can make the reader raise anything
        raise DataError(f"{path} cannot be read ({type(e).__name__}: {e}): fetch it again") from e


def _check_numbers(file: BinaryIO) -> None:
    """Refuse an object's number beyond what there can be: the unpickler makes room for as many, up to 64 GB."""
    for operation, number, position in pickletools.genops(file):
        if operation.name in _NUMBERING and int(number or 0) > (position or 0):
            raise pickle.UnpicklingError(f"its object number {number} begins at byte {position}")


_NUMBERING = ("PUT", "BINPUT", "LONG_BINPUT")


def _plain(value: Any, known: dict[int, Any] | None = None) -> Any:
    """Descriptions of arrays to arrays, keys to text; what is there several times is done once."""
    known = {} if known is None else known
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        if id(value) not in known:
            known[id(value)] = None  # in itself it would be without end
            known[id(value)] = {_text(k): _plain(v, known) for k, v in value.items()}
        return known[id(value)]
    return value


def _text(key: Any) -> Any:
    return key.decode("latin1") if isinstance(key, bytes) else key
