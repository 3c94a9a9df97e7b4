"""Networks that do not fit, and parts of networks that are frozen."""

from __future__ import annotations

import copy
import warnings
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lessonplan as lp
from lessonplan.errors import ConfigError, LessonplanWarning
from lessonplan.models.channels import suit_channels
from lessonplan.network.untouched import seeded
from lessonplan.seeds import fold_seed

X = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)


def data():
    return lp.data.load((X, np.arange(40) % 3), test_fraction=0.25, augment="none")


class Output(NamedTuple):
    logits: Tensor
    loss: Tensor


class Net(nn.Module):
    def __init__(self, outputs: int = 3, form: str = "tensor") -> None:
        super().__init__()
        self.layer, self.form = nn.Linear(192, outputs), form

    def forward(self, x: Tensor):
        z = self.layer(x.flatten(1))
        return {
            "tensor": z, "tuple": (z, z), "named": Output(z, z.sum()), "dict": {"logits": z, "hidden": z},
            "other": {"hidden": z, "loss": z.sum()},
            "spatial": z[:, :, None, None], "flat": z.flatten(), "list": [z],
        }[self.form]  # fmt: skip


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (Net(1000), r"gives \(\d+, 1000\) for \d+ samples: it must give logits \(N, 3\), for 3 classes"),
        (Net(2), r"\(\d+, 2\) for \d+ samples"),
        (Net(form="tuple"), "gives a tuple: wrap it"),
        (Net(form="list"), "gives a list: wrap it"),
        (Net(form="other"), "gives a dict of hidden, loss: wrap it"),
        (Net(form="spatial"), r"gives \(\d+, 3, 1, 1\)"),
        (Net(form="flat"), r"gives \(\d+,\)"),
    ],
)
@pytest.mark.parametrize("plan", ["none", "mixup", "select:accuracy", "order:loss-delta:candidates=2"])
def test_outputs_that_are_no_logits_are_refused_before_training(tmp_path, net, words, plan) -> None:
    with pytest.raises(ConfigError, match=words):
        lp.fit(net, data(), plan, "1ep", out=tmp_path / "run", threads=1)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("plan", ["none", "select:accuracy + mixup", "order:loss-delta:candidates=2"])
def test_logits_among_other_outputs_are_used(plan) -> None:
    """As Hugging Face's models give them."""
    weights = []
    for form in ("tensor", "named", "dict"):
        torch.manual_seed(0)
        net = Net(form=form)
        lp.fit(net, data(), plan, "2ep", threads=1)
        weights.append(net.layer.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("form", ["other", "tuple"])
def test_outputs_that_are_no_logits_in_a_loop_of_ones_own(form) -> None:
    loop = lp.batches(Net(form=form), data(), "select:accuracy", batch_size=8, epochs=1)
    with pytest.raises(ConfigError, match="wrap it"):
        next(iter(loop))


class WithState(Net):
    def get_extra_state(self):
        return {"scale": 1}

    def set_extra_state(self, state) -> None:
        pass


def test_state_that_cannot_be_stored_is_refused_before_training(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"more than tensors \(_extra_state\)"):
        lp.fit(WithState(), data(), None, "1ep", out=tmp_path / "run", threads=1)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert lp.fit(WithState(), data(), None, "1ep", threads=1).result["steps"] > 0


class Frozen(nn.Module):
    """A backbone with batch normalisation, with and without parameters of its own, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4, affine=False), nn.Flatten()
        )
        self.norm = nn.BatchNorm1d(144)
        self.head = nn.Linear(144, 3)
        for parameter in self.backbone.parameters():
            parameter.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.backbone(x)))


@pytest.mark.parametrize("plan", ["none", "mixup", "select:accuracy", "order:loss-delta:candidates=2"])
def test_statistics_of_frozen_parts_stay(plan) -> None:
    net = Frozen()
    before = copy.deepcopy(net.state_dict())
    lp.fit(net, data(), plan, "3ep", threads=1, evaluate_every=1, evaluate_train=True)
    after = net.state_dict()
    same = {name for name, value in after.items() if torch.equal(value, before[name])}
    assert same == {name for name in after if name.startswith("backbone")}


def test_the_same_network_object_twice_is_told_of(tmp_path) -> None:
    net = Net()
    first = lp.fit(net, data(), None, "1ep", out=tmp_path / "a", threads=1)
    with pytest.warns(LessonplanWarning, match="has trained this network object before"):
        lp.fit(net, data(), "mixup", "1ep", threads=1)
    again = lp.fit(net, data(), None, "1ep", out=tmp_path / "a", threads=1)  # finished: nothing begins
    assert again.result == first.result
    lp.fit(Net(), data(), None, "1ep", threads=1)


def test_one_picture_is_a_list_of_one(tmp_path) -> None:
    from PIL import Image

    run = lp.fit("fcnet-8", data(), None, "1ep", out=tmp_path / "run", threads=1)
    assert run.result["steps"]
    classifier = lp.load(tmp_path / "run")
    image = Image.fromarray(X[0])
    image.save(tmp_path / "one.png")
    expected = classifier.predict([image])
    tensor = torch.from_numpy(X[0]).permute(2, 0, 1)
    for one in (image, tmp_path / "one.png", str(tmp_path / "one.png"), X[0], tensor):
        assert torch.equal(classifier.predict(one), expected)
        assert classifier.classify(one) == classifier.classify([image])
    assert classifier.predict(X[:5]).shape == (5, 3)
    assert classifier.predict([]).shape == (0, 3)


def test_a_finished_run_of_other_weights_is_told_of(tmp_path):
    """The same weights, or those that it ended with, are the run's own."""

    def network(seed):
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))

    trained = network(0)
    first = lp.fit(trained, "digits", None, "2 steps", out=tmp_path, threads=1)
    for same in (network(0), trained):
        again = lp.fit(same, "digits", None, "2 steps", out=tmp_path, threads=1)
        assert again.result == first.result
    with pytest.warns(LessonplanWarning, match="began with other weights than this network has"):
        lp.fit(network(1), "digits", None, "2 steps", out=tmp_path, threads=1)


class Colours(nn.Module):
    """For colours; ``spread`` takes grey images too, ``normalised`` nothing but colours."""

    def __init__(self, num_classes: int = 1000, form: str = "plain") -> None:
        super().__init__()
        self.form, self.scale = form, nn.Parameter(torch.ones(3, 1, 1), requires_grad=False)
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "normalised":
            x = x - self.scale
        if self.form == "spread":
            x = x.expand(-1, 3, -1, -1)
        return self.fc(self.stem(x).mean((2, 3)))


def torchvisions(*, weights: str | None = None, **kwargs: int) -> nn.Module:
    """As torchvision's builders are written."""
    return Colours(**kwargs)


def of_size(shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], num_classes))


def with_any(**kwargs: int) -> nn.Module:
    return Net(**kwargs)


@pytest.mark.parametrize(
    ("factory", "by_hand"),
    [
        (Net, Net),
        (Colours, lambda: Colours(3)),
        (torchvisions, lambda: Colours(3)),
        (of_size, lambda: of_size((3, 8, 8), 3)),
        (with_any, Net),
        (lambda: Net(3), Net),
        (partial(Colours, form="spread"), lambda: Colours(3, "spread")),
    ],
    ids=["defaults", "class", "keywords", "shape", "unknown keyword", "nothing", "partial"],
)
def test_a_factory_is_told_what_it_names(factory, by_hand, tmp_path) -> None:
    """Its network is the one that the same seed gives by hand, and its run is read by it too."""
    run = lp.fit(factory, data(), None, "2 steps", seed=3, out=tmp_path / "run", threads=1)
    with seeded(fold_seed(3, "weights")):
        module = by_hand()
    expected = lp.fit(module, data(), None, "2 steps", seed=3, threads=1)
    assert expected.result["weights"] == run.result["weights"]
    assert torch.equal(
        lp.load(tmp_path / "run", factory).predict(X[:4]), lp.load(tmp_path / "run", run.model).predict(X[:4])
    )
    assert lp.fit(factory, data(), None, "2 steps", seed=3, out=tmp_path / "run", threads=1).result == run.result


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (3, "model is a int: give a name"),
        (
            lambda classes: Net(classes),
            "<lambda> wants 'classes', which nobody gives: .* num_classes, in_channels",
        ),
        (lambda: 3, "<lambda> gives int: give one that gives a torch module"),
        (partial(Net, form="tensor", outputs="x"), "Net cannot be built: TypeError"),
        (partial(torchvisions, num_classes=5), "gives .*, 5.* for 3 classes"),
    ],
)
def test_what_makes_no_network_is_told(model, words) -> None:
    with pytest.raises(ConfigError, match=words):
        lp.fit(model, data(), None, "1ep", threads=1)


def grey(side: int = 8):
    return lp.data.load((X[:, :side, :side, 0], np.arange(40) % 3), test_fraction=0.25, augment="none")


def test_a_network_for_colours_sees_grey_images(tmp_path, capsys) -> None:
    """As if they were shown in each colour; of a run that is read again too."""
    torch.manual_seed(0)
    net = Colours(3)
    net.stem[0].weight.requires_grad_(False)
    shown = copy.deepcopy(net)
    run = lp.fit(net, grey(), None, "2 steps", lr=1e-9, weight_decay=0.0, out=tmp_path / "run", threads=1)
    assert "convolution was changed: stem.0 from 3 to 1 channels" in capsys.readouterr().err
    assert (net.stem[0].weight.shape, net.stem[0].weight.requires_grad) == ((4, 1, 3, 3), False)
    again, x = lp.load(tmp_path / "run", Colours), torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(again.model(x), run.model(x))
        torch.testing.assert_close(run.model.train()(x), shown.train()(x.expand(-1, 3, -1, -1)))


def test_weights_of_colours_in_a_network_of_ones_own(tmp_path, capsys) -> None:
    torch.manual_seed(0)
    net = Colours(3)
    torch.save(net.state_dict(), tmp_path / "colours.pth")
    lp.fit(Colours, grey(), None, "2 steps", lr=1e-9, weights=str(tmp_path / "colours.pth"), threads=1)
    assert "10 tensors loaded; stem.0.weight from 3 to 1 channels" in capsys.readouterr().err


def test_colours_for_a_network_of_grey_images() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    before, x = copy.deepcopy(net), torch.randn(5, 3, 8, 8)
    assert suit_channels(net, (3, 8, 8)) == "0 from 1 to 3 channels"
    torch.testing.assert_close(net(x), before(x.mean(1, keepdim=True)))


def test_a_network_that_spreads_channels_itself_is_left_alone() -> None:
    net = Colours(3, "spread")
    assert suit_channels(net, (1, 8, 8)) == ""
    assert net.stem[0].weight.shape[1] == 3


def test_grey_images_that_a_network_cannot_take() -> None:
    """Its own normalisation gives three channels, whatever comes in; and images may be too small."""
    net = Colours(3, "normalised")
    assert suit_channels(net, (1, 8, 8)) == ""
    two = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 7), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    with pytest.raises(
        ConfigError, match=r"Sequential cannot take images of shape \(1, 8, 8\) .*: 0 has 3 channels"
    ):
        lp.fit(two, grey(), None, "1 steps", threads=1)
    assert two[0].weight.shape[1] == 3, "it is left as it was"


@pytest.mark.slow
def test_a_comparison_tells_a_factory_what_it_names(tmp_path) -> None:
    """Each run is the one that ``fit`` makes of the factory and the run's seed."""
    found = lp.compare(
        {"erm": "none"}, "digits", model=of_size, seeds=[3], budget="2 steps", per_class=6, out=tmp_path / "c",
        jobs=1, threads=1,
    )  # fmt: skip
    assert not found["failures"]
    (folder,) = (tmp_path / "c" / "runs").iterdir()
    data = lp.data.load("digits", per_class=6, val_fraction=0.2, seed=3)
    alone = lp.fit(of_size, data, None, "2 steps", seed=3, threads=1)
    assert torch.equal(lp.load(folder, of_size).model[1].weight, alone.model[1].weight)


class Masked(nn.Module):
    """Draws what its state does not hold."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("mask", torch.rand(192) < 0.5, persistent=False)
        self.layer = nn.Linear(192, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1) * self.mask)


def test_a_factory_draws_the_same_when_its_run_is_loaded(tmp_path) -> None:
    run = lp.fit(Masked, data(), budget="3 steps", seed=5, out=tmp_path / "run", threads=1)
    assert torch.equal(lp.load(tmp_path / "run", Masked).model.mask, run.model.mask)


def test_a_finished_run_of_a_factory_with_weights_is_no_other_run(tmp_path) -> None:
    lp.fit(Net, data(), budget="3 steps", out=tmp_path / "first", threads=1)
    lines = {"budget": "3 steps", "weights": str(tmp_path / "first/weights.safetensors"), "threads": 1}
    one = lp.fit(Net, data(), out=tmp_path / "run", **lines)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = lp.fit(Net, data(), out=tmp_path / "run", **lines)
    assert torch.equal(again.model.layer.weight, one.model.layer.weight)


def test_annotations_that_cannot_be_read_say_nothing() -> None:
    def odd(num_classes: "torch.nothing.at_all") -> nn.Module:  # noqa: UP037
        return Net(num_classes)

    assert lp.fit(odd, data(), budget="1 steps", threads=1).model.layer.out_features == 3


def test_a_first_layer_that_is_computed_is_told() -> None:
    network = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    with pytest.raises(ConfigError, match="the weights of 0 are computed from others: give a network whose first"):
        suit_channels(network, (1, 8, 8))


@pytest.mark.parametrize("network", [nn.Flatten(), Net().requires_grad_(False)])
def test_a_network_in_which_nothing_trains_is_told(network) -> None:
    with pytest.raises(ConfigError, match=r"no parameter of the (Flatten|Net) trains: .*requires_grad"):
        lp.fit(network, data(), budget="1 steps", threads=1)
