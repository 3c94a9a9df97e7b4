"""Filters and selectors joined: ``AccuracyFilter() >> TopK(0.5)``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lessonplan.errors import ConfigError
from lessonplan.parts.part import Occasion
from lessonplan.parts.state import Stateful
from lessonplan.select.base import Filter, Needs, Part, Scored, Selector

Fill = Literal["none", "random"]


@dataclass
class Chosen:
    """What a selection keeps.

    Attributes:
        positions: ``(n,)`` int64 among the candidates, on the CPU; repeats where it draws with replacement.
        weights: ``(n,)`` float32 factors of the losses on the CPU, or None for ones.
    """

    positions: Tensor
    weights: Tensor | None = None


class Selection(Stateful):
    """Filters, then selectors, each working on what the one before it left.

    Args:
        parts: filters first; a selector sees only what they keep.
        fill: "random" tops up from the rest, at random, where fewer are left than the last selector's whole
            number asks for (ASSIST section 3.2.1); "none" takes fewer.

    Raises:
        ConfigError: there are no parts, a filter stands behind a selector, or there is nothing to fill up to.
    """

    STATE: ClassVar[tuple[str, ...]] = ("parts",)

    def __init__(self, parts: Iterable[Part], fill: Fill = "none") -> None:
        self.parts, self.fill = list(parts), fill
        self.filters = [part for part in self.parts if isinstance(part, Filter)]
        self.selectors = [part for part in self.parts if isinstance(part, Selector)]
        if not self.parts:
            raise ConfigError("a selection of nothing: give a filter or a selector, for example accuracy")
        if self.parts != [*self.filters, *self.selectors]:
            raise ConfigError(
                f"in {self} a filter stands behind a selector: write the filters first, accuracy >> topk:0.5"
            )
        if fill not in ("none", "random"):
            raise ConfigError(f"fill={fill!r}: give 'none' or 'random'")
        if fill == "random" and self.fixed_size is None:
            raise ConfigError("fill='random' needs a number to fill up to: end with a selector such as topk:128")

    @classmethod
    def of(cls, given: Part | Selection) -> Selection:
        """A selection of one part, or the selection itself."""
        return given if isinstance(given, Selection) else cls([given])

    def __rshift__(self, other: Part | Selection) -> Selection:
        """Join with what comes after."""
        after = Selection.of(other)
        fill: Fill = "random" if "random" in (self.fill, after.fill) else "none"
        return Selection([*self.parts, *after.parts], fill=fill)

    def __repr__(self) -> str:
        return " >> ".join(part.text for part in self.parts)

    @property
    def fixed_size(self) -> int | None:
        """How many it takes, where the last selector says so with a whole number."""
        size = self.selectors[-1].size if self.selectors else None
        return size if isinstance(size, int) else None

    @property
    def needs(self) -> Needs:
        """The most that one of the parts needs."""
        needs = {part.needs for part in self.parts}
        return "forward" if "forward" in needs else "history" if "history" in needs else "nothing"

    @property
    def remembers(self) -> bool:
        """Whether a part wants to be told what the network says about samples it is trained on."""
        return any(type(part).observe is not Part.observe for part in self.parts)

    def choose(self, scored: Scored, generator: torch.Generator) -> Chosen:
        """Choose among candidates.

        Args:
            scored: candidates; with logits and losses where ``needs`` says "forward".
            generator: on the CPU.
        """
        scored = scored.on_host()
        kept = self.passing(scored, generator)
        left = scored.rows(kept)
        return self.select(kept, [part.score(left) for part in self.selectors], len(scored), generator)

    def passing(self, scored: Scored, generator: torch.Generator) -> Tensor:
        """Positions ``(m,)`` int64 on the CPU that all filters let pass.

        Raises:
            ConfigError: a filter gives something other than a mask of the candidates.
        """
        kept, scored = torch.arange(len(scored)), scored.on_host()
        for part in self.filters:
            candidates = scored.rows(kept) if len(kept) < len(scored) else scored
            mask = part.mask(candidates, generator)
            if mask.shape != (len(candidates),) or mask.dtype != torch.bool:
                raise ConfigError(
                    f"filter {part.name} gave {mask.dtype} of shape {tuple(mask.shape)} for {len(candidates)}"
                    " samples: it has to give one bool for each"
                )
            kept = kept[mask.cpu()]
        return kept

    def select(self, kept: Tensor, scores: list[Tensor], candidates: int, generator: torch.Generator) -> Chosen:
        """Let the selectors choose.

        Args:
            kept: ``(m,)`` int64, what the filters left, each in [0, ``candidates``).
            scores: for each selector what it chooses by, ``(m,)``.
            candidates: how many there were.
            generator: on the CPU.

        Returns:
            positions among all candidates.
        """
        # None is all of them: of a large set, each copy counts.
        chosen, weights, left = None, None, len(kept)
        for part, given in zip(self.selectors, scores, strict=True):
            if left == 0:
                break
            narrowed = given if chosen is None else given[chosen.to(given.device)]
            if not bool(torch.isfinite(narrowed).all()):
                raise ConfigError(f"selector {part.name} got scores that are NaN or infinite: see the losses")
            picked, factors = part(narrowed, part.number(left), generator)
            picked = picked.cpu()
            chosen = picked if chosen is None else chosen[picked]
            left = len(chosen)
            weights = weights[picked] if weights is not None else None
            if factors is not None:
                factors = factors.float().cpu()
                weights = factors if weights is None else weights * factors
        positions = kept if chosen is None else kept[chosen]
        wanted = self.fixed_size
        if self.fill == "random" and wanted is not None and len(positions) < min(wanted, candidates):
            rest = torch.ones(candidates, dtype=torch.bool)
            rest[positions] = False
            others = rest.nonzero().squeeze(1)
            extra = others[torch.randperm(len(others), generator=generator)[: wanted - len(positions)]]
            positions = torch.cat([positions, extra])
            weights = (
                torch.cat([weights, torch.ones(len(extra), dtype=torch.float32)]) if weights is not None else None
            )
        return Chosen(positions, weights)

    def setup(self, occasion: Occasion) -> None:
        """Tell the parts of the run it is for."""
        for part in self.parts:
            part.setup(occasion)

    def advance(self, progress: float) -> None:
        """Say how much of the run is over."""
        for part in self.parts:
            part.advance(progress)

    def observe(self, scored: Scored) -> None:
        """Say what the network thinks of samples it was trained on."""
        scored = scored.on_host()
        for part in self.parts:
            part.observe(scored)

    def config(self) -> dict[str, Any]:
        """The selection as plain data."""
        return {"parts": [part.config() for part in self.parts], "fill": self.fill}
