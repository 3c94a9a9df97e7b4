"""Image parquet files in the Hugging Face layout: an image column (bytes, path) and a label column."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lessonplan.data.base import Options, Parts
from lessonplan.data.encoded import Buffer, Labelled, build
from lessonplan.data.labels import UNLABELLED, Unlabelled, to_labels
from lessonplan.errors import ConfigError, DataError

Bytes = npt.NDArray[np.uint8]
_IMAGES = ("image", "img")
_LABELS = ("label", "fine_label", "labels")


def from_parquet(path: Path, options: Options) -> Parts:
    """Sources from one file, a folder, or the common beginning of several files' names.

    In a folder (or its subfolder ``data``) the files ``train*`` are for training, ``test*`` for testing and
    ``validation*`` or ``val*`` decide during training (without ``test*``, or with unlabelled ones, they are for
    testing); without such names all files are one set.

    Raises:
        ConfigError: pyarrow is not installed. DataError: missing, damaged or other files.
    """
    train, test, validation = find_files(path)
    first = read_set(train, options)
    parts, unlabelled = {}, []
    for name, files in (("test", test), ("validation", validation)):
        try:
            if files:
                parts[name] = read_set(files, options)
        except Unlabelled:
            unlabelled.append(name)
    judged = parts.pop("test", None) or parts.pop("validation", None)
    found = build(first, judged, options, parts.get("validation"))
    found.notes |= {"unlabelled_parts": unlabelled} if unlabelled else {}
    return found


def find_files(path: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """The files for training, for testing, and for validation."""
    if path.is_file():
        return [path], [], []
    folder, start = (path, "") if path.is_dir() else (path.parent, path.name)
    if path.is_dir() and not any(path.glob("*.parquet")):
        folder = path / "data"
    files = sorted(f for f in folder.glob("*.parquet") if f.name.startswith(start)) if folder.is_dir() else []
    if not files:
        raise DataError(
            f"{path} is neither a parquet file, nor a folder with some, nor the beginning of their names"
        )

    def named(*words: str) -> list[Path]:
        return [f for f in files if f.name[len(start) :].lstrip("-_.").startswith(words)]

    train = named("train")
    return (train, named("test"), named("validation", "val", "dev")) if train else (files, [], [])


def read_set(files: Sequence[Path], options: Options) -> Labelled:
    """Encoded images, class numbers and class names of files that belong together."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as e:
        raise ConfigError("parquet files need pyarrow: pip install 'lessonplan[parquet]'") from e
    labels: list[Any] = []
    lengths: list[npt.NDArray[np.int64]] = [np.zeros(1, dtype=np.int64)]
    starts: list[tuple[int, str]] = []
    names: list[str] | None = None  # of the first file; numbers of the others are translated
    where = files[0]
    try:
        opened = []
        for where in files:
            opened.append(pq.ParquetFile(where))
        groups = [f.metadata.row_group(g).total_byte_size for f in opened for g in range(f.num_row_groups)]
        spool = Spool(on_disk=sum(groups) > options.memory_limit)
        for where, file in zip(files, opened, strict=True):
            image, label = columns(file.schema_arrow.names, where)
            own = class_names(file.schema_arrow.metadata, label)
            names = names if names is not None or where != files[0] else own
            renumber = _renumbered(own, names, where)
            starts.append((len(labels), where.name))
            for batch in file.iter_batches(batch_size=1024, columns=[image, label]):
                labels += [renumber.get(value, value) for value in batch.column(label).to_pylist()]
                data, sizes = image_bytes(batch.column(image), where)
                spool.add(data)
                lengths.append(sizes)
    except (pa.ArrowException, OSError) as e:
        raise DataError(f"{where} cannot be read as a parquet file ({str(e)[:200]})") from e

    def row_name(i: int) -> str:
        first, file = next(s for s in reversed(starts) if s[0] <= i)
        return f"{file} row {i - first}"

    numbers, known = class_numbers(labels, names, row_name)
    return Labelled(Buffer(spool.finish(), np.cumsum(np.concatenate(lengths)), row_name), numbers, known)


def _renumbered(own: list[str] | None, names: list[str] | None, where: Path) -> dict[int, int]:
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


def columns(present: Sequence[str], where: Path) -> tuple[str, str]:
    """The names of the image and of the label column."""
    image = next((n for n in _IMAGES if n in present), None)
    label = next((n for n in _LABELS if n in present), None)
    if image is None or label is None:
        raise DataError(
            f"{where} has the columns {', '.join(present)}: it needs one of {', '.join(_IMAGES)} and one of "
            f"{', '.join(_LABELS)}"
        )
    return image, label


def class_names(metadata: dict[bytes, bytes] | None, label: str) -> list[str] | None:
    """Class names in the schema's ``huggingface`` metadata, None without them."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(n) for n in names] if isinstance(names, list) and names else None


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


def class_numbers(
    labels: Sequence[Any], names: Sequence[str] | None, row_name: Callable[[int], str]
) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as class numbers, with names from the file or from the labels themselves."""
    count = len(names) if names is not None else None
    if labels and all(label is None or label == UNLABELLED for label in labels):
        raise Unlabelled(f"{row_name(0)} and all rows behind it are unlabelled (the label is {labels[0]!r})")
    for i, label in enumerate(labels):
        number = isinstance(label, int)
        unlabelled = label is None or (number and label < 0) or not isinstance(label, (int, str))
        if unlabelled or (number and count is not None and label >= count):
            allowed = f"0..{count - 1}" if count is not None else "a class number or name"
            raise DataError(f"{row_name(i)} has the label {label!r}, not {allowed}")
    if names is None or any(isinstance(label, str) for label in labels):
        return to_labels(list(labels))
    return torch.tensor(list(labels), dtype=torch.int64), tuple(names)


class Spool:
    """Bytes collected in memory, or in a file without a name that is mapped afterwards.

    Row groups cannot be read row by row; the file gives large sets random access in bounded memory.
    """

    def __init__(self, on_disk: bool) -> None:
        self.pieces: list[Bytes] = []
        self.file = tempfile.TemporaryFile() if on_disk else None  # noqa: SIM115 (closed by finish)

    def add(self, data: Bytes) -> None:
        """Append bytes.

        Raises:
            DataError: the disk is full.
        """
        if self.file is None:
            self.pieces.append(data.copy())
            return
        try:
            self.file.write(data.data)
        except OSError as e:
            raise DataError(f"no room for the images in {tempfile.gettempdir()} ({e}): set TMPDIR") from e

    def finish(self) -> Bytes:
        """All bytes as one array."""
        if self.file is None:
            return np.concatenate([np.empty(0, dtype=np.uint8), *self.pieces])
        self.file.flush()
        mapped: Bytes = np.memmap(self.file, dtype=np.uint8, mode="r")
        self.file.close()
        return mapped
