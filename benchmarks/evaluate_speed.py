"""Claims: 16 test-time sums take at most 1.05 of 16 plain forward passes, PGD-20 at most 1.05 of 20 passes.

A WRN-16-1 and 256 images of 32 x 32. A plain forward pass sends the same images through the network without
gradients, 64 at a time as the sums' chunk allows. A forward-backward pass is what an attack cannot do without:
the loss, and its gradient with respect to the images alone, with parameters that need none.

Memory is what predicting all images adds to the peak of a process that has predicted one chunk (Linux only).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.evaluate import sum_predict
from lessonplan.evaluate.adversarial import pgd
from lessonplan.models import build_model
from timing import interleaved, ratio, repetitions, show, spread

IMAGES, CHUNK, K, COPIES, STEPS, EPS = 256, 64, 4, 16, 20, 8 / 255
SIDE = (3, 32, 32)


def setting() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """The network, images, labels and pool."""
    generator = torch.Generator().manual_seed(0)
    model = build_model("wrn-16-1", shape=SIDE, num_classes=10, seed=0).eval()
    x, pool = (torch.rand(n, *SIDE, generator=generator) for n in (IMAGES, 2000))
    return model, x, torch.randint(10, (IMAGES,), generator=generator), pool


@torch.no_grad()
def plain(model: nn.Module, x: Tensor) -> None:
    """As many forward passes as the sums make."""
    for _ in range(COPIES):
        for part in x.split(CHUNK):
            model(part)


def forward_backward(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """As many input gradients as the attack takes."""
    for _ in range(STEPS):
        leaf = x.detach().requires_grad_()
        torch.autograd.grad(F.cross_entropy(model(leaf), y), leaf)


def _peak(copies: int, chunk: int) -> float:
    """MiB that a prediction adds to the peak of a process that has seen one chunk of the usual size."""
    torch.set_num_threads(1)
    model, x, _, pool = setting()
    sum_predict(model, x[:CHUNK], pool, K, 1, chunk=CHUNK)
    before = _high_water()
    sum_predict(model, x, pool, K, copies, chunk=chunk)
    return (_high_water() - before) / 1024


def _high_water() -> int:
    """Peak memory of this process in KiB; unlike getrusage it does not begin with the parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0])


def peaks(settings: Sequence[tuple[int, int]]) -> list[float]:
    """``_peak`` of each (copies, chunk), in processes of their own."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return pool.starmap(_peak, settings, chunksize=1)


def main() -> None:
    """Measure, and print the table."""
    count = repetitions(__doc__, 5)
    model, x, y, pool = setting()
    frozen = build_model("wrn-16-1", shape=SIDE, num_classes=10, seed=0).eval().requires_grad_(False)
    few, labels = x[:CHUNK], y[:CHUNK]
    sums: dict[str, Callable[[], object]] = {
        f"{COPIES} plain forward passes": lambda: plain(model, x),
        f"sum_predict(k={K}, copies={COPIES})": lambda: sum_predict(model, x, pool, K, COPIES, chunk=CHUNK),
    }
    attacks: dict[str, Callable[[], object]] = {
        f"{STEPS} forward-backward passes": lambda: forward_backward(frozen, few, labels),
        f"PGD-{STEPS}": lambda: pgd(model, few, labels, EPS, steps=STEPS),
    }
    rows, notes = [], []
    for sides in (sums, attacks):
        times = interleaved(sides, count)
        base, ours = sides
        rows += [[name, spread(times[name], 1e3, 0), spread(ratio(times, name, base))] for name in sides]
        notes.append(f"{ours} / {base}: {spread(ratio(times, ours, base))}, to reach: at most 1.05")
    small, large, wide = peaks([(4, CHUNK), (32, CHUNK), (32, 16 * CHUNK)])
    notes.append(
        f"memory that {IMAGES} images add to the first chunk of {CHUNK}: {small:.0f} MiB with 4 copies,"
        f" {large:.0f} with 32; {wide:.0f} with 32 in chunks of {16 * CHUNK}"
    )
    columns = ["", "ms", "of plain"]
    show(f"Test-time sums of {IMAGES} images, PGD on {CHUNK}, WRN-16-1 at 32 x 32", columns, rows, notes)


if __name__ == "__main__":
    main()
