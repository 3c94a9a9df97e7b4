"""Data that a network was not trained for: noise, folders of images, other data sets."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lessonplan.data import Data
from lessonplan.data.base import Options, Source
from lessonplan.data.kinds import IMAGE_ENDINGS, KINDS, SOUND_ENDINGS
from lessonplan.data.pixels import Pixels
from lessonplan.data.preprocess import Preprocessing
from lessonplan.data.sources import open_parts
from lessonplan.errors import ConfigError, DataError, LessonplanWarning
from lessonplan.evaluate import gaussian_noise, uniform_noise
from lessonplan.lab.evaluation.subject import Subject

_NOISE = {"uniform": uniform_noise, "gaussian": gaussian_noise}


def other_sets(
    names: Sequence[str], subject: Subject, limit: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Samples of each set, as the network takes them.

    Args:
        names: ``"noise"`` (both kinds), ``"uniform"``, ``"gaussian"``, a folder that is searched for images (or
            recordings, for a network of recordings), or data as ``lessonplan.data.load`` reads them.
        subject: whose shape and preprocessing they get.
        limit: most samples of a set.
        generator: of noise and of the choice of samples.

    Returns:
        sets by name, each ``(n, *shape)``.

    Raises:
        DataError: there is nothing to read; ``check_sets`` finds most of that before.
    """
    shape = tuple(subject.data.shape)
    found: dict[str, Tensor] = {}
    for name in dict.fromkeys(part for given in names for part in (_NOISE if given == "noise" else (given,))):
        if name in _NOISE:
            samples = _NOISE[name](limit, shape, generator)
        elif _is_folder(name):
            samples = _of_folder(Path(name), subject, limit, generator)
        else:
            samples = _of_source(name, subject, limit, generator)
        found[_short(name, found)] = samples
    return found


def check_sets(names: Sequence[str], data: Data, preprocessing: Preprocessing) -> None:
    """Find sets that cannot be read before an hour of other work is done.

    Raises:
        ConfigError: samples are no images. DataError: a set is missing or holds nothing of use.
    """
    if names and len(data.shape) != 3:
        raise ConfigError("ood needs images, and the samples are features: leave it out")
    for name in names:
        if name == "noise" or name in _NOISE:
            continue
        if _is_folder(name):
            _files(Path(name), preprocessing)
        else:
            _source(name, data, preprocessing)


def _is_folder(name: str) -> bool:
    kind, colon, _ = name.partition(":")
    return not (colon and kind in KINDS) and name != "digits" and not Path(name).is_file()


def _files(folder: Path, preprocessing: Preprocessing) -> tuple[list[Path], str]:
    """The images anywhere below a folder, and what they are called."""
    audio = preprocessing.audio is not None
    kind, endings = ("recordings", SOUND_ENDINGS) if audio else ("images", IMAGE_ENDINGS)
    if not folder.is_dir():
        raise DataError(f"ood: {folder} does not exist: give noise, a folder of {kind}, or data such as digits")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in endings)
    if not paths:
        raise DataError(f"ood: {folder} holds no {kind} ({', '.join(sorted(endings))})")
    return paths, kind


def _of_folder(folder: Path, subject: Subject, limit: int, generator: torch.Generator) -> Tensor:
    """At most so many of a folder's images."""
    paths, kind = _files(folder, subject.preprocessing)
    order = torch.randperm(len(paths), generator=generator).tolist()
    pixels: list[Pixels] = []
    unreadable = 0
    for index in order:
        if len(pixels) == limit:
            break
        try:
            pixels.append(subject.preprocessing.pixels(paths[index]))
        except DataError:
            unreadable += 1
    if not pixels:
        raise DataError(f"ood: none of the {len(paths)} files in {folder} can be read as {kind}")
    if unreadable:
        warnings.warn(
            f"ood: {unreadable} files in {folder} cannot be read as {kind}", LessonplanWarning, stacklevel=2
        )
    return torch.from_numpy(np.stack(pixels)).float() / 255


def _of_source(name: str, subject: Subject, limit: int, generator: torch.Generator) -> Tensor:
    """Samples of any data of ours, the test part where there is one, brought to the network's shape."""
    shape = tuple(subject.data.shape)
    source = _source(name, subject.data, subject.preprocessing)
    rows = torch.randperm(len(source), generator=generator)[:limit].sort().values
    raw = source.read(rows).cpu()
    if tuple(raw.shape[1:]) != shape:
        raw = torch.from_numpy(np.stack([subject.preprocessing.pixels(_last(image)) for image in raw]))
    return raw.float() / 255


def _source(name: str, data: Data, preprocessing: Preprocessing) -> Source:
    shape = tuple(data.shape)
    size = preprocessing.image or shape[1:]
    options = Options(image_size=(size[0], size[1]), channels=shape[0], audio=preprocessing.audio)
    parts = open_parts(name, options)
    source = parts.test if parts.test is not None else parts.train
    if len(source.shape) != 3:
        raise DataError(f"ood: {name} holds features of shape {source.shape}, and the network takes images")
    return source


def _last(image: Tensor) -> Pixels:
    """An image ``(C, H, W)`` as ``(H, W)`` or ``(H, W, 3)``."""
    array: Pixels = (image[0] if len(image) == 1 else image.permute(1, 2, 0)).numpy()
    return array


def _short(name: str, taken: dict[str, Tensor]) -> str:
    """A set's name: the last part of its path, as long as no other has it."""
    short = Path(name.partition(":")[2] or name).name or name
    return name if short in taken or short in ("mean", "in") else short
