"""The registry of mixes: every test that takes ``case`` runs over all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from torch import Tensor

from lessonplan import mix as m

CLASSES = 5


@dataclass(frozen=True)
class Case:
    """A mix in one of its configurations, and what is true of it.

    ``make`` builds it from a seed. ``rows`` is how many samples N samples give. ``labels`` says how targets
    follow from inputs: each image's share of the pixels, the first image's own label, or the union of labels.
    ``random`` mixes draw numbers that differ from batch to batch; ``images`` mixes need (N, ..., H, W).
    """

    name: str
    make: Callable[[int | None], m.Mix]
    rows: Callable[[int], int] = lambda n: n
    labels: Literal["share", "own", "union"] = "share"
    random: bool = True
    images: bool = False
    at_least: int = 1

    def batch(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """A batch that suits the mix: float images and integer labels."""
        g = torch.Generator().manual_seed(seed)
        return torch.randn(n, 3, 6, 8, generator=g), torch.randint(CLASSES, (n,), generator=g)

    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of one sample that the mix takes."""
        wide = [(4, 6), (3, 6, 8), (2, 3, 4, 6)]
        return wide if self.images else [(), (7,), *wide]


def halves(k: int, count: int, generator: torch.Generator) -> Tensor:
    """A user's own coefficients: random, and summing to 1 over the k images."""
    drawn = torch.rand(k, count, generator=generator, dtype=torch.float64) + 0.1
    return drawn / drawn.sum(0)


def _at(mix: m.Mix, progress: float) -> m.Mix:
    mix.advance(progress)
    return mix


def _ceil(k: int) -> Callable[[int], int]:
    return lambda n: math.ceil(n / k)


def _known(cls: Callable[..., m.Mix], *args: object, **options: object) -> Callable[[int | None], m.Mix]:
    return lambda seed: cls(*args, num_classes=CLASSES, seed=seed, **options)


def _around(
    cls: Callable[..., m.Mix], inner: Callable[[int | None], m.Mix], **options: object
) -> Callable[[int | None], m.Mix]:
    return lambda seed: cls(inner(None), seed=seed, **options)


def _chosen(*members: Callable[[int | None], m.Mix], **options: object) -> Callable[[int | None], m.Mix]:
    return lambda seed: m.Choice([make(None) for make in members], seed=seed, **options)


class Glance(torch.nn.Module):
    """A network for images of any shape, without randomness: logits from their mean brightness."""

    def forward(self, x: Tensor) -> Tensor:
        """``(N, ...)`` to ``(N, CLASSES)``."""
        mean = x.double().flatten(1).square().mean(1, keepdim=True)
        return mean * torch.arange(CLASSES, device=x.device)


def _chain(*links: Callable[[int | None], m.Mix]) -> Callable[[int | None], m.Mix]:
    return lambda seed: m.Chain([make(None) for make in links], seed=seed)


MIXUP, CUTMIX = _known(m.Mixup), _known(m.CutMix)

CASES = [
    Case("sum", _known(m.SumAugment, 3), _ceil(3), random=False, at_least=3),
    Case("sum-k1", _known(m.SumAugment, 1), random=False),
    Case("sum-drop", _known(m.SumAugment, 3, remainder="drop"), lambda n: n // 3, random=False, at_least=3),
    Case("sum-union", _known(m.SumAugment, 2, labels="union"), _ceil(2), "union", random=False, at_least=2),
    Case("sum-first", _known(m.SumAugment, 3, labels="first"), _ceil(3), "own", random=False, at_least=3),
    Case("sum-dirichlet", _known(m.SumAugment, 3, coefficients="dirichlet"), _ceil(3), at_least=3),
    Case("sum-own", _known(m.SumAugment, 3, coefficients=halves), _ceil(3), at_least=3),
    Case("permute", _known(m.SumAugment, 3, pairing="permute"), at_least=3),
    Case("permute-union", _known(m.SumAugment, 3, pairing="permute", labels="union"), labels="union", at_least=3),
    Case("permute-first", _known(m.SumAugment, 3, pairing="permute", labels="first"), labels="own", at_least=3),
    Case("permute-dirichlet", _known(m.SumAugment, 3, pairing="permute", coefficients="dirichlet"), at_least=3),
    Case("cascade", _known(m.Cascade, 4, patience=2), _ceil(4), random=False, at_least=4),
    Case("cascade-second", lambda s: _at(_known(m.Cascade, 4)(s), 0.4), _ceil(2), random=False, at_least=2),
    Case("cascade-first", _known(m.Cascade, 4, labels="first"), _ceil(4), "own", random=False, at_least=4),
    Case("gradual", _known(m.GradualCascade, 4), _ceil(4), random=False, at_least=4),
    Case(
        "gradual-later",
        lambda s: _at(_known(m.GradualCascade, 4)(s), 0.4),
        _ceil(3),
        random=False,
        at_least=3,
    ),
    Case(
        "gradual-first",
        lambda s: _at(_known(m.GradualCascade, 4, labels="first")(s), 0.4),
        _ceil(3),
        "own",
        random=False,
        at_least=3,
    ),
    Case("gradual-permute", _known(m.GradualCascade, 4, pairing="permute"), at_least=4),
    Case("gradual-end", lambda s: _at(_known(m.GradualCascade, 4)(s), 0.95), random=False),
    Case("mixup", MIXUP),
    Case("mixup-each", _known(m.Mixup, 0.5, per_sample=True)),
    Case("cutmix", CUTMIX, images=True),
    Case("cutmix-each", _known(m.CutMix, 0.5, per_sample=True), images=True),
    Case("mixup-rotate", _known(m.Mixup, pairing="rotate")),
    Case("mixup-each-rotate", _known(m.Mixup, 0.5, per_sample=True, pairing="rotate")),
    Case("cutmix-rotate", _known(m.CutMix, pairing="rotate"), images=True),
    Case("cutmix-each-rotate", _known(m.CutMix, 0.5, per_sample=True, pairing="rotate"), images=True),
    Case("pairing-rotate", _known(m.SamplePairing, True, pairing="rotate")),
    Case("cutout", _known(m.Cutout), labels="own", images=True),
    Case("pairing", _known(m.SamplePairing), labels="own"),
    Case("pairing-targets", _known(m.SamplePairing, True)),
    Case("pairing-end", lambda s: _at(_known(m.SamplePairing)(s), 0.9), labels="own", random=False),
    Case("choice", _chosen(MIXUP, CUTMIX, p=[0.3, 0.7]), images=True),
    Case("choice-twins", _chosen(MIXUP, MIXUP)),
    Case("probability", _around(m.Probability, MIXUP, p=0.7)),
    Case("until", _around(m.Until, MIXUP, end="80%")),
    Case("from", lambda s: _at(_around(m.Until, MIXUP, end="80%", start="20%")(s), 0.5)),
    Case("until-end", lambda s: _at(_around(m.Until, MIXUP, end="80%")(s), 0.9), random=False),
    Case("manifold", _known(m.ManifoldMixup, layers=("input",), model=Glance()), at_least=2),
    Case("manifold-4", _known(m.ManifoldMixup, layers=("input",), k=4, model=Glance()), at_least=4),
    Case("puzzle", _known(m.PuzzleMix, model=Glance()), images=True),
    Case("puzzle-5", _known(m.PuzzleMix, labels=5, xi=0.05, model=Glance()), images=True),
    Case("chain", _chain(MIXUP, _known(m.SumAugment, 3)), _ceil(3), at_least=3),
    Case("chain-of-three", _chain(MIXUP, CUTMIX, _known(m.SumAugment, 2)), _ceil(2), images=True, at_least=2),
    Case("chain-labels", _chain(_known(m.SamplePairing), _known(m.Cutout)), labels="own", images=True),
    Case("nested", _around(m.Until, _chosen(_around(m.Probability, MIXUP), CUTMIX)), images=True),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test over the registry: ``case`` is any, ``random_case`` draws, ``class_case`` is one a class."""
    classes = {type(c.make(0)): c for c in reversed(CASES)}
    lists = {
        "case": CASES,
        "random_case": [c for c in CASES if c.random],
        "class_case": [c for c in CASES if c in classes.values()],
    }
    for name, cases in lists.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, cases, ids=lambda c: c.name)


@pytest.fixture
def all_cases() -> list[Case]:
    """The whole registry at once."""
    return CASES
