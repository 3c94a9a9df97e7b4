"""Selected batches in a loop of one's own, in memory and read by worker processes."""

from __future__ import annotations

import io
import random

import pytest
import torch
from PIL import Image
from torch import nn

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.select import AccuracyFilter, Batchwise, Epochwise, InfoBatch, LossWeighted, TopK, batches

SELECTIONS = {
    "filter": lambda: AccuracyFilter(0.9) >> TopK(0.7),
    "discard": lambda: Batchwise(AccuracyFilter(0.9), raw_batch_size=9, overflow="discard"),
    "weighted": lambda: Batchwise(LossWeighted(0.5, importance=True), max_age=0),
    "epochwise": lambda: Epochwise(LossWeighted(0.7, importance=True)),
    "infobatch": lambda: Epochwise(InfoBatch()),
}


def train(loop, model, optimizer, stop: int | None = None) -> list:
    """The hand-written loop of somebody else; what it saw."""
    seen = []
    for x, y, weights in loop:
        logits = model(x)
        losses = nn.functional.cross_entropy(logits, y, reduction="none")
        optimizer.zero_grad()
        (losses * weights).mean().backward()
        optimizer.step()
        loop.observe(logits)
        seen.append((x, y, weights))
        if len(seen) == stop:
            break
    return seen


def test_loops_are_found_at_their_older_address():
    import lessonplan.select as select
    from lessonplan.supply import loops

    assert select.batches is loops.selected_batches
    assert select.SelectedBatches is loops.SelectedBatches
    with pytest.raises(AttributeError, match="nowhere"):
        _ = select.nowhere


@pytest.mark.parametrize("name", SELECTIONS)
def test_stored_and_gone_on_with(name, keyed_samples, linear):
    """Network, optimizer and loop go through a file at random updates; all that comes is bit for bit the same."""
    data, options = keyed_samples(60), {"batch_size": 8, "epochs": 4, "seed": 2}
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    whole = train(batches(model, data, SELECTIONS[name](), **options), model, optimizer)
    ended = [p.detach().clone() for p in model.parameters()]

    r, seen = random.Random(name), []
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loop = batches(model, data, SELECTIONS[name](), **options)
    while True:
        part = train(loop, model, optimizer, r.randint(1, 4))
        seen += part
        if not part or loop.epoch == 4:
            break
        file = io.BytesIO()
        torch.save([model.state_dict(), optimizer.state_dict(), loop.state_dict()], file)
        file.seek(0)
        states = torch.load(file, weights_only=True)
        model = linear(99)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        loop = batches(model, data, SELECTIONS[name](), **options)
        for thing, state in zip((model, optimizer, loop), states, strict=True):
            thing.load_state_dict(state)
    assert len(seen) == len(whole) > 8
    for ours, theirs in zip(seen, whole, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), ended, strict=True))


def test_what_comes_is_what_the_network_gets_wrong(keyed_samples, linear):
    """Of a network that stays as it is: every wrong sample once an epoch, with its pixels; weights are ones."""
    data, model = keyed_samples(80), linear().eval()
    loop = batches(model, data, Batchwise(AccuracyFilter(), batch_size=None), epochs=2)
    count = 0
    for x, y, weights in loop:
        assert (model(x).argmax(1) != y).all()
        assert weights.tolist() == [1.0] * len(y)
        count += len(y)
    wrong = 0
    for epoch in range(2):
        x = torch.stack([data.pixels(i, epoch) for i in range(80)])
        wrong += int((model(x).argmax(1) != data.labels).sum())
    assert count == wrong > 10
    assert loop.epoch == 2
    assert not model.training


def test_the_given_selection_stays_as_it_is(keyed_samples, linear):
    """A loop has a state of its own; a second one begins like the first, on other data too."""
    stage = Batchwise(AccuracyFilter(0.9))
    before = stage.state_dict()
    first = [y.tolist() for _, y, _ in batches(linear(), keyed_samples(60), stage, batch_size=7)]
    assert stage.state_dict() == before
    assert [y.tolist() for _, y, _ in batches(linear(), keyed_samples(60), stage, batch_size=7)] == first
    list(batches(linear(), keyed_samples(20), stage, batch_size=7, epochs=2))


def test_it_ends_when_every_sample_is_handled(index_samples, table_network):
    model = table_network(lambda index, update: update < 2)
    loop = batches(model, index_samples(30), AccuracyFilter(), batch_size=10, epochs=50)
    for _ in loop:
        model.updates += 1
    assert model.updates == 2
    assert loop.supply.starved
    assert loop.epoch == 2


def test_a_network_in_evaluation_mode_and_gradients_stay(keyed_samples, linear):
    """The loop may have switched gradients off; scoring changes neither."""
    model = linear(0, nn.Dropout(0.5), nn.BatchNorm1d(16))
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    with torch.no_grad():
        for _ in batches(model, keyed_samples(40), AccuracyFilter(), batch_size=6):
            assert not torch.is_grad_enabled()
    assert [module.training for module in model] == [True, False, True, True, True]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_cannot_be(keyed_samples, linear):
    for options in ({"batch_size": 0}, {"epochs": 0}):
        with pytest.raises(ConfigError, match="give 1 or more"):
            batches(linear(), keyed_samples(8), AccuracyFilter(), **options)
    with pytest.raises(ConfigError, match="observe was called before the first batch"):
        batches(linear(), keyed_samples(8), AccuracyFilter()).observe(torch.zeros(4, 3))
    with pytest.raises(ConfigError, match="size 9 of 8 training samples"):
        batches(linear(), keyed_samples(8), Batchwise(TopK(9), raw_batch_size=9))


# -- read by worker processes -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for i in range(60):
        pixels = torch.randint(0, 200, (8, 8), generator=generator, dtype=torch.uint8)
        pixels[:, 3 * (i % 3) : 3 * (i % 3) + 2] += 40
        (root / f"{i % 3}").mkdir(exist_ok=True)
        Image.fromarray(pixels.numpy()).save(root / f"{i % 3}" / f"{i:02d}.png")
    return root


def load(folder, in_memory: bool):
    limit = {} if in_memory else {"memory_limit": 0, "workers": 1}
    data = lp.data.load(f"folder:{folder}", test_fraction=0.0, augment="flip,crop:1", **limit)
    assert data.train.source.in_memory == in_memory
    return data


def loop_over(data, selection) -> list:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    return train(
        batches(model, data.train, selection, batch_size=8, epochs=3),
        model,
        torch.optim.SGD(model.parameters(), lr=0.05),
    )


def test_streamed_epochwise_is_as_in_memory(folder):
    """The same samples, pixels and weights in the same order."""
    seen = []
    for in_memory in (True, False):
        data = load(folder, in_memory)
        seen.append(loop_over(data, Epochwise(AccuracyFilter(0.9) >> LossWeighted(0.8, importance=True))))
        data.close()
    assert len(seen[0]) == len(seen[1]) > 6
    for ours, theirs in zip(*seen, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_streamed_batchwise_gives_full_batches_of_accepted_samples(folder):
    """Raw batches differ in size, since blocks are read ahead; what they give is as legal."""
    data = load(folder, in_memory=False)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    loop = batches(model, data.train, Batchwise(AccuracyFilter()), batch_size=8, epochs=3)
    in_epochs: dict[int, list[int]] = {}
    for x, y, _ in loop:
        assert len(y) == 8
        assert (model(x).argmax(1) != y).all()
        batch = loop._last
        for i, epoch in zip(batch.indices.tolist(), batch.epochs.tolist(), strict=True):
            in_epochs.setdefault(epoch, []).append(i)
        there = [data.train.fetch(batch.indices[i : i + 1], int(batch.epochs[i]))[0] for i in range(8)]
        assert torch.equal(torch.cat(there), x)
    expected = 0
    for epoch in range(3):
        x, y = data.train.fetch(torch.arange(len(data.train)), epoch)
        expected += int((model(x).argmax(1) != y).sum())
        assert len(set(in_epochs[epoch])) == len(in_epochs[epoch])
    assert sum(map(len, in_epochs.values())) == expected - expected % 8
    data.close()
