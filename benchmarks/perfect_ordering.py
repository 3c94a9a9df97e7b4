"""One tree of perfect ordering: algorithm 1 of the thesis as a plain loop, and the library's shared, stacked tree.

    OMP_NUM_THREADS=1 python benchmarks/perfect_ordering.py --data idx:PATH/mnist [--plain 72] [--turns 3]

6 batches of 8 digits (0 and 1), 720 orders, evaluation on 2,048 images. The plain loop trains and evaluates a
sample of the orders (its time grows in proportion); the library all of them. Both are done in turn in one process,
whose threads OMP_NUM_THREADS sets; then the library once more with a tree in each of as many processes as there
are cores, which is how ``lessonplan order`` works. Losses must agree to 1e-5.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.lab.ordering import OrderingConfig
from lessonplan.lab.ordering.network import search_network
from lessonplan.lab.ordering.samples import Samples, load_samples
from lessonplan.order.perfect import Engine, batch_split, permutations, tree_updates
from timing import show, spread

SCALE = 1000 / 720  # seconds of a tree to milliseconds of a run


def setting(data: str) -> tuple[OrderingConfig, Samples, nn.Module]:
    """The thesis' experiment."""
    config = OrderingConfig.make(data=data, classes=("0", "1"))
    samples = load_samples(config)
    return config, samples, search_network("small-conv", tuple(samples.x.shape[1:]), samples.outputs, seed=0)


def plain_loop(
    config: OrderingConfig, samples: Samples, start: nn.Module, batches: tuple[Tensor, ...], orders: Tensor
) -> Tensor:
    """Algorithm 1, one epoch: loss and accuracy ``(2, P)``."""
    found = []
    for order in orders.tolist():
        net = copy.deepcopy(start)
        optimizer = config.optimizer_factory()(net.parameters())
        for batch in order:
            optimizer.zero_grad()
            F.cross_entropy(net(samples.x[batches[batch]]), samples.y[batches[batch]]).backward()
            optimizer.step()
        with torch.no_grad():
            logits = net(samples.x_eval)
            loss = F.cross_entropy(logits, samples.y_eval)
            found.append([loss.item(), (logits.argmax(1) == samples.y_eval).double().mean().item()])
    return torch.tensor(found, dtype=torch.float64).T


def make_engine(config: OrderingConfig, samples: Samples, start: nn.Module) -> Engine:
    """The library's."""
    tensors = (samples.x, samples.y, samples.x_eval, samples.y_eval)
    return Engine(start, *tensors, optimizer=config.optimizer_factory())


def trees_alone(data: str, count: int) -> float:
    """Seconds of a tree in this process, which shares the machine with others like it."""
    torch.set_num_threads(1)
    engine = make_engine(*setting(data))
    batches, orders = batch_split(48, 8, seed=0), permutations(6)
    engine.train(engine.start(), batches, orders)
    began = time.perf_counter()
    for _ in range(count):
        engine.train(engine.start(), batches, orders)
    return (time.perf_counter() - began) / count


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--plain", type=int, default=72, help="orders that the plain loop trains a turn")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    config, samples, start = setting(options.data)
    engine, batches, orders = make_engine(config, samples, start), batch_split(48, 8, seed=0), permutations(6)
    some = permutations(6, options.plain, seed=1)
    place = {tuple(order): row for row, order in enumerate(orders.tolist())}
    rows = torch.tensor([place[tuple(order)] for order in some.tolist()])

    plain_loop(config, samples, start, batches, some[:4])
    engine.train(engine.start(), batches, some)
    times: dict[str, list[float]] = {
        "plain wall": [],
        "plain cpu": [],
        "ours wall": [],
        "ours cpu": [],
        "train": [],
    }
    theirs, loss, accuracy = torch.empty(0), torch.empty(0), torch.empty(0)
    for _ in range(options.turns):
        wall, cpu = time.perf_counter(), time.process_time()
        theirs = plain_loop(config, samples, start, batches, some)
        times["plain wall"].append((time.perf_counter() - wall) * len(orders) / len(some))
        times["plain cpu"].append((time.process_time() - cpu) * len(orders) / len(some))
        wall, cpu = time.perf_counter(), time.process_time()
        loss, accuracy = engine.train(engine.start(), batches, orders)
        times["ours wall"].append(time.perf_counter() - wall)
        times["ours cpu"].append(time.process_time() - cpu)
        cpu = time.process_time()
        list(engine.leaves(engine.start(), batches, orders))
        times["train"].append(time.process_time() - cpu)
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        found = [pool.submit(trees_alone, options.data, options.turns) for _ in range(cores)]
        shared = [future.result() / cores for future in found]

    difference = float((theirs[0] - loss[rows]).abs().max())
    images = round(float((theirs[1] - accuracy[rows]).abs().max()) * len(samples.y_eval))
    factors = [a / b for a, b in zip(times["plain wall"], times["ours wall"], strict=True)]
    cpu_factors = [a / b for a, b in zip(times["plain cpu"], times["ours cpu"], strict=True)]
    all_cores = [times["plain wall"][i] / shared[i % cores] for i in range(options.turns)]
    show(
        "Perfect ordering: one tree of 720 orders, evaluated on 2,048 images",
        ["", "seconds a tree", "CPU seconds", "ms a run", "factor (wall)", "factor (CPU)"],
        [
            [
                "plain loop",
                spread(times["plain wall"]),
                spread(times["plain cpu"]),
                spread(times["plain wall"], SCALE),
                "",
                "",
            ],
            [
                "shared and stacked, one process",
                spread(times["ours wall"]),
                spread(times["ours cpu"]),
                spread(times["ours wall"], SCALE),
                spread(factors),
                spread(cpu_factors),
            ],
            ["  of it training", "", spread(times["train"]), spread(times["train"], SCALE), "", ""],
            [
                f"shared and stacked, {cores} processes",
                spread(shared),
                "",
                spread(shared, SCALE),
                spread(all_cores),
                "",
            ],
        ],
        [
            f"{tree_updates(6)} updates instead of {6 * 720}; largest difference of a loss {difference:.1e},"
            f" of hits {images} of {len(samples.y_eval)} images ({len(some)} orders)",
        ],
    )
    if difference > 1e-5:
        raise SystemExit("the losses differ by more than 1e-5")


if __name__ == "__main__":
    main()
