"""What mixes draw, against SciPy's distributions and against enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from lessonplan import mix as m

N = 1500


def on_identity(mix, n=N):
    """Row i of the result holds the coefficients of all samples in new sample i."""
    return mix(torch.eye(n, dtype=torch.float64), torch.zeros(n, dtype=torch.long))[0]


def own_weight(mix):
    """Each sample's weight on itself, without those that were paired with themselves."""
    own = on_identity(mix).diagonal()
    return own[own < 1].numpy()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixup_coefficients_are_beta(alpha):
    beta = stats.beta(alpha, alpha).cdf
    each = own_weight(m.Mixup(alpha, num_classes=1, per_sample=True, seed=1))
    assert len(each) > N - 10
    assert stats.kstest(each, beta).pvalue > 0.01
    mix = m.Mixup(alpha, num_classes=1, seed=1)
    batches = []
    for _ in range(500):
        coefficients = on_identity(mix, 3)
        own = coefficients.diagonal()
        batches.append(own.min().item())
        assert ((own - own.min()).abs() < 1e-12).logical_or(own == 1).all()  # one for the whole batch
    moved = [lam for lam in batches if lam < 1]
    assert len(moved) > 350  # five permutations of six move a sample
    assert stats.kstest(moved, beta).pvalue > 0.01


@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_two_way_dirichlet_sum_is_mixup(alpha):
    weights = on_identity(m.SumAugment(2, 1, coefficients="dirichlet", alpha=alpha, seed=3))
    first = weights.diagonal().numpy()
    mixup = own_weight(m.Mixup(alpha, num_classes=1, per_sample=True, seed=4))
    assert stats.ks_2samp(first, mixup).pvalue > 0.01
    assert stats.kstest(first, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_dirichlet_marginals():
    """A coefficient of a symmetric Dirichlet in k dimensions is Beta(alpha, (k - 1) alpha)."""
    k, alpha, m_out = 3, 0.7, N // 3
    weights = on_identity(m.SumAugment(k, 1, coefficients="dirichlet", alpha=alpha, seed=5))
    for j in range(k):
        member = weights[torch.arange(m_out), torch.arange(m_out) + j * m_out].numpy()
        assert stats.kstest(member, stats.beta(alpha, (k - 1) * alpha).cdf).pvalue > 0.01


def test_permutations_are_uniform():
    mix = m.SumAugment(2, 3, pairing="permute", seed=6)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(600):
        partner = tuple((on_identity(mix, 3) - torch.eye(3) / 2).argmax(1).tolist())
        counts[partner] = counts.get(partner, 0) + 1
    assert len(counts) == 6
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_summands_are_permuted_apart():
    """k = 4 sums four different images, but for about 6 chance meetings in n rows."""
    weights = on_identity(m.SumAugment(4, 1, pairing="permute", seed=6), 200)
    members = (weights > 0).sum(1)
    assert members.max() == 4
    assert (members == 4).sum() > 180


def cutmix_kept(alpha, height, width):
    """The distribution of the share kept: every centre, and lam at 400 quantiles of Beta(alpha, alpha)."""
    lam = stats.beta(alpha, alpha).ppf((np.arange(400) + 0.5) / 400)
    values: list[float] = []
    for share in lam:
        side = math.sqrt(1 - share)
        h, w = int(height * side) // 2, int(width * side) // 2
        for row in range(height):
            for column in range(width):
                rows = min(row + h, height) - max(row - h, 0)
                columns = min(column + w, width) - max(column - w, 0)
                values.append(1 - rows * columns / (height * width))
    return np.array(values)


@pytest.mark.parametrize(("alpha", "per_sample"), [(1.0, True), (0.5, True), (1.0, False)])
def test_cutmix_areas(alpha, per_sample):
    """Painted images: the share of another image's pixels, sample by sample or batch by batch."""
    height, width, n = 6, 9, 900 if per_sample else 2
    mix = m.CutMix(alpha, num_classes=n, per_sample=per_sample, seed=8)
    hot = torch.arange(n)
    kept: list[float] = []
    for _ in range(1 if per_sample else 1200):
        x = hot.float()[:, None, None].expand(n, height, width)
        mixed, target = mix(x, hot)
        pixels = (mixed == x).double().mean((1, 2))
        assert torch.equal(target[hot, hot].double().mul(54).round(), pixels.mul(54).round())
        torch.testing.assert_close(target[hot, hot].double(), pixels, atol=1e-6, rtol=0)
        kept += pixels.tolist() if per_sample else [pixels.min().item()]
    if not per_sample:  # in half of the batches of two each image meets itself
        expected = np.concatenate([cutmix_kept(alpha, height, width), np.ones(400 * height * width)])
    else:
        expected = cutmix_kept(alpha, height, width)
    grid = np.unique(np.concatenate([kept, expected]))
    distance = np.abs(
        np.searchsorted(np.sort(kept), grid + 1e-6) / len(kept)
        - np.searchsorted(np.sort(expected), grid + 1e-6) / len(expected)
    ).max()
    assert distance < 1.63 / math.sqrt(len(kept))  # Kolmogorov-Smirnov at 1%


@pytest.mark.parametrize("length", [1, 3, 4, 9, None])
def test_cutout_squares(length):
    """Each pixel is blanked as often as enumerating every centre says; each hole is one cut-off square."""
    height, width, n = 6, 8, 3000
    mixed, _ = m.Cutout(length, num_classes=1, seed=2)(torch.ones(n, height, width), torch.zeros(n).long())
    hole = mixed == 0
    side = 3 if length is None else length
    expected = torch.zeros(height, width)
    allowed = set()
    for row in range(height):
        for column in range(width):
            image = torch.zeros(height, width)
            top, left = row - side // 2, column - side // 2
            image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 1
            allowed.add(tuple(image.flatten().int().tolist()))
            expected += image / (height * width)
    found = {tuple(h.flatten().int().tolist()) for h in hole}
    assert found == allowed  # 3000 draws meet each of 48 centres
    frequency = hole.float().mean(0)
    sigma = (expected * (1 - expected) / n).sqrt()
    assert ((frequency - expected).abs() <= 4.5 * sigma + 1e-6).all()


def test_cutout_fills_with_its_value():
    x = torch.zeros(4, 2, 6, 6, dtype=torch.float64)
    mixed, _ = m.Cutout(2, num_classes=1, value=0.1)(x, torch.zeros(4).long())
    assert set(mixed.unique().tolist()) == {0.0, 0.1}  # in doubles as exactly as it was given
    assert torch.equal(mixed[:, 0], mixed[:, 1])


def test_sample_pairing_averages_pairs():
    weights = on_identity(m.SamplePairing(num_classes=1, seed=1), 40)
    expected = torch.eye(40, dtype=torch.float64) / 2
    partner = (weights - expected).argmax(1)
    assert sorted(partner.tolist()) == list(range(40))
    expected[torch.arange(40), partner] += 0.5
    torch.testing.assert_close(weights, expected)


def test_a_turned_batch_gives_every_other_sample_alike():
    n = 6
    mix = m.SamplePairing(num_classes=1, seed=1, pairing="rotate")
    counts = torch.zeros(n, n)
    for _ in range(600):
        partner = (on_identity(mix, n) - torch.eye(n, dtype=torch.float64) / 2).argmax(1)
        places = (torch.arange(n) - partner) % n
        assert len(places.unique()) == 1
        counts[torch.arange(n), partner] += 1
    assert (counts.diagonal() == 0).all()
    assert stats.chisquare(counts[0, 1:].numpy()).pvalue > 0.01
    assert on_identity(mix, 1).item() == 1  # with itself: there is no other


def test_choice_and_probability_frequencies():
    def still(mix):
        x, y = torch.arange(8.0), torch.zeros(8).long()
        return sum(torch.equal(mix(x, y)[0], x) for _ in range(600))

    mixup, clean = m.Mixup(num_classes=1), m.SumAugment(1, 1)
    assert stats.binomtest(still(m.Probability(mixup, p=0.3)), 600, 0.7).pvalue > 0.01
    assert stats.binomtest(still(m.Choice([mixup, clean], p=[0.2, 0.8])), 600, 0.8).pvalue > 0.01
    assert stats.binomtest(still(m.Choice([mixup, clean])), 600, 0.5).pvalue > 0.01
    assert still(m.Probability(mixup, p=0.0)) == 600
    assert still(m.Probability(mixup, p=1.0)) < 10
