"""Near copies: the same picture stored again, smaller, brighter or more coarsely, found by perceptual hashes.

A hash proposes pairs and the pictures' details confirm them: hashes alone take photographs of the same kind (a
shirt on the same cloth) for one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.fft import dctn
from torch import Tensor

from lessonplan.lab.data_check.glance import grey_of
from lessonplan.progress import step

BITS, MOST_BITS = 64, 8
DETAIL = 0.85
"""Correlation of details from which two pictures are called one.

On 3,781 photographs of clothes the one true pair has 1.00 and the next .79; of 15,000 pictures of CIFAR-10 all
pairs above .85 are true.
"""
_AROUND = 5  # pixels of a thumbnail whose mean is taken off: what is left are details, not layout or light
_MOST_PAIRS = 200_000
_TOGETHER = 4096

Hashes = npt.NDArray[np.uint64]
Pairs = npt.NDArray[np.int64]


def perceptual_hashes(thumbnails: Tensor) -> Hashes:
    """64-bit hashes of pictures by their lowest frequencies (pHash; Zauner 2010, section 3.2.1).

    A bit is whether one of the 8 x 8 lowest coefficients of the cosine transform is above their median; the first,
    the mean brightness, plays no part in it.

    Args:
        thumbnails: ``(N, C, 32, 32)`` uint8.

    Returns:
        ``(N,)`` uint64.
    """
    found = [np.zeros(0, dtype=np.uint64)]
    for some in thumbnails.split(_TOGETHER):
        low = dctn(grey_of(some.float()).numpy(), axes=(1, 2), norm="ortho")[:, :8, :8].reshape(len(some), BITS)
        bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
        bits[:, 0] = False
        found.append(np.packbits(bits, axis=1).view(np.uint64)[:, 0])
    return np.concatenate(found)


def close_pairs(hashes: Hashes, most: int = MOST_BITS) -> tuple[Pairs, bool]:
    """All pairs of hashes that differ in at most ``most`` bits.

    Of ``most + 1`` groups of bits such a pair agrees in one (Norouzi et al. 2012, multi-index hashing), so that
    only hashes that agree in a group are compared.

    Args:
        hashes: ``(N,)`` uint64.
        most: bits, in [0, 63].

    Returns:
        ``(P, 2)`` int64, the smaller number first, in ascending order; and whether that are all: beyond 200,000
        it is given up.
    """
    bits = np.unpackbits(hashes[:, None].view(np.uint8), axis=1)
    found, count = [np.zeros(0, dtype=np.int64)], 0
    with step("comparing pictures", (most + 1) * len(hashes), "comparisons") as line:
        for group in range(most + 1):
            # Every (most + 1)th bit: neighbouring frequencies are alike in many pictures.
            packed = np.packbits(bits[:, group :: most + 1], axis=1)
            _, codes = np.unique(packed, axis=0, return_inverse=True)
            order = np.argsort(codes.reshape(-1), kind="stable")
            for members in np.split(order, np.flatnonzero(np.diff(codes.reshape(-1)[order])) + 1):
                pairs = _within(hashes, members, most)
                found.append(pairs)
                count += len(pairs)
                line.update(advance=len(members))
                if count > _MOST_PAIRS * (most + 1):
                    return _as_pairs(found, len(hashes))[:_MOST_PAIRS], False
    pairs = _as_pairs(found, len(hashes))
    return pairs[:_MOST_PAIRS], len(pairs) <= _MOST_PAIRS


def _within(hashes: Hashes, members: Pairs, most: int) -> Pairs:
    """Pairs of some hashes as one number each."""
    found = [np.zeros(0, dtype=np.int64)]
    for start in range(0, len(members) - 1, _TOGETHER // 8):
        some = members[start : start + _TOGETHER // 8]
        i, j = np.nonzero(ones(hashes[some][:, None] ^ hashes[members[start:]][None]) <= most)
        later = i < j
        found.append(some[i[later]] * len(hashes) + members[start:][j[later]])
    return np.concatenate(found)


def _as_pairs(found: list[Pairs], count: int) -> Pairs:
    numbers = np.unique(np.concatenate(found))
    return np.stack([numbers // max(1, count), numbers % max(1, count)], axis=1)


def ones(values: Hashes) -> npt.NDArray[np.int64]:
    """How many bits of each number are set, of the shape of ``values``."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.asarray(np.bitwise_count(values), dtype=np.int64)
    pieces = np.ascontiguousarray(values).reshape(-1, 1).view(np.uint8)
    counts: npt.NDArray[np.int64] = np.unpackbits(pieces, axis=1).sum(1, dtype=np.int64).reshape(values.shape)
    return counts


def details(thumbnails: Tensor) -> Tensor:
    """What tells pictures of one kind apart: ``(N, D)`` float32 of mean 0 and length 1, without light and layout.

    Args:
        thumbnails: ``(N, C, 32, 32)`` uint8.
    """
    x = thumbnails.float()
    mean = F.avg_pool2d(x, _AROUND, stride=1, padding=_AROUND // 2, count_include_pad=False)
    rest = (x - mean).flatten(1)
    return F.normalize(rest - rest.mean(1, keepdim=True), dim=1)


def near_copies(thumbnails: Tensor, eligible: Tensor) -> tuple[Pairs, Tensor, bool]:
    """Pairs of pictures that show the same.

    Args:
        thumbnails: ``(N, C, 32, 32)`` uint8.
        eligible: ``(N,)`` bool, which are looked at: blank pictures all look alike.

    Returns:
        pairs ``(P, 2)`` int64, the most alike first; the correlation of their details ``(P,)``; and whether these
        are all.
    """
    rows = eligible.nonzero().flatten()
    proposed, complete = close_pairs(perceptual_hashes(thumbnails[rows]))
    pairs = rows.numpy()[proposed]
    alike = torch.cat(
        [
            (details(thumbnails[some[:, 0]]) * details(thumbnails[some[:, 1]])).sum(1)
            for some in torch.from_numpy(pairs).split(_TOGETHER)
        ]
        or [torch.zeros(0)]
    )
    kept = (alike >= DETAIL).nonzero().flatten()
    order = kept[alike[kept].argsort(descending=True, stable=True)]
    return pairs[order.numpy()], alike[order], complete
