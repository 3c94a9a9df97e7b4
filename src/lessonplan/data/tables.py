"""Small tables that come with scikit-learn, so that feature vectors can be tried without a file."""

from __future__ import annotations

import numpy as np
import torch

from lessonplan.data.arrays import TensorSource, to_samples
from lessonplan.data.base import Parts
from lessonplan.errors import unknown

TABLES = ("breast-cancer", "iris", "wine")


def table(name: str) -> Parts:
    """A table with a row a sample: 569 x 30 (2 classes), 150 x 4 or 178 x 13 (3 classes).

    Args:
        name: one of ``TABLES``.

    Raises:
        ConfigError: another name.

    >>> table("iris").train.shape
    (4,)
    """
    if name not in TABLES:
        raise unknown("table", name, TABLES)
    from sklearn import datasets  # imported here: it takes longer than the rest of this module

    bunch = getattr(datasets, f"load_{name.replace('-', '_')}")()
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    return Parts(TensorSource(to_samples(bunch.data), labels, [str(label) for label in bunch.target_names]))
