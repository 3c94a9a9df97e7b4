"""Small faults put into Python files, by mutmut's operators, and a sample of them.

Unlike mutmut itself this also reaches decorated functions and what a class says of itself, such as the defaults of
a dataclass. Left out by rule, because no behaviour hangs on it or because nothing can make it happen:

- type annotations, type variables and the type that ``cast`` names; decorators; imports; ``__all__``;
- docstrings (all strings with three quotes), and what is said in ``raise`` and ``warnings.warn``;
- ``assert``, ``zip``'s ``strict`` and ``NotImplementedError``: they speak of mistakes of our own;
- the arguments of ``len`` and ``isinstance``, as in mutmut.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import libcst as cst
from libcst import matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider, WhitespaceInclusivePositionProvider
from mutmut.mutation.mutators import mutation_operators

_CALLS = ("cast", "TypeVar", "ParamSpec", "len", "isinstance")
_LEFT_OUT: dict[type[cst.CSTNode], m.BaseMatcherNode | None] = {
    cst.Annotation: None,
    cst.Decorator: None,
    cst.Import: None,
    cst.ImportFrom: None,
    cst.Raise: None,
    cst.Assert: None,
    cst.Call: m.Call(func=m.OneOf(*map(m.Name, _CALLS), m.Attribute(m.Name("warnings"), m.Name("warn")))),
    cst.Arg: m.Arg(keyword=m.Name("strict")),
    cst.Assign: m.Assign(targets=[m.AssignTarget(m.Name("__all__"))]),
    cst.If: m.If(test=m.Name("TYPE_CHECKING")),
}


@dataclass(frozen=True)
class Mutant:
    """A file with one fault.

    Args:
        name: ten hexadecimal digits, which stay the same when other parts of the file change.
        package: the part of the library that the file belongs to.
        path: of the file, relative to the repository.
        scope: the function or class that it stands in, with dots; empty in a module.
        places: (first, last) lines, from 1, by which tests that touch it are looked for: the expression's, its
            statement's, then those of each function and class around it, innermost first, then the file's.
        was, becomes: the code before and after.
        text: the whole file.
    """

    name: str
    package: str
    path: str
    scope: str
    places: list[list[int]]
    was: str
    becomes: str
    text: str


def drawn(
    root: Path, packages: dict[str, tuple[list[str], int]], seed: int, cache: Path
) -> tuple[dict[str, int], list[Mutant]]:
    """How many faults each package has, and a sample; every beginning of it is a sample of each package.

    The same seed draws the same faults, but where the code was changed: they are put into the order of a checksum.

    Args:
        packages: {name: (paths of files relative to ``root``, how many faults)}.
        cache: folder; looking for faults takes half a minute, so what was found is kept there, by content.
    """
    totals: dict[str, int] = {}
    placed = []
    for package, (paths, wanted) in packages.items():
        faults = [fault for path in paths for fault in _faults_of(root, path, cache)]
        totals[package] = len(faults)
        faults.sort(key=lambda fault: hashlib.sha256(f"{seed}/{fault.name}".encode()).hexdigest())
        sound = (mutant for fault in faults if (mutant := fault.mutant(root, package)) is not None)
        placed += [(place / wanted, mutant) for place, mutant in zip(range(wanted), sound, strict=False)]
    return totals, [mutant for _, mutant in sorted(placed, key=lambda p: (p[0], p[1].package))]


@dataclass(frozen=True)
class _Fault:
    """As ``Mutant``; ``code`` takes the place of what is ``within`` (line, column, line, column) of the file.

    ``number`` counts faults that are otherwise alike.
    """

    path: str
    scope: str
    places: list[list[int]]
    was: str
    becomes: str
    number: int
    within: list[int]
    code: str

    @property
    def name(self) -> str:
        content = "\0".join((self.path, self.scope, self.was, self.becomes, str(self.number)))
        return hashlib.sha256(content.encode()).hexdigest()[:10]

    def mutant(self, root: Path, package: str) -> Mutant | None:
        """None where the change gives no Python or nothing new."""
        before = (root / self.path).read_text()
        lines = before.splitlines(keepends=True)
        first, start, last, end = self.within
        head, tail = lines[first - 1][:start], lines[last - 1][end:]
        text = "".join([*lines[: first - 1], head, self.code, tail, *lines[last:]])
        try:
            compile(text, self.path, "exec")
        except SyntaxError:
            return None
        if text == before:
            return None
        return Mutant(self.name, package, self.path, self.scope, self.places, self.was, self.becomes, text)


def _faults_of(root: Path, path: str, cache: Path) -> list[_Fault]:
    text = (root / path).read_text()
    digest = hashlib.sha256("\0".join((path, text, Path(__file__).read_text())).encode()).hexdigest()[:16]
    kept = cache / f"{digest}.json"
    if not kept.exists():
        wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
        finder = _Finder(path, wrapper.module)
        wrapper.visit(finder)
        cache.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps([asdict(fault) for fault in finder.found]))
    return [_Fault(**fault) for fault in json.loads(kept.read_text())]


def _left_out(node: cst.CSTNode) -> bool:
    if type(node) not in _LEFT_OUT:
        return False
    pattern = _LEFT_OUT[type(node)]
    return pattern is None or m.matches(node, pattern)


class _Finder(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider, WhitespaceInclusivePositionProvider)

    def __init__(self, path: str, module: cst.Module) -> None:
        super().__init__()
        self.path, self.module = path, module
        self.found: list[_Fault] = []
        self._alike: Counter[tuple[str, str, str]] = Counter()
        self._names: list[str] = []
        self._scopes = [(1, len(module.code.splitlines()))]
        self._statement = self._scopes[0]

    def on_visit(self, node: cst.CSTNode) -> bool:
        if _left_out(node):
            return False
        if isinstance(node, (cst.BaseSmallStatement, cst.BaseCompoundStatement)):
            first, last = self._lines(node)
            if isinstance(node, cst.BaseCompoundStatement):  # of which only the head is its own
                last = max(first, self._lines(node.body)[0] - 1)
            self._statement = (first, last)
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            self._names.append(node.name.value)
            self._scopes.append(self._lines(node))
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                for new in operator(node):
                    self._add(node, new)
        return True

    def on_leave(self, node: cst.CSTNode) -> None:
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            self._names.pop()
            self._scopes.pop()

    def _lines(self, node: cst.CSTNode) -> tuple[int, int]:
        position = self.get_metadata(PositionProvider, node, None)
        return (position.start.line, position.end.line) if position else self._statement  # type: ignore[attr-defined]

    def _add(self, old: cst.CSTNode, new: cst.CSTNode) -> None:
        scope, was, becomes = ".".join(self._names), self._code(old), self._code(new)
        self._alike[scope, was, becomes] += 1
        number = self._alike[scope, was, becomes]
        places = [list(lines) for lines in (self._lines(old), self._statement, *reversed(self._scopes))]
        whole = self.get_metadata(WhitespaceInclusivePositionProvider, old)
        within = [whole.start.line, whole.start.column, whole.end.line, whole.end.column]  # type: ignore[attr-defined]
        code = self.module.code_for_node(new)
        self.found.append(_Fault(self.path, scope, places, was, becomes, number, within, code))

    def _code(self, node: cst.CSTNode) -> str:
        return " ".join(self.module.code_for_node(node).split())
