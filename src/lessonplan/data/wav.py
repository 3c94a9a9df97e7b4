"""WAV files to waveforms: PCM of 8 to 32 bits and floats in RIFF (Microsoft and IBM, 1991) or RF64 files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lessonplan.errors import DataError

Wave = npt.NDArray[np.float32]
RATES = (1_000, 384_000)  # Hz; a header that says something else is damaged
_PCM, _FLOAT, _EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
_UNKNOWN = 0x7FFF0000  # programs that do not know the length write 0, or 0x7FFFF000, 0x80000000, 0xFFFFFFFF
_KNOWN = (b"data", b"fmt ", b"LIST", b"fact", b"bext", b"cue ", b"smpl", b"id3 ", b"JUNK", b"iXML", b"PEAK")
_OTHERS = {0x0002: "ADPCM", 0x0006: "A-law", 0x0007: "mu-law", 0x0011: "IMA ADPCM", 0x0055: "MP3"}


@dataclass(frozen=True)
class Recording:
    """A waveform.

    Attributes:
        rate: samples per second, in Hz.
        samples: ``(L,)`` float32; full scale is -1 to 1; several channels are averaged.
    """

    rate: int
    samples: Wave


@dataclass(frozen=True)
class Format:
    """What the ``fmt`` chunk says: kind of numbers, channels, samples per second, bits of a sample."""

    kind: int
    channels: int
    rate: int
    bits: int


class Truncated(DataError):
    """The bytes end before what was looked for."""


def read_wav(data: bytes) -> Recording:
    """Decode the bytes of a WAV file.

    Args:
        data: the whole file; PCM of 8 (unsigned), 16, 24 or 32 bits, or floats of 32 or 64.

    Raises:
        DataError: another kind of file or encoding, a file that is cut short, samples that are no numbers.
            The message is a phrase to put behind the file's name.
    """
    form: Format | None = None
    for name, body, size in _chunks(data):
        if name == b"fmt ":
            form = _format(body)
        elif name == b"data":
            if form is None:
                raise DataError("the samples come before their format")
            if len(body) < size < _UNKNOWN:
                raise Truncated(f"cut short: {size} bytes of samples are announced and {len(body)} there")
            return Recording(form.rate, _decode(body, form))
    raise Truncated("no chunk of samples")


def rate_of(data: bytes) -> int:
    """The sample rate in Hz, from the beginning of a WAV file.

    Raises:
        DataError: another kind of file (:class:`Truncated` where the beginning was too short to tell).
    """
    for name, body, _ in _chunks(data):
        if name == b"fmt ":
            return _format(body).rate
    raise Truncated("no format chunk")


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Name, bytes that are there, and announced size of every chunk."""
    if len(data) < 12 or data[:4] not in (b"RIFF", b"RF64", b"BW64") or data[8:12] != b"WAVE":
        raise DataError(f"no WAV file: it starts with {data[:4]!r}" if data else "an empty file")
    view, at, long = memoryview(data), 12, 0
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"ds64":  # RF64 (EBU Tech 3306): sizes that do not fit into 32 bits
            long = int.from_bytes(data[at + 16 : at + 24], "little")
        if name == b"data":
            if size == 0xFFFFFFFF and long:
                size = long
            elif size == 0 and not any(data[at + 8 : at + 12].startswith(known) for known in _KNOWN):
                size = 0xFFFFFFFF  # a recorder that was interrupted
        yield name, view[at + 8 : at + 8 + size], size
        at += 8 + size
        # Chunks begin at even places; some programs forget the byte between.
        if size % 2 and not (data[at : at + 4] in _KNOWN and data[at + 1 : at + 5] not in _KNOWN):
            at += 1


def _format(body: memoryview) -> Format:
    if len(body) < 16:
        raise Truncated("a format chunk that is cut short")
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if kind == _EXTENSIBLE and len(body) >= 26:
        kind = struct.unpack_from("<H", body, 24)[0]  # the first bytes of the subformat's identifier
    if (kind, bits) not in {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}:
        what = _OTHERS.get(kind, f"encoding {kind:#06x}")
        raise DataError(f"{what} of {bits} bits: convert it to PCM of 8, 16, 24 or 32 bits")
    if channels == 0 or not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"{channels} channels at {rate} Hz: the header is damaged")
    return Format(kind, channels, rate, bits)


def _decode(body: memoryview, form: Format) -> Wave:
    """Bytes of samples to one channel of float32."""
    width = form.bits // 8
    raw = np.frombuffer(body[: len(body) - len(body) % (width * form.channels)], dtype=np.uint8)
    if len(raw) == 0:
        raise DataError("it holds no samples")
    if form.kind == _FLOAT:
        values = raw.view("<f4" if width == 4 else "<f8").astype(np.float32)
        if not np.isfinite(values).all():
            raise DataError("it holds samples that are NaN or infinite")
    elif width == 1:
        values = (raw.astype(np.float32) - np.float32(128)) / np.float32(128)
    elif width == 3:
        # Three bytes become the upper three of an int32, which keeps the sign.
        wide = np.zeros((len(raw) // 3, 4), dtype=np.uint8)
        wide[:, 1:] = raw.reshape(-1, 3)
        values = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    else:
        values = raw.view(f"<i{width}").astype(np.float32) / np.float32(2 ** (form.bits - 1))
    if form.channels == 1:
        return values
    mean: Wave = values.reshape(-1, form.channels).mean(axis=1, dtype=np.float32)
    return mean
