"""Runs whose network is shared out over ranks, and what is looked at inside of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
)

import lessonplan as lp
import lessonplan.select.asking as asking
from lessonplan.batch import Batch
from lessonplan.mix import ManifoldMixup
from lessonplan.network.network import Network
from lessonplan.network.ranks import Ranks, local
from lessonplan.plan import Plan
from lessonplan.settings import Settings
from lessonplan.train.callbacks import Callback
from lessonplan.train.metrics import norm_of, predict_view
from lessonplan.train.shards import Shards
from lessonplan.train.trainer import Trainer
from ranks.cases import data, idle_and_few, network, resumed, train

MORE: dict[str, dict[str, Any]] = {
    "groups of parameters": {
        "optimizer": "adam",
        "lr": 0.01,
        "head_lr": "2x",
        "layer_decay": 0.5,
        "decay_norms": False,
    },
    "best and averaged": {"keep": "best", "evaluate_every": 1, "ema": 0.5, "plan": "cascade:k=3,patience=1"},
}
"""Settings beside the plans of ``cases``."""


def train_all_sharded(names: list[str]) -> dict[str, dict[str, Any]]:
    """Make the runs of these names, one after another, with the network shared out."""
    return {name: train("plain" if name in MORE else name, shard=True, **MORE.get(name, {})) for name in names}


def hidden_or_half(shard: bool) -> dict[str, Any]:
    """Runs of two ranks that one process would not make alike: hidden states mixed a rank, and half precision."""
    given: dict[str, Any] = {"shard": shard, "budget": "20 steps"}
    return {
        "hidden": train("plain", plan=Plan(mix=ManifoldMixup(layers=["1"])), mix_over="rank", **given),
        "half": train("batch normalisation", precision="bf16", **given),
        "half as it travels": train("plain", grad_reduce="bf16", **given),
    }


def formats() -> dict[str, list[str]]:
    """The formats of weights while they run, in a run in bf16."""
    seen: dict[str, set[str]] = {"wide": set(), "norm": set()}

    class Listens(Callback):
        def on_train_start(self, trainer: Trainer) -> None:
            for name in ("wide", "norm"):
                layer = trainer.model.get_submodule(name)
                layer.register_forward_pre_hook(lambda m, _, name=name: seen[name].add(str(m.weight.dtype)))

    net = nn.Sequential()
    net.add_module("flat", nn.Flatten())
    net.add_module("wide", nn.Linear(64, 24))
    net.add_module("norm", nn.BatchNorm1d(24))
    net.add_module("out", nn.Linear(24, 10))
    lp.fit(net, data(), None, "3 steps", batch_size=16, shard=True, precision="bf16", callbacks=[Listens()])
    return {name: sorted(found) for name, found in seen.items()}


class Inside(Callback):
    """Looks at the parts behind the last update."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def on_train_end(self, trainer: Trainer) -> None:
        """Take what PyTorch's own functions put together, what ours do, and what this rank has."""
        state, model = trainer.state, trainer.model
        shards = state.shards
        assert shards is not None
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        ours = trainer._put_together()
        kept = {id(p): name for name, p in model.named_parameters()}
        order = [kept[id(p)] for group in state.optimizer.param_groups for p in group["params"]]
        theirs = get_optimizer_state_dict(model, state.optimizer, options=options)
        optimizer = [local(t) for entry in state.optimizer.state.values() for t in entry.values() if t.ndim]
        gradients = [p.grad for p in model.parameters()]
        again = shards.parts(ours["weights"]["model"], model.state_dict()) if trainer.ranks.first else {}
        self.found = {
            "blocks": shards.blocks,
            "parameters": {name: local(p.detach()).numel() for name, p in model.named_parameters()},
            "whole": {name: p.numel() for name, p in model.named_parameters()},
            "gradients": sum(local(g).numel() for g in gradients if g is not None),
            "optimizer": sum(t.numel() for t in optimizer),
            "average": sum(local(p.detach()).numel() for p in state.average.parameters()) if state.average else 0,
            "lent": sum(p.numel() for p in shards._lent.parameters()),
            "weights": ours["weights"]["model"],
            "weights by PyTorch": get_model_state_dict(model, options=options),
            "states": {order[number]: entry for number, entry in ours["optimizer"]["state"].items()},
            "states by PyTorch": theirs.get("state", {}),
            "comes back": all(torch.equal(local(t), local(model.state_dict()[n])) for n, t in again.items()),
            "norm": norm_of(trainer.state.parameters, trainer.ranks),
        }  # fmt: skip


def inside(optimizer: str) -> dict[str, Any]:
    """What each rank has, in a run with an average of weights."""
    looks = Inside()
    lp.fit(
        network(norm=True),
        data(),
        None,
        "6 steps",
        batch_size=16,
        optimizer=optimizer,
        ema=0.9,
        shard=True,
        callbacks=[looks],
    )
    return looks.found


def checkpoints(out: str, shard: bool, optimizer: str) -> None:
    """A run that leaves its checkpoints."""
    folder = Path(out)
    given = {"optimizer": optimizer, "ema": 0.9, "keep": "best", "evaluate_every": 1, "budget": "60 steps"}
    train("cascade by plateaus", folder, shard=shard, **given)


def resumed_sharded(out: str, stop: int | None) -> tuple[str, Any] | None:
    """See ``resumed``; with an average, and the best weights kept."""
    return resumed(out, stop, shard=True, optimizer="adamw", lr=0.01, ema=0.8, keep="best", budget="100 steps")


def given_back() -> dict[str, Any]:
    """What becomes of a network of one's own: behind a run, and behind one that failed."""
    net = network()
    run = lp.fit(net, data(), None, "5 steps", batch_size=16, shard=True)
    own: dict[str, Any] = {
        "same": run.model is net,
        "class": type(net[1]).__name__,
        "whole": all(type(p) is nn.Parameter and p.device.type == "cpu" for p in net.parameters()),
        "logits": net(torch.ones(2, 1, 8, 8)).detach(),
        "shapes": [tuple(p.shape) for p in net.parameters()],
    }
    again = lp.fit(net, data(), None, "5 steps", batch_size=16, shard=True)  # trains on from there
    own["trained on"] = again.result["weights"] != run.result["weights"]

    class Fails(Callback):
        def on_batch_end(self, trainer: Trainer) -> None:
            raise KeyError("stopped")

    failing = network()
    for attempt in ("first", "second"):
        try:
            lp.fit(failing, data(), None, "5 steps", batch_size=16, shard=True, callbacks=[Fails()])
        except Exception as error:
            own[attempt] = f"{type(error).__name__}: {error}"
    return own


class Odd(nn.Module):
    """A network with weights that two layers share, frozen ones, idle ones, and one that another layer borrows."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.first, self.second, self.third = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 32)
            self.third.weight = self.second.weight
            self.frozen, self.idle, self.out = nn.Linear(32, 32), nn.Linear(5, 7), nn.Linear(32, 10)
        self.frozen.requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 1, 8, 8)`` to ``(N, 10)``."""
        hidden = self.third(self.second(self.first(x.flatten(1)).relu()).relu()).relu()
        hidden = self.frozen(hidden).relu() @ self.first.weight[:, :32]  # borrowed
        logits: Tensor = self.out(hidden * self.scale)
        return logits


def odd_networks(shard: bool) -> dict[str, dict[str, Tensor]]:
    """Weights of runs on networks that do not fall into blocks."""
    run = lp.fit(Odd(), data(), "mixup", "15 steps", batch_size=16, lr=0.05, shard=shard)
    few = idle_and_few(shard=shard)
    return {"odd": dict(run.model.state_dict()), "few": few["weights"]}


def uneven() -> dict[str, float]:
    """Passes of which the first rank has one more than the other, through a network that is shared out."""
    ranks = Ranks(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo"), sharded=True)
    asking._CHUNK_ON_CPU = 2
    plain, samples, rows = network(), data(), torch.arange(5)
    assert samples.test is not None
    half = len(samples.test) // 2
    assert len(samples.test) == 2 * half + 1
    x, y = samples.train.fetch(rows, 0)
    scored, judged = plain(x).detach(), predict_view(plain, samples.test)[0]
    shards = Shards(plain, torch.device("cpu"), x[:1], ranks, Settings(shard=True))
    model = shards.borrowed()
    shards.share_out(model)
    logits, losses = asking.Scoring().of(
        Network(model, ranks=ranks), Batch(rows, rows * 0, None, x, y), samples.train
    )
    expected = nn.functional.cross_entropy(scored, y, reduction="none")
    return {
        "logits": (logits - scored).abs().max().item(),
        "losses": (losses - expected).abs().max().item(),
        "judged": (predict_view(model, samples.test, half, ranks=ranks)[0] - judged).abs().max().item(),
    }


class Rows(torch.optim.SGD):
    """Remembers the sums of the gradient's rows."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, lr=0.1)

    def step(self, closure: Any = None) -> None:
        """An update."""
        for parameter in (p for group in self.param_groups for p in group["params"]):
            self.state[parameter]["rows"] = parameter.grad.sum(-1)
        super().step()


def _others() -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """A factory that does not heed what it is given."""
    own = list(network().parameters())
    return lambda _: torch.optim.SGD(own, lr=0.1)


def unfit() -> dict[str, str]:
    """What is said of networks and optimizers that cannot be shared out."""
    scalar = network()
    scalar.register_parameter("scale", nn.Parameter(torch.ones(())))
    wanted: dict[str, tuple[nn.Module, dict[str, Any]]] = {
        "recurrent": (nn.Sequential(nn.Flatten(), nn.LSTM(64, 10)), {}),
        "scalar": (scalar, {}),
        "optimizer": (network(), {"optimizer": _others()}),
        "remembers": (network(), {"optimizer": Rows}),
    }
    said = {}
    for what, (net, given) in wanted.items():
        try:
            lp.fit(net, data(), None, "3 steps", batch_size=16, shard=True, **given)
        except lp.errors.ConfigError as error:
            said[what] = str(error)
    return said
