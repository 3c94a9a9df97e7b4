"""Albumentations, the real one: pipelines as augmentation, alike in any batch, worker and process; the example."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.integrations.examples import example

import lessonplan as lp
from lessonplan.errors import ConfigError, DataError

pytestmark = pytest.mark.packages("albumentations")
PIXELS = np.random.default_rng(4).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3
ROWS = torch.arange(12)


def pipeline(degrees: float = 20) -> Any:
    import albumentations as A

    return A.Compose(
        [A.HorizontalFlip(), A.Affine(rotate=(-degrees, degrees), p=1), A.OneOf([A.Blur(), A.Solarize()])]
    )


def load(given: Any, x: np.ndarray = PIXELS, **more: Any) -> lp.data.Data:
    from lessonplan.integrations.albumentations import Transform

    augment = lp.data.Augment(transform=Transform(given))
    return lp.data.load((x, LABELS), test_fraction=0, augment=augment, **more)


def pictures(data: lp.data.Data, rows: torch.Tensor, epoch: int = 0) -> torch.Tensor:
    return torch.cat([x for x, _ in data.train.batches(list(rows.split(5)), epoch)])


def test_a_sample_is_a_function_of_seed_epoch_and_position() -> None:
    data = load(pipeline())
    first = pictures(data, ROWS)
    backwards = pictures(load(pipeline()), ROWS.flip(0)).flip(0)
    assert torch.equal(first, backwards)
    streamed = load(pipeline(), memory_limit=0, workers=2)
    assert torch.equal(first, pictures(streamed, ROWS))
    streamed.close()
    assert not torch.equal(first, pictures(data, ROWS, epoch=1))
    assert not torch.equal(first, pictures(load(pipeline(), seed=1), ROWS))
    assert not torch.equal(first, pictures(lp.data.load((PIXELS, LABELS), test_fraction=0, augment="none"), ROWS))


def test_pixels_are_those_of_albumentations() -> None:
    """A pipeline that draws nothing gives what it gives alone, of colours and of grey, and for the whole set."""
    import albumentations as A

    fixed = A.Compose([A.VerticalFlip(p=1), A.Transpose(p=1), A.InvertImg(p=1)])
    for x in (PIXELS, PIXELS[..., :1]):
        data = load(fixed, x)
        wanted = np.stack([fixed(image=picture)["image"] for picture in x])
        plain = lp.data.load((wanted, LABELS), test_fraction=0, augment="none")
        normal = data.preprocessing  # of the pictures as they were before
        seen = pictures(data, ROWS)
        assert torch.allclose(seen, normal(plain.train.raw(ROWS)), atol=1e-6)


def test_a_run_is_told_by_the_options_of_the_pipeline() -> None:
    used = pipeline()
    before = str(load(used).train.augment)
    for picture in PIXELS:
        used(image=picture)  # its random numbers are other ones now
    assert str(load(used).train.augment) == before == str(load(pipeline()).train.augment)
    assert str(load(pipeline(10)).train.augment) != before


def test_what_cannot_be_used_is_said() -> None:
    import albumentations as A

    from lessonplan.integrations.albumentations import Transform

    with pytest.raises(ConfigError, match=r"list is no pipeline of Albumentations': give A\.Compose"):
        Transform([A.HorizontalFlip()])  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"the transform returned torch.float32 .*torch.uint8"):
        pictures(load(A.Normalize()), ROWS)
    with pytest.raises(DataError, match=r"the transform returned torch.uint8 \(3, 8, 8\)"):
        pictures(load(A.Resize(8, 8)), ROWS)
    with pytest.raises(ConfigError, match=r"changes pictures \(C, H, W\); samples here are \(4,\)"):
        pictures(load(pipeline(), np.zeros((12, 4), np.float32)), ROWS)


def test_random_pipelines_inside_a_data_set_are_refused() -> None:
    with pytest.raises(DataError, match=r"differs from one reading to the next"):
        lp.data.load(example("albumentations_transforms").Cloth(12, seed=0, transform=pipeline()))


def test_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    alone, fitted = example("albumentations_transforms").main(epochs=4)
    assert alone > 0.6  # chance is 1/3
    assert fitted > 0.6
    assert capsys.readouterr().out.count("loss") == 4
