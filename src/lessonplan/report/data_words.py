"""What a look at the data found, in plain words: for the terminal and for the page."""

from __future__ import annotations

import math
from collections import Counter

from lessonplan.data.walk import in_words, to_convert
from lessonplan.report.formatting import listing, percent
from lessonplan.report.reading import Json

Finding = tuple[str, str]
"""A level ("error", "warning", "note", "ok") and a sentence."""

FEW = 30
"""Labels of a class below which differences between plans drown in chance."""
_UNEVEN = 5  # times as many samples of one class as of another
_NAMED = 3
_MEASURES = {
    "brightness": ("brighter", "darker"),
    "contrast": ("richer in contrast", "poorer in contrast"),
    "size": ("larger", "smaller"),
    "width": ("wider in shape", "narrower in shape"),
}


def leaks(record: Json) -> int:
    """Held-back pictures of which another part has a near copy."""
    return sum((record["near"].get("leaks") or {}).values())


def findings(record: Json) -> list[Finding]:
    """All there is to say, what matters most first.

    Args:
        record: what ``data.json`` holds.
    """
    found = [
        *_leaks(record),
        *_unreadable(record),
        *_left_out(record),
        *_conflicts(record),
        *_near_within(record),
        *_equal(record),
        *_suspects(record),
        *_differences(record),
        *_small(record),
        *_counts(record),
    ]
    rank = {"error": 0, "warning": 1, "note": 2, "ok": 3}
    return sorted(found, key=lambda finding: rank[finding[0]])


def leak_sentence(record: Json) -> str:
    """Which parts are known to training before they judge it."""
    held = [f"{many(n, 'picture')} of the {name} part" for name, n in record["near"]["leaks"].items() if n]
    pair = next(pair for pair in record["near"]["pairs_listed"] if pair["first"]["part"] != pair["second"]["part"])
    example = f"{pair['first']['where']} and {pair['second']['where']}"
    verb = "has" if leaks(record) == 1 else "have"
    return f"{listing(held)} {verb} a near copy in another part, such as {example}: results on them are too good"


def _leaks(record: Json) -> list[Finding]:
    if not leaks(record):
        return []
    return [("error", f"{leak_sentence(record)}. Take the copies out of one of the parts.")]


def _unreadable(record: Json) -> list[Finding]:
    bad = record["unreadable"]
    if not bad["count"]:
        return []
    named = ", ".join(f"{name} ({why})" for name, why in bad["files"][:_NAMED])
    more = f" and {bad['count'] - _NAMED} more" if bad["count"] > _NAMED else ""
    text = (
        f"{many(bad['count'], 'file')} cannot be read: {named}{more}. Training stops at such files unless they are"
        " repaired, removed, or left out with --on-bad skip."
    )
    return [("warning", text)]


def _left_out(record: Json) -> list[Finding]:
    """Files and folders beside the samples, which may have been meant."""
    found: list[Finding] = []
    endings = Counter(record.get("other_endings") or {})  # records of before know nothing of it
    if endings:
        what = f"{many(endings.total(), 'file')} {'is' if endings.total() == 1 else 'are'} left out"
        text = f"{what}, for their endings are not read: {in_words(endings)}{to_convert(endings)}."
        found.append(("warning", text))
    loose = record.get("unlabelled_folders") or []
    for name in loose:
        text = f"{name} holds pictures outside of class folders and is left out: give each class a folder there."
        found.append(("warning", text))
    other = [name for name in record.get("unused_folders") or [] if name not in loose]
    if other:
        verb = "is" if len(other) == 1 else "are"
        found.append(
            ("warning", f"{listing(other)} {verb} left out: not a part of the set beside its train folder.")
        )
    return found


def _conflicts(record: Json) -> list[Finding]:
    count = record["copies"].get("conflicts")
    if not count:
        return []
    first = record["copies"]["conflicts_listed"][0]
    told = ", ".join(f"{sample['where']} ({sample['class']})" for sample in first[:_NAMED])
    what = "One sample is" if count == 1 else f"{count:,} samples are"
    return [
        ("warning", f"{what} there more than once under different classes: {told}. One of the labels is wrong.")
    ]


def _near_within(record: Json) -> list[Finding]:
    near = record["near"]
    if near.get("left_out"):
        return [("note", f"Near copies were not looked for: {near['left_out']}.")]
    if not near["pairs"]:
        return [("ok", "No near copies.")]
    found: list[Finding] = []
    inside = near["pairs"] - near["across"]
    least = "" if near["complete"] else "at least "
    if inside:
        text = (
            f"{least}{many(inside, 'pair')} of near copies within one part. Equal copies stay together when a set"
            " is split, near ones only in rounds of advise: keep one of each, or put them into parts of your own."
        )
        found.append(("warning", text[0].upper() + text[1:]))
    if near["other_class"]:
        what = f"{many(near['other_class'], 'pair')} of near copies"
        found.append(("warning", f"{what} {'has' if near['other_class'] == 1 else 'have'} two different classes."))
    return found


def _equal(record: Json) -> list[Finding]:
    copies, kind = record["copies"], _noun(record)
    if not copies["checked"]:
        return [("note", "Equal copies cannot be told without reading everything, and were not looked for.")]
    found: list[Finding] = []
    if copies["taken_out"]:
        text = (
            f"{many(copies['taken_out'], kind)} {'is a copy' if copies['taken_out'] == 1 else 'are copies'} of"
            " what another part judges by. They are taken out of training whenever the data are loaded."
        )
        found.append(("note", text))
    if copies["within"]:
        text = (
            f"{many(copies['within'], 'labelled ' + kind)} {'is' if copies['within'] == 1 else 'are'} there again."
            " Copies stay on one side of every split."
        )
        found.append(("note", text))
    return found or [("ok", "No equal copies.")]


def _suspects(record: Json) -> list[Finding]:
    about = record["suspects"]
    if about.get("left_out"):
        return [("note", f"No label was doubted: {about['left_out']}.")]
    seen = (
        f"{about['on']}, which tell {percent(about['accuracy'], 0)}% of {about['samples']:,} labelled samples"
        " right without having learned from them"
    )
    if not about["count"]:
        return [("ok", f"No label is doubted by {seen}.")]
    text = (
        f"{many(about['count'], 'label')} {'is' if about['count'] == 1 else 'are'} doubted by {seen}. Confident"
        f" learning takes {percent(about['share'], 1)}% of the set for wrong, the model's own mistakes included:"
        " look at them yourself. None is removed."
    )
    return [("warning", text)]


def _differences(record: Json) -> list[Finding]:
    found: list[Finding] = []
    for part in dict.fromkeys(row["part"] for row in record["differences"]):
        rows = [row for row in record["differences"] if row["part"] == part and row["word"] != "none"]
        for row in rows:
            up = row["means"][1] > row["means"][0]
            size = "throughout" if row["d"] is None else f"d = {row['d']:+.2f}, a {row['word']} difference"
            word = _MEASURES[row["of"]][0 if up else 1]
            text = f"Pictures of the {part} part are {word} than those of training ({size})."
            found.append(("note" if row["word"] == "small" else "warning", text))
        if not rows:
            found.append(("ok", f"The {part} part does not differ from training in light or size."))
    return found


def _small(record: Json) -> list[Finding]:
    found: list[Finding] = []
    tiny, blank = record["tiny"], record["blank"]
    if tiny and tiny["count"]:
        height, width = tiny["to"]
        first = tiny["files"][0]
        text = (
            f"{many(tiny['count'], 'picture')} {'is' if tiny['count'] == 1 else 'are'} enlarged more than twice to"
            f" {height} x {width} pixels, such as {first['where']} ({first['size'][0]} x {first['size'][1]})."
        )
        found.append(("warning", text))
    if blank and blank["count"]:
        verb = "shows" if blank["count"] == 1 else "show"
        text = (
            f"{many(blank['count'], 'picture')} {verb} one grey level alone, such as {blank['files'][0]['where']}."
        )
        found.append(("warning", text))
    return found


def _counts(record: Json) -> list[Finding]:
    counts = {row["class"]: row.get("training", 0) + row.get("validation", 0) for row in record["classes"]}
    least, most = min(counts, key=lambda c: counts[c]), max(counts, key=lambda c: counts[c])
    found: list[Finding] = []
    each = f"from {counts[least]:,} ({least}) to {counts[most]:,} ({most}) a class"
    if counts[least] == counts[most]:
        each = f"{counts[least]:,} a class"
    found.append(("note", f"{sum(counts.values()):,} labelled samples of {len(counts)} classes, {each}."))
    wanted = record["asked"]["per_class"]
    short = [name for name, count in counts.items() if wanted is not None and count < wanted]
    if short:
        named = ", ".join(f"{name} ({counts[name]})" for name in short[:_NAMED])
        what = f"{many(len(short), 'class')} {'has' if len(short) == 1 else 'have'} fewer"
        found.append(("warning", f"{wanted} labels a class are asked for, and {what}: {named}."))
    if counts[most] >= _UNEVEN * max(1, counts[least]):
        text = (
            f"{most} has {counts[most] / max(1, counts[least]):.0f} times as many samples as {least}: look at"
            " balanced accuracy or macro F1 (--watch macro-f1), not at accuracy alone."
        )
        found.append(("warning", text))
    used = {name: count if wanted is None else min(count, wanted) for name, count in counts.items()}
    if min(used.values()) < FEW:
        found.append(("note", _precision(record, used, least)))
    return found


def _precision(record: Json, used: dict[str, int], least: str) -> str:
    """How well an accuracy is known that so few labels judge."""
    share = record["asked"]["val_fraction"]
    own = record["asked"]["own_validation"] and record["asked"]["per_class"] is None
    judged = record["parts"]["validation"] if own else max(1, round(share * sum(used.values())))
    margin = 100 * 1.96 * math.sqrt(0.8 * 0.2 / judged)
    of = "a class" if len(set(used.values())) == 1 else f"of {least}"
    by = "the validation part" if own else f"a share of {100 * share:g}%"
    return (
        f"{used[least]} labels {of} are few: {by} judges by {many(judged, 'sample')}, on which an accuracy"
        f" of 80% is known to {margin:.0f} points either way. Trust comparisons over several splits only (compare"
        " --seeds, advise)."
    )


def _noun(record: Json) -> str:
    return {"pictures": "picture", "recordings": "recording"}.get(record["kind"], "sample")


def many(count: int, noun: str) -> str:
    """A count with its noun.

    >>> many(1, "picture"), many(2000, "class")
    ('1 picture', '2,000 classes')
    """
    return f"{count:,} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"
