"""Selection once an epoch: what is scored, what is kept, and the pixels that are trained on."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from lessonplan.errors import ConfigError
from lessonplan.mix import Network
from lessonplan.parts.part import Occasion
from lessonplan.select import (
    AccuracyFilter,
    Epochwise,
    LossWeighted,
    RandomSubset,
    Scoring,
    Selecting,
    Selection,
    TopK,
    TopQuantile,
    epochwise,
)
from lessonplan.select.tally import Tally
from lessonplan.supply.epoch import Supply


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Scores come in pieces of 16 samples."""
    monkeypatch.setattr(epochwise, "_CHUNK", 16)


def make(data, model, *parts, **options) -> tuple[Supply, Epochwise]:
    stage = Epochwise(Selection(parts), **options)
    select = Selecting.of(stage)
    select.setup(Occasion(0, data, None, data.num_classes))
    return Supply(data, seed=3, network=Network(model), select=select), stage


def run(supply: Supply, epoch: int, size: int = 8) -> list:
    supply.start_epoch(epoch, size)
    return [batch for batch in supply.batches() if batch is not None]


def by_hand(data, model, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which samples the network gets wrong in an epoch, and all losses; one by one."""
    wrong, losses = [], []
    for i in range(len(data)):
        with torch.no_grad():
            logits = model.eval()(data.pixels(i, epoch)[None])
        wrong.append(int(logits.argmax()) != int(data.labels[i]))
        losses.append(nn.functional.cross_entropy(logits, data.labels[i : i + 1]))
    model.train()
    return torch.tensor(wrong).nonzero().squeeze(1), torch.stack(losses)


def test_trains_on_what_it_scored(keyed_samples, linear):
    """The kept samples, each once, in a random order, with the pixels of the scoring; nothing else is read."""
    data, model = keyed_samples(90), linear()
    supply, stage = make(data, model, AccuracyFilter())
    for epoch in range(3):
        data.fetched.clear()
        batches = run(supply, epoch)
        wrong, _ = by_hand(data, model, epoch)
        indices = torch.cat([batch.indices for batch in batches])
        assert sorted(indices.tolist()) == wrong.tolist() == stage.kept.tolist()
        assert indices.tolist() != sorted(indices.tolist())
        assert max(map(len, batches)) - min(map(len, batches)) <= 1
        for batch in batches:
            x, y = batch.read(data)
            assert torch.equal(x, torch.stack([data.pixels(i, epoch) for i in batch.indices.tolist()]))
            assert torch.equal(y, data.labels[batch.indices])
        assert data.fetched[:90] == [(i, epoch) for i in range(90)]
        assert sorted(data.fetched[90:]) == [(i, epoch) for i in wrong.tolist()]
        tally = supply.tally
        assert (tally.scored, tally.candidates, tally.raw_batches) == (90, 90, 1)
        assert tally.kept == tally.accepted == tally.trained == len(wrong)
        assert tally.record()["acceptance"] == len(wrong) / 90


def test_resample_trains_on_other_pixels(keyed_samples, linear):
    """The thesis' "soft" behaviour: the same samples, another draw of the augmentation, again by a key."""
    data, model = keyed_samples(40), linear()
    supply, _ = make(data, model, TopK(16), resample=True)
    (one, two) = run(supply, 2)
    for i, x in zip(one.indices.tolist(), one.read(data)[0], strict=True):
        assert not torch.allclose(x, data.pixels(i, 2))
    again, _ = make(data, model, TopK(16), resample=True)
    same = run(again, 2)
    assert torch.equal(same[1].read(data)[0], two.read(data)[0])


@pytest.mark.parametrize("count", [1, 15, 16, 17, 64, 90])
def test_chunks_make_no_difference(count, keyed_samples, linear):
    """Selectors see all scores together, however they were read."""
    data, model = keyed_samples(count), linear()
    supply, stage = make(data, model, TopQuantile(0.3), TopK(0.6))
    supply.start_epoch(0, 8)
    _, losses = by_hand(data, model, 0)
    steps = list(supply.batches())
    assert steps[: -(-count // 16)] == [None] * -(-count // 16)
    edge = losses.double().quantile(0.3)
    left = [i for i in range(count) if losses[i].double() >= edge - 1e-7]
    best = sorted(left, key=lambda i: -losses[i])[: max(1, round(0.6 * len(left)))]
    assert stage.kept.tolist() == sorted(best)


def test_every_so_many_epochs(keyed_samples, linear):
    """In between, what was kept stays, in another order and with the epoch's own augmentation."""
    data, model = keyed_samples(48), linear()
    supply, stage = make(data, model, TopK(20), every=3)
    scored, kept, orders = [], [], []
    for epoch in range(7):
        batches = run(supply, epoch)
        scored.append(supply.tally.scored)
        kept.append(stage.kept.tolist())
        orders.append(torch.cat([batch.indices for batch in batches]).tolist())
        assert {e for batch in batches for e in batch.epochs.tolist()} == {epoch}
        assert not supply.starved
    assert scored == [48, 0, 0, 48, 0, 0, 48]
    assert kept[0] == kept[1] == kept[2] != kept[3]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_weights_go_with_their_samples(keyed_samples, linear):
    data, model = keyed_samples(60), linear()
    supply, stage = make(data, model, LossWeighted(0.4, replacement=False, importance=True))
    batches = run(supply, 0)
    weight = dict(zip(stage.kept.tolist(), stage.weights.tolist(), strict=True))
    assert len(set(weight.values())) > 10
    for batch in batches:
        assert batch.weights.tolist() == [weight[i] for i in batch.indices.tolist()]


def test_drawn_twice_is_trained_on_twice(keyed_samples, linear):
    supply, stage = make(keyed_samples(30), linear(), LossWeighted(30, power=8.0))
    indices = torch.cat([batch.indices for batch in run(supply, 0)])
    assert sorted(indices.tolist()) == sorted(stage.kept.tolist())
    assert len(set(indices.tolist())) < 30


def test_chance_asks_nobody(keyed_samples, linear):
    data, model = keyed_samples(50), linear()
    asked = []
    model.register_forward_hook(lambda *_: asked.append(1))
    supply, _ = make(data, model, RandomSubset(20))
    assert sum(map(len, run(supply, 0))) == 20
    assert (asked, supply.tally.scored) == ([], 0)


def test_train_mode_as_the_original_code_did(keyed_samples, linear):
    """Batch statistics of each chunk; the running ones stay."""
    data, model = keyed_samples(32), linear(0, nn.BatchNorm1d(16))
    model[1].running_mean.fill_(5.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    supply, stage = make(data, model, AccuracyFilter(), scoring=Scoring("train"))
    run(supply, 0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    wrong = []
    for chunk in (range(16), range(16, 32)):
        x = torch.stack([data.pixels(i, 0) for i in chunk])
        wrong += [i for i, p in zip(chunk, model.train()(x).argmax(1), strict=True) if p != data.labels[i]]
    assert stage.kept.tolist() == wrong


@pytest.mark.parametrize("stop", range(9))
def test_goes_on_in_the_middle_of_scoring(stop, keyed_samples, linear):
    """Stored after any chunk or batch, through a file, behind the last chunk too; nothing is scored twice."""
    data, model = keyed_samples(64), linear()
    parts = (AccuracyFilter(), LossWeighted(0.9, importance=True))
    whole, _ = make(data, model, *parts)
    expected = [(b.indices.tolist(), b.weights.tolist()) for b in run(whole, 1)]
    first, _ = make(data, model, *parts)
    first.start_epoch(1, 8)
    batches, seen = first.batches(), []
    for _ in range(stop):
        seen.append(next(batches))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    batches.close()
    second, _ = make(data, model, *parts)
    second.load_state_dict(torch.load(file, weights_only=True))
    data.fetched.clear()
    seen += list(second.batches())
    assert [(b.indices.tolist(), b.weights.tolist()) for b in seen if b is not None] == expected
    assert len([b for b in seen if b is None]) == 4
    assert second.tally == whole.tally
    assert [i for i, _ in data.fetched[: max(0, 64 - 16 * stop)]] == list(range(16 * stop, 64))


class Closable:
    """A reader of batches that must be let go of."""

    def __init__(self, batches) -> None:
        self.read, self.closed = batches, False

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.read)

    def close(self) -> None:
        self.closed = True


def test_readers_are_closed(keyed_samples, linear):
    """Also where training stops in the middle of the scoring."""
    data = keyed_samples(64)
    plain, readers = data.batches, []

    def batches(indices, epoch=0):
        readers.append(Closable(plain(indices, epoch)))
        return readers[-1]

    data.batches = batches
    supply, _ = make(data, linear(), AccuracyFilter())
    run(supply, 0)
    supply.start_epoch(1, 8)
    half = supply.batches()
    next(half)
    half.close()
    assert [reader.closed for reader in readers] == [True, True]


def test_nothing_kept(keyed_samples, table_network, index_samples):
    """An epoch of nothing: no batch, no division by zero, and the supply says so."""
    data = index_samples(40)
    supply, _ = make(data, table_network(lambda index, update: False), AccuracyFilter())
    assert run(supply, 0) == []
    assert supply.starved
    assert supply.complete
    assert supply.spent().raw == 40
    assert supply.tally.record()["acceptance"] == 0.0


def test_options_out_of_range():
    with pytest.raises(ConfigError, match="every=0: give 1 or more epochs"):
        Epochwise(AccuracyFilter(), every=0)


def test_state_is_small(index_samples, table_network):
    """Indices and scores only: 8 bytes a sample, and 4 more a selector."""
    data, stage = index_samples(1000), Epochwise(AccuracyFilter() >> TopK(0.5))
    stage.restart()
    network = Network(table_network(lambda index, update: True))
    for _ in stage.score(data, network, 0, torch.Generator(), Tally()):
        pass
    before = stage.state_dict()
    assert before["kept"].numel() == 500
    assert len(before["passing"]) == 0
    stage.restart()
    half = stage.score(data, network, 0, torch.Generator(), Tally())
    for _ in range(31):
        next(half)
    state = stage.state_dict()
    held = sum(t.untyped_storage().nbytes() for t in (state["passing"], *state["scores"]))
    assert held == 31 * 16 * 12
