"""How far an evaluation is: a line in a terminal, nothing anywhere else."""

from __future__ import annotations

from lessonplan.progress import HasLine, Line


class Steps(HasLine):
    """One step after the other, each over sample passes.

    Args:
        quiet: silent in any case, for evaluations inside of comparisons.
    """

    def __init__(self, quiet: bool = False) -> None:
        super().__init__(Line("evaluation", unit="samples", quiet=quiet))

    def begin(self, what: str, total: int) -> None:
        """A step over so many sample passes begins."""
        self.line.begin(what, total)

    def advance(self, count: int) -> None:
        """So many more are done."""
        self.line.update(advance=count)

    def found(self, measures: dict[str, float]) -> None:
        """A part is over: the accuracy that it measured is kept in sight."""
        known = [(name, value) for name, value in measures.items() if "accuracy" in name]
        if known:
            self.line.update(best=f"{known[0][0].replace('_', ' ')} {known[0][1]:.3f}")
