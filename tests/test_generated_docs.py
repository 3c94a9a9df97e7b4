"""The pages that scripts write are what the code says now, complete, and what they show can be given."""

from __future__ import annotations

import html
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro

import lessonplan as lp
from lessonplan.commands import COMMAND_TYPES
from lessonplan.lab.recipe import find_recipe, recipe_names
from lessonplan.mix.text import MIXES
from lessonplan.order.text import ORDERS
from lessonplan.select.text import PARTS

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS.parent / "results"
ROW = re.compile(r"^\| `([^`]*)` \|", re.MULTILINE)


def made(name: str) -> Any:
    """A script of ``docs/``, as a module."""
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DOCS))


def sections(page: str, mark: str = "## ") -> dict[str, str]:
    """Parts of a page by their headings."""
    parts = re.split(rf"^{mark}", (DOCS / page).read_text(), flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0]: part for part in parts}


def test_the_page_of_options_is_what_the_commands_take() -> None:
    assert (DOCS / "options.md").read_text() == made("make_options").options_page(), (
        "run python docs/make_options.py"
    )


def test_the_page_of_words_is_what_the_code_says() -> None:
    assert (DOCS / "words.md").read_text() == made("make_words").words_page(), "run python docs/make_words.py"


@pytest.mark.parametrize("name", COMMAND_TYPES)
def test_every_option_of_a_command_has_a_sentence(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that the parser's help names, on the command's part of the page or in what it links; and no others."""
    parts = sections("options.md")
    own = parts[f"`lessonplan {name}`"]
    linked = "".join(parts[title] for title in re.findall(r"\[([^]]+)\]\(#", own))
    rows = [line for line in (own + linked).splitlines() if line.startswith("| `--")]
    shown = {line.split("`")[1] for line in rows}
    with pytest.raises(SystemExit):
        tyro.cli(COMMAND_TYPES[name], args=["--help"], prog="lessonplan")
    accepted = set(re.findall(r"^\W (--[\w-]+)", capsys.readouterr().out, re.MULTILINE))
    assert len(accepted) >= 2
    assert shown == accepted
    assert all(len(line.split(" | ")[3]) > len("seed |") for line in rows), name


def _text(group: str, word: str, option: str, value: str) -> Any:
    """The part that a text of one option makes."""
    text = f"{word}:{option}={value}"
    if group == "mix":
        return lp.mix.parse_mix(text)
    if group == "order":
        return lp.order.parse_order(text)
    return lp.select.parse_select(text).batchwise.selection.parts[0]


@pytest.mark.parametrize(
    ("group", "word"),
    [(group, word) for group, table in (("mix", MIXES), ("select", PARTS), ("order", ORDERS)) for word in table],
)
def test_a_words_defaults_are_its_defaults(group: str, word: str) -> None:
    """Each option of the page can be given as it stands there, and then nothing is another."""
    part = sections("words.md", "### ")[f"`{word}`"].partition("\n## ")[0]
    table = {"mix": MIXES, "select": PARTS, "order": ORDERS}[group]
    usual = table[word]().config()
    rows = [line.split(" | ") for line in part.splitlines() if line.startswith("| `")]
    for row in rows:
        option, value = row[0].strip("| `"), row[2].strip("`")
        if value:
            assert _text(group, word, option, value).config() == usual, (word, option)
    shown = {row[0].strip("| `") for row in rows}
    assert {key for key in usual if key != "name"} <= shown | {"seed", "check", "num_classes", *_shared(group)}


def _shared(group: str) -> set[str]:
    """What all words of a kind take."""
    title = {"mix": "Mixes: `--mix`", "select": "", "order": "Orders: `--order`"}[group]
    return set(ROW.findall(sections("words.md").get(title, "").partition("\n### ")[0]))


def test_every_schedule_augmentation_and_network_of_the_page_can_be_given() -> None:
    parts = sections("words.md")
    for word in ROW.findall(parts["Augmentations: `--augment`"]):
        lp.data.Augment.parse(f"crop:4,{word}" if word.startswith("pad") else word, (3, 32, 32))
    for line in parts["Networks: `--model`"].splitlines():
        for name in re.findall(r"`([^`]*)`", line.split(" | ")[0]) if line.startswith("| `") else []:
            lp.models.check_model(name)


CARDS = sorted(path.stem for path in (DOCS / "methods").glob("*.md") if path.stem != "README")
PICTURE = re.compile(r"!\[([^]]*)\]\(\.\./pictures/cards/([\w-]+)\.png\)")


@pytest.mark.parametrize("card", CARDS)
def test_each_card_has_its_picture_its_cost_and_what_was_measured(card: str) -> None:
    text = (DOCS / "methods" / f"{card}.md").read_text()
    [(alt, name)] = PICTURE.findall(text)
    assert name == card
    assert len(alt) >= 40  # what is to be seen, for whoever does not see it
    assert (DOCS / "pictures" / "cards" / f"{card}.png").stat().st_size < 60_000
    said = dict(re.findall(r"^\*\*(Cost|Measured)(.*?)(?=^\*\*|\Z)", text, re.M | re.S))
    assert set(said) == {"Cost", "Measured"}
    if "not measured" in said["Measured"]:
        return
    assert len(re.findall(r"\d\.\d|\d%", said["Measured"])) >= 2, "numbers"
    assert re.search(r"seed|looks", said["Measured"]), "of how many runs"
    assert re.search(r"results/|make demo|benchmarks/|digits", said["Measured"]), "where they are from"


def test_a_script_draws_the_picture_of_each_card_and_no_other() -> None:
    assert sorted(made("make_cards").CARDS) == CARDS
    assert sorted(path.stem for path in (DOCS / "pictures" / "cards").iterdir()) == CARDS


@pytest.mark.slow
@pytest.mark.parametrize("card", ["gradual", "cutmix", "top-k", "fine-tuning", "probe"])
def test_a_picture_is_drawn_from_what_the_code_does(card: str, tmp_path: Path) -> None:
    """One of each kind, and the same twice."""
    draw = made("make_cards").CARDS[card]
    draw(tmp_path / "first")
    draw(tmp_path / "second")
    [first], [second] = list((tmp_path / "first").iterdir()), list((tmp_path / "second").iterdir())
    assert first.name == f"{card}.png"
    assert first.read_bytes() == second.read_bytes()
    assert 2_000 < first.stat().st_size < 60_000


@pytest.mark.parametrize("name", [name for name in recipe_names() if (RESULTS / name).is_dir()])
def test_stored_results_say_of_their_source_what_the_recipe_says_now(name: str) -> None:
    """In the file and on the page: a note that was found untrue must not go on standing in the results."""
    recipe = find_recipe(name)
    for file, now in made("make_sources").stored(recipe):
        source = json.loads(file.read_text())
        assert source["notes"] == now["notes"], "run python docs/make_sources.py"
        assert [(c["text"], c["verdict"]) for c in source["claims"]] == [
            (c["text"], c["verdict"]) for c in now["claims"]
        ]
        assert [t["title"] for t in source["tables"]] == [t["title"] for t in now["tables"]]
        page = html.unescape((file.parent / "index.html").read_text())
        assert all(f">{note}</p>" in page for note in now["notes"]), file
