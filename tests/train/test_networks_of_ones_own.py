"""Networks that do not fit, and parts of networks that are frozen."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lessonplan as lp
from lessonplan.errors import ConfigError, LessonplanWarning

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
