"""Small tables that come with scikit-learn, so that feature vectors can be tried without a file."""

from __future__ import annotations

import numpy as np
import torch

from lessonplan.data.arrays import TensorSource, to_samples
from lessonplan.data.base import Parts
from lessonplan.errors import unknown

TABLES = ("breast-cancer", "iris", "moons", "wine")
_MOONS, _NOISE = 1000, 0.25  # rows, and the standard deviation around two half circles of radius 1


def table(name: str) -> Parts:
    """A table with a row a sample: 569 x 30 (2 classes), 150 x 4 or 178 x 13 (3 classes).

    ``moons`` are 1000 x 2, drawn around two half circles that reach into each other (scikit-learn's ``make_moons``
    with noise .25): a plane on which what a network predicts can be seen.

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

    if name == "moons":
        rows, drawn = datasets.make_moons(_MOONS, noise=_NOISE, random_state=0)
        return Parts(TensorSource(to_samples(rows), torch.from_numpy(drawn.astype(np.int64)), ["upper", "lower"]))
    bunch = getattr(datasets, f"load_{name.replace('-', '_')}")()
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    return Parts(TensorSource(to_samples(bunch.data), labels, [str(label) for label in bunch.target_names]))
