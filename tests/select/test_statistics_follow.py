"""Scoring as ASSIST's own code does it: in training mode, and running statistics follow."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.mix import Network
from lessonplan.seeds import fold_seed
from lessonplan.select import Scoring, parse_select

ALGORITHM_10 = "accuracy >> batchwise:overflow=discard,raw_batch_size=run"


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 32), nn.BatchNorm1d(32),
            nn.ReLU(), nn.Linear(32, 10),
        )  # fmt: skip


def authors_loop(data: lp.data.Data, size: int, epochs: int) -> tuple[nn.Module, int]:
    """Algorithm 10 with the network in training mode throughout, in plain PyTorch.

    As in the later versions of the author's code; the first ones pass the completing raw batch once more.
    """
    model, updates = network().train(), 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    xs: list[Tensor] = []
    ys: list[Tensor] = []
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(fold_seed(3, "order", epoch))
        for rows in torch.randperm(len(data.train), generator=generator).split(size):
            x, y = data.train.fetch(rows, epoch)
            with torch.no_grad():
                wrong = model(x).argmax(1) != y
            xs.append(x[wrong])
            ys.append(y[wrong])
            if sum(map(len, ys)) >= size:
                x, y = torch.cat(xs)[:size], torch.cat(ys)[:size]
                xs, ys = [], []
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
                updates += 1
    return model, updates


def ours(data: lp.data.Data, size: int, epochs: int, select: str) -> tuple[nn.Module, int]:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loop = lp.batches(model.train(), data, f"select:{select}", batch_size=size, epochs=epochs, seed=3)
    while not loop.over:
        for x, y, _ in loop:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model, loop.counters.steps


def test_equals_the_authors_trainer_to_the_last_bit() -> None:
    """Weights and running statistics; to restore the statistics gives other ones."""
    data = lp.data.load("digits", per_class=20, val_per_class=5, augment="crop:1")
    theirs, updates = authors_loop(data, 16, 6)
    same, as_many = ours(data, 16, 6, f"{ALGORITHM_10},max_age=none,statistics=follow")
    assert updates == as_many > 10
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, same.state_dict()[name]), name
    restored, _ = ours(data, 16, 6, f"{ALGORITHM_10},max_age=none,mode=train")
    assert torch.equal(theirs[0].weight, restored[0].weight)  # batches decide in both
    assert not torch.equal(theirs[1].running_mean, restored[1].running_mean)


def test_what_follows_and_what_does_not() -> None:
    """Statistics of the batch; not of a single sample or of frozen parts, nor weights, modes, random state."""
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    net[2].requires_grad_(False)
    net.eval()
    x, y = 5 + torch.randn(8, 3), torch.zeros(8, dtype=torch.int64)
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    score = Scoring(statistics="follow")
    score(Network(net), x[:1], y[:1])
    assert int(net[0].num_batches_tracked) == 0
    score(Network(net), x, y)
    torch.testing.assert_close(net[0].running_mean, 0.1 * x.mean(0))
    assert torch.equal(torch.get_rng_state(), random)
    assert not net.training
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"0.running_mean", "0.running_var", "0.num_batches_tracked"}


def test_follow_is_training_mode_and_another_run() -> None:
    plain, follow = parse_select("accuracy"), parse_select("accuracy >> batchwise:statistics=follow")
    assert follow.batchwise is not None
    assert follow.batchwise.scoring == Scoring("train", statistics="follow")
    assert str(follow) == "accuracy >> batchwise:statistics=follow"
    assert str(parse_select(str(follow))) == str(follow)
    assert plain.config() != follow.config()
    assert "statistics" not in str(plain.config())  # runs of before are the same ones
    with pytest.raises(ConfigError, match="give 'restore' or 'follow'"):
        parse_select("accuracy >> batchwise:statistics=keep")
    keep: Any = "keep"
    with pytest.raises(ConfigError, match="give restore or follow"):
        Scoring(statistics=keep)
