"""The verdict of a tournament in plain words: for the terminal, for its page, and for ``Advice.verdict``."""

from __future__ import annotations

import shlex
from pathlib import Path

from lessonplan.report.formatting import duration, listing
from lessonplan.report.reading import Json

PLAIN = "plain"
_FEW = 5  # labels of a class, below which everything rests on a handful of samples


def sentences(record: Json, folder: Path) -> list[str]:
    """What was found, in the order in which a person asks.

    Args:
        record: what ``advice.json`` holds.
        folder: where it lies, for the paths in the commands.

    Returns:
        the verdict first, then what would decide it, who is not worth trying, who is open, who was left out, what
        test data say, and what to do now.
    """
    if not record.get("verdict"):
        return ["The tournament is not over: give the same command again to go on."]
    found = [headline(record), *_more(record), *_worse(record), *_aside(record), *_left_out(record)]
    return [
        *found,
        *_few(record),
        *_tested(record),
        *_optimism(record),
        *_caveat(record),
        *commands(record, folder),
    ]


def gain(standing: Json) -> str:
    """A difference to plain training with its interval.

    >>> gain({"mean": 0.021, "interval": [-0.01, 0.052]})
    '+2.10 points (-1.00 to +5.20)'
    """
    low, high = (100 * bound for bound in standing["interval"])
    return f"{100 * standing['mean']:+.2f} points ({low:+.2f} to {high:+.2f})"


def headline(record: Json) -> str:
    """The verdict in one sentence."""
    verdict, name = record["verdict"], record["verdict"]["plan"]
    level = f"{100 * record['identity']['level']:g}%"
    on = f"on {record['sizes']['labelled']:,} labelled samples"
    if verdict["kind"] == "plain":
        best = max(record["standing"], key=lambda n: record["standing"][n]["mean"], default=None)
        if best is None:
            return "Nothing was compared: there was no time for two rounds. Plain training it is, for now."
        about = record["standing"][best]
        chance = " (chance gives the best of so many as much)" if about["mean"] > 0 else ""
        return (
            f"Nothing beats plain training here: of {len(record['standing'])} other plans {best} came closest,"
            f" with {gain(about)} in {_rounds(about['rounds'])} {on}{chance}."
        )
    about = record["standing"][name]
    if verdict["kind"] == "better":
        return (
            f"{name} beats plain training: {gain(about)} of validation accuracy in {_rounds(about['rounds'])}"
            f" {on}; the interval holds at {level} for all plans and looks together."
        )
    return (
        f"{name} is the best guess, not a finding: {gain(about)} against plain training in"
        f" {_rounds(about['rounds'])} {on}, which may be chance (intervals at {level} for all plans and looks"
        " together)."
    )


def _more(record: Json) -> list[str]:
    more = record["verdict"].get("more")
    if more is None:
        return []
    if more["rounds"] is not None:
        time = duration(more["seconds"])
        return [
            f"A difference of this size would be found in four of five cases after {more['rounds']} rounds: about"
            f" {time} more for this plan and plain training alone."
        ]
    if more["samples"] is None:
        return []
    return [
        "No time would decide it with these labels, because too few samples judge it: a difference of this size"
        f" wants about {_about(more['samples'])} labelled samples."
    ]


def _worse(record: Json) -> list[str]:
    worse = {n: s for n, s in record["standing"].items() if (s["decided"] or {}).get("verdict") == "worse"}
    if not worse:
        return []
    return [f"Not worth trying here: {listing([f'{n}, {gain(s)}' for n, s in worse.items()])}."]


def _aside(record: Json) -> list[str]:
    named, running = record["verdict"]["plan"], record["running"]
    open_ = {n: s for n, s in record["standing"].items() if s["decided"] is None and n != named}
    aside = [f"{n} ({100 * s['mean']:+.2f})" for n, s in open_.items() if n not in running]
    others = [f"{n} ({100 * s['mean']:+.2f})" for n, s in open_.items() if n in running]
    found = [f"Undecided, and still in: {listing(others)}."] if others else []
    if aside:
        found.append(f"Undecided, and set aside because others looked better early on: {listing(aside)}.")
    also = [
        f"{n}, {gain(s)}"
        for n, s in record["standing"].items()
        if n != named and (s["decided"] or {}).get("verdict") == "better"
    ]
    return [*found, *([f"Better than plain training too: {listing(also)}."] if also else [])]


def _left_out(record: Json) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for name, about in record["plans"].items():
        if about.get("left_out"):
            reasons.setdefault(about["left_out"].rstrip("."), []).append(name)
    return [f"Left out: {listing(names)} ({reason})." for reason, names in reasons.items()]


def _few(record: Json) -> list[str]:
    sizes = record["sizes"]
    if sizes["least"] >= _FEW or sizes["own_validation"]:
        return []
    return [
        f"The rarest class has {sizes['least']} labelled samples: each round is judged on one or two of them, so"
        " that only large differences can be found."
    ]


def _tested(record: Json) -> list[str]:
    test = record["final"].get("test")
    if test is None:
        return []
    right = _percent(test["model"])
    words = f"On {test['samples']:,} test samples, not looked at before, the classifier is right in {right}"
    if "reference" in test:
        words += (
            f" and plain training in {_percent(test['reference'])}: {gain(test)}, an interval for these two"
            " networks and other test samples, not for other trainings"
        )
    found = [f"{words}."]
    before = len(record["readings"]) - (2 if "reference" in test else 1)
    if before > 0:
        found.append(
            "Test data were read after an earlier part too, and another plan was named then: take these numbers"
            " for a little too good."
        )
    return found


def _optimism(record: Json) -> list[str]:
    verdict, test = record["verdict"], record["final"].get("test")
    score = verdict["scores"].get(verdict["plan"])
    found = []
    if verdict["optimism"] is not None:
        found.append(
            f"The best of several looks better than it is: picking flattered validation accuracy by about"
            f" {100 * verdict['optimism']:.2f} points over the rounds that all plans did (nested estimate)."
        )
    if test is not None and score is not None:
        found.append(
            f"Validation said {_percent(score)} for networks trained on {record['sizes']['train']:,} samples; test"
            f" data say {_percent(test['model'])} for the classifier, which is trained on all"
            f" {record['sizes']['labelled']:,}{_longer(record)}."
        )
    return found


def _longer(record: Json) -> str:
    """How long the classifier trained, where that is longer than in a round."""
    times = record["final"].get("stretch", 1.0)
    return f", {times:.2g} times as long" if times > 1 else ""


def _caveat(record: Json) -> list[str]:
    if not _longer(record):
        return []
    return [
        "Rounds train less long than the classifier, so that there can be more of them: whether plans rank alike"
        " in longer training they do not say."
    ]


def commands(record: Json, folder: Path) -> list[str]:
    """What to do now."""
    if not record["final"].get("folder"):
        return []
    model = shlex.quote(str(folder / record["final"]["folder"]))
    longer = _longer(record)
    found = [
        f"The classifier, trained on all labelled samples{longer}: lessonplan predict {model} NEW --out"
        " predictions.csv"
    ]
    again = train_command(record, folder)
    return [*found, *([f"The plan by hand, on data of your choice: {again}"] if again else [])]


def train_command(record: Json, folder: Path) -> str | None:
    """The command that trains the named plan; None for data that were given in Python."""
    identity = record["identity"]
    if identity["data"].endswith(" given in Python"):
        return None
    words = ["lessonplan", "train", "--plan", str(folder / "plan.yaml"), "--data", identity["data"]]
    decides = record["plans"][record["verdict"]["plan"]].get("decides")
    for name, value in identity["options"].items():
        if value is not None and not (decides and name == "val_fraction"):
            words += [f"--{name.replace('_', '-')}", str(value)]
    if decides or (not record["sizes"]["own_validation"] and "val_fraction" not in identity["options"]):
        words += ["--val-fraction", str(identity["val_fraction"] if decides else 0)]
    if identity["seed"]:
        words += ["--seed", str(identity["seed"])]
    return shlex.join([*words, "--out", "trained"])


def _rounds(count: int) -> str:
    return "1 round" if count == 1 else f"{count} rounds"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _about(count: int) -> str:
    """At least so many, by two digits: more would pretend to know.

    >>> _about(1234), _about(56)
    ('1,300', '56')
    """
    unit = 10 ** max(len(str(count)) - 2, 0)
    return f"{-(-count // unit) * unit:,}"
