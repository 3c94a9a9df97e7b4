"""Every registered filter and selector against a loop over samples, written from its algorithm.

A case is a part and its reference. Each is driven through short made-up runs: candidates are scored, chosen,
trained on (with repeats) and observed, and somewhere in the middle the part is stored and restored.
"""

from __future__ import annotations

import io
import math
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lessonplan.errors import LessonplanError
from lessonplan.select.base import Filter, Part, Scored, Selector
from lessonplan.select.text import PARTS, parse_part

SAMPLES, CLASSES, STEPS = 24, 5, 6
HOLDOUT = torch.rand(SAMPLES, generator=torch.Generator().manual_seed(1)) * 2
Row = tuple[int, int, list[float], float]
"""Index, label, logits, loss."""
Rows = list[Row]
Choice = tuple[list[int], list[float] | None]


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(z) for z in logits]
    return [p / sum(powers) for p in powers]


def rand(n: int, g: torch.Generator) -> list[float]:
    return torch.rand(n, generator=g, dtype=torch.float64).tolist()


def first_ringing(weights: list[float], size: int, g: torch.Generator) -> tuple[list[int], float]:
    """A race of clocks: who rings first, and when the first one rings that is not among them."""
    clocks = torch.empty(len(weights), dtype=torch.float64).exponential_(generator=g).tolist()
    when = {i: clock / w for i, (clock, w) in enumerate(zip(clocks, weights, strict=True))}
    taken = []
    for _ in range(size):
        taken.append(min(when, key=when.__getitem__))
        del when[taken[-1]]
    return sorted(taken), min(when.values(), default=math.inf)


def one_by_one(weights: list[float], size: int, g: torch.Generator) -> list[int]:
    """Independent draws: walk along the weights until the drawn share of their sum is passed."""
    taken = []
    for u in rand(size, g):
        i, passed = 0, weights[0]
        while passed <= u * sum(weights):
            i += 1
            passed += weights[i]
        taken.append(i)
    return taken


def subset(n: int, size: int, g: torch.Generator) -> list[int]:
    return sorted(torch.randperm(n, generator=g).tolist()[:size])


def largest(scores: list[float], size: int) -> list[int]:
    left = list(range(len(scores)))
    taken = []
    for _ in range(size):
        best = max(left, key=lambda i: (scores[i], -i))
        left.remove(best)
        taken.append(best)
    return sorted(taken)


class Loop:
    """A reference: what a part does, one sample at a time."""

    progress = 0.0

    def __init__(self, **options: Any) -> None:
        for key, value in options.items():
            setattr(self, key, value)
        self.start()

    def start(self) -> None:
        """Nothing is remembered."""

    def observe(self, rows: Rows) -> None:
        """Nothing is noted."""

    def choose(self, rows: Rows, size: int, g: torch.Generator) -> Choice:
        raise AssertionError


class Accuracy(Loop):
    margin: float | None = None

    def choose(self, rows, size, g):
        kept = []
        for position, (_, label, logits, _) in enumerate(rows):
            first, second = sorted(softmax(logits))[:-3:-1]
            wrong = logits.index(max(logits)) != label
            if wrong or (self.margin is not None and first - second <= self.margin):
                kept.append(position)
        return kept, None


class Matched(Accuracy):
    def choose(self, rows, size, g):
        stays = set(super().choose(rows, size, g)[0])
        return [i for i, j in enumerate(torch.randperm(len(rows), generator=g).tolist()) if j in stays], None


class Margin(Loop):
    rank, margin, decay = 2, 0.2, None

    def choose(self, rows, size, g):
        margin = self.margin
        if self.decay is not None:
            margin = 1 - self.progress**self.decay * (1 - self.margin)
        kept = []
        for position, (_, _, logits, _) in enumerate(rows):
            p = sorted(softmax(logits), reverse=True)
            if p[0] - p[self.rank - 1] < margin:
                kept.append(position)
        return kept, None


class Top(Loop):
    def choose(self, rows, size, g):
        return largest([loss for *_, loss in rows], size), None


class Quantile(Loop):
    q = 0.5

    def choose(self, rows, size, g):
        losses = [loss for *_, loss in rows]
        edge = np.quantile(losses, self.q) if losses else 0.0
        return [i for i, loss in enumerate(losses) if loss >= edge], None


class Weighted(Loop):
    start_power = end_power = 1.0
    replacement, inverse, importance = True, False, False

    def choose(self, rows, size, g):
        power = self.start_power + self.progress * (self.end_power - self.start_power)
        weights = [loss ** (-power if self.inverse else power) for *_, loss in rows]
        if not rows:
            return [], [] if self.importance else None
        if self.replacement:
            taken = one_by_one(weights, size, g)
            factors = [sum(weights) / weights[i] / len(rows) for i in taken]
        else:
            taken, following = first_ringing(weights, size, g)
            factors = [size / len(rows) / (1 - math.exp(-weights[i] * following)) for i in taken]
        return taken, factors if self.importance else None


class Split(Loop):
    q, start_power, end_power = 2, 2.0, 2.0

    def choose(self, rows, size, g):
        if not rows:
            return [], None
        power = self.start_power + self.progress * (self.end_power - self.start_power)
        losses = [loss for *_, loss in rows]
        part = sum(loss**power for loss in losses) / self.q
        buckets: list[list[int]] = [[] for _ in range(self.q)]
        b, mass = 0, 0.0
        for i in sorted(range(len(losses)), key=losses.__getitem__):
            buckets[b].append(i)
            mass += losses[i] ** power
            while b + 1 < self.q and mass >= part * (b + 1):
                b += 1
        keys = rand(len(losses), g)
        for bucket in buckets:
            bucket.sort(key=keys.__getitem__, reverse=True)
        wanted = [size // self.q] * self.q
        for b in range(size % self.q):
            wanted[-1 - b] += 1
        taken, missing = [], []
        for bucket, n in zip(buckets, wanted, strict=True):
            drawn = [bucket.pop() for _ in range(min(n, len(bucket)))]
            taken += drawn
            missing.append(n - len(drawn))
        for b in range(self.q - 1, -1, -1):
            for distance in range(1, self.q):
                for other in (b + distance, b - distance):
                    while missing[b] and 0 <= other < self.q and buckets[other]:
                        taken.append(buckets[other].pop())
                        missing[b] -= 1
        return sorted(taken), None


class Subset(Loop):
    def choose(self, rows, size, g):
        return subset(len(rows), size, g), None


class Draws(Loop):
    def choose(self, rows, size, g):
        return (torch.randint(len(rows), (size,), generator=g).tolist() if rows else []), None


class Losers(Loop):
    beta, history = 1.0, 1024

    def start(self):
        self.recent: deque[float] = deque(maxlen=self.history)

    def choose(self, rows, size, g):
        self.recent.extend(loss for *_, loss in rows)
        kept = []
        for position, u in enumerate(rand(len(rows), g)):
            below = sum(loss <= rows[position][3] for loss in self.recent)
            if u < (below / len(self.recent)) ** self.beta:
                kept.append(position)
        return kept, None


class Info(Loop):
    ratio, end = 0.5, 0.875

    def start(self):
        self.losses: dict[int, float] = {}

    def observe(self, rows):
        for index, _, _, loss in rows:
            self.losses[index] = loss

    def choose(self, rows, size, g):
        if self.progress >= self.end:
            return list(range(len(rows))), None
        kept, weights = [], []
        for position, u in enumerate(rand(len(rows), g)):
            stored = self.losses.get(rows[position][0])
            learnt = stored is not None and stored < sum(self.losses.values()) / len(self.losses) - 1e-12
            if not learnt or u >= self.ratio:
                kept.append(position)
                weights.append(1 / (1 - self.ratio) if learnt else 1.0)
        return kept, weights


class Norm(Loop):
    threshold, smoothing = None, 0.9

    def start(self):
        self.tau, self.uniform, self.ratio = 0.0, True, 4.0

    def bounds(self, rows):
        norms = []
        for _, label, logits, _ in rows:
            p = softmax(logits)
            p[label] -= 1
            norms.append(math.sqrt(sum(x * x for x in p)))
        return norms

    def follow(self, norms):
        g = [x / sum(norms) for x in norms]
        u = 1 / len(norms)
        away = sum((x - u) ** 2 for x in g) / sum(x * x for x in g)
        self.tau = self.smoothing * self.tau + (1 - self.smoothing) * (1 - away) ** -0.5

    def observe(self, rows):
        if self.uniform and rows:
            self.follow(self.bounds(rows))

    def choose(self, rows, size, g):
        threshold = 1 + self.ratio / 3 if self.threshold is None else self.threshold
        self.uniform = not self.tau > threshold
        if rows:
            self.ratio = len(rows) / size
        if self.uniform or not rows:
            return subset(len(rows), size, g), None if self.uniform else []
        norms = self.bounds(rows)
        self.follow(norms)
        taken = one_by_one(norms, size, g)
        return taken, [sum(norms) / norms[i] / len(rows) for i in taken]


class Rho(Loop):
    def choose(self, rows, size, g):
        return largest([loss - float(HOLDOUT[index]) for index, _, _, loss in rows], size), None


class Recency(Loop):
    window, pressure, warmup = 10, 100.0, 0.1

    def start(self):
        self.seen: dict[int, deque[int]] = defaultdict(lambda: deque(maxlen=self.window))

    def observe(self, rows):
        for index, _, logits, _ in rows:
            self.seen[index].append(logits.index(max(logits)))

    def choose(self, rows, size, g):
        if self.progress < self.warmup:
            return subset(len(rows), size, g), None
        s = self.pressure * math.exp(
            math.log(1 / self.pressure) / (1 - self.warmup) * (self.progress - self.warmup)
        )
        weights = []
        for index, *_ in rows:
            labels = self.seen[index]
            shares = [n / len(labels) for n in Counter(labels).values()]
            u = -sum(p * math.log(p) for p in shares) / math.log(CLASSES) if labels else 1.0
            weights.append(1 / math.exp(math.log(s) / SAMPLES) ** math.ceil((1 - u) * SAMPLES))
        return first_ringing(weights, size, g)[0], None


class Active(Loop):
    weights, smoothing, warmup = False, None, 0.1

    def start(self):
        self.seen: dict[int, list[float]] = defaultdict(list)

    def observe(self, rows):
        for index, label, logits, _ in rows:
            self.seen[index].append(softmax(logits)[label])

    def spread(self, index):
        h = self.seen.get(index, [])
        return math.sqrt(np.var(h) + np.var(h) ** 2 / (len(h) - 1)) if len(h) > 1 else 0.0

    def choose(self, rows, size, g):
        extra = self.smoothing
        if extra is None:
            extra = sum(self.spread(i) for i in range(SAMPLES)) / SAMPLES
        emphasis = [self.spread(index) + extra for index, *_ in rows]
        if self.progress < self.warmup or extra == 0:
            emphasis = [1.0] * len(rows)
        if not self.weights:
            return first_ringing(emphasis, size, g)[0], None
        taken = subset(len(rows), size, g)
        mean = sum(emphasis[i] for i in taken) / max(len(taken), 1)
        return taken, [emphasis[i] / mean for i in taken]


@dataclass(frozen=True)
class Case:
    text: str
    loop: Callable[[], Loop]

    def make(self) -> Part:
        part = parse_part(self.text)
        if hasattr(part, "give_holdout"):
            part.give_holdout(HOLDOUT)
        part.make_room(SAMPLES, CLASSES)
        return part


CASES = [
    Case("accuracy", Accuracy),
    Case("accuracy:0.3", lambda: Accuracy(margin=0.3)),
    Case("matched-random:0.3", lambda: Matched(margin=0.3)),
    Case("margin:rank=2,margin=0.3", lambda: Margin(margin=0.3)),
    Case("margin:rank=4,margin=0.5,decay=2", lambda: Margin(rank=4, margin=0.5, decay=2.0)),
    Case("topk:7", Top),
    Case("topk:0.3", Top),
    Case("quantile:0.7", lambda: Quantile(q=0.7)),
    Case("weighted:0.5", Weighted),
    Case(
        "weighted:9,power=2->0.5,importance=true", lambda: Weighted(start_power=2, end_power=0.5, importance=True)
    ),
    Case("weighted:0.4,replacement=false", lambda: Weighted(replacement=False)),
    Case(
        "weighted:5,power=1.5,replacement=false,inverse=true,importance=true",
        lambda: Weighted(start_power=1.5, end_power=1.5, replacement=False, inverse=True, importance=True),
    ),
    Case("qsplit:8", Split),
    Case("qsplit:0.9,q=5,power=3->1", lambda: Split(q=5, start_power=3, end_power=1)),
    Case("qsplit:11,q=3,power=8", lambda: Split(q=3, start_power=8, end_power=8)),
    Case("qsplit:7,q=3,power=0.2", lambda: Split(q=3, start_power=0.2, end_power=0.2)),
    Case("random:0.4", Subset),
    Case("uniform:6", Draws),
    Case("uniform:6,replacement=false", Subset),
    Case("selective-backprop", Losers),
    Case("selective-backprop:2,history=30", lambda: Losers(beta=2, history=30)),
    Case("infobatch:ratio=0.3,end=0.8", lambda: Info(ratio=0.3, end=0.8)),
    Case("gradient-norm:0.25", Norm),
    Case("gradient-norm:0.25,threshold=1.2,smoothing=0.5", lambda: Norm(threshold=1.2, smoothing=0.5)),
    Case("rho-loss:0.3", Rho),
    Case("recency-bias:0.4,window=3", lambda: Recency(window=3)),
    Case("recency-bias:0.4,window=2,pressure=1000,warmup=0", lambda: Recency(window=2, pressure=1e3, warmup=0.0)),
    Case("active-bias:0.4", Active),
    Case("active-bias:1.0,weights=true,smoothing=0.2", lambda: Active(weights=True, smoothing=0.2)),
]


@pytest.fixture(params=CASES, ids=lambda case: case.text)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def made_up(size: int, dice: random.Random, repeats: bool = False) -> tuple[Scored, Rows]:
    """Some samples of a made-up training set, and what a made-up network says of them."""
    pick = dice.choices(range(SAMPLES), k=size) if repeats else dice.sample(range(SAMPLES), size)
    g = torch.Generator().manual_seed(dice.randrange(2**31))
    indices = torch.tensor(pick, dtype=torch.int64)
    targets = indices % CLASSES
    logits = torch.randn(size, CLASSES, generator=g) * 1.5
    logits[torch.arange(size), targets] += 1.0
    losses = cross_entropy(logits, targets, reduction="none")
    rows = list(zip(pick, targets.tolist(), logits.tolist(), losses.tolist(), strict=True))
    return Scored(indices, targets, logits, losses), rows


def choose(part: Part, scored: Scored, g: torch.Generator) -> tuple[Tensor, Tensor | None, int]:
    if isinstance(part, Filter):
        return part.mask(scored, g).nonzero().squeeze(1), None, 0
    assert isinstance(part, Selector)
    size = part.number(len(scored))
    if part.needs != "forward":
        scored = Scored(scored.indices, scored.targets)
    return *part(part.score(scored), size, g), size


def stored_and_restored(part: Part, fresh: Part) -> Part:
    file = io.BytesIO()
    torch.save(part.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh


def test_every_part_has_a_reference():
    assert {case.text.partition(":")[0] for case in CASES} == set(PARTS)


def test_as_the_loop(case):
    """29 cases of 20 runs of 6 choices each: 3480 choices."""
    for seed in range(20):
        dice = random.Random(seed)
        part, loop = case.make(), case.loop()
        mine, theirs = (torch.Generator().manual_seed(seed) for _ in range(2))
        restored_at, between = dice.randrange(STEPS), dice.random() < 0.5
        for step in range(STEPS):
            if step == restored_at and not between:
                part = stored_and_restored(part, case.make())
            loop.progress = step / STEPS
            part.advance(loop.progress)
            scored, rows = made_up(dice.choice([0, 1, 2, 5, 13, SAMPLES]), dice)
            positions, weights, size = choose(part, scored, mine)
            expected, factors = loop.choose(rows, size, theirs)
            assert positions.tolist() == expected
            assert (weights is None) == (factors is None)
            if weights is not None:
                assert weights.dtype == torch.float32
                torch.testing.assert_close(weights, torch.tensor(factors), rtol=1e-5, atol=1e-6)
            if step == restored_at and between:
                part = stored_and_restored(part, case.make())
                assert part.progress == loop.progress
            trained, rows = made_up(dice.choice([0, 3, 12]), dice, repeats=True)
            part.observe(trained)
            loop.observe(rows)


def test_nothing_else_is_touched(case):
    dice = random.Random(0)
    part = case.make()
    scored, _ = made_up(13, dice)
    before = [t.clone() for t in (scored.indices, scored.targets, scored.logits, scored.losses)]
    global_state = torch.get_rng_state()
    for _ in range(4):
        choose(part, scored, torch.Generator().manual_seed(0))
        part.observe(scored)
    assert torch.equal(torch.get_rng_state(), global_state)
    for here, there in zip((scored.indices, scored.targets, scored.logits, scored.losses), before, strict=True):
        assert torch.equal(here, there)


def test_a_stored_state_does_not_change_any_more(case):
    dice = random.Random(1)
    part, g = case.make(), torch.Generator()
    part.observe(made_up(12, dice)[0])
    choose(part, made_up(9, dice)[0], g)
    state = part.state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    part.advance(0.9)
    part.observe(made_up(12, dice)[0])
    choose(part, made_up(9, dice)[0], g)
    file.seek(0)
    then = torch.load(file, weights_only=True)
    assert str(then) == str(state)


def test_config_makes_the_same_part_again(case):
    part = case.make()
    config = part.config()
    again = PARTS[config.pop("name")](**config)
    assert again.config() == part.config()
    assert repr(again) == repr(part)


def test_bad_scores_are_named(case):
    part, g = case.make(), torch.Generator()
    if isinstance(part, Filter):
        with pytest.raises(LessonplanError, match=r"shapes \(3,\) and \(3,\)"):
            part(torch.zeros(3), torch.zeros(3, dtype=torch.int64))
        with pytest.raises(LessonplanError, match="NaN"):
            part(torch.tensor([[0.0, 1.0, torch.nan, 0.0, 0.0]]), torch.tensor([0]))
        return
    if part.needs == "nothing":
        part(torch.full((3,), torch.nan), 2, g)
        return
    part.advance(0.5)
    with pytest.raises(LessonplanError, match="reduction='none'"):
        part(torch.tensor(0.3), 1, g)
    with pytest.raises(LessonplanError, match="1 of 3 scores that are NaN or infinite"):
        part(torch.tensor([0.1, torch.inf, 0.3]), 2, g)


def test_more_than_there_are(case):
    part = case.make()
    if isinstance(getattr(part, "size", None), int):
        with pytest.raises(LessonplanError, match=f"give at most {part.size - 1}"):
            part.make_room(part.size - 1, CLASSES)
    elif isinstance(part, Selector):
        assert 1 <= part.number(SAMPLES) <= SAMPLES
        assert part.number(0) == 0
