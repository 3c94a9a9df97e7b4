"""Processes that train one network together: which rows are whose, and what all of them have to know.

Every rank goes through the same batches and takes the same decisions; what is dear (passes through the network,
reading) is done for a rank's own rows, and what came out is put together again. Gradients are the business of
``DistributedDataParallel``; here are rows, scores, flags and states.
"""

from __future__ import annotations

import io
import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lessonplan.errors import ConfigError, DataError, LessonplanError, RunFailed

T = TypeVar("T")
_KINDS: dict[str, type[LessonplanError]] = {
    kind.__name__: kind for kind in (LessonplanError, ConfigError, DataError, RunFailed)
}


@dataclass(frozen=True, eq=False)
class Ranks:
    """One process among those that train together.

    Args:
        rank: its number, from 0.
        count: how many there are.
        group: a gloo process group of all of them, for what is on the CPU; None where there is one process.
        sharded: whether each has only a part of the network, so that all make every pass through it together.

    >>> Ranks(1, 2).part(5), Ranks(1, 2).part(1)
    (slice(3, 5, None), slice(1, 1, None))
    """

    rank: int = 0
    count: int = 1
    group: Any = None
    sharded: bool = False

    @property
    def alone(self) -> bool:
        """Whether nobody else trains."""
        return self.count == 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that reads and writes the run's folder."""
        return self.rank == 0

    # -- whose rows ----------------------------------------------------------------------------------

    def sizes(self, rows: int) -> list[int]:
        """How many of ``rows`` rows each rank has: nearly equal, the first ranks one more."""
        each, more = divmod(rows, self.count)
        return [each + (rank < more) for rank in range(self.count)]

    def part(self, rows: int) -> slice:
        """This rank's part of ``rows`` rows; empty where there are fewer rows than ranks."""
        ends = list(itertools.accumulate(self.sizes(rows)))
        return slice(ends[self.rank] - self.sizes(rows)[self.rank], ends[self.rank])

    def taken(self, rows: int) -> slice:
        """The same part; where it is empty the first row, borrowed so as to take part in what all do."""
        part = self.part(rows)
        return part if part.stop > part.start else slice(0, 1)

    def short_of(self, rows: int, most: int) -> int:
        """How many passes this rank has less than another, where each passes its part in pieces of ``most`` rows.

        Ranks that share a network out make them all the same, with a row that does not count.

        >>> Ranks(1, 2, sharded=True).short_of(257, 128), Ranks(1, 2).short_of(257, 128)
        (1, 0)
        """
        if not self.sharded:
            return 0
        sizes = [max(1, size) for size in self.sizes(rows)]
        return -(-max(sizes) // most) - -(-sizes[self.rank] // most)

    def rows(self, own: Tensor, rows: int) -> Tensor:
        """All rows ``(rows, ...)`` of what each rank has its part of; the same bits on all ranks.

        Args:
            own: ``(n, ...)``, the rows of ``part(rows)``.
            rows: how many there are in all.
        """
        return self._gathered(own, self.sizes(rows))

    def joined(self, own: Tensor) -> Tensor:
        """What all ranks have, one behind another along the first dimension; lengths may differ."""
        lengths = self._exchange(torch.tensor([len(own)], dtype=torch.int64))
        return self._gathered(own, [int(length) for length in lengths])

    def _gathered(self, own: Tensor, sizes: Sequence[int]) -> Tensor:
        there = own.device
        own, group = self._carried(own)
        padded = own.new_zeros((max(sizes), *own.shape[1:]))
        padded[: len(own)] = own
        pieces = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(pieces, padded, group=group)
        return torch.cat([piece[:size] for piece, size in zip(pieces, sizes, strict=True)]).to(there)

    def each(self, items: Sequence[T], work: Callable[[T], Tensor], sizes: Sequence[int]) -> list[Tensor]:
        """What ``work`` gives for each item, each item by one of the ranks, on the CPU.

        Args:
            items: the same on all ranks.
            work: gives ``(size,)`` numbers for an item.
            sizes: how many numbers each item gives.
        """
        found = torch.zeros(sum(sizes), dtype=torch.float64)
        pieces = found.split(list(sizes))
        for place in range(self.rank, len(items), self.count):
            pieces[place].copy_(work(items[place]))
        # Every number comes from one rank, the others add zeros: nothing is rounded.
        dist.all_reduce(found, group=self.group)
        return list(found.split(list(sizes)))

    # -- what all know -------------------------------------------------------------------------------

    def table(self, values: Sequence[float]) -> list[list[float]]:
        """Some numbers of every rank, a row a rank."""
        return self._exchange(torch.tensor(values, dtype=torch.float64)).view(self.count, -1).tolist()

    def summed(self, values: Sequence[float]) -> list[float]:
        """The sums of some numbers over the ranks."""
        return [sum(column) for column in zip(*self.table(values), strict=True)]

    def any(self, flag: bool) -> bool:
        """Whether it is so on any rank."""
        return flag if self.alone else self.summed([float(flag)])[0] > 0

    def all(self, flag: bool) -> bool:
        """Whether it is so on every rank."""
        return not self.any(not flag)

    def wait(self) -> None:
        """Wait until all are here."""
        if not self.alone:
            self.any(False)

    def _exchange(self, own: Tensor) -> Tensor:
        pieces = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(pieces, own, group=self.group)
        return torch.cat(pieces)

    def level(self, tensors: Sequence[Tensor], source: int = 0) -> None:
        """Make tensors, the same ones on all ranks, what they are on one of them.

        Args:
            tensors: overwritten in place.
            source: the rank whose values they get.
        """
        kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = defaultdict(list)
        for tensor in tensors:
            kinds[tensor.dtype, tensor.device].append(tensor.detach())
        for same in kinds.values():
            together, group = self._carried(torch.cat([tensor.reshape(-1) for tensor in same]))
            dist.broadcast(together, self._global(source), group=group)
            parts = together.split([tensor.numel() for tensor in same])
            with torch.no_grad():
                for tensor, part in zip(same, parts, strict=True):
                    tensor.copy_(part.view(tensor.shape))

    def told(self, content: Any, source: int = 0) -> Any:
        """What one rank says: tensors and primitives in dicts, lists and tuples. No code travels with it."""
        packed = pack(content) if self.rank == source else torch.empty(0, dtype=torch.uint8)
        length = torch.tensor([len(packed)], dtype=torch.int64)
        dist.broadcast(length, self._global(source), group=self.group)
        if self.rank != source:
            packed = torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(packed, self._global(source), group=self.group)
        return content if self.rank == source else unpack(packed)

    def all_told(self, content: Any) -> list[Any]:
        """What every rank says, see ``told``."""
        packed = pack(content)
        lengths = [int(length) for length in self._exchange(torch.tensor([len(packed)], dtype=torch.int64))]
        return [unpack(piece) for piece in self._gathered(packed, lengths).split(lengths)]

    def by_first(self, work: Callable[[], T]) -> T:
        """What the first rank's work gives, for all; what it raises for a user's mistake is raised by all.

        Args:
            work: gives tensors and primitives. Other ranks do not call it.
        """
        if self.alone:
            return work()
        error: LessonplanError | None = None
        said: dict[str, Any] = {}
        if self.first:
            try:
                said = {"gave": work()}
            except LessonplanError as raised:
                error, said = raised, {"kind": type(raised).__name__, "message": str(raised)}
        said = self.told(said)
        if error is not None:
            raise error
        if "message" in said:
            raise _KINDS.get(said["kind"], LessonplanError)(said["message"])
        gave: T = said["gave"]
        return gave

    # -- how it travels ------------------------------------------------------------------------------

    def _carried(self, tensor: Tensor) -> tuple[Tensor, Any]:
        """A tensor where it can travel from, and the group by which it does."""
        if tensor.device.type == "cpu" or dist.get_backend() == "gloo":
            return tensor.detach().cpu().contiguous(), self.group
        return tensor.detach().contiguous(), None

    def _global(self, rank: int) -> int:
        return dist.get_global_rank(self.group, rank)


ALONE = Ranks()


def local(tensor: Tensor) -> Tensor:
    """What this rank has of a tensor that is shared out (a ``DTensor``), in its memory; another one as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def pack(content: Any) -> Tensor:
    """Tensors and primitives as bytes ``(n,)`` uint8."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def unpack(packed: Tensor) -> Any:
    """Take back what ``pack`` gave; nothing but tensors and primitives comes out."""
    return torch.load(io.BytesIO(packed.numpy().tobytes()), map_location="cpu", weights_only=True)
