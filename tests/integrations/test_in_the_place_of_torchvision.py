"""The drop-ins against torchvision's own MixUp and CutMix, with their draws given to ours."""

from __future__ import annotations

import inspect
from unittest import mock

import pytest
import torch
from tests.oracles import oracle

from lessonplan.errors import ConfigError
from lessonplan.integrations import torchvision as ours

v2 = oracle("torchvision.transforms.v2")
tv_tensors = oracle("torchvision.tv_tensors")

N = 6


@pytest.fixture(autouse=True)
def _kept_rng():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def batch():
    g = torch.Generator().manual_seed(1)
    return torch.randn(N, 3, 9, 12, generator=g), torch.arange(N) % 4


def injected(drop, lam, centre=(0, 0), size=(1, 1)):
    """A drop-in that draws what it is told: lambda, the box' centre, the neighbour as partner."""
    mix = drop.mix
    mix._dirichlet = lambda alpha, count, k: torch.tensor([[lam], [1 - lam]], dtype=torch.float64)
    mix._permutations = lambda count, n, device: torch.arange(n).roll(1, 0)[None]
    uniform = (torch.tensor([centre]) + 0.5) / torch.tensor([size])
    return drop, mock.patch("lessonplan.mix.pairs.torch.rand", return_value=uniform)


@pytest.mark.filterwarnings("ignore:.*soft already")
@pytest.mark.parametrize("labels", ["integer", "soft"])
def test_mixup_of_the_same_lambda_and_partners(labels):
    x, y = batch()
    y = y if labels == "integer" else torch.eye(4)[y] * 0.8 + 0.05
    for lam in (0.0, 0.3, 0.77, 1.0):
        their = v2.MixUp(alpha=1.0, num_classes=4)
        their._dist = mock.Mock(sample=lambda _, lam=lam: torch.tensor([lam]))
        drop, _ = injected(ours.MixUp(alpha=1.0, num_classes=4), lam)
        for got, expected in zip(drop(x, y), their(x, y), strict=True):
            torch.testing.assert_close(got, expected)


def test_cutmix_of_the_same_lambda_centre_and_partners():
    x, y = batch()
    for lam in (0.0, 0.1, 0.45, 0.7, 0.93, 1.0):
        for column, row in ((0, 0), (5, 3), (11, 8), (2, 7)):
            their = v2.CutMix(num_classes=4)
            their._dist = mock.Mock(sample=lambda _, lam=lam: torch.tensor([lam]))
            drawn = iter([torch.tensor([column]), torch.tensor([row])])
            with mock.patch("torchvision.transforms.v2._augment.torch.randint", lambda *_, d=drawn, **__: next(d)):
                expected = their(x, y)
            drop, centre = injected(ours.CutMix(num_classes=4), lam, (row, column), (9, 12))
            with centre:
                got = drop(x, y)
            for ours_, theirs in zip(got, expected, strict=True):
                torch.testing.assert_close(ours_, theirs)


@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
def test_arguments_are_theirs(name):
    given = inspect.signature(getattr(v2, name)).parameters.values()
    taken = list(inspect.signature(getattr(ours, name)).parameters.values())
    for their, our in zip(given, taken, strict=False):
        assert (our.name, our.default, our.kind) == (their.name, their.default, their.kind)
    assert {p.name for p in taken[len(list(given)) :]} == {"seed", "reuse"}


STRUCTURES = {
    "two": lambda x, y: (x, y),
    "a list": lambda x, y: [x, y, "name"],
    "a dictionary": lambda x, y: {"image": x, "Labels": y, "file_label": "a.png"},
    "images and a dictionary": lambda x, y: (x, {"fine label": y, "weight": torch.ones(N)}),
    "images that say so": lambda x, y: {"depth": torch.ones(N, 1, 9, 12), "labels": y, "rgb": tv_tensors.Image(x)},
    "video": lambda x, y: (tv_tensors.Video(x[:, None].expand(-1, 2, -1, -1, -1)), y),
}


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("kind", ["MixUp", "CutMix"])
def test_inputs_of_any_structure_come_back_as_theirs_do(name, kind):
    given = STRUCTURES[name](*batch())
    expected = getattr(v2, kind)(num_classes=4)(given)
    got = getattr(ours, kind)(num_classes=4)(given)

    def shape(value):
        if isinstance(value, dict):
            return {key: shape(item) for key, item in value.items()}
        if isinstance(value, (tuple, list)):
            return type(value), [shape(item) for item in value]
        return (type(value), value.shape, value.dtype) if isinstance(value, torch.Tensor) else value

    assert shape(got) == shape(expected)
    before = STRUCTURES[name](*batch())
    if isinstance(given, dict) and "depth" in given:
        assert torch.equal(got["depth"], before["depth"])
        assert not torch.equal(got["rgb"], before["rgb"])


def test_labels_are_found_by_a_function():
    x, y = batch()
    getter = lambda given: given["y"]  # noqa: E731
    mixed = ours.MixUp(num_classes=4, labels_getter=getter)({"x": x, "y": y})
    assert mixed["y"].shape == (N, 4)


def test_it_takes_turns_in_their_compositions():
    x, y = batch()
    choice = v2.RandomChoice([ours.CutMix(num_classes=4), ours.MixUp(num_classes=4)])
    mixed, target = v2.Compose([choice])(x, y)
    assert mixed.shape == x.shape
    torch.testing.assert_close(target.sum(1), torch.ones(N))


def test_wrong_inputs_are_named():
    x, y = batch()
    mix = ours.MixUp(num_classes=4)
    with pytest.raises(ConfigError, match="no labels were found"):
        mix({"x": x})
    with pytest.raises(ConfigError, match="2 batches of images"):
        mix({"a": tv_tensors.Image(x), "b": tv_tensors.Image(x), "labels": y})
    with pytest.raises(ConfigError, match="Mask cannot be mixed"):
        mix({"a": tv_tensors.Image(x), "b": tv_tensors.Mask(x[:, 0]), "labels": y})
    with pytest.raises(ConfigError, match="where images were sought"):
        mix(x[0], y)
    with pytest.raises(ConfigError, match="labels_getter='no'"):
        ours.CutMix(labels_getter="no")
    with pytest.raises(ConfigError, match="num_classes"):
        ours.CutMix()(x, y)
