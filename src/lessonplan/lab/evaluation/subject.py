"""What is judged: a network that takes samples in their own units, with the data it is judged on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.data import Data, Preprocessing, View
from lessonplan.data import load as load_data
from lessonplan.data.needs import InputNeeds
from lessonplan.errors import ConfigError, DataError, in_short
from lessonplan.evaluate.adversarial import PixelModel
from lessonplan.lab.evaluation.own_model import load_weights, made
from lessonplan.models.channels import suit_channels
from lessonplan.models.own_model import outputs_of
from lessonplan.network.accelerator import resolve_device
from lessonplan.train.classifier import load
from lessonplan.train.run_folder import load_config, read_metrics


class Standardised(nn.Module):
    """A network of features ``(N, F)`` with ``(x - mean) / std`` in front."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model((x - self.mean) / self.std)
        return logits


@dataclass
class Subject:
    """A network and the data it is judged on.

    Attributes:
        name: for titles.
        model: takes images ``(N, C, H, W)`` in [0, 1], or features ``(N, F)`` in their own units; gives logits.
            It is in evaluation mode.
        data: where the samples are.
        preprocessing: what the network's samples went through.
        folder: of the run, None for other networks.
        history: a run's records, one an epoch.
        note: what a reader should know of the normalisation.
    """

    name: str
    model: nn.Module
    data: Data
    preprocessing: Preprocessing
    folder: Path | None = None
    history: list[dict[str, Any]] = field(default_factory=list, repr=False)
    note: str = ""

    @property
    def is_image(self) -> bool:
        """Whether samples are images (spectrograms included)."""
        return len(self.data.shape) == 3

    @property
    def device(self) -> torch.device:
        """Where the network works."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def view(self, on: str) -> View:
        """The part of the data that is judged, without augmentation.

        Raises:
            ConfigError: there is no such part.
        """
        found = {"train": self.data.train.with_augment(None), "val": self.data.val, "test": self.data.test}[on]
        if found is None:
            raise ConfigError(f"--on {on}: the data have no such part; give --on train, or data that have one")
        return found

    def samples(self, view: View, rows: Tensor) -> Tensor:
        """Samples as ``model`` takes them, on the CPU: images in [0, 1], features as they are."""
        raw = view.raw(rows).float()
        return raw / 255 if self.is_image else raw

    def rows(self, view: View, limit: int, seed: int) -> Tensor:
        """At most so many positions in a view, drawn by a seed; fewer are the first of more."""
        return torch.randperm(len(view), generator=torch.Generator().manual_seed(seed))[:limit]

    def fingerprint(self) -> str:
        """A hash of weights, normalisation and data."""
        digest = hashlib.sha256(f"{self.data.fingerprint} {self.preprocessing.to_dict()}".encode())
        for name, value in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:12]


def subject_of(
    network: nn.Module,
    data: Data,
    preprocessing: Preprocessing,
    *,
    name: str,
    device: str | torch.device = "cpu",
    folder: Path | None = None,
    note: str = "",
) -> Subject:
    """Put a network's normalisation in front of it.

    Raises:
        ConfigError: the data have another shape than the network's samples.
    """
    if tuple(preprocessing.shape) != tuple(data.shape):
        raise ConfigError(
            f"{name} takes samples of shape {tuple(preprocessing.shape)}, the data have {tuple(data.shape)}:"
            " give data of that shape (--image-size resizes images, --pad frames them)"
        )
    taken, given = preprocessing.columns, data.preprocessing.columns
    if taken is not None and given is not None and taken != given:
        raise ConfigError(
            f"{name} takes the features {in_short(taken)}, and the data have {in_short(given)}: give them the same"
            " columns in the same order"
        )
    front: Any = PixelModel if len(data.shape) == 3 else Standardised
    model = front(network, preprocessing.mean, preprocessing.std).to(device).eval()
    for parameter in model.parameters():
        if parameter.ndim == 4:  # the faster layout of convolutions
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    history = read_metrics(folder) if folder is not None else []
    return Subject(name, model, data, preprocessing, folder, history, note)


def run_subject(
    folder: Path,
    *,
    model: str | None = None,
    data: str | None = None,
    device: str = "auto",
    **options: Any,
) -> Subject:
    """A finished run, on its own data or on others.

    Args:
        folder: of the run.
        model: ``"module:factory"`` of an untrained network, where the run trained one of the user's own.
        data: other data; None: the run's.
        device: where the network shall work.
        **options: of ``lessonplan.data.load``, for other data, or where the run's cannot be found again by
            themselves.

    Raises:
        ConfigError, DataError: the run is not finished, its data are gone or have changed, or others do not fit.
    """
    where = resolve_device(device)
    config = load_config(folder)
    inputs = config["input"]
    asked = tuple(inputs["shape"]), len(inputs["classes"])
    classifier = load(folder, model=made(model, *asked, of_run=True) if model is not None else None)
    if data is None:
        found = _own_data(folder, config, options)
    else:
        found = load_data(data, seed=int(config["seed"]), **{**_input(config), **options})
        if tuple(found.class_names) != classifier.class_names:
            raise DataError(
                f"{data} has the classes {in_short(found.class_names)}, {folder} was trained on"
                f" {in_short(classifier.class_names)}: give data with the same classes"
            )
    return subject_of(
        classifier.model, found, classifier.preprocessing, name=folder.resolve().name, device=where, folder=folder
    )


def model_subject(
    model: str,
    weights: Path | None,
    data: str,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str = "auto",
    seed: int = 0,
    **options: Any,
) -> Subject:
    """A network that was trained elsewhere.

    Args:
        model: ``"module:factory"``, where the factory makes a network from normalised samples to logits, or the
            name of one of ours.
        weights: a safetensors file; None: the network as the factory makes it.
        data: what it is judged on.
        mean: of its normalisation, in units of [0, 1] pixels, one number or one a channel; None: that of the
            training part of the data.
        std: the same.
        device: where it shall work.
        seed: of splits.
        **options: of ``lessonplan.data.load``.

    Raises:
        ConfigError, DataError: no such network, weights that do not fit it.
    """
    where = resolve_device(device)
    found = load_data(data, seed=seed, **options)
    network = made(model, found.shape, found.num_classes, of_run=False)
    suit_channels(network, found.shape)
    outputs_of(model, network, tuple(found.shape))
    if weights is not None:
        load_weights(network, weights)
    own = found.preprocessing
    chosen = Preprocessing(
        own.shape, _each(mean, own.mean, "mean"), _each(std, own.std, "std"), own.audio, image=own.image
    )
    note = (
        "Normalised with the statistics of the training part of these data." if mean is None or std is None else ""
    )
    return subject_of(network, found, chosen, name=model, device=where, note=note)


def _input(config: dict[str, Any]) -> dict[str, Any]:
    """Options of loading that bring samples to the run's shape."""
    inputs = config["input"]
    shape, audio = inputs["shape"], inputs["preprocessing"].get("audio")
    options: dict[str, Any] = {"augment": "none"}
    if len(shape) == 3:
        inside = inputs["preprocessing"].get("image")
        options["image_size"] = tuple(inside or shape[1:])
        if inside:
            options["pad"] = (shape[1], shape[2])
    if audio:
        options["clip_seconds"] = audio["seconds"]
    prepared = Preprocessing.from_dict(inputs["preprocessing"])
    if prepared.decoding.interpolation or prepared.decoding.crop:  # as the weights asked that it began with
        options["input"] = InputNeeds.of_run(prepared)
    return options


def _own_data(folder: Path, config: dict[str, Any], options: dict[str, Any]) -> Data:
    """A run's data, split as they were."""
    about = config["data"]
    asked = ("per_class", "val_per_class", "val_fraction", "test_fraction", "seed")
    missing = [key for key in (*asked, "source", "fingerprint") if key not in about]
    if missing:
        raise DataError(f"{folder / 'config.yaml'} does not say where its data are from ({missing[0]} is missing)")
    again = {key: about[key] for key in asked}
    if about.get("unreadable_left_out"):
        again["on_bad"] = "skip"
    if about.get("test_source") is not None:
        again["test"] = about["test_source"]
    if about.get("chosen_classes"):
        again["classes"] = about["chosen_classes"]
    if about.get("label_noise"):
        again["label_noise"] = about["label_noise"]["fraction"]
    try:
        data = load_data(about["source"], **{**_input(config), **again, **options})
    except (DataError, ConfigError) as error:
        raise DataError(f"the data of {folder} ({about['source']}) cannot be read again: {error}") from None
    if data.fingerprint != about["fingerprint"]:
        raise DataError(
            f"the data at {about['source']} are not those that {folder} was trained on (they have changed, or were"
            " loaded with other options): give --data, with the options of the training"
        )
    return data


def _each(given: Sequence[float] | None, own: tuple[float, ...], name: str) -> tuple[float, ...]:
    """A value for each channel."""
    if given is None:
        return own
    values = tuple(given) * (len(own) if len(given) == 1 else 1)
    if len(values) != len(own):
        raise ConfigError(
            f"--{name} has {len(given)} numbers and the data {len(own)} channels: give one, or one each"
        )
    return values
