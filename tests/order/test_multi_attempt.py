"""Multi-attempt loss: candidates by their losses, and nothing left behind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lessonplan.batch import Batch
from lessonplan.order import ByScore, MultiAttempt
from lessonplan.order.measure import sample_losses


def reference(model, x, y):
    """Losses in training mode without dropout, by a copy."""
    model = copy.deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    return nn.functional.cross_entropy(model(x), y, reduction="none").detach()


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_every_winner_has_the_extreme_loss_of_what_is_left(loop, order, dropout):
    orderer = MultiAttempt(k="all", order=order)
    run = loop(orderer, dropout=dropout)
    left = {tuple(b.indices.tolist()) for b in run.upstream() if b is not None}
    run.position, extreme = 0, min if order == "ascending" else max
    with torch.random.fork_rng(devices=[]):
        for batch in orderer.batches(run.upstream()):
            if batch is None:
                continue
            means = {b: reference(run.model, *run.data.fetch(torch.tensor(b))).mean().item() for b in left}
            assert tuple(batch.indices.tolist()) == extreme(means, key=means.get)
            left.remove(tuple(batch.indices.tolist()))
            run.update(batch)


def test_samples_are_items_too(loop):
    orderer = MultiAttempt(k=4, items="samples", order="descending", pool=4)
    run = loop(orderer)
    seen = [b for b in run.upstream() if b is not None][:4]
    run.position = 0
    first = next(b for b in orderer.batches(run.upstream()) if b is not None)
    rows = torch.cat([b.indices for b in seen])
    losses = torch.cat([reference(run.model, *run.data.fetch(b.indices)) for b in seen])
    assert set(first.indices.tolist()) == set(rows[losses.topk(6).indices].tolist())


@pytest.mark.parametrize("options", [{}, {"winners": 2}, {"items": "samples"}, {"order": "weighted"}], ids=str)
def test_scoring_leaves_no_trace(loop, same, options):
    run = loop(MultiAttempt(k=3, **options), dropout=0.4).run(2)
    assert same(run.outcome(), loop(None, dropout=0.4).replay(run.trained).outcome())


def test_weighted_draws_follow_the_losses(loop):
    """A sampler: how often each batch is drawn is its share of the losses, here to the 20th power."""
    run = loop(MultiAttempt(k="all", order="weighted", temperature=0.05))
    batches = [b for b in run.upstream() if b is not None]
    means = torch.stack([sample_losses(run.learner, b, run.data).mean() for b in batches])
    counts, shares = torch.zeros(8), means**20 / (means**20).sum()
    assert shares.max() > 0.25
    for _ in range(400):
        choice = run.order.choose([Batch(b.indices, b.epochs) for b in batches], 1)
        counts[[torch.equal(b.indices, choice.winners[0].indices) for b in batches].index(True)] += 1
    torch.testing.assert_close(counts / 400, shares, atol=0.08, rtol=0)


def test_a_look_costs_a_forward_pass_of_each_candidate(loop):
    run = loop(MultiAttempt(k=3)).run(1, stop=2)
    assert [tuple(p) for p in run.passes] == [(18, 18, 18, 0)] * 2
    free = loop(ByScore(k=3, score="label")).run(1, stop=2)
    assert all(p.cost == 0 for p in free.passes)
    assert loop(MultiAttempt(k=3, order="uniform")).run(1, stop=1).passes[0].cost == 0


def test_labels_and_functions_are_scores(loop):
    run = loop(ByScore(k="all", score="label", order="descending", items="samples")).run(1)
    labels = [run.data.labels[batch.indices].float().mean().item() for batch in run.trained]
    assert labels == sorted(labels, reverse=True)
    bright = loop(ByScore(k="all", score=lambda x, y: x.mean(), order="ascending")).run(1)
    means = [bright.data.x[batch.indices].mean().item() for batch in bright.trained]
    assert means == sorted(means)


def test_the_same_seed_makes_the_same_choices(loop):
    a, b, c = (loop(MultiAttempt(k=3, order="weighted"), seed=s).run(1).indices for s in (0, 0, 1))
    assert a == b != c
