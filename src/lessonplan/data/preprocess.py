"""What a user's own images or recordings go through before a trained model sees them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from lessonplan.data.normalise import Normalise, scale_of
from lessonplan.data.padded import framed
from lessonplan.data.pixels import BROKEN, Decoding, Pixels, fit, from_array, from_pil, open_image
from lessonplan.data.spectrogram import Spectrogram
from lessonplan.data.store import read_file
from lessonplan.data.wav import Recording, read_wav
from lessonplan.errors import DataError, first_line

Image_ = Image.Image | str | Path | npt.NDArray[Any] | Recording


@dataclass(frozen=True)
class Preprocessing:
    """Channel conversion, resize to cover and centre crop, black frame, normalisation: the same as in training.

    Args:
        shape: ``(C, H, W)`` of images, or ``(F,)`` of features.
        mean: per channel in units of ``[0, 1]`` pixels, or per feature.
        std: the same.
        audio: how recordings become images, for a model of recordings; None for others.
        decoding: what was decided on deep and transparent pixels.
        image: ``(h, w)`` that images have inside of a black frame of H and W; None where they have no frame.
        columns: what the features of a table are called, in the order of the network's inputs; None where nobody
            has named them.

    >>> prepare = Preprocessing(shape=(1, 2, 2), mean=(0.5,), std=(0.5,))
    >>> prepare([np.full((4, 4), 255, dtype=np.uint8)]).flatten()
    tensor([1., 1., 1., 1.])
    """

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    audio: Spectrogram | None = None
    decoding: Decoding = field(default_factory=Decoding)
    image: tuple[int, ...] | None = None
    columns: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, exact through JSON."""
        plain = {"shape": list(self.shape), "mean": list(self.mean), "std": list(self.std)}
        more: dict[str, Any] = {"audio": self.audio.to_dict()} if self.audio is not None else {}
        more |= {"image": list(self.image)} if self.image is not None else {}
        more |= {"columns": list(self.columns)} if self.columns is not None else {}
        decided = self.decoding.to_dict()
        return {**plain, **more, **({"decoding": decided} if decided else {})}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """The inverse of :meth:`to_dict`.

        Raises:
            DataError: values that it never gives.
        """
        try:
            found = cls(
                shape=tuple(int(n) for n in values["shape"]),
                mean=tuple(float(m) for m in values["mean"]),
                std=tuple(float(s) for s in values["std"]),
                audio=Spectrogram(**values["audio"]) if values.get("audio") else None,
                decoding=Decoding(**values.get("decoding", {})),
                image=tuple(int(n) for n in values["image"]) if values.get("image") else None,
                columns=tuple(str(name) for name in values["columns"]) if values.get("columns") else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(
                f"the stored preprocessing cannot be used ({first_line(error)}): put it back"
            ) from None
        sizes = (
            len(found.shape) in (1, 3),
            len(found.mean) == len(found.std) == found.shape[0],
            found.image is None or _inside(found.image, found.shape[1:]),
            found.columns is None or found.shape == (len(found.columns),),
        )
        if not (all(sizes) and all(map(math.isfinite, found.mean)) and all(0 < s < math.inf for s in found.std)):
            raise DataError(f"the stored preprocessing {_shortened(values)} cannot be used: put it back")
        return found

    def __call__(self, images: Sequence[Image_] | Tensor | npt.NDArray[Any]) -> Tensor:
        """Make a batch for the model.

        Args:
            images: PIL images, paths or arrays in any mixture and of any size; or a uint8 tensor
                ``(B, C, H, W)``, which is resized too where it has another size and passes as it is, framed by
                whoever gives it, where it has this one. A model of features takes
                numbers ``(B, F)``. A model of recordings takes paths of WAV files, :class:`Recording` objects,
                or spectrograms as a uint8 tensor.

        Returns:
            ``(B, *shape)`` float32.

        Raises:
            DataError: an unreadable file (named), or an array that is no image.
        """
        normalise = Normalise(torch.tensor(self.mean), torch.tensor(self.std), scale_of(self.shape))
        if len(self.shape) == 1:
            x = torch.as_tensor(np.asarray(images), dtype=torch.float32)
            if x.ndim != 2 or x.shape[1:] != self.shape:
                raise DataError(f"features must have shape (B, {self.shape[0]}), not {tuple(x.shape)}")
            return normalise(x)
        if isinstance(images, Tensor) and images.dtype == torch.uint8 and images.shape[1:] == self.shape:
            return normalise(images)
        if is_one(images):
            images = [images]  # type: ignore[list-item]
        samples = [self.pixels(np.asarray(i.cpu()) if isinstance(i, Tensor) else i) for i in images]
        stacked = np.stack(samples) if samples else np.empty((0, *self.shape), dtype=np.uint8)
        return normalise(torch.from_numpy(stacked))

    def single(self, given: Any) -> bool:
        """Whether this is one sample, and no collection of them; of features ``(F,)`` is one."""
        return np.ndim(given) == 1 if len(self.shape) == 1 else is_one(given)

    def pixels(self, image: Image_) -> Pixels:
        """One image or recording as uint8 ``(C, H, W)``, before normalisation."""
        if self.audio is not None:
            return _spectrogram(image, self.audio)
        frame = (self.shape[1], self.shape[2])
        if self.image is None:
            return self._of_size(image, frame)
        return framed(self._of_size(image, (self.image[0], self.image[1])), frame)

    def _of_size(self, image: Image_, size: tuple[int, int]) -> Pixels:
        channels = self.shape[0]
        if isinstance(image, Recording):
            raise DataError("this model classifies images, not recordings")
        if isinstance(image, (str, Path)):
            try:
                with open_image(Path(image)) as opened:
                    return from_pil(opened, channels, size, self.decoding)
            except BROKEN as e:
                raise DataError(f"{image} cannot be read as an image ({first_line(e)})") from e
        if isinstance(image, Image.Image):
            return from_pil(image, channels, size, self.decoding)
        return fit(from_array(np.asarray(image), decoding=self.decoding), channels, size, self.decoding)


def _inside(image: tuple[int, ...], frame: tuple[int, ...]) -> bool:
    return len(image) == len(frame) and all(1 <= own <= side for own, side in zip(image, frame, strict=True))


def _shortened(value: Any) -> str:
    return textwrap.shorten(repr(value), 200, placeholder=" ...")


def is_one(images: Any) -> bool:
    """Whether this is one image or recording, and no collection of them."""
    if isinstance(images, (str, Path, Image.Image, Recording)):
        return True
    shape = tuple(getattr(images, "shape", ()))
    return (len(shape) == 2 and max(shape) > 1) or (
        len(shape) == 3 and (shape[-1] in (1, 3) or shape[0] in (1, 3))
    )


def _spectrogram(recording: Image_, audio: Spectrogram) -> Pixels:
    """A recording as training saw it."""
    if isinstance(recording, (str, Path)):
        try:
            recording = read_wav(read_file(Path(recording), None))
        except (OSError, DataError) as e:
            raise DataError(f"{recording} cannot be read as a WAV file ({e})") from e
    if not isinstance(recording, Recording):
        raise DataError("this model classifies recordings: give paths of WAV files or Recording objects")
    pixels: Pixels = audio(torch.from_numpy(audio.fit(recording))[None])[0].numpy()
    return pixels
