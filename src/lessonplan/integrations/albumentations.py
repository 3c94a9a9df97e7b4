"""Albumentations (``pip install 'lessonplan[albumentations]'``): pipelines that change training samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lessonplan.errors import ConfigError
from lessonplan.integrations.packages import need

if TYPE_CHECKING:
    from albumentations import BasicTransform, Compose
else:
    need("albumentations", "albumentations")

__all__ = ["Transform"]

_SEEDS = 2**31


class Transform:
    """A pipeline of Albumentations' as what is done to one sample, a function of seed, epoch and sample::

        pipeline = A.Compose([A.HorizontalFlip(), A.Affine(rotate=(-15, 15))])
        data = lp.data.load(train, augment=lp.data.Augment(transform=Transform(pipeline)))

    A pipeline has random numbers of its own, which depend on what it was called with before and in which worker.
    Here it is seeded for each sample, so that batches, workers and resumed runs see the same pictures.

    A run knows the pipeline by what it prints (names and options): one with other options is another run; what
    the code of transforms of one's own does is not looked at.

    Args:
        pipeline: an ``albumentations.Compose``, or one of its transforms, that keeps size and type of a picture.

    Raises:
        ConfigError: something else was given.
    """

    # no __dict__: as part of a run's identity stands what is printed, and not the pipeline's random numbers
    __slots__ = ("pipeline",)

    def __init__(self, pipeline: Compose | BasicTransform) -> None:
        if not (callable(pipeline) and hasattr(pipeline, "set_random_seed")):
            raise ConfigError(
                f"{type(pipeline).__name__} is no pipeline of Albumentations': give A.Compose([...]) or one of its"
                " transforms"
            )
        self.pipeline = pipeline

    def __call__(self, sample: Tensor) -> Tensor:
        """The picture, changed.

        Args:
            sample: uint8 ``(C, H, W)``.

        Raises:
            ConfigError: the sample is no picture.
        """
        if sample.ndim != 3:
            raise ConfigError(f"Albumentations changes pictures (C, H, W); samples here are {tuple(sample.shape)}")
        # PyTorch's generator is seeded for this sample where data are augmented
        self.pipeline.set_random_seed(int(torch.randint(_SEEDS, ())))
        picture = np.ascontiguousarray(sample.permute(1, 2, 0).numpy())
        changed: Any = self.pipeline(image=picture)["image"]
        return torch.from_numpy(np.ascontiguousarray(changed.transpose(2, 0, 1)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.pipeline!r})"
