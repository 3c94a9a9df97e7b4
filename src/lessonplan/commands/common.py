"""What several commands share: where data come from, settings, seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType

import tyro

from lessonplan.commands.answer import Answer
from lessonplan.data.kinds import spellings
from lessonplan.errors import ConfigError
from lessonplan.settings import Settings
from lessonplan.stores import Location, at, is_url, opened

if TYPE_CHECKING:
    from lessonplan.data import Data

Flat = tyro.conf.arg(name="")
DEFAULTS = Settings()
Folder = NewType("Folder", str)
"""A folder of results, or a URL that fsspec opens in its place."""


def in_folder(out: str | Path, work: Callable[[Path], Answer]) -> Answer:
    """What a command finds that works in the folder of its ``--out``, or in a copy of what a URL holds."""
    with opened(out) as place:
        answer = work(place.folder)
    return of_place(answer, place)


def of_place(answer: Answer, place: Location) -> Answer:
    """The same answer where a URL was given: it is named, and that not all got there is exit code 1."""
    if place.url is None:
        return answer
    url = place.url

    def show() -> None:
        answer.show()
        print(f"of {url}, copied there" if place.kept is None else f"of {url}, which has not all of it yet")

    page = {"page": at(url, "index.html")} if answer.data.get("page") is not None else {}
    data = {**answer.data, "folder": url, **page, "copy": place.folder, "sent": place.kept is None}
    return Answer(data, show, max(answer.code, int(place.kept is not None)))


def refuse_urls(command: Any) -> None:
    """Refuse a URL where a command takes a path of this machine.

    Raises:
        ConfigError: one was given.
    """
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        if isinstance(value, Path):
            try:
                is_url(value)
            except ConfigError:
                raise ConfigError(
                    f"--{field.name.replace('_', '-')} takes no URL: give a path of this machine"
                ) from None


def refuse_results_among_classes(command: Any) -> None:
    """Refuse a folder of results where the next command would read it as a class, and its pictures as samples.

    Raises:
        ConfigError: it lies among the class folders of the command's data.
    """
    out = getattr(command, "out", None)
    if not isinstance(out, str) or is_url(out):
        return
    from lessonplan.data.results_place import refuse_among_classes

    source = getattr(command, "source", command)
    refuse_among_classes(out, *(getattr(source, name, None) for name in ("data", "test", "what")), named="--out ")


@dataclass(frozen=True)
class DataOptions:
    """Where samples come from and how they are split."""

    data: Annotated[str, tyro.conf.arg(help=spellings())] = "digits"
    test: str | None = None
    """test data of their own, written like --data"""
    classes: str | None = None
    """classes that take part: how many (the first ones), or their names separated by commas; all if not given"""
    per_class: int | None = None
    """labelled samples of each class, validation included; all if not given"""
    val_per_class: int | None = None
    """validation samples of each class, in addition to --per-class"""
    val_fraction: float | None = None
    """share of the labelled samples used for validation (0.2 if not given)"""
    test_fraction: float = 0.5
    """share set aside for testing where the data have no test part"""
    augment: str = "auto"
    """auto, none, or words such as flip,crop:4,rotate:15,jitter:.4/.4/.4/.1 or flip,trivial (docs/augment.md)"""
    image_size: int | None = None
    """side in pixels that images are resized and cropped to (recordings: mel bands and time steps)"""
    center_crop: float | None = None
    """share of a resized picture's sides that is kept around its centre, 1 is all (if not given, 1; for --tune
    head what the weights were judged on; with weights of a run what it saw)"""
    pad: int | None = None
    """side in pixels of a black frame in whose middle images stand, once they have their size (MNIST: 32)"""
    clip_seconds: float = 1.0
    """length of recordings; shorter ones are padded, longer ones cut"""
    label_noise: float = 0.0
    """share of the training labels that are replaced by random ones"""
    on_bad: Literal["error", "skip"] = "error"
    """what to do with unreadable images"""
    memory_limit: float = 2.0
    """GiB that samples may take in memory: larger sets of pictures are read as they are needed, larger arrays are
    refused"""
    workers: int = 2
    """processes that read ahead, for data that do not fit into memory"""

    def loading(self) -> dict[str, Any]:
        """The options of ``lessonplan.data.load`` that were given."""
        options = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "data"}
        if self.val_fraction is None and self.val_per_class is None:
            options["val_fraction"] = 0.2
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        return in_bytes({name: value for name, value in options.items() if value != defaults[name]})


def in_bytes(options: dict[str, Any]) -> dict[str, Any]:
    """Options of the command line as ``lessonplan.data.load`` takes them.

    Raises:
        ConfigError: no number of bytes.
    """
    limit = options.get("memory_limit")
    if limit is None:
        return options
    if not 0 <= limit < 2**33:
        raise ConfigError(f"--memory-limit {limit}: give GiB, for example 8")
    return {**options, "memory_limit": round(limit * 2**30)}


DATA_DEFAULTS = DataOptions()


def load_for(model: str, source: DataOptions, settings: Settings, seed: int) -> Data:
    """The data that the options name, as the network's weights ask for them, where it will train."""
    from lessonplan.data import load
    from lessonplan.network.accelerator import resolve_device
    from lessonplan.train.origin import origin_of

    device = resolve_device(settings.device)
    needs = origin_of(model, settings.weights).needs_for(settings.tune) if settings.weights is not None else None
    return load(source.data, seed=seed, device=device, input=needs, **source.loading())


def given_settings(settings: Settings) -> dict[str, Any]:
    """The settings that differ from their defaults."""
    return settings.model_dump(exclude_defaults=True, exclude={"threads"})


def read_seeds(text: str) -> int | list[int]:
    """``"5"`` is five seeds, ``"3,4"`` are these two."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {text!r}: give how many (5) or which (3,4,5)") from None
    return numbers if "," in text else numbers[0]
