"""A teacher's order: the same as by-score with the teacher's losses, and not a pass of the student's."""

from __future__ import annotations

import pytest
import torch

from lessonplan.errors import ConfigError, DataError
from lessonplan.order import ByScore, TeacherLed, parse_order


def losses_of(count: int = 48) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize(
    "options",
    [
        {"k": 4},
        {"k": 3, "order": "descending", "winners": 2},
        {"k": "all", "winners": "all"},
        {"k": 4, "items": "samples", "pool": 4},
        {"k": 4, "order": "inverse", "items": "samples"},
    ],
    ids=str,
)
def test_a_teacher_orders_as_by_score_does_with_its_losses(loop, same, options):
    losses = losses_of()
    teacher = loop(TeacherLed(run=losses, **options))
    images = teacher.data.fetch(torch.arange(48))[0].flatten(1)
    looked_up = ByScore(
        score=lambda x, y: losses[(x.flatten(1)[:, None] == images).all(2).int().argmax(1)], **options
    )
    scored = loop(looked_up)
    looked_up.generator.set_state(teacher.order.generator.get_state())
    for run in (teacher, scored):
        run.run(2)
    assert [b.indices.tolist() for b in teacher.trained] == [b.indices.tolist() for b in scored.trained]
    assert same(teacher.outcome(), scored.outcome())
    assert not any(any(passes) for passes in teacher.passes)


def test_an_epoch_that_is_sorted_once_begins_with_the_easy(loop):
    losses = losses_of()
    run = loop(TeacherLed(run=losses, k="all", winners="all", items="samples")).run(1)
    assert torch.cat([b.indices for b in run.trained]).tolist() == losses.argsort().tolist()


def test_the_run_may_stand_first_in_the_text():
    assert parse_order("teacher:runs/a,k=4").config() == {"name": "teacher", "k": 4, "run": "runs/a"}
    assert str(parse_order("teacher:run=runs/a")) == "teacher:run=runs/a"


def test_what_is_missing_or_does_not_fit_is_said(loop):
    with pytest.raises(ConfigError, match="does not know the teacher's losses: give run=FOLDER"):
        loop(TeacherLed(run="runs/a", k=2)).run(1)
    with pytest.raises(DataError, match="47 losses of the teacher for 48 training samples"):
        loop(TeacherLed(run=losses_of(47), k=2))
    with pytest.raises(DataError, match="one finite number for each training sample"):
        TeacherLed(run=torch.tensor([1.0, float("nan")]))


def test_the_losses_are_part_of_the_state_and_of_the_identity():
    one, other = TeacherLed(run=losses_of(), k=2), TeacherLed(run=losses_of() + 1, k=2)
    assert one.config() != other.config()
    assert one.config() == TeacherLed(run=losses_of(), k=2).config()
    gone = TeacherLed(run="runs/a", k=2)  # its folder is not there any more
    gone.load_state_dict(one.state_dict())
    assert torch.equal(gone.state_dict()["losses"], losses_of())
