"""YAML, JSON and safetensors that others may have written: one sentence for what is wrong, bounded work."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lessonplan.errors import ConfigError, DataError, first_line

if TYPE_CHECKING:
    from torch import Tensor

_MOST = 256 * 2**20  # bytes of a packed file, unpacked
LARGEST_YAML = 4 * 2**20  # bytes; the configuration of a run with 21,000 classes has a tenth of that
_MOST_NODES = 500_000  # of a YAML file, those that anchors repeat counted every time
_DEEPEST = 50
_NAMES = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")  # what may stand before a colon: a name, and <<
# The C parser reads the largest recipe in a tenth of the time; it makes plain values only, as the other one does.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path, do: str = "put it back, or give another folder") -> Any:
    """Plain values from a YAML file.

    Args:
        path: the file; at most 4 MiB.
        do: what the user is told to do about a file that cannot be read.

    Raises:
        DataError: it cannot be read, is no YAML of plain values, or its anchors stand for too much.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_YAML + 1)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    if len(content) > LARGEST_YAML:
        raise DataError(f"{path} is larger than {LARGEST_YAML // 2**20} MiB, which no such file of ours is: {do}")
    try:
        return parse_yaml(content.decode("utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError, KeyError) as error:
        raise DataError(f"{path} is not valid YAML ({' '.join(str(error).split())[:200]}): {do}") from None


def parse_yaml(text: str) -> Any:
    """Plain values from YAML.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: it is none, holds more than plain values, or has something
            other than text before a colon (YAML reads ``1``, ``on`` and ``no`` as a number and truth values).

    >>> parse_yaml("a: [1, x]")
    {'a': [1, 'x']}
    """
    _check_depth(text)
    loader = _LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_depth(text: str) -> None:
    """Refuse deep nesting before a recursive parser meets it: by its events, which need no stack."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")


def _check_nodes(root: yaml.Node) -> None:
    """Refuse anchors that stand for each other until they explode, or never end; and names that are not text."""
    waiting, seen = [root], 0
    while waiting:
        node = waiting.pop()
        seen += 1
        if seen + len(waiting) > _MOST_NODES:
            raise ValueError(f"with its anchors written out it has more than {_MOST_NODES} values")
        if isinstance(node, yaml.MappingNode):
            for name, _ in node.value:
                _check_name(name)
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _check_name(name: yaml.Node) -> None:
    if name.tag not in _NAMES:
        said = name.value if isinstance(name, yaml.ScalarNode) else "several values"
        raise ValueError(
            f"line {name.start_mark.line + 1} has {said!r} before the colon, where a name is expected: write it"
            " in quotes if it is one"
        )


def read_json(path: Path, do: str = "write it again by repeating the command") -> dict[str, Any]:
    """A JSON object from a file.

    Args:
        path: the file.
        do: what the user is told to do about a file that cannot be read.

    Raises:
        DataError: the file is missing, is not JSON or holds something other than an object.
    """
    content = read_json_value(path, do)
    if not isinstance(content, dict):
        raise DataError(f"{path} should hold a JSON object, not a {type(content).__name__}: {do}")
    return content


def read_json_value(path: Path, do: str = "write it again by repeating the command") -> Any:
    """As :func:`read_json`, for a value of any kind."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({first_line(error)}): {do}") from None


def read_packed(path: Path, do: str = "write it again by repeating the command") -> bytes:
    """What a gzip file of ours holds.

    Raises:
        DataError: it cannot be read, is damaged, or holds more than any of ours does.
    """
    try:
        with gzip.open(path) as content:
            unpacked = content.read(_MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({first_line(error)}): {do}") from error
    if len(unpacked) > _MOST:
        raise DataError(f"{path} holds more than {_MOST // 2**20} MiB, as no file of ours does: {do}")
    return unpacked


def read_tensors(path: Path, do: str = "put it back, or give another folder") -> dict[str, Tensor]:
    """The tensors of a safetensors file by name.

    Raises:
        DataError: it cannot be read, or is damaged.
    """
    import safetensors.torch
    from safetensors import SafetensorError

    if not path.is_file():
        raise ConfigError(f"{path} is not there or is no file: {do}")
    try:
        return dict(safetensors.torch.load_file(path))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged or no safetensors file ({first_line(error)}): {do}") from None
