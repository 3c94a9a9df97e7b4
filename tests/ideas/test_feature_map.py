"""Flips and crops of hidden maps: what moves, how often, and that nothing stays behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lessonplan.data import Augment
from lessonplan.errors import ConfigError
from lessonplan.ideas import FeatureMapAugment
from lessonplan.models import build_model


class Net(nn.Module):
    """Pointwise layers, so that moving maps is moving the picture."""

    stage_names = ("first", "second", "third")

    def __init__(self, channels=1):
        super().__init__()
        self.first = nn.Conv2d(channels, 2, 1)
        self.second = nn.Conv2d(2, 2, 1)
        self.third = nn.Conv2d(2, 1, 1)
        self.unused = nn.Conv2d(1, 1, 1)
        self.head = nn.Flatten()

    def forward(self, x):
        return self.head(self.third(torch.tanh(self.second(torch.tanh(self.first(x))))))


def setup(n=64, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net()
    x = torch.randn(n, 1, 5, 4, generator=torch.Generator().manual_seed(1))
    return net, x, FeatureMapAugment(net, **options)


def hooks(model):
    return sum(len(m._forward_hooks) for m in model.modules())


def run(net, x, augment):
    with augment.forward_context():
        return net(x).unflatten(1, (5, 4))


@pytest.mark.parametrize("layer", ["first", "second"])
def test_flipped_maps_are_those_of_a_flipped_image(layer):
    net, x, augment = setup(layers=(layer,), augment="flip")
    found = run(net, x, augment)
    as_is, flipped = net(x).unflatten(1, (5, 4)), net(x.flip(3)).unflatten(1, (5, 4))
    same = [torch.allclose(a, b, atol=1e-6) for a, b in zip(found, as_is, strict=True)]
    other = [torch.allclose(a, b, atol=1e-6) for a, b in zip(found, flipped, strict=True)]
    assert all(a != b for a, b in zip(same, other, strict=True))
    assert 16 < sum(other) < 48  # half of 64, 4 deviations to each side


def test_crops_are_the_nine_shifts_with_a_border_of_zeros():
    net, _, augment = setup(layers=("first",), augment="crop:1,pad:zeros")
    n = 400
    maps = torch.arange(1.0, 21.0).view(1, 1, 5, 4).expand(n, 2, 5, 4)
    seen = []
    net.first.forward = lambda x: maps
    net.second.register_forward_pre_hook(lambda module, args: seen.append(torch.atanh(args[0].double())))
    net.first.register_forward_hook(lambda module, args, output: output / 100)
    run(net, torch.zeros(n, 1, 5, 4), augment)
    found = (seen[0] * 100).round().long()
    assert torch.equal(found[:, 0], found[:, 1])  # all channels alike
    padded = nn.functional.pad(maps[0, 0].long(), (1, 1, 1, 1))
    shifts = [padded[i : i + 5, j : j + 4] for i in range(3) for j in range(3)]
    counts = [sum(torch.equal(f, s) for f in found[:, 0]) for s in shifts]
    assert sum(counts) == n
    assert min(counts) > 15  # 400 / 9 = 44, deviation 6.3


def test_every_batch_is_moved_in_its_own_way():
    net, x, augment = setup(layers=("first",), augment="flip,crop:1")
    assert not torch.equal(run(net, x, augment), run(net, x, augment))


def test_layers_are_drawn_alike_and_by_default_from_the_first_two_stages():
    net, x, augment = setup(n=1)
    counts = dict.fromkeys(["first", "second", "third"], 0)
    for _ in range(200):
        with augment.forward_context():
            for name in counts:
                counts[name] += hooks(net.get_submodule(name))
            net(x)
    assert counts["third"] == 0
    assert min(counts["first"], counts["second"]) > 60


def test_nothing_stays_behind():
    net, x, augment = setup()
    clean = net(x)
    with augment.forward_context():
        assert hooks(net) == 1
        net(x)
    with pytest.raises(ZeroDivisionError), augment.forward_context():
        raise ZeroDivisionError
    assert hooks(net) == 0
    assert torch.equal(net(x), clean)


def test_gradients_pass_to_where_the_values_came_from():
    """Flipped maps have a flipped gradient: the sum over the first column of the output."""
    net, x, augment = setup(layers=("first",), augment="flip")
    kept = []

    def keep(module, args, output):
        output.retain_grad()
        kept.append(output)

    net.first.register_forward_hook(keep)
    run(net, x, augment)[:, :, 0].sum().backward()
    columns = kept[0].grad.abs().sum((1, 2))
    left, right = columns[:, 0] > 0, columns[:, 3] > 0
    assert torch.equal(left, ~right)
    assert left.any()
    assert right.any()
    assert (columns[:, 1:3] == 0).all()


def test_state_continues_the_stream_and_seeds_differ():
    net, x, augment = setup()
    run(net, x, augment)
    state = augment.state_dict()
    expected = [run(net, x, augment) for _ in range(3)]
    again = FeatureMapAugment(net, seed=5)
    assert not torch.equal(run(net, x, again), expected[0])
    again.load_state_dict(state)
    assert all(torch.equal(run(net, x, again), e) for e in expected)


def test_global_randomness_is_left_alone():
    net, x, augment = setup()
    before = torch.random.get_rng_state()
    run(net, x, augment)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_networks_of_the_library_are_taken_as_they_are():
    model = build_model("tiny", shape=(1, 8, 8), num_classes=10, seed=0)
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    augment = FeatureMapAugment(model.eval(), augment="crop:1")
    with augment.forward_context():
        moved = model(x)
    assert moved.shape == (4, 10)
    assert not torch.allclose(moved, model(x))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"layers": ("frist",)}, "did you mean 'first'"),
        ({"layers": ()}, "layers is empty"),
        ({"augment": "none"}, "give flip, crop:1 or both"),
        ({"augment": Augment(flip=True, transform=lambda x: x)}, "give flip, crop:1 or both"),
        ({"augment": "rotate:10"}, "give flip, crop:1 or both"),
        ({"augment": "crop"}, "crop:4"),
    ],
)
def test_settings_that_are_refused(options, match):
    with pytest.raises(ConfigError, match=match):
        setup(**options)


def test_layers_that_cannot_be_used_are_named():
    net, x, _ = setup()
    for layers, augment, match in (
        (("unused",), "flip", "took no part"),
        (("head",), "flip", "feature maps"),
        (("first",), "crop:4", "behind 'first'.*at most 3"),
        (("first",), Augment(flip=True, crop=-1), "0 or more"),
    ):
        with pytest.raises(ConfigError, match=match):
            run(net, x, FeatureMapAugment(net, layers=layers, augment=augment))
        assert hooks(net) == 0
    with pytest.raises(ConfigError, match="does not name its stages"):
        FeatureMapAugment(nn.Sequential(nn.Conv2d(1, 1, 1)))
