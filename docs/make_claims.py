"""Write ``docs/claims.md``: every claim of the sources, their number and ours. ``python docs/make_claims.py``."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from lessonplan.lab.recipe import Claim, Recipe, Table, Trend, all_recipes

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "results"
VERDICTS = ("held", "did not hold", "undecided", "not comparable", "not measured")
HEAD = """# What became of the sources' claims

Made by `python docs/make_claims.py` from the recipes, from [`results/`](../results) and from
[`claims-by-hand.yaml`](claims-by-hand.yaml); a test compares them. *Theirs* are the source's numbers for the two
sides of a claim, in the first column of its tables that has both (in the unit of the table); of a claim that
compares two parts, its difference in each. *Ours* is the difference in our own, smaller experiment: the method
minus the other, its 95% interval over seeds and the p-value corrected (Holm) for the claims of the part. **No
number of ours was measured with the source's data, network and length**: a verdict says what became of the claim
at the scale of the linked page, not whether the source's numbers are right.

- *held*, *did not hold*: decided by the interval and the corrected p-value
- *undecided*: the interval contains 0, or the corrected p-value is not below .05
- *not comparable*: ours is another quantity
- *not measured*: no stored run says anything
"""

BY_HAND = """A person's verdicts on the numbers that stand beside them. A search has one table and no interval:
there *held* says that the claim is true of most of its epochs.
"""


def rows_of(recipe: Recipe) -> list[list[str]]:
    """The rows of a recipe: a claim in each part that was run, or once where none was, then those of all parts."""
    parts = sorted((RESULTS / recipe.name).glob("**/source.json"))
    parts = [file for file in parts if json.loads(file.read_text())["title"] == recipe.title]
    found = []
    for claim in [c for c in recipe.claims if not c.text.startswith("Ours")]:
        judged = [(file, _judged(file, claim)) for file in parts]
        for file, verdict in [(file, said) for file, said in judged if said is not None] or [(None, None)]:
            found.append(_row(recipe, claim, file, verdict))
    return found + [_trend_row(recipe, trend) for trend in recipe.trends if not trend.text.startswith("Ours")]


def _judged(file: Path, claim: Claim) -> dict[str, str] | None:
    """What the part says of a claim; nothing where its methods did not take part."""
    said = next((c for c in json.loads(file.read_text())["claims"] if c["text"] == claim.text), None)
    return None if said is None or "did not take part" in said["detail"] else said


def _row(recipe: Recipe, claim: Claim, file: Path | None, said: dict[str, str] | None) -> list[str]:
    theirs = _theirs(recipe, claim, file.parent.name if file is not None else None)
    if file is None or said is None:
        return [recipe.name, claim.text, theirs, "", "not measured", ""]
    part = "" if file.parent.name == recipe.name else f", {file.parent.name}"
    return [f"{recipe.name}{part}", claim.text, theirs, *_said(said["detail"], said["verdict"], file.parent)]


def _trend_row(recipe: Recipe, trend: Trend) -> list[str]:
    """A claim about how two parts differ: stored as a sentence of the recipe's overview."""
    overview = RESULTS / recipe.name / "overview.json"
    sentences = json.loads(overview.read_text())["claims"] if overview.exists() else []
    found = [re.fullmatch(rf"([a-z ]+): {re.escape(trend.text)} \[(.*)\]", sentence) for sentence in sentences]
    verdict, detail = next(((m[1], m[2]) for m in found if m), ("not measured", ""))
    theirs = [_margin(recipe, trend, part) for part in (trend.part, trend.than_part)]
    told = "" if None in theirs else f"{theirs[0]:+.3f} against {theirs[1]:+.3f}"
    return [recipe.name, trend.text, told, *_said(detail, verdict, overview.parent)]


def _margin(recipe: Recipe, trend: Trend, part: str) -> float | None:
    """The source's difference between the two methods in a part."""
    for table in recipe.tables:
        for column in _columns(table, trend) if table.part == part else []:
            pair = [_cell(table, name, column) for name in (trend.method, trend.than)]
            if None not in pair:
                return pair[0] - pair[1]
    return None


def _said(detail: str, verdict: str, folder: Path) -> list[str]:
    """Ours, the verdict and the page, where something was measured."""
    if not detail or detail.startswith(("no results of", "too few finished runs")):
        return ["", "not measured", ""]
    link = f"[page](../{quote(folder.relative_to(DOCS.parent).as_posix())}/index.html)"
    return [detail, verdict, link]


def _theirs(recipe: Recipe, claim: Claim, part: str | None) -> str:
    """The source's numbers for both sides, from the first of its tables and columns that has them."""
    for table in recipe.tables:
        if part is not None and table.part not in (None, part, part.partition(",")[0]):
            continue
        if table.part is not None and not fnmatchcase(table.part, claim.parts):
            continue
        for column in _columns(table, claim):
            pair = [_cell(table, name, column) for name in (claim.method, claim.than)]
            if claim.method != claim.than and None not in pair:
                return f"{pair[0]:g} against {pair[1]:g} ({table.columns[column]})"
    return ""


def _columns(table: Table, claim: Claim | Trend) -> list[int]:
    measures: list[str | None] = list(table.measures) or [f"test_{table.measure}"] * (len(table.columns) - 1)
    # a gap is how far a ratio is from 1, and sources print the ratio
    same = {claim.measure, claim.measure.replace("accuracy", "error"), claim.measure.replace("_gap", "_ratio")}
    return [i + 1 for i, measure in enumerate(measures) if measure in same]


def _cell(table: Table, method: str, column: int) -> float | None:
    for row, name in zip(table.rows, table.methods, strict=False):
        if name == method and isinstance(row[column], (int, float)):
            return float(row[column] or 0)
    return None


def by_hand() -> list[list[str]]:
    """The rows that a person keeps."""
    kept: list[dict[str, Any]] = yaml.safe_load((DOCS / "claims-by-hand.yaml").read_text())
    for row in kept:
        assert row["verdict"] in VERDICTS, row
    return [
        [
            row["source"], row["claim"], row.get("theirs", ""), row.get("ours", ""), row["verdict"],
            f"[page](../{row['page']})" if "page" in row else "",
        ]
        for row in kept
    ]  # fmt: skip


def claims_page() -> str:
    """The whole page."""
    text = HEAD
    recipes = all_recipes()
    for title, prefix in (("The thesis", "thesis"), ("The lecture", "lecture"), ("ASSIST", "assist")):
        rows = [row for recipe in recipes if recipe.name.startswith(prefix) for row in rows_of(recipe)]
        text += f"\n## {title}\n\n{_table('recipe, part', rows)}"
    text += f"\n## Claims that no recipe judges\n\n{BY_HAND}\n{_table('source', by_hand())}"
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    counts = {verdict: sum(f"| {verdict} |" in line for line in rows) for verdict in VERDICTS}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return text + f"\nRows by verdict: {told}.\n"


def _table(first: str, rows: list[list[str]]) -> str:
    lines = [f"| {first} | claim | theirs | ours | verdict | page |", "|---|---|---|---|---|---|"]
    cells = ([re.sub(r"\s+", " ", cell.replace("|", "/")) for cell in row] for row in rows)
    lines += [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (DOCS / "claims.md").write_text(claims_page())
