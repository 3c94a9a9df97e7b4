"""scikit-learn's digits, with and without scikit-learn's reader."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from lessonplan.child import python
from lessonplan.data import arrays


@pytest.mark.parametrize("found", [True, False])
def test_they_are_what_their_reader_gives(found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not found:
        monkeypatch.setattr(arrays.importlib.util, "find_spec", lambda name: None)
    images, labels = load_digits(return_X_y=True)
    source = arrays.digits().train
    pixels = source.read(torch.arange(len(source)))
    assert pixels.shape == (1797, 1, 8, 8)
    assert pixels.dtype == torch.uint8
    np.testing.assert_array_equal(pixels.reshape(1797, 64).numpy(), np.rint(images * 255 / 16))
    np.testing.assert_array_equal(source.labels.numpy(), labels)


def test_their_reader_is_not_imported_for_them() -> None:
    code = "from lessonplan.data.arrays import digits; digits(); assert 'sklearn' not in sys.modules"
    subprocess.run(python(code), check=True)
