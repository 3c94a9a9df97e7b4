"""How far a comparison, a search or a tuning is: a line in a terminal, nothing anywhere else."""

from __future__ import annotations

from collections.abc import Callable

from lessonplan.progress import HasLine, Line
from lessonplan.report.formatting import shown


class RunCounter(HasLine):
    """Counts finished runs, and keeps the best one in sight.

    Args:
        total: number of runs; None where it is not known.
        done: how many were finished before.
        unit: what they are.
        measure: what ``finished`` is told of them; the larger the better.
        text: such a value as it is read.
    """

    def __init__(
        self,
        total: int | None,
        done: int = 0,
        unit: str = "runs",
        measure: str = "val accuracy",
        text: Callable[[float], str] = "{:.3f}".format,
    ) -> None:
        super().__init__(Line(unit, total=total, done=done, unit=unit))
        self._measure, self._text = measure, text
        self._best: float | None = None

    def finished(self, label: str, error: str | None, value: float | None = None) -> None:
        """A run is over; ``value`` is what was measured of it, if anything."""
        best = self.judged(label, value)
        label = shown(label)
        self.line.update(advance=1, what=f"{label}: failed" if error else label, best=best)

    def known(self, label: str, value: float | None) -> None:
        """What was measured of a run that was over before, if anything."""
        self.line.update(best=self.judged(label, value))

    def judged(self, label: str, value: float | None) -> str | None:
        """The best run so far in words, if this is it."""
        if value is None or (self._best is not None and value <= self._best):
            return None
        self._best = value
        return f"best {self._measure} {self._text(value)} ({shown(label)})"
