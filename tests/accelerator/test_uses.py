"""What else is done with a network on the device: evaluation, comparison, prediction, loops of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lessonplan as lp
from lessonplan.lab.evaluation import Evaluation, evaluate, run_subject
from lessonplan.mix.functional import permuted_sum
from lessonplan.mix.text import MIXES
from lessonplan.network.best_snapshot import BestSnapshot
from lessonplan.network.snapshot import Snapshot
from lessonplan.rows import rows_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the device."""
    folder = tmp_path_factory.mktemp("device") / "run"
    data = lp.data.load("digits", per_class=20, val_fraction=0.2, label_noise=0.1)
    lp.fit("tiny", data, "mixup", "40 steps", batch_size=16, threads=1, out=folder, device="pretended")
    return folder


def test_predictions_are_those_of_the_cpu(run: Path, device: str) -> None:
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 8), dtype=np.uint8)
    there, here = lp.load(run, device=device), lp.load(run, device="cpu")
    assert next(there.model.parameters()).device.type == device
    torch.testing.assert_close(there.predict(list(images)).cpu(), here.predict(list(images)), atol=1e-6, rtol=1e-5)
    assert there.classify(list(images)) == here.classify(list(images))


def test_positions_on_the_cpu_reach_samples_on_the_device(device: str) -> None:
    x, permutations = torch.randn(4, 3), torch.tensor([[1, 0, 3, 2], [3, 2, 1, 0]])
    weights = torch.tensor([0.5, 0.25, 0.25])
    there = permuted_sum(x.to(device), permutations, weights)
    torch.testing.assert_close(there.cpu(), permuted_sum(x, permutations, weights))
    assert torch.equal(rows_of(x.to(device), permutations[0]).cpu(), x[permutations[0]])


def test_an_evaluation_with_everything(run: Path, device: str, tmp_path: Path) -> None:
    options = Evaluation.make(
        ttsa="k=2,copies=3",
        mixup_inference=True,
        attacks="fgsm,bim:steps=2,mim:steps=2,pgd:steps=2",
        eps="8/255",
        ood="noise",
        localise=True,
        between=True,
        limit=20,
        curve_limit=10,
        adaptive_limit=4,
    )
    measures = []
    for name in (device, "cpu"):
        subject = run_subject(run, device=name)
        assert subject.device.type == name
        found = evaluate(subject, options, out=tmp_path / name, live=False)
        assert set(found["parts"]) == set(found["planned"])
        measures.append(found["measures"])
    assert measures[0] == pytest.approx(measures[1], rel=1e-3, abs=1e-4)


def test_a_comparison_of_every_mix(device: str, tmp_path: Path) -> None:
    methods = ",".join(["erm", *MIXES])
    found = lp.compare(
        methods, data="digits", model="tiny", budget="160 samples", seeds=1, per_class=10, threads=1, jobs=1,
        device=device, out=tmp_path,
    )  # fmt: skip
    assert found["failures"] == []
    assert len(found["methods"]) == len(MIXES) + 1


def test_a_loop_of_ones_own(device: str) -> None:
    x = torch.randint(0, 256, (60, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    data = lp.data.load((x, torch.arange(60) % 3), test=(x[:3], torch.arange(3)), device=device)
    net = lp.models.build_model("tiny", shape=data.shape, num_classes=3, seed=0).to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    plan = "select:accuracy + order:multi-attempt:k=2 + puzzle"
    updates = 0
    batches = lp.batches(net, data.train, plan, batch_size=8, epochs=2, optimizer=optimizer)
    while not batches.over:
        for x, target, weights in batches:
            assert x.device.type == target.device.type == weights.device.type == device
            loss = (nn.functional.cross_entropy(net(x), target, reduction="none") * weights).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            updates += 1
    assert updates > 4


@pytest.mark.parametrize("metric", ["detailed_metrics", "reliability", "calibration_error"])
def test_metrics_of_logits_on_the_device(metric: str, device: str) -> None:
    said, y = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)).softmax(1), torch.arange(20) % 3
    function = getattr(lp.evaluate, metric)
    expected, found = function(said, y), function(said.to(device), y.to(device))
    assert str(found) == str(expected)


def test_the_best_of_several_states_is_chosen_on_the_device(device: str) -> None:
    """Beside a snapshot that is taken where somebody has looked at the scores."""
    for optimizer_class in (torch.optim.SGD, torch.optim.Adam):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 2))
        net.to(device, memory_format=torch.channels_last)
        optimizer = optimizer_class(net.parameters(), lr=0.1)
        before, best = Snapshot(net, optimizer), BestSnapshot(net, optimizer)
        before.take()
        scores = [0.5, float("nan"), 2.0, 2.0, 1.0]
        states, highest = [], torch.tensor(-torch.inf, device=device)
        for value in scores:
            x = torch.randn(4, 1, 4, 4, device=device)
            net(x).square().sum().backward()
            optimizer.step()
            score = torch.tensor(value, device=device)
            best.offer(score > highest)
            highest = torch.where(score > highest, score, highest)
            states.append([t.detach().cpu().clone() for t in net.state_dict().values()])
            before.restore()
        best.restore_offered(2)
        for now, then in zip(net.state_dict().values(), states[2], strict=True):
            assert torch.equal(now.cpu(), then)
        steps = [state["step"] for state in optimizer.state.values() if "step" in state]
        assert all(step == 1 for step in steps)
        assert len(steps) == (6 if optimizer_class is torch.optim.Adam else 0)
