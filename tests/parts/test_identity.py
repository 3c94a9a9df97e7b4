"""Functions in an identity: other code, defaults, constants or surroundings make another function."""

from __future__ import annotations

import functools
import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from lessonplan.parts.identity import describe_function, describe_value

POWER = 2


def by_power(x, y):
    """Reads a global number."""
    return x.flatten(1).mean(1) ** POWER


def scaled(factor):
    return lambda x, y: x * factor


class Score:
    """Has a state."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x, y):
        return x * self.factor


DIFFERENT = {
    "a lambda's code": (lambda x: x + 1, lambda x: x - 1),
    "a lambda's constant": (lambda x: x + 1, lambda x: x + 2),
    "a nested lambda": (lambda x: lambda: 1, lambda x: lambda: 2),
    "an attribute": (lambda x: x.std(), lambda x: x.var()),
    "a default": (lambda x, p=1: x**p, lambda x, p=2: x**p),
    "a keyword's default": (lambda x, *, p=1: x**p, lambda x, *, p=2: x**p),
    "a variable around it": (scaled(1), scaled(2)),
    "a tensor around it": (scaled(torch.ones(3)), scaled(torch.zeros(3))),
    "a part of a tensor": (scaled(torch.arange(4)[:2]), scaled(torch.arange(4)[2:])),
    "a bound argument": (functools.partial(by_power, y=1), functools.partial(by_power, y=2)),
    "a bound function": (functools.partial(math.sqrt), functools.partial(math.exp)),
    "an object's state": (Score(1), Score(2)),
    "a method's object": (Score(1).__call__, Score(2).__call__),
    "a module's option": (
        torch.nn.CrossEntropyLoss(label_smoothing=0.1),
        torch.nn.CrossEntropyLoss(label_smoothing=0.2),
    ),
    "an installed function": (F.cross_entropy, F.nll_loss),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_different_functions_are_described_differently(what):
    one, other = DIFFERENT[what]
    assert describe_function(one) != describe_function(other)
    assert describe_function(one) == describe_function(one)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.complex64, torch.bool, torch.int8])
def test_tensors_count_by_value_type_and_shape(dtype):
    values = [torch.ones(2, 3), torch.zeros(2, 3), torch.ones(3, 2), torch.ones(()), torch.ones(0)]
    described = [describe_function(scaled(value.to(dtype))) for value in values]
    assert len(set(described)) == len(values)
    assert describe_function(scaled(torch.ones(3, 2, dtype=dtype).T)) == described[0]  # however it lies in memory
    assert describe_function(scaled(torch.ones(2, 3, dtype=torch.float16))) not in described


def test_equal_functions_are_described_alike():
    assert describe_function(scaled(3)) == describe_function(scaled(3))
    assert describe_function(Score(3)) == describe_function(Score(3))
    assert describe_function(torch.nn.CrossEntropyLoss()) == describe_function(torch.nn.CrossEntropyLoss().eval())


def test_a_global_number_counts(monkeypatch):
    before = describe_function(by_power)
    monkeypatch.setitem(by_power.__globals__, "POWER", 3)
    assert describe_function(by_power) != before


def test_a_function_that_is_written_anew_under_its_name():
    described = []
    for body in ("x.mean()", "x.max()"):
        names: dict = {"__name__": "__main__"}
        exec(f"def score(x, y):\n    return {body}", names)
        described.append(describe_function(names["score"]))
    assert described[0].split()[0] == described[1].split()[0] == "__main__:score"
    assert described[0] != described[1]


def test_installed_functions_go_by_their_name():
    assert describe_function(F.cross_entropy) == "torch.nn.functional:cross_entropy"
    assert describe_function(len) == "builtins:len"
    assert describe_function(torch.optim.SGD) == "torch.optim.sgd:SGD"


def test_recursion_ends():
    def call(n):
        return call(n - 1) if n else 0

    assert describe_function(call) == describe_function(call)


def test_values_are_plain_data():
    assert describe_value((1, "a", [None, len])) == [1, "a", [None, "builtins:len"]]


@pytest.mark.slow
def test_the_same_in_every_process():
    code = (
        "from lessonplan.parts.identity import describe_function as d\n"
        "k = {'a', 'b', 'c'}\n"
        "print(d(lambda x: (x in k, {'p': x}, lambda: object)))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(filter(None, sys.path))},
        ).stdout
        for seed in (1, 2)
    }
    assert len(found) == 1
