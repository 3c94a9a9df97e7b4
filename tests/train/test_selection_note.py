"""What a run says of its selection while the first epoch runs, against hand-worked costs."""

from __future__ import annotations

import re

import pytest

from lessonplan.train.selection_note import SelectionCost, selection_cost


@pytest.fixture
def measured(quick, hook):
    """The costs that a plan shows at its last batch of an epoch."""

    def run(plan: str, **options) -> SelectionCost:
        seen: list[SelectionCost] = []

        def note(trainer) -> None:
            seen.append(selection_cost(trainer))

        quick(plan, "1ep", callbacks=[hook(on_batch_end=note)], **options)
        return seen[-1]

    return run


@pytest.mark.parametrize(
    ("plan", "acceptance", "update", "epoch"),
    [
        ("select:topk:0.5 >> batchwise:raw_batch_size=16", 0.5, (1 + 1.5) / 1.5, (1 + 1.5) / 3),
        ("select:random:0.5 >> batchwise:raw_batch_size=16", 0.5, 1.0, 0.5),
        ("select:topk:0.25 >> epochwise", 0.25, (1 + 0.75) / 0.75, (1 + 0.75) / 3),
        ("select:topk:0.25 >> epochwise:every=4", 0.25, (0.25 + 0.75) / 0.75, (0.25 + 0.75) / 3),
        # Two samples a row of the mix: a candidate of a plain epoch costs 1.5.
        ("select:topk:0.5 >> batchwise:raw_batch_size=16 + sum:k=2", 0.5, 1.75 / 0.75, 1.75 / 1.5),
        ("select:topk:0.5 >> batchwise:raw_batch_size=16 + order:multi-attempt:k=3", 0.5, 2.5 / 1.5, 2.5 / 3),
    ],
)
def test_costs_are_those_of_the_formulas(measured, plan, acceptance, update, epoch) -> None:
    cost = measured(plan)
    assert cost.acceptance == pytest.approx(acceptance)
    assert cost.update == pytest.approx(update)
    assert cost.epoch == pytest.approx(epoch)
    assert cost.asks == ("random" not in plan)


def test_one_pass_for_scores_and_training(measured) -> None:
    """Of each 12 candidates 9 are kept, and all 12 have a backward pass: 12/9 of a plain update."""
    cost = measured("select:topk:0.75 >> batchwise:batch_size=none,raw_batch_size=12,reuse=always")
    assert cost.one_pass
    assert cost.update == pytest.approx(12 / 9)
    assert cost.epoch == pytest.approx(1.0)


def test_said_once_before_the_first_epoch_ends(quick, hook, capfd) -> None:
    said: list[tuple[int, float, str]] = []

    def listen(trainer) -> None:
        if text := capfd.readouterr().err:
            said.append((trainer.counters.epoch, trainer.counters.epoch_share, text))

    # Hooks of a user come before the note's, so what it says is heard one batch later.
    quick(
        "select:topk:0.5 >> batchwise:raw_batch_size=16",
        "3ep",
        batch_size=2,
        callbacks=[hook(on_batch_end=listen)],
    )
    ((epoch, share, text),) = said
    assert epoch == 0
    assert share < 1
    assert re.fullmatch(
        r"lessonplan: selection keeps 50% of the candidates so far: an update costs 1\.67 times the passes of a"
        r" plain one \(\d+% of the time goes into scoring and reading\), an epoch 83% of a plain epoch's\n",
        text,
    )


def test_said_at_the_end_of_an_epoch_without_updates(quick, capfd) -> None:
    quick("select:topk:1 >> batchwise:raw_batch_size=48", "2ep", batch_size=8)
    assert capfd.readouterr().err == (
        "lessonplan: selection keeps 2.1% of the candidates so far, which filled no batch in the first epoch: its"
        " passes only gave scores\n"
    )


def test_silent_without_a_selection(quick, capfd) -> None:
    quick("sum:k=2", "2ep")
    assert capfd.readouterr().err == ""
