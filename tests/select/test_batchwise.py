"""Batchwise selection against loops over samples, written from ASSIST's algorithms 9 and 10."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn

from lessonplan.batch import Batch, EpochReader
from lessonplan.errors import ConfigError
from lessonplan.mix import Network
from lessonplan.models.wide_resnet import WideResNet
from lessonplan.network.learner import Learner, Step, soft, weighted_mean
from lessonplan.select import (
    AccuracyFilter,
    Batchwise,
    LossWeighted,
    RandomSubset,
    Scoring,
    TopK,
    smallest_raw_batch,
)
from lessonplan.select.asking import pieces
from lessonplan.select.base import Filter
from lessonplan.select.tally import Tally

Accept = Callable[[int, int], bool]
CASES = range(4)
PATTERNS = 200  # random acceptance patterns a case


def random_accept(r: random.Random, changing: bool) -> Accept:
    """Whether a sample is accepted before an update: any share of them, from none to all."""
    share = r.choice([0.0, 0.05, 0.3, 0.5, 0.8, 1.0])
    tables = [[r.random() < share for _ in range(60)] for _ in range(5 if changing else 1)]
    return lambda index, update: tables[update // 3 % len(tables)][index]


def orders(r: random.Random, samples: int, epochs: int) -> list[list[int]]:
    return [r.sample(range(samples), samples) for _ in range(epochs)]


def cut(order: list[int], size: int) -> list[list[int]]:
    return [order[i : i + size] for i in range(0, len(order), size)]


class Driver:
    """Our engine, driven through epochs; an update is a count."""

    def __init__(
        self, accept: Accept, samples: int, index_samples: Any, table_network: Any, **options: Any
    ) -> None:
        self.data, self.model = index_samples(samples), table_network(accept)
        self.stage = Batchwise(AccuracyFilter(), **{"reuse": "never", **options})
        self.generator = torch.Generator()
        self.tallies: list[Tally] = []
        self.ages: list[int] = []

    def epoch(self, epoch: int, order: list[int], size: int) -> list[list[int]]:
        """The batches of an epoch by index."""
        batches = []
        self.tallies.append(Tally())
        reader = EpochReader(self.data, torch.tensor(order), epoch=epoch)
        network = Network(self.model)
        for batch in self.stage.batches(reader, network, size, self.generator, self.tallies[-1]):
            if batch is not None:
                x, y = batch.read(self.data)
                assert x[:, 0].tolist() == batch.indices.tolist()
                assert x[:, 1].tolist() == batch.epochs.tolist()
                assert len(y) == len(batch)
                batches.append(batch.indices.tolist())
                self.model.updates += 1
        return batches


@pytest.mark.parametrize("case", CASES)
def test_algorithm_9(case, index_samples, table_network):
    """Each raw batch is filtered, and what is left is trained on at once; a batch of nothing is none."""
    r = random.Random(case)
    for _ in range(PATTERNS):
        samples, raw = r.randint(1, 40), r.randint(4, 20)
        accept = random_accept(r, changing=True)
        driver = Driver(accept, samples, index_samples, table_network, batch_size=None, raw_batch_size=raw)
        updates = 0
        for epoch, order in enumerate(orders(r, samples, 2)):
            expected = []
            for candidates in cut(order, raw):
                kept = [index for index in candidates if accept(index, updates)]
                if kept:
                    expected.append(kept)
                    updates += 1
            assert driver.epoch(epoch, order, 5) == expected
            tally = driver.tallies[-1]
            assert tally.raw_batches == len(cut(order, raw))
            assert (tally.candidates, tally.scored) == (samples, samples)
            assert tally.accepted == tally.trained == sum(map(len, expected))
            assert (tally.updates, tally.carried, tally.oldest) == (len(expected), 0, 0)


@pytest.mark.parametrize("case", CASES)
def test_algorithm_10(case, index_samples, table_network):
    """Filtered samples accumulate, over the ends of epochs too; a full batch empties the accumulator."""
    r = random.Random(case)
    for _ in range(PATTERNS):
        samples, size, raw = r.randint(1, 30), r.randint(1, 12), r.randint(3, 20)
        accept = random_accept(r, changing=True)
        options = {"batch_size": size, "raw_batch_size": raw, "overflow": "discard", "max_age": None}
        driver = Driver(accept, samples, index_samples, table_network, **options)
        waiting: list[int] = []
        updates = 0
        for epoch, order in enumerate(orders(r, samples, 3)):
            expected, discarded, accepted = [], 0, 0
            for candidates in cut(order, raw):
                kept = [index for index in candidates if accept(index, updates)]
                accepted += len(kept)
                waiting += kept
                if len(waiting) >= size:
                    expected.append(waiting[:size])
                    discarded += len(waiting) - size
                    waiting = []
                    updates += 1
            assert driver.epoch(epoch, order, 999) == expected
            tally = driver.tallies[-1]
            assert (tally.accepted, tally.discarded, tally.carried) == (accepted, discarded, len(waiting))
            assert (tally.scored, tally.updates) == (samples, len(expected))


@pytest.mark.parametrize("case", CASES)
def test_carried_overflow(case, index_samples, table_network):
    """Nothing is thrown away; what waited too long is scored again; raw batches follow the acceptance."""
    r = random.Random(case)
    for _ in range(PATTERNS):
        samples, size = r.randint(1, 30), r.randint(2, 12)
        raw = r.choice(["auto", r.randint(3, 20), r.randint(20, 60)])
        max_age, refresh = r.choice([None, 0, 1, 3]), r.choice([1, 1, 3])
        accept = random_accept(r, changing=True)
        options = {"raw_batch_size": raw, "max_age": max_age, "refresh": refresh}
        driver = Driver(accept, samples, index_samples, table_network, **options)
        pool: list[tuple[int, int]] = []  # index, updates when it was scored
        updates, acceptance = 0, 1.0
        for epoch, order in enumerate(orders(r, samples, 3)):
            expected, ages, scored, left = [], [], samples, list(order)
            while True:
                if max_age is not None:
                    limit = max(max_age, refresh - 1)
                    old = [index for index, born in pool if updates - born > limit]
                    scored += len(old)
                    pool = [(index, born) for index, born in pool if updates - born <= limit]
                    pool += [(index, updates) for index in old if accept(index, updates)]
                if len(pool) >= size:
                    expected.append([index for index, _ in pool[:size]])
                    ages += [updates - born for _, born in pool[:size]]
                    pool = pool[size:]
                    updates += 1
                    continue
                if not left:
                    break
                need = size * refresh - len(pool)
                draw = smallest_raw_batch(need, acceptance, 16 * size * refresh) if raw == "auto" else raw
                candidates, left = left[:draw], left[draw:]
                kept = [index for index in candidates if accept(index, updates)]
                acceptance += 0.2 * min(1, len(candidates) / size) * (len(kept) / len(candidates) - acceptance)
                pool += [(index, updates) for index in kept]
            assert driver.epoch(epoch, order, size) == expected
            tally = driver.tallies[-1]
            assert (tally.scored, tally.ages, tally.oldest) == (scored, sum(ages), max(ages, default=0))
            assert (tally.carried, tally.discarded) == (len(pool), 0)
            assert driver.model.forwarded == sum(t.scored for t in driver.tallies)
            if max_age is not None:
                assert tally.oldest <= max(max_age, refresh - 1)


@pytest.mark.parametrize("raw", ["auto", 7, 64])
def test_no_accepted_sample_is_lost_or_doubled(raw, index_samples, table_network):
    """Over whole runs: trained on and still waiting are together what was accepted, draw by draw."""
    r = random.Random(f"{raw}")
    for _ in range(60):
        samples, size = r.randint(5, 50), r.randint(1, 16)
        accept = random_accept(r, changing=False)
        driver = Driver(accept, samples, index_samples, table_network, raw_batch_size=raw, max_age=None)
        trained = Counter()
        for epoch, order in enumerate(orders(r, samples, 4)):
            for batch in driver.epoch(epoch, order, size):
                trained.update(batch)
        pool = driver.stage.state_dict()["pool"]
        waiting = Counter(index for kept in pool for index in kept["indices"].tolist())
        assert trained + waiting == Counter({i: 4 for i in range(samples) if accept(i, 0)})
        assert waiting.total() < size


def test_an_epoch_without_an_update(index_samples, table_network):
    """Nothing accepted: no batch, no division by zero, and the next epoch draws the largest raw batches."""
    driver = Driver(lambda index, update: False, 50, index_samples, table_network)
    sizes = []
    driver.model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    for epoch in range(12):
        assert driver.epoch(epoch, list(range(50)), 2) == []
    record = driver.tallies[-1].record()
    assert (record["acceptance"], record["raw_batches_per_update"], record["mean_age"]) == (0.0, None, None)
    assert sizes[0] == 2
    assert max(sizes) == sizes[-2] == 16 * 2
    assert Tally().record()["acceptance"] is None


def test_refresh_scores_for_several_updates(index_samples, table_network):
    """The raw batch is as large as ``refresh`` batches together, and no one is scored in between."""
    driver = Driver(lambda index, update: True, 60, index_samples, table_network, refresh=5)
    assert driver.epoch(0, list(range(60)), 4) == cut(list(range(60)), 4)
    tally = driver.tallies[-1]
    assert (tally.raw_batches, tally.updates, tally.oldest) == (3, 15, 4)


def test_what_waits_is_stored_by_index_and_read_again(index_samples, table_network):
    """State goes through a file between any two batches; pixels of the epoch in which they were drawn."""
    accept = random_accept(random.Random(3), changing=True)
    whole = Driver(accept, 40, index_samples, table_network, raw_batch_size=9, max_age=2)
    parts = Driver(accept, 40, index_samples, table_network, raw_batch_size=9, max_age=2)
    for epoch, order in enumerate(orders(random.Random(4), 40, 6)):
        expected = whole.epoch(epoch, order, 4)
        assert parts.epoch(epoch, order, 4) == expected
        file = io.BytesIO()
        torch.save(parts.stage.state_dict(), file)
        file.seek(0)
        parts.stage = Batchwise(AccuracyFilter(), raw_batch_size=9, max_age=2, reuse="never")
        parts.stage.load_state_dict(torch.load(file, weights_only=True))
    assert whole.tallies[-1] == parts.tallies[-1]


@pytest.mark.parametrize(("max_age", "scored"), [(0, 6 + 2), (1, 6), (None, 6)])
def test_a_loop_gets_a_turn_after_old_samples_were_scored_again(max_age, scored, index_samples, table_network):
    """Of six accepted samples two wait behind the first update: None is handed out where they are asked anew."""
    data, model, tally = index_samples(6), table_network(lambda index, update: True), Tally()
    stage = Batchwise(AccuracyFilter(), raw_batch_size=6, max_age=max_age, reuse="never")
    reader = EpochReader(data, torch.arange(6), epoch=0)
    out = list(stage.batches(reader, Network(model), 4, torch.Generator(), tally))
    assert [None if batch is None else batch.indices.tolist() for batch in out] == [
        [0, 1, 2, 3],
        *[None] * (scored > 6),
    ]
    assert (tally.scored, tally.carried, model.forwarded) == (scored, 2, scored)


def test_weights_stay_with_their_samples(keyed_samples, linear):
    """Importance weights of a selector times those that a sample came with; carried or not."""
    data = keyed_samples(60)
    given = torch.arange(60).float() + 1
    stage = Batchwise(LossWeighted(0.5, importance=True), raw_batch_size=20, reuse="never")
    drawn: dict[int, list[float]] = {}
    choose = stage.selection.choose

    def spy(scored, generator):
        chosen = choose(scored, generator)
        for position, weight in zip(chosen.positions.tolist(), chosen.weights.tolist(), strict=True):
            drawn.setdefault(int(scored.indices[position]), []).append(weight)
        return chosen

    stage.selection.choose = spy
    reader = EpochReader(data, torch.arange(60), epoch=0, weights=given)
    trained = 0
    for batch in stage.batches(reader, Network(linear()), 7, torch.Generator().manual_seed(0), Tally()):
        if batch is not None:
            for index, weight in zip(batch.indices.tolist(), batch.weights.tolist(), strict=True):
                assert weight == pytest.approx(drawn[index].pop(0) * (index + 1))
                trained += 1
    assert trained == 28  # 30 were drawn, 4 batches of 7 are full


# -- the size of a raw batch --------------------------------------------------------------------------


@pytest.mark.parametrize("acceptance", [0.02, 0.05, 0.1, 0.25, 0.5, 2 / 3, 0.9, 0.99, 1.0])
def test_smallest_raw_batch_against_the_binomial_distribution(acceptance):
    """Enough with a probability of .9, and hardly more than the smallest that is."""
    for need in (1, 2, 3, 7, 20, 50, 128, 500):
        size = smallest_raw_batch(need, acceptance, largest=10**9)
        sizes = np.arange(need, int(3 * need / acceptance) + 100)
        exact = int(sizes[np.argmax(binom.sf(need - 1, sizes, acceptance) >= 0.9)])
        assert exact <= size + 1
        assert size <= 1.01 * exact + 0.25 / acceptance + 2
        assert binom.sf(need - 1, size, acceptance) > 0.89


def test_smallest_raw_batch_is_bounded():
    assert smallest_raw_batch(100, 0.01, largest=1600) == 1600
    assert smallest_raw_batch(5, 0.0, largest=80) == 80
    assert smallest_raw_batch(5, 1.0, largest=80) == 5


# -- the scoring pass as the training pass ---------------------------------------------------------------


class Largest(Filter):
    """Keeps samples with a large first logit."""

    name = "largest"
    threshold: float = 0.0

    def __call__(self, logits, targets):
        return logits[:, 0] > self.threshold


def two_batches(model: nn.Module, data: Any, reuse: str, **options: Any) -> tuple[list[Batch], Tally]:
    """The first two batches of 16, where six of seven are accepted."""
    with torch.no_grad():
        Largest.threshold = model(data.x)[:, 0].quantile(1 / 7).item()
    stage, tally = Batchwise(Largest(), reuse=reuse, **options), Tally()
    reader = EpochReader(data, torch.arange(len(data)), epoch=0)
    batches = []
    for batch in stage.batches(reader, Network(model), 16, torch.Generator(), tally):
        if batch is not None:
            batches.append(batch)
            if len(batches) == 2:
                break
    return batches, tally


class Images:
    """40 small images of noise."""

    def __init__(self) -> None:
        self.x = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        self.labels, self.num_classes = torch.arange(40) % 3, 3
        self.device, self.reads_ahead = torch.device("cpu"), False

    def __len__(self) -> int:
        return 40

    def fetch(self, indices, epoch=0):
        return self.x[indices], self.labels[indices]


class GroupNet(nn.Module):
    def __init__(self, norm: Callable[[], nn.Module], last: Callable[[], nn.Module] = nn.Identity) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Conv2d(3, 8, 3), norm(), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), norm())
            self.head = nn.Sequential(nn.ReLU(), last(), nn.Flatten(), nn.Linear(32, 3))

    def forward(self, x):
        return self.head(self.net(x))


@pytest.mark.parametrize("norm", [lambda: nn.GroupNorm(2, 8), nn.Identity])
def test_gradients_of_the_single_pass(norm):
    """They are those of gathering the same samples and training on them, carried ones among them."""
    data, model = Images(), GroupNet(norm)
    together, tally = two_batches(model, data, "auto")
    apart, _ = two_batches(model, data, "never")
    assert [batch.logits is None for batch in together] == [False, False]
    assert tally.raw_batches > 2  # a first raw batch was not enough: two passes have one backward pass
    assert together[1].passes.forwarded == tally.reused - together[0].passes.forwarded > 16
    assert [batch.logits is None for batch in apart] == [True, True]
    assert 0 < tally.accepted < tally.candidates
    learner = Learner(Network(model), torch.optim.SGD(model.parameters(), lr=0.0))
    for ours, plain in zip(together, apart, strict=True):
        assert ours.indices.tolist() == plain.indices.tolist()
        gradients = []
        for batch in (ours, plain):
            x, y = batch.read(data)
            step = learner.losses(x, y)
            if batch.logits is not None:
                step = Step(batch.logits, learner.network.loss(batch.logits, soft(y, 3)))
            model.zero_grad()
            weighted_mean(step.losses, torch.linspace(0.5, 2, 16)).backward()
            gradients.append([p.grad.clone() for p in model.parameters()])
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
            assert a.abs().max() > 1e-4


def test_a_wide_residual_network_with_group_norm():
    """The same for a network of ours."""
    data = Images()
    model = WideResNet(10, 1, norm="group", num_classes=3).train()
    (_, batch), _ = two_batches(model, data, "auto")
    assert batch.logits is not None
    x, y = batch.read(data)
    gradients = []
    for logits in (batch.logits, model(x)):
        model.zero_grad()
        nn.functional.cross_entropy(logits, y).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert (gradients[0] - gradients[1]).abs().max() <= 1e-6 * max(1.0, gradients[0].abs().max().item())


class Sprinkle(nn.Module):
    """Dropout that no list of known layers has."""

    def forward(self, x):
        return nn.functional.dropout(x, 0.1, training=self.training)


class Follow(nn.Module):
    """Remembers a statistic of the batch without using it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.mean.lerp_(x.detach().mean(), 0.1)
        return x


@pytest.mark.parametrize("blind", [False, True], ids=["", "zero head"])
@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.BatchNorm2d(8),
        lambda: nn.BatchNorm2d(8, track_running_stats=False),
        lambda: nn.Dropout(0.2),
        lambda: nn.Dropout2d(0.2),
        Sprinkle,
        Follow,
        nn.RReLU,
    ],
    ids=["batch-norm", "batch-norm-without-statistics", "dropout", "dropout2d", "functional", "buffer", "rrelu"],
)
def test_never_with_batch_norm_or_dropout(layer, blind):
    """A last layer of zeros says the same whatever comes in: that must not deceive."""
    model = GroupNet(nn.Identity, layer)
    if blind:
        nn.init.zeros_(model.head[-1].weight)
    batches, tally = two_batches(model, Images(), "auto")
    assert all(batch.logits is None for batch in batches)
    assert tally.reused == 0


def test_not_where_it_costs_more():
    """A raw batch far larger than a batch is scored without a graph, and serves several updates."""
    data, model = Images(), GroupNet(nn.Identity)
    batches, tally = two_batches(model, data, "auto", raw_batch_size=40)
    assert all(batch.logits is None for batch in batches)
    assert (tally.reused, tally.scored) == (0, 40)
    batches, _ = two_batches(model, data, "always", raw_batch_size=20)
    assert batches[0].logits is not None


@pytest.mark.parametrize(
    ("norm", "reuse", "largest"),
    [(lambda: nn.GroupNorm(2, 8), "auto", 8), (lambda: nn.BatchNorm2d(8), "always", 40)],
)
def test_a_single_pass_is_cut_where_samples_do_not_depend_on_each_other(monkeypatch, norm, reuse, largest):
    """Pieces that fit a cache give the same gradients; with batch norm candidates stay together."""
    data, model, passes = Images(), GroupNet(norm).train(), []
    whole, _ = two_batches(GroupNet(norm).train(), data, reuse)
    monkeypatch.setitem(pieces.__globals__, "_CHUNK_ON_CPU", 8)
    model.register_forward_hook(lambda module, args, out: passes.append(len(out)) if out.requires_grad else None)
    cut, _ = two_batches(model, data, reuse)
    assert max(passes) <= largest
    assert (max(passes) > 8) == (largest > 8)
    for ours, other in zip(cut, whole, strict=True):
        assert ours.indices.tolist() == other.indices.tolist()
        assert torch.allclose(ours.logits, other.logits, atol=1e-5)


def test_a_pass_that_fills_no_batch_is_forgotten_and_counted():
    """Batch-norm statistics as before; all its samples, those that waited among them, were forwarded."""
    data, model = Images(), GroupNet(lambda: nn.BatchNorm2d(8)).train()
    passes = []
    model.register_forward_hook(lambda module, args, out: passes.append(len(out)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stage, tally = Batchwise(Largest(), reuse="always", raw_batch_size=12), Tally()
    stage.selection.filters[0].threshold = -1e9
    reader = EpochReader(data, torch.arange(12), epoch=0)
    out = list(stage.batches(reader, Network(model), 16, torch.Generator(), tally))
    assert out == []
    assert (tally.scored, tally.carried) == (12, 12)
    stage.selection.filters[0].threshold = 1e9  # nothing passes any more
    out = list(stage.batches(EpochReader(data, torch.arange(4), epoch=1), Network(model), 16, None, tally))
    assert out == []
    assert tally.scored == sum(passes) == 12 + 16
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# -- what cannot be -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0: give 1 or more"),
        ({"raw_batch_size": -1}, "raw_batch_size=-1: give 1 or more"),
        ({"overflow": "keep"}, "give carry or discard"),
        ({"reuse": "sometimes"}, "auto, always or never"),
        ({"refresh": 0}, "refresh=0"),
        ({"max_age": -1}, "max_age=-1"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        Batchwise(AccuracyFilter(), **options)


def test_a_fixed_number_needs_to_know_of_how_many():
    with pytest.raises(ConfigError, match="takes 8 of any number of candidates"):
        Batchwise(AccuracyFilter() >> TopK(8))
    Batchwise(TopK(8), raw_batch_size=32)
    Batchwise(TopK(8), batch_size=None)


def test_a_loss_that_averages(keyed_samples, linear):
    network = Network(linear(), nn.functional.cross_entropy)
    stage = Batchwise(TopK(0.5), reuse="never")
    reader = EpochReader(keyed_samples(20), torch.arange(20), epoch=0)
    with pytest.raises(ConfigError, match=r"loss for each of \d+ samples.*reduction='none'"):
        list(stage.batches(reader, network, 4, torch.Generator(), Tally()))


def test_no_network_is_asked_where_chance_decides(index_samples, table_network):
    model = table_network(lambda index, update: True)
    stage, tally = Batchwise(RandomSubset(0.5), scoring=Scoring()), Tally()
    reader = EpochReader(index_samples(64), torch.arange(64), epoch=0)
    batches = [b for b in stage.batches(reader, Network(model), 8, torch.Generator(), tally) if b is not None]
    assert len(batches) >= 3
    assert (model.forwarded, tally.scored, tally.reused) == (0, 0, 0)
