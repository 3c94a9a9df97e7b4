"""Where a network's weights come from: a library's own, a file, or a run."""

from __future__ import annotations

import contextlib
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.data.needs import InputNeeds
from lessonplan.data.preprocess import Preprocessing
from lessonplan.errors import ConfigError
from lessonplan.models import build_model
from lessonplan.models.channels import suit_channels
from lessonplan.models.factory import Factory, make_network, name_of
from lessonplan.models.spec import parse
from lessonplan.models.timm_adapter import timm_input, timm_names
from lessonplan.models.transformers_adapter import transformers_input
from lessonplan.network.untouched import seeded
from lessonplan.pretrained import Match, NoMatch, begin_head, find_head, put_weights, read_weights
from lessonplan.pretrained.files import digest_of
from lessonplan.stores import fetched, is_url
from lessonplan.train.run_folder import load_config

PRETRAINED = "pretrained"
_NAMED = 3
_LIKELY = 6  # models of similar names that are tried where weights do not fit


@dataclass(frozen=True)
class Origin:
    """Weights for a network, before it is built.

    Attributes:
        model: the network's spelling, the network itself, or what makes it.
        plain: the spelling without a tag that names weights, for later.
        needs: what they ask of the input.
        identity: what tells them from others, as plain data.
        state: the tensors, or None where the library that builds the network loads them.
        where: for messages.
        classes: how many a library's weights have a head for, where that is known.
    """

    model: str | nn.Module | Factory
    plain: str | nn.Module | Factory
    needs: InputNeeds
    identity: dict[str, Any]
    state: dict[str, Tensor] | None
    where: str
    classes: int | None = None

    def network(
        self, *, shape: tuple[int, ...], num_classes: int, seed: int, head: str | None = None
    ) -> tuple[nn.Module, Match]:
        """The network with these weights and a head for the classes.

        Args:
            shape: of one input.
            num_classes: of the data.
            seed: of what begins anew.
            head: name of the module that gives the logits; None finds out.

        Raises:
            ConfigError: the weights are of another architecture, or there is no head.
        """
        if not isinstance(self.model, str):
            network = own_network(self.model, shape, num_classes, seed)
            suit_channels(network, shape)
        else:
            library = self.state is None
            network = build_model(
                self.model if library else str(self.plain),
                shape=shape,
                num_classes=num_classes,
                seed=seed,
                pretrained=library,
            )
        name = find_head(network, head, num_classes if head is not None else None)
        if self.state is None:
            own = list(network.state_dict())
            fresh = [n for n in own if n.startswith(f"{name}.")] if self.classes != num_classes else []
            if fresh:
                begin_head(network, name)
            return network, Match(len(own) - len(fresh), 0, tuple(fresh), 0)
        try:
            match = put_weights(network, self.state, name)
            if match.fresh:
                begin_head(network, name)
            return network, match
        except NoMatch as error:
            raise ConfigError(
                f"the weights in {self.where} are not those of {_called(self.model)}: {error}"
                f"{self._nearest(shape)}"
            ) from None

    def _nearest(self, shape: tuple[int, ...]) -> str:
        """A model that the weights would fit, looked for among those of similar names."""
        folder = Path(self.where).parent
        if isinstance(self.model, str) and self.model.startswith("transformers:"):
            if not (folder / "config.json").is_file():
                return ""
            return (
                "; transformers writes other names into its files than it reads: give the file's folder,"
                f" model='transformers:{folder}' and weights='pretrained'"
            )
        if not isinstance(self.model, str) or not self.model.startswith("timm:") or self.state is None:
            return ""
        names = timm_names()
        stem = Path(self.where).stem.replace("-", "_")
        likely = difflib.get_close_matches(stem, names, n=_LIKELY, cutoff=0.3)
        likely += [name for name in names if name in stem][-_LIKELY:]
        likely += [f"tf_{name}" for name in likely if f"tf_{name}" in names]  # the same with TensorFlow's padding
        best: list[str] = []
        most = 0
        for name in dict.fromkeys(likely):
            try:
                with torch.device("meta"):
                    network = build_model(f"timm:{name}", shape=shape, num_classes=2)
                match = put_weights(network, {k: v.to("meta") for k, v in self.state.items()}, find_head(network))
            except (ConfigError, NotImplementedError, RuntimeError):
                continue
            if match.loaded >= most:  # networks that differ in their padding alone cannot be told apart
                best = [*best, name] if match.loaded == most else [name]
                most = match.loaded
        known = " or ".join(f"timm:{name}" for name in best[:_NAMED])
        return f"; they fit {known}" if known else "; timm.list_models() lists other networks"


def own_network(model: nn.Module | Factory, shape: tuple[int, ...], num_classes: int, seed: int) -> nn.Module:
    """A module of the user's own, or what a factory makes; what it draws is drawn by the seed.

    Raises:
        ConfigError: the factory cannot be called, or gives no network.
    """
    if isinstance(model, nn.Module):
        return model
    with seeded(seed):
        return make_network(model, shape, num_classes)


def origin_of(model: str | nn.Module | Factory, weights: str) -> Origin:
    """Find weights for a network.

    Args:
        model: a spelling, or a module or factory of the user's own.
        weights: ``"pretrained"`` for those that timm or transformers have for it; a file; or the folder or URL
            of a finished run.

    Raises:
        ConfigError: there are none, or they cannot be read.
    """
    if weights == PRETRAINED:
        return _library(model)
    path = fetched(weights) if is_url(weights) else Path(weights).expanduser()
    stored = path / "weights.safetensors" if path.is_dir() else path
    if path.is_dir() and not (path / "config.yaml").exists():
        inside = sorted(entry.name for entry in path.iterdir())[:3]
        raise ConfigError(
            f"weights={weights!r} is a folder ({', '.join(inside) or 'empty'}) and no run: give a file of weights"
            " (safetensors, or a saved state dict), or the folder of a finished run"
        )
    state = read_weights(stored)
    if path.is_dir():
        prepared = Preprocessing.from_dict(load_config(path)["input"]["preprocessing"])
        needs = InputNeeds.of_run(prepared)
    else:
        known = parse(model) if isinstance(model, str) else None
        needs = InputNeeds()
        if known is not None and known.family == "timm":
            needs = InputNeeds.of_timm(timm_input(known.name))
        elif known is not None and known.family == "transformers":
            with contextlib.suppress(ConfigError):  # a model without an image processor asks for nothing
                needs = InputNeeds.of_timm(transformers_input(known.name))
    identity = {"weights": stored.name, "digest": digest_of(state)}
    return Origin(model, _plain(model), needs, identity, state, str(path))


def _library(model: str | nn.Module | Factory) -> Origin:
    if isinstance(model, str) and (known := parse(model)).family in ("timm", "transformers"):
        ask = timm_input if known.family == "timm" else transformers_input
        told = ask(known.name)
        identity = {"weights": f"pretrained {model}"}
        return Origin(
            model, _plain(model), InputNeeds.of_timm(told), identity, None, model, told.get("num_classes")
        )
    raise ConfigError(
        f"weights='pretrained' of {_called(model)}: timm:NAME and transformers:NAME have some; give a file of"
        " weights, or the folder of a run"
    )


def _plain(model: str | nn.Module | Factory) -> str | nn.Module | Factory:
    """``timm:NAME`` of ``timm:NAME.TAG``."""
    tagged = isinstance(model, str) and model.lower().startswith("timm:")
    return model.partition(".")[0] if isinstance(model, str) and tagged else model


def _called(model: str | nn.Module | Factory) -> str:
    if isinstance(model, str):
        return model
    return type(model).__name__ if isinstance(model, nn.Module) else name_of(model)
