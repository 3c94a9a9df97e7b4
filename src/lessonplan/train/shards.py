"""A network whose parameters, gradients and optimizer state are shared out over ranks (PyTorch's FSDP2).

Each rank keeps a part of every parameter. A block's parameters come together while it runs, forward and backward,
and are put away again; gradients are averaged over the ranks on their way back into parts. PyTorch does that
(``torch.distributed.fsdp.fully_shard``, after Zhao et al., "PyTorch FSDP", 2023, and ZeRO, Rajbhandari et al.,
2020); here is what is made of it: blocks are found, states are put together and taken apart.
"""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from lessonplan.errors import ConfigError
from lessonplan.network.blocks import find_blocks, keeps_weights_twice
from lessonplan.network.ranks import Ranks, local
from lessonplan.settings import Settings

_emptied: WeakSet[nn.Module] = WeakSet()
"""Networks whose weights are shared out, and are not in the networks themselves."""


class Shards:
    """Shares a network out over ranks, and puts it together again.

    The given network is emptied: a copy of it trains, and what it has learned is given back at the end. A run that
    fails leaves the network empty.

    Args:
        network: whole, of the same architecture on all ranks; the first rank's weights are everybody's.
        device: where it trains.
        example: ``(1, ...)`` an input, by which blocks are found.
        ranks: who trains.
        settings: ``precision`` bf16 brings parameters together in that format, but for those of batch
            normalisation; ``grad_reduce`` is the format in which gradients travel.

    Raises:
        ConfigError: the network cannot be shared out.
    """

    def __init__(
        self, network: nn.Module, device: torch.device, example: Tensor, ranks: Ranks, settings: Settings
    ) -> None:
        check_sound(network)
        self._lent, self._device, self._ranks = network.cpu(), device, ranks
        self._example, self._settings = example.cpu(), settings
        for tensor in [*network.parameters(), *network.buffers()]:
            ranks.level([tensor])  # one by one, for there may be no room for all of them twice
        self.blocks = 0

    def borrowed(self) -> nn.Module:
        """The network that is to train, still whole; the given one is empty from now on."""
        network = _beside(self._lent)
        _emptied.add(self._lent)
        for parameter in self._lent.parameters():
            parameter.data = parameter.data.new_empty(0)
        return network

    def share_out(self, network: nn.Module, *, exact: bool = False) -> None:
        """Leave this rank its part of each parameter, on the device.

        Args:
            network: whole.
            exact: bring parameters together as they are, whatever the precision of training.
        """
        mesh = DeviceMesh(self._device.type, list(range(self._ranks.count)))
        reduced = torch.bfloat16 if self._settings.grad_reduce == "bf16" else torch.float32
        plain = MixedPrecisionPolicy(reduce_dtype=reduced, cast_forward_inputs=False)
        half = not exact and self._settings.precision == "bf16"
        # Autocast casts what goes into operations; parameters alone come in its format.
        policy = MixedPrecisionPolicy(torch.bfloat16, reduced, cast_forward_inputs=False) if half else plain
        blocks = find_blocks(network, self._example)
        if half:  # its statistics are in single precision, and all of it must be
            norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.affine]
            for norm in norms:
                fully_shard(norm, mesh=mesh, mp_policy=plain, reshard_after_forward=True)
            blocks = [block for block in blocks if block not in norms]
        for module in [*blocks, network]:
            fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
        self.blocks = len(blocks)

    def give_back(self, trained: nn.Module) -> nn.Module:
        """Put weights and buffers of a network that was shared out into the given one; on the CPU of all ranks."""
        lent = self._lent
        with torch.no_grad():
            for parameter, value in zip(lent.parameters(), trained.parameters(), strict=True):
                parameter.data = _whole(value).cpu()
                parameter.grad = None
            for buffer, held in zip(lent.buffers(), trained.buffers(), strict=True):
                buffer.data = held.detach().cpu().clone()
        _emptied.discard(lent)
        return lent.eval()

    def judged(self) -> nn.Module:
        """The given network, shared out once more, by which it is judged as whoever loads it will see it."""
        network = _beside(self._lent)
        self.share_out(network, exact=True)
        return network.eval()

    @staticmethod
    def check_optimizer(optimizer: Optimizer, network: nn.Module) -> None:
        """Whether an optimizer works on the parts that this rank has.

        Raises:
            ConfigError: it has parameters of another network, that of before say.
        """
        own = {id(parameter) for parameter in network.parameters()}
        if any(id(parameter) not in own for group in optimizer.param_groups for parameter in group["params"]):
            raise ConfigError(
                "shard: the optimizer has other parameters than those that it was given: let the factory take them"
                " from its argument, not from the network, which is shared out"
            )

    @staticmethod
    def check_state(optimizer: Optimizer) -> None:
        """Whether what an optimizer remembers can be put together and taken apart.

        Raises:
            ConfigError: something is neither of its parameter's shape nor the same on all ranks.
        """
        for parameter, entry in optimizer.state.items():
            for name, value in entry.items():
                if isinstance(value, DTensor) and value.shape != parameter.shape:
                    raise ConfigError(
                        f"shard: {type(optimizer).__name__} keeps {name} of the shape {tuple(value.shape)} for a"
                        f" parameter of {tuple(parameter.shape)}, which could not be resumed: give another"
                        " optimizer (sgd, adam, adamw), or leave out shard"
                    )

    # -- states --------------------------------------------------------------------------------------

    def whole(self, state: Any) -> Any:
        """A state with whole tensors, on the first rank; others get nothing, and have to take part."""
        if isinstance(state, DTensor):
            found = _whole(state)
            return found.cpu() if self._ranks.first else None
        if isinstance(state, dict):
            return _refilled(state, {key: self.whole(value) for key, value in state.items()})
        if isinstance(state, list | tuple):
            return type(state)(self.whole(value) for value in state)
        return state

    @staticmethod
    def parts(state: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
        """This rank's parts of a network's state.

        Args:
            state: of whole tensors, or of parts already.
            like: the network's own state.
        """
        return _refilled(state, {name: _part(value, like.get(name)) for name, value in state.items()})

    @staticmethod
    def optimizer_parts(state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
        """This rank's parts of an optimizer's state.

        Args:
            state: of whole tensors, or of parts already.
            optimizer: of the parameters that are shared out.
        """
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        entries = {
            number: {key: _part(value, parameters[number]) for key, value in entry.items()}
            for number, entry in state["state"].items()
        }
        return {**state, "state": entries}


def check_sound(network: nn.Module) -> None:
    """Whether a network can be shared out.

    Raises:
        ConfigError: its weights are elsewhere, or it has parts of a kind that cannot.
    """
    if network in _emptied:
        raise ConfigError(
            "this network's weights were shared out over ranks by a run that did not end well: make it anew"
        )
    twice = keeps_weights_twice(network)
    if twice is not None:
        raise ConfigError(
            f"shard: {twice or 'the network'} is a recurrent layer, which holds its weights in a second place and"
            " cannot be shared out: leave out shard"
        )
    scalars = [name for name, parameter in network.named_parameters() if parameter.ndim == 0]
    if scalars:
        raise ConfigError(
            f"shard: the parameter {scalars[0]} is a number without a dimension, which cannot be shared out: give"
            " it the shape (1,), or leave out shard"
        )


def _whole(tensor: Tensor) -> Tensor:
    if not isinstance(tensor, DTensor):
        return tensor.detach().clone()
    whole: Tensor = tensor.detach().full_tensor()  # type: ignore[attr-defined]
    return whole


def _part(value: Any, like: Any) -> Any:
    """A rank's part of a whole tensor that belongs to a parameter; anything else as it is."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or isinstance(value, DTensor):
        return value
    if value.shape != like.shape:  # a counter of steps; or another network's, which will be said
        return value
    own = local(like.detach())
    pieces = value.chunk(like.device_mesh.size(), 0)
    rank = like.device_mesh.get_local_rank()
    piece = pieces[rank] if rank < len(pieces) else value[:0]
    # A tensor of its own, because the optimizer writes into it.
    part = piece.to(own.device).contiguous().clone()
    return DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def _refilled(state: dict[Any, Any], content: dict[Any, Any]) -> dict[Any, Any]:
    """A dict of the same kind, with what hangs on it (the versions of modules, in their states)."""
    found = copy.copy(state)
    found.update(content)
    return found


def _beside(network: nn.Module) -> nn.Module:
    """A copy that has its parameters in the same memory."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(p.detach().contiguous(), requires_grad=p.requires_grad) for p in network.parameters()
    }
    return copy.deepcopy(network, memo)
