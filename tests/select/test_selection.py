"""Filters and selectors joined: against a loop that narrows a list."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from lessonplan.errors import ConfigError
from lessonplan.select import (
    AccuracyFilter,
    LossWeighted,
    MarginFilter,
    RandomSubset,
    Selection,
    TopK,
    TopQuantile,
)
from lessonplan.select.base import Filter, Scored


def candidates(r: random.Random, n: int) -> Scored:
    generator = torch.Generator().manual_seed(r.randrange(10**6))
    logits = torch.randn(n, 3, generator=generator)
    targets = torch.randint(3, (n,), generator=generator)
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    return Scored(torch.arange(100, 100 + n), targets, logits, losses)


def test_filters_then_selectors_against_a_loop() -> None:
    """Each part works on what the one before left; positions are among all candidates."""
    r = random.Random(0)
    for _ in range(400):
        scored = candidates(r, r.randint(1, 30))
        first, second = r.choice([5, 12, 0.5, 1.0]), r.choice([2, 8, 0.3])
        left = []
        for i in range(len(scored)):
            p = scored.logits[i].softmax(0).sort(descending=True).values
            wrong = int(scored.logits[i].argmax()) != int(scored.targets[i])
            if wrong and float(p[0] - p[1]) < 0.6:
                left.append(i)
        for size in (first, second):
            if left:
                count = min(size, len(left)) if isinstance(size, int) else max(1, round(size * len(left)))
                left = sorted(left, key=lambda i: -float(scored.losses[i]))[:count]
        selection = AccuracyFilter() >> MarginFilter(margin=0.6) >> TopK(first) >> TopK(second)
        chosen = selection.choose(scored, torch.Generator())
        assert chosen.positions.tolist() == sorted(left)
        assert chosen.weights is None


def test_a_second_filter_sees_the_rows_that_the_first_left() -> None:
    """Of samples right, wrong, wrong and sure, wrong: the second filter takes those of two minds."""
    logits = torch.tensor([[0.1, 0.0], [0.0, 0.1], [0.0, 9.0], [0.0, 0.2]])
    scored = Scored(torch.arange(7, 11), torch.zeros(4, dtype=torch.int64), logits, torch.zeros(4))
    chosen = (AccuracyFilter() >> MarginFilter(margin=0.5)).choose(scored, torch.Generator())
    assert chosen.positions.tolist() == [1, 3]


def test_fill_tops_up_to_the_number_at_random() -> None:
    r, generator = random.Random(1), torch.Generator().manual_seed(0)
    others: set[int] = set()
    for _ in range(300):
        n, size = r.randint(1, 20), r.randint(1, 12)
        scored = candidates(r, n)
        kept = AccuracyFilter()(scored.logits, scored.targets).nonzero().squeeze(1).tolist()
        plain = (AccuracyFilter() >> TopK(size)).choose(scored, generator).positions.tolist()
        assert len(plain) == min(size, len(kept))
        chain = Selection([AccuracyFilter(), TopK(size)], fill="random")
        filled = chain.choose(scored, generator).positions.tolist()
        assert filled[: len(plain)] == plain
        assert len(filled) == len(set(filled)) == min(size, n)
        others.update(filled[len(plain) :])
    assert len(others) > 15  # from anywhere


def test_filled_samples_count_once() -> None:
    """Weights of a selector are multiplied along the chain; samples that fill up weigh 1."""
    scored = candidates(random.Random(2), 40)
    chain = Selection([AccuracyFilter(), LossWeighted(0.5, importance=True), TopK(30)], fill="random")
    wrong = int(AccuracyFilter()(scored.logits, scored.targets).sum())
    chosen = chain.choose(scored, torch.Generator().manual_seed(0))
    drawn = round(0.5 * wrong)
    assert len(chosen.positions) == len(chosen.weights) == 30
    assert chosen.weights[drawn:].tolist() == [1.0] * (30 - drawn)
    assert (chosen.weights[:drawn] != 1).any()


def test_top_k_behind_the_soft_filter_takes_k_where_algorithm_6_adds_all_that_are_marginal() -> None:
    wrong = torch.stack([torch.zeros(80), torch.linspace(1.0, 2.0, 80)], 1)
    marginal, sure = torch.tensor([[0.1, 0.0]]).repeat(60, 1), torch.tensor([[5.0, 0.0]]).repeat(60, 1)
    logits, labels = torch.cat([marginal, wrong, sure]), torch.zeros(200, dtype=torch.int64)
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    scored = Scored(torch.arange(200), labels, logits, losses)

    # Line by line as printed, where the highest losses come first.
    probabilities, as_printed, beside = logits.softmax(1), [], []
    for i in range(200):
        p, q = sorted(probabilities[i].tolist(), reverse=True)[:2]
        if int(logits[i].argmax()) != 0:
            as_printed.append(i)
        elif p - q <= 0.2:
            beside.append(i)
    as_printed.sort(key=lambda i: -float(losses[i]))
    as_printed = as_printed[:40] + beside

    chosen = (AccuracyFilter(0.2) >> TopK(40)).choose(scored, torch.Generator()).positions.tolist()
    assert (len(chosen), len(as_printed)) == (40, 100)
    assert sorted(chosen) == sorted(as_printed[:40])  # here no marginal sample has a loss among the highest


def test_weights_multiply() -> None:
    class Two(TopK):
        def __call__(self, scores: Tensor, size: int, generator: torch.Generator):
            positions, _ = super().__call__(scores, size, generator)
            return positions, 2 + scores[positions]

    scored = candidates(random.Random(3), 10)
    chosen = (Two(6) >> Two(3)).choose(scored, torch.Generator())
    torch.testing.assert_close(chosen.weights, (2 + scored.losses[chosen.positions]).square())


def test_nothing_left_is_nothing_chosen() -> None:
    scored = candidates(random.Random(4), 8)
    scored.targets = scored.logits.argmax(1)
    for selector in (TopK(3), TopK(0.5), TopQuantile(0.5), LossWeighted(4, importance=True), RandomSubset(2)):
        chosen = (AccuracyFilter() >> selector).choose(scored, torch.Generator())
        assert chosen.positions.tolist() == []
    filled = Selection([AccuracyFilter(), TopK(3)], fill="random").choose(scored, torch.Generator())
    assert len(filled.positions) == 3


def test_joining() -> None:
    joined = AccuracyFilter() >> (MarginFilter() >> Selection([TopK(4)], fill="random"))
    assert [part.name for part in joined.parts] == ["accuracy", "margin", "topk"]
    assert (joined.fill, joined.fixed_size) == ("random", 4)
    assert (AccuracyFilter() >> RandomSubset(0.5)).needs == "forward"
    assert Selection.of(RandomSubset(0.5)).needs == "nothing"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Selection([]), "a selection of nothing"),
        (lambda: TopK(3) >> AccuracyFilter(), "topk.* >> accuracy a filter stands behind a selector"),
        (lambda: Selection([TopK(3)], fill="zeros"), "give 'none' or 'random'"),
        (lambda: Selection([TopK(0.5)], fill="random"), "needs a number to fill up to"),
        (lambda: Selection([AccuracyFilter()], fill="random"), "needs a number to fill up to"),
        (lambda: TopK(9).make_room(8, 3), "size 9 of 8 training samples"),
    ],
)
def test_what_cannot_be(make, message) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("answer", [lambda n: torch.ones(n), lambda n: torch.ones(n - 1).bool()])
def test_a_filter_that_gives_no_mask(answer) -> None:
    class Broken(Filter):
        name = "broken"

        def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
            return answer(len(logits))

    with pytest.raises(ConfigError, match=r"filter broken gave .* one bool for each"):
        Selection([Broken()]).choose(candidates(random.Random(5), 6), torch.Generator())


def test_scores_that_are_not_finite() -> None:
    scored = candidates(random.Random(6), 6)
    scored.losses[2] = torch.inf
    with pytest.raises(ConfigError, match="selector topk got scores that are NaN or infinite"):
        Selection([TopK(2)]).choose(scored, torch.Generator())


def test_what_is_scored_is_brought_to_the_cpu_detached_and_unchanged() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    scored = Scored(torch.arange(4), torch.tensor([0, 1, 2, 0]), logits, logits.square().sum(1))
    here = scored.on_host()
    assert here.logits is not None
    assert here.losses is not None
    assert not here.logits.requires_grad
    assert torch.equal(here.logits, logits)
    assert torch.equal(here.losses, logits.square().sum(1))
    bare = Scored(torch.arange(4), torch.zeros(4, dtype=torch.int64)).on_host()
    assert bare.logits is None
    assert bare.losses is None
