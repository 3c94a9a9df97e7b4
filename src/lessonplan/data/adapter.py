"""Data set objects of others (torchvision, Hugging Face ``datasets``, one's own), through ``__getitem__``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from lessonplan.data.arrays import TensorSource, from_arrays
from lessonplan.data.base import Options, Parts, Source, fingerprint_of
from lessonplan.data.columns import IMAGES, LABELS, column_of
from lessonplan.data.encoded import Header, bad_images, choose_size, each, report_bad, why
from lessonplan.data.join import VALIDATION, with_parts
from lessonplan.data.labels import Unlabelled, to_labels
from lessonplan.data.pixels import (
    BROKEN,
    Decoding,
    Pixels,
    background_of,
    decoding_of,
    fit,
    from_array,
    from_pil,
    range_of,
    visible,
)
from lessonplan.errors import DataError
from lessonplan.progress import step

_PROBED = 256
_TRIED = 16  # items that are read twice, or compared with the labels beside them


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
        return _from_mapping(dataset, options)
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise DataError(
            f"a {type(dataset).__name__} cannot be asked for its samples by position: give a data set with"
            " __getitem__ and __len__ (Hugging Face's without streaming=True)"
        )
    if len(dataset) == 0:
        raise DataError(f"the {type(dataset).__name__} holds no samples")
    _check_fixed(dataset)
    first = image_of(dataset[0])
    if not isinstance(first, Image.Image) and np.ndim(first) == 1:
        x = np.stack([np.asarray(image_of(dataset[i])) for i in range(len(dataset))])
        return from_arrays(x, labels_of(dataset))
    return _images(dataset, options)


def _from_mapping(dataset: Mapping[str, Any], options: Options) -> Parts:
    """Parts by their names; a test part without labels is left out."""
    if "train" not in dataset:
        raise DataError(f"the data set has the parts {', '.join(map(str, dataset))}: it needs one named 'train'")
    parts = from_dataset(dataset["train"], options)
    shape = parts.train.shape
    if len(shape) == 3:
        options = replace(options, channels=shape[0], image_size=(shape[1], shape[2]), decoding=parts.decoding)
    sources: dict[str, Source] = {}
    unlabelled: list[str] = []
    for name in ("test", *VALIDATION):
        if name not in dataset:
            continue
        try:
            found = from_dataset(dataset[name], options)
            sources[name] = found.train
            parts.unreadable += [(f"{name}, {which}", reason) for which, reason in found.unreadable]
        except Unlabelled:
            unlabelled.append(name)
    parts.notes |= {"unlabelled_parts": unlabelled} if unlabelled else {}
    if "test" not in sources and sources:
        parts.notes["test_part"] = next(iter(sources))
    return with_parts(parts, sources)


class DatasetSource:
    """Images of a data set object, read item by item (a streamed :class:`~lessonplan.data.Source`).

    Args:
        dataset: the object; it is copied into every worker.
        keep: ``(N,)`` int64 items that belong to the source.
        labels: ``(N,)`` int64 of those.
        class_names: one name per class.
        shape: ``(C, H, W)`` images are brought to.
        decoding: of deep and transparent pixels.
    """

    in_memory = False

    def __init__(
        self,
        dataset: Any,
        keep: Tensor,
        labels: Tensor,
        class_names: tuple[str, ...],
        shape: tuple[int, ...],
        decoding: Decoding,
    ) -> None:
        self.decoding = decoding
        self.dataset, self.keep, self.labels = dataset, keep, labels
        self.class_names, self.shape = class_names, shape
        # Reading everything for a hash would cost an epoch: what the object is, and a few of its samples.
        some = [_pixels(dataset[int(i)], shape, decoding).tobytes() for i in keep[:: max(1, len(keep) // 16)]]
        self.fingerprint = fingerprint_of([type(dataset).__name__.encode(), *some], labels, class_names)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, rows: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` uint8; an unreadable one is a DataError that names it."""
        out = np.empty((len(rows), *self.shape), dtype=np.uint8)
        for place, i in enumerate(self.keep[rows].tolist()):
            try:
                out[place] = _pixels(self.dataset[i], self.shape, self.decoding)
            except BROKEN as e:
                raise bad_images([(f"sample {i}", why(e))], len(self)) from e
        return torch.from_numpy(out)


def _images(dataset: Any, options: Options) -> Parts:
    """A source of images: in memory if they fit, otherwise read item by item in the workers."""
    total, named = len(dataset), _named_labels(dataset)
    probed = range(0, total, -(-total // _PROBED))
    looks = _look(dataset, probed)
    if any(look.header.deep for look in looks):
        looks = _look(dataset, range(total))  # the whole range counts
    headers = [look.header for look in looks]
    if not headers:
        raise DataError(f"none of {len(probed)} samples of the {type(dataset).__name__} can be read as an image")
    size, note = choose_size(headers, options.image_size)
    shape = (options.channels or (1 if all(h.grey for h in headers) else 3), *size)
    ranges = [look.range for look in looks if look.range is not None]
    shown = [look.visible for look in looks if look.visible is not None]
    decoding = options.decoding or options.decided(decoding_of(ranges, background_of(shown)))
    fits = total * int(np.prod(shape)) <= options.memory_limit
    data = np.empty((total if fits else 0, *shape), dtype=np.uint8)
    given: list[Any] = [None] * total

    def into(i: int) -> None:
        item = dataset[i]
        given[i] = _label_of(item)
        if fits:
            data[i] = _pixels(item, shape, decoding)
        elif options.on_bad == "skip":
            _pixels(item, shape, decoding)

    keep, notes = torch.arange(total), {"images": note, **decoding.words()}
    bad: list[tuple[str, str]] = []
    if fits or options.on_bad == "skip" or named is None:
        # One after the other: nothing says that a stranger's object may be read by several threads.
        with step("reading samples", total, "samples") as line:
            results = each(into, range(total), 1, line)
        bad = [(f"sample {i}", result) for i, result in enumerate(results) if result is not None]
        report_bad(bad, total, options.on_bad)
        keep = torch.tensor([i for i, result in enumerate(results) if result is None], dtype=torch.int64)
        notes |= {"unreadable_left_out": str(len(bad))} if bad else {}
    labels, names = _classes(dataset, named, given, keep)
    if not fits:
        streamed = DatasetSource(dataset, keep, labels, names, shape, decoding)
        return Parts(streamed, None, dict(notes), decoding=decoding, unreadable=bad)
    decoded = torch.from_numpy(data if len(keep) == total else data[keep.numpy()])
    return Parts(TensorSource(decoded, labels, names), None, dict(notes), decoding=decoding, unreadable=bad)


class _Look(NamedTuple):
    """What an image says of itself, and what its pixels do where they are no opaque bytes."""

    header: Header
    range: tuple[str, float, float] | None
    visible: tuple[float, float, int] | None


def _look(dataset: Any, rows: Sequence[int]) -> list[_Look]:
    """A look at some images; those that cannot be read are told of later."""

    def look(i: int) -> _Look:
        image = image_of(dataset[i])
        header = header_of(image)
        deep = header.deep and np.size(np.asarray(image)) > 0
        seen = visible(image) if header.transparent else None
        return _Look(header, range_of(np.asarray(image)) if deep else None, seen)

    with step("looking at samples", len(rows), "samples") as line:
        return [found for found in each(look, rows, 1, line) if isinstance(found, _Look)]


def _check_fixed(dataset: Any) -> None:
    """Refuse random transforms: one draw of them would be kept for all epochs, and test samples be changed.

    Raises:
        DataError: an item differs from one reading to the next.
    """
    total = len(dataset)
    for i in range(0, total, -(-total // _TRIED)):
        try:
            once, again = (np.asarray(image_of(dataset[i])) for _ in range(2))
        except BROKEN:  # told of later, with its name
            continue
        if once.shape != again.shape or not np.array_equal(once, again):
            raise DataError(
                f"sample {i} of the {type(dataset).__name__} differs from one reading to the next: take random"
                " transforms out of it, and give them as augment='flip,crop:4' or an Augment of your own"
            )


def image_of(item: Any) -> Any:
    """The image of an item."""
    if isinstance(item, Mapping):
        return item[_key(item, IMAGES)]
    if isinstance(item, (tuple, list)) and len(item) >= 2:
        return item[0]
    raise DataError(f"items must be (image, label) or dictionaries, not {type(item).__name__}")


def _key(item: Mapping[str, Any], names: Sequence[str]) -> str:
    key = column_of(item, names)
    if key is None:
        raise DataError(
            f"items have the keys {', '.join(map(str, item))}: one of {', '.join(names)} is needed (datasets'"
            " rename_column changes a name)"
        )
    return key


def header_of(image: Any) -> Header:
    """Size and kind of an image."""
    if isinstance(image, Image.Image):
        return Header.of(image)
    array = np.asarray(image)
    bytes_of_it = array if array.dtype == np.uint8 else np.zeros(array.shape, np.uint8)
    pixels = from_array(bytes_of_it, channels_first=True if isinstance(image, Tensor) else None)
    deep = array.dtype not in (np.uint8, np.bool_)
    return Header((pixels.shape[1], pixels.shape[2]), len(pixels) == 1, deep)


def _pixels(item: Any, shape: tuple[int, ...], decoding: Decoding) -> Pixels:
    """The image of an item as uint8 ``(C, H, W)``."""
    image, size = image_of(item), (shape[1], shape[2])
    if isinstance(image, Image.Image):
        return from_pil(image, shape[0], size, decoding)
    leading = True if isinstance(image, Tensor) and image.ndim == 3 else None
    return fit(from_array(np.asarray(image), channels_first=leading, decoding=decoding), shape[0], size, decoding)


def labels_of(dataset: Any) -> Any:
    """All labels as its items give them, without decoding images where the object can be trusted to name them.

    What an object calls ``targets`` may not be what it hands out: a ``target_transform`` or a wrapper around it
    changes labels on the way.
    """
    named = _named_labels(dataset)
    return named if named is not None else [_label_of(dataset[i]) for i in range(len(dataset))]


def _named_labels(dataset: Any) -> Any:
    """Labels that stand beside the items, of objects whose items are known to give just these; else None."""
    if isinstance(dataset, Subset):
        inner = _named_labels(dataset.dataset)
        return None if inner is None else np.asarray(inner)[np.asarray(dataset.indices, dtype=np.int64)]
    if isinstance(dataset, ConcatDataset):
        parts = [_named_labels(part) for part in dataset.datasets]
        return None if any(part is None for part in parts) else np.concatenate([np.asarray(p) for p in parts])
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) >= 2:
        return dataset.tensors[1]
    values = None
    home = type(dataset).__module__.partition(".")[0]
    if home == "datasets" and isinstance(getattr(dataset, "column_names", None), list):
        if dataset.format["type"] == "custom":  # with_transform: items have other columns than the set
            return None
        column = column_of(dataset.column_names, LABELS)
        values = dataset[column] if column is not None else None
    elif home == "torchvision" and getattr(dataset, "target_transform", None) is None:
        values = next(
            (v for name in ("targets", "labels") if (v := getattr(dataset, name, None)) is not None), None
        )
    if values is None or len(values) != len(dataset):
        return None
    labels = np.asarray(values)
    probed = range(0, len(dataset), -(-len(dataset) // _TRIED))
    as_named = all(np.array_equal(np.asarray(_label_of(dataset[i])), labels[i]) for i in probed)
    return labels if as_named else None


def _label_of(item: Any) -> Any:
    if isinstance(item, Mapping):
        return item[_key(item, LABELS)]
    image_of(item)  # says what is wrong with an item of another form
    label = item[1].detach().cpu().numpy() if isinstance(item[1], Tensor) else item[1]
    return label.item() if isinstance(label, (np.ndarray, np.generic)) and label.size == 1 else label


def _classes(dataset: Any, named: Any, given: list[Any], keep: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """Class numbers and names of the kept items: the object's own names where its labels are their numbers."""
    kept = [given[i] for i in keep.tolist()] if named is None else np.asarray(named)[keep.numpy()]
    labels, names = to_labels(kept)
    own = _own_names(dataset)
    values = [int(n) if re.fullmatch(r"-?[0-9]{1,18}", n) else -1 for n in names]
    fit_own = own is not None and min(values) >= 0 and max(values) < len(own)
    if own is not None and fit_own and (named is not None or not _contradicted(dataset, given)):
        return torch.tensor(values, dtype=torch.int64)[labels], own
    return labels, names


def _contradicted(dataset: Any, given: list[Any]) -> bool:
    """Whether an object keeps other labels than it hands out: its names may be those of the others."""
    for name in ("targets", "labels"):
        kept = getattr(dataset, name, None)
        if isinstance(kept, (Sequence, Tensor, np.ndarray)) and len(kept) == len(dataset):
            return list(map(str, np.asarray(kept).tolist())) != list(map(str, given))
    return False


def _own_names(dataset: Any) -> tuple[str, ...] | None:
    """Class names as torchvision (``classes``) or Hugging Face (``features``) objects carry them."""
    inner = getattr(dataset, "dataset", None)
    if inner is not None and hasattr(dataset, "indices"):
        return _own_names(inner)
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        column = column_of(features, LABELS)
        names = getattr(features[column], "names", None) if column is not None else None
    else:
        names = getattr(dataset, "classes", None)
    return tuple(map(str, names)) if isinstance(names, (list, tuple)) and names else None
