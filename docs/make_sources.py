"""What stored comparisons say of their sources, by the recipes as they are now: ``python docs/make_sources.py``.

A recipe's notes and tables change when somebody reads the source once more; what was measured does not. Writes
``source.json`` and the page of every folder of ``results/`` that a recipe made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lessonplan.files import write_json
from lessonplan.lab.recipe import Recipe, all_recipes
from lessonplan.lab.reproduction import beside_source
from lessonplan.report import write_comparison
from lessonplan.stored import read_json

REPLAYS = re.compile(r"Matched-random replays .*? is the choice alone\.")
OLDER = (
    "In these runs matched-random kept as many of each raw batch as the filter would by the control's own network,"
    " at random: more over a run than the filter's run kept."
)
"""In place of a recipe's sentence, where runs were made before the control replayed the filter's record."""
RESULTS = Path(__file__).resolve().parents[1] / "results"


def redraw(folder: Path) -> None:
    """Write the page's part on the source anew; the others stay, since not of all results metrics were kept."""
    page, section = folder / "index.html", re.compile(r'<section id="source">.*?</section>', re.DOTALL)
    before = page.read_text(encoding="utf-8")
    write_comparison(folder)
    (new,) = section.findall(page.read_text(encoding="utf-8"))
    after, count = section.subn(lambda _: new, before)
    assert count == 1, page
    page.write_text(after, encoding="utf-8")


def stored(recipe: Recipe) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each ``source.json`` that the recipe left in the results, and what it would say now."""
    folder = RESULTS / recipe.name
    files = [folder / "source.json"] if (folder / "source.json").exists() else sorted(folder.glob("*/source.json"))
    for file in files:
        scale, results = read_json(file)["scale"], read_json(file.parent / "results.json")
        parts = recipe.scales[scale]
        name = file.parent.name if file.parent != folder else next(iter(parts))
        ran = {key: results["config"][key] for key in ("model", "budget")}
        source = beside_source(recipe, name, scale, parts[name].model_copy(update=ran), results)
        if "of=" not in results["config"]["methods"].get("matched-random", "of="):
            source["notes"] = [REPLAYS.sub(OLDER, note) for note in source["notes"]]
        yield file, source


if __name__ == "__main__":
    for recipe in all_recipes():
        for file, source in stored(recipe):
            write_json(file, source)
            redraw(file.parent)
            print(file.parent.relative_to(RESULTS))
