"""Claim: as a drop-in our mixup and CutMix take at most timm's time in place, and leave the user's batch as it is.

Batches of (1024, 3, 32, 32) and (64, 3, 224, 224) float32, labels included, with one thread and with two. Sides
take turns; in a turn each is called three times, as a loop calls it, and the last call counts. "reuse": a mix may
write into the memory of the batch before (``reuse=True``), as ``fit`` does. "new memory": batches made before are
there still, as in a queue of prepared ones, and what was freed went back to the operating system before each call.
"rotate": partners by turning the batch, much as torchvision (by one) and timm (in reverse) have them, instead of
by a permutation. "for timm's": what stands in the place of ``timm.data.Mixup``, argument by argument, partners in
reverse. timm writes into the batch it is given, which is not counted against it. All draw, and are then given the
same lambda, .7, and the same box, in the middle, of .3 of the image (but where each sample has its own): what is
lowest would else be what the smallest box took that was drawn.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

import lessonplan as lp
from lessonplan.integrations import timm as for_timm
from lessonplan.models.beside_torchvision import import_beside_torchvision
from timing import show

SHAPES = ((1024, 3, 32, 32), (64, 3, 224, 224))
SIZES = [shape[0] for shape in SHAPES]
CLASSES, LAM = 10, 0.7
Pair = tuple[Tensor, Tensor]
Side = Callable[[], Any]

REUSED = {
    "lessonplan Mixup, reuse": ("timm Mixup, in place", 1.0),
    "lessonplan CutMix, reuse": ("timm CutMix, in place", 1.0),
    "lessonplan Mixup(rotate), reuse": ("timm Mixup, in place", 1.0),
    "lessonplan CutMix(rotate), reuse": ("timm CutMix, in place", 1.0),
    "lessonplan for timm's Mixup, reuse": ("timm Mixup, in place", 1.0),
    "lessonplan for timm's CutMix, reuse": ("timm CutMix, in place", 1.0),
    "lessonplan Mixup(per_sample), reuse": ("timm Mixup(mode='elem'), in place", 1.0),
}
NEW = {"lessonplan Mixup": 1.3, "lessonplan CutMix": 1.1, "lessonplan Cutout": 1.1}


def middle(height: int, width: int) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the box in the middle."""
    high, wide = (int(side * (1 - LAM) ** 0.5) // 2 for side in (height, width))
    return height // 2 - high, height // 2 + high, width // 2 - wide, width // 2 + wide


@contextmanager
def one_box() -> Iterator[None]:
    """The same lambda and the same box for everybody, who draw all the same: drawing is part of the work."""
    import_beside_torchvision("timm.data")

    def instead(real: Callable[..., Any], given: Callable[..., Any]) -> Callable[..., Any]:
        def drawn(*args: Any, **more: Any) -> Any:
            real(*args, **more)
            return given(*args, **more)

        return drawn

    shares = {
        count: torch.tensor([[LAM], [1 - LAM]], dtype=torch.float64).expand(2, count) for count in (1, *SIZES)
    }
    replaced = (
        (lp.mix.Mix, "_dirichlet", lambda self, alpha, count, k: shares[count]),
        (lp.mix.functional, "cutmix_box", lambda lam, row, column, *size: middle(*size)),
        (for_timm.Mixup, "_boxes", lambda self, lam, *size: np.array([middle(*size)])),
        (np.random, "beta", lambda a, b, size=None: LAM if size is None else np.full(size, LAM)),
        (
            sys.modules["timm.data.mixup"],
            "cutmix_bbox_and_lam",
            lambda shape, lam, **_: (middle(*shape[-2:]), LAM),
        ),
    )
    with ExitStack() as stack:
        for owner, name, given in replaced:
            stack.enter_context(mock.patch.object(owner, name, instead(getattr(owner, name), given)))
        yield


def sides(x: Tensor, y: Tensor) -> dict[str, Side]:
    """Everything that is measured, by name."""
    Mixup = import_beside_torchvision("timm.data").Mixup
    v2 = import_beside_torchvision("torchvision.transforms.v2")
    common = {"num_classes": CLASSES, "label_smoothing": 0.0}
    own = x.clone()
    timm = {
        "timm Mixup, in place": Mixup(mixup_alpha=1.0, **common),
        "timm Mixup(mode='elem'), in place": Mixup(mixup_alpha=1.0, mode="elem", **common),
        "timm CutMix, in place": Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, **common),
    }
    vision = {
        "torchvision MixUp": v2.MixUp(num_classes=CLASSES),
        "torchvision CutMix": v2.CutMix(num_classes=CLASSES),
    }
    in_place_of = {
        "for timm's Mixup, reuse": for_timm.Mixup(mixup_alpha=1.0, **common, reuse=True),
        "for timm's CutMix, reuse": for_timm.Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, **common, reuse=True),
    }
    top, bottom, left, right = middle(*x.shape[-2:])
    given = {"lam": LAM, "box": (left, top, right, bottom), "lam_adjusted": LAM}
    for mix in vision.values():
        mix.make_params = functools.partial(lambda real, leaves: real(leaves) | given, mix.make_params)
    ours: dict[str, Callable[..., lp.mix.Mix]] = {
        "Mixup": lp.mix.Mixup,
        "Mixup(per_sample)": functools.partial(lp.mix.Mixup, per_sample=True),
        "CutMix": lp.mix.CutMix,
        "Mixup(rotate)": functools.partial(lp.mix.Mixup, pairing="rotate"),
        "CutMix(rotate)": functools.partial(lp.mix.CutMix, pairing="rotate"),
        "CutMix(per_sample)": functools.partial(lp.mix.CutMix, per_sample=True),
        "Cutout": lp.mix.Cutout,
    }
    found: dict[str, Side] = {"torch.clone (inputs only)": x.clone}
    found |= {name: functools.partial(mix, x, y) for name, mix in vision.items()}
    found |= {name: functools.partial(mix, own, y) for name, mix in timm.items()}
    for name, make in ours.items():
        found[f"lessonplan {name}"] = functools.partial(make(num_classes=CLASSES), x, y)
        found[f"lessonplan {name}, reuse"] = functools.partial(make(num_classes=CLASSES, reuse=True), x, y)
    found |= {f"lessonplan {name}": functools.partial(mix, x, y) for name, mix in in_place_of.items()}
    found["lessonplan SumAugment(4)"] = functools.partial(lp.mix.SumAugment(4, num_classes=CLASSES), x, y)
    return found


def check(x: Tensor, y: Tensor) -> None:
    """Ours are what the formulas say, and the batch is what it was."""
    before, hot = x.clone(), torch.eye(CLASSES)[y]
    mix = lp.mix.Mixup(num_classes=CLASSES, reuse=True, seed=3)
    mixed, target = mix(x, y)
    generator = lp.mix.Mixup(num_classes=CLASSES, seed=3).generator
    partner = torch.rand(1, len(x), generator=generator).argsort(1)[0]
    torch.testing.assert_close(mixed, LAM * x + (1 - LAM) * x[partner])
    torch.testing.assert_close(target, LAM * hot + (1 - LAM) * hot[partner])
    for make in (lp.mix.CutMix, lp.mix.Cutout):
        make(num_classes=CLASSES, reuse=True)(x, y)
    assert torch.equal(x, before)


IN_A_ROW = 3


def in_a_row(of: dict[str, Side], count: int) -> dict[str, list[float]]:
    """Seconds of each side's last call of a turn: what lies in the cache is what its own calls left there."""
    times: dict[str, list[float]] = {name: [] for name in of}
    for _ in range(count):
        for name, side in of.items():
            for _ in range(IN_A_ROW):
                began = time.perf_counter()
                side()
                took = time.perf_counter() - began
            times[name].append(took)
    return times


def with_new_memory(of: dict[str, Side], count: int) -> dict[str, list[float]]:
    """Seconds of each side that finds no memory: what it made before is held, and glibc gives back the rest."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)
    times: dict[str, list[float]] = {name: [] for name in of}
    for _ in range(count):
        for name, side in of.items():
            held = [side() for _ in range(IN_A_ROW)]
            trim(0)
            began = time.perf_counter()
            held.append(side())
            times[name].append(time.perf_counter() - began)
            del held
    return times


def measure(shape: tuple[int, ...], threads: int, count: int) -> tuple[dict[str, float], dict[str, float]]:
    """Lowest milliseconds of each side: memory free to be taken again, and new memory."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(shape, generator=generator), torch.randint(CLASSES, shape[:1], generator=generator)
    check(x, y)
    every = sides(x, y)
    again = in_a_row(every, count)
    new = with_new_memory({name: every[name] for name in ("torch.clone (inputs only)", *NEW)}, count)
    return tuple({name: 1e3 * min(taken) for name, taken in times.items()} for times in (again, new))  # type: ignore


def listed(parts: list[float]) -> str:
    """Ratios in the order of the columns."""
    return ", ".join(f"{part:.2f}" for part in parts)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=60, help="of each side (default: 60)")
    count = parser.parse_args().repetitions
    columns, found = [""], []
    with one_box():
        for shape in SHAPES:
            for threads in (1, 2):
                columns.append(f"{shape}, {threads} thread{'s' * (threads > 1)}")
                found.append(measure(shape, threads, count))
    rows = [[name, *(f"{again[name]:.2f}" for again, _ in found)] for name in found[0][0]]
    rows += [[f"{name}, new memory", *(f"{new[name]:.2f}" for _, new in found)] for name in found[0][1]]
    notes = []
    for name, (other, most) in REUSED.items():
        parts = [again[name] / again[other] for again, _ in found]
        notes.append(f"{name} / {other}: {listed(parts)}, to reach: at most {most:.2f}")
    for name, most in NEW.items():
        parts = [new[name] / new["torch.clone (inputs only)"] for _, new in found]
        notes.append(f"{name} / torch.clone, new memory: {listed(parts)}, to reach: at most {most:.2f}")
    load = os.getloadavg()[0]
    calls = f"lowest of {count} turns of all sides, the last of {IN_A_ROW} calls in a row each"
    numbers = f"ms, {calls}; load of the machine at the end {load:.1f}"
    show("Mixing a batch, labels included, ms", columns, rows, notes, numbers)


if __name__ == "__main__":
    main()
