"""Sets whose images have a size of their own take the size that is asked for, as files do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import lessonplan as lp
from lessonplan.errors import ConfigError


def test_digits_are_resized_as_files_are(tmp_path) -> None:
    small = lp.data.load("digits", per_class=5)
    large = lp.data.load("digits", per_class=5, image_size=(20, 16))
    assert large.shape == (1, 20, 16)
    rows = torch.arange(len(large.train))
    assert torch.equal(large.train.rows, small.train.rows), "other samples were drawn"
    for row in (0, 17):
        image = Image.fromarray(small.train.raw(rows[row : row + 1])[0, 0].numpy())
        expected = np.asarray(image.resize((20, 20), Image.Resampling.BILINEAR).crop((2, 0, 18, 20)))
        assert np.array_equal(large.train.raw(rows[row : row + 1])[0, 0].numpy(), expected)


def test_what_does_not_fit_in_memory_is_resized_as_it_is_read() -> None:
    x = torch.randint(0, 256, (30, 3, 10, 10), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    y = torch.arange(30) % 3
    held = lp.data.load((x, y), image_size=14, augment="none")
    streamed = lp.data.load((x, y), image_size=14, augment="none", memory_limit=100, workers=0)
    assert (held.description["in_memory"], streamed.description["in_memory"]) == (True, False)
    rows = torch.arange(len(held.train))
    for a, b in zip(held.train.fetch(rows), streamed.train.fetch(rows), strict=True):
        assert torch.equal(a, b)


def test_a_test_set_follows(tmp_path) -> None:
    x = torch.randint(0, 256, (30, 10, 10), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    data = lp.data.load((x, torch.arange(30) % 3), test=(x[:6].flip(1), torch.arange(6) % 3), image_size=8)
    assert data.test.fetch(torch.arange(6))[0].shape == (6, 1, 8, 8)


def test_a_run_predicts_at_its_size(tmp_path) -> None:
    data = lp.data.load("digits", per_class=5, image_size=16)
    run = lp.fit("tiny", data, None, "2 steps", batch_size=8, threads=1, out=tmp_path / "run")
    rows = torch.arange(4)
    raw = lp.data.load("digits", per_class=5).test.raw(rows)
    with torch.no_grad():
        expected = run.model(data.test.fetch(rows)[0].to(next(run.model.parameters()).device)).softmax(1).cpu()
    found = lp.load(tmp_path / "run").predict([image[0].numpy() for image in raw])
    torch.testing.assert_close(found.cpu(), expected, atol=1e-6, rtol=1e-5)


def test_features_have_no_size() -> None:
    with pytest.raises(ConfigError, match="4 features are no images"):
        lp.data.load("table:iris", image_size=8)
