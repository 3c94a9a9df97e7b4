"""Write ``docs/words.md``, what stands behind ``--mix`` and its like: ``python docs/make_words.py``."""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from made.told import arguments, default, of_class, summary, table, takes

import lessonplan as lp
from lessonplan.data.augment import Augment
from lessonplan.data.augmentation.warp import WORDS as MOVES
from lessonplan.data.augmentation.warp import Warp
from lessonplan.data.augmentation.words import EXAMPLES, read_change
from lessonplan.mix.base import Mix
from lessonplan.mix.text import MIXES
from lessonplan.models.table import FAMILIES
from lessonplan.order.base import Orderer
from lessonplan.order.text import ORDERS
from lessonplan.select.selection import Selection
from lessonplan.select.text import PARTS, STAGES
from lessonplan.train.budget import Budget
from lessonplan.train.schedule import Schedule

CARDS = {
    "manifold": "manifold-mixup", "puzzle": "puzzle-mix", "accuracy": "accuracy-filter", "margin": "margin-filter",
    "topk": "top-k", "quantile": "top-quantile", "weighted": "loss-weighted", "qsplit": "q-split",
    "random": "random-subset", "uniform": "random-subset", "matched-random": "random-subset",
    "by-score": "multi-attempt",
}  # fmt: skip
"""Cards that are not called like the word."""
COLUMNS = ("option", "takes", "default", "what it is")
HEAD = """# Words

Made by `python docs/make_words.py` from the code; a test compares them. What can stand behind `--mix`,
`--select`, `--order`, `--augment`, `--model`, `--schedule` and `--budget`, in plan files, and in
`lp.Plan.from_texts` and its like. All other options are on [their own page](options.md); what each method does,
costs and is worth, on [its card](methods/README.md).

A word's options stand behind a colon, separated by commas: `sum:k=4,pairing=permute`. Lists are written with
slashes: `shares=.5/.3/.2`. An unknown word or option ends the command with the nearest that there is. A part of
your own stands in place of a word as `module:Class` or `FILE.py:Class`, options after another colon ([parts of
your own](own_parts.md)).

"""
MIX_TEXT = """## Mixes: `--mix`

`mixup|cutmix` draws one of several for each batch, `mixup >> cutout` mixes one after the other, and brackets
give options to all of them: `(mixup|cutmix):p=0.5`. `(mixup|cutmix):weights=0.3/0.7` draws them unequally.
`none` and `erm` are plain training. In Python the same are `lp.mix.Choice`, `Chain` (`Mixup() >> Cutout()`),
`Probability` and `Until`.

Every mix also takes

| option | what it is |
| --- | --- |
| `p=0.5` | only that share of the batches is mixed |
| `from=20%` | samples are clean before that share of the budget |
| `until=80%` | samples are clean after that share of the budget |

and, which training sets by itself, `num_classes` (for integer labels) and

"""
SELECT_TEXT = """## Selections: `--select`

Filters judge each sample alone, selectors choose among those that are left; join them with `>>`. The first value
may go without its name: `topk:0.5`. They work on every raw batch (`batchwise`); `>> epochwise` at the end scores
the whole set once an epoch instead, and both can follow each other: `accuracy >> epochwise >> topk:0.5 >>
batchwise`. `none` selects nothing.

"""
STAGE_TEXT = """### When: `epochwise`, `batchwise`

Stands behind the filters and selectors that it is for, with options of its own. What both take:

"""
ORDER_TEXT = """## Orders: `--order`

`none` takes batches as they are drawn. Every order also takes

"""
AUGMENT_TEXT = """## Augmentations: `--augment`

`auto` (flips and shifts for colour pictures, shifts for grey ones), `none`, or words separated by commas. What
they look like, where they are from and what they cost: [augment pictures](augment.md).

"""
MODEL_TEXT = """## Networks: `--model`

Options after a colon: `wrn-16-1:norm=group`. Beside these `timm:NAME`, `hf-hub:ORG/NAME` and `transformers:NAME`
([pretrained weights](methods/fine-tuning.md)), and `module:Class` or `FILE.py:Class`.

"""


def words_page() -> str:
    """The whole page."""
    shared = {f.name for f in _options(Mix)} | {"num_classes"}
    text = HEAD + MIX_TEXT + _table(Mix, _options(Mix))
    for name, kind in MIXES.items():
        text += _word(name, kind, (f for f in _options(kind) if f.name not in shared))
    text += SELECT_TEXT
    for name, part in PARTS.items():
        text += _word(name, part, _options(part))
    text += STAGE_TEXT + _stages()
    shared = {f.name for f in _options(Orderer)}
    text += ORDER_TEXT + _table(Orderer, _options(Orderer))
    for name, order in ORDERS.items():
        text += _word(name, order, (f for f in _options(order) if f.name not in shared))
    return text + AUGMENT_TEXT + _augmentations() + MODEL_TEXT + _networks() + _times()


def _options(kind: Any) -> list[dataclasses.Field[Any]]:
    """The fields that a text may give."""
    return [field for field in dataclasses.fields(kind) if field.init and field.repr]


def _word(name: str, kind: Any, options: Iterable[dataclasses.Field[Any]]) -> str:
    """A word: what it is, and its options."""
    card = CARDS.get(name, name)
    text = f"### `{name}`\n\n{summary(kind)} [Card](methods/{card}.md); `{_address(kind)}`.\n\n"
    return text + _table(kind, list(options))


def _address(kind: Any) -> str:
    group = next(group for group in ("mix", "select", "order") if f".{group}." in kind.__module__)
    return f"lp.{group}.{kind.__name__}"


def _table(kind: Any, options: list[dataclasses.Field[Any]]) -> str:
    if not options:
        return "It has no options of its own.\n\n"
    hints, said = typing.get_type_hints(kind, include_extras=True), of_class(kind)
    rows = [(f"`{f.name}`", takes(hints[f.name]), _default(f), said[f.name]) for f in options]
    return table(COLUMNS, rows)


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "needed"
    return default(field.default)


def _stages() -> str:
    """What ``epochwise`` and ``batchwise`` take, together and each."""
    hints, said = typing.get_type_hints(lp.select.Scoring), of_class(lp.select.Scoring)
    rows = [
        (f"`{field.name}`", takes(hints[field.name]), default(field.default), said[field.name])
        for field in dataclasses.fields(lp.select.Scoring)
    ]
    fill = inspect.signature(Selection).parameters["fill"]
    told = of_class(Selection)["fill"]
    rows.append(("`fill`", takes(typing.get_type_hints(Selection.__init__)["fill"]), default(fill.default), told))
    text = table(COLUMNS, rows)
    for name, stage in STAGES.items():
        text += f"### `{name}`\n\n{summary(stage)}\n\n"
        values, hints, said = stage.defaults(), stage.annotations(), of_class(stage)
        rows = [(f"`{key}`", takes(hints[key]), default(value), said[key]) for key, value in values.items()]
        text += table(COLUMNS, rows) if rows else "It has no options of its own.\n\n"
    return text


def _augmentations() -> str:
    first, move = of_class(Augment), of_class(Warp)
    rows = [
        ("`flip`", first["flip"]),
        ("`crop:4`", first["crop"]),
        ("`shift:3`", first["shift"]),
        ("`pad:zeros`", f"{first['pad']} ({takes(typing.get_type_hints(Augment)['pad'])})"),
        *((f"`{text}`", move["cut" if name == "resized-crop" else name]) for name, text in MOVES.items()),
    ]
    for text in EXAMPLES:
        name, _, value = text.partition(":")
        change = type(read_change(name, value, "reflect"))
        said = [f"{key}: {what}" for key, what in arguments(change.__doc__).items()]
        rows.append((f"`{text}`", " ".join([summary(change), *dict.fromkeys(said)])))
    return table(("word", "what it does"), rows)


def _networks() -> str:
    rows = []
    for family in FAMILIES.values():
        home, _, name = family.home.partition(":")
        kind = pkgutil.resolve_name(f"lessonplan.models.{home}:{name}")
        own = [p for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY]
        taken = ("in_channels", "num_classes", "image_size")
        said = ", ".join(f"`{p.name}={p.default}`" for p in own if p.name not in taken)
        spelled = ", ".join(f"`{example}`" for example in family.examples)
        rows.append((spelled, summary(kind), str(family.least_side), said))
    return table(("network", "what it is", "smallest side in pixels", "options, with their defaults"), rows)


def _times() -> str:
    """Schedules and budgets, as their docstrings have them."""
    schedule = inspect.cleandoc(Schedule.__doc__ or "").partition(">>>")[0].partition("\n\n")[2]
    budget = inspect.cleandoc(Budget.__doc__ or "").partition("Args:")[0].partition("\n\n")[2]
    text = f"## Schedules: `--schedule`\n\n{schedule.strip()}\n\n## Budgets: `--budget`\n\n"
    text += "`20ep`, `4000 steps`, `400k samples`, `10min`, `1.2M cost`.\n\n" + budget.strip() + "\n"
    return text.replace("``", "`")


if __name__ == "__main__":
    (Path(__file__).parent / "words.md").write_text(words_page())
