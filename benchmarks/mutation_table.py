"""What became of the faults that ``mutation.py`` drew, by package."""

from __future__ import annotations

import math

from rich.table import Table

SURVIVED = ("survived", "no test")


def wilson(share: float, count: float) -> tuple[float, float]:
    """The 95% interval of a share of ``count`` draws."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def share_of(groups: list[tuple[int, int, int]]) -> str:
    """The share over packages (all, drawn, survived), each weighted with its number of all; its interval."""
    groups = [group for group in groups if group[1]]
    total = sum(everything for everything, _, _ in groups)
    share = sum(everything / total * survived / drawn for everything, drawn, survived in groups)
    variance = sum(
        (everything / total) ** 2 * (survived / drawn) * (1 - survived / drawn) / drawn
        for everything, drawn, survived in groups
    )
    # of a plain sample whose share varies as much as this one's
    count = share * (1 - share) / variance if variance else sum(drawn for _, drawn, _ in groups)
    low, high = wilson(share, count)
    return f"{share:.1%} ({low:.1%} to {high:.1%})"


def table(rows: list[dict[str, str]], total: dict[str, int]) -> Table:
    """By package: faults in all, drawn, and what became of them at first and with the tests of today."""
    shown = Table(title="Faults that tests notice")
    for column in ("package", "faults", "drawn", "killed", "timed out", "survived", "share", "explained", "left"):
        shown.add_column(column, justify="left" if column == "package" else "right")
    for stage, words in (("first", "before"), ("last", "now")):
        shown.add_section()
        groups, without = [], []
        sums = [0] * 6
        for package, everything in total.items():
            own = [row for row in rows if row["package"] == package and row[stage]]
            fates = [row[stage] for row in own]
            survived = [row for row in own if row[stage] in SURVIVED]
            explained = sum(bool(row["why"]) for row in survived)
            group, rest = (
                (everything, len(own), len(survived)),
                (everything, len(own) - explained, len(survived) - explained),
            )
            groups.append(group)
            without.append(rest)
            counts = [
                everything,
                len(own),
                fates.count("killed"),
                fates.count("timed out"),
                len(survived),
                explained,
            ]
            sums = [a + b for a, b in zip(sums, counts, strict=True)]
            shown.add_row(f"{package}, {words}", *_cells(counts, [group], [rest]))
        shown.add_row(f"all, {words}", *_cells(sums, groups, without))
    return shown


def _cells(
    counts: list[int], groups: list[tuple[int, int, int]], without: list[tuple[int, int, int]]
) -> list[str]:
    return [*map(str, counts[:5]), share_of(groups), str(counts[5]), share_of(without)]
