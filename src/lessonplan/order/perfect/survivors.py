"""Which runs of an epoch are trained further."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lessonplan.errors import ConfigError

_MARGIN = 1e-5  # of the range of losses


def choose_survivors(loss: Tensor, count: int, seed: int = 0) -> Tensor:
    """Cluster runs by their loss with k-means; of each cluster the run nearest the centre survives.

    Of runs equally near (both members of a pair are) the one with the lower loss survives.

    Args:
        loss: ``(R,)`` evaluation loss of every run; runs whose loss is not finite cannot survive.
        count: number of clusters, 1 <= count <= R.
        seed: of the clusters' starts.

    Returns:
        Rows of the survivors, int64, sorted by their loss; fewer than ``count`` where fewer losses differ.

    Raises:
        ConfigError: more survivors than runs, or every run diverged.

    Source: C. Simionescu, arXiv:2211.14395, algorithm 1 (``KMeansSelectByTestLoss``).

    >>> choose_survivors(torch.tensor([0.1, 5.0, 0.11, 0.3, 5.2, 5.1]), 2)
    tensor([2, 5])
    """
    if not 1 <= count <= len(loss):
        raise ConfigError(f"survivors={count} of {len(loss)} runs: give 1 to {len(loss)}")
    values = loss.detach().cpu().double().numpy()
    finite = np.flatnonzero(np.isfinite(values))
    if len(finite) == 0:
        raise ConfigError("every run diverged (its loss is not finite): give a lower learning rate")
    kept = values[finite]
    distinct = np.unique(kept, return_index=True)[1]
    if len(distinct) <= count:  # every loss is a cluster of its own
        return torch.from_numpy(finite[distinct]).to(torch.int64)
    # imported here: scikit-learn takes longer to import than the rest of this package
    from sklearn.cluster import KMeans

    centres = KMeans(count, n_init=10, random_state=seed % 2**32).fit(kept[:, None]).cluster_centers_[:, 0]
    nearest = {_nearest(kept, float(centre)) for centre in centres}
    chosen = torch.from_numpy(finite[sorted(nearest, key=lambda row: (kept[row], row))])
    return chosen.to(torch.int64)


def _nearest(values: NDArray[np.float64], centre: float) -> int:
    """Row of the value nearest a centre; a margin keeps rounding from deciding between equally near ones."""
    distances = np.abs(values - centre)
    near = np.flatnonzero(distances <= distances.min() + _MARGIN * np.ptp(values))
    return int(near[values[near].argmin()])
