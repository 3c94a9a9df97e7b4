"""What is settled before training: batch size, loss, and whether plan, data and settings go together."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F

from lessonplan.data import Data
from lessonplan.errors import ConfigError
from lessonplan.losses import FocalLoss, SumBCE
from lessonplan.mix import Mix
from lessonplan.network.network import LossFunction, soft_cross_entropy
from lessonplan.network.ranks import ALONE, Ranks
from lessonplan.order.by_score import ByScore
from lessonplan.parts.part import Occasion
from lessonplan.plan import Plan
from lessonplan.settings import Settings
from lessonplan.supply.epoch import Supply
from lessonplan.train.cadence import Cadence
from lessonplan.train.optimizer import learning_schedule
from lessonplan.train.schedule import Schedule
from lessonplan.train.tuning import Tune


def resolve_batch_size(given: int | str, samples: int, *, pretrained: bool = False, features: bool = False) -> int:
    """The batch size that a setting means for a training set.

    A network that has been trained before needs many small steps more than steady ones: an epoch of a small set is
    then twelve updates or more, of up to 32 samples. A head on kept features makes twelve, up to 512 samples each:
    more of them change its accuracy little, and are all that an epoch takes.

    >>> resolve_batch_size("auto", 80), resolve_batch_size("all", 80), resolve_batch_size("auto", 50_000)
    (40, 80, 100)
    >>> [resolve_batch_size("auto", n, pretrained=True) for n in (20, 160, 3000)]
    [8, 13, 32]
    >>> [resolve_batch_size("auto", n, pretrained=True, features=True) for n in (20, 160, 3000, 50_000)]
    [8, 13, 250, 512]
    """
    if given == "all":
        return samples
    if given == "auto" and pretrained:
        return max(1, min(512 if features else 32, max(8, samples // 12), samples))
    if given == "auto":
        return max(1, min(100, samples // 2))
    if int(given) > samples:
        raise ConfigError(
            f"batch_size={given} is larger than the {samples} training samples: give at most that, or 'all'"
        )
    return int(given)


def named_loss(settings: Settings, plan: Plan) -> LossFunction:
    """The loss that the settings name, one value a sample.

    Raises:
        ConfigError: an option of another loss is given.
    """
    if settings.label_smoothing and settings.loss != "ce":
        raise ConfigError("label_smoothing is for loss=ce: leave it out, or take that loss")
    if settings.focal_gamma is not None and settings.loss != "focal":
        raise ConfigError(
            f"focal_gamma={settings.focal_gamma:g} is for loss=focal: leave it out, or take that loss"
        )
    if settings.loss == "sum-bce":
        return SumBCE(plan.mix if plan.mix is not None else 1, reduction="none")
    if settings.loss == "focal":
        return FocalLoss(2.0 if settings.focal_gamma is None else settings.focal_gamma, reduction="none")
    if settings.label_smoothing:
        return partial(F.cross_entropy, reduction="none", label_smoothing=settings.label_smoothing)
    return soft_cross_entropy


def prepare(
    plan: Plan, data: Data, settings: Settings, seed: int, *, linear: bool = True, ranks: Ranks = ALONE
) -> tuple[int, Supply]:
    """The batch size, and what hands out batches; its parts have heard of the run.

    Args:
        plan, data, settings, seed: of the run.
        linear: whether the loss is linear in the target, see ``Supply``.
        ranks: who trains.

    Raises:
        ConfigError: plan, data, settings and ranks do not go together.
    """
    batch_size = resolve_batch_size(
        settings.batch_size,
        len(data.train),
        pretrained=settings.weights is not None,
        features=settings.head == "",  # the head is the network
    )
    _check_decisions(plan, data, settings)
    if settings.channels_last and getattr(plan.order, "method", "") == "stacked":
        raise ConfigError(
            "loss-delta:method=stacked does all candidates at once, for which PyTorch has no channels-last layout:"
            " give channels_last=False, or another method"
        )
    apart = settings.mix_over == "rank"
    check_shared(plan, settings, batch_size, ranks)
    supply = Supply(
        data.train,
        seed=seed,
        select=plan.select,
        order=plan.order,
        mix=plan.mix,
        heeds_logits=True,
        linear=linear,
        ranks=ranks,
        mixes_apart=apart,
    )
    supply.setup(Occasion(seed, data.train, data.val, data.num_classes))
    _check_mix(supply.mix, data, batch_size, ranks if apart else ALONE)
    return batch_size, supply


def check_run(plan: Plan, data: Data, settings: Settings, seed: int) -> None:
    """Find what would stop a run at its first update, without building its network.

    Raises:
        ConfigError: something would.
    """
    check_head(plan, settings)
    prepare(plan, data, settings, seed)
    named_loss(settings, plan)
    Schedule(learning_schedule(settings))
    Cadence.parse(settings.checkpoint_every)


def check_head(plan: Plan, settings: Settings) -> None:
    """Whether features can be asked for, and a head be found without training.

    Raises:
        ConfigError: more than the head trains, or the plan does something to samples that are taken as they are.
    """
    solved = settings.fit_head != "train"
    if settings.feature_views > 1 and (Tune.parse(settings.tune).kind != "head" or settings.features == "off"):
        raise ConfigError(
            f"feature_views={settings.feature_views} is of features that are kept: give tune=head, and leave"
            " features='auto'"
        )
    if not solved and settings.features != "cached":
        return
    if Tune.parse(settings.tune).kind != "head":
        raise ConfigError(
            f"tune={settings.tune} changes what features come from: give tune=head, or features='auto' and"
            " fit_head='train'"
        )
    if settings.features == "off":
        raise ConfigError("fit_head needs features: give features='auto', or fit_head='train'")
    if solved and plan.config() != {"mix": None}:
        raise ConfigError(
            f"fit_head={settings.fit_head} takes all samples as they are: leave out select, order and mix"
        )


def _check_decisions(plan: Plan, data: Data, settings: Settings) -> None:
    """What validation shall decide needs a validation split; what is to be watched has to be there.

    Raises:
        ConfigError: there is none.
    """
    if settings.evaluate_test == "curve" and data.test is None:
        raise ConfigError(
            "evaluate_test=curve watches test data while training, and there are none: give data with a test part,"
            " or leave it out"
        )
    if data.val is not None:
        return
    if plan.order is not None and plan.order.needs_validation():
        raise ConfigError(
            "the order looks at validation samples, and there are none: give val_fraction, or on=same"
        )
    if plan.mix is not None and plan.mix.needs_validation():
        raise ConfigError(
            "the cascade switches on plateaus of a validation split, and there is none:"
            " give val_fraction, or let the cascade switch by shares of the budget"
        )
    if settings.keep == "best":
        raise ConfigError("keep='best' needs a validation split: give val_fraction, or keep='last'")


def check_shared(plan: Plan, settings: Settings, batch_size: int, ranks: Ranks) -> None:
    """Whether a plan can be shared out over ranks.

    Raises:
        ConfigError: a part of it, which is named, cannot.
    """
    check_shards(plan, settings, ranks)
    if ranks.alone:
        return
    if batch_size < ranks.count:
        raise ConfigError(
            f"a batch of {batch_size} is smaller than the {ranks.count} ranks: give a batch_size of at least"
            f" {ranks.count}, or start fewer ranks"
        )
    if settings.fit_head != "train":
        raise ConfigError(
            f"fit_head={settings.fit_head} makes no updates that could be shared out over {ranks.count} ranks:"
            " start one process"
        )
    inside = _reaching_inside(plan.mix) if plan.mix is not None else None
    if inside is not None and settings.mix_over == "global":
        raise ConfigError(
            f"the mix {inside} mixes hidden states, of which each of {ranks.count} ranks has those of its own part"
            " of a batch: give mix_over=rank"
        )


def check_shards(plan: Plan, settings: Settings, ranks: Ranks) -> None:
    """Whether the network can be shared out over ranks, if it is to be.

    Raises:
        ConfigError: there is one process, or a part of the plan or a setting, which is named, does not allow it.
    """
    if not settings.shard:
        return
    if ranks.alone:
        raise ConfigError(
            "shard leaves each of several ranks its part of the network, and there is one process: start several"
            " (torchrun --nproc-per-node 2 -m lessonplan train --shard ...), or leave out shard"
        )
    for given, instead in (
        ("compile" if settings.compile else "", "leave it out"),
        ("channels_last" if settings.channels_last else "", "leave it out"),
        ("precision=fp16" if settings.precision == "fp16" else "", "give precision=bf16"),
        (f"tune={settings.tune}" if Tune.parse(settings.tune).kind != "all" else "", "give tune=all"),
    ):
        if given:
            raise ConfigError(f"shard does not go together with {given}: {instead}, or leave out shard")
    order, asking = plan.order, _asking(plan.mix) if plan.mix is not None else None
    if order is not None and order.needs_network() and not isinstance(order, ByScore):
        raise ConfigError(
            f"the order {order.name} looks ahead, for which it takes a whole network, and each of"
            f" {ranks.count} ranks has a part: leave out shard, or give an order by scores (multi-attempt)"
        )
    if asking is not None and settings.mix_over == "rank":
        raise ConfigError(
            f"the mix {asking} asks the network, which {ranks.count} ranks with a part of it each have to do"
            " together: give mix_over=global, or leave out shard"
        )


def _asking(mix: Mix) -> Mix | None:
    """The mix, or the one among its children, that makes passes of its own through the network."""
    inside = next((found for child in mix.children() if (found := _asking(child)) is not None), None)
    own = mix.needs_network() and not any(child.needs_network() for child in mix.children())
    return mix if own and not mix.reaches_inside() else inside


def _reaching_inside(mix: Mix) -> Mix | None:
    """The mix, or the one among its children, that goes on inside the network."""
    if not (mix.reaches_inside() and mix.needs_network()):
        return None
    return next((found for child in mix.children() if (found := _reaching_inside(child)) is not None), mix)


def _check_mix(mix: Mix, data: Data, batch_size: int, ranks: Ranks) -> None:
    """Let the mix refuse the first epoch's smallest batch, or a rank's part, before anything is written.

    Raises:
        ConfigError: what a batch of that size would raise.
    """
    samples = len(data.train)
    smallest = samples // math.ceil(samples / mix.draws(batch_size))
    smallest = max(1, min(ranks.sizes(smallest)))
    mix.rehearse(torch.zeros(()).expand(smallest, *data.shape), data.train.labels[:smallest])
