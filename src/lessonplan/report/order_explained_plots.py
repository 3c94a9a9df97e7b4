"""The figures of what makes an order good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from lessonplan.report.formatting import fixed, listing
from lessonplan.report.palette import INK, LINE, MUTED, PAPER, Style
from lessonplan.report.plots import strip
from lessonplan.report.reading import Json
from lessonplan.report.svg import drawing, new_figure, to_svg

_ROW = 25  # SVG units


def levels_plot(rows: Sequence[Json], looks: Mapping[str, Style]) -> Markup | None:
    """A row a feature: its mean in the best, the middle and the worst tenth.

    Args:
        rows: of ``features`` in ``explanation.json``.
        looks: of ``best``, ``middle`` and ``worst``.
    """
    if not rows:
        return None
    with drawing():
        figure, axes = new_figure(62 + _ROW * len(rows))
        for place, row in enumerate(rows):
            ends = [row[name] for name in looks]
            axes.plot([min(ends), max(ends)], [place, place], color=LINE, linewidth=2.2, zorder=2)
            for name, look in looks.items():
                axes.scatter(
                    [row[name]], [place], s=34, marker=look.marker, color=look.color, edgecolors=PAPER, zorder=4
                )
        axes.axvline(0, color=MUTED, linewidth=1.2, zorder=1)
        axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("standard deviations of the tree")
        said = listing([f"{row['name']} {fixed(row['best'])} and {fixed(row['worst'])}" for row in rows])
        return to_svg(figure, "order-levels", f"Means in the best and in the worst tenth of orders: {said}.")


def contrasts_plot(rows: Sequence[Json], looks: Mapping[str, Style]) -> Markup | None:
    """A row a feature: best minus worst, a dot an epoch, the mean and its interval."""
    said = listing([f"{row['name']} {fixed(row['best_minus_worst']['mean'])}" for row in rows])
    return strip(
        [
            (
                row["name"],
                list(row["by_epoch"].values()),
                row["best_minus_worst"]["mean"],
                row["best_minus_worst"]["ci_t"],
            )
            for row in rows
        ],
        looks,
        name="order-contrasts",
        xlabel="standard deviations of the tree",
        label=f"Best minus worst tenth of orders, mean over epochs: {said}.",
        zero=True,
    )


def foretold_plot(rows: Sequence[Json], looks: Mapping[str, Style]) -> Markup | None:
    """A row for each way to foretell: a dot an epoch, the mean and its interval."""
    said = listing([f"{row['name']} {fixed(row['spearman']['mean'])}" for row in rows])
    return strip(
        [
            (row["name"], list(row["by_epoch"].values()), row["spearman"]["mean"], row["spearman"]["ci_t"])
            for row in rows
        ],
        looks,
        name="order-foretold",
        xlabel="Spearman's correlation",
        label=f"Correlation of foretold and true ranks, mean over epochs: {said}.",
        zero=True,
    )


def epochs_plot(rows: Sequence[Json], looks: Mapping[str, Style]) -> Markup | None:
    """Correlation of foretold and true ranks by epoch."""
    if not rows or max(len(row["by_epoch"]) for row in rows) < 2:
        return None
    with drawing():
        figure, axes = new_figure(250)
        for row in rows:
            look = looks[row["name"]]
            axes.plot(
                [int(epoch) for epoch in row["by_epoch"]], list(row["by_epoch"].values()), color=look.color,
                linestyle=look.linestyle, marker=look.marker, markersize=4,
            )  # fmt: skip
        axes.axhline(0, color=MUTED, linewidth=1.2, zorder=1)
        axes.set_ylim(top=1.05)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("Spearman's correlation")
        said = listing(
            [
                f"{row['name']} {fixed(min(row['by_epoch'].values()))} to {fixed(max(row['by_epoch'].values()))}"
                for row in rows
            ]
        )
        return to_svg(figure, "order-epochs", f"Correlation of foretold and true ranks by epoch: {said}.")
