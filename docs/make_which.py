"""Write ``docs/which.md``, what was better where, and README's table of it: ``python docs/make_which.py``."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "results"
# what a set is called in the results, and what kind of data that is; a new set is named here
KINDS = {
    "parquet:cifar10": ("photographs of 32 x 32 pixels", "CIFAR-10"),
    "npz:cifar10-2000.npz": ("photographs of 32 x 32 pixels", "CIFAR-10"),
    "folder:clothing": ("photographs", "clothes"),
    "idx:mnist-t10k": ("handwritten digits", "MNIST"),
    "digits": ("handwritten digits of 8 x 8 pixels", "scikit-learn's digits"),
    "npz:digits-400.npz": ("handwritten digits of 8 x 8 pixels", "scikit-learn's digits"),
    "wav:fsdd/recordings.zip": ("recordings of spoken words", "Free Spoken Digits"),
    "table:iris": ("a table", "iris"),
    "table:wine": ("a table", "wine"),
    "table:breast-cancer": ("a table", "breast cancer"),
    "table:moons": ("points on a plane", "two moons"),
}
PLAIN = ("erm", "plain")
VERDICTS = ("better", "worse", "undecided")
HEAD = """# Which should I try?

Made by `python docs/make_which.py` from [`results/`](../results); a test compares them. Every row is one
comparison that was made: methods against plain training, `erm` or `plain` (below also against another one, where a
row says so), with the same budget for each, paired by seed. Numbers are points of test accuracy with their 95%
interval; *better* and *worse* are decided after correction for all methods of the comparison, *undecided* is
neither ([what the words mean](reading.md)).

Find the row that is most like your data: the kind of data, the labels a class, weights from scratch or pretrained.
Then try what was better there, beside plain training, on your own data: these are small experiments, and other
data, networks and budgets may answer otherwise. [`lessonplan advise`](advise.md) asks your data. A method may be
better with one budget and worse with another; the sections below say with which. "1 of 2" is the number of
experiments in which that was decided, of those that had the method; comparisons that share runs count once.
What a name stands for is told [at the end](#the-methods-names); where two experiments had other plans under one
name, both are there.
"""

# what the README shows: the comparison, a method of it, and both in words
IN_README = (
    (
        "thesis-3.1-five-seeds",
        "cascade-4",
        "CIFAR-10, 100 a class",
        "[cascade](docs/methods/cascade.md) from 4 images",
    ),
    ("thesis-3.1-five-seeds", "mixup", "the same", "[mixup](docs/methods/mixup.md), clean for the last fifth"),
    (
        "lecture-puzzle/equal updates",
        "manifold",
        "the same, 1,000 updates",
        "[manifold mixup](docs/methods/manifold-mixup.md)",
    ),
    ("lecture-corruption/20% noise", "mixup-8", "the same, 20% of the labels wrong", "mixup, alpha 8"),
    (
        "thesis-2.4/equal compute",
        "mld-8",
        "CIFAR-10, 200 a class",
        "[look-ahead](docs/methods/loss-delta.md), K = 8",
    ),
    (
        "assist-4.6/batch 128",
        "batchwise",
        "CIFAR-10, 100 a class",
        "[accuracy filter](docs/methods/accuracy-filter.md)",
    ),
    ("selections-digits", "infobatch", "digits, 40 a class", "[InfoBatch](docs/methods/infobatch.md)"),
    ("pretrained-few-labels/probe 20", "mixup", "photographs, 20 a class, pretrained head", "mixup of features"),
    ("tables/wine", "mixup", "a table (wine), 20 a class", "mixup of rows"),
)
README = DOCS.parent / "README.md"
MARKS = ("<!-- made by docs/make_which.py -->\n", "<!-- until here -->\n")


@dataclass(frozen=True)
class Comparison:
    """What one ``results.json`` says.

    Attributes:
        name: its folder, from ``results/`` on.
        told: what is in the file.
    """

    name: str
    told: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """What was run."""
        found: dict[str, Any] = self.told["config"]
        return found

    @property
    def kind(self) -> str:
        """The kind of data."""
        return KINDS[self.config["data"]][0]

    @property
    def labels(self) -> str:
        """Labels a class, or all training samples where classes were not cut; how many are wrong on purpose."""
        options = self.config.get("data_options", {})
        noise = options.get("label_noise")
        run = self.told["methods"][0]["runs"][0]
        count = f"{run['raw_samples'] / run['epochs']:,.0f} samples in all"
        if "per_class" in options:
            count = f"{options['per_class']} labels a class"
        if "classes" in options:
            count += f", {run['classes']} of the classes"
        return count + (f", {noise:.0%} of them replaced" if noise else "")

    @property
    def weights(self) -> str:
        """Where the network's weights come from."""
        settings = self.config.get("settings", {})
        return "pretrained" if settings.get("weights") else "from scratch"

    @property
    def situation(self) -> tuple[str, str, str]:
        """What a reader compares with their own: the kind of data, the labels, the weights."""
        kind, name = KINDS[self.config["data"]]
        return f"{kind} ({name})", self.labels, self.weights

    @property
    def seeds(self) -> int:
        """How many runs of each method."""
        return len(self.config["seeds"])

    @property
    def sort_key(self) -> tuple[Any, ...]:
        """Kinds in the order of the table above, then few labels first."""
        per_class = self.config.get("data_options", {}).get("per_class")
        place = list(KINDS).index(self.config["data"])
        return (place, self.weights, per_class if per_class is not None else float("inf"), self.labels, self.name)

    def by_verdict(self) -> dict[str, list[dict[str, Any]]]:
        """The methods that have one, the largest difference first."""
        judged = [method for method in self.told["methods"] if method["difference"] is not None]
        judged.sort(key=lambda method: -method["difference"]["mean"])
        return {v: [m for m in judged if m["difference"]["verdict"] == v] for v in VERDICTS}


def comparisons() -> list[Comparison]:
    """All of them whose measure is the test accuracy."""
    files = sorted(RESULTS.glob("**/results.json"))
    found = [
        Comparison(file.parent.relative_to(RESULTS).as_posix(), json.loads(file.read_text())) for file in files
    ]
    return sorted((c for c in found if c.told["metric"] == "test_accuracy"), key=lambda c: c.sort_key)


def points(method: dict[str, Any]) -> str:
    """A method's difference, in points, with its interval."""
    difference = method["difference"]
    low, high = difference["ci_t"]
    return f"{100 * difference['mean']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


def readme_table() -> str:
    """README's table of verdicts: a few comparisons, good and bad."""
    found = {c.name: c for c in comparisons()}
    lines = [
        "| data | method | points against plain training (95% interval) | verdict | seeds |",
        "|---|---|---|---|---|",
    ]
    for name, method, data, words in IN_README:
        told = next(m for m in found[name].told["methods"] if m["name"] == method)
        verdict = f"[{told['difference']['verdict']}](results/{quote(name)}/index.html)"
        lines.append(f"| {data} | {words} | {points(told)} | {verdict} | {found[name].seeds} |")
    return "\n".join(lines) + "\n"


def readme_with_table(text: str) -> str:
    """The README with the table that the results give now, between its marks."""
    before, _, rest = text.partition(MARKS[0])
    return before + MARKS[0] + readme_table() + MARKS[1] + rest.partition(MARKS[1])[2]


def which_page() -> str:
    """The whole page."""
    found = comparisons()
    text = f"{HEAD}\n## At a glance\n\n{_glance(found)}"
    for kind in dict.fromkeys(c.kind for c in found):
        text += f"\n## {kind[0].upper()}{kind[1:]}\n\n"
        text += "| labels | weights | better | worse | undecided | seeds, network, budget | page |\n"
        text += "|---|---|---|---|---|---|---|\n"
        text += "".join(_row(c) for c in found if c.kind == kind)
    counts = [sum(len(c.by_verdict()[verdict]) for c in found) for verdict in VERDICTS]
    told = ", ".join(f"{count} {verdict}" for count, verdict in zip(counts, VERDICTS, strict=True))
    return text + f"\n## The methods' names\n\n{_names(found)}\nDifferences by verdict: {told}.\n"


def _glance(found: list[Comparison]) -> str:
    """Situations with what was ever decided in them, and in how many experiments of those with the method."""
    lines = ["| data, labels, weights | better | worse |", "|---|---|---|"]
    found = [comparison for comparison in found if comparison.told["reference"] in PLAIN]
    for situation in dict.fromkeys(c.situation for c in found):
        judged = _experiments([c for c in found if c.situation == situation])
        tried = Counter(name for name, _ in judged)
        cells = []
        for verdict in ("better", "worse"):
            decided = Counter(name for name, said in judged if said == verdict)
            said = (f"**{name}** {n} of {tried[name]}" for name, n in decided.most_common())
            cells.append("<br>".join(said) or "nothing")
        lines.append(f"| {' | '.join([', '.join(situation), *cells])} |")
    return "\n".join(lines) + "\n"


def _experiments(found: list[Comparison]) -> list[tuple[str, str]]:
    """A method's name and verdict for each set of runs: comparisons share runs, which are no further evidence.

    Runs that are part of a larger set (the first three of five seeds) do not count beside it; the same runs under
    two verdicts (among other methods, corrected otherwise) are undecided.
    """
    verdicts: dict[tuple[str, frozenset[tuple[int, float, float]]], set[str]] = {}
    for comparison in found:
        for verdict, methods in comparison.by_verdict().items():
            for method in methods:
                # by their results: a budget in updates and one in passes may make the same run
                runs = frozenset((r["seed"], r["test_accuracy"], r["test_loss"]) for r in method["runs"])
                verdicts.setdefault((method["name"], runs), set()).add(verdict)
    return [
        (name, next(iter(said)) if len(said) == 1 else "undecided")
        for (name, runs), said in verdicts.items()
        if not any(runs < others for _, others in verdicts)
    ]


def _row(comparison: Comparison) -> str:
    verdicts = comparison.by_verdict()
    cells = [
        f"{comparison.labels} ({KINDS[comparison.config['data']][1]})",
        comparison.weights,
        *("<br>".join(f"**{m['name']}** {points(m)}" for m in verdicts[verdict]) for verdict in VERDICTS),
        f"{comparison.seeds} seeds, {comparison.config['model']}, {comparison.config['budget']}"
        + ("" if comparison.told["reference"] in PLAIN else f", against {comparison.told['reference']}"),
        f"[{comparison.name}](../results/{quote(comparison.name)}/index.html)",
    ]
    return f"| {' | '.join(cells)} |\n"


def _names(found: list[Comparison]) -> str:
    """What each name stands for, as the comparisons say it."""
    meant: dict[str, dict[str, None]] = {}
    for comparison in found:
        for method in comparison.told["methods"]:
            meant.setdefault(method["name"], {})[method["description"]] = None
    lines = ["| name | plan |", "|---|---|"]
    for name in sorted(meant):
        said = "<br>".join("`" + text.replace("|", "\\|") + "`" for text in meant[name])
        lines.append(f"| {name} | {said} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (DOCS / "which.md").write_text(which_page())
    README.write_text(readme_with_table(README.read_text()))
