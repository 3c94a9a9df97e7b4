"""Mask and transport of Puzzle Mix: the library's batched solver beside the published per-image algorithm.

    OMP_NUM_THREADS=1 python benchmarks/puzzle_solver.py --data parquet:PATH/cifar10 [--instances 1000]

Trains a small network first, so that the saliency is that of a network that has learned something. Times are CPU
time of one thread: the shortest of twenty for the library, one run for the published form. Energies (times n^2)
are means over the same instances.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import lessonplan as lp
from graph_cut import alpha_beta_swap, dense_transport
from lessonplan.mix.puzzle.assemble import colour_span
from lessonplan.mix.puzzle.energy import border_weights, colours, mask_energy, unary_cost
from lessonplan.mix.puzzle.saliency import block_saliency, input_gradient, saliency_map
from lessonplan.mix.puzzle.solver import solve_mask
from lessonplan.mix.puzzle.transport import transport_plan
from lessonplan.network.network import Network

BATCH = 100
SHARES = (0.5, 0.1, 0.9, 0.3, 0.7)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The shortest of some runs."""
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--budget", default="10ep")
    options = parser.parse_args()
    data = lp.data.load(options.data, per_class=500, val_fraction=0.1, seed=0)
    model = lp.fit("tiny", data, None, options.budget, threads=1).model
    torch.set_num_threads(1)
    batches = []
    for start in range(options.instances // BATCH):
        x, y = data.train.fetch(torch.arange(start * BATCH, (start + 1) * BATCH) % len(data.train), epoch=0)
        target = torch.nn.functional.one_hot(y, data.num_classes).float()
        batches.append((x, saliency_map(input_gradient(Network(model), x, target))))
    print(f"{options.instances} instances, batch {BATCH}, 32 x 32, 3 labels, one thread; ms a batch")
    print("| n | mask | transport | both | published mask | transport | energy | published | lower or equal |")
    print("|---|---|---|---|---|---|---|---|---|")
    for n in (16, 8, 4, 2):
        print(row(n, batches))


def row(n: int, batches: list[tuple[Tensor, Tensor]]) -> str:
    """Times of the first batch, energies of all."""
    ours, theirs, times = [], [], []
    for number, (x, saliency) in enumerate(batches):
        span = colour_span(x)
        s1 = block_saliency(saliency, n)
        s2 = s1.roll(1, 0)
        unary = unary_cost(s1, s2, torch.tensor(SHARES[number % len(SHARES)]), 0.2, 3)
        c1, c2 = colours(x, span), colours(x.roll(1, 0), span)
        across, down = border_weights(c1, c2, n, 1.2, 0.5)
        labels = solve_mask(unary, across, down)
        u, a, d = unary.double().numpy(), across.double().numpy(), down.double().numpy()
        started = time.process_time()
        swapped = torch.stack([torch.from_numpy(alpha_beta_swap(u[:, i], a[i], d[i])) for i in range(BATCH)])
        published = time.process_time() - started
        ours.append(mask_energy(unary.double(), across.double(), down.double(), labels))
        theirs.append(mask_energy(unary.double(), across.double(), down.double(), swapped))
        if number == 0:
            z = labels / 2
            sides, masks = torch.cat([s1, s2]), torch.cat([z, 1 - z])
            times = [
                seconds(partial(solve_mask, unary, across, down), 20),
                seconds(partial(transport_plan, sides, masks, 0.8), 20),
                published,
                seconds(partial(dense_transport, sides, masks, 0.8), 1),
            ]
    mine, other = torch.cat(ours) * n**2, torch.cat(theirs) * n**2
    mask, moves, published, dense = (f"{1000 * t:.1f}" for t in times)
    both = f"{1000 * (times[0] + times[1]):.1f}"
    share = (mine <= other + 1e-6 * n**2).double().mean()
    return (
        f"| {n} | {mask} | {moves} | {both} | {published} | {dense} "
        f"| {mine.mean():.5f} | {other.mean():.5f} | {share:.1%} |"
    )


if __name__ == "__main__":
    main()
