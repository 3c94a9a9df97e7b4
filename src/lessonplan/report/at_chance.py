"""Networks that ended no better than chance, and what is said of them."""

from __future__ import annotations

from lessonplan.confusion import Agreement, agreement
from lessonplan.report.formatting import fixed, number, percent
from lessonplan.report.reading import Json

_PARTS = (("test", "test"), ("val", "validation"))
_LEARNED = 0.25  # of the way from always naming the most frequent class to always being right
_TRY = "another learning rate, a warm-up (schedule=cosine:warmup=10%), or a longer budget"


def judged_agreement(result: Json) -> tuple[str, Agreement] | None:
    """How far a run's answers agree with the labels of its test part, else of its validation part.

    Args:
        result: what ``result.json`` holds.

    Returns:
        the part's name and the agreement; None where nothing was judged.
    """
    for part, name in _PARTS:
        judged = result.get(part)
        if isinstance(judged, dict) and judged.get("confusion"):
            try:
                found = agreement(judged["confusion"])
            except (TypeError, ValueError, OverflowError):  # somebody edited it
                return None
            return None if found is None else (name, found)
    return None


def run_note(result: Json) -> str:
    """What a run's page and the terminal say of a network that learned nothing, or an empty text."""
    found = judged_agreement(result)
    if found is None or not found[1].at_chance:
        return ""
    part, agreed = found
    note = (
        f"Its answers agree with the labels of the {part} data no more than chance would: accuracy"
        f" {percent(agreed.accuracy)} %, and {percent(agreed.most_frequent)} % for whoever always names the most"
        f" frequent class (Cohen's kappa {fixed(round(agreed.kappa, 2) + 0.0, 2)})."
    )
    trained = (result.get("train_set") or {}).get("accuracy")
    learned = number(trained)
    if learned is None:
        return f"{note} Unless it has learned its training samples (--evaluate-train tells), try {_TRY}."
    if learned > agreed.most_frequent + _LEARNED * (1 - agreed.most_frequent):
        return note
    return f"{note} It has not learned its training samples either ({percent(learned)} %): try {_TRY}."
