"""What an epochwise and a batchwise selection have in common: filters and selectors, and options in words."""

from __future__ import annotations

import inspect
import typing
from typing import Any, ClassVar

from lessonplan.parts.state import Stateful
from lessonplan.select.asking import Scoring
from lessonplan.select.base import Part
from lessonplan.select.selection import Selection


class Stage(Stateful):
    """A moment at which samples are selected.

    Its options are the arguments of the constructor but ``selection`` and ``scoring``, each kept under its name.

    Args:
        selection: filters and selectors.
        scoring: how samples are scored.
    """

    name: ClassVar[str]
    STATE: ClassVar[tuple[str, ...]] = ("selection",)

    def __init__(self, selection: Selection | Part, scoring: Scoring | None = None) -> None:
        self.selection, self.scoring = Selection.of(selection), scoring or Scoring()

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The options and what they are if not given."""
        parameters = inspect.signature(cls).parameters.values()
        return {p.name: p.default for p in parameters if p.name not in ("selection", "scoring")}

    @classmethod
    def annotations(cls) -> dict[str, Any]:
        """The options and what they may be."""
        hints = typing.get_type_hints(cls.__init__)
        return {name: hints[name] for name in cls.defaults()}

    def config(self) -> dict[str, Any]:
        """The selection, the options and the scoring as plain data."""
        options = {name: getattr(self, name) for name in self.defaults()}
        # what came later is told where it is not the default: older runs lack it
        scoring = {k: v for k, v in vars(self.scoring).items() if (k, v) != ("statistics", "restore")}
        return {"selection": self.selection.config(), **options, "scoring": scoring}

    def __str__(self) -> str:
        """What selects and when, as it is written, without the options that have their defaults."""
        words = [
            f"{key}={value}"
            for key, default in self.defaults().items()
            if (value := getattr(self, key)) != default
        ]
        if self.selection.fill != "none":
            words.append(f"fill={self.selection.fill}")
        follows = self.scoring.statistics == "follow"
        usual = vars(Scoring(statistics=self.scoring.statistics))
        words += [f"{key}={value}" for key, value in vars(self.scoring).items() if value != usual[key]]
        words += ["statistics=follow"] * follows
        when = f"{self.name}:{','.join(words)}" if words else self.name
        return f"{self.selection} >> {when}"
