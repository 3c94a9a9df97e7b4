"""Where a network's weights come from: a library's own, a file, or a run."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.data.needs import InputNeeds
from lessonplan.data.preprocess import Preprocessing
from lessonplan.errors import ConfigError, in_short
from lessonplan.models import build_model
from lessonplan.models.channels import suit_channels
from lessonplan.models.factory import Factory, make_network, name_of
from lessonplan.models.spec import parse
from lessonplan.models.timm_adapter import timm_input
from lessonplan.models.transformers_adapter import transformers_input
from lessonplan.network.untouched import seeded
from lessonplan.pretrained import Match, NoMatch, begin_head, find_head, last_parameters, put_weights, read_weights
from lessonplan.pretrained.files import digest_of
from lessonplan.stores import fetched, is_url
from lessonplan.train.nearest import nearest
from lessonplan.train.run_folder import load_config

PRETRAINED = "pretrained"
_NAMED = 3  # classes


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
        class_names: those that a run was trained on.
        columns: what the features of a table are called that a run was trained on.
    """

    model: str | nn.Module | Factory
    plain: str | nn.Module | Factory
    needs: InputNeeds
    identity: dict[str, Any]
    state: dict[str, Tensor] | None
    where: str
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None

    def check_columns(self, given: tuple[str, ...] | None) -> None:
        """Refuse a table whose features are others, or stand in another order, where both are known.

        Raises:
            ConfigError: they do.
        """
        if None not in (self.columns, given) and self.columns != given:
            assert self.columns is not None
            assert given is not None
            raise ConfigError(
                f"weights of {self.where} take the features {in_short(self.columns)}, and the data have"
                f" {in_short(given)}: give the same columns in the same order"
            )

    def needs_for(self, tune: str) -> InputNeeds:
        """What a run asks of the input: all of each picture, where more than the head trains.

        The share around the centre that a library's weights were judged on suits their features as they are. A
        network that is trained on pictures gains by their borders (``benchmarks/pretrained_accuracy.py``). What a
        run of ours has learned to see stays as it was.

        Args:
            tune: the setting.
        """
        if self.class_names is not None or tune == "head":
            return self.needs
        return replace(self.needs, crop=1.0)

    def identity_for(self, class_names: Sequence[str]) -> dict[str, Any]:
        """``identity``, and what becomes of a run's head where the classes of the data are others."""
        if self.class_names in (None, tuple(class_names)):
            return self.identity
        same = sorted(self.class_names) == sorted(class_names)
        return {**self.identity, "head": "in another order" if same else "of other classes"}

    def network(
        self,
        *,
        shape: tuple[int, ...],
        num_classes: int,
        seed: int,
        head: str | None = None,
        class_names: Sequence[str] | None = None,
    ) -> tuple[nn.Module, Match]:
        """The network with these weights and a head for the classes.

        Args:
            shape: of one input.
            num_classes: of the data.
            seed: of what begins anew.
            head: name of the module that gives the logits; None finds out.
            class_names: of the data; a run's head is kept for the classes that it was trained on, in any order,
                and for as many others begun anew. None keeps it where the number is the same.

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
            elif class_names is not None and self.class_names not in (None, tuple(class_names)):
                match = self._for_classes(network, name, tuple(class_names), match)
            return network, match
        except NoMatch as error:
            raise ConfigError(
                f"the weights in {self.where} are not those of {_called(self.model)}: {error}"
                f"{nearest(self.model, self.state, Path(self.where), shape)}"
            ) from None

    def _for_classes(self, network: nn.Module, head: str, names: tuple[str, ...], match: Match) -> Match:
        """A head that was loaded, for classes of other names or in another order than those of the run."""
        assert self.class_names is not None
        last = last_parameters(network, head)
        if not last or any(len(parameter) != len(names) for _, parameter in last):
            return match
        if sorted(names) == sorted(self.class_names):
            _in_order(last, self.class_names, names)
            return replace(match, adapted=(*match.adapted, "the head's rows in the order of the classes"))
        begin_head(network, head)
        known = ", ".join(self.class_names[:_NAMED]) + (", ..." if len(self.class_names) > _NAMED else "")
        return replace(
            match,
            loaded=match.loaded - len(last),
            unused=match.unused + len(last),
            fresh=tuple(name for name, _ in last),
            adapted=(*match.adapted, f"a head for other classes ({known}) left out"),
        )


@torch.no_grad()
def _in_order(parameters: list[tuple[str, nn.Parameter]], before: tuple[str, ...], now: tuple[str, ...]) -> None:
    """Put the rows of a head's last layer into the order of the classes."""
    places = [before.index(name) for name in now]
    for _, parameter in parameters:
        parameter.copy_(parameter[places])


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
    state, names, columns = read_weights(stored), None, None
    if path.is_dir():
        inputs = load_config(path)["input"]
        names = tuple(inputs["classes"])
        prepared = Preprocessing.from_dict(inputs["preprocessing"])
        needs, columns = InputNeeds.of_run(prepared), prepared.columns
    else:
        known = parse(model) if isinstance(model, str) else None
        needs = InputNeeds()
        if known is not None and known.family == "timm":
            needs = InputNeeds.of_timm(timm_input(known.name))
        elif known is not None and known.family == "transformers":
            with contextlib.suppress(ConfigError):  # a model without an image processor asks for nothing
                needs = InputNeeds.of_timm(transformers_input(known.name))
    identity = {"weights": stored.name, "digest": digest_of(state)}
    return Origin(model, _plain(model), needs, identity, state, str(path), class_names=names, columns=columns)


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
