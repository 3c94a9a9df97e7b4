"""MATLAB files, read in a process of their own: SciPy's reader crashes where a file is damaged."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lessonplan.child import reader
from lessonplan.errors import DataError, first_line

if TYPE_CHECKING:
    import numpy as np

Announced = Mapping[str, tuple[int, ...]]
CODE = "from lessonplan.matlab import main; main()"
_GO = b"go\n"
_SECONDS, _PER_SECOND = 30.0, 2 * 2**20  # a reader that hangs is ended; bytes of a file that it has a second for
_MORE = 2**30  # bytes of memory beyond three times what the file announces


def read_matlab(
    path: Path,
    arrays: Sequence[str],
    check: Callable[[Announced], None],
    *,
    columns: Sequence[str] = (),
) -> dict[str, np.ndarray[Any, Any]]:
    """Variables of a MATLAB file of version 5.

    Args:
        path: the file.
        arrays: names of the variables that are wanted; all must be there.
        check: is shown the shape of every variable before any is read, and may refuse.
        columns: where the variables are structures, their fields that are wanted instead, each as text ``(N,)``.

    Returns:
        arrays by name, of fields by the fields' names.

    Raises:
        DataError: the file is damaged or no such file; and what ``check`` raises.
    """
    wanted = json.dumps({"path": str(path), "arrays": list(arrays), "columns": list(columns)})
    seconds = _SECONDS + path.stat().st_size / _PER_SECOND
    with reader(CODE, wanted, seconds=seconds) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            check({name: tuple(shape) for name, shape in _said(child.stdout, path)["announced"].items()})
            child.stdin.write(_GO)
            child.stdin.flush()
            return {name: _array(child.stdout, path) for name in _said(child.stdout, path)["sent"]}
        except BrokenPipeError:
            raise _damaged(path, "its reader crashed") from None


class _Pipe:
    """A pipe, which NumPy takes for a file with positions if it is given as it is."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.read, self.write = pipe.read, pipe.write


def _said(answers: IO[bytes], path: Path) -> dict[str, Any]:
    line = answers.readline()
    found: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {"error": "its reader crashed"}
    if "error" in found:
        raise _damaged(path, found["error"])
    return found


def _array(answers: IO[bytes], path: Path) -> np.ndarray[Any, Any]:
    import numpy as np

    try:
        return np.lib.format.read_array(_Pipe(answers), allow_pickle=False)
    except (ValueError, EOFError):
        raise _damaged(path, "its reader crashed") from None


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path} is damaged or no MATLAB file of version 5 ({why}): fetch it again")


def _serve(wanted: dict[str, Any], asks: IO[bytes], answers: IO[bytes]) -> None:
    """The other process: say what there is, wait for leave, send what is wanted."""
    import numpy as np
    from scipy.io import loadmat, whosmat

    path = wanted["path"]
    shapes = {name: [int(side) for side in shape] for name, shape, _ in whosmat(path)}
    answers.write(json.dumps({"announced": shapes}).encode() + b"\n")
    answers.flush()
    if asks.readline() != _GO:
        return
    _bound_memory(sum(8 * math.prod(shape) for shape in shapes.values()))
    read = loadmat(path, variable_names=wanted["arrays"], squeeze_me=bool(wanted["columns"]))
    found = {name: np.asarray(read[name]) for name in wanted["arrays"]}
    for name in wanted["arrays"] if wanted["columns"] else ():
        table = np.atleast_1d(found.pop(name))
        found |= {field: np.array([_text(value) for value in table[field]]) for field in wanted["columns"]}
    answers.write(json.dumps({"sent": list(found)}).encode() + b"\n")
    for array in found.values():
        np.lib.format.write_array(_Pipe(answers), array, allow_pickle=False)
    answers.flush()


def _text(value: Any) -> str:
    """A field's value; MATLAB's numbers are of floating point, whole ones too."""
    one = value.item() if getattr(value, "size", 0) == 1 else value
    return str(int(one)) if isinstance(one, float) and one.is_integer() else str(one)


def _bound_memory(announced: int) -> None:
    try:
        import resource

        import psutil
    except ImportError:  # not on this system
        return
    most = psutil.Process().memory_info().vms + 3 * announced + _MORE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    """Serve the process that started this one; what the reader raises becomes a sentence."""
    answers = sys.stdout.buffer
    try:
        _serve(json.loads(sys.argv[1]), sys.stdin.buffer, answers)
    except NotImplementedError:
        answers.write(json.dumps({"error": "it is of version 7.3"}).encode() + b"\n")
    except Exception as error:
        answers.write(json.dumps({"error": first_line(error)}).encode() + b"\n")
