"""Data ready for training: sources opened, split, measured, and seen through views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lessonplan.data.augment import Augment
from lessonplan.data.base import Options, Parts, Source, digest
from lessonplan.data.corrupt import NoisyLabels, check_noise, corrupt
from lessonplan.data.cut import Sizes, cut
from lessonplan.data.join import aligned
from lessonplan.data.needs import InputNeeds
from lessonplan.data.normalise import Normalise, measure, scale_of
from lessonplan.data.padded import padded
from lessonplan.data.preprocess import Preprocessing
from lessonplan.data.resized import resized
from lessonplan.data.some_classes import of_classes
from lessonplan.data.sources import describe, open_parts
from lessonplan.data.spectrogram import check_seconds
from lessonplan.data.view import View
from lessonplan.data.walk import subfolders
from lessonplan.errors import ConfigError, DataError, in_short
from lessonplan.shown import notebook_html

MEASURED_ROWS = 10_000  # of a streamed set, whose every sample would have to be decoded for exact statistics


@dataclass
class Data:
    """What a run trains, decides and is tested on.

    Attributes:
        train: the training rows, augmented.
        val: validation rows, for every decision during training; None without them.
        test: test rows, to be read once; None without them.
        num_classes: number of classes.
        class_names: one name per class.
        shape: ``(C, H, W)`` or ``(F,)``.
        mean: ``(C,)`` of the training rows, in ``[0, 1]`` pixel units (features: in their own).
        std: the same.
        fingerprint: hash of the samples and of who is in which part.
        description: where the data come from and how they were cut, as plain values for JSON.
        preprocessing: what a user's own image goes through for a model trained on these.
        placed: whether they were loaded for a certain device.
        unreadable: files that were left out, each with the reason.
    """

    train: View
    val: View | None
    test: View | None
    num_classes: int
    class_names: tuple[str, ...]
    shape: tuple[int, ...]
    mean: Tensor
    std: Tensor
    fingerprint: str
    description: dict[str, Any]
    preprocessing: Preprocessing
    placed: bool = False
    unreadable: tuple[tuple[str, str], ...] = ()
    _repr_html_ = notebook_html

    def on(self, device: torch.device) -> Data:
        """The same data with their batches on a device; these themselves if they are there."""
        if self.train.device == device:
            return self
        views = {
            name: view.on(device) for name in ("train", "val", "test") if (view := getattr(self, name)) is not None
        }
        return replace(self, **views)

    def as_asked(self, needs: InputNeeds) -> Data:
        """The same data normalised as a network's weights ask for; their size stays as it is."""
        known = needs.statistics(self.shape[0]) if len(self.shape) == 3 else None
        if known is None or known == (self.preprocessing.mean, self.preprocessing.std):
            return self
        mean, std = (torch.tensor(values) for values in known)
        normalise = Normalise(mean, std, scale_of(self.shape))
        views = {
            name: view.normalised(normalise)
            for name in ("train", "val", "test")
            if (view := getattr(self, name)) is not None
        }
        prepared = replace(self.preprocessing, mean=tuple(mean.tolist()), std=tuple(std.tolist()))
        return replace(self, **views, mean=mean, std=std, preprocessing=prepared)

    def close(self) -> None:
        """End all worker processes."""
        for view in (self.train, self.val, self.test):
            if view is not None:
                view.close()


def load(
    spec: Any,
    *,
    test: Any = None,
    classes: int | str | Sequence[str] | None = None,
    per_class: int | None = None,
    val_per_class: int | None = None,
    val_fraction: float | None = None,
    test_fraction: float = 0.5,
    augment: str | Augment | None = "auto",
    seed: int = 0,
    device: str | torch.device | None = None,
    image_size: int | tuple[int, int] | None = None,
    center_crop: float | None = None,
    pad: int | tuple[int, int] | None = None,
    on_bad: Literal["error", "skip"] = "error",
    workers: int = 2,
    prefetch: int = 2,
    memory_limit: int = 2 * 2**30,
    label_noise: float = 0.0,
    clip_seconds: float = 1.0,
    input: InputNeeds | None = None,
) -> Data:
    """Open, split and measure data.

    Args:
        spec: ``"digits"``; ``"table:iris"`` (wine, breast-cancer); ``"folder:PATH"`` and the other kinds of
            ``lessonplan.data.kinds``; an existing path; arrays ``(x, y)``; a :class:`Source`; or a data
            set object with ``__getitem__`` and ``__len__`` (torchvision, Hugging Face), without random
            transforms.
        test: the test set, given in the same ways. Without it, the source's own test part is used where it
            has one; otherwise ``test_fraction`` of every class is set aside.
        classes: which classes take part: how many (the first ones), or their names, as a list or separated by
            commas (a single number in a text is how many). None: all.
        per_class: labelled samples of each class, ``val_fraction`` of them included. None: all.
        val_per_class: validation samples of each class in addition to ``per_class``.
        val_fraction: fraction of the labelled samples of each class that goes to validation, in [0, 1). A set with
            a validation part of its own gives that part whole (0 leaves it out); without one, None is 0.
        test_fraction: fraction of each class set aside for testing, in [0, 1); 0 is no test set.
        augment: ``"auto"``, ``"none"`` or None, words such as ``"flip,crop:4,trivial"`` (:meth:`Augment.parse`) or
            an :class:`Augment`; for training alone.
        seed: key of the splits and of the augmentation.
        device: where batches go; None is the CPU, until ``fit`` puts them where the network is.
        image_size: pixels, or (height, width), of the images. None: their own size if all agree, otherwise
            64; other images are resized to cover it and cropped to the centre. Of recordings: mel bands and
            steps of time of their spectrograms, 32 if not given.
        center_crop: share of a resized image's sides that is kept around its centre, in (0, 1]; 1 is all that the
            size has room for. None: what ``input`` asks for, else 1.
        pad: side in pixels, or (height, width), of a black frame in whose middle images stand once they have
            their size (MNIST in the code of ASSIST's author: 32); no smaller than that. None: none. Predictions
            get the same frame.
        on_bad: ``"error"`` stops at an unreadable image and names it; ``"skip"`` leaves such images out.
        workers: processes that read ahead, for sets that are not in memory.
        prefetch: batches each of them prepares ahead.
        memory_limit: sets that take at most this many bytes as uint8 are decoded once and kept in memory. Arrays
            in files, which cannot be read bit by bit, are refused if they unpack to more.
        label_noise: fraction of the training labels that are replaced by ones drawn uniformly from all classes
            (:func:`lessonplan.data.corrupt.corrupt`, keyed by the seed), in [0, 1]. Validation and test labels
            stay true; ``train.clean_labels`` and ``train.corrupted`` tell what was done.
        clip_seconds: length that recordings are brought to.
        input: what a network's weights ask of the images: size (``image_size`` overrides it), resizing, mean and
            deviation.

    Returns:
        Views of the parts. Samples of the same content are never in two parts: copies of test samples leave
        the training set, and copies within one set stay together.

    Raises:
        DataError: data that are missing, broken or too few. ConfigError: settings that cannot be used.

    >>> data = load("digits", per_class=10, val_per_class=5, seed=1)
    >>> len(data.train), len(data.val), len(data.test), data.shape
    (100, 50, 901, (1, 8, 8))
    """
    sizes = Sizes(per_class, val_per_class, val_fraction, test_fraction)
    sizes.check()
    if on_bad not in ("error", "skip"):
        raise ConfigError(f"on_bad={on_bad!r}: use 'error' or 'skip'")
    if isinstance(memory_limit, bool) or not isinstance(memory_limit, int) or memory_limit < 0:
        raise ConfigError(f"memory_limit={memory_limit!r}: give a number of bytes")
    check_noise(label_noise)
    check_seconds(clip_seconds)
    needs = input or InputNeeds()
    options = Options(_pair(image_size) or needs.size, None, on_bad, workers, memory_limit, clip_seconds)
    frame = _pair(pad, "pad") or needs.pad
    crop = _share(center_crop) or needs.crop
    interpolation = needs.interpolation if needs.interpolation != "bilinear" else None
    options = replace(options, interpolation=interpolation, crop=crop if crop < 1 else None)
    parts = open_parts(spec, options)
    as_stored = parts.train if parts.decoding.crop is None else None
    parts = resized(parts, options)
    if center_crop is not None and crop < 1 and parts.train is as_stored:
        raise ConfigError(
            f"center_crop={center_crop}: these samples are not resized: give image_size of images, or leave it out"
        )
    if test is not None:
        parts = _with_test(parts, test, options)
    elif parts.test is not None:
        parts.test = aligned(parts.test, parts.train)
    parts = of_classes(parts, classes)
    size = parts.train.shape[1:]
    parts = padded(parts, frame, memory_limit)
    if len(parts.train.class_names) < 2:
        raise DataError(_one_class(parts.train.class_names[0], spec))
    rows = cut(parts, sizes, seed)
    source, shape = parts.train, parts.train.shape
    known = needs.statistics(shape[0]) if len(shape) == 3 else None
    if known is not None:
        mean, std = (torch.tensor(values) for values in known)
        normalise = Normalise(mean, std, scale_of(shape))
    else:
        normalise = measure(source, rows.train, seed=seed, at_most=None if source.in_memory else MEASURED_ROWS)
    audio = parts.audio
    augment = "none" if augment is None else augment
    chosen = Augment.parse(augment, shape, audio=audio is not None) if isinstance(augment, str) else augment
    if not isinstance(chosen, Augment):
        raise ConfigError(
            f"augment={chosen!r}: give a text such as 'auto', 'none' or 'flip,crop:4', or an Augment"
        )
    chosen.check(shape)
    noise, fingerprint, notes = None, rows.fingerprint(parts), dict(parts.notes)
    if label_noise:
        noise = corrupt(source.labels[rows.train], rows.train, label_noise, len(source.class_names), seed=seed)
        fingerprint = digest([fingerprint.encode(), noise.labels.numpy().tobytes()], size=8).hex()
        changed = int((noise.labels != source.labels[rows.train]).sum())
        notes["label_noise"] = {"fraction": label_noise, "drawn": int(noise.corrupted.sum()), "changed": changed}

    def view(of: Source, chosen_rows: Tensor, change: Augment | None, noise: NoisyLabels | None = None) -> View:
        return View(
            of,
            chosen_rows,
            normalise=normalise,
            augment=change,
            seed=seed,
            device=device or "cpu",
            workers=workers,
            prefetch=prefetch,
            noise=noise,
        )

    tested = parts.test if parts.test is not None else source
    return Data(
        train=view(source, rows.train, chosen, noise),
        val=view(source, rows.val, None) if len(rows.val) else None,
        test=view(tested, rows.test, None) if len(rows.test) else None,
        num_classes=len(source.class_names),
        class_names=source.class_names,
        shape=shape,
        mean=normalise.mean,
        std=normalise.std,
        fingerprint=fingerprint,
        description={
            "source": describe(spec),
            "test_source": describe(test) if test is not None else None,
            "test": "fixed" if parts.test is not None else f"{test_fraction} of every class",
            "sizes": {"train": len(rows.train), "val": len(rows.val), "test": len(rows.test)},
            "classes": len(source.class_names),
            "shape": list(shape),
            **({"chosen_classes": list(source.class_names)} if classes is not None else {}),
            "per_class": per_class,
            "val_per_class": val_per_class,
            "val_fraction": val_fraction or 0.0,
            "test_fraction": test_fraction,
            "augment": str(chosen),
            "seed": seed,
            "in_memory": source.in_memory,
            **({"padded_from": list(size)} if size != shape[1:] else {}),
            **({"normalised_as": "the weights ask for"} if known is not None else {}),
            "duplicates": {"checked": rows.checked, "left_out": rows.left_out},
            **notes,
        },
        preprocessing=Preprocessing(
            shape,
            tuple(normalise.mean.tolist()),
            tuple(normalise.std.tolist()),
            audio,
            parts.decoding,
            size if size != shape[1:] else None,
            parts.columns,
        ),
        placed=device is not None,
        unreadable=tuple(parts.unreadable),
    )


def _pair(size: int | tuple[int, int] | None, name: str = "image_size") -> tuple[int, int] | None:
    """An image size, or a frame's, as (height, width)."""
    pair = (size, size) if isinstance(size, int) else size
    if pair is not None and (len(pair) != 2 or min(pair) < 1):
        raise ConfigError(f"{name}={size!r}: give pixels, or (height, width), of at least 1")
    return pair


def _share(center_crop: float | None) -> float | None:
    if center_crop is not None and not 0 < center_crop <= 1:
        raise ConfigError(f"center_crop={center_crop!r}: give a share above 0, at most 1")
    return center_crop


def _with_test(parts: Parts, test: Any, options: Options) -> Parts:
    """Put another data set in the place of the test part."""
    shape, asked = parts.train.shape, options.image_size is not None
    if len(shape) == 3:
        options = replace(options, image_size=(shape[1], shape[2]), channels=shape[0], audio=parts.audio)
    options = replace(options, decoding=parts.decoding)
    other = open_parts(test, options)
    other = resized(other, options) if asked else other
    # A set with parts of its own (train and test in one folder) is asked for its test part.
    source = other.test if other.test is not None else other.train
    notes = {**parts.notes, **({"test_notes": other.notes} if other.notes else {})}
    if (parts.audio is None) != (other.audio is None):
        raise DataError("one of training and test set holds recordings and the other does not: give two of a kind")
    if parts.columns is not None and other.columns is not None and parts.columns != other.columns:
        raise DataError(
            f"the training set has the columns {in_short(parts.columns)} and the test set"
            f" {in_short(other.columns)}: give both the same in the same order"
        )
    own = (parts.val, parts.audio, parts.decoding, [*parts.unreadable, *other.unreadable], parts.columns)
    return Parts(parts.train, aligned(source, parts.train), notes, *own)


def _one_class(name: str, spec: Any) -> str:
    """What to do about data of one class: perhaps a folder was given one level too high."""
    text = f"all samples are of one class, {name!r}: a classifier needs two or more"
    if isinstance(spec, (str, Path)):
        folder = Path(str(spec).partition(":")[2] or str(spec)).expanduser() / name
        inner = [entry.name for entry in subfolders(folder)] if folder.is_dir() else []
        if inner:
            return f"{text}; {folder} holds folders itself ({', '.join(inner[:3])}): give that one"
    return text
