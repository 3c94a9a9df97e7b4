"""The head of a run of ours: kept for its own classes, in any order, and begun anew for others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import lessonplan as lp
from lessonplan.data.arrays import TensorSource
from lessonplan.train.origin import origin_of

_NAMES = ("bird", "cat", "dog")


def data(names: tuple[str, ...]) -> lp.data.Data:
    """The same pictures of three classes, numbered in the order of ``names``; those of ``_NAMES`` keep theirs."""
    pixels = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    known = [_NAMES[i // 20] if _NAMES[i // 20] in names else names[i // 20] for i in range(60)]
    return lp.data.load(TensorSource(pixels, torch.tensor([names.index(name) for name in known]), names))


@pytest.fixture
def first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    lp.fit("tiny", data(_NAMES), None, "9 steps", out=tmp_path / "first", threads=1)
    capsys.readouterr()
    return tmp_path / "first"


def begun(names: tuple[str, ...], first: Path, model: str | nn.Module = "tiny") -> nn.Module:
    """The network as a run from these weights begins, all but for updates too small to be seen."""
    run = lp.fit(model, data(names), None, "2 steps", weights=str(first), lr=1e-12, weight_decay=0.0, threads=1)
    return run.model


def test_the_same_classes_keep_the_head(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.testing.assert_close(begun(_NAMES, first).classifier.weight, lp.load(first).model.classifier.weight)
    said = capsys.readouterr().err
    assert "tensors loaded\n" in said


def test_classes_in_another_order_take_their_rows_along(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each class has the logits that it had, by name."""
    plain, turned, x = lp.load(first).model, begun(("dog", "bird", "cat"), first), torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        before, after = plain(x), turned(x)
    torch.testing.assert_close(after, before[:, [2, 0, 1]])
    assert "tensors loaded; the head's rows in the order of the classes\n" in capsys.readouterr().err


def test_other_classes_begin_anew(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many as there were, of other names; one that stays makes no difference."""
    network, before = begun(("bird", "cow", "eel"), first), lp.load(first).model
    assert network.classifier.weight.abs().max() < 1e-9
    torch.testing.assert_close(network.stem.weight, before.stem.weight)
    said = capsys.readouterr().err
    assert "; a head for other classes (bird, cat, dog) left out; 2 left out; new: classifier.weight, " in said


def test_of_a_head_of_several_layers_the_last_one_begins_anew(tmp_path: Path) -> None:
    def net() -> nn.Module:
        torch.manual_seed(0)
        head = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), head)

    lp.fit(net(), data(_NAMES), None, "9 steps", head="3", out=tmp_path / "first", threads=1)
    trained = lp.load(tmp_path / "first", net()).model
    run = lp.fit(
        net(), data(("a", "b", "c")), None, "2 steps", weights=str(tmp_path / "first"), head="3", lr=1e-12,
        weight_decay=0.0, threads=1,
    )  # fmt: skip
    torch.testing.assert_close(run.model[3][0].weight, trained[3][0].weight)
    assert run.model[3][2].weight.abs().max() < 1e-9


def test_runs_with_other_heads_are_other_runs(first: Path) -> None:
    """What becomes of the head is part of what tells runs apart; where it is kept nothing is said of it."""
    origin = origin_of("tiny", str(first))
    assert origin.identity_for(_NAMES) == origin.identity
    turned, others = origin.identity_for(("dog", "bird", "cat")), origin.identity_for(("bird", "cow", "eel"))
    assert turned["head"] != others["head"]
    assert {**turned, "head": 0} == {**others, "head": 0} == {**origin.identity, "head": 0}
    of_file = origin_of("tiny", str(first / "weights.safetensors"))
    assert of_file.identity_for(("bird", "cow", "eel")) == of_file.identity
