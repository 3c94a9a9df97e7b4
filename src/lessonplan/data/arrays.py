"""Sources that are tensors: arrays of the user, ``.npz`` files, scikit-learn's digits."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lessonplan.data.base import Options, Parts, fingerprint_of, row_keys
from lessonplan.data.labels import to_labels
from lessonplan.data.limits import check_fits
from lessonplan.data.pixels import Decoding, channels_lead, decoding_of, range_of, to_uint8
from lessonplan.errors import DataError, first_line

Array = npt.NDArray[Any]


class TensorSource:
    """Samples that are rows of one tensor (a :class:`~lessonplan.data.Source`).

    Args:
        data: ``(N, C, H, W)`` uint8 or ``(N, F)`` float32, on the CPU.
        labels: ``(N,)`` int64.
        class_names: one name per class.
        boxes: where the objects are, see ``lessonplan.data.boxes``. None: unknown.
        files: what the files are called that the samples come from. None: they come from none.
        sizes: ``(N, 2)`` int64, height and width of the images before they were resized. None: unknown.

    Raises:
        DataError: different lengths, no samples, or labels without a class name.
    """

    in_memory = True

    def __init__(
        self,
        data: Tensor,
        labels: Tensor,
        class_names: Sequence[str],
        boxes: Tensor | None = None,
        files: Sequence[str] | None = None,
        sizes: Tensor | None = None,
    ) -> None:
        if len(data) != len(labels):
            raise DataError(f"{len(data)} samples but {len(labels)} labels: there must be one label per sample")
        if len(data) == 0:
            raise DataError("the data hold no samples")
        if int(labels.min()) < 0 or int(labels.max()) >= len(class_names):
            raise DataError(
                f"labels run from {int(labels.min())} to {int(labels.max())}, "
                f"but there are {len(class_names)} class names"
            )
        self.data, self.labels, self.class_names = data, labels.to(torch.int64), tuple(class_names)
        self.shape, self.boxes, self.files, self.sizes = tuple(data.shape[1:]), boxes, files, sizes
        self._keys = row_keys(data)
        self.fingerprint = fingerprint_of(self._keys, self.labels, self.class_names)

    def __len__(self) -> int:
        return len(self.data)

    def read(self, rows: Tensor) -> Tensor:
        """Samples of rows ``(B,)``: a copy."""
        return self.data.index_select(0, rows)

    def file_names(self, rows: Tensor) -> list[str] | None:
        """What the files of rows ``(B,)`` are called."""
        return None if self.files is None else [self.files[i] for i in rows.tolist()]

    def content_keys(self) -> list[bytes]:
        """One key per sample, from its pixels."""
        return self._keys


def to_samples(x: Array | Tensor | Sequence[Any], decoding: Decoding | None = None) -> Tensor:
    """What a user calls x to samples: uint8 ``(N, C, H, W)`` or float32 ``(N, F)``.

    Args:
        x: images ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)`` with C 1 or 3 (uint8, integers in 0..255
            or floats in 0..1), or features ``(N, F)``.
        decoding: of pixels that are no bytes; None decides by x.

    Raises:
        DataError: another shape, values out of range, features that are not finite.
    """
    array = _array(x)
    if array.dtype.kind not in "biuf":
        raise DataError(f"x must hold numbers, not {array.dtype}")
    if array.ndim == 2:
        with np.errstate(over="ignore"):  # what overflows is infinite, and is told of
            features = array.astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
        if len(bad):
            raise DataError(f"{len(bad)} rows of x hold NaN or infinite values (the first is row {bad[0]})")
        return torch.from_numpy(np.ascontiguousarray(features))
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and not channels_lead(array.shape):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise DataError(
            f"x has shape {np.shape(x)}: give images (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 "
            "channels, or features (N, F)"
        )
    return torch.from_numpy(np.array(to_uint8(array, decoding), order="C", copy=True))


def from_arrays(x: Any, y: Any, x_test: Any = None, y_test: Any = None) -> Parts:
    """Sources from arrays or tensors; the test part is optional. Pixels of both are read by one rule."""
    decoding = _decoding([part for part in (x, x_test) if part is not None])
    train = TensorSource(to_samples(x, decoding), *to_labels(y))
    test = TensorSource(to_samples(x_test, decoding), *to_labels(y_test)) if x_test is not None else None
    return Parts(train, test, dict(decoding.words()), decoding=decoding)


def _array(x: Any) -> Array:
    try:
        if isinstance(x, Tensor):
            x = x.detach().cpu()
            x = x.float() if x.dtype == torch.bfloat16 else x  # which NumPy does not know
        return np.asarray(x)
    except ValueError:
        raise DataError(
            "x holds samples of different shapes: bring them to one, or give a data set object of images"
        ) from None
    except (TypeError, RuntimeError) as error:  # a sparse tensor, a kind of number that NumPy does not know
        raise DataError(f"x cannot be used as an array of numbers ({first_line(error)}): convert it") from None


def _decoding(given: Sequence[Any]) -> Decoding:
    """What images of whole numbers beyond 8 bits call for; all else decides by itself, or is refused."""
    ranges = []
    for part in given:
        array = _array(part)
        if array.ndim > 2 and array.dtype.kind in "iu" and array.dtype != np.uint8 and array.size:
            ranges.append(range_of(array))
    deep = [found for found in ranges if found[1] >= 0]
    return decoding_of(deep) if any(found[2] > 255 for found in deep) and len(deep) == len(ranges) else Decoding()


_NAMES = {
    "x": ("x", "x_train", "images", "data", "X"),
    "y": ("y", "y_train", "labels", "target", "targets", "Y"),
    "x_test": ("x_test", "test_images", "test_x", "X_test"),
    "y_test": ("y_test", "test_labels", "test_y", "Y_test"),
}


def from_npz(path: Path, options: Options) -> Parts:
    """Sources from an ``.npz`` file with x and y (or x_train and y_train), and perhaps x_test and y_test.

    Raises:
        DataError: no such file, no such archive, missing arrays, arrays of Python objects (never unpickled), or
            more than ``memory_limit``.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist or is no file")
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise DataError(f"{path} is a single array: give an .npz file with x and y")
        with archive:
            names = archive.files
            chosen = {k: next((n for n in known if n in names), None) for k, known in _NAMES.items()}
            check_fits(
                path, _unpacked(archive, [n for n in chosen.values() if n is not None]), options.memory_limit
            )
            found = {k: archive[n] if n is not None else None for k, n in chosen.items()}
    except DataError:
        raise
    except Exception as e:  # whatever a damaged archive, or one that lies about itself, makes the reader raise
        raise DataError(f"{path} cannot be read as an .npz file of plain arrays ({e})") from e
    if found["x"] is None or found["y"] is None:
        raise DataError(
            f"{path} holds {', '.join(names) or 'nothing'}: it must hold x and y (or x_train and y_train)"
        )
    if (found["x_test"] is None) != (found["y_test"] is None):
        raise DataError(f"{path} holds only one of x_test and y_test: give both or neither")
    return from_arrays(found["x"], found["y"], found["x_test"], found["y_test"])


def _unpacked(archive: Any, names: Sequence[str]) -> int:
    """Bytes of arrays, as the archive's list announces them; no more can be read of them."""
    sizes = {info.filename: info.file_size for info in archive.zip.infolist()}
    return sum(sizes.get(f"{name}.npy", sizes.get(name, 0)) for name in names)


def _table_of_digits() -> tuple[Any, Any]:
    """Grey levels ``(1797, 64)`` and classes ``(1797,)``, from scikit-learn's own file.

    Its reader is asked only where the file is not found: importing it takes longer than training for an epoch.
    """
    found = importlib.util.find_spec("sklearn")
    place = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found and found.origin else None
    if place is None or not place.is_file():
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        return images, labels
    table = np.loadtxt(place, delimiter=",")
    return table[:, :-1], table[:, -1]


def digits() -> Parts:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels; their 17 grey levels are spread over 0..255."""
    images, labels = _table_of_digits()
    pixels = np.rint(images.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    names = [str(d) for d in range(10)]
    return Parts(TensorSource(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)), names))
