"""Embedding targets: the network gives an embedding, and the nearest class embedding wins."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError, require
from lessonplan.seeds import fold_seed


class EmbeddingTarget(nn.Module):
    """A classifier's last layer: logits are the negative distances to class embeddings (thesis, future work 5).

    ``softmax(-|z - e_c| / temperature)`` is the probability of class c. Any loss on logits can be used. The
    distance is Euclidean and not squared: squared distances would make it a linear classifier, with weights
    ``2 e_c`` and biases ``-|e_c|^2``. No output is a surer one than the class embedding itself, where the
    probability is ``1 / sum_j exp(-|e_j - e_c| / temperature)``: classes too close together cannot be told
    apart with confidence.

    Args:
        num_classes: C, at least 2 (for words, the size of the vocabulary).
        features: D, the length of an embedding.
        embeddings: ``(C, D)``; None draws normal ones, which are trained. A ``nn.Parameter`` is shared and
            trained (the input embedding of a language model); another tensor is copied and stays as it is
            (word vectors made elsewhere).
        temperature: unit of the distances, finite and above 0.
        seed: of the drawn embeddings; the global generators are left as they are.

    Forward takes ``(..., D)`` and gives logits ``(..., C)``, none above 0; it costs D operations a class.

    Raises:
        ConfigError: a number is out of range, or a shape does not fit.

    >>> layer = EmbeddingTarget(2, 2, embeddings=torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    >>> layer(torch.tensor([[3.0, 0.0]]))
    tensor([[-3., -4.]])
    """

    embeddings: Tensor

    def __init__(
        self,
        num_classes: int,
        features: int,
        *,
        embeddings: Tensor | None = None,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require(num_classes >= 2, f"num_classes={num_classes}: give at least 2")
        require(features >= 1, f"features={features}: give the length of an embedding, at least 1")
        require(0 < temperature < math.inf, f"temperature={temperature}: give a finite number above 0")
        self.temperature = temperature
        if embeddings is None:
            generator = torch.Generator().manual_seed(fold_seed(seed, type(self).__name__))
            embeddings = nn.Parameter(torch.randn(num_classes, features, generator=generator))
        if embeddings.shape != (num_classes, features) or not embeddings.is_floating_point():
            raise ConfigError(
                f"embeddings of shape {tuple(embeddings.shape)} and type {embeddings.dtype}: give floats of shape"
                f" (num_classes, features) = ({num_classes}, {features})"
            )
        if isinstance(embeddings, nn.Parameter):
            self.embeddings = embeddings
        else:
            self.register_buffer("embeddings", embeddings.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings ``(..., D)`` to logits ``(..., C)``."""
        classes, features = self.embeddings.shape
        require(
            x.ndim >= 1 and x.shape[-1] == features,
            f"EmbeddingTarget got an input of shape {tuple(x.shape)}: give (..., {features})",
        )
        # The faster way through a matrix product loses half the digits of a small distance.
        distances = torch.cdist(
            x.reshape(-1, features), self.embeddings, compute_mode="donot_use_mm_for_euclid_dist"
        )
        return -distances.view(*x.shape[:-1], classes) / self.temperature
