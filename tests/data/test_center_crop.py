"""How much of a picture is kept around its centre."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lessonplan as lp
from lessonplan.data.needs import InputNeeds
from lessonplan.errors import ConfigError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(4):
            noise = random.integers(0, 256, (60, 45, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def by_pillow(photos: Path, share: float, side: int = 24) -> set[bytes]:
    """Each picture with its shorter side at ``side / share`` pixels, and the square in its middle."""
    found = set()
    for file in photos.rglob("*.png"):
        short = round(side / share)
        tall = round(60 * short / 45)
        image = Image.open(file).resize((short, tall), Image.Resampling.BILINEAR)
        left, top = (short - side) // 2, (tall - side) // 2
        found.add(np.asarray(image.crop((left, top, left + side, top + side))).tobytes())
    return found


@pytest.mark.parametrize("share", [0.75, 0.5, 1.0])
def test_the_share_around_the_centre_is_kept(photos: Path, share: float) -> None:
    data = lp.data.load(f"folder:{photos}", image_size=24, center_crop=share, augment="none")
    views = [view.raw(torch.arange(len(view))) for view in (data.train, data.test) if view is not None]
    seen = {image.permute(1, 2, 0).numpy().tobytes() for image in torch.cat(views)}
    assert seen == by_pillow(photos, share)
    assert data.preprocessing.decoding.crop == (share if share < 1 else None)


def test_it_goes_before_what_weights_ask_for(photos: Path) -> None:
    asked = InputNeeds(size=(24, 24), crop=0.75)
    crops = [
        lp.data.load(f"folder:{photos}", input=asked, center_crop=given).preprocessing.decoding.crop
        for given in (None, 0.5, 1.0)
    ]
    assert crops == [0.75, 0.5, None]


def test_arrays_are_cropped_where_they_are_resized() -> None:
    x = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    given = {"augment": "none", "test_fraction": 0.0}
    inner = lp.data.load((x, torch.arange(40) % 2), image_size=16, center_crop=0.5, **given)
    rows = torch.arange(40)
    assert torch.equal(inner.train.raw(rows), x[..., 8:24, 8:24]), "32 / 2 pixels, not resized, around the centre"
    for size in (None, 32):
        with pytest.raises(ConfigError, match=r"center_crop=0.5: these samples are not resized: give image_size"):
            lp.data.load((x, torch.arange(40) % 2), image_size=size, center_crop=0.5, **given)
    lp.data.load((x, torch.arange(40) % 2), center_crop=1.0, **given)


@pytest.mark.parametrize("share", [0, -0.5, 1.1, float("nan")])
def test_shares_that_are_none(share: float) -> None:
    with pytest.raises(ConfigError, match="give a share above 0, at most 1"):
        lp.data.load("digits", image_size=16, center_crop=share)
