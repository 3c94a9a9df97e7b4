"""``reproduce``: run a recipe, put its numbers beside the source's, and say which claims held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lessonplan.errors import ConfigError
from lessonplan.lab.comparison import compare
from lessonplan.lab.datasets import missing
from lessonplan.lab.figures import write_figures
from lessonplan.lab.recipe import Claim, Part, Recipe, Scale, Table, find_recipe
from lessonplan.lab.statistics import Difference, compare_paired, correct_together
from lessonplan.report import write_comparison, write_overview
from lessonplan.report.terminal import print_source, print_table
from lessonplan.train.files import write_json


@dataclass
class Outcome:
    """What a recipe gave.

    Attributes:
        recipe: what was run.
        results: for each of its comparisons what ``results.json`` holds.
        sources: for each of them the source's tables and what became of its claims.
    """

    recipe: Recipe
    results: dict[str, dict[str, Any]]
    sources: dict[str, dict[str, Any]]

    @property
    def failures(self) -> int:
        """Number of runs that failed."""
        return sum(len(results["failures"]) for results in self.results.values())

    def show(self) -> None:
        """Print tables and claims."""
        for name, results in self.results.items():
            print_table(results)
            print_source(self.sources[name])


def reproduce(
    name: str,
    scale: Scale = "smoke",
    *,
    out: str | Path,
    data: str | None = None,
    seeds: int | Sequence[int] | None = None,
    budget: str | None = None,
    jobs: int | None = None,
) -> Outcome:
    """Run a recipe; called again it goes on where it stopped.

    Args:
        name: of the recipe, see ``lessonplan recipes``.
        scale: ``"smoke"`` (seconds), ``"cpu"`` (at most 30 minutes on 2 cores), ``"gpu"`` (at most 25 minutes
            on one data-centre GPU) or ``"paper"`` (the source's settings).
        out: folder; a recipe with one comparison fills it as ``compare`` does, others have a folder for each.
        data: where the recipe's data set lies.
        seeds: how many or which, instead of the recipe's.
        budget: instead of the recipe's.
        jobs: runs at a time.

    Raises:
        ConfigError: recipe or scale are unknown. DataError: the data set was not named or cannot be read.
    """
    recipe = find_recipe(name)
    if scale not in recipe.scales:
        raise ConfigError(f"{name} has no scale {scale!r}: give one of {', '.join(recipe.scales)}")
    parts = recipe.scales[scale]
    root = Path(out)
    outcome = Outcome(recipe, {}, {})
    for part_name, part in parts.items():
        folder = root if len(parts) == 1 else root / part_name
        changes = {"seeds": seeds, "budget": budget, "data": data or part.data}
        part = part.model_copy(update={k: v for k, v in changes.items() if v is not None})
        if part.data is None:
            raise missing(recipe.needs, name, scale)
        title = recipe.title if len(parts) == 1 else f"{recipe.title}: {part_name}"
        results = _compare(recipe, part, folder, f"{title} ({name}, scale {scale})", jobs)
        source = _beside_source(recipe, results)
        write_json(folder / "source.json", source)
        write_figures(folder, recipe, part, results)
        write_comparison(folder)
        outcome.results[part_name], outcome.sources[part_name] = results, source
    if len(parts) > 1:
        title = f"{recipe.title} ({name}, scale {scale})"
        write_json(root / "overview.json", {"title": title, "parts": list(parts)})
        write_overview(root)
    return outcome


def _compare(recipe: Recipe, part: Part, folder: Path, title: str, jobs: int | None) -> dict[str, Any]:
    names = part.methods or list(recipe.methods)
    return compare(
        {name: recipe.methods[name] for name in names},
        part.data,
        out=folder,
        model=part.model,
        seeds=part.seeds,
        budget=part.budget,
        reference=recipe.reference,
        title=title,
        jobs=jobs,
        settings=part.settings,
        **part.data_options,
    )


def _beside_source(recipe: Recipe, results: dict[str, Any]) -> dict[str, Any]:
    """The source's numbers, and each claim with its verdict."""
    return {
        "title": recipe.title,
        "citation": recipe.citation,
        "notes": recipe.notes,
        "tables": [_with_ours(table, results) for table in recipe.tables],
        "claims": judge(recipe.claims, results),
    }


def _with_ours(table: Table, results: dict[str, Any]) -> dict[str, Any]:
    """A table of the source with our mean and interval at each row's end."""
    ours = {method["name"]: method for method in results["methods"]}
    rows = []
    for row, name in zip(table.rows, [*table.methods, *[None] * len(table.rows)], strict=False):
        method = ours.get(name) if name is not None else None
        rows.append([*row, _our_cell(method, table.measure)])
    model = results["config"]["model"]
    return {"title": table.title, "columns": [*table.columns, f"ours: {table.measure} %, {model}"], "rows": rows}


def _our_cell(method: dict[str, Any] | None, measure: str) -> str | None:
    if method is None or method["mean"] is None:
        return None
    mean, interval = 100 * method["mean"], method["ci_t"]
    bounds = [100 * bound for bound in interval] if interval is not None else None
    if measure == "error":
        mean, bounds = 100 - mean, [100 - b for b in reversed(bounds)] if bounds is not None else None
    return f"{mean:.2f}" if bounds is None else f"{mean:.2f} ({bounds[0]:.2f} to {bounds[1]:.2f})"


def judge(claims: Sequence[Claim], results: dict[str, Any]) -> list[dict[str, str]]:
    """Whether each claim held in our runs: held, did not hold, or undecided, with the interval.

    The p-values are corrected for the number of claims (Holm), and no claim is decided whose interval
    contains 0.
    """
    found = {claim.text: _claimed_difference(claim, results) for claim in claims}
    decided = correct_together({text: d for text, d in found.items() if d is not None}, results["level"])
    return [{"text": claim.text, **_verdict(claim, decided.get(claim.text), results)} for claim in claims]


def _claimed_difference(claim: Claim, results: dict[str, Any]) -> Difference | None:
    scores = {
        method["name"]: {
            run["seed"]: run[claim.measure] for run in method["runs"] if run.get(claim.measure) is not None
        }
        for method in results["methods"]
    }
    if claim.method not in scores or claim.than not in scores:
        return None
    return compare_paired(scores[claim.than], {claim.method: scores[claim.method]}, results["level"])[claim.method]


def _verdict(claim: Claim, difference: Difference | None, results: dict[str, Any]) -> dict[str, str]:
    if difference is None or difference.ci_t is None:
        names = {method["name"] for method in results["methods"]}
        absent = [name for name in (claim.method, claim.than) if name not in names]
        reason = f"{' and '.join(absent)} did not take part at this scale" if absent else "too few finished runs"
        return {"verdict": "undecided", "detail": reason}
    scale, unit = (100, " points") if claim.measure == "test_accuracy" else (1, "")
    low, high = (scale * bound for bound in difference.ci_t)
    return {
        "verdict": {"better": "held", "worse": "did not hold", "undecided": "undecided"}[difference.verdict],
        "detail": (
            f"{claim.method} minus {claim.than}: {scale * difference.mean:+.2f}{unit}"
            f" ({low:+.2f} to {high:+.2f}), Holm p {difference.p_holm:.3g}, {difference.n} seeds"
        ),
    }
