"""torchvision's own mixup and CutMix, where torchvision is installed."""

from __future__ import annotations

import pytest
import torch
from tests.oracles import oracle
from torch.nn.functional import one_hot

from lessonplan import mix as m
from lessonplan.mix import functional as F

v2 = oracle("torchvision.transforms.v2")

N = 7


@pytest.fixture
def _kept_rng():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.usefixtures("_kept_rng")
def test_mixup():
    y, hot = torch.arange(N), torch.eye(N)
    x = torch.randn(N, 3, 6, 8)
    for _ in range(5):
        mixed, target = v2.MixUp(alpha=0.7, num_classes=N)(x, y)
        lam = target[0, 0]
        torch.testing.assert_close(F.interpolate(x, x.roll(1, 0), lam), mixed)
        torch.testing.assert_close(F.interpolate(hot, hot.roll(1, 0), lam), target)


@pytest.mark.usefixtures("_kept_rng")
def test_cutmix():
    y = torch.arange(N)
    x = y.float()[:, None, None, None].expand(N, 3, 6, 8).clone()
    for _ in range(20):
        mixed, target = v2.CutMix(alpha=1.0, num_classes=N)(x, y)
        inside = (mixed[0, 0] != 0).nonzero()
        top, left = inside.amin(0) if len(inside) else torch.zeros(2).long()
        bottom, right = inside.amax(0) + 1 if len(inside) else torch.zeros(2).long()
        pasted, kept = F.paste_boxes(x, x.roll(1, 0), torch.stack([top, bottom, left, right])[None])
        hot = one_hot(y, N).float()
        torch.testing.assert_close(pasted, mixed)
        torch.testing.assert_close(F.interpolate(hot, hot.roll(1, 0), kept[0]), target)


@pytest.mark.usefixtures("_kept_rng")
def test_a_batch_turned_by_one_is_torchvisions(monkeypatch):
    y, x = torch.arange(N), torch.randn(N, 3, 6, 8)
    mix = m.Mixup(num_classes=N, pairing="rotate")
    monkeypatch.setattr(mix, "_integer", lambda below: 0)  # the least of N - 1: by one place
    for _ in range(5):
        expected = v2.MixUp(num_classes=N)(x, y)
        lam = expected[1][0, 0].double()
        monkeypatch.setattr(mix, "_dirichlet", lambda *_, lam=lam: torch.stack([lam, 1 - lam])[:, None])
        torch.testing.assert_close(mix(x, y), expected)
