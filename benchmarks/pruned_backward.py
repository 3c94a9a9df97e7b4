"""An answer, not a claim: does a backward pass over accepted rows alone save time? It is exact.

    OMP_NUM_THREADS=1 python benchmarks/pruned_backward.py [--depth 10] [--widen 1] [--device cuda]

A candidate that is scored has had its forward pass; to train on it the library makes another one, which is
(1 + 3 a) / 3 plain steps in all for a share a that is accepted, since autograd runs no backward pass over fewer
rows than the forward pass had. There is a way around it without a compiler: the scoring pass notes, below autograd
(``__torch_dispatch__``), what its costly operations gave (convolutions, products, normalisations) and keeps the
accepted rows; then the network is called once more on these rows, with gradients, and each costly operation takes
the rows that are there in place of computing them. Autograd records the graph it always records. That is
(1 + 2 a) / 3 by passes.

Both are measured for the same rows of a network with group norm, with the largest difference of their gradients.
Where most are accepted the library makes one pass over all candidates instead, which is 1 plain step.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_structure, tree_unflatten

from lessonplan.models.wide_resnet import WideResNet
from lessonplan.network.untouched import seeded
from timing import interleaved, ratio, show, spread

SHARES = (0.9, 0.5, 0.25, 0.1)
BATCH, CHUNK = 128, 64  # samples of an update, and of a scoring pass on a CPU
Outputs = list[Any]


class Costly(TorchDispatchMode):
    """Hears of costly operations on samples: no views, nothing in place or element by element."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self._alive, self._storages, self.number = [x], {x.untyped_storage()._cdata}, 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        def run() -> Any:
            return func(*args, **(kwargs or {}))

        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not any(tensor.untyped_storage()._cdata in self._storages for tensor in tensors):
            return run()
        changes = any(argument.alias_info is not None for argument in func._schema.arguments)
        if changes or torch.Tag.pointwise in func.tags:
            out = run()
        else:
            out = self.operation(run)
            self.number += 1
        for leaf in tree_leaves(out):
            self._storages.add(leaf.untyped_storage()._cdata)
            self._alive.append(leaf)  # or its address could be another tensor's
        return out

    def operation(self, run: Callable[[], Any]) -> Any:
        raise NotImplementedError


class Noting(Costly):
    """Notes what each operation gives."""

    def __init__(self, x: Tensor) -> None:
        super().__init__(x)
        self.outputs: Outputs = []

    def operation(self, run: Callable[[], Any]) -> Any:
        self.outputs.append(run())
        return self.outputs[-1]

    def rows(self, positions: Tensor) -> Outputs:
        """What it gave for some rows."""
        return [
            tree_unflatten([leaf.index_select(0, positions) for leaf in tree_leaves(out)], tree_structure(out))
            for out in self.outputs
        ]


class Taking(Costly):
    """Takes noted rows, chunk after chunk, in place of each operation."""

    def __init__(self, x: Tensor, chunks: Sequence[Outputs]) -> None:
        super().__init__(x)
        self._chunks = chunks

    def operation(self, run: Callable[[], Any]) -> Any:
        parts = [chunk[self.number] for chunk in self._chunks]
        joined = [torch.cat(pieces) for pieces in zip(*(tree_leaves(part) for part in parts), strict=True)]
        return tree_unflatten(joined, tree_structure(parts[0]))


class Side:
    """A network that scores candidates and trains on the accepted ones."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor) -> None:
        self.model, self.x, self.y = model.train(), x, y
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def update(self, logits: Tensor, y: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits, y).backward()
        self.optimizer.step()
        if self.x.is_cuda:
            torch.cuda.synchronize()

    def gradient(self) -> Tensor:
        return torch.cat([p.grad.flatten() for p in self.model.parameters() if p.grad is not None])

    def chunks(self, count: int, share: float) -> Iterator[tuple[Tensor, Tensor]]:
        """Which candidates are scored together, and which rows of these are accepted: every seed's the same."""
        generator = torch.Generator().manual_seed(0)
        size = CHUNK if self.x.device.type == "cpu" else count
        for rows in torch.arange(count).split(size):
            accepted = (torch.rand(len(rows), generator=generator) < share).nonzero().squeeze(1)
            yield rows.to(self.x.device), accepted.to(self.x.device)

    def plain(self) -> None:
        self.update(self.model(self.x[:BATCH]), self.y[:BATCH])

    def twice(self, count: int, share: float) -> None:
        """A scoring pass, and a training pass over what was accepted."""
        kept = []
        for rows, accepted in self.chunks(count, share):
            with torch.no_grad():
                self.model(self.x[rows])
            kept.append(rows[accepted])
        index = torch.cat(kept)
        self.update(self.model(self.x[index]), self.y[index])

    def pruned(self, count: int, share: float) -> None:
        """A scoring pass, and a backward pass over what was accepted."""
        kept, outputs = [], []
        for rows, accepted in self.chunks(count, share):
            x = self.x[rows]
            with torch.no_grad(), Noting(x) as noting:
                self.model(x)
            kept.append(rows[accepted])
            outputs.append(noting.rows(accepted))
        index = torch.cat(kept)
        x = self.x[index]
        with Taking(x, outputs):
            logits = self.model(x)
        self.update(logits, self.y[index])


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--depth", type=int, default=10, help="of a wide residual network")
    parser.add_argument("--widen", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=7)
    given = parser.parse_args()
    with seeded(0):
        model = WideResNet(given.depth, given.widen, norm="group").to(given.device)
    counts = {share: round(BATCH / share) for share in SHARES}
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(max(counts.values()), 3, 32, 32, generator=generator).to(given.device)
    side = Side(model, x, torch.arange(len(x), device=given.device) % 10)
    differences = []
    for share, count in counts.items():
        side.twice(count, share)
        expected = side.gradient()
        side.pruned(count, share)
        differences.append(float((side.gradient() - expected).abs().max() / expected.abs().max()))
    sides: dict[str, Callable[[], object]] = {"plain": side.plain}
    for share, count in counts.items():
        sides[f"twice {share}"] = lambda share=share, count=count: side.twice(count, share)
        sides[f"pruned {share}"] = lambda share=share, count=count: side.pruned(count, share)
    times = interleaved(sides, given.repetitions)

    def steps(name: str, share: float) -> str:
        return spread([r * BATCH / counts[share] for r in ratio(times, name, "plain")])

    rows = [
        [
            f"{share:.0%}",
            f"{(1 + 3 * share) / 3:.2f}, {(1 + 2 * share) / 3:.2f}",
            steps(f"twice {share}", share),
            steps(f"pruned {share}", share),
            spread(ratio(times, f"pruned {share}", f"twice {share}")),
        ]
        for share in SHARES
    ]
    show(
        f"Plain steps a candidate, WRN-{given.depth}-{given.widen} with group norm, {given.device}",
        ["accepted", "by passes: two, pruned", "two passes", "pruned backward", "pruned / two passes"],
        rows,
        [f"largest difference of a gradient, of the largest: {max(differences):.1e}"],
    )


if __name__ == "__main__":
    main()
