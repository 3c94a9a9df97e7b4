from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import lessonplan as lp
from lessonplan.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def trained(quick, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier") / "run"
    return quick(None, "60 steps", out=folder, ema=0.5), folder


def test_predicts_as_the_network_does_on_the_test_view(trained, data, tmp_path) -> None:
    """From arrays, PIL images, files and tensors alike."""
    run, folder = trained
    classifier = lp.load(folder)
    assert classifier.class_names == data.class_names
    assert not classifier.model.training
    positions = torch.arange(len(data.test))
    x, y = data.test.fetch(positions)
    expected = run.model(x).softmax(1)
    raw = data.test.raw(positions)
    arrays = [image[0].numpy() for image in raw]
    pictures = [Image.fromarray(array) for array in arrays]
    files = [tmp_path / f"{i}.png" for i in range(len(pictures))]
    for picture, file in zip(pictures, files, strict=True):
        picture.save(file)
    for images in (arrays, pictures, files, [str(f) for f in files], raw):
        predicted = classifier.predict(images, batch_size=7)
        assert predicted.dtype == torch.float32
        torch.testing.assert_close(predicted, expected, atol=1e-6, rtol=1e-5)
    names = classifier.classify(arrays)
    right = np.mean([name == data.class_names[label] for name, label in zip(names, y.tolist(), strict=True)])
    assert right == pytest.approx(run.result["test"]["accuracy"])
    assert classifier.predict([]).shape == (0, 3)


def test_features_of_many_samples_or_of_one(tmp_path) -> None:
    data = lp.data.load("table:iris", seed=0)
    run = lp.fit("fcnet-8", data, budget="2ep", out=tmp_path / "run", threads=1)
    classifier = lp.load(tmp_path / "run")
    positions = torch.arange(len(data.test))
    expected = run.model(data.test.fetch(positions)[0]).softmax(1)
    raw = data.test.raw(positions)
    for features in (raw, raw.numpy(), list(raw.numpy()), raw.tolist()):
        torch.testing.assert_close(classifier.predict(features, batch_size=7), expected)
    torch.testing.assert_close(classifier.predict(raw[3]), expected[3:4])
    assert classifier.classify(raw[3].numpy()) == [data.class_names[int(expected[3].argmax())]]
    with pytest.raises(DataError, match=r"features must have shape \(B, 4\), not \(2, 3\)"):
        classifier.predict(raw[:2, :3])


def test_an_unreadable_image_is_named(trained, tmp_path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        lp.load(trained[1]).predict([tmp_path / "broken.png"])


def test_folders_without_a_finished_run(quick, hook, tmp_path) -> None:
    with pytest.raises(ConfigError, match="is no folder of a run"):
        lp.load(tmp_path)

    def stop(trainer) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        quick(out=tmp_path / "run", callbacks=[hook(on_batch_end=stop)])
    with pytest.raises(ConfigError, match="not finished"):
        lp.load(tmp_path / "run")


class _Tied(nn.Module):
    """Two layers that share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(64, 64)
        self.other = nn.Linear(64, 64)
        self.other.weight = self.one.weight
        self.out = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.other(self.one(x.flatten(1)).relu()).relu())


def test_a_network_of_ones_own(quick, data, tmp_path) -> None:
    run = quick(model=_Tied(), out=tmp_path)
    with pytest.raises(ConfigError, match=r"_Tied.*give it as model"):
        lp.load(tmp_path)
    with pytest.raises(ConfigError, match="do not fit this network"):
        lp.load(tmp_path, model=nn.Linear(64, 3))
    classifier = lp.load(tmp_path, model=_Tied())
    x, _ = data.test.fetch(torch.arange(5))
    torch.testing.assert_close(classifier.predict(data.test.raw(torch.arange(5))), run.model(x).softmax(1))
