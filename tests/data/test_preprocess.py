"""A user's own images get what training images got."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from lessonplan.data import Preprocessing, load
from lessonplan.errors import DataError

RNG = np.random.default_rng(6)
COLOUR = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
PREPARE = Preprocessing(shape=(3, 8, 8), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))


def test_the_same_numbers_as_in_training(tmp_path):
    for c in "ab":
        (tmp_path / c).mkdir()
        for i in range(3):
            pixels = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / c / f"{i}.jpg")
    data = load(tmp_path, image_size=8, test_fraction=0, augment="none")
    paths = sorted(tmp_path.glob("*/*.jpg"))
    trained, _ = data.train.fetch(torch.arange(6))
    restored = Preprocessing.from_dict(json.loads(json.dumps(data.preprocessing.to_dict())))
    assert restored == data.preprocessing
    assert torch.equal(restored(paths), trained)
    assert torch.equal(restored([Image.open(p) for p in paths]), trained)
    assert torch.equal(restored(data.train.raw(torch.arange(6))), trained)


def test_by_hand():
    expected = (COLOUR.transpose(2, 0, 1) / 255 - np.reshape(PREPARE.mean, (3, 1, 1))) / np.reshape(
        PREPARE.std, (3, 1, 1)
    )
    for form in (
        [COLOUR],
        [Image.fromarray(COLOUR)],
        [COLOUR / 255.0],
        torch.from_numpy(COLOUR).permute(2, 0, 1)[None],
    ):
        assert np.allclose(PREPARE(form)[0].numpy(), expected, atol=1e-5)


def test_channels_and_sizes():
    grey = COLOUR[..., 0]
    assert torch.equal(PREPARE([grey]), PREPARE([np.stack([grey] * 3, axis=-1)]))
    rgba = np.concatenate([COLOUR, np.full((8, 8, 1), 255, dtype=np.uint8)], axis=-1)
    assert torch.equal(PREPARE([Image.fromarray(rgba)]), PREPARE([COLOUR]))
    one = Preprocessing(shape=(1, 8, 8), mean=(0.0,), std=(1.0,))
    luma = COLOUR @ np.array([0.299, 0.587, 0.114]) / 255  # ITU-R 601
    assert np.allclose(one([COLOUR])[0, 0].numpy(), luma, atol=1.01 / 255)
    large = np.kron(COLOUR, np.ones((4, 4, 1), dtype=np.uint8))
    assert PREPARE([large, COLOUR[:, :5]]).shape == (2, 3, 8, 8)
    assert PREPARE(torch.zeros(2, 3, 16, 20, dtype=torch.uint8)).shape == (2, 3, 8, 8)
    assert PREPARE([]).shape == (0, 3, 8, 8)


def test_features():
    prepare = Preprocessing(shape=(2,), mean=(1.0, 2.0), std=(2.0, 4.0))
    assert prepare(np.array([[3.0, 6.0]])).tolist() == [[1.0, 1.0]]
    with pytest.raises(DataError, match="shape"):
        prepare([[1.0, 2.0, 3.0]])


def test_errors(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"x.png cannot be read"):
        PREPARE([tmp_path / "x.png"])
    with pytest.raises(DataError, match=r"y.png cannot be read"):
        PREPARE([str(tmp_path / "y.png")])
    assert torch.equal(PREPARE(Image.fromarray(COLOUR)), PREPARE([Image.fromarray(COLOUR)]))
    with pytest.raises(DataError, match="1 or 3 channels"):
        PREPARE([np.zeros((8, 8, 2), dtype=np.uint8)])
