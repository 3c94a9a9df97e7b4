"""Trains many orders of the same batches from one start, sharing their common beginnings."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lessonplan.errors import ConfigError, LessonplanWarning
from lessonplan.order.perfect.evaluate import Evaluator, Loss
from lessonplan.order.perfect.plain import OptimizerFactory, plain_leaves
from lessonplan.order.perfect.stacked import StackedTree
from lessonplan.order.perfect.state import State, join, stack, start_state
from lessonplan.order.perfect.tree import sorted_orders
from lessonplan.order.perfect.updates import functional_update
from lessonplan.rows import rows_of

Method = Literal["auto", "stacked", "plain"]

CHUNK_BYTES = 2**28
MOST_TOGETHER = 256  # more siblings at a time are not faster, on a CPU they fall out of its cache
_COPIES = 6  # parameters, gradients, two slots, and what an update needs in between


class Engine:
    """A network, its data and its optimizer, ready to train any orders of any batches.

    Siblings in the tree of common beginnings are trained together through ``torch.func`` where optimizer and
    network allow it, one after the other otherwise. The optimizer is made anew for every start, as algorithm 1
    of the thesis does, which hands on networks alone. Random layers such as dropout draw the same noise at the
    same update of every order; the global random state stays as it was.

    Args:
        model: any network without batch norm; it is copied, never changed.
        x: training samples ``(N, ...)``.
        y: labels ``(N,)`` int64.
        x_eval: samples for evaluation ``(V, ...)``.
        y_eval: their labels ``(V,)``.
        optimizer: makes an optimizer of parameters. ``SGD``, ``Adam`` and ``AdamW`` with one group (without
            ``amsgrad`` and ``maximize``) are stacked, others are stepped one run at a time.
        loss: mean loss of a batch.
        chunk: most networks trained together. Memory grows with ``chunk`` times the number of batches; None
            takes 256, or less where that would need more than 256 MB a level.
        method: ``"auto"``; ``"stacked"`` (an error where it cannot be done); ``"plain"``.
        device: where the work is done.
        seed: of the noise in random layers.

    Raises:
        ConfigError: batch norm, nothing to train, or a chunk below 1; for ``"stacked"`` also an optimizer
            without a functional form.

    >>> model = nn.Linear(2, 2)
    >>> x, y = torch.eye(2).repeat(3, 1), torch.tensor([0, 1]).repeat(3)
    >>> engine = Engine(model, x, y, x, y, optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    >>> batches = [torch.tensor([0, 1]), torch.tensor([2, 4]), torch.tensor([3, 5])]
    >>> loss, accuracy = engine.train(engine.start(), batches, torch.tensor([[0, 1, 2], [2, 1, 0]]))
    >>> loss.shape, accuracy.shape
    (torch.Size([2]), torch.Size([2]))
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        x_eval: Tensor,
        y_eval: Tensor,
        *,
        optimizer: OptimizerFactory,
        loss: Loss = F.cross_entropy,
        chunk: int | None = None,
        method: Method = "auto",
        device: str | torch.device = "cpu",
        seed: int = 0,
    ) -> None:
        check_network(model)
        if chunk is not None and chunk < 1:
            raise ConfigError(f"chunk={chunk}: give at least 1 network at a time")
        self.network = copy.deepcopy(model).to(device)
        self.x, self.y = x.to(device), y.to(device)
        self.x_eval, self.y_eval = x_eval.to(device), y_eval.to(device)
        self.optimizer, self.loss, self.seed = optimizer, loss, seed
        update = functional_update(optimizer([p for p in self.network.parameters() if p.requires_grad]))
        if update is None and method == "stacked":
            raise ConfigError(
                "this optimizer has no functional form here: use SGD, Adam or AdamW with one group of parameters,"
                ' or method="plain", which trains one run at a time'
            )
        self.method: Method = "plain" if update is None else method
        together = max(1, min(MOST_TOGETHER, CHUNK_BYTES // (_COPIES * max(self.start().bytes(), 1))))
        self.chunk = chunk or together
        self._evaluator: Evaluator | None = None
        self._stacked = None if update is None else StackedTree(self.network, update, loss, self.chunk, seed)

    def start(self) -> State:
        """The model's own parameters."""
        return start_state(self.network)

    def leaves(self, start: State, batches: Sequence[Tensor], orders: Tensor) -> Iterator[State]:
        """Train every order from the same start.

        Args:
            start: parameters of one network.
            batches: n batches of sample numbers.
            orders: ``(P, n)`` permutations of 0..n-1 in lexicographic order, each once.

        Yields:
            End states of consecutive orders, stacked, at most ``chunk`` at a time.
        """
        if orders.ndim != 2 or orders.shape[1] != len(batches):
            raise ConfigError(f"orders of shape {tuple(orders.shape)} for {len(batches)} batches: give (P, n)")
        table = sorted_orders(orders)
        if table != orders.tolist():
            raise ConfigError("orders must be sorted: lessonplan.order.perfect.permutations gives them so")
        parts = [(rows_of(self.x, batch), self.y[batch]) for batch in (b.to(self.x.device) for b in batches)]
        self.network.train()
        if self.method == "auto":
            self.method = self._found_method(start, parts)
        if self.method == "stacked" and self._stacked is not None:
            yield from self._stacked.leaves(start, parts, table)
        else:
            yield from plain_leaves(self.network, self.optimizer, self.loss, self.seed, start, parts, table)

    def train(self, start: State, batches: Sequence[Tensor], orders: Tensor) -> tuple[Tensor, Tensor]:
        """Train every order and evaluate its end; arguments as for `leaves`.

        Returns:
            loss ``(P,)`` and accuracy ``(P,)``, float64 on the CPU.
        """
        found = [self.evaluate(states) for states in self.leaves(start, batches, orders)]
        return torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])

    def replay(self, start: State, batches: Sequence[Tensor], orders: Tensor) -> State:
        """End states of a few orders, in lexicographic order: survivors are trained again, not stored."""
        return join(list(self.leaves(start, batches, orders))).restarted()

    def evaluate(self, states: State) -> tuple[Tensor, Tensor]:
        """Loss and accuracy ``(K,)`` of stacked networks on the evaluation samples."""
        if self._evaluator is None:
            stacked = self.method != "plain"
            self._evaluator = Evaluator(
                self.network, self.x_eval, self.y_eval, self.loss, grouped=stacked, stacked=stacked
            )
        return self._evaluator(states)

    def _found_method(self, start: State, parts: list[tuple[Tensor, Tensor]]) -> Method:
        """Whether the network can be stacked, by one update of two of them."""
        assert self._stacked is not None
        try:
            self._stacked.advance(stack([start, start]), [0, 0], parts, depth=0)
        except (RuntimeError, ValueError) as error:
            warnings.warn(
                f"networks are trained one by one, because this one cannot be stacked ({_first_line(error)})",
                LessonplanWarning,
                stacklevel=4,
            )
            return "plain"
        return "stacked"


def check_network(model: nn.Module) -> None:
    """Raise `ConfigError` for networks whose runs are not functions of start and order alone."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            raise ConfigError(
                f"batch norm ({name or type(module).__name__}) keeps statistics that stacked networks cannot:"
                " use GroupNorm in its place, or a network without normalisation"
            )
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError("the network has nothing to train: give one with parameters that require gradients")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
