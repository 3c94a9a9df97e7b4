"""What the README shows works: its Python runs, its commands are read as they stand."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
import tyro
from PIL import Image

import lessonplan as lp
from lessonplan.commands import COMMAND_TYPES, option_names

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README.read_text(), flags=re.DOTALL)
SMALLER = {
    "300k cost": "3k cost",
    '"wrn-16-1"': '"fcnet-16"',
    "30k samples": "200 samples",
    "seeds=5": "seeds=1, jobs=1",
}


@pytest.mark.slow
def test_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("scan-1.png", "scan-2.png"):
        Image.new("L", (20, 30), 128).save(name)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    samples = torch.utils.data.TensorDataset(torch.rand(64, 1, 8, 8), torch.arange(64) % 10)
    names = {
        "model": model,
        "loader": torch.utils.data.DataLoader(samples, batch_size=16),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "epochs": 3,
    }
    code = [text for language, text in BLOCKS if language == "python"]
    assert len(code) == 2
    for text in code:
        for large, small in SMALLER.items():
            text = text.replace(large, small)
        exec(text, names)
    assert names["mix"].k == 1  # three epochs, three stages
    assert (tmp_path / "first" / "index.html").exists()
    assert len(names["classifier"].class_names) == 10


COMMANDS = [
    line
    for language, text in BLOCKS
    if language == "console"
    for line in text.splitlines()
    if line.startswith("lessonplan ")
]


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line.split()[1])
def test_commands_are_read_as_they_stand(line):
    _, name, *arguments = shlex.split(line, comments=True)
    kind = COMMAND_TYPES[name]
    assert {a for a in arguments if a.startswith("--")} <= set(option_names(kind))
    command = tyro.cli(kind, args=arguments)
    if hasattr(command, "mix"):
        lp.mix.parse_mix(command.mix)


def test_it_is_short_and_its_links_lead_somewhere():
    text = README.read_text()
    assert text.count("\n") <= 120
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert len(links) >= 25
    assert all((README.parent / unquote(link)).exists() for link in links)


def test_its_table_is_what_the_results_say():
    """As ``python docs/make_which.py`` writes it, and nothing else changes."""
    module = runpy.run_path(str(README.parent / "docs" / "make_which.py"))
    assert README.read_text() == module["readme_with_table"](README.read_text()), "run python docs/make_which.py"
    rows = module["readme_table"]().splitlines()[2:]
    assert {row.split(" | ")[3].partition("]")[0] for row in rows} == {"[better", "[worse", "[undecided"}
