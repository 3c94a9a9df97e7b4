"""Two ranks train as one process does with the same batches: the same samples, choices and losses."""

from __future__ import annotations

import pytest
import torch

from ranks.cases import PLANS, STEPS, train, train_all
from ranks.together import on_ranks

REUSED = {"filtered", "single passes"}
"""What one process saves by training on the passes that scored, ranks do not: they count more passes."""
NAMES = list(PLANS)
QUICK, FIRST, SECOND, THIRD = NAMES[:4], NAMES[4:10], NAMES[10:15], NAMES[15:]


@pytest.mark.parametrize(
    "names",
    [QUICK, *(pytest.param(names, marks=pytest.mark.slow) for names in (FIRST, SECOND, THIRD))],
    ids=["quick", "mixes", "selections", "orders"],
)
def test_losses_samples_and_decisions(names: list[str]) -> None:
    first, second = on_ranks(train_all, names)
    for name in names:
        one = train(name)
        compare(name, one, first[name], second[name])


def compare(name: str, one: dict, first: dict, second: dict) -> None:
    assert len(one["losses"]) == len(first["losses"]) == STEPS, name
    pairs = zip(first["losses"], second["losses"], strict=True)
    together = torch.tensor([(a + b) / (m + n) for (a, m), (b, n) in pairs])
    alone = torch.tensor([total / count for total, count in one["losses"]])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5, msg=lambda said: f"{name}: {said}")
    assert first["samples"] == second["samples"] == one["samples"], name
    assert first["counted"] == second["counted"], name
    assert (first["counted"] == one["counted"]) is (name not in REUSED), name
    for key, weight in one["weights"].items():
        assert torch.equal(first["weights"][key], second["weights"][key]), (name, key)
        torch.testing.assert_close(first["weights"][key], weight, rtol=0, atol=1e-4)
    assert first["history"] == second["history"], name
    assert first["result"] == second["result"], name
    _compare_histories(name, one["history"], first["history"])
    assert one["result"]["test"]["accuracy"] == first["result"]["test"]["accuracy"], name


def _compare_histories(name: str, one: list[dict], ranks: list[dict]) -> None:
    assert len(one) == len(ranks), name
    for alone, together in zip(one, ranks, strict=True):
        assert alone.keys() == together.keys(), name
        assert alone.get("mix") == together.get("mix"), name
        assert alone["step"] == together["step"], name
        for part in ("train", "val", "train_set"):
            assert (alone.get(part) is None) == (together.get(part) is None), (name, part)
            for measure, value in (alone.get(part) or {}).items():
                # beliefs are kept to five decimals, which may round two values that are near to neighbours
                step = 1e-5 if measure.startswith(("confidence", "margin")) else 0
                assert round(abs(together[part][measure] - value), 9) <= 1e-5 + step, (name, part, measure)
