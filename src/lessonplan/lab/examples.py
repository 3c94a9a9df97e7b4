"""Pictures of what each method's network sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lessonplan import report
from lessonplan.data import Data
from lessonplan.data.normalise import Normalise, scale_of
from lessonplan.errors import ConfigError
from lessonplan.files import write_json
from lessonplan.lab.methods import Method
from lessonplan.mix import Mix, Network
from lessonplan.models import build_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 8
_LABEL_PARTS = 4


def mixed_images(
    mix: Mix | None, data: Data, count: int = _SHOWN, seed: int = 0, model: nn.Module | None = None
) -> Figure | None:
    """A grid of mixed training images with their soft labels; None where samples are no images.

    Args:
        mix: how to mix, or None for the images as training augments them; it is bound to the data's classes.
        data: where the images come from.
        count: images to show.
        seed: which images.
        model: the network, for mixes that ask one; None is an untrained one.

    Raises:
        ConfigError: the mix does not fit the images, or names layers that the network does not have.
    """
    if len(data.shape) != 3 or data.shape[0] not in (1, 3):
        return None
    per_image = 1
    if mix is not None:
        bind(mix, data, seed, model)
        per_image = mix.current_k()
    x, y = training_images(data, count * max(per_image, 1), seed)
    x, y = x.to(data.train.device), y.to(data.train.device)
    if mix is not None:
        x, target = mix(x, y)
    else:
        target = torch.nn.functional.one_hot(y, data.num_classes).float()
    pixels = x[:count].float().round().clamp(0, 255).to(torch.uint8).cpu()
    array = pixels[:, 0].numpy() if data.shape[0] == 1 else pixels.permute(0, 2, 3, 1).numpy()
    return report.image_grid(array, [label_text(row, data.class_names) for row in target[:count]], columns=4)


def bind(mix: Mix, data: Data, seed: int, model: nn.Module | None = None) -> None:
    """Ready a mix for raw training images; a mix that asks a network gets one that takes raw images."""
    mix.finish_setup(data.num_classes, seed)
    if not mix.needs_network():
        return
    given = model is not None
    if model is None:
        spec = "tiny" if len(data.shape) == 3 and min(data.shape[1:]) >= 8 else "fcnet-64"
        model = build_model(spec, shape=data.shape, num_classes=data.num_classes, seed=seed)
    network = model.to(data.train.device)
    normalise = Normalise(data.mean, data.std, scale_of(data.shape)).to(data.train.device)

    def run(raw: Tensor) -> Tensor:
        logits: Tensor = network(normalise(raw))
        return logits

    try:
        mix.attach(Network(network, run=run))
    except ConfigError as error:
        if given or not mix.reaches_inside():
            raise
        raise ConfigError(
            f"{mix} names layers of a network, and none was given to show it with: give a run of that network"
            " (preview: --run FOLDER)"
        ) from error


def training_images(data: Data, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Training images drawn by a seed, at most ``count``, as the first epoch augments them, and their labels."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[:count]
    return data.train.pixels(order), data.train.labels[order]


def label_text(target: torch.Tensor, names: Sequence[str]) -> str:
    """A soft label in words, largest share first.

    >>> label_text(torch.tensor([0.25, 0.75, 0.0]), ["cat", "dog", "bird"])
    '0.75 dog + 0.25 cat'
    """
    shares = sorted(((v, i) for i, v in enumerate(target.tolist()) if v > 0), key=lambda s: (-s[0], s[1]))
    words = [names[i] if v == 1 else f"{v:.2f} {names[i]}" for v, i in shares[:_LABEL_PARTS]]
    return " + ".join(words) + (" + ..." if len(shares) > _LABEL_PARTS else "")


def write_examples(
    root: Path,
    methods: Sequence[Method],
    data: Data,
    seed: int,
    network: Callable[[Method], nn.Module] | None = None,
) -> None:
    """Write ``examples/METHOD.png`` with a caption for each mix, one for all methods without; older ones go.

    Args:
        root: folder of the comparison.
        methods: what is compared.
        data: where the images come from.
        seed: which images.
        network: makes a method's network, for mixes that ask one; None is an untrained one for all.

    Raises:
        ConfigError: a mix does not fit the images or its network; the method is named.
    """
    folder = root / "examples"
    mixes = {method.name: method.fresh_plan().mix for method in methods}
    plain = [name for name, mix in mixes.items() if mix is None]
    shown = [method for method in methods if method.name not in plain[1:]]
    stems = {report.file_stem(method.name) for method in shown}
    for old in folder.glob("*.*"):
        if old.name.removesuffix(".png").removesuffix(".json") not in stems:
            old.unlink()
    for method in shown:
        mix = mixes[method.name]
        try:
            asks = mix is not None and mix.needs_network()
            model = network(method) if network is not None and asks else None
            figure = mixed_images(mix, data, seed=seed, model=model)
        except ConfigError as error:
            raise ConfigError(f"method {method.name}: {error}") from None
        if figure is None:
            continue
        what = f"{method.name}: {method.describe()}" if mix is not None else f"{', '.join(plain)}: not mixed"
        caption = f"{what}; training samples as the network sees them at the start"
        write_json(folder / f"{report.file_stem(method.name)}.json", {"method": method.name, "caption": caption})
        report.save_png(figure, folder / f"{report.file_stem(method.name)}.png")
