"""Data set objects of others (torchvision, Hugging Face ``datasets``, one's own), through ``__getitem__``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lessonplan.data.arrays import TensorSource, from_arrays, to_labels
from lessonplan.data.base import Options, Parts, fingerprint_of
from lessonplan.data.encoded import BROKEN, Header, bad_images, choose_size, each, report_bad, why
from lessonplan.data.pixels import Pixels, from_array, from_pil, is_grey, size_of
from lessonplan.data.preprocess import fit
from lessonplan.errors import DataError

_IMAGES = ("image", "img", "pixel_values")
_LABELS = ("label", "fine_label", "labels")
_PROBED = 256


def from_dataset(dataset: Any, options: Options) -> Parts:
    """Sources from an object whose items are ``(image, label)`` or dictionaries with an image and a label.

    Images may be PIL images, arrays or tensors, before normalisation. A mapping with ``train`` and perhaps
    ``test`` or ``validation`` (a ``DatasetDict``) gives both parts. Random transforms must be left out: the
    samples are read once and kept where they fit into memory. Where sizes differ among the first 256 samples
    (spread over the set), images are resized as those of folders are.

    Raises:
        DataError: items of another form, or unreadable ones (unless they are to be skipped).
    """
    if isinstance(dataset, Mapping):
        if "train" not in dataset:
            raise DataError(
                f"the data set has the parts {', '.join(map(str, dataset))}: it needs one named 'train'"
            )
        parts = from_dataset(dataset["train"], options)
        held_out = next((dataset[k] for k in ("test", "validation") if k in dataset), None)
        if held_out is not None:
            shape = parts.train.shape
            same = (
                replace(options, channels=shape[0], image_size=(shape[1], shape[2]))
                if len(shape) == 3
                else options
            )
            parts.test = from_dataset(held_out, same).train
        return parts
    if len(dataset) == 0:
        raise DataError(f"the {type(dataset).__name__} holds no samples")
    first = image_of(dataset[0])
    if not isinstance(first, Image.Image) and np.ndim(first) == 1:
        x = np.stack([np.asarray(image_of(dataset[i])) for i in range(len(dataset))])
        return from_arrays(x, labels_of(dataset))
    return _images(dataset, options)


class DatasetSource:
    """Images of a data set object, read item by item (a streamed :class:`~lessonplan.data.Source`).

    Args:
        dataset: the object; it is copied into every worker.
        keep: ``(N,)`` int64 items that belong to the source.
        labels: ``(N,)`` int64 of those.
        class_names: one name per class.
        shape: ``(C, H, W)`` images are brought to.
    """

    in_memory = False

    def __init__(
        self, dataset: Any, keep: Tensor, labels: Tensor, class_names: tuple[str, ...], shape: tuple[int, ...]
    ) -> None:
        self.dataset, self.keep, self.labels = dataset, keep, labels
        self.class_names, self.shape = class_names, shape
        # Reading everything for a hash would cost an epoch: what the object is, and a few of its samples.
        some = [pixels_of(dataset, int(i), shape).tobytes() for i in keep[:: max(1, len(keep) // 16)]]
        self.fingerprint = fingerprint_of([type(dataset).__name__.encode(), *some], labels, class_names)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, rows: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` uint8; an unreadable one is a DataError that names it."""
        out = np.empty((len(rows), *self.shape), dtype=np.uint8)
        for place, i in enumerate(self.keep[rows].tolist()):
            try:
                out[place] = pixels_of(self.dataset, i, self.shape)
            except BROKEN as e:
                raise bad_images([(f"sample {i}", why(e))], len(self)) from e
        return torch.from_numpy(out)


def _images(dataset: Any, options: Options) -> Parts:
    """A source of images: in memory if they fit, otherwise read item by item in the workers."""
    total = len(dataset)
    labels, names = _classes(dataset)
    if len(labels) != total:
        raise DataError(f"the {type(dataset).__name__} has {total} samples but {len(labels)} labels")
    probed = range(0, total, -(-total // _PROBED))
    headers = [h for h in each(lambda i: header_of(image_of(dataset[i])), probed, 1) if isinstance(h, Header)]
    if not headers:
        raise DataError(f"none of {len(probed)} samples of the {type(dataset).__name__} can be read as an image")
    size, note = choose_size(headers, options.image_size)
    shape = (options.channels or (1 if all(h.grey for h in headers) else 3), *size)
    fits = total * int(np.prod(shape)) <= options.memory_limit
    data = np.empty((total if fits else 0, *shape), dtype=np.uint8)

    def into(i: int) -> None:
        pixels = pixels_of(dataset, i, shape)
        if fits:
            data[i] = pixels

    keep, notes = torch.arange(total), {"images": note}
    if fits or options.on_bad == "skip":
        # One after the other: nothing says that a stranger's object may be read by several threads.
        results = each(into, range(total), 1)
        bad = [(f"sample {i}", result) for i, result in enumerate(results) if result is not None]
        report_bad(bad, total, options.on_bad)
        keep = torch.tensor([i for i, result in enumerate(results) if result is None], dtype=torch.int64)
        notes |= {"unreadable_left_out": str(len(bad))} if bad else {}
    if not fits:
        return Parts(DatasetSource(dataset, keep, labels[keep], names, shape), None, dict(notes))
    decoded = torch.from_numpy(data if len(keep) == total else data[keep.numpy()])
    return Parts(TensorSource(decoded, labels[keep], names), None, dict(notes))


def image_of(item: Any) -> Any:
    """The image of an item."""
    if isinstance(item, Mapping):
        key = next((k for k in _IMAGES if k in item), None)
        if key is None:
            raise DataError(
                f"items have the keys {', '.join(map(str, item))}: one of {', '.join(_IMAGES)} is needed"
            )
        return item[key]
    if isinstance(item, (tuple, list)) and len(item) >= 2:
        return item[0]
    raise DataError(f"items must be (image, label) or dictionaries, not {type(item).__name__}")


def header_of(image: Any) -> Header:
    """Size and kind of an image."""
    if isinstance(image, Image.Image):
        return Header(size_of(image), is_grey(image))
    pixels = from_array(np.asarray(image), channels_first=True if isinstance(image, Tensor) else None)
    return Header((pixels.shape[1], pixels.shape[2]), len(pixels) == 1)


def pixels_of(dataset: Any, i: int, shape: tuple[int, ...]) -> Pixels:
    """Item i as uint8 ``(C, H, W)``."""
    image, size = image_of(dataset[i]), (shape[1], shape[2])
    if isinstance(image, Image.Image):
        return from_pil(image, shape[0], size)
    leading = True if isinstance(image, Tensor) and image.ndim == 3 else None
    return fit(from_array(np.asarray(image), channels_first=leading), shape[0], size)


def labels_of(dataset: Any) -> Any:
    """All labels, without decoding images where the object lets them be found."""
    inner, indices = getattr(dataset, "dataset", None), getattr(dataset, "indices", None)
    if inner is not None and indices is not None:  # torch.utils.data.Subset
        return np.asarray(labels_of(inner))[np.asarray(indices, dtype=np.int64)]
    columns = getattr(dataset, "column_names", None)
    if isinstance(columns, list):
        label = next((k for k in _LABELS if k in columns), None)
        if label is not None:
            return np.asarray(dataset[label])
    for name in ("targets", "labels"):
        values = getattr(dataset, name, None)
        if isinstance(values, (Sequence, Tensor, np.ndarray)) and len(values) == len(dataset):
            return np.asarray(values)
    return np.asarray([_label_of(dataset[i]) for i in range(len(dataset))])


def _label_of(item: Any) -> Any:
    if isinstance(item, Mapping):
        key = next((k for k in _LABELS if k in item), None)
        if key is None:
            raise DataError(
                f"items have the keys {', '.join(map(str, item))}: one of {', '.join(_LABELS)} is needed"
            )
        return item[key]
    image_of(item)  # says what is wrong with an item of another form
    return item[1].item() if isinstance(item[1], (Tensor, np.generic)) else item[1]


def _classes(dataset: Any) -> tuple[Tensor, tuple[str, ...]]:
    """Class numbers and names: the object's own names where its labels are their numbers."""
    labels, names = to_labels(labels_of(dataset))
    own = _own_names(dataset)
    values = [int(n) if n.lstrip("-").isdigit() else -1 for n in names]
    if own is not None and min(values) >= 0 and max(values) < len(own):
        return torch.tensor(values, dtype=torch.int64)[labels], own
    return labels, names


def _own_names(dataset: Any) -> tuple[str, ...] | None:
    """Class names as torchvision (``classes``) or Hugging Face (``features``) objects carry them."""
    inner = getattr(dataset, "dataset", None)
    if inner is not None and hasattr(dataset, "indices"):
        return _own_names(inner)
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        names = next((getattr(features[k], "names", None) for k in _LABELS if k in features), None)
    else:
        names = getattr(dataset, "classes", None)
    return tuple(map(str, names)) if isinstance(names, (list, tuple)) and names else None
