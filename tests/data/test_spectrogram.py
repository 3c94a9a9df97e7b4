"""Log-mel spectrograms against the definition written as loops, and against figures librosa 0.11 gave."""

import cmath
import math

import numpy as np
import pytest
import torch
from scipy.signal import chirp

from lessonplan.data.spectrogram import Spectrogram, hz_to_mel, mel_filters, mel_to_hz
from lessonplan.data.wav import Recording
from lessonplan.errors import ConfigError


def by_definition(s: Spectrogram, x: list[float]) -> np.ndarray:
    """Window, discrete Fourier sum, triangles, decibels: one number after the other."""
    step = (hz_to_mel(s.rate / 2) - hz_to_mel(s.low)) / (s.mels + 1)
    edge = [700 * (10 ** ((hz_to_mel(s.low) + i * step) / 2595) - 1) for i in range(s.mels + 2)]
    window = [0.5 - 0.5 * math.cos(2 * math.pi * n / s.window) for n in range(s.window)]
    mel = np.zeros((s.mels, s.frames))
    for t in range(s.frames):
        start = t * s.hop + s.hop // 2 - s.window // 2  # the window stands around the middle of its step
        piece = [x[start + n] * window[n] if 0 <= start + n < len(x) else 0.0 for n in range(s.window)]
        for b in range(s.fft // 2 + 1):
            hz = b * s.rate / s.fft
            power = abs(sum(p * cmath.exp(-2j * math.pi * b * n / s.fft) for n, p in enumerate(piece))) ** 2
            for m in range(s.mels):
                low, peak, high = edge[m : m + 3]
                if low < hz < high:
                    mel[m, t] += power * ((hz - low) / (peak - low) if hz <= peak else (high - hz) / (high - peak))
    decibels = 10 * np.log10(np.maximum(mel / mel.max(), 1e-300))
    return np.maximum(decibels / s.decibels + 1, 0)[::-1] * 255


def test_the_definition():
    s = Spectrogram(rate=800, seconds=0.1, mels=5, frames=4)
    assert (s.hop, s.length, s.window, s.fft) == (20, 80, 40, 64)
    x = np.random.default_rng(0).normal(size=80)
    x[:30] *= 1e-3
    image = s(torch.from_numpy(x)[None])
    assert image.shape == (1, 1, 5, 4)
    expected = by_definition(s, x.tolist())
    assert expected.min() < 150  # there is something to tell apart
    assert np.abs(image[0, 0].numpy() - expected).max() <= 0.5 + 1e-9


def test_librosas_filters():
    # librosa.filters.mel(sr=8000, n_fft=512, n_mels=32, fmin=20, htk=True, norm=None) of librosa 0.11.0
    filters = mel_filters(8000, 512, 32, 20.0).numpy()
    assert filters.shape == (32, 257)
    assert filters.sum() == pytest.approx(245.08631832275407, abs=1e-9)
    assert filters[0, :7] == pytest.approx(
        [0, 0, 0.26710518, 0.63808459, 0.99143691, 0.64095957, 0.29048222], abs=1e-8
    )
    assert filters[14, 60:64] == pytest.approx([0.44621661, 0.61359207, 0.78096753, 0.94834299], abs=1e-8)
    assert filters[31, -4:] == pytest.approx([0.18046607, 0.12031071, 0.06015536, 0], abs=1e-8)


def test_librosas_image():
    # librosa.stft (periodic Hann window of 500, transform of 512, hop 250) and power_to_db(ref=max, top_db=80)
    s = Spectrogram(rate=8000)
    assert (s.hop, s.length, s.window, s.fft) == (250, 8000, 500, 512)
    t = np.arange(8000) / 8000
    x = np.sin(2 * np.pi * (200 + 1500 * t) * t)
    assert np.allclose(x, chirp(t, 200, 1, 3200, phi=-90), atol=1e-9)
    image = s(torch.from_numpy(x)[None])[0, 0]
    assert int(image.long().sum()) == 33645
    assert image[16:26, 5].tolist() == [0, 38, 129, 223, 252, 235, 161, 72, 24, 0]
    assert image[10].tolist() == [63, *[0] * 12, 17, 90, 205, 247, 253, 235, 156, 50, *[0] * 10, 96]


@pytest.mark.parametrize(("rate", "mels", "frames"), [(8000, 32, 32), (16000, 128, 128), (44100, 80, 101)])
def test_every_band_hears_something_and_sizes_are_exact(rate, mels, frames):
    s = Spectrogram(rate, mels=mels, frames=frames)
    assert s.length == s.hop * frames
    assert abs(s.length - rate) <= frames / 2
    assert (mel_filters(rate, s.fft, mels, s.low).amax(1) > 0.5).all()
    assert s(torch.randn(2, s.length, generator=torch.Generator().manual_seed(0))).shape == (2, 1, mels, frames)


def test_a_tone_lies_in_its_band():
    s = Spectrogram(rate=16000)
    centres = mel_to_hz(np.linspace(hz_to_mel(20), hz_to_mel(8000), 34))[1:-1]
    for band in (3, 15, 30):
        tone = torch.sin(torch.arange(16000, dtype=torch.float64) * (2 * math.pi * centres[band] / 16000))
        image = s(tone[None])[0, 0]
        assert (image[:, 4:-4].argmax(0) == 31 - band).all()


def test_loudness_does_not_matter_and_silence_is_blank():
    s = Spectrogram(rate=8000)
    x = torch.randn(1, 8000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    both = s(torch.cat([x, 0.01 * x]))
    assert torch.equal(both[0], both[1])
    assert int(both.max()) == 255
    assert int(s(torch.zeros(1, 8000)).max()) == 0


def test_lengths():
    s = Spectrogram(rate=8000, seconds=0.5, frames=20)
    short = s.fit(Recording(8000, np.ones(100, dtype=np.float32)))
    assert short.shape == (4000,)
    assert np.flatnonzero(short).tolist() == list(range(1950, 2050))
    long = s.fit(Recording(8000, np.arange(10_000, dtype=np.float32)))
    assert long.tolist() == list(range(3000, 7000))


def test_another_rate_is_resampled():
    s = Spectrogram(rate=8000)
    t = np.arange(44100) / 44100
    x = np.sin(2 * np.pi * 440 * t).astype(np.float32)
    at_8000 = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    assert np.abs(s.fit(Recording(44100, x)) - at_8000)[100:-100].max() < 5e-3
    # What lies above half the new rate must vanish, not come back as another tone.
    high = np.sin(2 * np.pi * 6000 * t).astype(np.float32)
    assert np.abs(s.fit(Recording(44100, high))[100:-100]).max() < 0.01


def test_settings():
    s = Spectrogram(16000, 1.5, 40, 60)
    assert Spectrogram(**s.to_dict()) == s
    for wrong in ({"seconds": 0.0}, {"seconds": float("nan")}, {"mels": 0}, {"frames": 9000}):
        with pytest.raises(ConfigError):
            Spectrogram(8000, **wrong)
