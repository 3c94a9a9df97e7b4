"""What a range test found, in sentences: for the terminal and for its page."""

from __future__ import annotations

from lessonplan.report.reading import Json

_ENDINGS = {
    "range": "All {steps} steps were made, up to a learning rate of {last}.",
    "diverged": "The test ended after {made} of {steps} steps, at a learning rate of {last}: the smoothed loss"
    " was 4 times its best.",
    "not finite": "The test ended after {made} of {steps} steps, above a learning rate of {last}: the loss was"
    " NaN or infinite.",
    "nothing selected": "The test ended after {made} of {steps} steps: the selection kept nothing any more.",
}


def rate(value: float | None) -> str:
    """A learning rate with two digits, which is more than a range test can tell.

    >>> rate(0.123284), rate(3.6e-06), rate(None)
    ('0.12', '3.6e-6', 'none')
    """
    return "none" if value is None else f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e+")


def sentences(found: Json) -> list[str]:
    """The suggestion, what stands beside it, how the test ended, and what to keep in mind.

    Args:
        found: what ``lr.json`` holds.
    """
    made = len(found["lr"])
    last = rate(found["lr"][-1]) if made else "none"
    ending = _ENDINGS[found["ended"]].format(made=made, steps=found["steps"], last=last)
    return [*suggestion(found), ending, *(f"Note: {note}." for note in found["notes"])]


def suggestion(found: Json) -> list[str]:
    """The number with its reason and the other one beside it, or why there is none."""
    if found["suggested"] is None:
        return [f"No learning rate can be suggested: {found['reason']}."]
    return [
        f"Suggested learning rate: {rate(found['suggested'])}, where the smoothed loss falls fastest.",
        f"A tenth of where it is lowest: {rate(found['tenth'])}. It is not the one suggested, because the place of"
        " the minimum depends on how long the test went on and on when training broke down.",
    ]
