"""What is read from curves, against formulas, SciPy and curves whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from lessonplan.train.lr_curve import newest, read_curve, smooth, smoothing_width

LR = np.geomspace(1e-6, 10, 100)
WIDTH = smoothing_width(1e-6, 10, 100)


def fall(at: float, width: float = 0.35) -> np.ndarray:
    """A logistic fall from 2.3 to 0.3, steepest at a learning rate, and a parabola up behind 1."""
    x = np.log10(LR)
    return 0.3 + 2 / (1 + np.exp((x - np.log10(at)) / width)) + 4 * np.clip(x, 0, None) ** 2


@pytest.mark.parametrize("width", [1.0, 3.0])
def test_smoothing_is_scipys_bell_weighed_anew_at_the_ends(width: float) -> None:
    loss = np.random.default_rng(0).normal(2, 1, 60)

    def bell(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter1d(values, width, mode="constant", truncate=4)

    np.testing.assert_allclose(smooth(loss, width), bell(loss) / bell(np.ones(60)), rtol=1e-12)


def test_what_is_known_while_losses_come_in_is_the_last_value_of_all_so_far() -> None:
    loss = np.random.default_rng(1).normal(2, 1, 40)
    for n in range(1, 41):
        assert newest(loss[:n].tolist(), 2.83) == pytest.approx(smooth(loss[:n], 2.83)[-1], rel=1e-12)


@pytest.mark.parametrize("at", [1e-4, 3e-3, 0.05])
def test_the_steepest_point_of_a_logistic_fall_is_its_middle(at: float) -> None:
    reading = read_curve(LR, fall(at), WIDTH)
    assert reading.suggested is not None
    assert abs(np.log10(reading.suggested / at)) <= 7 / 99  # a step
    assert reading.notes == ()


def test_noise_moves_it_by_little_and_a_tenth_of_the_lowest_is_told() -> None:
    rng = np.random.default_rng(2)
    readings = [read_curve(LR, fall(0.01) + rng.normal(0, 0.1, 100), WIDTH) for _ in range(50)]
    off = [abs(np.log10(reading.suggested / 0.01)) for reading in readings]
    assert max(off) < 0.5
    for reading in readings:
        assert reading.tenth == LR[reading.smoothed.argmin()] / 10


def test_where_the_loss_never_falls_there_is_no_number() -> None:
    rng = np.random.default_rng(3)
    said = [read_curve(LR, rng.normal(2, 0.2, 100), WIDTH) for _ in range(300)]
    assert sum(reading.suggested is not None for reading in said) <= 2
    rising = read_curve(LR, np.exp(np.linspace(0, 2, 100)), WIDTH)
    for reading in (rising, read_curve(LR, np.full(100, 2.0), WIDTH)):
        assert reading.suggested is reading.lowest is reading.tenth is None
        assert "never falls" in reading.reason


def test_a_gentle_fall_in_noise_is_not_mistaken_for_the_noise_before_it() -> None:
    """Some slopes of the noise alone are steeper than that of the fall."""
    rng = np.random.default_rng(4)
    x = np.log10(LR)
    gentle = 2.3 - 0.15 / (1 + np.exp(-(x + 1.5) / 0.3))
    readings = [read_curve(LR, gentle + rng.normal(0, 0.04, 100), WIDTH) for _ in range(100)]
    found = [reading.suggested for reading in readings if reading.suggested is not None]
    assert len(found) >= 80
    assert sum(lr > 1e-3 for lr in found) >= 0.95 * len(found)


def test_the_way_back_from_a_peak_is_no_fall() -> None:
    x = np.log10(LR)
    peak = 5 * np.exp(-(((x + 4.5) / 0.2) ** 2))
    reading = read_curve(LR, fall(0.01) + peak, WIDTH)
    assert abs(np.log10(reading.suggested / 0.01)) <= 7 / 99


def test_what_lies_beyond_the_range_is_said() -> None:
    early = read_curve(LR, fall(1e-6), WIDTH)
    assert any("smaller --from" in note for note in early.notes)
    late = read_curve(LR[:60], fall(0.05)[:60], WIDTH)  # cut off while it falls
    assert any("still falling" in note for note in late.notes)


def test_too_few_losses() -> None:
    for n in (0, 1, 2):
        reading = read_curve(LR[:n], np.ones(n), WIDTH)
        assert reading.suggested is None
        assert f"only {n} losses" in reading.reason
