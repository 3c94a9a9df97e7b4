"""A head that trains alone sees features instead of pixels: the network before it is asked once a picture."""

from __future__ import annotations

import copy
import math
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.cache import cache_folder
from lessonplan.data import Data
from lessonplan.data.augment import Augment
from lessonplan.data.base import Keyed
from lessonplan.data.normalise import Normalise
from lessonplan.data.view import View
from lessonplan.errors import ConfigError, visible
from lessonplan.mix import Mix
from lessonplan.network.passes import Passes
from lessonplan.parts.part import Occasion
from lessonplan.plan import Plan
from lessonplan.pretrained import find_head
from lessonplan.pretrained.closed_form import check_linear
from lessonplan.pretrained.features import Backbone, FeatureCache, FeatureKey, NoFeatures
from lessonplan.progress import say
from lessonplan.rows import rows_of
from lessonplan.settings import Settings
from lessonplan.train.preparation import check_head
from lessonplan.train.stages import stages
from lessonplan.train.tuning import Tune, forward_shares


class FeatureSource:
    """Features of a view's samples, as a source (:class:`lessonplan.data.Source`).

    Args:
        table: ``(n, F)`` of 16-bit floats.
        of: the view whose labels they have.
    """

    in_memory = True

    def __init__(self, table: Tensor, of: View) -> None:
        self.table, self.labels = table, of.clean_labels
        self.class_names = of.source.class_names
        self.shape: tuple[int, ...] = (table.shape[1],)
        self.fingerprint = of.source.fingerprint

    def __len__(self) -> int:
        return len(self.table)

    def read(self, rows: Tensor) -> Tensor:
        """Features ``(B, F)`` float32."""
        return rows_of(self.table, rows).float()


class FeatureView(View):
    """Features in place of a view's inputs; with several, another augmented view of a sample every epoch.

    Args:
        features: ``(views, n, F)`` of 16-bit floats; the first are of inputs as they are.
        of: the view that they were made from.
    """

    def __init__(self, features: Tensor, of: View) -> None:
        self._features, self._changes = features, len(features) > 1
        self._sample_rows = of.rows
        length = features.shape[2]
        super().__init__(
            FeatureSource(features[0], of),
            torch.arange(len(of)),
            normalise=Normalise(torch.zeros(length), torch.ones(length), 1.0),
            seed=of.seed,
            device=of.device,
            workers=0,
            noise=of.noise,
        )

    def _place(self, device: torch.device) -> None:
        super()._place(device)
        self._store = None
        self._table = self._features.flatten(0, 1).to(device)
        self._turn = self._sample_rows.to(device)

    def fetch(self, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Features ``(B, F)`` float32 and labels by position; see ``View``."""
        at = indices.to(self.device, non_blocking=True)
        views = len(self._features)
        rows = (epoch + self._turn[at]) % views * len(self) + at if self._changes else at
        return rows_of(self._table, rows).float(), self._places[1][at]

    @property
    def varies(self) -> bool:
        """Whether there are several views of a sample."""
        return self._changes

    def with_augment(self, augment: Augment | None) -> View:
        """The same features; without augmentation, those of inputs as they are."""
        other = copy.copy(self)
        other._changes = self._changes and augment is not None
        return other


@dataclass
class Trainee:
    """What is trained, and on what: a network on its data, or its head on features.

    Attributes:
        network: the module that trains, in place.
        data: what it sees.
        settings: those that it has.
        whole: the network that it is the head of, or None.
        spent: passes through the whole that the training features took.
        share: of the whole's forward pass that it takes.
    """

    network: nn.Module
    data: Data
    settings: Settings
    whole: nn.Module | None = None
    spent: Passes = field(default_factory=Passes)
    share: float = 1.0

    def priced(self, passes: Passes) -> Passes:
        """What passes through it cost, rounded up."""
        return passes if self.whole is None else passes._replace(cost=math.ceil(passes.cost * self.share))


def trainee(network: nn.Module, data: Data, plan: Plan, settings: Settings) -> Trainee:
    """The head on features, where it alone trains and nothing happens to pixels; else the network on its data.

    Every sample is seen once (``feature_views``: several times, augmented behind the first), whatever the plan and
    the budget; features of other runs with the same weights and pictures are taken from the cache. Mixing is then
    mixing of features: manifold mixup at the last layer (Verma et al. 2019).

    Args:
        network: on any device; is moved to the data's.
        data, plan, settings: of the run.

    Raises:
        ConfigError: features are asked for (``features="cached"``, ``fit_head``), and cannot be had.
    """
    check_head(plan, settings)
    if Tune.parse(settings.tune).kind != "head" or settings.features == "off":
        return Trainee(network, data, settings)
    if settings.feature_views > 1 and str(data.train.augment or "none") == "none":
        raise ConfigError(
            f"feature_views={settings.feature_views} would keep the same view several times, since pictures"
            " are not augmented: give augment, or feature_views=1"
        )
    head = find_head(network, settings.head, data.num_classes)
    backbone = Backbone(network.to(data.train.device), head)
    if settings.fit_head != "train":
        check_linear(backbone.head)
    try:
        _check_plan(plan)
        length = backbone.length(data.train.fetch(torch.arange(min(2, len(data.train))))[0])
        _check_mix(plan.mix, length, data)
    except NoFeatures as reason:
        if settings.features == "cached" or settings.fit_head != "train" or settings.feature_views > 1:
            raise ConfigError(f"features cannot be computed once and kept: {reason}") from None
        say(visible(f"features are not cached: {reason}"))
        return Trainee(network, data, settings)
    views = settings.feature_views
    parts = {name: view for name in ("train", "val", "test") if (view := getattr(data, name)) is not None}
    identity = backbone.identity(data.shape)
    made: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as forgotten:
        for name, view in parts.items():
            several = views if name == "train" else 1
            change = f"{view.augment} {view.seed}" if several > 1 else None
            key = FeatureKey(identity, data.preprocessing.to_dict(), change)
            # Objects whose content nobody has read may change without being told apart.
            known = view.source.in_memory or isinstance(view.source, Keyed)
            place = cache_folder("features", settings.feature_cache) if known else Path(forgotten)
            cache = FeatureCache(place / key.name(view.source.fingerprint), len(view.source), length, several)
            made[name] = FeatureView(cache.read(view, backbone), view)
    example = data.train.fetch(torch.zeros(1, dtype=torch.int64))[0]
    share = forward_shares(network, stages(network, head), example)[-1]
    own = {id(parameter) for parameter in backbone.head.parameters()}
    for parameter in network.parameters():
        if id(parameter) not in own:
            parameter.requires_grad_(False)
            parameter.grad = None
    alone = settings.model_copy(update={"tune": "all", "head": "", "layer_decay": 1.0, "channels_last": False})
    seen = views * len(data.train)
    on = replace(data, **made, shape=(length,))
    return Trainee(backbone.head, on, alone, network, Passes(0, seen, seen, 0), share)


def _check_plan(plan: Plan) -> None:
    """Raise NoFeatures where pixels are needed at every step."""
    if plan.mix is not None and plan.mix.needs_network():
        raise NoFeatures(f"{plan.mix} mixes pixels or hidden stages")


def _check_mix(mix: Mix | None, length: int, data: Data) -> None:
    """Raise NoFeatures where vectors cannot be mixed so."""
    if mix is None:
        return
    try:
        fresh = copy.deepcopy(mix)
        fresh.setup(Occasion(0, data.train, data.val, data.num_classes))
        some = torch.arange(max(8, mix.current_k())) % len(data.train)
        fresh.rehearse(torch.zeros(len(some), length), data.train.labels[some])
    except ConfigError as error:
        raise NoFeatures(f"{mix} mixes pixels ({error})") from None
