"""What the guides and cards show works: every block of Python runs, every command line is read as it stands."""

from __future__ import annotations

import ast
import copy
import json
import pkgutil
import re
import runpy
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, unquote

import pytest
import torch
import torch.nn.functional as F
import tyro
import yaml
from scipy import stats
from torch import nn
from torch.distributed.run import get_args_parser as torchrun_options

import lessonplan as lp
from lessonplan.commands import COMMAND_TYPES, option_names
from lessonplan.lab.plan_file import plan_from
from lessonplan.lab.recipe import Claim, all_recipes
from lessonplan.plan import Plan
from lessonplan.settings import Settings
from lessonplan.train.preparation import check_run

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {page.relative_to(DOCS).as_posix(): page.read_text() for page in sorted(DOCS.glob("**/*.md"))}
BLOCKS = [
    (name, language, code)
    for name, text in PAGES.items()
    for language, code in re.findall(r"```(\w*)\n(.*?)```", text, flags=re.DOTALL)
]
SMALLER = {
    '"folder:photos", time="30min"': '"digits", budget="40k cost", plans="mixup", model="fcnet-8", per_class=10',
    '"digits", "cascade:k=4", out="tuned", trials=20, per_class=20': (
        '"digits", "cascade:k=4", out="tuned", trials=3, per_class=20, model="fcnet-8", budget="2k cost", jobs=1'
    ),
    '"folder:photos", out="look"': '"digits", per_class=10, out="look"',
    '"timm:tf_efficientnet_lite0", "folder:photos"': '"tiny", data',
    'weights="pretrained"': 'weights="trained"',
    "lite0.safetensors": "trained/weights.safetensors",
    "last:2": "last:1",
    "wrn-16-1": "fcnet-8",
    "20ep": "2 steps",  # the first of which has a learning rate of 0 where there is a warm-up
    "100k samples": "200 samples",
    "300k cost": "3k cost",
    "candidates=8": "candidates=2",
    "epochs=13, survivors=12": "epochs=2, survivors=2",
    "batch_size=8": "batch_size=10",
    "restarts=5": "restarts=1",
    "k=16": "k=2",
    "num_classes=100": "num_classes=10",
    "steps=20": "steps=2",
}


def _kept(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.eval()


def _names() -> dict[str, Any]:
    """What the blocks take as given: data, networks and numbers of a loop of the reader's own."""
    data = lp.data.load("digits", per_class=6, val_per_class=4, augment="none")
    make: Callable[..., nn.Module] = lp.models.build_model
    model = make("tiny", shape=(1, 8, 8), num_classes=10, seed=0)
    x, y = data.train.fetch(torch.arange(20))
    images = torch.rand(20, 1, 16, 16)
    embedded = nn.Module()
    embedded.embed = nn.Embedding(50, 256)
    return {
        "lp": lp, "torch": torch, "F": F, "data": data, "model": model, "x": x, "y": y,
        "network": _kept(copy.deepcopy(model)),
        "other_model": _kept(make("fcnet-8", shape=(1, 8, 8), num_classes=10)),
        "loader": [(x, y)] * 2, "optimizer": torch.optim.SGD(model.parameters(), lr=0.01), "g": torch.Generator(),
        "epoch": 1, "epochs": 3, "step": 1, "steps": 3, "validation_accuracy": 0.5,
        "mix": lp.mix.Cascade(k=4, num_classes=10), "mean": [0.3], "std": [0.4],
        "pool": data.train.fetch(torch.arange(40))[0], "pool_labels": data.train.labels[:40],
        "images": images, "boxes": torch.tensor([[2, 12, 3, 14]] * 20), "correct": torch.arange(20) % 2 == 0,
        "test": x, "other": x + 1, "shape": (1, 8, 8), "train_view": data.train, "train": data.train,
        "x_eval": x, "y_eval": y, "rows": torch.arange(20), "block": lambda: nn.Linear(64, 64),
        "vocabulary": 50, "hidden": torch.randn(7, 256), "words": torch.arange(7), "embedded": embedded,
        "pixels": (255 * torch.rand(3, 1, 8, 8)).byte().numpy(),
    }  # fmt: skip


def _of_its_own(page: str, code: str, names: dict[str, Any]) -> None:
    """What some cards take as given beyond that: pixels in [0, 1], a network without normalisation or of parts."""
    if page == "attacks":
        names |= {"x": torch.rand(20, 1, 8, 8), "pool": torch.rand(40, 1, 8, 8), "network": names["other_model"]}
    if page == "perfect-ordering":
        names["model"] = lp.models.build_model("fcnet-8", shape=(1, 8, 8), num_classes=10, seed=0)
    if "ResidualMomentum" in code:
        names["model"] = lp.models.build_model("wrn-22-1", shape=(1, 8, 8), num_classes=10, seed=0)
    if "model.embed" in code:
        names["model"] = names["embedded"]
    if "SampleEmbeddings" in code:
        names |= {"backbone": nn.Sequential(nn.Flatten(), nn.Linear(64, 64)), "head": nn.Linear(64, 10)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that was trained before."""
    folder = tmp_path_factory.mktemp("docs")
    data = lp.data.load("digits", per_class=6, val_per_class=4, augment="none")
    lp.fit("tiny", data, None, "1 steps", out=folder / "trained", threads=1)
    return folder


# pages that are followed from the first block to the last, commands included
IN_ORDER = ("tutorial.md", "own_parts.md")
PYTHON = [(name, code) for name, language, code in BLOCKS if language == "python" and name not in IN_ORDER]


CASES = [
    pytest.param(
        name, code, id=f"{name}-{i}", marks=pytest.mark.slow if "onnxruntime" in code or "advise" in code else ()
    )
    for i, (name, code) in enumerate(PYTHON)
]


@pytest.mark.parametrize(("name", "code"), CASES)
def test_python_runs(name: str, code: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    names = _names()
    _of_its_own(Path(name).stem, code, names)
    if "init_process_group()" in code:  # as torchrun says it to one process
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            port = str(server.getsockname()[1])
        said = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name_, value in said.items():
            monkeypatch.setenv(name_, value)
    if "onnxruntime" in code:
        lp.load("trained").export("model.onnx", preprocessing=True)
    for large, small in SMALLER.items():
        code = code.replace(large, small)
    exec(code, names)


@pytest.mark.slow
@pytest.mark.parametrize("page", IN_ORDER)
def test_a_page_is_followed_from_the_first_block_to_the_last(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a reader would: Python one block after the other (and as ``parts.py``), commands as they stand."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "parts"}
    monkeypatch.setitem(sys.modules, "parts", ModuleType("parts"))  # dataclasses look their module up
    commands = 0
    for name, language, code in BLOCKS:
        if name == page and language == "python":
            exec(code, names)
            with open("parts.py", "a") as file:
                file.write(code)
        elif name == page:
            for line in code.splitlines():
                commands += 1
                done = subprocess.run(
                    [sys.executable, "-m", *shlex.split(line)], capture_output=True, text=True, timeout=1800
                )
                assert done.returncode == 0, (line, done.stderr)
    assert commands >= 5


@cache
def _lines() -> list[tuple[str, str]]:
    """Every command line: of blocks, behind a # in Python, in the text."""
    found = []
    for name, _, code in BLOCKS:
        if name in IN_ORDER:
            continue
        for line in code.splitlines():
            shown = re.search(
                r"^(?:torchrun [^#]*-m )?(lessonplan .*)$|#.*?(lessonplan .*|--(?:mix|select|order) .*)$", line
            )
            if shown:
                found.append((name, shown[1] or shown[2]))
    for name, text in PAGES.items():
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        found += [(name, " ".join(line.split())) for line in re.findall(r"`(lessonplan [^`]+)`", prose)]
    return found


def _arguments(line: str) -> list[str]:
    """The words of a command; where it is left out, or its rest is, it trains."""
    # what stands behind a # is said of the line
    words = shlex.split(
        line.partition(" ... puts ")[0].replace("lessonplan ...", "lessonplan train"), comments=True
    )
    return words[1:] if words[0] == "lessonplan" else ["train", *words]


@pytest.mark.parametrize(("page", "line"), _lines(), ids=[f"{p}-{i}" for i, (p, _) in enumerate(_lines())])
def test_commands_are_read_as_they_stand(page: str, line: str) -> None:
    name, *arguments = _arguments(line)
    kind = COMMAND_TYPES[name]
    assert {a for a in arguments if a.startswith("--")} <= set(option_names(kind)), page
    if not arguments:
        return  # a command that is only named
    if "--out" not in arguments and "--out" in option_names(kind):
        arguments += ["--out", "out"]
    command = tyro.cli(kind, args=arguments)
    given = {part: getattr(command, part) for part in ("select", "order", "mix") if hasattr(command, part)}
    given = {part: text for part, text in given.items() if isinstance(text, str)}
    plan = Plan.from_texts(**given) if given else Plan()
    data = lp.data.load("digits", per_class=20, val_per_class=5)
    if "RUN" not in line:
        check_run(plan, data, Settings(), 0)


def test_torchrun_reads_its_options() -> None:
    lines = [line for _, _, code in BLOCKS for line in code.splitlines() if line.startswith("torchrun ")]
    assert len(lines) >= 4
    for line in lines:
        given = torchrun_options().parse_args(shlex.split(line)[1:])
        assert given.module
        assert given.training_script == "lessonplan"
        assert given.training_script_args[0] == "train"


def test_lines_were_found() -> None:
    """So that a change of how cards are written does not leave them unread."""
    pages = {page for page, _ in _lines()}
    assert len(_lines()) >= 40
    assert {
        "methods/top-k.md",
        "methods/random-subset.md",
        "evaluation.md",
        "methods/perfect-ordering.md",
    } <= pages
    assert len(PYTHON) >= 35


def test_yaml_is_read() -> None:
    """Recipes' claims and plans, as the guides show them."""
    read = set()
    for name, language, code in BLOCKS:
        if language == "yaml" and code.startswith("claims:"):
            assert [Claim(**claim) for claim in yaml.safe_load(code)["claims"]]
            read.add(name)
        elif language == "yaml":
            assert plan_from(yaml.safe_load(code), name).method.name
            read.add(name)
    assert read >= {"evaluation.md", "advise.md"}


def test_links_lead_somewhere() -> None:
    for name, text in PAGES.items():
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert ((DOCS / name).parent / unquote(link)).exists(), (name, link)


def test_stored_pages_have_no_dead_links() -> None:
    """What is left out of results (runs' own folders) is not linked."""
    pages = sorted((DOCS.parent / "results").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        for link in re.findall(r'(?:href|src)="([^"#:]+)["#]', page.read_text(encoding="utf-8")):
            assert (page.parent / unquote(unescape(link))).exists(), (page, link)


def test_the_page_of_claims_is_what_recipes_and_results_say() -> None:
    """As ``python docs/make_claims.py`` writes it; each claim of a source's recipe stands there."""
    made = runpy.run_path(str(DOCS / "make_claims.py"))["claims_page"]()
    assert PAGES["claims.md"] == made, "run python docs/make_claims.py"
    for recipe in all_recipes():
        if recipe.name.startswith(("thesis", "lecture", "assist")):
            for claim in [*recipe.claims, *recipe.trends]:
                assert claim.text.startswith("Ours") or claim.text in made
    # ASSIST table 4.6, test accuracy: .849 - .787 with batches of 1024, .578 - .521 with batches of 16.
    assert "(1024 against 16). | +0.062 against +0.057 |  | not measured |" in made
    for link in re.findall(r"\]\((\.\./results/[^)]+)\)", made):
        assert (DOCS / unquote(link)).exists(), link


def test_the_decision_table_is_what_results_say() -> None:
    """As ``python docs/make_which.py`` writes it; differences and intervals follow from the stored runs."""
    module = runpy.run_path(str(DOCS / "make_which.py"))
    assert PAGES["which.md"] == module["which_page"](), "run python docs/make_which.py"
    stored = sorted((DOCS.parent / "results").glob("**/results.json"))
    assert len(stored) == len(module["comparisons"]()) > 30
    for file in stored:
        told = json.loads(file.read_text())
        assert (
            f"(../results/{quote(file.parent.relative_to(DOCS.parent / 'results').as_posix())}/"
            in PAGES["which.md"]
        )
        accuracy = {m["name"]: {r["seed"]: r["test_accuracy"] for r in m["runs"]} for m in told["methods"]}
        for method in told["methods"]:
            if method["difference"] is None:
                continue
            base = accuracy[told["reference"]]
            pairs = [value - base[seed] for seed, value in accuracy[method["name"]].items()]
            low, high = stats.ttest_1samp(pairs, 0).confidence_interval(0.95)
            shown = f"{100 * sum(pairs) / len(pairs):+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
            row = next(line for line in PAGES["which.md"].splitlines() if f"[{_name(file)}](" in line)
            assert f"**{method['name']}** {shown}" in row, (file, method["name"])
            cells = dict(zip(("better", "worse", "undecided"), row.split(" | ")[2:5], strict=True))
            assert f"**{method['name']}** " in cells[method["difference"]["verdict"]]


def _name(file: Path) -> str:
    return file.parent.relative_to(DOCS.parent / "results").as_posix()


def test_the_site_has_every_page() -> None:
    """MkDocs' navigation names each guide and card once; only the decision table stands in two places."""
    nav = yaml.safe_load((DOCS.parent / "mkdocs.yml").read_text())["nav"]
    named = [page for page in _leaves(nav) if not (DOCS.parent / page).exists()]
    assert set(named) == set(PAGES)
    assert sorted(named) == sorted([*PAGES, "which.md"])
    cards = {name.removeprefix("methods/") for name in PAGES if name.startswith("methods/")} - {"README.md"}
    assert set(re.findall(r"\(([\w-]+\.md)\)", PAGES["methods/README.md"])) == cards


def test_the_reference_has_every_public_name() -> None:
    """Each stands once on its page, at the address where its docstring is."""
    module = runpy.run_path(str(DOCS / "site" / "reference.py"))
    pages = module["public"]()
    own = set(module["OWN_IMPORT"])
    named = {name.rpartition(".")[2] for name in {*pages, *pages["lessonplan"]} - own}
    assert named - {"lessonplan"} == set(lp.__all__)
    texts = [*PAGES.values(), *(path.read_text() for path in (DOCS.parent / "examples").glob("*.py"))]
    imported = set(re.findall(r"lessonplan\.(?:integrations|train)\.\w+(?= import)", "".join(texts)))
    assert len(imported) >= 4
    assert imported <= own, "what guides and examples import stands in the reference"
    assert "lessonplan.integrations.lightning.MixCallback" in pages["lessonplan.integrations.lightning"]
    assert {f"lessonplan.mix.{name}" for name in lp.mix.__all__} == set(pages["lessonplan.mix"])
    assert len(pages["lessonplan.losses"]) >= 1
    for page, names in pages.items():
        shown = re.findall(r"^::: (.*)$", module["page_of"](page, names), re.MULTILINE)
        assert len(shown) == len(names)
        for name, place in zip(names, shown, strict=True):
            if page in own:
                tree = ast.parse((DOCS.parent / "src" / f"{page.replace('.', '/')}.py").read_text())
                defined = {n.name for n in tree.body if isinstance(n, (ast.ClassDef, ast.FunctionDef))}
                assert place == name
                assert name.rpartition(".")[2] in defined
                continue
            assert pkgutil.resolve_name(place) is pkgutil.resolve_name(name.replace(".", ":", 1)), name


def _leaves(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [leaf for entry in (nav.values() if isinstance(nav, dict) else nav) for leaf in _leaves(entry)]


def test_what_comes_from_the_net_and_dead_links_are_found(tmp_path: Path) -> None:
    """``make docs`` ends with this look at what was built."""
    problems = runpy.run_path(str(DOCS / "site" / "check_site.py"))["problems"]
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "page.html").write_text('<h1 id="top">A</h1><a href="../index.html#here">back</a>')
    (tmp_path / "pic.png").write_bytes(b"")
    good = '<a id="here" href="a%20b/page.html#top">x</a> <img src="pic.png"> <a href="https://example.org">y</a>'
    (tmp_path / "index.html").write_text(good)
    (tmp_path / "style.css").write_text("a { background: url(pic.png) }")
    assert problems(tmp_path) == []
    for bad in (
        '<script src="https://example.org/x.js"></script>', '<link href="//example.org/f.css" rel="stylesheet">',
        '<img src="http://example.org/x.png">', '<img src="none.png">', '<a href="none.html">x</a>',
        '<a href="a%20b/page.html#nowhere">x</a>', "<style>@import 'https://example.org/x.css';</style>",
        '<img srcset="pic.png 1x, https://example.org/x.png 2x">',
    ):  # fmt: skip
        (tmp_path / "index.html").write_text(good + bad)
        assert len(problems(tmp_path)) == 1, bad
    (tmp_path / "index.html").write_text(good)
    (tmp_path / "style.css").write_text("a { background: url(https://example.org/x.png) }")
    assert len(problems(tmp_path)) == 1
