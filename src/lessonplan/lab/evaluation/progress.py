"""How far an evaluation is: a line in a terminal, nothing anywhere else."""

from __future__ import annotations

from types import TracebackType

from lessonplan.progress import Line


class Steps:
    """One step after the other, each over sample passes.

    Args:
        quiet: silent in any case, for evaluations inside of comparisons.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._line = Line("evaluation", unit="samples", quiet=quiet)

    def __enter__(self) -> Steps:
        self._line.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.stop()

    def begin(self, what: str, total: int) -> None:
        """A step over so many sample passes begins."""
        self._line.begin(what, total)

    def advance(self, count: int) -> None:
        """So many more are done."""
        self._line.update(advance=count)

    def found(self, measures: dict[str, float]) -> None:
        """A part is over: the accuracy that it measured is kept in sight."""
        known = [(name, value) for name, value in measures.items() if "accuracy" in name]
        if known:
            self._line.update(best=f"{known[0][0].replace('_', ' ')} {known[0][1]:.3f}")
