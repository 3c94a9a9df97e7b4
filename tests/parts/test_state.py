"""Declared state: what is stored is what was declared, and it goes back to where it came from."""

from __future__ import annotations

import torch
from torch import Tensor

from lessonplan.parts.state import Stateful


class Inner(Stateful):
    STATE = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Outer(Stateful):
    STATE = ("generator", "_position", "on=active")

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(1)
        self._position, self.active = 0, True
        self.undeclared = 0


class Derived(Outer):
    STATE = ("inners", "inner", "table", "tables", "far=inner.count", "nothing")

    def __init__(self) -> None:
        super().__init__()
        self.inners, self.inner = [Inner(), Inner()], Inner()
        self.table, self.nothing = torch.zeros(2), None
        self.tables: dict[str, Tensor] = {}
        self.worked_out = 0

    def _restored(self) -> None:
        self.worked_out = 10 * self._position


def changed() -> Derived:
    one = Derived()
    torch.rand(3, generator=one.generator)
    one._position, one.active, one.undeclared = 4, False, 7
    one.inners[1].count, one.inner.count = 5, 6
    one.table = torch.tensor([1.0, 2.0])
    one.tables = {"a": torch.ones(1)}
    return one


def test_everything_declared_goes_back() -> None:
    one, other = changed(), Derived()
    state = one.state_dict()
    assert set(state) == {"generator", "position", "on", "inners", "inner", "table", "tables", "far", "nothing"}
    inners, inner, generator = other.inners, other.inner, other.generator
    other.load_state_dict(state)
    assert (other._position, other.active, other.undeclared, other.worked_out) == (4, False, 0, 40)
    assert other.inners is inners
    assert other.inner is inner
    assert other.generator is generator
    assert [item.count for item in inners] == [0, 5]
    assert inner.count == 6
    assert torch.equal(other.table, one.table)
    assert torch.equal(other.tables["a"], torch.ones(1))
    assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=one.generator))


def test_what_is_stored_stays_as_it_was() -> None:
    """Neither side goes on to change it."""
    one = changed()
    state = one.state_dict()
    one.table += 1
    one.tables["a"] += 1
    other = Derived()
    other.load_state_dict(state)
    other.table += 5
    other.tables["a"] += 5
    assert state["table"].tolist() == [1.0, 2.0]
    assert state["tables"]["a"].tolist() == [1.0]
