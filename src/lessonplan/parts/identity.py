"""Functions as part of an identity: two that do different things are described differently, in every process."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

_INSTALLED = [Path(sysconfig.get_paths()[kind]).resolve() for kind in ("stdlib", "purelib", "platlib")]
_OURS = Path(__file__).resolve().parents[1]


def describe_function(function: Any) -> str:
    """A function, class or callable object in a few words, as part of a run's identity.

    ``module:name``, and for what does not come from an installed package twelve hexadecimal digits that stand for
    its code, its defaults and what it refers to (constants, variables of the functions around it, global numbers
    and functions). So a function that is changed is another one, also under its old name. Code is compared as
    Python compiles it: another version of Python may call the same function another one.

    >>> import math
    >>> describe_function(math.sqrt)
    'math:sqrt'
    >>> describe_function(lambda x: x + 1) == describe_function(lambda x: x + 2)
    False
    """
    if isinstance(function, functools.partial):
        bound = [describe_value(value) for value in function.args]
        bound += [f"{name}={describe_value(value)}" for name, value in function.keywords.items()]
        return f"{describe_function(function.func)}({', '.join(map(str, bound))})"
    named = function if hasattr(function, "__qualname__") else type(function)
    module = getattr(named, "__module__", None) or "builtins"
    name = f"{module}:{named.__qualname__}"
    if is_installed(module) and named is function and "<" not in named.__qualname__:
        return name
    content = hashlib.sha256()
    for piece in _content(function, set()):
        content.update(piece.encode() + b"\0")
    return f"{name} {content.hexdigest()[:12]}"


def describe_value(value: Any) -> Any:
    """An option's value as JSON can hold it; functions described, lists and tuples as lists."""
    if isinstance(value, (list, tuple)):
        return [describe_value(item) for item in value]
    if callable(getattr(value, "config", None)):  # a part made of parts
        return value.config()
    return describe_function(value) if callable(value) else value


def is_installed(module: str) -> bool:
    """Whether a module comes with Python or a package, whose code is its version's and not the user's."""
    if module == "__main__":
        return False
    found = sys.modules.get(module)
    file = getattr(found, "__file__", None)
    if found is None or file is None:
        return found is not None  # built in
    path = Path(file).resolve()
    return any(path.is_relative_to(folder) for folder in (*_INSTALLED, _OURS))


def _content(value: Any, seen: set[int]) -> Iterator[str]:
    """What a value is made of, in pieces of text without addresses."""
    if isinstance(value, (type(None), bool, int, float, complex, str, bytes)):
        yield repr(value)
        return
    if id(value) in seen:
        yield "again"
        return
    seen.add(id(value))
    yield type(value).__qualname__
    if isinstance(value, types.CodeType):
        yield from _code(value, seen)
    elif isinstance(value, types.FunctionType):
        yield from _function(value, seen)
    elif isinstance(value, types.MethodType):
        yield from _content(value.__func__, seen)
        yield from _content(value.__self__, seen)
    elif isinstance(value, types.ModuleType):
        yield value.__name__
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _content(item, seen)
    elif isinstance(value, (set, frozenset)):
        yield from sorted("\0".join(_content(item, set(seen))) for item in value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _content(key, seen)
            yield from _content(item, seen)
    elif isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().flatten()
        yield f"{value.dtype} {tuple(value.shape)} {_digest(flat.view(torch.uint8).numpy())}"
    elif hasattr(value, "tobytes") and hasattr(value, "dtype"):  # an array
        yield f"{value.dtype} {value.shape} {_digest(value.tobytes())}"
    elif isinstance(value, (types.BuiltinFunctionType, functools.partial)):
        yield describe_function(value)
    elif isinstance(value, type):
        yield from _class(value, seen)
    else:
        yield from _object(value, seen)


def _digest(content: Any) -> str:
    """What stands for many bytes."""
    return hashlib.sha256(content).hexdigest()


def _code(code: types.CodeType, seen: set[int]) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr((code.co_names, code.co_varnames, code.co_freevars))
    for constant in code.co_consts:
        yield from _content(constant, seen)


def _function(function: types.FunctionType, seen: set[int]) -> Iterator[str]:
    yield from _code(function.__code__, seen)
    yield from _content(function.__defaults__, seen)
    yield from _content(function.__kwdefaults__, seen)
    for cell in function.__closure__ or ():
        try:
            held = cell.cell_contents
        except ValueError:  # a variable that is not set yet
            yield "empty"
        else:
            yield from _content(held, seen)
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield from _referred(function.__globals__[name], seen)


def _referred(value: Any, seen: set[int]) -> Iterator[str]:
    """A global that a function names: its content where it is the user's, its name where it is installed."""
    module = getattr(value, "__module__", None)
    if isinstance(value, (types.FunctionType, type)) and isinstance(module, str) and is_installed(module):
        yield f"{module}:{value.__qualname__}"
    else:
        yield from _content(value, seen)


def _class(cls: type, seen: set[int]) -> Iterator[str]:
    yield f"{cls.__module__}:{cls.__qualname__}"
    if is_installed(cls.__module__):
        return
    for base in cls.__bases__:
        yield from _content(base, seen)
    for name, member in vars(cls).items():
        function = getattr(member, "__func__", member)  # of a class or static method
        if isinstance(function, types.FunctionType):
            yield name
            yield from _content(function, seen)
        elif not name.startswith("__") and isinstance(member, (bool, int, float, str, tuple)):
            yield name
            yield from _content(member, seen)


def _object(value: Any, seen: set[int]) -> Iterator[str]:
    """An object by its class and what it holds, but for whether a module is in training mode."""
    yield from _content(type(value), seen)
    if isinstance(value, os.PathLike) or not hasattr(value, "__dict__"):
        yield re.sub(r" at 0x[0-9a-f]+", "", repr(value))
        return
    for name, item in vars(value).items():
        if name != "training":
            yield name
            yield from _content(item, seen)
