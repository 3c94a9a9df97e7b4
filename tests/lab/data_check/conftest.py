"""Pictures that differ as photographs do, and a folder of them with everything wrong that is looked for."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

CLASSES = ("cat", "dog")


def _photo(seed: int, side: int = 64) -> Image.Image:
    """Blurred noise of several scales, as unlike another one's as two photographs are."""
    rng = np.random.default_rng(seed)
    x = np.zeros((side, side, 3))
    for scale, channels in ((4, 3), (8, 1), (16, 1), (32, 1)):  # as in photographs, fine detail is grey
        small = Image.fromarray(
            rng.integers(0, 256, (scale, scale, channels), dtype=np.uint8).repeat(3 // channels, 2)
        )
        x += np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), dtype=float)
    return Image.fromarray((x / 4).clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.5))


def _stored_again(image: Image.Image, kind: str) -> Image.Image:
    """The same picture as people pass it on."""
    if kind == "coarser":
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=30)
        return Image.open(buffer).convert("RGB")
    if kind == "smaller":
        return image.resize((48, 48), Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BICUBIC)
    if kind == "brighter":
        return ImageEnhance.Brightness(image).enhance(1.25)
    if kind == "paler":
        return ImageEnhance.Contrast(image).enhance(0.7)
    return image


@pytest.fixture(scope="session")
def photo() -> Callable[..., Image.Image]:
    """A picture by its seed."""
    return _photo


@pytest.fixture(scope="session")
def stored_again() -> Callable[[Image.Image, str], Image.Image]:
    """A copy of a picture, by what became of it."""
    return _stored_again


@pytest.fixture
def clean(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder with parts, ten pictures a class in each, all different."""

    def make(parts: tuple[str, ...] = ("train", "test"), each: int = 10, first: int = 0) -> Path:
        number = first
        for part in parts:
            for name in CLASSES:
                folder = tmp_path / "photos" / part / name
                folder.mkdir(parents=True)
                for place in range(each):
                    _photo(number).save(folder / f"{place}.png")
                    number += 1
        return tmp_path / "photos"

    return make
