"""What a run says of its selection while the first epoch runs, against hand-worked costs."""

from __future__ import annotations

import pytest

from lessonplan.errors import ConfigError


@pytest.mark.parametrize(
    ("plan", "kept", "alone", "drawn"),
    [
        # 48 samples: 48 scored, 24 trained on for 3 each.
        ("select:topk:0.5 >> batchwise:raw_batch_size=16", "50%", (48 + 72) / 72, (48 + 72) / 144),
        ("select:random:0.5 >> batchwise:raw_batch_size=16", "50%", 1.0, 0.5),
        ("select:topk:0.25 >> epochwise", "25%", (48 + 36) / 36, (48 + 36) / 144),
        # Two samples a row: 24 kept ones are 12 rows.
        ("select:topk:0.5 >> batchwise:raw_batch_size=16 + sum:k=2", "50%", (48 + 36) / 72, (48 + 36) / 144),
    ],
)
def test_costs_are_those_of_the_formulas(quick, capfd, plan, kept, alone, drawn) -> None:
    quick(plan, "1ep")
    text = capfd.readouterr().err
    assert text.startswith(
        f"lessonplan: selection keeps {kept} of the candidates so far: passes cost {alone:.2f} "
    )
    assert f", {drawn:.0%} of those of training on all that were drawn" in text
    assert text.endswith("mixing included\n" if "sum" in plan else "drawn\n")


def test_one_pass_for_scores_and_training(quick, capfd) -> None:
    """Of each 12 candidates 9 are kept, and all 12 have a backward pass: 12/9 of a plain update."""
    quick("select:topk:0.75 >> batchwise:batch_size=none,raw_batch_size=12,reuse=always", "1ep")
    assert f"passes cost {12 / 9:.2f} times" in capfd.readouterr().err


def test_said_once_before_the_first_epoch_ends(quick, hook, capfd) -> None:
    said: list[tuple[int, float]] = []

    def listen(trainer) -> None:
        if capfd.readouterr().err:
            said.append((trainer.counters.epoch, trainer.counters.epoch_share))

    # Hooks of a user come before the note's, so what it says is heard one batch later.
    plan = "select:topk:0.75 >> batchwise:raw_batch_size=8"
    quick(plan, "3ep", batch_size=1, callbacks=[hook(on_batch_end=listen)])
    ((epoch, share),) = said
    assert epoch == 0
    assert share < 1


def test_said_at_the_end_of_an_epoch_without_updates(quick, capfd) -> None:
    with pytest.raises(ConfigError, match="no update was made"):
        quick("select:topk:1 >> batchwise:raw_batch_size=48", "2ep", batch_size=8)
    assert capfd.readouterr().err == (
        "lessonplan: selection keeps 2.1% of the candidates so far, which filled no batch in the first epoch: its"
        " passes only gave scores\n"
    )


def test_silent_without_a_selection(quick, capfd) -> None:
    quick("sum:k=2", "2ep")
    assert capfd.readouterr().err == ""
