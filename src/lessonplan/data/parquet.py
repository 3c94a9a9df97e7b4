"""Image parquet files in the Hugging Face layout: an image column (bytes, path) and a label column."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lessonplan.data.base import Options, Parts
from lessonplan.data.columns import IMAGES, LABELS, column_of
from lessonplan.data.encoded import Buffer, Labelled, build_parts
from lessonplan.data.labels import class_numbers, writable
from lessonplan.data.limits import check_ratio
from lessonplan.data.shards.pattern import by_part, is_pattern, matching
from lessonplan.errors import ConfigError, DataError
from lessonplan.extras import refuse_other_versions

Bytes = npt.NDArray[np.uint8]
TOGETHER = 128  # rows; a small file can hold a large picture very often


def from_parquet(path: Path, options: Options) -> Parts:
    """Sources from one file, a folder, the common beginning of several files' names, or a pattern of them.

    In a folder (or its subfolder ``data``) the files ``train*`` are for training, ``test*`` for testing and
    ``validation*`` or ``val*`` decide during training (without ``test*``, or with unlabelled ones, they are for
    testing); without such names all files are one set. Of a pattern (``shards.pattern``) names and folders may say
    the parts anywhere.

    Raises:
        ConfigError: pyarrow is not installed. DataError: missing, damaged or other files.
    """
    return build_parts(find_files(path), lambda files: read_set(files, options), options)


def find_files(path: Path) -> dict[str, list[Path]]:
    """The files for training, and perhaps for testing and for validation."""
    if path.is_file():
        return {"train": [path]}
    if is_pattern(str(path)):
        return by_part(matching(str(path), ".parquet"), str(path))
    folder, start = (path, "") if path.is_dir() else (path.parent, path.name)
    if path.is_dir() and not any(path.glob("*.parquet")):
        folder = path / "data"
        if not folder.is_dir():
            return by_part(matching(str(path), ".parquet"), str(path))
    files = sorted(f for f in folder.glob("*.parquet") if f.name.startswith(start)) if folder.is_dir() else []
    if not files:
        raise DataError(
            f"{path} is neither a parquet file, nor a folder with some, nor the beginning of their names"
        )

    def named(*words: str) -> list[Path]:
        return [f for f in files if f.name[len(start) :].lstrip("-_.").startswith(words)]

    train = named("train")
    parts = {"train": train, "test": named("test"), "validation": named("validation", "val", "dev")}
    return parts if train else {"train": files}


def read_set(files: Sequence[Path], options: Options) -> Labelled:
    """Encoded images, class numbers and class names of files that belong together.

    In memory where all row groups fit, otherwise left on the disk (``shards.groups``).
    """
    if sum(map(_unpacked, files)) > options.memory_limit:
        from lessonplan.data.shards.groups import read_shards  # which builds on this module

        return read_shards(files)
    labels: list[Any] = []
    lengths: list[npt.NDArray[np.int64]] = [np.zeros(1, dtype=np.int64)]
    pieces: list[Bytes] = [np.empty(0, dtype=np.uint8)]
    starts: list[tuple[int, str]] = []
    names: list[str] | None = None  # of the first file; numbers of the others are translated
    size, packed = 0, sum(f.stat().st_size for f in files)
    for where in files:
        with reading(where) as pq, pq.ParquetFile(where) as file:
            image, label = columns(file.schema_arrow.names, where)
            own = class_names(file.schema_arrow.metadata, label)
            names = names if names is not None or where != files[0] else own
            numbers = renumbered(own, names, where)
            starts.append((len(labels), where.name))
            for batch in file.iter_batches(batch_size=TOGETHER, columns=[image, label]):
                labels += [as_the_first(numbers, value) for value in batch.column(label).to_pylist()]
                data, sizes = image_bytes(batch.column(image), where)
                pieces.append(data.copy())
                size += len(data)
                check_ratio(where, size, packed)
                lengths.append(sizes)

    def row_name(i: int) -> str:
        first, file = next(s for s in reversed(starts) if s[0] <= i)
        return f"{file} row {i - first}"

    classes, known = class_numbers(labels, names, row_name)
    return Labelled(Buffer(np.concatenate(pieces), np.cumsum(np.concatenate(lengths)), row_name), classes, known)


@contextmanager
def reading(where: Path) -> Iterator[Any]:
    """Parquet's reader, whose errors become one sentence on the file that is read.

    Raises:
        ConfigError: pyarrow is not installed. DataError: the file cannot be read.
    """
    refuse_other_versions("parquet")
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as e:
        raise ConfigError("parquet files need pyarrow: pip install 'lessonplan[parquet]'") from e
    try:
        yield pq
    except DataError:
        raise
    except (pa.ArrowException, OSError, MemoryError, ValueError, OverflowError, KeyError) as e:
        raise DataError(f"{where} cannot be read as a parquet file ({str(e)[:200]})") from e


def _unpacked(where: Path) -> int:
    """Bytes of a file's row groups."""
    with reading(where) as pq:
        told = pq.read_metadata(where)
        return sum(told.row_group(group).total_byte_size for group in range(told.num_row_groups))


def renumbered(own: list[str] | None, names: list[str] | None, where: Path) -> dict[int, int]:
    """What a file's class numbers are among the first file's; they have names of their own.

    Raises:
        DataError: only one of both has names, or this one knows a class that the first does not.
    """
    if own == names:
        return {}
    strange = sorted(set(own or ()) - set(names or ()))
    if own is None or names is None or strange:
        what = (
            f"has the classes {', '.join(strange[:3])}, which the first file lacks" if strange else "has no names"
        )
        raise DataError(f"{where} {what}: files of one set must have the same classes")
    return {number: names.index(name) for number, name in enumerate(own)}


def as_the_first(numbers: dict[int, int], value: Any) -> Any:
    """A label under the first file's numbers; what is no number stays what it is."""
    return numbers.get(value, value) if isinstance(value, int) else value


def columns(present: Sequence[str], where: Path) -> tuple[str, str]:
    """The names of the image and of the label column."""
    image, label = column_of(present, IMAGES), column_of(present, LABELS)
    if image is None or label is None:
        raise DataError(
            f"{where} has the columns {', '.join(present)}: it needs one of {', '.join(IMAGES)} and one of "
            f"{', '.join(LABELS)}"
        )
    return image, label


def class_names(metadata: dict[bytes, bytes] | None, label: str) -> list[str] | None:
    """Class names in the schema's ``huggingface`` metadata, None without them."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return [writable(str(n)) for n in names] if isinstance(names, list) and names else None


def image_bytes(column: Any, where: Path) -> tuple[Bytes, npt.NDArray[np.int64]]:
    """The encoded images of a column, one after the other, and the length of each (0 where there is none)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_struct(column.type):
        if column.type.get_field_index("bytes") < 0:
            raise DataError(f"{where}: the image column has no field 'bytes'")
        column = pc.struct_field(column, "bytes")
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        raise DataError(f"{where}: the image column holds {column.type}, not encoded images (bytes)")
    column = pc.fill_null(column.cast(pa.large_binary()), b"")
    ends = np.frombuffer(column.buffers()[1], dtype=np.int64)[column.offset : column.offset + len(column) + 1]
    values = column.buffers()[2]
    data = np.frombuffer(values, dtype=np.uint8) if values is not None else np.empty(0, dtype=np.uint8)
    return data[ends[0] : ends[-1]], np.diff(ends)
