"""What a loop does at a switch: best weights back, the optimizer anew, stored with the rest."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from lessonplan import mix as m


def _at(model: nn.Linear, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


@pytest.mark.parametrize("reset", [True, False])
def test_a_stage_ends_with_its_best_weights(reset: bool) -> None:
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    heard: list[float] = []
    mix = m.Cascade(k=4, num_classes=2, patience=2, shares=None, reset_optimizer=reset)
    stages = m.Stages(mix, model, optimizer, on_switch=lambda: heard.append(float(model.weight.detach())))
    for value, metric in ((1.0, 0.3), (2.0, 0.5), (3.0, 0.4), (4.0, 0.5)):
        _at(model, value)
        model(torch.ones(1, 1)).sum().backward()
        optimizer.step()
        said = stages.step(metric)
    assert said == "switched"
    assert heard == [2.0]
    assert float(model.weight.detach()) == 2.0
    assert mix.k == 2
    assert bool(optimizer.state) is not reset


def test_shares_of_the_budget_end_a_stage_too() -> None:
    model, mix = nn.Linear(1, 1, bias=False), m.Cascade(k=2, num_classes=2, patience=None)
    stages = m.Stages(mix, model)
    _at(model, 7.0)
    assert stages.step(0.5) == "improved"
    _at(model, 8.0)
    assert not stages.advance(0.4)
    assert stages.advance(0.6)
    assert float(model.weight.detach()) == 7.0


def test_best_weights_are_stored_with_the_mix() -> None:
    def make() -> tuple[nn.Linear, m.Stages]:
        model = nn.Linear(1, 1, bias=False)
        return model, m.Stages(m.Cascade(k=2, num_classes=2, patience=2, shares=None), model)

    model, stages = make()
    _at(model, 5.0)
    stages.step(0.9)
    _at(model, 6.0)
    stages.step(0.1)
    file = io.BytesIO()
    torch.save(stages.state_dict(), file)
    file.seek(0)
    model, stages = make()
    stages.load_state_dict(torch.load(file, weights_only=True))
    assert stages.step(0.1) == "switched"
    assert float(model.weight.detach()) == 5.0


def test_a_mix_without_stages_changes_nothing() -> None:
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    stages = m.Stages(m.Mixup(num_classes=2), model, optimizer)
    before = model.weight.detach().clone()
    assert not stages.advance(0.5)
    assert stages.step(0.5) == "waiting"
    assert stages.step(0.1) == "waiting"
    assert torch.equal(model.weight, before)
    assert stages.best is None
