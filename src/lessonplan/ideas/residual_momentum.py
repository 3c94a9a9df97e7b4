"""Residual momentum: a network moves on by the average of what its last few residual blocks add."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor, nn

from lessonplan.errors import require


class ResidualMomentum(nn.Sequential):
    """A chain of residual blocks whose steps are averaged along the depth (thesis, future work 2).

    With ``r_l = block_l(x_l) - x_l``, what block l adds, a plain chain goes to ``x_l + r_l`` and this one to

    - ``x_l + mean(r_(l-window+1), ..., r_l)``, a sliding window (fewer at the start), or
    - ``x_l + v_l`` with ``v_1 = r_1`` and ``v_l = decay * v_(l-1) + (1 - decay) * r_l``, a moving average.

    Either step is an average, so it is never longer than the longest residual it is made of. It replaces a
    stage of a network, ``model.stage2 = ResidualMomentum(*model.stage2)``, under the same names of parameters.
    Where a block changes the shape, its output passes as it is and the memory starts anew.

    Args:
        blocks: modules that map a tensor to that tensor plus something.
        window: residuals in the mean, at least 1 (a plain chain); 2 if neither it nor ``decay`` is given.
        decay: of the moving average, in [0, 1); 0 is a plain chain.

    Raises:
        ConfigError: no blocks, both rules at once, or a number out of range.

    >>> class Add(nn.Module):
    ...     def __init__(self, amount):
    ...         super().__init__()
    ...         self.amount = amount
    ...     def forward(self, x):
    ...         return x + self.amount
    >>> ResidualMomentum(Add(1.0), Add(3.0), window=2)(torch.tensor([0.0]))  # 0 + 1 + (1 + 3) / 2
    tensor([3.])
    """

    def __init__(self, *blocks: nn.Module, window: int | None = None, decay: float | None = None) -> None:
        require(
            len(blocks) > 0, "ResidualMomentum got no blocks: give at least one, as in ResidualMomentum(*stage)"
        )
        require(
            window is None or decay is None,
            f"window={window} and decay={decay}: give the one for a sliding window or the other for an average",
        )
        require(window is None or window >= 1, f"window={window}: give a number of residuals of at least 1")
        require(
            decay is None or 0 <= decay < 1, f"decay={decay}: give a number from 0 up to, but not including, 1"
        )
        super().__init__(*blocks)
        self.window = 2 if window is None and decay is None else window
        self.decay = decay

    def forward(self, x: Tensor) -> Tensor:
        """Run all blocks; shapes are those of the plain chain."""
        memory: deque[Tensor] = deque(maxlen=self.window if self.decay is None else 1)
        for block in self:
            out: Tensor = block(x)
            if out.shape != x.shape:
                memory.clear()
                x = out
                continue
            residual = out - x
            step = self._step(residual, memory)
            # Written as a correction of the block's output, which leaves a plain chain as it is to the last bit.
            x = out + (step - residual)
        return x

    def _step(self, residual: Tensor, memory: deque[Tensor]) -> Tensor:
        """The averaged step; the memory takes in what the next step needs."""
        if self.decay is None:
            memory.append(residual)
            return torch.stack(tuple(memory)).mean(0)
        step = torch.lerp(residual, memory[0], self.decay) if memory else residual
        memory.append(step)
        return step

    def extra_repr(self) -> str:
        """Which rule is at work."""
        return f"window={self.window}" if self.decay is None else f"decay={self.decay}"
