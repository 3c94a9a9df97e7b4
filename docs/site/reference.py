"""A hook of MkDocs: the pages of the reference, one for each public module and one for the rest."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

import lessonplan as lp

_LIBRARIES = ("accelerate", "albumentations", "lightning", "timm", "torchvision", "transformers")
OWN_IMPORT = [*(f"lessonplan.integrations.{name}" for name in _LIBRARIES), "lessonplan.train.loggers"]
"""Modules that ``import lessonplan`` leaves alone. They are read and not imported: most of them need a package."""


def public() -> dict[str, list[str]]:
    """Every page with the public names on it, as they are imported."""
    modules = [name for name in lp.__all__ if isinstance(getattr(lp, name), ModuleType)]
    pages = {"lessonplan": [f"lessonplan.{name}" for name in lp.__all__ if name not in modules]}
    for name in modules:
        pages[f"lessonplan.{name}"] = [f"lessonplan.{name}.{member}" for member in _members(getattr(lp, name))]
    for name in OWN_IMPORT:
        pages[name] = [f"{name}.{member}" for member in listed_in(_read(name))]
    return pages


def _read(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    assert spec.origin is not None, module
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def listed_in(tree: ast.Module) -> list[str]:
    """The names in the ``__all__`` of a module that is not imported.

    >>> listed_in(ast.parse('__all__ = ["A", "b"]'))
    ['A', 'b']
    """
    lists = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    return list(ast.literal_eval(lists[0]))


def _members(module: ModuleType) -> list[str]:
    """What a module says is public; without such a list, the functions and classes that it defines."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(listed)
    own = (n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__)
    return sorted(name for name in own if not name.startswith("_"))


def home(name: str) -> str:
    """Where a public name is defined; its own address where that cannot be asked (a table, say).

    >>> home("lessonplan.mix.Cascade")
    'lessonplan.mix.cascade.Cascade'
    """
    if name.rpartition(".")[0] in OWN_IMPORT:
        return name
    value: Any = pkgutil.resolve_name(name.replace(".", ":", 1))
    if isinstance(value, ModuleType):
        return value.__name__
    if inspect.isclass(value) or inspect.isfunction(value):
        return f"{value.__module__}.{value.__qualname__}"
    return name


def page_of(module: str, names: list[str]) -> str:
    """The Markdown of a page, for mkdocstrings."""
    own = module in OWN_IMPORT
    text = ast.get_docstring(_read(module)) if own else inspect.getdoc(pkgutil.resolve_name(module))
    first = (text or "").partition("\n\n")[0]
    if own:
        imported = ", ".join(_last(name) for name in names)
        title, line = module.removeprefix("lessonplan."), f"from {module} import {imported}"
    else:
        title, line = f"lp{module.removeprefix('lessonplan')}", "import lessonplan as lp"
    return f"# `{title}`\n\n{first}\n\n`{line}`\n" + "".join(f"\n::: {home(name)}\n" for name in names)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def on_config(config: Any) -> Any:
    """Put the pages where the navigation has room for them, behind those of the command line."""
    entry = next(entry for entry in config.nav if "Reference" in entry)
    entry["Reference"] = [*entry["Reference"], *({_title(module): _place(module)} for module in public())]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    from mkdocs.structure.files import File  # here: the names above are tested without MkDocs

    for module, names in public().items():
        files.append(File.generated(config, _place(module), content=page_of(module, names)))
    return files


def _title(module: str) -> str:
    if module == "lessonplan":
        return "Training and comparing"
    return module.removeprefix("lessonplan.") if module in OWN_IMPORT else f"lp.{_last(module)}"


def _place(module: str) -> str:
    return f"reference/{module.removeprefix('lessonplan.')}.md"
