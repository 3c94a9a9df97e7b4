"""What an ONNX file computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.data import Preprocessing
from lessonplan.data.normalise import Normalise, scale_of
from lessonplan.network.network import logits_among


class Graph(nn.Module):
    """``(N, *shape)`` to logits and probabilities ``(N, C)``, float32.

    Args:
        model: the network.
        preprocessing: whose shape the input has.
        inside: whether the input is raw and normalised here.
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, inside: bool) -> None:
        super().__init__()
        self.model = model
        self.shape, self.inside = preprocessing.shape, inside
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(preprocessing.mean))
        self.register_buffer("std", torch.tensor(preprocessing.std))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.output(x).float()
        return logits, logits.softmax(1)

    def output(self, x: Tensor) -> Any:
        """The network's logits, or whatever else it gives."""
        normalise = Normalise(self.mean, self.std, scale_of(self.shape))
        return logits_among(self.model(normalise(x) if self.inside else x))

    def example(self, samples: int) -> Tensor:
        """Noise as the graph takes it."""
        generator = torch.Generator().manual_seed(samples)
        if self.inside and len(self.shape) == 3:
            return torch.randint(0, 256, (samples, *self.shape), generator=generator, dtype=torch.uint8)
        noise = torch.randn(samples, *self.shape, generator=generator)
        return noise * self.std + self.mean if self.inside else noise

    def takes(self) -> str:
        """The input in words."""
        size = f"(N, {', '.join(map(str, self.shape))})"
        if not self.inside:
            return f"float32 {size}, normalised"
        return f"uint8 pixels {size}, 0 to 255" if len(self.shape) == 3 else f"float32 features {size}"
