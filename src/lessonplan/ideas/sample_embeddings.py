"""Sample embeddings: every training sample has a place for what is peculiar to it, which is taken away again."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError, DataError, require


class SampleEmbeddings(nn.Module):
    """A learnt vector for each training sample, added to its input or hidden state (thesis, future work 6).

    While the network learns, what fits one sample alone can go into its embedding instead of the weights. Then
    the norms are brought to 0, by ``shrink`` or by ``penalty`` in the loss, and the network is used without::

        hidden = embeddings(backbone(x), rows)                       # training
        loss = criterion(head(hidden), y)                            # + 0.1 * embeddings.penalty(rows), or
        embeddings.shrink(0.05)                                      # late in training, after every step
        logits = head(backbone(x))                                   # evaluation

    Give the embeddings a parameter group without weight decay and momentum: momentum would move samples that
    are not in the batch.

    Args:
        count: number of training samples, at least 1.
        shape: of what is added, such as ``64`` for features or ``1, 8, 8`` for images.

    The embeddings start at 0, where they change nothing and already have a gradient. ``weight`` is the parameter
    ``(count, *shape)``.

    Raises:
        ConfigError: a number below 1, or tensors that do not fit. DataError: rows that do not exist.

    >>> embeddings = SampleEmbeddings(100, 2)
    >>> embeddings(torch.ones(3, 2), torch.tensor([5, 7, 5])).shape
    torch.Size([3, 2])
    """

    def __init__(self, count: int, *shape: int) -> None:
        super().__init__()
        require(
            count >= 1 and len(shape) > 0 and min(shape) >= 1,
            f"SampleEmbeddings({', '.join(map(str, (count, *shape)))}): give the number of samples and a shape,"
            " all at least 1",
        )
        self.weight = nn.Parameter(torch.zeros(count, *shape))

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        """Add to each sample its own embedding.

        Args:
            x: ``(N, *shape)``, floating point.
            rows: ``(N,)`` int64, which training sample each one is; repeats are allowed.
        """
        require(
            x.shape == (len(rows), *self.weight.shape[1:]),
            f"SampleEmbeddings got inputs {tuple(x.shape)} for {len(rows)} rows: give"
            f" ({len(rows)}, {', '.join(map(str, self.weight.shape[1:]))})",
        )
        return x + self._look_up(rows)

    def penalty(self, rows: Tensor) -> Tensor:
        """Mean Euclidean norm of these samples' embeddings, a scalar to be added to the loss.

        Its gradient pulls every embedding towards 0 with the same force, and is 0 at 0.
        """
        require(len(rows) > 0, "penalty got no rows: give at least one training sample")
        return _norms(self._look_up(rows)).mean()

    @torch.no_grad()
    def shrink(self, fraction: float) -> None:
        """Take this fraction of its norm from every embedding: 0 takes nothing, 1 leaves none.

        Args:
            fraction: in [0, 1].
        """
        require(0 <= fraction <= 1, f"fraction={fraction}: give the part of the norm to take, in [0, 1]")
        self.weight.mul_(1 - fraction)

    @torch.no_grad()
    def norms(self) -> Tensor:
        """The norm of every embedding, ``(count,)``: how much of a sample was learnt for itself alone."""
        return _norms(self.weight)

    def _look_up(self, rows: Tensor) -> Tensor:
        if rows.ndim != 1 or rows.dtype != torch.int64:
            raise ConfigError(f"rows of shape {tuple(rows.shape)} and type {rows.dtype}: give int64 of shape (N,)")
        count = len(self.weight)
        # On an accelerator reading a value back stalls the queue, and its own check reports the mistake.
        if rows.device.type == "cpu" and len(rows) and not torch.compiler.is_compiling():
            low, high = (int(v) for v in torch.aminmax(rows))
            if low < 0 or high >= count:
                raise DataError(f"rows from {low} to {high}, but there are embeddings for 0 to {count - 1}")
        return self.weight[rows]


def _norms(vectors: Tensor) -> Tensor:
    """The Euclidean norm of each row, whatever its shape."""
    norms: Tensor = torch.linalg.vector_norm(vectors.flatten(1), dim=1)
    return norms
