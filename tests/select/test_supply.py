"""Where batches come from: plain, selected before an epoch, before an update, or both."""

from __future__ import annotations

import io
import random

import pytest
import torch
from torch import nn

from lessonplan.batch import Batch, EpochReader, fetch_epochs, nearly_equal
from lessonplan.mix import Mixup, Network
from lessonplan.network.learner import Step
from lessonplan.parts.part import Occasion
from lessonplan.seeds import fold_seed
from lessonplan.select import InfoBatch, Selecting, parse_select
from lessonplan.supply.epoch import Supply


def supply_of(data, model=None, select: str | Selecting | None = None, **options) -> Supply:
    if isinstance(select, str):
        select = parse_select(select)
    if select is not None:
        select.setup(Occasion(0, data, None, data.num_classes))
    network = Network(model) if model is not None else None
    return Supply(data, seed=5, network=network, select=select, **options)


def run(supply: Supply, epoch: int, size: int) -> list[Batch]:
    supply.start_epoch(epoch, size)
    return [batch for batch in supply.batches() if batch is not None]


def told(batches: list[Batch]) -> list[tuple]:
    return [
        (b.indices.tolist(), b.epochs.tolist(), None if b.weights is None else b.weights.tolist()) for b in batches
    ]


@pytest.mark.parametrize(("count", "size"), [(10, 4), (7, 7), (9, 20), (31, 1), (100, 7)])
def test_without_selection(count, size, index_samples):
    """A permutation keyed by seed and epoch, in as few nearly equal batches as it needs."""
    supply = supply_of(index_samples(count))
    for epoch in range(3):
        batches = run(supply, epoch, size)
        generator = torch.Generator().manual_seed(fold_seed(5, "order", epoch))
        order = torch.randperm(count, generator=generator).tolist()
        assert [i for batch in batches for i in batch.indices.tolist()] == order
        lengths = [len(batch) for batch in batches]
        assert len(lengths) == -(-count // size)
        assert max(lengths) <= size
        assert max(lengths) - min(lengths) <= 1
        assert supply.spent() == (count, (0, 0, 0, 0))
        assert supply.complete


def test_raw_samples_are_counted_as_they_are_drawn(index_samples, table_network):
    """Epochwise, an epoch is one pass over the raw data, however few are kept."""
    for select, size in ((None, 10), ("accuracy >> epochwise", 5), ("accuracy >> batchwise:raw_batch_size=10", 5)):
        model = table_network(lambda index, update: index % 2 == 0)
        supply = supply_of(index_samples(100), model, select)
        supply.start_epoch(0, size)
        raw = []
        for batch in supply.batches():
            raw.append((supply.spent().raw, batch is None))
        drawn = [r for r, waits in raw if r]
        assert sum(r for r, _ in raw) == 100
        assert set(drawn) == {10}, select


def test_scoring_is_counted_once(index_samples, table_network):
    """``spent`` hands out each pass once, across batches, ends of epochs and a resume."""
    model = table_network(lambda index, update: (index + update) % 3 == 0)
    data, text = index_samples(90), "accuracy >> epochwise:every=2 >> accuracy >> batchwise:max_age=0"
    supply = supply_of(data, model, text)
    forwarded, r = 0, random.Random(0)
    for epoch in range(6):
        supply.start_epoch(epoch, 8)
        batches = supply.batches()
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                break
            model.updates += batch is not None
            if r.random() < 0.7:
                forwarded += supply.spent().passes.forwarded
            if r.random() < 0.2:
                state = supply.state_dict()
                batches.close()
                supply = supply_of(data, model, text)
                supply.load_state_dict(state)
                batches = supply.batches()
        spent = supply.spent()
        forwarded += spent.passes.forwarded
        assert supply.spent() == (0, (0, 0, 0, 0))
    assert forwarded == model.forwarded > 0


TEXTS = [
    "accuracy:margin=0.5",
    "accuracy >> batchwise:overflow=discard,raw_batch_size=16",
    "accuracy:margin=0.8 >> weighted:0.7,importance=true >> batchwise:max_age=1,raw_batch_size=30",
    "topk:0.5 >> batchwise:batch_size=none",
    "accuracy:margin=0.5 >> epochwise:every=2",
    "weighted:0.5,importance=true >> epochwise >> accuracy:margin=0.9 >> batchwise",
    "selective-backprop",
    "infobatch >> epochwise",
    "random:0.5",
]


@pytest.mark.parametrize("text", TEXTS)
def test_stored_between_any_two_batches(text, keyed_samples, linear):
    """Through a file, at random places of four epochs: the same batches, pixels, weights and counts."""
    data, runs = keyed_samples(50), []
    for stops in (False, True):
        r, model = random.Random(text), linear()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        supply, seen, counts = supply_of(data, model, text), [], []
        for epoch in range(4):
            supply.start_epoch(epoch, 8)
            supply.advance(epoch / 4)
            batches = supply.batches()
            while (batch := next(batches, "over")) != "over":
                if batch is not None:
                    x, y = batch.read(data)
                    losses = nn.functional.cross_entropy(model(x), y, reduction="none")
                    seen.append((*told([batch]), x, y))
                    optimizer.zero_grad()
                    losses.mean().backward()
                    optimizer.step()
                    supply.observe(batch, Step(model(x).detach(), losses.detach()))
                if stops and r.random() < 0.5:
                    file = io.BytesIO()
                    torch.save(supply.state_dict(), file)
                    file.seek(0)
                    batches.close()
                    supply = supply_of(data, model, text)
                    supply.load_state_dict(torch.load(file, weights_only=True))
                    batches = supply.batches()
            counts.append(supply.tally.record())
        runs.append((seen, counts, [p.detach() for p in model.parameters()]))
    (seen, counts, weights), (again, counted, ended) = runs
    assert len(seen) == len(again) > 4
    for (batch, x, y), (other, pixels, labels) in zip(seen, again, strict=True):
        assert batch == other
        assert torch.equal(x, pixels)
        assert torch.equal(y, labels)
    assert counts == counted
    assert all(torch.equal(a, b) for a, b in zip(weights, ended, strict=True))


# -- when nothing is left -----------------------------------------------------------------------------


def test_every_sample_is_handled(index_samples, table_network):
    """A whole epoch in which nothing was kept, and not one in which something still waits to fill a batch."""
    model = table_network(lambda index, update: index < 3 and update == 0)
    supply = supply_of(index_samples(20), model, "accuracy")
    states = []
    for epoch in range(5):
        model.updates += len(run(supply, epoch, 8))
        states.append((supply.starved, supply.tally.carried))
    assert states == [(False, 3), (False, 6), (False, 1), (True, 1), (True, 1)]


def test_epochs_of_nothing_are_counted_where_no_two_are_alike(index_samples, table_network):
    """A hundred in a row, through a stored state, and anew behind an epoch that kept something."""
    data = index_samples(6)
    data.varies = True
    model = table_network(lambda index, update: False)
    supply = supply_of(data, model, "accuracy")
    for epoch in range(99):
        assert run(supply, epoch, 8) == []
        assert not supply.starved
        if epoch == 50:
            state = supply.state_dict()
            supply = supply_of(data, model, "accuracy")
            supply.load_state_dict(state)
    model.accept = lambda index, update: True
    assert len(run(supply, 99, 6)) == 1
    model.accept = lambda index, update: False
    assert [bool(run(supply, 100 + i, 6)) or supply.starved for i in range(100)] == [False] * 99 + [True]


@pytest.mark.parametrize(("text", "ends"), [("accuracy", True), ("accuracy >> batchwise:mode=train", False)])
def test_scores_that_depend_on_the_batch_are_another_epochs_too(index_samples, table_network, text, ends):
    supply = supply_of(index_samples(6), table_network(lambda index, update: False), text)
    assert run(supply, 0, 6) == []
    assert supply.starved is ends


def test_two_selections_of_which_the_second_keeps_nothing(index_samples, table_network):
    """The first one keeps half of the samples for ever: training must end all the same."""
    model = table_network(lambda index, update: False)
    supply = supply_of(index_samples(20), model, "random:0.5 >> epochwise >> accuracy >> batchwise")
    assert run(supply, 0, 4) == []
    assert (supply.tally.kept, supply.tally.candidates, supply.tally.accepted) == (10, 10, 0)
    assert supply.starved


def test_not_over_while_batches_are_left(index_samples, table_network):
    supply = supply_of(index_samples(20), table_network(lambda index, update: True), "accuracy")
    supply.start_epoch(0, 4)
    batches = supply.batches()
    for _ in range(5):
        next(batches)
        assert not supply.complete
        assert not supply.starved
    assert next(batches, None) is None
    assert supply.complete


# -- what is learnt from training ------------------------------------------------------------------------


class Memory(InfoBatch):
    """Writes down what it is told."""

    def observe(self, scored):
        self.told = (scored.indices.tolist(), scored.losses.clone())
        super().observe(scored)


def test_history_is_of_the_samples_themselves(keyed_samples, linear):
    """Logits of mixed samples say nothing of one sample: it is asked anew, unmixed, and that is counted."""
    data, model, part = keyed_samples(24), linear(), Memory()
    supply = supply_of(data, model, Selecting.of(part))
    batch = run(supply, 0, 24)[0]
    supply.spent()
    x, y = batch.read(data)
    step = Step(torch.full((24, 3), 9.0), torch.full((24,), 9.0))
    supply.observe(batch, step)
    assert part.told[1].tolist() == [9.0] * 24
    assert supply.spent().passes == (0, 0, 0, 0)
    mixing = supply_of(data, model, Selecting.of(part), mix=Mixup(num_classes=3))
    run(mixing, 0, 24)
    mixing.spent()
    mixing.observe(batch, step)
    assert part.told[0] == batch.indices.tolist()
    torch.testing.assert_close(part.told[1], nn.functional.cross_entropy(model(x), y, reduction="none").detach())
    assert mixing.spent().passes == (24, 24, 24, 0)


def test_nobody_is_told_who_does_not_remember(keyed_samples, linear):
    supply = supply_of(keyed_samples(8), linear(), "random:0.5", mix=Mixup(num_classes=3))
    assert not supply.select.remembers
    batch = run(supply, 0, 4)[0]
    supply.observe(batch, Step(torch.zeros(4, 3), torch.tensor(1.0)))
    assert supply.spent().passes.forwarded == 0


# -- batches --------------------------------------------------------------------------------------------


def test_rows_of_several_epochs_get_their_own_pixels(keyed_samples):
    data = keyed_samples(12)
    indices, epochs = torch.tensor([3, 3, 0, 11, 5]), torch.tensor([2, 0, 2, 7, 0])
    x, y = fetch_epochs(data, indices, epochs)
    expected = [data.pixels(i, e) for i, e in zip(indices.tolist(), epochs.tolist(), strict=True)]
    assert torch.equal(x, torch.stack(expected))
    assert torch.equal(y, data.labels[indices])


def test_joining_and_taking_rows(keyed_samples):
    data = keyed_samples(12)
    one = Batch(torch.tensor([1, 2]), torch.tensor([0, 0]), torch.tensor([0.5, 2.0]))
    two = Batch(torch.tensor([4]), torch.tensor([3]))
    two.read(data)
    both = Batch.joined([one, two], data)
    assert both.weights.tolist() == [0.5, 2.0, 1.0]
    assert torch.equal(both.x[2], data.pixels(4, 3))
    some = both.rows(torch.tensor([2, 0]))
    assert (some.indices.tolist(), some.weights.tolist()) == ([4, 1], [1.0, 0.5])
    assert torch.equal(some.x, both.x[[2, 0]])
    again = Batch.from_state(some.state_dict())
    assert torch.equal(again.read(data)[0], some.x)


@pytest.mark.parametrize("size", [1, 3, 5, 8])
def test_a_reader_hands_out_blocks(size, keyed_samples):
    """Read ahead in blocks: whole ones, at least as many samples as asked for, in order; also from a position."""
    data, order = keyed_samples(30), torch.randperm(30, generator=torch.Generator().manual_seed(0))
    for position in (0, 12):
        blocks = list(order[position:].split(4))
        reader = EpochReader(data, order, epoch=2, position=position, blocks=blocks)
        seen = []
        while (batch := reader.take(size)) is not None:
            assert len(batch) >= min(size, 30 - position - len(seen))
            assert len(batch) < size + 4
            assert torch.equal(batch.x, torch.stack([data.pixels(i, 2) for i in batch.indices.tolist()]))
            seen += batch.indices.tolist()
        assert seen == order[position:].tolist()
        assert reader.remaining == 0


def test_sizes_do_not_depend_on_where_one_begins():
    """What is left after a batch is cut as it would have been."""
    for total in range(1, 60):
        for size in range(1, 12):
            left, sizes = total, []
            while left:
                sizes.append(nearly_equal(left, size))
                left -= sizes[-1]
            assert sizes == [len(part) for part in torch.arange(total).tensor_split(-(-total // size))]
