"""A trained network with its preprocessing and class names, ready for a user's own images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.data import Preprocessing
from lessonplan.errors import ConfigError
from lessonplan.models import build_model
from lessonplan.models.channels import suit_channels
from lessonplan.models.factory import Factory
from lessonplan.models.spec import model_identity
from lessonplan.network.network import as_logits
from lessonplan.seeds import fold_seed
from lessonplan.stores import fetched
from lessonplan.train.origin import own_network
from lessonplan.train.run_folder import load_config, read_result
from lessonplan.train.trained import FILE, load_trained


class Classifier:
    """What ``load`` returns.

    Attributes:
        model: the network in evaluation mode.
        preprocessing: from images to the network's input ``(N, C, H, W)``.
        class_names: one name a class, in the order of the network's outputs.
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, class_names: Sequence[str]) -> None:
        self.model = model.eval()
        self.preprocessing = preprocessing
        self.class_names = tuple(class_names)

    def predict(self, images: Any, batch_size: int = 256) -> Tensor:
        """Class probabilities.

        Args:
            images: a list of paths, PIL images or arrays (H, W[, 3]) of uint8, or a uint8 tensor (N, C, H, W); one
                image is a list of one.
            batch_size: images that go through the network at a time.

        Returns:
            ``(N, C)`` float32 on the CPU, rows summing to 1.
        """
        given = [images] if self.preprocessing.single(images) else images
        parts = [
            self.probabilities(self.preprocessing(given[i : i + batch_size]))
            for i in range(0, len(given), batch_size)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, len(self.class_names))

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities ``(N, C)`` on the CPU of what ``preprocessing`` gave."""
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        return as_logits(self.model(x.to(device)), len(x), len(self.class_names)).softmax(1).cpu()

    def classify(self, images: Any) -> list[str]:
        """The most probable class of each image, by name."""
        return [self.class_names[i] for i in self.predict(images).argmax(1).tolist()]

    def export(
        self, path: str | Path, *, preprocessing: bool = False, opset: int | None = None, force: bool = False
    ) -> str:
        """Write an ONNX file (extra ``lessonplan[onnx]``) for batches of any size N.

        Its input is ``input``, ``(N, *shape)``; its outputs are ``logits`` and ``probabilities``, float32
        ``(N, C)``. ``metadata_props["lessonplan"]`` is JSON: ``version``, ``takes``, ``preprocessing_inside``,
        ``class_names`` and what ``Preprocessing.from_dict`` reads (``shape``, ``mean``, ``std``, ...). Nothing is
        written unless ONNX Runtime computes the network's logits from it.

        Args:
            path: the file; its folder is made.
            preprocessing: the graph takes uint8 pixels 0 to 255 of the run's size (raw float32 features, for a
                network of features) and normalises them, as ``predict`` does behind decoding and resizing;
                without it, it takes float32 as ``self.preprocessing`` gives it. Recordings come as spectrograms
                in both.
            opset: version of ONNX's operators; None: PyTorch's default. 18 and higher will do, lower ones for a
                few simple networks.
            force: replace a file that is there.

        Returns:
            What the file takes, in words.

        Raises:
            ConfigError: a file that is there, missing packages, an opset that will not do, a network with an
                operator that ONNX lacks, or one whose ONNX file would give other logits.
            DataError: the disk refuses the file.
        """
        from lessonplan.train.onnx_file import write_onnx

        return write_onnx(
            Path(path),
            self.model,
            self.preprocessing,
            self.class_names,
            inside=preprocessing,
            opset=opset,
            force=force,
        )


def load(run: str | Path, model: nn.Module | Factory | None = None, device: str = "cpu") -> Classifier:
    """A finished run as a classifier.

    Args:
        run: the folder of a run, or a URL that fsspec opens.
        model: a network of the same architecture, or what makes one, where the run trained one of the user's own.
        device: where the network shall work.

    Raises:
        ConfigError: the folder holds no finished run, the architecture is not known by name, or ``model`` is
            another one. DataError: a file in it is damaged or was changed.
    """
    folder = fetched(run)
    config = load_config(folder)
    if not (folder / FILE).exists():
        raise ConfigError(f"{folder} has no {FILE}: the run is not finished, train it to its end")
    inputs = config["input"]
    shape, drawn = tuple(inputs["shape"]), fold_seed(int(config["seed"]), "weights")
    if model is None:
        if " with " in config["model"]:
            raise ConfigError(
                f"{folder} trained a network of yours ({config['model']}): give it as model=..., untrained"
            )
        digest = model_identity(config["model"]).get("model_code")
        if digest != config.get("model_code"):
            raise ConfigError(
                f"{folder} trained {config['model']} as its file was then, and it has changed: put that file back,"
                " or give the network as model=..."
            )
        model = build_model(config["model"], shape=shape, num_classes=len(inputs["classes"]), seed=drawn)
    model = own_network(model, shape, len(inputs["classes"]), drawn)
    suit_channels(model, shape)
    try:
        load_trained(model, folder, read_result(folder))
    except ConfigError as error:
        raise ConfigError(f"{error}: give one like the trained one ({config['model']})") from None
    preprocessing = Preprocessing.from_dict(inputs["preprocessing"])
    return Classifier(model.to(device), preprocessing, inputs["classes"])
