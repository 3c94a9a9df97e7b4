"""Look-ahead: what it costs, and how much of the exact winner's gain the cheap methods get.

    OMP_NUM_THREADS=1 python benchmarks/loss_delta.py --data parquet:PATH [--repetitions 5] [--updates 70]

Cost: an update with K = 8 candidates of 128 images and an external batch of 512, beside a plain step and a forward
pass of 128, which is the unit. Exact look-ahead has the floor 7 K + 7 units (8 updates of 3, 8 evaluations and one
of 4, the winner's update once more); ours keeps the winner's state and knows the loss before from the look before.

Fidelity: at each of three stages of one training, networks are trained on by each method's own winners for
`--updates` updates, and every candidate's gain is measured by exact look-ahead. "share of gain" is what winners
gained over their candidates' mean, as a share of what the exact winners would have gained; a winner made of
samples is compared with 8 random batches. "fall" is what the external loss fell by in each update of this
training, in thousandths, with plain and exact training beside. "steps by passes" is the mean cost of an update by
the passes counted (first look and update included), "plain steps" the time of one (the measurement excluded), both
in plain steps.

Through fit: the mean cost of an update by the counters of a run, which is what budgets pay; the first look and the
end of an epoch, where fewer candidates are left, included.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lessonplan as lp
from lessonplan.batch import Batch
from lessonplan.models import build_model
from lessonplan.network.learner import Learner
from lessonplan.network.network import Network
from lessonplan.network.untouched import untouched
from lessonplan.order import LossDelta
from lessonplan.order.lookahead.exact import Exact
from lessonplan.order.lookahead.look import Goal
from lessonplan.order.measure import measured_loss
from lessonplan.parts.part import Occasion
from timing import interleaved, ratio, show, spread

K, BATCH, EXTERNAL = 8, 128, 512
METHODS: dict[str, dict[str, Any]] = {
    "first-order": {"method": "first-order"},
    "last-layers": {"method": "last-layers"},
    "kept-gradients": {"method": "kept-gradients"},
    "per-sample": {"method": "per-sample", "candidates": 2, "pool": K + 2, "losers": "drop"},
}
EXACT: dict[str, Any] = {"method": "exact", "fidelity": None}
BESIDE: dict[str, dict[str, Any] | None] = {"plain": None, "exact": EXACT}
STAGES = {"early": 60, "middle": 300, "late": 900}


@dataclass
class Setting:
    """Data, and how networks are made and read."""

    data: lp.data.Data
    model: str
    size: int
    channels_last: bool

    def learner(self) -> Learner:
        """A new network with the thesis' optimizer."""
        model = build_model(self.model, shape=(3, self.size, self.size), num_classes=self.data.num_classes, seed=0)
        return self.around(model.to(memory_format=self.layout))

    def around(self, model: nn.Module, like: torch.optim.Optimizer | None = None) -> Learner:
        """The loop's view of a network; the optimizer starts anew or where another one stands."""
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
        if like is not None:
            optimizer.load_state_dict(copy.deepcopy(like.state_dict()))
        return Learner(Network(model, run=lambda x: model(self.prepared(x))), optimizer)

    @property
    def layout(self) -> torch.memory_format:
        """How images and weights lie in memory."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def prepared(self, x: Tensor) -> Tensor:
        """Images at the size of the benchmark."""
        if x.shape[-1] != self.size:
            x = F.adaptive_avg_pool2d(x, self.size)
        return x.contiguous(memory_format=self.layout)

    def batches(self, seed: int) -> Iterator[Batch]:
        """Random batches without end."""
        for epoch in itertools.count(seed):
            order = torch.randperm(len(self.data.train), generator=torch.Generator().manual_seed(epoch))
            for part in order.split(BATCH):
                if len(part) == BATCH:
                    yield Batch(part, torch.full((BATCH,), epoch))


def plain(learner: Learner, batch: Batch, setting: Setting) -> None:
    """An update."""
    learner.update(learner.losses(*batch.read(setting.data.train)))


class Timed(LossDelta):
    """Notes how long choices take; exact measurements are made outside of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seconds: list[float] = []
        self.steps: list[float] = []
        self.measured, self.extra = 0.0, 0

    def choose(self, candidates: list[Batch], count: int) -> Any:
        began, self.measured = time.perf_counter(), 0.0
        before, self.extra = self._passes.cost, 0
        choice = super().choose(candidates, count)
        self.seconds.append(time.perf_counter() - began - self.measured)
        self.steps.append(1 + (self._passes.cost - before - self.extra) / (3 * BATCH))
        return choice

    def _measure(self, candidates: list[Batch]) -> Tensor:
        began, before = time.perf_counter(), self._passes.cost
        gains = super()._measure(candidates)
        self.measured, self.extra = time.perf_counter() - began, self._passes.cost - before
        return gains


def follow(
    setting: Setting, learner: Learner, options: dict[str, Any] | None, updates: int, seed: int
) -> tuple[Timed, list[float], float]:
    """Train by a method's own winners, or plainly without options, and measure each choice.

    Returns:
        the orderer, the seconds of each update, and what the external loss fell by.
    """
    usual = {"candidates": K, "on": "external", "external": EXTERNAL, "pool": K, "fidelity": 1}
    order = Timed(**{**usual, **(options or EXACT)})
    order.setup(Occasion(seed, setting.data.train, setting.data.val, final_updates=True))
    order.attach(learner)
    order.start_epoch(0, 0.0, 0.0)
    before = external_loss(setting, learner, order)
    seconds: list[float] = []
    upstream = setting.batches(1000 + seed)
    for batch in order.batches(upstream) if options is not None else upstream:
        assert batch is not None
        began = time.perf_counter()
        if batch.step is None:
            plain(learner, batch, setting)
        chosen = order.seconds[-1] if order.seconds else 0.0
        seconds.append(chosen + time.perf_counter() - began)
        if len(seconds) == updates:
            break
    return order, seconds, before - external_loss(setting, learner, order)


def external_loss(setting: Setting, learner: Learner, order: LossDelta) -> float:
    """Where a network stands, on the samples by which its updates were judged."""
    external = order._read_external()
    assert external is not None
    with untouched(learner.model):
        return measured_loss(learner, *external, size=BATCH).item()


def fidelity(setting: Setting, updates: int, plain_seconds: Callable[[], float]) -> None:
    """Print the table of shares."""
    trunk, source, done = setting.learner(), setting.batches(0), 0
    rows = []
    for stage, start in STAGES.items():
        while done < start:
            plain(trunk, next(source), setting)
            done += 1
        for method, options in (BESIDE | METHODS).items():
            learner = setting.around(copy.deepcopy(trunk.model), trunk.optimizer)
            order, seconds, fall = follow(setting, learner, options, updates, done)
            found, unit = order.describe(), plain_seconds()
            rows.append(
                [
                    f"{stage} ({start})",
                    method,
                    f"{found['rank_correlation']:.2f}" if "rank_correlation" in found else "",
                    f"{found['share_of_gain']:.2f}" if "share_of_gain" in found else "",
                    f"{1000 * fall / updates:.2f}",
                    f"{sum(order.steps) / len(order.steps):.2f}" if order.steps else "1.00",
                    spread([s / unit for s in seconds[1:]]),
                ]
            )
            print(*rows[-1], sep="  ", flush=True)
    columns = [
        "stage (updates)",
        "method",
        "rank correlation",
        "share of gain",
        "fall",
        "steps by passes",
        "plain steps",
    ]
    title = f"Fidelity, {setting.model} at {setting.size} x {setting.size}, K = {K}, {updates} updates a row"
    show(title, columns, rows)


def cost(setting: Setting, count: int) -> None:
    """Print the table of costs."""
    learner = setting.learner()
    source = setting.batches(0)
    for _ in range(3):
        plain(learner, next(source), setting)
    candidates = [next(source) for _ in range(K)]
    for batch in candidates:
        batch.read(setting.data.train)
    assert setting.data.val is not None
    external = setting.data.val.fetch(torch.arange(EXTERNAL))
    x = candidates[0].read(setting.data.train)[0]
    exact = Exact(learner, setting.data.train)

    def forward() -> None:
        with torch.no_grad():
            learner.network.logits(x)

    def look() -> None:
        exact.look(candidates, Goal("external", external, 1.0), keep=True)

    sides: dict[str, Callable[[], object]] = {
        "forward": forward,
        "plain step": lambda: plain(learner, candidates[0], setting),
        "exact, winner kept": look,
    }
    times = interleaved(sides, count)
    floor = 7 * K + 7
    rows = [
        [
            name,
            spread(times[name], 1e3, 0),
            spread(ratio(times, name, "forward")),
            spread(ratio(times, name, "plain step")),
        ]
        for name in sides
    ]
    units = ratio(times, "exact, winner kept", "forward")
    notes = [
        f"exact / floor of {floor} units: {spread([u / floor for u in units])}, to reach: at most 1.15",
        "a look by passes: 7 K = 56 units, since a kept winner is not trained twice and the loss before is known",
    ]
    show(f"An update, K = {K}, external {EXTERNAL}", ["", "ms", "forward passes", "plain steps"], rows, notes)


class Shrunk(nn.Module):
    """A network on smaller images, as ``fit`` takes it."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.prepared, self.model = setting.prepared, setting.learner().model

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to logits."""
        logits: Tensor = self.model(self.prepared(x))
        return logits


def through_fit(setting: Setting, updates: int) -> None:
    """Print what an update costs in ``fit``, by its own counters and clock: the figures of the card."""
    rows, plain = [], 0.0
    for name, options in (BESIDE | METHODS).items():
        usual = {"candidates": K, "on": "external", "external": EXTERNAL}
        order = LossDelta(**{**usual, **options}) if options is not None else None
        result = lp.fit(
            Shrunk(setting),
            setting.data,
            lp.Plan(order=order),
            f"{updates} steps",
            batch_size=BATCH,
            schedule="constant",
            weight_decay=1e-4,
            channels_last=setting.channels_last,
            evaluate_every=10_000,
        ).result
        plain = plain or result["seconds"]
        steps = result["cost"] / (3 * BATCH * updates)
        rows.append([name, f"{steps:.2f}", f"{3 * steps:.1f}", f"{result['seconds'] / plain:.2f}"])
        print(*rows[-1], sep="  ", flush=True)
    title = f"Through fit, {setting.model} at {setting.size} x {setting.size}, K = {K}, {updates} updates"
    show(title, ["method", "plain steps by passes", "forward passes", "plain steps in time"], rows)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 or images like it, for example parquet:PATH")
    parser.add_argument("--model", default="wrn-10-1")
    parser.add_argument("--size", type=int, default=32, help="side of the images; smaller is quicker")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--repetitions", type=int, default=5, help="of the timings")
    parser.add_argument("--updates", type=int, default=70, help="at each of the three stages")
    parser.add_argument("--fit", type=int, default=70, help="updates of each method in fit")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = lp.data.load(given.data, val_fraction=0.2, seed=0)
    setting = Setting(data, given.model, given.size, given.channels_last)
    if given.repetitions:
        cost(setting, given.repetitions)
    probe, source = setting.learner(), setting.batches(0)

    def plain_seconds() -> float:
        times = []
        for _ in range(5):
            batch = next(source)
            batch.read(data.train)
            began = time.perf_counter()
            plain(probe, batch, setting)
            times.append(time.perf_counter() - began)
        return sorted(times)[2]

    if given.fit:
        through_fit(setting, given.fit)
    if given.updates:
        fidelity(setting, given.updates, plain_seconds)


if __name__ == "__main__":
    main()
