"""Functions of many small kernels, which an accelerator is told of once and replays as a whole."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from lessonplan.network.accelerator import is_accelerator

_Key = tuple[torch.device, tuple[tuple[torch.Size, torch.dtype], ...]]


class Captured:
    """A function whose kernels an accelerator replays as one launch (``torch.accelerator.Graph``).

    For functions that take longer to launch than to compute. The first call with inputs of a shape runs as always;
    the next one is recorded, and from then on inputs are copied to where the record reads them. On the CPU, in
    versions of PyTorch without such graphs, and on devices that cannot record, every call runs as always.

    Args:
        function: of tensors on one device; gives one tensor, whose shape follows from the shapes of the inputs. It
            reads nothing back, copies nothing from the CPU after its first call, and keeps nothing.
        most: shapes whose records are kept, those used last.
    """

    def __init__(self, function: Callable[..., Tensor], most: int = 16) -> None:
        self._function, self._most = function, most
        self._records: OrderedDict[_Key, _Record | None] = (
            OrderedDict()
        )  # None: seen once, or never to be recorded
        self._unable: set[str] = set()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What the function gives; a tensor of its own."""
        device = inputs[0].device
        able = is_accelerator(device) and device.type not in self._unable and hasattr(torch.accelerator, "Graph")
        if not able or torch.compiler.is_compiling():
            return self._function(*inputs)
        key = (device, tuple((x.shape, x.dtype) for x in inputs))
        if key not in self._records:
            self._remember(key, None)
            return self._function(*inputs)
        record = self._records[key]
        if record is None:
            try:
                record = _Record(self._function, inputs)
            except (RuntimeError, NotImplementedError):
                self._unable.add(device.type)
                return self._function(*inputs)
        self._remember(key, record)
        return record(inputs)

    def _remember(self, key: _Key, record: _Record | None) -> None:
        self._records[key] = record
        self._records.move_to_end(key)
        if len(self._records) > self._most:
            self._records.popitem(last=False)


class _Record:
    """A graph, where it reads its inputs and where it leaves its result."""

    def __init__(self, function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
        device = inputs[0].device
        self._inputs = [torch.empty(x.shape, dtype=x.dtype, device=device) for x in inputs]
        torch._foreach_copy_(self._inputs, list(inputs))
        # Other threads may go on allocating, a loader's that pins memory for example.
        self._graph = torch.accelerator.Graph(capture_error_mode="thread_local")
        stream, current = torch.Stream(device), torch.accelerator.current_stream(device)
        stream.wait_stream(current)
        torch.accelerator.synchronize(device)
        with torch.no_grad(), torch.accelerator.device_index(device.index), stream:
            self._graph.capture_begin()
            try:
                self._result = function(*self._inputs)
            finally:
                self._graph.capture_end()
        current.wait_stream(stream)

    def __call__(self, inputs: tuple[Tensor, ...]) -> Tensor:
        torch._foreach_copy_(self._inputs, list(inputs))
        self._graph.replay()
        return self._result.clone()
