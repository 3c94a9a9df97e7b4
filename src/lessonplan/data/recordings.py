"""Recordings of classes: WAV files in folders or a zip archive, Speech Commands, spoken digits."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lessonplan.data.arrays import TensorSource
from lessonplan.data.base import Options, Parts
from lessonplan.data.encoded import each, report_bad
from lessonplan.data.folder import TESTS, TRAIN
from lessonplan.data.join import VALIDATION
from lessonplan.data.spectrogram import Spectrogram
from lessonplan.data.store import Store, open_store
from lessonplan.data.walk import printable
from lessonplan.data.wav import Truncated, rate_of, read_wav
from lessonplan.errors import DataError, LessonplanWarning
from lessonplan.progress import step

_TESTING, _VALIDATION = "testing_list.txt", "validation_list.txt"
_DIGIT = re.compile(r"\d_[A-Za-z]+_(\d+)\.wav", re.IGNORECASE)
_HEADER = 4096  # bytes that nearly always hold the format
_CELLS = 2**20  # of the Fourier transforms made at a time; more need memory and are no faster


@dataclass
class Layout:
    """Which recordings belong to which part; a name's class is :meth:`class_of` it."""

    train: list[str]
    val: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    level: int = 0
    notes: dict[str, Any] = field(default_factory=dict)

    def class_of(self, name: str) -> str:
        """The folder at ``level``, or (at -1) what stands before the first ``_`` of the file's name."""
        return printable(name.split("_")[0] if self.level < 0 else name.split("/")[self.level])


def from_wav(path: Path, options: Options) -> Parts:
    """Sources from a folder or zip archive of WAV files; samples are spectrograms ``(1, mels, frames)`` uint8.

    Understood are, with any folders around them: ``CLASS/*.wav``; ``train/CLASS/*.wav`` beside ``test`` and
    ``val`` (or ``validation``); Google's Speech Commands (``CLASS/*.wav`` with ``testing_list.txt`` and
    ``validation_list.txt``; ``_background_noise_`` is left out); and flat names ``CLASS_*.wav``, among them the
    Free Spoken Digit Dataset (``DIGIT_SPEAKER_TAKE.wav``; takes 0 to 4 are its test part). A validation part
    is used for what ``val_fraction`` and ``val_per_class`` ask for.

    Args:
        path: folder or archive.
        options: ``image_size`` is (mels, frames), 32 x 32 by default; ``clip_seconds`` the length of a sample;
            ``audio`` fixes everything where a test set has to look like a training set.

    Raises:
        DataError: nothing that can be used there, unreadable recordings (unless they are to be skipped), an
            archive that is damaged or has members outside its folder, or more than ``memory_limit``.
    """
    store = open_store(path)
    root, layout = arrange(store)
    names = [*layout.train, *layout.val, *layout.test]
    threads = options.workers if path.is_dir() else 1
    with step("reading headers", len(names), "recordings") as line:
        rates = each(lambda i: _rate(store, root + names[i]), range(len(names)), threads, line)
    audio = options.audio or _settings(rates[: len(layout.train)], options)
    needed = len(names) * audio.mels * audio.frames
    if needed > options.memory_limit:
        raise DataError(
            f"{len(names)} spectrograms of {audio.mels} x {audio.frames} take {needed} bytes, and"
            f" {options.memory_limit} are allowed: raise memory_limit or ask for a smaller image_size"
        )
    other = Counter(rate for rate in rates if isinstance(rate, int) and rate != audio.rate)
    if other:
        warnings.warn(
            f"{sum(other.values())} of {len(names)} recordings in {path} are not at {audio.rate} Hz but at "
            f"{', '.join(map(str, sorted(other)))} Hz: resampled",
            LessonplanWarning,
            stacklevel=2,
        )
    images, reasons = _images(store, [root + n for n in names], rates, audio, threads)
    unreadable = [(names[i], reasons[i]) for i in sorted(reasons)]
    report_bad(unreadable, len(names), options.on_bad, "recordings")
    notes = layout.notes | {
        "spectrograms": audio.to_dict(),
        "resampled": sum(other.values()),
        **({"unreadable_left_out": len(reasons)} if reasons else {}),
    }
    keep = [i for i in range(len(names)) if i not in reasons]
    parts = _parts(layout, names, keep, images, audio, notes)
    parts.unreadable = unreadable
    return parts


def arrange(store: Store) -> tuple[str, Layout]:
    """Find the layout of a folder or archive.

    Returns:
        The folders around everything (with a ``/`` at the end, or nothing), and names below them.
    """
    sounds = [n for n in store.names if n.lower().endswith(".wav")]
    if not sounds:
        raise DataError(f"{store.path} holds no WAV files")
    root = _around(sounds, store.names)
    names = [n[len(root) :] for n in sounds]
    noise = [n for n in names if n.startswith("_") and "/" in n]
    names = [n for n in names if n not in set(noise)]
    notes: dict[str, Any] = {"background_left_out": len(noise)} if noise else {}
    lists = [name for name in (_TESTING, _VALIDATION) if root + name in store.names]
    tops = {n.split("/")[0].lower(): n.split("/")[0] for n in names if "/" in n}
    training = next((tops[t] for t in TRAIN if t in tops), None)
    if any("/" not in n for n in names):
        return root, _flat(store.path, names, notes)
    if lists:
        return root, _listed(store, root, names, notes)
    if training is None or _is_class(training, tops, names):
        return root, Layout(names, notes=notes)
    others = [tops[t] for t in (*TESTS, *VALIDATION) if t in tops]
    used = others[:1]
    validation = [o for o in others[1:] if o.lower() in VALIDATION][:1]
    inside = [n for n in names if n.split("/")[0] in (training, *validation, *used)]
    stray = next((n for n in inside if n.count("/") < 2), None)
    if stray is not None:
        raise DataError(f"{store.path}: {stray} lies in no class folder, move it into one")
    notes |= {"parts": [training, *validation, *used], "recordings_elsewhere": len(names) - len(inside)}
    train, val, test = ([n for n in inside if n.split("/")[0] in part] for part in ([training], validation, used))
    return root, Layout(train, val, test, 1, notes)


def _is_class(training: str, tops: Mapping[str, str], names: Sequence[str]) -> bool:
    """Whether a folder that is named like the training part is a class beside others."""
    parts = {tops[t] for t in (*TRAIN, *TESTS, *VALIDATION) if t in tops}
    classes = {
        top: {n.split("/")[1] for n in names if n.startswith(f"{top}/") and n.count("/") > 1} for top in parts
    }
    held = set().union(*(classes[part] for part in parts - {training}))
    return bool(set(tops.values()) - parts) and not classes[training] & held


def _around(sounds: Sequence[str], names: Sequence[str]) -> str:
    """The folders that all recordings share, as far as they hold nothing but the next one."""
    root = ""
    while True:
        tops = {n[len(root) :].split("/")[0] for n in sounds}
        top = next(iter(tops))
        here = {n[len(root) :] for n in names if n.startswith(root)}
        if len(tops) > 1 or root + top in sounds or here & {_TESTING, _VALIDATION}:
            return root
        root += top + "/"


def _flat(path: Path, names: Sequence[str], notes: dict[str, Any]) -> Layout:
    """Recordings whose names begin with their class."""
    stray = [n for n in names if "/" in n or n.startswith("_") or "_" not in n]
    if stray:
        raise DataError(
            f"{path} holds recordings in no class folder, and {stray[0]} is not named CLASS_...wav: put the "
            "recordings of each class into a folder named after it, or begin their names with the class"
        )
    takes = [_DIGIT.fullmatch(n) for n in names]
    held_out = [n for n, take in zip(names, takes, strict=True) if take is not None and int(take[1]) < 5]
    if all(takes) and 0 < len(held_out) < len(names):
        out = set(held_out)
        notes = notes | {"test_part": "takes 0 to 4 of every speaker and digit"}
        return Layout([n for n in names if n not in out], test=held_out, level=-1, notes=notes)
    return Layout(list(names), level=-1, notes=notes)


def _listed(store: Store, root: str, names: Sequence[str], notes: dict[str, Any]) -> Layout:
    """Speech Commands: files say what is held out."""
    held: dict[str, set[str]] = {}
    for which in (_TESTING, _VALIDATION):
        text = store.read(root + which, None).decode("utf-8", "replace") if root + which in store.names else ""
        held[which] = {line.strip() for line in text.splitlines() if line.strip()}
        if held[which] and not held[which] & set(names):
            raise DataError(f"{store.path}: none of the recordings that {which} names are there: unpack it again")
    test, val = held[_TESTING], held[_VALIDATION] - held[_TESTING]
    if not test:
        test, val = val, test
    train = [n for n in names if n not in test and n not in val]
    if not train:
        raise DataError(f"{store.path}: all recordings are listed for testing, none are left to train on")
    notes = notes | {"listed_but_missing": len((test | val) - set(names))}
    return Layout(train, [n for n in names if n in val], [n for n in names if n in test], notes=notes)


def _rate(store: Store, name: str) -> int:
    """Sample rate of a recording, from its header where that is enough."""
    try:
        return rate_of(store.read(name, _HEADER))
    except Truncated:
        return rate_of(store.read(name, None))


def _settings(rates: Sequence[int | str], options: Options) -> Spectrogram:
    """Spectrograms at the most common rate (the higher one of two)."""
    counts = Counter(rate for rate in rates if isinstance(rate, int))
    rate = max(counts, key=lambda r: (counts[r], r)) if counts else 16_000
    mels, frames = options.image_size or (32, 32)
    return Spectrogram(rate, options.clip_seconds, mels, frames)


def _images(
    store: Store, names: Sequence[str], rates: Sequence[int | str], audio: Spectrogram, threads: int
) -> tuple[Tensor, dict[int, str]]:
    """Spectrograms of all recordings ``(N, 1, mels, frames)``, and why some are blank."""
    images = torch.zeros(len(names), *audio.shape, dtype=torch.uint8)
    reasons = {i: rate for i, rate in enumerate(rates) if isinstance(rate, str)}
    rows = [i for i in range(len(names)) if i not in reasons]
    together = max(1, _CELLS // (audio.fft * audio.frames))
    with step("reading recordings", len(rows), "recordings") as line:
        for start in range(0, len(rows), together):
            some = rows[start : start + together]
            signals = each(lambda i: audio.fit(read_wav(store.read(names[i], None))), some, threads, line)
            reasons |= {i: signal for i, signal in zip(some, signals, strict=True) if isinstance(signal, str)}
            good = [i for i in some if i not in reasons]
            waves = [signal for signal in signals if not isinstance(signal, str)]
            if waves:
                images[good] = audio(torch.from_numpy(np.stack(waves)))
    return images, reasons


def _parts(
    layout: Layout,
    names: Sequence[str],
    keep: Sequence[int],
    images: Tensor,
    audio: Spectrogram,
    notes: dict[str, Any],
) -> Parts:
    """The readable recordings as a training source (with its validation rows) and a test source."""
    first_test = len(layout.train) + len(layout.val)
    classes = sorted({layout.class_of(n) for n in names})
    number = {name: i for i, name in enumerate(classes)}

    def source(rows: Sequence[int]) -> TensorSource:
        labels = torch.tensor([number[layout.class_of(names[i])] for i in rows], dtype=torch.int64)
        return TensorSource(images[list(rows)], labels, classes, files=[names[i] for i in rows])

    training = [i for i in keep if i < first_test]
    testing = [i for i in keep if i >= first_test]
    strange = {layout.class_of(names[i]) for i in testing} - {layout.class_of(names[i]) for i in training}
    if strange:
        raise DataError(f"the test part has recordings of {min(strange)!r}, a class without any to train on")
    val = torch.tensor([row for row, i in enumerate(training) if i >= len(layout.train)], dtype=torch.int64)
    return Parts(
        source(training),
        source(testing) if testing else None,
        notes,
        val=val if len(val) else None,
        audio=audio,
    )
