"""Loading: digits, arrays, npz; sizes, statistics, copies, errors, and the real data where they are."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from sklearn.datasets import load_digits

from lessonplan.data import Augment, Data, load
from lessonplan.errors import ConfigError, DataError

RNG = np.random.default_rng(5)
X = RNG.integers(0, 256, (60, 6, 5, 3), dtype=np.uint8)
Y = np.arange(60) % 3
REAL = Path(os.environ.get("LESSONPLAN_DATA", ""))
real = pytest.mark.skipif(
    not os.environ.get("LESSONPLAN_DATA") or not REAL.is_dir(), reason="LESSONPLAN_DATA is not set"
)


def rows_of(data: Data) -> list[set[int]]:
    return [set(v.rows.tolist()) if v is not None else set() for v in (data.train, data.val, data.test)]


def test_digits_are_scikit_learns():
    data = load("digits", test_fraction=0)
    images, labels = load_digits(return_X_y=True)
    assert np.allclose(
        data.train.raw(torch.arange(1797)).flatten(1).double().numpy() * 16 / 255, images, atol=0.04
    )
    assert np.array_equal(data.train.labels.numpy(), labels)
    assert data.class_names == tuple("0123456789")
    assert json.loads(json.dumps(data.description)) == data.description


@pytest.mark.parametrize(
    ("options", "train", "val", "test"),
    [
        ({}, 30, 0, 30),
        ({"test_fraction": 0.0}, 60, 0, 0),
        ({"test_fraction": 0.2}, 48, 0, 12),
        ({"val_fraction": 0.2}, 24, 6, 30),
        ({"per_class": 5}, 15, 0, 30),
        ({"per_class": 5, "val_fraction": 0.4}, 9, 6, 30),
        ({"per_class": 5, "val_per_class": 3}, 15, 9, 30),
        ({"val_per_class": 3}, 21, 9, 30),
    ],
)
def test_sizes(options, train, val, test):
    data = load((X, Y), seed=2, **options)
    parts = rows_of(data)
    assert [len(p) for p in parts] == [train, val, test]
    assert len(parts[0] | parts[1] | parts[2]) == train + val + test
    for view in (data.train, data.val, data.test):
        if view is not None:
            counts = view.labels.bincount(minlength=3)
            assert int(counts.max()) == int(counts.min())


def test_the_test_set_does_not_depend_on_what_is_trained_on():
    sets = [rows_of(load((X, Y), seed=4, **o))[2] for o in ({}, {"per_class": 2}, {"val_fraction": 0.3})]
    assert sets[0] == sets[1] == sets[2]
    assert sets[0] != rows_of(load((X, Y), seed=5))[2]


def test_statistics_are_those_of_the_training_rows():
    data = load((X, Y), per_class=4, seed=1)
    pixels = data.train.raw(torch.arange(12)).double() / 255
    assert torch.allclose(data.mean.double(), pixels.mean((0, 2, 3)), atol=1e-7)
    assert torch.allclose(data.std.double(), pixels.std((0, 2, 3), correction=0), atol=1e-7)
    plain, _ = data.train.with_augment(None).fetch(torch.arange(12))
    assert torch.allclose(plain.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(plain.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)


def test_constant_channels_and_large_offsets():
    x = np.stack([np.full(20, 7.0), 1e6 + np.arange(20.0)], axis=1)
    data = load((x, np.arange(20) % 2), test_fraction=0)
    assert data.std[0] == 1
    assert float(data.std[1]) == pytest.approx(np.arange(20.0).std(), rel=1e-6)
    assert torch.isfinite(data.train.fetch(torch.arange(20))[0]).all()


def test_only_training_is_augmented():
    data = load((X, Y), val_fraction=0.2, augment="flip")
    differ = [not torch.equal(v.fetch(torch.arange(6), 0)[0], v.fetch(torch.arange(6), 1)[0])
              for v in (data.train, data.val, data.test)]  # fmt: skip
    assert differ == [True, False, False]
    assert data.description["augment"] == "flip"
    given = Augment(crop=1)
    assert load((X, Y), augment=given).train.augment == given
    assert load((X, Y), augment=None).description["augment"] == load((X, Y), augment="none").description["augment"]


@pytest.mark.parametrize("seed", range(5))
def test_copies_stay_in_one_part(seed):
    x, y = X.copy(), Y.copy()
    for a, b in ((0, 3), (0, 6), (1, 4), (2, 7), (30, 33)):  # 2 and 7 differ in their labels
        x[b] = x[a]
    data = load((x, y), seed=seed, val_fraction=0.3)
    content = [{x[r].tobytes() for r in part} for part in rows_of(data)]
    assert not content[0] & content[1]
    assert not content[0] & content[2]
    assert not content[1] & content[2]
    used = sum(len(p) for p in rows_of(data))
    assert data.description["duplicates"] == {"checked": True, "left_out": 60 - used}


def test_fixed_test_set_takes_its_copies_out_of_training():
    held = np.concatenate([X[:3], RNG.integers(0, 256, (9, 6, 5, 3), dtype=np.uint8)])
    data = load((X, Y), test=(held, np.arange(12) % 3), per_class=15)
    assert len(data.test) == 12
    assert not rows_of(data)[0] & {0, 1, 2}
    assert data.description["duplicates"] == {"checked": True, "left_out": 3}
    assert data.description["test"] == "fixed"


def test_test_classes_match_by_name():
    words = np.array(["cat", "ant", "bee"])[Y]
    data = load((X, words), test=(255 - X[:4], np.array(["cat", "bee", "cat", "bee"])))
    assert data.class_names == ("ant", "bee", "cat")
    assert data.test.labels.tolist() == [2, 1, 2, 1]
    with pytest.raises(DataError, match="'dog'"):
        load((X, words), test=(X[:1], np.array(["dog"])))
    with pytest.raises(DataError, match="shape"):
        load((X, words), test=(X[:1, :4], np.array(["cat"])))


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x,
        lambda x: x.transpose(0, 3, 1, 2),
        lambda x: torch.from_numpy(x),
        lambda x: x / 255.0,
        lambda x: torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255,
        lambda x: x.astype(np.int64),
    ],
)
def test_forms_of_arrays(form):
    data = load((form(X), Y), test_fraction=0)
    assert data.shape == (3, 6, 5)
    assert np.array_equal(data.train.raw(torch.arange(60)).permute(0, 2, 3, 1).numpy(), X)


def test_the_users_array_may_change_later():
    x = X[..., 0].copy()
    data = load((x, Y), test_fraction=0)
    x[:] = 0
    assert np.array_equal(data.train.raw(torch.arange(60))[:, 0].numpy(), X[..., 0])


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (X, Y[:-1], "60 samples but 59 labels"),
        (X[:0], Y[:0], "no samples|labels"),
        (X.astype(np.int64) - 300, Y, "0..255"),
        (X[..., :2], Y, "1 or 3"),
        (np.full((60, 2), np.nan), Y, "60 rows of x hold NaN"),
        (X[0, 0, 0], Y, "has shape"),
        (np.array(["a"]), Y[:1], "must hold numbers"),
        (X, Y + 0.5, "have fractions"),
        (X, np.eye(60), "one-hot"),
    ],
)
def test_arrays_that_are_none(x, y, says):
    with pytest.raises(DataError, match=says):
        load((x, y))


def test_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x_train=X, y_train=Y, x_test=255 - X[:6], y_test=Y[:6])
    data = load(f"npz:{path}")
    assert (len(data.train), len(data.test)) == (60, 6)
    np.savez_compressed(path, x=X, y=Y)
    assert len(load(path, test_fraction=0).train) == 60
    np.savez(path, x=X, z=Y)
    with pytest.raises(DataError, match="holds x, z"):
        load(path)
    np.savez(path, x=X, y=Y, x_test=X)
    with pytest.raises(DataError, match="only one of x_test"):
        load(path)
    np.savez(path, x=np.array([{"a": 1}], dtype=object), y=Y)
    with pytest.raises(DataError, match="cannot be read"):
        load(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a.npz cannot be read"):
        load(path)
    np.save(tmp_path / "b.npy", X)
    with pytest.raises(DataError, match="single array"):
        load(f"npz:{tmp_path / 'b.npy'}")
    with pytest.raises(DataError, match="does not exist"):
        load(f"npz:{tmp_path / 'c.npz'}")


def test_too_few_in_a_class_says_which():
    y = np.array([0] * 50 + [1] * 10)
    with pytest.raises(DataError, match=r"class '1' has 5 samples .*test samples.*per_class=6 needs 6"):
        load((X, y), per_class=6)
    with pytest.raises(DataError, match=r"per_class=4 and val_per_class=2 need 6"):
        load((X, y), per_class=4, val_per_class=2)
    with pytest.raises(DataError, match=r"val_per_class=5 needs 6"):
        load((X, y), val_per_class=5)
    with pytest.raises(DataError, match="also in the test set"):
        load((X, y), test=(X[50:], y[50:]))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"per_class": 0}, "per_class=0"),
        ({"per_class": 2.5}, "per_class=2.5"),
        ({"val_per_class": True}, "val_per_class=True"),
        ({"val_fraction": 1.0}, "val_fraction"),
        ({"test_fraction": -0.1}, "test_fraction"),
        ({"val_fraction": 0.1, "val_per_class": 2}, "not both"),
        ({"per_class": 1, "val_fraction": 0.5}, "per_class=1"),
        ({"on_bad": "ignore"}, "on_bad"),
        ({"image_size": 0}, "image_size"),
        ({"augment": "crop:9"}, "too large"),
        ({"augment": 4}, "augment=4: give a text"),
    ],
)
def test_settings_that_cannot_be(options, says):
    with pytest.raises(ConfigError, match=says):
        load((X, Y), **options)


def test_names_nobody_knows(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'digits'"):
        load("digit")
    with pytest.raises(ConfigError, match="did you mean 'parquet:PATTERN'"):
        load("parket:x")
    with pytest.raises(DataError, match="does not exist"):
        load(str(tmp_path / "x.npz"))
    with pytest.raises(DataError, match="no data of a known kind"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"must be \(x, y\)"):
        load((X, Y, X))


def test_fingerprint():
    base = load((X, Y)).fingerprint
    assert load((X.copy(), Y.tolist())).fingerprint == base
    changed = X.copy()
    changed[59, 5, 4, 2] ^= 1
    others = [load((changed, Y)), load((X, np.roll(Y, 1))), load((X, Y), seed=1), load((X, Y), per_class=3)]
    assert len({base, *(d.fingerprint for d in others)}) == 5


def test_global_generators_are_not_touched():
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    data = load((X, Y), val_fraction=0.2)
    data.train.fetch(torch.arange(10))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002


@real
def test_real_cifar10():
    data = load(f"parquet:{REAL / 'cifar10'}", per_class=100, val_per_class=50)
    assert (len(data.train), len(data.val), len(data.test)) == (1000, 500, 10000)
    assert data.class_names[:2] == ("airplane", "automobile")
    # The published statistics of all 50,000 images, here from 1,000.
    assert torch.allclose(data.mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=0.02)
    assert torch.allclose(data.std, torch.tensor([0.2470, 0.2435, 0.2616]), atol=0.02)
    assert str(data.train.augment) == "flip,crop:4"


@real
def test_real_mnist():
    data = load(REAL / "mnist-t10k", test_fraction=0)
    assert data.shape == (1, 28, 28)
    assert int((data.train.labels < 2).sum()) == 2115


def test_moons_are_two_half_circles():
    data = load("table:moons", test_fraction=0)
    rows, labels = data.train.raw(torch.arange(1000)).numpy(), data.train.labels.numpy()
    assert (data.shape, data.num_classes, len(data.train)) == ((2,), 2, 1000)
    centres, sides = np.array([[0.0, 0.0], [1.0, 0.5]]), np.array([1, -1])
    away = rows - centres[labels]
    assert np.linalg.norm(away, axis=1).mean() == pytest.approx(1.0, abs=0.05)
    assert (sides[labels] * away[:, 1] > -0.75).mean() > 0.99  # three standard deviations beyond the half


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("iris", (4,), 3), ("wine", (13,), 3), ("breast-cancer", (30,), 2)],
)
def test_tables_are_scikit_learns(name, shape, classes):
    data = load(f"table:{name}", test_fraction=0)
    bunch = getattr(sklearn.datasets, f"load_{name.replace('-', '_')}")()
    assert (data.shape, data.num_classes, len(data.train)) == (shape, classes, len(bunch.data))
    x, y = data.train.fetch(torch.arange(len(data.train)))
    assert x.dtype == torch.float32
    # Normalised columns, and the rows of scikit-learn behind them.
    torch.testing.assert_close(x.mean(0), torch.zeros(shape), atol=1e-4, rtol=0)
    rows = {tuple(np.float32(row)): label for row, label in zip(bunch.data, bunch.target, strict=True)}
    mean, deviation = (np.asarray(v) for v in (data.preprocessing.mean, data.preprocessing.std))
    near = np.array(list(rows))
    for row, label in zip(x[:20].numpy() * deviation + mean, y[:20].tolist(), strict=True):
        distance = np.abs(near - row).max(1)
        assert distance.min() < 1e-3
        assert rows[tuple(near[distance.argmin()])] == label
    with pytest.raises(ConfigError, match="did you mean 'iris'"):
        load("table:irs")
