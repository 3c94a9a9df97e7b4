"""Features that are kept on disk: what they are, when they are computed, and what a bad disk does to them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lessonplan as lp
from lessonplan.errors import LessonplanWarning
from lessonplan.pretrained.features import Backbone, FeatureCache, NoFeatures
from lessonplan.train.frozen import FeatureView

LENGTH = 16


def net(last: nn.Module | None = None, activation: nn.Module | None = None, eps: float = 1e-5) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4, eps=eps), activation or nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), last or nn.Linear(LENGTH, 10)]
    return nn.Sequential(*layers)


class Scaled(nn.Module):
    """Multiplies features, some far beyond what half precision holds."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.where(x[:, :1] > 0.0, 1e6, 1.0)


@pytest.fixture(scope="module")
def data() -> lp.data.Data:
    """80 training, 20 validation and some test samples of one source."""
    return lp.data.load("digits", per_class=10, val_fraction=0.2, augment="none")


@pytest.fixture
def backbone() -> Backbone:
    return Backbone(net(), "5")


@pytest.fixture
def counted(backbone: Backbone) -> list[int]:
    """How many samples each pass through the network took."""
    passes: list[int] = []
    backbone.network.register_forward_hook(lambda _, args, __: passes.append(len(args[0])))
    return passes


def cache(folder: Path, data: lp.data.Data, views: int = 1) -> FeatureCache:
    return FeatureCache(folder / "key", len(data.train.source), LENGTH, views)


def by_hand(network: nn.Sequential, view: lp.data.View, epoch: int = 0) -> Tensor:
    x, _ = view.fetch(torch.arange(len(view)), epoch)
    with torch.no_grad():
        found: Tensor = network.eval()[:-1](x)
    return found


def test_features_are_what_the_head_takes(data: lp.data.Data, backbone: Backbone, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    modes = [m.training for m in backbone.network.modules()]
    found = cache(tmp_path, data).read(data.val, backbone)
    assert (found.shape, found.dtype) == ((1, 20, LENGTH), torch.float16)
    assert [m.training for m in backbone.network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(found[0].float(), by_hand(backbone.network, data.val), rtol=2**-10, atol=1e-6)


def test_only_missing_rows_are_computed(
    data: lp.data.Data, backbone: Backbone, counted: list[int], tmp_path: Path
) -> None:
    train = cache(tmp_path, data).read(data.train, backbone)
    assert counted == [32, 32, 32], "three full batches for 80 samples"
    assert torch.equal(cache(tmp_path, data).read(data.train, backbone), train)
    assert len(counted) == 3, "computed again"
    other = lp.data.load("digits", per_class=10, val_fraction=0.2, augment="none", seed=1).train
    other = other.normalised(data.train._normalise)
    shared = np.isin(other.rows.numpy(), data.train.rows.numpy()).sum()
    found = cache(tmp_path, data).read(other, backbone)
    assert len(counted) - 3 == -(-(80 - shared) // 32)
    torch.testing.assert_close(found[0].float(), by_hand(backbone.network, other), rtol=2**-10, atol=1e-6)
    fresh = cache(tmp_path / "cold", data).read(other, backbone)
    assert torch.equal(found, fresh), "what was there before shows in the numbers"


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    at = next(i for i, byte in enumerate(content) if byte)
    content[at] ^= 1
    path.write_bytes(bytes(content))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 1])


def _text(path: Path) -> None:
    path.write_bytes(b"hello world" * (path.stat().st_size // 11))


def _moved(path: Path) -> None:
    """Every row in the place of another one, its checksum beside it."""
    for name, kind, width in (("float16.bin", np.int16, LENGTH), ("float16.sums", np.uint32, 1)):
        file = path.with_name(name)
        content = np.fromfile(file, kind).reshape(-1, width)
        content[1:-1:2], content[2::2] = content[2::2].copy(), content[1:-1:2].copy()
        content.tofile(file)


def _gone(path: Path) -> None:
    path.unlink()


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", ["float16.bin", "float16.sums"])
@pytest.mark.parametrize("damage", [_flip, _cut, _text, _moved, _gone, _folder])
@pytest.mark.filterwarnings("ignore:features cannot be kept")
def test_what_is_damaged_is_computed_again(
    name: str,
    damage: Callable[[Path], None],
    data: lp.data.Data,
    backbone: Backbone,
    counted: list[int],
    tmp_path: Path,
) -> None:
    right = cache(tmp_path, data).read(data.train, backbone)
    damage(tmp_path / "key" / name)
    counted.clear()
    assert torch.equal(cache(tmp_path, data).read(data.train, backbone), right)
    assert counted, "damaged rows were taken"
    if damage is not _folder:
        counted.clear()
        assert torch.equal(cache(tmp_path, data).read(data.train, backbone), right)
        assert not counted, "they were not put right"


def test_rows_of_another_network_are_not_taken(data: lp.data.Data, backbone: Backbone, tmp_path: Path) -> None:
    """Files that were copied from one key to another."""
    torch.manual_seed(1)
    other = Backbone(nn.Sequential(nn.Flatten(), nn.Linear(64, LENGTH), nn.Linear(LENGTH, 10)), "2")
    FeatureCache(tmp_path / "other", len(data.train.source), LENGTH).read(data.train, other)
    (tmp_path / "other").rename(tmp_path / "key")
    found = cache(tmp_path, data).read(data.train, backbone)
    torch.testing.assert_close(found[0].float(), by_hand(backbone.network, data.train), rtol=2**-10, atol=1e-6)


def test_a_full_disk_is_told_of_once(
    data: lp.data.Data, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = cache(tmp_path / "good", data).read(data.train, backbone)
    opened, attempts = os.open, []

    def full(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith(".bin"):
            attempts.append(path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", full)
    with pytest.warns(LessonplanWarning, match="No space left on device") as caught:
        assert torch.equal(cache(tmp_path, data).read(data.train, backbone), right)
    assert (len(caught), len(attempts)) == (1, 1)


def test_a_folder_that_cannot_be_made(data: lp.data.Data, backbone: Backbone, tmp_path: Path) -> None:
    right = cache(tmp_path / "good", data).read(data.train, backbone)
    (tmp_path / "file").write_text("")
    with pytest.warns(LessonplanWarning, match=r"cannot be kept in .*feature_cache=FOLDER") as caught:
        assert torch.equal(cache(tmp_path / "file", data).read(data.train, backbone), right)
    assert len(caught) == 1


def test_large_features_are_bfloat16_whoever_came_before(data: lp.data.Data, tmp_path: Path) -> None:
    """A view's type depends on its own features: cold or warm, and whatever else is kept there."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, LENGTH), Scaled(), nn.Linear(LENGTH, 10))
    backbone = Backbone(network, "3")
    true = by_hand(network, data.train)
    fits = true.abs().amax(1) <= 65504
    assert 10 < fits.sum() < 75
    small = lp.data.View(data.train.source, data.train.rows[fits], normalise=data.train._normalise)
    first = cache(tmp_path, data).read(small, backbone)
    for _ in range(2):
        with pytest.warns(LessonplanWarning, match=r"a feature is .*e\+0\d, too large .* bfloat16") as caught:
            found = cache(tmp_path, data).read(data.train, backbone)
        assert len(caught) == 1
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found[0].float(), true, rtol=2**-7, atol=1e-3)
    again = cache(tmp_path, data).read(small, backbone)
    assert first.dtype == again.dtype == torch.float16
    assert torch.equal(first, again)


def test_a_second_process_waits(data: lp.data.Data, backbone: Backbone, tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    holds = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(1, flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", holds, str(tmp_path / "key" / ".lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout is not None
    other.stdout.readline()
    reader = threading.Thread(target=lambda: cache(tmp_path, data).read(data.train, backbone))
    reader.start()
    reader.join(0.5)
    assert reader.is_alive(), "it did not wait"
    assert not (tmp_path / "key" / "float16.bin").exists()
    other.communicate("\n")
    reader.join(20)
    assert not reader.is_alive()
    assert (tmp_path / "key" / "float16.bin").exists()


def test_several_views_take_turns(backbone: Backbone, tmp_path: Path) -> None:
    train = lp.data.load("digits", per_class=4, augment="crop:2", seed=3).train
    table = FeatureCache(tmp_path / "key", len(train.source), LENGTH, 4).read(train, backbone)
    plain = by_hand(backbone.network, train.with_augment(None))
    for number in range(4):
        expected = by_hand(backbone.network, train, number) if number else plain
        torch.testing.assert_close(table[number].float(), expected, rtol=2**-10, atol=1e-6)
    view = FeatureView(table, train)
    every = torch.arange(len(train))
    epochs = torch.stack([view.fetch(every, epoch)[0] for epoch in range(5)])
    assert torch.equal(epochs[4], epochs[0])
    for at in range(len(train)):
        seen = {tuple(epochs[e, at].tolist()) for e in range(4)}
        assert seen == {tuple(table[n, at].float().tolist()) for n in range(4)}, "a view is left out"
    assert torch.equal(view.with_augment(None).fetch(every, 2)[0], table[0].float())
    batched = [x for x, _ in view.batches(every.split(7), epoch=1)]
    assert torch.equal(torch.cat(batched), epochs[1])


def test_networks_are_told_apart_by_all_but_their_head() -> None:
    shape, own = (1, 8, 8), Backbone(net(), "5").identity((1, 8, 8))
    assert Backbone(net(nn.Linear(LENGTH, 3)), "5").identity(shape) == own
    assert Backbone(net(), "5").identity(shape) == own
    for other in (net(activation=nn.GELU()), net(eps=1e-2), net(activation=nn.LeakyReLU(1e-5))):
        assert other.state_dict().keys() == net().state_dict().keys()
        assert Backbone(other, "5").identity(shape) != own, "the same weights in other layers"

    kinds = []
    for factor in (1, 2):

        class Mine(nn.Module):
            times = factor

            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(0)
                self.body, self.fc = nn.Linear(64, LENGTH), nn.Linear(LENGTH, 10)

            def forward(self, x: Tensor) -> Tensor:
                out: Tensor = self.fc((self.body(x.flatten(1)) + 1) ** self.times)
                return out

        kinds.append(Backbone(Mine(), "fc").identity(shape))
    assert kinds[0] != kinds[1], "the same class name, another forward pass"


class Around(nn.Module):
    """A head inside of something else."""

    def __init__(self, behind: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.fc, self.behind = nn.Flatten(), nn.Linear(64, 10), behind
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self.fc, self.body(x))


@pytest.mark.parametrize(
    ("behind", "said"),
    [
        (lambda fc, x: fc(x), None),
        (lambda fc, x: fc(input=x), None),
        (lambda fc, x: 2 * fc(x), "something comes behind"),
        (lambda fc, x: fc(x).relu(), "something comes behind"),
        (lambda fc, x: fc(x).tanh(), "something comes behind"),
        (lambda fc, x: fc(x).log_softmax(1), "something comes behind"),
        (lambda fc, x: fc(x) + 0.1 * x[:, :10], "something comes behind"),
        (lambda fc, x: fc(x)[:, :5], "something comes behind"),
        (lambda fc, x: fc(x) + fc(-x), "does not take vectors"),
        (lambda fc, x: fc(x[:, None]).squeeze(1), "does not take vectors"),
    ],
)
def test_a_head_of_zeros_hides_nothing_behind_it(behind: Any, said: str | None) -> None:
    backbone, x = Backbone(Around(behind), "fc"), torch.randn(2, 1, 8, 8)
    if said is None:
        assert backbone.length(x) == 64
    else:
        with pytest.raises(NoFeatures, match=said):
            backbone.length(x)
