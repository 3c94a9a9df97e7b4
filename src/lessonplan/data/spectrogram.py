"""Log-mel spectrograms: a recording as a grey image ``(1, mels, frames)``, so that every mix takes it as it is."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lessonplan.data.wav import Recording, Wave
from lessonplan.errors import ConfigError

_WINDOW = 0.032  # seconds; long enough for the pitch of speech, short enough for its consonants
_SILENT = 1e-20  # power below which a recording is silent


def hz_to_mel(hz: float) -> float:
    """Frequency on the mel scale of the HTK book (O'Shaughnessy 1987): ``2595 log10(1 + hz / 700)``.

    >>> round(hz_to_mel(1000.0))
    1000
    """
    return 2595.0 * math.log10(1.0 + hz / 700.0)


def mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The inverse of :func:`hz_to_mel`, for an array."""
    hz: npt.NDArray[np.float64] = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return hz


def mel_edges(mels: int, low: float, high: float) -> npt.NDArray[np.float64]:
    """``(mels + 2,)`` frequencies in Hz at equal distances in mel: filter m runs from edge m to edge m + 2."""
    return mel_to_hz(np.linspace(hz_to_mel(low), hz_to_mel(high), mels + 2))


def mel_filters(rate: int, fft: int, mels: int, low: float) -> Tensor:
    """Triangular filters with peak 1, as HTK has them (no scaling by area).

    Args:
        rate: samples per second, in Hz; the highest filter ends at ``rate / 2``.
        fft: length of the Fourier transform, in samples.
        mels: number of filters.
        low: where the lowest one begins, in Hz.

    Returns:
        ``(mels, fft // 2 + 1)`` float64, lowest band first.
    """
    edges = mel_edges(mels, low, rate / 2)
    bins = np.arange(fft // 2 + 1) * (rate / fft)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.from_numpy(np.maximum(0.0, np.minimum(rising, falling)))


@dataclass(frozen=True)
class Spectrogram:
    """How recordings become images: fixed length, short-time Fourier transform, mel filters, decibels.

    Time is cut into ``frames`` equal steps; each column is the Hann window (of 32 ms, or of two steps where
    those are longer) around the middle of its step. Power is given in decibels below the loudest cell of the
    recording and put on bytes: the loudest cell is 255, ``decibels`` below it and silence are 0 (a step of
    0.31 dB). So loudness does not matter, and pictures, normalisation and attacks work as on grey images.

    Args:
        rate: Hz that recordings are brought to.
        seconds: length; shorter recordings stand in the middle of silence, of longer ones the middle is kept.
        mels: frequency bands, the rows of the image; the highest is row 0, as spectrograms are drawn.
        frames: steps of time, the columns of the image.
        low: lowest frequency, in Hz.
        decibels: range that is kept.

    Raises:
        ConfigError: lengths or numbers that cannot be.

    >>> tone = torch.sin(torch.arange(8000) * (2 * math.pi * 1000 / 8000))
    >>> image = Spectrogram(rate=8000)(tone[None])
    >>> image.shape, image.dtype, sorted({31 - row for row in image[0, 0].argmax(0).tolist()})
    (torch.Size([1, 1, 32, 32]), torch.uint8, [14])
    """

    rate: int
    seconds: float = 1.0
    mels: int = 32
    frames: int = 32
    low: float = 20.0
    decibels: float = 80.0

    def __post_init__(self) -> None:
        check_seconds(self.seconds)
        if min(self.mels, self.frames) < 1 or self.frames > self.seconds * self.rate:
            raise ConfigError(
                f"a spectrogram of {self.mels} x {self.frames} (bands x steps) cannot be made of {self.seconds} s "
                f"at {self.rate} Hz: give at least 1 of each, and no more steps than samples"
            )

    @property
    def hop(self) -> int:
        """Samples of a step."""
        return round(self.seconds * self.rate / self.frames)

    @property
    def length(self) -> int:
        """Samples of a recording: a whole number for every step."""
        return self.hop * self.frames

    @property
    def window(self) -> int:
        """Samples of a window."""
        return max(round(_WINDOW * self.rate), 2 * self.hop)

    @property
    def fft(self) -> int:
        """Samples of the transform: a power of two so large that no mel filter falls between two bins."""
        edges = mel_edges(self.mels, self.low, self.rate / 2)
        least = max(self.window, math.ceil(self.rate / float(edges[1] - edges[0])))
        return 1 << (least - 1).bit_length()

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(1, mels, frames)``."""
        return 1, self.mels, self.frames

    def fit(self, recording: Recording) -> Wave:
        """The middle of a recording at this rate, ``(length,)`` float32, with silence around it if it is short."""
        samples = recording.samples
        if recording.rate != self.rate:
            from scipy.signal import resample_poly  # imported here: it takes longer than the rest

            shared = math.gcd(self.rate, recording.rate)
            samples = _middle(samples, math.ceil(self.length / self.rate * recording.rate) + 1)
            samples = resample_poly(samples, self.rate // shared, recording.rate // shared).astype(np.float32)
        samples = _middle(samples, self.length)
        out = np.zeros(self.length, dtype=np.float32)
        start = (self.length - len(samples)) // 2
        out[start : start + len(samples)] = samples
        return out

    def __call__(self, signals: Tensor) -> Tensor:
        """Waveforms ``(B, length)`` of any floating type on the CPU to images ``(B, 1, mels, frames)`` uint8."""
        before = (self.fft - self.hop) // 2
        padded = torch.nn.functional.pad(signals.to(torch.float64), (before, self.fft - self.hop - before))
        window = torch.hann_window(self.window, dtype=torch.float64, device="cpu")
        # In float64, so that no rounding of a fast transform decides between two bytes on another machine.
        spectrum = torch.stft(padded, self.fft, self.hop, self.window, window, center=False, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        mel = mel_filters(self.rate, self.fft, self.mels, self.low) @ power
        ratio = mel / mel.amax((1, 2), keepdim=True).clamp(min=_SILENT)
        below = ratio.clamp(min=10.0 ** (-self.decibels / 10)).log10() * (10 / self.decibels)  # -1 to 0
        return ((below + 1) * 255).round().to(torch.uint8).flip(1)[:, None]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, exact through JSON; ``Spectrogram(**values)`` is the inverse."""
        return asdict(self)


def check_seconds(seconds: float) -> None:
    """Raise ConfigError unless recordings can have this length."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0.01 <= seconds <= 3600:
        raise ConfigError(f"clip_seconds={seconds!r}: give a length of 0.01 to 3600 seconds")


def _middle(samples: Wave, length: int) -> Wave:
    start = max(0, (len(samples) - length) // 2)
    return samples[start : start + length]
