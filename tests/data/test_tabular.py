"""Feature vectors: from an ``.npz`` file through the mixes into a fully connected network."""

import numpy as np
import pytest
import torch

import lessonplan as lp
from lessonplan.data import load
from lessonplan.errors import ConfigError

CENTRES = np.array([[0, 40, 0, 0, 5], [0, 0, 40, 0, 5], [0, 0, 0, 40, 5]], dtype=float)


def table(n=120):
    """Three well separated clusters; the columns have very different spreads, the last none."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    return CENTRES[y] + rng.normal(size=(n, 5)) * [1000, 1, 1, 1, 0], np.array(["a", "b", "c"])[y]


@pytest.fixture
def data(tmp_path):
    x, y = table()
    np.savez(tmp_path / "table.npz", x=x, y=y)
    return load(f"npz:{tmp_path / 'table.npz'}", val_fraction=0.2, seed=1)


def test_columns_are_normalised_each_by_itself(data):
    assert data.shape == (5,)
    assert str(data.train.augment) == "none"
    x, _ = data.train.fetch(torch.arange(len(data.train)))
    assert torch.allclose(x.mean(0), torch.zeros(5), atol=1e-5)
    assert torch.allclose(x.std(0, correction=0), torch.tensor([1.0, 1, 1, 1, 0]), atol=1e-5)
    own, _ = table()
    assert torch.allclose(data.preprocessing(own[data.train.rows.numpy()]), x, atol=1e-6)


@pytest.mark.parametrize(
    "mix", [None, "sum:k=2", "cascade:k=2,patience=none", "gradual:k=2", "mixup", "sample-pairing", "manifold"]
)
def test_mixes_train_a_network_of_features(data, mix):
    run = lp.fit("fcnet-16", data, mix, budget="40ep", batch_size=12, lr=0.05, threads=1)
    assert run.result["test"]["accuracy"] >= 0.9


@pytest.mark.parametrize("mix", ["cutmix", "cutout", "puzzle"])
def test_mixes_that_cut_pictures_say_so(data, mix):
    with pytest.raises(ConfigError, match=r"shape|images"):
        lp.fit("fcnet-16", data, mix, budget="1ep", batch_size=12, threads=1)


def test_networks_of_images_say_what_takes_features(data):
    with pytest.raises(ConfigError, match="fcnet"):
        lp.fit("lenet", data, None, budget="1ep", threads=1)


def test_label_noise_on_features():
    x, y = table()
    data = load((x, y), test_fraction=0, label_noise=0.5, seed=2)
    assert int(data.train.corrupted.sum()) == 60
    assert data.train.clean_labels.tolist() == [i % 3 for i in range(120)]
