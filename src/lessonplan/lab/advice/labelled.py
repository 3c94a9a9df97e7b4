"""The user's labelled samples: opened once a process, split anew every round, the test part kept for the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lessonplan.data import Data
from lessonplan.data import load as load_data
from lessonplan.data.resplit import Together, all_labelled, held_back, resplit
from lessonplan.network.accelerator import resolve_device
from lessonplan.seeds import fold_seed
from lessonplan.settings import Settings
from lessonplan.train.origin import origin_of

_opened: dict[str, tuple[Any, Data]] = {}
_KEPT = 4  # networks whose weights ask for different inputs


@dataclass(frozen=True)
class Labelled:
    """Where the samples come from, and how they are split.

    A validation part that the set has is kept as it is: every round is judged on it. Without one, a round's
    validation samples are a stratified draw from all labelled ones.

    Args:
        spec: name of a source, or anything ``lessonplan.data.load`` takes.
        options: of ``lessonplan.data.load``.
        fraction: of the labelled samples of a class that a round holds back.
        seed: of the test part and of all splits.
        together: rows that no split takes apart, see ``resplit``: near copies.
    """

    spec: Any
    options: dict[str, Any] = field(default_factory=dict)
    fraction: float = 0.2
    seed: int = 0
    together: Together = ()

    def opened(self, model: str, settings: Settings) -> Data:
        """The samples as the network's weights ask for them; kept in this process."""
        weights = settings.weights
        needs = origin_of(model, weights).needs_for(settings.tune) if weights is not None else None
        device = resolve_device(settings.device)
        spec = self.spec if isinstance(self.spec, str) else f"object {id(self.spec)}"
        key = repr((spec, sorted(self.options.items(), key=str), self.seed, needs, str(device)))
        if key not in _opened:
            while len(_opened) >= _KEPT:
                _opened.pop(next(iter(_opened)))[1].close()
            # The object is held with its data, so that no other one gets its id.
            data = load_data(self.spec, seed=self.seed, device=device, input=needs, **self.options)
            _opened[key] = (self.spec, data)
        return _opened[key][1]

    def of_round(self, data: Data, number: int, *, decides: bool = False) -> Data:
        """What a round trains on, and as its test part what it is judged on, in place of the data's own.

        A plan that decides by validation has a part of the rest for that: what judges it must not help it.
        """
        seed = fold_seed(self.seed, "round", number)
        return held_back(data, self.fraction, seed, decides=decides, together=self.together)

    def whole(self, data: Data, *, decides: bool) -> Data:
        """What is trained on at the end: all labelled samples; a split where the plan decides by validation."""
        if not decides:
            return all_labelled(data)
        if data.val is not None:
            return data
        return resplit(data, self.fraction, fold_seed(self.seed, "end"), keep_test=True, together=self.together)
