"""A small loop that trains by an orderer, as the trainer does."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lessonplan.batch import Batch
from lessonplan.network.learner import Learner, Step
from lessonplan.network.network import LossFunction, Network, soft_cross_entropy
from lessonplan.network.passes import Passes
from lessonplan.order import Orderer
from lessonplan.parts.part import Occasion
from lessonplan.supply.tensors import TensorSamples

OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
}


def samples(n: int, seed: int) -> TensorSamples:
    """Noisy 4 x 4 images of three classes."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (n,), generator=g)
    x = torch.randn(n, 1, 4, 4, generator=g)
    x[torch.arange(n), 0, y] += 1.0
    return TensorSamples(x, y)


def network(norm: str = "batch", dropout: float = 0.0) -> nn.Module:
    """A convolution, a norm ("batch", "group", "none"), dropout, a linear layer."""
    norms = {"batch": nn.BatchNorm2d(6), "group": nn.GroupNorm(2, 6), "none": nn.Identity()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            norms[norm],
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(96, 3),
        )


@dataclass
class Loop:
    """Trains on 48 samples in batches of 6, and writes down what happened."""

    order: Orderer | None
    norm: str = "batch"
    dropout: float = 0.0
    optimizer: str = "nesterov"
    final: bool = False
    size: int = 6
    train: int = 48
    seed: int = 0
    weights: Tensor | None = None
    loss: LossFunction = soft_cross_entropy
    trained: list[Batch] = field(default_factory=list)
    made: list[bool] = field(default_factory=list)
    passes: list[Passes] = field(default_factory=list)
    described: list[dict[str, Any]] = field(default_factory=list)
    position: int = 0
    epoch: int = 0

    def __post_init__(self) -> None:
        self.data, self.validation = samples(self.train, 0), samples(20, 1)
        self.model = network(self.norm, self.dropout)
        optimizer = OPTIMIZERS[self.optimizer](self.model.parameters())
        self.learner = Learner(Network(self.model, self.loss), optimizer)
        if self.order is not None:
            self.order.setup(Occasion(self.seed, self.data, self.validation, final_updates=self.final))
            self.order.attach(self.learner)

    def upstream(self) -> Iterator[Batch | None]:
        """Random batches of what is left of the epoch, each preceded by a None."""
        g = torch.Generator().manual_seed(100 + self.epoch)
        parts = torch.randperm(self.train, generator=g).split(self.size)
        for part in parts[self.position :]:
            yield None
            self.position += 1
            weights = self.weights[part] if self.weights is not None else None
            yield Batch(part, torch.full((len(part),), self.epoch), weights)

    def run(self, epochs: int = 1, *, resumed: bool = False, stop: int | None = None) -> Loop:
        """Train; with ``stop``, only so many updates in all."""
        with torch.random.fork_rng(devices=[]):
            if not resumed:
                torch.manual_seed(7)
            while self.epoch < epochs:
                if self.order is not None and not resumed:
                    self.order.start_epoch(self.epoch, self.epoch / epochs, float(self.epoch))
                resumed = False
                for batch in self.order.batches(self.upstream()) if self.order is not None else self.upstream():
                    if batch is None:
                        continue
                    self.update(batch)
                    if stop is not None and len(self.trained) == stop:
                        self.rng = torch.get_rng_state()
                        return self
                if self.order is not None:
                    self.described.append(self.order.describe())
                self.epoch, self.position = self.epoch + 1, 0
            self.rng = torch.get_rng_state()
        return self

    def update(self, batch: Batch) -> None:
        """What the trainer does with a batch."""
        x, y = batch.read(self.data)
        step = batch.step
        self.made.append(step is not None)
        if step is None:
            step = self.learner.losses(x, y)
            self.learner.update(step, batch.weights)
        self.trained.append(Batch(batch.indices, batch.epochs, batch.weights, step=detached(step)))
        if self.order is not None:
            self.order.observe(batch, step)
            self.passes.append(self.order.take_passes())

    def replay(self, batches: list[Batch]) -> Loop:
        """Plain training on given batches."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            for batch in batches:
                self.update(Batch(batch.indices, batch.epochs, batch.weights))
            self.rng = torch.get_rng_state()
        return self

    def state(self) -> dict[str, Any]:
        """A checkpoint, through the format of checkpoints."""
        buffer = io.BytesIO()
        assert self.order is not None
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.learner.optimizer.state_dict(),
                "order": self.order.state_dict(),
                "rng": self.rng,
                "position": self.position,
                "epoch": self.epoch,
            },
            buffer,
        )
        buffer.seek(0)
        loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
        return loaded

    def resume(self, state: dict[str, Any], epochs: int) -> Loop:
        """Go on from a checkpoint in a new process, so to say."""
        self.model.load_state_dict(state["model"])
        self.learner.optimizer.load_state_dict(state["optimizer"])
        assert self.order is not None
        self.order.load_state_dict(state["order"])
        self.position, self.epoch = state["position"], state["epoch"]
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(state["rng"])
            return self.run(epochs, resumed=True)

    @property
    def indices(self) -> list[list[int]]:
        """What was trained on."""
        return [batch.indices.tolist() for batch in self.trained]

    def outcome(self) -> list[Tensor]:
        """Weights, buffers, optimizer state and random state."""
        state = self.learner.optimizer.state_dict()["state"]
        kept = [v for p in state.values() for v in p.values() if isinstance(v, Tensor)]
        return [*(v.clone() for v in self.model.state_dict().values()), *(v.clone() for v in kept), self.rng]


def detached(step: Step) -> Step:
    return Step(step.logits.detach().clone(), step.losses.detach().clone())


@pytest.fixture(scope="session")
def loop() -> type[Loop]:
    return Loop


@pytest.fixture(scope="session")
def make_samples() -> Callable[[int, int], TensorSamples]:
    return samples


@pytest.fixture(scope="session")
def same() -> Callable[[list[Tensor], list[Tensor]], bool]:
    """Whether two outcomes are equal to the last bit."""
    return lambda a, b: len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="session")
def losses_after() -> Callable[..., tuple[float, float]]:
    """Brute force: the loss on ``(x, y)`` before and after an update, made with copies of everything."""

    def measure(
        loop: Loop, indices: Tensor, x: Tensor, y: Tensor, weights: Tensor | None = None, size: int = 10**9
    ) -> tuple[float, float]:
        def loss(model: nn.Module) -> float:
            model = copy.deepcopy(model).train()
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.eval()
            count = -(-len(x) // size)
            total = 0.0
            for a, b in zip(x.tensor_split(count), y.tensor_split(count), strict=True):
                losses = nn.functional.cross_entropy(model(a), b, reduction="none")
                total += float((losses if weights is None else losses * weights).sum().detach())
            return total / len(x)

        model, optimizer = copy.deepcopy((loop.model, loop.learner.optimizer))
        before = loss(model)
        a, b = loop.data.fetch(indices)
        losses = nn.functional.cross_entropy(model(a), b, reduction="none")
        optimizer.zero_grad()
        (losses if weights is None else losses * weights).mean().backward()
        optimizer.step()
        return before, loss(model)

    return measure
