"""``reproduce``: run a recipe, put its numbers beside the source's, and say which claims held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from typing import Any

from lessonplan.errors import ConfigError, visible
from lessonplan.evaluation import Evaluation
from lessonplan.files import write_json
from lessonplan.lab.claims import Judged, across_parts, judge, judge_trends
from lessonplan.lab.comparable import counted_classes, counted_images
from lessonplan.lab.comparison import compare
from lessonplan.lab.datasets import KNOWN, missing
from lessonplan.lab.figures import write_figures
from lessonplan.lab.ordering.recipe import SearchOutcome, reproduce_ordering, search_recipes
from lessonplan.lab.recipe import Part, Recipe, Scale, find_recipe
from lessonplan.lab.source_tables import tables_of_part
from lessonplan.progress import Line
from lessonplan.report import write_comparison, write_overview
from lessonplan.report.formatting import shown
from lessonplan.report.terminal import print_source, print_table
from lessonplan.stored import read_json
from lessonplan.stores import in_place


@dataclass
class Outcome:
    """What a recipe gave.

    Attributes:
        recipe: what was run.
        results: for each of its comparisons what ``results.json`` holds.
        sources: for each of them the source's tables and what became of its claims.
        overview: sentences over all its comparisons; none if there is only one.
    """

    recipe: Recipe
    results: dict[str, dict[str, Any]]
    sources: dict[str, dict[str, Any]]
    overview: list[str] = field(default_factory=list)

    @property
    def failures(self) -> int:
        """Number of runs that failed."""
        return sum(len(results["failures"]) for results in self.results.values())

    def to_json(self) -> dict[str, Any]:
        """What it gave as plain data."""
        return {"results": self.results, "sources": self.sources, "overview": self.overview}

    def show(self) -> None:
        """Print tables and claims, then those of all parts together."""
        for name, results in self.results.items():
            print_table(results)
            print_source(self.sources[name])
        for sentence in self.overview:
            print(visible(sentence))


@in_place
def reproduce(
    name: str,
    scale: Scale = "smoke",
    *,
    out: str | Path,
    data: str | None = None,
    seeds: int | Sequence[int] | None = None,
    budget: str | None = None,
    jobs: int | None = None,
    only: str | None = None,
    model: str | None = None,
    weights: str | None = None,
    ood: str | None = None,
) -> Outcome | SearchOutcome:
    """Run a recipe; called again it goes on where it stopped.

    Args:
        name: of the recipe, see ``lessonplan recipes``.
        scale: ``"smoke"`` (seconds), ``"cpu"`` (at most 30 minutes on 2 cores), ``"gpu"`` (at most 25 minutes
            on one data-centre GPU) or ``"paper"`` (the source's settings).
        out: folder, or a URL that fsspec opens; a recipe with one comparison fills it as ``compare`` does,
            others have a folder for each.
        data: where the recipe's data set lies.
        seeds: how many or which, instead of the recipe's.
        budget: instead of the recipe's.
        jobs: runs at a time.
        only: the comparisons to do, as a glob over their names (``"batch 1*"``); all if not given.
        model: network instead of the recipe's.
        weights: where the network's weights come from, instead of the recipe's: see the setting.
        ood: other data that networks are to tell from their own, separated by commas, instead of the recipe's.

    Raises:
        ConfigError: recipe, scale or part are unknown, the parts need several data sets, name several networks
            that one should take the place of, or look at no other data.
        DataError: the data set was not named or cannot be read.
    """
    if name in search_recipes():
        refused = [
            flag
            for flag, value in (
                ("seeds", seeds),
                ("budget", budget),
                ("only", only),
                ("model", model),
                ("weights", weights),
                ("ood", ood),
            )
            if value is not None
        ]
        if refused:
            raise ConfigError(f"{name} is a search, which takes no {' and no '.join(refused)}: leave that out")
        return reproduce_ordering(name, scale, out=out, data=data, jobs=jobs)
    recipe = find_recipe(name)
    if scale not in recipe.scales:
        raise ConfigError(f"{name} has no scale {scale!r}: give one of {', '.join(recipe.scales)}")
    parts, root = recipe.scales[scale], Path(out)
    chosen = _chosen(recipe, scale, only)
    _check_data(recipe, chosen, scale, data)
    _check_network(recipe, chosen, scale, model, weights)
    if ood is not None and not ood.strip(" ,"):
        raise ConfigError(f"ood={ood!r} names no data: give for example noise,digits, or leave it out")
    if ood is not None and not any(part.evaluate is not None and part.evaluate.ood for part in chosen.values()):
        raise ConfigError(
            f"ood={ood!r}: no part of {name} at scale {scale} that was chosen tells other data from its own: leave"
            " it out"
        )
    outcome = Outcome(recipe, {}, {})
    with Line(shown(name), total=len(chosen), unit="parts", quiet=len(chosen) == 1) as line:
        for part_name, part in chosen.items():
            line.update(what=shown(part_name))
            folder = root if len(parts) == 1 else root / part_name
            settings = part.settings if weights is None else {**part.settings, "weights": weights}
            changes = {
                "seeds": seeds,
                "budget": budget,
                "data": data or part.data,
                "model": model,
                "settings": settings,
            }
            brought = part.data
            part = part.model_copy(update={k: v for k, v in changes.items() if v is not None})
            part = _with_other_data(part, ood)
            title = recipe.title if len(parts) == 1 else f"{recipe.title}: {part_name}"
            results = _compare(recipe, part, folder, f"{title} ({name}, scale {scale})", jobs)
            source = beside_source(recipe, part_name, scale, part.model_copy(update={"data": brought}), results)
            write_json(folder / "source.json", source)
            write_figures(folder, recipe, part, results)
            write_comparison(folder)
            outcome.results[part_name], outcome.sources[part_name] = results, source
            line.update(advance=1)
    if len(parts) > 1:
        outcome.overview = _over_parts(root, recipe, scale)
    return outcome


def _chosen(recipe: Recipe, scale: Scale, only: str | None) -> dict[str, Part]:
    parts = recipe.scales[scale]
    chosen = {name: part for name, part in parts.items() if only is None or fnmatchcase(name, only)}
    if not chosen:
        raise ConfigError(
            f"no part of {recipe.name} at scale {scale} is called {only!r}: give a name or a pattern with * for"
            f" some of: {'; '.join(parts)}"
        )
    return chosen


def _check_data(recipe: Recipe, parts: Mapping[str, Part], scale: Scale, data: str | None) -> None:
    """See that the data the user is to name were named, one set at a time."""
    needed: dict[str, list[str]] = {}
    for name, part in parts.items():
        key = part.needs or recipe.needs
        if part.data is None and key is not None:
            needed.setdefault(key, []).append(name)
    if needed and data is None:
        raise missing(next(iter(needed)), recipe.name, scale)
    if len(needed) > 1:
        titles = " and ".join(KNOWN[key].title for key in needed)
        ways = " or ".join(f"--only '{_pattern(names, parts)}'" for names in needed.values())
        raise ConfigError(
            f"the parts of {recipe.name} at scale {scale} need {titles}, and one --data was given: choose parts of"
            f" one data set with {ways}"
        )


def _pattern(names: Sequence[str], parts: Iterable[str]) -> str:
    """What chooses these parts and no other, or the first of them."""
    first, last = min(names), max(names)
    common = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    pattern = "".join(letter for letter, _ in common) + "*" if len(names) > 1 else first
    return pattern if [name for name in parts if fnmatchcase(name, pattern)] == list(names) else names[0]


def _with_other_data(part: Part, ood: str | None) -> Part:
    """The part with other data to be told from its own."""
    if ood is None or part.evaluate is None or not part.evaluate.ood:
        return part
    return part.model_copy(update={"evaluate": Evaluation.make(**{**part.evaluate.model_dump(), "ood": ood})})


def _check_network(
    recipe: Recipe, parts: Mapping[str, Part], scale: Scale, model: str | None, weights: str | None
) -> None:
    """See that one network, or its weights, are not given to parts that are about several."""
    networks = list(dict.fromkeys(part.model for part in parts.values()))
    if len(networks) > 1 and (model is not None or weights is not None):
        flag = "model" if model is not None else "weights"
        raise ConfigError(
            f"the parts of {recipe.name} at scale {scale} compare networks ({', '.join(networks)}), and one {flag}"
            " was given: choose parts of one network with only (--only)"
        )


def _compare(recipe: Recipe, part: Part, folder: Path, title: str, jobs: int | None) -> dict[str, Any]:
    methods = {**recipe.methods, **part.instead}
    return compare(
        {name: methods[name] for name in part.methods or methods},
        part.data,
        out=folder,
        model=part.model,
        seeds=part.seeds,
        budget=part.budget,
        reference=recipe.reference,
        title=title,
        jobs=jobs,
        settings=part.settings,
        evaluation=part.evaluate,
        **part.data_options,
    )


def beside_source(recipe: Recipe, name: str, scale: Scale, part: Part, results: dict[str, Any]) -> dict[str, Any]:
    """The source's numbers, and each claim with its verdict.

    Args:
        recipe: what was run.
        name: of its part.
        scale: of the part.
        part: as it ran, its data those that the recipe brings.
        results: what its ``results.json`` holds.
    """
    given = results["config"]["data"]
    ran = recipe.ran(part, given, counted_images(results), counted_classes(results))
    return {
        "title": recipe.title,
        "citation": recipe.citation,
        "scale": scale,
        "notes": recipe.notes,
        "tables": tables_of_part(recipe.tables, name, ran, results),
        "claims": judge([claim for claim in recipe.claims if fnmatchcase(name, claim.parts)], results),
    }


def _over_parts(root: Path, recipe: Recipe, scale: Scale) -> list[str]:
    """Write the page over all parts that have been run, now or earlier; what became of the claims in them."""
    claims: dict[str, list[Judged]] = {}
    results: dict[str, dict[str, Any]] = {}
    for name in recipe.scales[scale]:
        file = root / name / "source.json"
        source = read_json(file) if file.exists() else {}
        if source.get("scale") == scale:
            claims[name] = source["claims"]
            results[name] = read_json(root / name / "results.json")
    sentences = across_parts(claims)
    trends = judge_trends(recipe.trends, results)
    sentences += [f"{trend['verdict']}: {trend['text']} [{trend['detail']}]" for trend in trends]
    title = f"{recipe.title} ({recipe.name}, scale {scale})"
    gains = [figure.model_dump() for figure in recipe.gains]
    write_json(
        root / "overview.json", {"title": title, "parts": list(results), "claims": sentences, "gains": gains}
    )
    write_overview(root)
    return sentences
