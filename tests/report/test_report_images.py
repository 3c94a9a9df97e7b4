"""The grid of images: exact pixels, wrapped titles, clear errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lessonplan.errors import ConfigError, DataError
from lessonplan.report import image_grid, save_png
from lessonplan.report.images import wrap_title

RNG = np.random.default_rng(0)
GAP = 14


@pytest.mark.parametrize("shape", [(5, 7, 6), (5, 7, 6, 3)])
def test_pixels_are_exact_squares(tmp_path, shape):
    images = RNG.integers(0, 256, shape, dtype=np.uint8)
    path = save_png(image_grid(images, columns=2, scale=3), tmp_path / "new" / "grid.png")
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.shape == (3 * 21 + 4 * GAP, 2 * 18 + 3 * GAP, 3)
    expected = np.full_like(picture, 255)
    for index, image in enumerate(images):
        top, left = GAP + (index // 2) * (21 + GAP), GAP + (index % 2) * (18 + GAP)
        color = image if image.ndim == 3 else np.stack([image] * 3, axis=-1)
        expected[top : top + 21, left : left + 18] = np.kron(color, np.ones((3, 3, 1), dtype=np.uint8))
    np.testing.assert_array_equal(picture, expected)


def test_titles_stay_inside_their_cell(tmp_path):
    images = np.full((2, 32, 32), 255, dtype=np.uint8)  # white: whatever is dark is a title
    title = "0.25 aeroplane + 0.25 automobile + 0.25 Bernese mountain dog + 0.25 frog"
    figure = image_grid(images, [title, ""], columns=2)
    picture = np.asarray(Image.open(save_png(figure, tmp_path / "grid.png")).convert("L"))
    rows, columns = np.nonzero(picture < 200)
    assert len(rows) > 200
    assert columns.min() >= GAP
    assert columns.max() < GAP + 128
    assert rows.min() >= GAP + 128
    assert rows.max() < picture.shape[0] - GAP / 2


@given(st.lists(st.sampled_from(["cat", "dog", "a long name"]), min_size=1, max_size=6), st.integers(8, 40))
def test_wrapping_keeps_the_words_and_the_width(names, width):
    title = " + ".join(f"0.50 {name}" for name in names)
    wrapped = wrap_title(title, width)
    assert all(len(line) <= width for line in wrapped.split("\n"))
    if not wrapped.endswith("…"):
        assert wrapped.replace("\n", "").replace(" ", "") == title.replace(" ", "")
    assert not any(line.endswith(("+", "0.50")) for line in wrapped.split("\n") if width >= 12)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 4, 4), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((1, 4, 4, 2), np.uint8),
        np.zeros((0, 4, 4), np.uint8),
    ],
)
def test_other_images_are_refused(images):
    with pytest.raises(DataError, match="uint8 images of shape"):
        image_grid(images)


def test_wrong_settings_are_refused(tmp_path):
    images = np.zeros((2, 4, 4), np.uint8)
    with pytest.raises(DataError, match="1 titles were given for 2 images"):
        image_grid(images, ["one"])
    with pytest.raises(ConfigError, match="columns=0"):
        image_grid(images, columns=0)
    with pytest.raises(ConfigError, match=r"ends in \.png"):
        save_png(image_grid(images), tmp_path / "mixed.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        save_png(image_grid(images), tmp_path / "file" / "mixed.png")


def test_characters_without_a_picture_are_told_in_a_sentence(tmp_path, capsys, recwarn):
    images = np.zeros((1, 8, 8), dtype=np.uint8)
    save_png(image_grid(images, ["\ue000"], columns=1), tmp_path / "a.png")  # of no font's
    assert "has boxes in the place of characters that its font lacks" in capsys.readouterr().err
    save_png(image_grid(images, ["plain"], columns=1), tmp_path / "b.png")
    assert capsys.readouterr().err == ""
    assert not recwarn.list
