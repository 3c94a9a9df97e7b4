"""Parameter counts against published numbers and against formulas worked by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from lessonplan.models import WideResNet, build_model, count_parameters

# name, input shape, classes, published count (exact or to the digits given), tolerance
PUBLISHED = [
    ("lenet", (1, 32, 32), 10, 61_706, 0),  # LeNet-5
    ("resnet-18", (3, 32, 32), 10, 11_173_962, 0),  # CIFAR variant
    ("preact-resnet-18", (3, 32, 32), 10, 11.17e6, 5e3),
    ("preact-resnet-56", (3, 32, 32), 10, 0.85e6, 5e3),  # He et al. 2016a, table 6
    ("preact-resnet-110", (3, 32, 32), 10, 1.7e6, 5e4),
    ("wrn-16-8", (3, 32, 32), 10, 11.0e6, 5e4),  # Zagoruyko and Komodakis 2016, table 4
    ("wrn-40-4", (3, 32, 32), 10, 8.9e6, 5e4),
    ("wrn-28-10", (3, 32, 32), 10, 36.5e6, 5e4),
    ("dla", (3, 32, 32), 10, 16.3e6, 5e4),
    ("simple-dla", (3, 32, 32), 10, 15.1e6, 5e4),
    ("vgg-11", (3, 32, 32), 10, 9.23e6, 5e3),
    # the convolutions of VGG-16 (torchvision's vgg16().features), one from 512 to 1024 channels, a linear layer
    ("vgg-gap", (3, 224, 224), 1000, 14_714_688 + (512 * 9 + 1) * 1024 + 1025 * 1000, 0),
    ("densenet-bc-100-12", (3, 32, 32), 10, 0.77e6, 5e3),
    ("densenet-bc-250-24", (3, 32, 32), 10, 15.3e6, 5e4),  # Huang et al. 2017, table 2
    ("densenet-bc-190-40", (3, 32, 32), 10, 25.6e6, 5e4),
]


def count(name: str, shape: tuple[int, ...], classes: int) -> int:
    with torch.device("meta"):
        model = build_model(name, shape=shape, num_classes=classes, seed=0)
    assert all(p.is_meta for p in model.parameters())
    return count_parameters(model)


@pytest.mark.parametrize(("name", "shape", "classes", "published", "tolerance"), PUBLISHED)
def test_published(name: str, shape: tuple[int, ...], classes: int, published: float, tolerance: float) -> None:
    assert abs(count(name, shape, classes) - published) <= tolerance


def wide_resnet(depth: int, widen: int, channels: int, classes: int) -> int:
    """Convolutions 9ab, projections ab, two numbers a channel and norm; summed block by block."""
    total, before = 9 * channels * 16, 16
    for width in (16 * widen, 32 * widen, 64 * widen):
        for _ in range((depth - 4) // 6):
            total += 2 * before + 9 * before * width + 2 * width + 9 * width * width
            total += before * width if before != width else 0
            before = width
    return total + 2 * before + before * classes + classes


@pytest.mark.parametrize(("depth", "widen", "channels", "classes"), [(10, 1, 1, 7), (16, 1, 3, 10), (22, 3, 4, 2)])
def test_wide_resnet_formula(depth: int, widen: int, channels: int, classes: int) -> None:
    expected = wide_resnet(depth, widen, channels, classes)
    assert count(f"wrn-{depth}-{widen}", (channels, 32, 32), classes) == expected
    with torch.device("meta"):  # group norm has as many parameters as batch norm
        grouped = WideResNet(depth, widen, norm="group", in_channels=channels, num_classes=classes)
    assert count_parameters(grouped) == expected


@pytest.mark.parametrize(("growth", "depth"), [(4, 10), (12, 40), (5, 22)])
def test_densenet_formula(growth: int, depth: int) -> None:
    layers, width = (depth - 4) // 6, 2 * growth
    total = 27 * width
    for stage in range(3):
        for _ in range(layers):
            total += 2 * width + 4 * growth * width + 8 * growth + 9 * 4 * growth * growth
            width += growth
        if stage < 2:
            total += 2 * width + width * (width // 2)
            width //= 2
    assert count(f"densenet-bc-{depth}-{growth}", (3, 32, 32), 10) == total + 2 * width + 10 * width + 10


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 9, 40), (7,)])
def test_fcnet_formula(shape: tuple[int, ...]) -> None:
    inputs = 1
    for side in shape:
        inputs *= side
    assert count("fcnet-13", shape, 5) == inputs * 13 + 13 + 13 * 5 + 5


def test_preact_56_formula() -> None:
    total = 27 * 16 + 18 * 9 * 16 * 16 + 18 * 2 * 16  # stem; 18 convolutions and norms of width 16
    for width in (32, 64):
        total += 9 * (width // 2) * width + 17 * 9 * width * width  # 18 convolutions, one from half the width
        total += 2 * (width // 2) + 17 * 2 * width  # 18 norms, the first one over half the width
    assert count("preact-resnet-56", (3, 32, 32), 10) == total + 2 * 64 + 650


def test_vgg_formula() -> None:
    chain = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    convs = sum(9 * a * b + 2 * b for a, b in pairwise(chain))
    assert count("vgg-11", (3, 32, 32), 10) == convs + 5130


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28)])
def test_tiny_is_small(shape: tuple[int, ...]) -> None:
    width = 32 if shape[1] >= 28 else 24
    blocks = ((width, width), (width, 2 * width), (2 * width, 4 * width))
    total = 9 * shape[0] * width + sum(2 * a + 9 * a * b + 2 * b + 9 * b * b for a, b in blocks)
    expected = total + 2 * 4 * width + 10 * 4 * width + 10
    assert count("tiny", shape, 10) == expected
    assert 100_000 <= expected <= 300_000
