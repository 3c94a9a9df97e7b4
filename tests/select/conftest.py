"""Samples and networks that say exactly what a test wants them to say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest
import torch
from torch import Tensor, nn

from lessonplan.seeds import fold_seed


class KeyedSamples:
    """Samples whose pixels are a function of index and epoch: 6 values, noise of the epoch among them."""

    def __init__(self, count: int, classes: int = 3, noise: float = 0.5) -> None:
        generator = torch.Generator().manual_seed(count)
        self.labels = torch.randint(classes, (count,), generator=generator)
        self.base = torch.randn(count, 6, generator=generator) + self.labels[:, None]
        self.num_classes, self.noise, self.device = classes, noise, torch.device("cpu")
        self.reads_ahead = False
        self.fetched: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, index: int, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(fold_seed(1, index, epoch))
        return self.base[index] + self.noise * torch.randn(6, generator=generator)

    def fetch(self, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        self.fetched += [(index, epoch) for index in indices.tolist()]
        rows = [self.pixels(index, epoch) for index in indices.tolist()]
        return torch.stack(rows) if rows else torch.zeros(0, 6), self.labels[indices]

    def batches(self, index_batches: Iterable[Tensor], epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for indices in index_batches:
            yield self.fetch(indices, epoch)


class IndexSamples(KeyedSamples):
    """Samples that are their own index and epoch, all of class 0."""

    def __init__(self, count: int) -> None:
        super().__init__(1)
        self.labels, self.num_classes = torch.zeros(count, dtype=torch.int64), 2

    def fetch(self, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        self.fetched += [(index, epoch) for index in indices.tolist()]
        return torch.stack([indices, torch.full_like(indices, epoch)], 1).double(), self.labels[indices]


Accept = Callable[[int, int], bool]


class TableNetwork(nn.Module):
    """Gets a sample wrong where a table says so, which may depend on the number of updates."""

    def __init__(self, accept: Accept) -> None:
        super().__init__()
        self.accept, self.updates, self.forwarded = accept, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwarded += len(x)
        wrong = [float(self.accept(int(index), self.updates)) for index in x[:, 0].tolist()]
        return torch.stack([torch.full((len(x),), 0.5), torch.tensor(wrong)], 1)


@pytest.fixture(scope="session")
def keyed_samples() -> type[KeyedSamples]:
    return KeyedSamples


@pytest.fixture(scope="session")
def index_samples() -> type[IndexSamples]:
    return IndexSamples


@pytest.fixture(scope="session")
def table_network() -> type[TableNetwork]:
    return TableNetwork


@pytest.fixture(scope="session")
def linear() -> Callable[..., nn.Module]:
    """A small network for ``KeyedSamples``: the same weights for the same seed."""

    def make(seed: int = 0, *between: nn.Module) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(nn.Linear(6, 16), *between, nn.ReLU(), nn.Linear(16, 3))

    return make
