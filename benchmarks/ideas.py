"""What the six ideas of the thesis' last pages do for accuracy: digits, 10 labelled images a class, paired seeds.

    OMP_NUM_THREADS=1 python benchmarks/ideas.py [--seeds 8] [--passes 15000] [--lr 0.05] [--only deviation]

Each row trains the same network on the same number of sample passes as plain training, with the seed's own 100
labelled images, first weights and order of batches; the test set is read once, at the end. The settings
were written down before the first run and not tuned. "all four modules to the end" is a control: the layer of
gradual top-k attention without the fading, to tell its modules from its schedule.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

import lessonplan as lp
from lessonplan.ideas import (
    EmbeddingTarget,
    FeatureMapAugment,
    LossDeviation,
    ResidualMomentum,
    SampleEmbeddings,
    TopKAttention,
)
from lessonplan.lab.statistics import compare_paired
from lessonplan.models.blocks import PreActBlock, make_stage
from lessonplan.models.common import conv3x3, global_mean, init_convs
from lessonplan.network.untouched import seeded
from lessonplan.seeds import fold_seed
from lessonplan.train.usage import environment

PER_CLASS, BATCH, DECAY = 10, 50, 5e-4
FEATURES, CLASSES = 32, 10
PLAIN = "plain training"
SAYS = {"better": "helps", "worse": "does not, it is worse", "undecided": "undecided"}


class Net(nn.Module):
    """Two stages of three residual blocks, 16 and 32 channels; 8 x 8 and 4 x 4 maps on digits."""

    stage_names = ("stage1", "stage2")

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv3x3(1, 16)
        self.stage1 = make_stage(PreActBlock, 16, 16, 3)
        self.stage2 = make_stage(PreActBlock, 16, FEATURES, 3, stride=2)
        self.norm = nn.BatchNorm2d(FEATURES)
        self.head: nn.Module = nn.Linear(FEATURES, CLASSES)
        init_convs(self)

    def features(self, x: Tensor) -> Tensor:
        """``(N, 1, 8, 8)`` to ``(N, 32)``."""
        return global_mean(F.relu(self.norm(self.stage2(self.stage1(self.stem(x))))))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


@dataclass
class Loop:
    """A plain training loop's parts, which an idea may change."""

    net: Net
    samples: int
    seed: int
    criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    around: Callable[[], AbstractContextManager[None]] = nullcontext
    hidden: Callable[[Tensor, Tensor], Tensor] = lambda h, rows: h
    after_step: Callable[[float], None] = lambda progress: None
    own_parameters: list[nn.Parameter] = field(default_factory=list)


Idea = Callable[[Loop], None]


def deviation(loop: Loop, weight: float) -> None:
    """The deviation of the batch's losses is added."""
    loop.criterion = LossDeviation(weight)


def momentum(loop: Loop, window: int | None = None, decay: float | None = None) -> None:
    """Steps along the depth are averaged, in each stage."""
    loop.net.stage1 = ResidualMomentum(*loop.net.stage1, window=window, decay=decay)
    loop.net.stage2 = ResidualMomentum(*loop.net.stage2, window=window, decay=decay)


def maps(loop: Loop, augment: str) -> None:
    """The maps behind a stage are moved."""
    loop.around = FeatureMapAugment(loop.net, augment=augment, seed=loop.seed).forward_context


def attention(loop: Loop, fade: bool) -> None:
    """Four last blocks in parallel; with ``fade`` one is left for each image after 4/5 of the budget."""
    with seeded(fold_seed(loop.seed, "branches")):
        others = nn.ModuleList(PreActBlock(FEATURES, FEATURES, 1) for _ in range(3))
        init_convs(others)
    layer = TopKAttention([loop.net.stage2[-1], *others], FEATURES)
    loop.net.stage2[-1] = layer
    if fade:
        loop.after_step = lambda progress: layer.advance(min(1.0, progress / 0.8))


def targets(loop: Loop) -> None:
    """The last layer measures distances to class embeddings."""
    loop.net.head = EmbeddingTarget(CLASSES, FEATURES, seed=loop.seed)


def embeddings(loop: Loop) -> None:
    """Each image has a vector beside its features, which shrinks by 5% a step in the second half."""
    table = SampleEmbeddings(loop.samples, FEATURES)
    loop.hidden, loop.own_parameters = table, list(table.parameters())
    loop.after_step = lambda progress: table.shrink(0.05) if progress > 0.5 else None


IDEAS: dict[str, Idea] = {
    PLAIN: lambda loop: None,
    "loss deviation, weight .1": partial(deviation, weight=0.1),
    "loss deviation, weight 1": partial(deviation, weight=1.0),
    "residual momentum, window 2": partial(momentum, window=2),
    "residual momentum, decay .5": partial(momentum, decay=0.5),
    "feature maps, crop:1": partial(maps, augment="crop:1"),
    "gradual top-k attention, 4 to 1": partial(attention, fade=True),
    "  all four modules to the end": partial(attention, fade=False),
    "embedding targets": targets,
    "sample embeddings": embeddings,
}


def batches(samples: int, steps: int, seed: int) -> Iterator[tuple[int, Tensor]]:
    """Epoch and positions of every batch; an epoch is a permutation."""
    generator = torch.Generator().manual_seed(fold_seed(seed, "order"))
    per_epoch = samples // BATCH
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(samples, generator=generator)
        yield step // per_epoch, order[step % per_epoch * BATCH :][:BATCH]


def train(idea: Idea, seed: int, passes: int, lr: float) -> tuple[float, float]:
    """Accuracy on the test set in percent, and the CPU seconds that training took."""
    data = lp.data.load("digits", per_class=PER_CLASS, seed=seed)
    with seeded(fold_seed(seed, "weights")):
        net = Net()
    loop = Loop(net, len(data.train), seed)
    idea(loop)
    groups = [
        {"params": list(net.parameters())},
        {"params": loop.own_parameters, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True, weight_decay=DECAY)
    steps = passes // BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    began = time.process_time()
    for step, (epoch, rows) in enumerate(batches(len(data.train), steps, seed)):
        x, y = data.train.fetch(rows, epoch)
        with loop.around():
            features = net.features(x)
        loss = loop.criterion(net.head(loop.hidden(features, rows)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        loop.after_step((step + 1) / steps)
    seconds = time.process_time() - began
    assert data.test is not None
    x, y = data.test.fetch(torch.arange(len(data.test)))
    with torch.inference_mode():
        correct = net.eval()(x).argmax(1) == y
    return 100 * correct.double().mean().item(), seconds


def show(
    accuracy: dict[str, dict[int, float]], seconds: dict[str, dict[int, float]], settings: argparse.Namespace
) -> None:
    """Print the table."""
    plain, *ideas = accuracy
    differences = compare_paired(accuracy[plain], {name: accuracy[name] for name in ideas})
    table = Table(title="Six ideas against plain training", title_justify="left")
    heads = ["", "test accuracy %", "points against plain (95% t interval)", "Holm p", "CPU time of plain", "it"]
    for position, head in enumerate(heads):
        table.add_column(head, justify="right" if 0 < position < 5 else "left")
    for name, scores in accuracy.items():
        row = [name, f"{statistics.mean(scores.values()):.2f}"]
        difference = differences.get(name)
        if difference is not None and difference.ci_t is not None:
            low, high = difference.ci_t
            row += [f"{difference.mean:+.2f} ({low:+.2f} to {high:+.2f})", f"{difference.p_holm:.3f}"]
            row.append(f"{statistics.median(seconds[name][s] / seconds[plain][s] for s in scores):.2f}")
            row.append(SAYS[difference.verdict])
        table.add_row(*row)
    console = Console(soft_wrap=True, width=140)
    console.print(table)
    machine = environment()
    for note in (
        f"n = {settings.seeds} seeds, {settings.passes} sample passes each, batch {BATCH}, SGD {settings.lr}"
        f" cosine, crops of one pixel on all images, {PER_CLASS} images a class, 901 test images",
        "Holm: corrected for all rows; helps: the interval leaves out 0 and the corrected p is below .05",
        f"{machine['cpu']}, {machine['cores']} cores, {torch.get_num_threads()} threads, torch {machine['torch']},"
        f" Python {machine['python']}; CPU time: median of the ratios",
    ):
        console.print(note, highlight=False)


def main() -> None:
    """Train everything, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="number of seeds, at least 2 (default: 8)")
    parser.add_argument("--passes", type=int, default=15_000, help="sample passes of a run (default: 15000)")
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate (default: 0.05)")
    parser.add_argument("--only", default="", help="leave out the ideas without this word in their row")
    settings = parser.parse_args()
    chosen = {name: idea for name, idea in IDEAS.items() if settings.only in name or name == PLAIN}
    if settings.seeds < 2 or settings.passes < BATCH:
        parser.error(f"give at least 2 seeds and {BATCH} passes")
    if len(chosen) < 2:
        parser.error(f"--only {settings.only!r} leaves no idea: give a word of {', '.join(IDEAS)}")
    accuracy: dict[str, dict[int, float]] = {name: {} for name in chosen}
    seconds: dict[str, dict[int, float]] = {name: {} for name in chosen}
    train(IDEAS[PLAIN], 0, 10 * BATCH, settings.lr)  # to warm up
    for seed in track(range(settings.seeds), "seeds", console=Console(stderr=True)):
        for name, idea in chosen.items():
            accuracy[name][seed], seconds[name][seed] = train(idea, seed, settings.passes, settings.lr)
    show(accuracy, seconds, settings)


if __name__ == "__main__":
    main()
