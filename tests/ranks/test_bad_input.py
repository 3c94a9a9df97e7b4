"""What cannot be trained on several ranks gets one sentence, on all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lessonplan as lp
from lessonplan.cli import main
from lessonplan.network.ranks import Ranks
from lessonplan.plan import Plan
from lessonplan.settings import Settings
from lessonplan.train.preparation import check_shared
from ranks.cases import misfit, one_after_the_other
from ranks.together import on_ranks

SENTENCES = {
    "seed": r"rank 1 is about to do something else than rank 0 \(seed: 0 -> 1\): start all ranks with the same",
    "data": r"rank 1 is about to do something else than rank 0 \(data\..*fingerprint",
    "code": r"rank 1 is about to do something else than rank 0 \(code: .* -> another\)",
    "small": "a batch of 1 is smaller than the 2 ranks: give a batch_size of at least 2",
    "hidden": "the mix manifold mixes hidden states.*give mix_over=rank",
    "solved": "fit_head=ncm makes no updates that could be shared out over 2 ranks",
    "scalar": r"the loss gives one number for a whole batch, of which 2 ranks have parts",
    "parts": "k=12 is larger than the batch of",
    "nan": "the loss is NaN or infinite at step 0",
}


@pytest.mark.parametrize("what", SENTENCES)
def test_all_ranks_are_told(what: str, tmp_path: Path) -> None:
    told = on_ranks(misfit, what, str(tmp_path / "run"), fails=True)
    for error in told:
        assert isinstance(error, lp.errors.LessonplanError), repr(error)
        assert re.search(SENTENCES[what], str(error)), str(error)


def test_a_folder_of_another_run(tmp_path: Path) -> None:
    """Only the first rank reads the folder; the other one raises the same sentence."""
    (tmp_path / "config.yaml").write_text("{model: other, budget: 3 steps, threads: 1}")
    first, second = on_ranks(misfit, "folder", str(tmp_path), fails=True)
    assert "holds a run of another configuration" in str(first)
    assert str(first) == str(second)
    assert type(first) is type(second) is lp.errors.ConfigError


def test_each_rank_says_what_it_has_found_itself() -> None:
    """Even if another rank has found it, and ended, a moment before."""
    first, second = on_ranks(one_after_the_other, fails=True)
    assert [str(first), str(second)] == ["found by rank 0", "found by rank 1"]
    assert type(first) is type(second) is lp.errors.ConfigError


def test_started_by_torchrun_but_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(
        lp.errors.ConfigError, match=r"one of 2 that were started .* call torch\.distributed\.init"
    ):
        lp.fit("fcnet-8", "digits", budget="1 steps")


def test_commands_that_are_not_shared_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(SystemExit) as stop:
        main(["compare", "--methods", "erm"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "lessonplan: rank 1: lessonplan compare is not shared out over ranks: run it without torchrun\n"
    )


def test_the_part_is_named_wherever_it_stands() -> None:
    plan = Plan.parse("mixup >> manifold:alpha=1.0")
    with pytest.raises(lp.errors.ConfigError, match="the mix manifold:alpha=1"):
        check_shared(plan, Settings(), 16, Ranks(0, 2))
    check_shared(plan, Settings(mix_over="rank"), 16, Ranks(0, 2))
    check_shared(plan, Settings(), 16, Ranks())
