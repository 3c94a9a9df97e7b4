"""WAV decoding against files that others write (the standard library, SciPy), and bytes put together by hand."""

import io
import struct
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import wavfile

from lessonplan.data.wav import Truncated, rate_of, read_wav
from lessonplan.errors import DataError


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def riff(*chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks))) + b"WAVE" + b"".join(chunks)


def fmt(kind=1, channels=1, rate=8000, bits=16, more=b"") -> bytes:
    width = bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", kind, channels, rate, rate * channels * width, channels * width, bits) + more)  # fmt: skip  # noqa: E501


def stored(width: int, frames: bytes, channels=1, rate=8000) -> bytes:
    """What the standard library writes."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(frames)
    return file.getvalue()


@pytest.mark.parametrize(
    ("width", "values", "zero"), [(1, [0, 64, 128, 255], 128), (2, [-32768, -1, 0, 16384], 0),
                                  (3, [-(2**23), -1, 0, 2**22], 0), (4, [-(2**31), 0, 2**30], 0)],
)  # fmt: skip
def test_whole_numbers_of_every_width(width, values, zero):
    raw = b"".join(v.to_bytes(width, "little", signed=width > 1) for v in values)
    recording = read_wav(stored(width, raw, rate=11025))
    assert recording.rate == 11025
    assert recording.samples.dtype == np.float32
    assert recording.samples.tolist() == [(v - zero) / 2 ** (8 * width - 1) for v in values]


@pytest.mark.parametrize("kind", ["f4", "f8", "i2", "i4", "u1"])
def test_what_scipy_writes(kind):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 301) if kind[0] == "f" else rng.integers(-128 * (kind[0] == "i"), 128, 301)
    file = io.BytesIO()
    wavfile.write(file, 22050, x.astype(kind))
    scale = {"f": 1, "i": 2.0 ** (8 * int(kind[1]) - 1), "u": 128}[kind[0]]
    expected = (x - (128 if kind == "u1" else 0)) / scale
    assert rate_of(file.getvalue()) == 22050
    assert np.allclose(read_wav(file.getvalue()).samples, expected, atol=1e-7)


def test_channels_are_averaged():
    frames = np.array([[100, 300], [-8, 8], [32767, 32767]], dtype="<i2")
    assert np.allclose(read_wav(stored(2, frames.tobytes(), 2)).samples, np.array([200, 0, 32767]) / 32768)


def test_other_chunks_odd_sizes_and_the_extensible_format():
    guid = struct.pack("<HHI", 24, 0, 0) + struct.pack("<H", 3) + b"\0" * 14
    body = struct.pack("<2f", 0.25, -0.5)
    data = riff(
        chunk(b"LIST", b"abc"), fmt(0xFFFE, bits=32, more=struct.pack("<H", 22) + guid[2:]), chunk(b"data", body)
    )
    assert read_wav(data).samples.tolist() == [0.25, -0.5]
    unknown = bytearray(riff(fmt(bits=8), chunk(b"data", b"\x80\xc0")))
    unknown[-6:-2] = b"\xff\xff\xff\xff"  # a length that the writer did not know
    assert read_wav(bytes(unknown)).samples.tolist() == [0, 0.5]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"ID3\x04" + b"\0" * 40, "no WAV file"),
        (riff(fmt(6, bits=8), chunk(b"data", b"ab")), "A-law"),
        (riff(fmt(1, bits=12), chunk(b"data", b"ab")), "12 bits"),
        (riff(fmt(rate=0), chunk(b"data", b"ab")), "header is damaged"),
        (riff(fmt(channels=0), chunk(b"data", b"ab")), "header is damaged"),
        (riff(chunk(b"data", b"ab")), "before their format"),
        (riff(fmt()), "no chunk of samples"),
        (riff(fmt(), chunk(b"data", b"")), "no samples"),
        (riff(fmt(3, bits=32), chunk(b"data", struct.pack("<f", float("nan")))), "NaN"),
        (riff(chunk(b"fmt ", b"\1\0\1\0")), "cut short"),
    ],
)
def test_what_is_no_recording(data, says):
    with pytest.raises(DataError, match=says):
        read_wav(data)


@given(st.integers(0, 243))
def test_a_file_that_is_cut_short_never_passes(length):
    whole = stored(2, b"\1\2" * 100)
    assert len(whole) == 244
    with pytest.raises(DataError):
        read_wav(whole[:length])
    if length >= 36:
        assert rate_of(whole[:length]) == 8000
    elif length >= 12:
        with pytest.raises(Truncated):
            rate_of(whole[:length])


@given(st.binary(max_size=80))
def test_any_bytes_behind_a_riff_head_give_a_recording_or_an_error_of_ours(tail):
    try:
        recording = read_wav(b"RIFF\0\0\0\0WAVE" + tail)
    except DataError:
        return
    assert np.isfinite(recording.samples).all()


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFDB, 0x80000000, 0xFFFFFF00, 0xFFFFFFFF])
@pytest.mark.parametrize("outer", [0, 36, 0xFFFFFFFF])
def test_lengths_that_a_pipe_never_knew(size, outer):
    data = bytearray(stored(2, np.arange(50, dtype="<i2").tobytes()))
    data[4:8], data[40:44] = struct.pack("<I", outer), struct.pack("<I", size)
    assert np.allclose(read_wav(bytes(data)).samples * 32768, np.arange(50))


def test_an_empty_chunk_before_another_is_empty():
    with pytest.raises(DataError, match="no samples"):
        read_wav(riff(fmt(), chunk(b"data", b""), chunk(b"LIST", b"INFOabcd")))


def test_chunks_without_the_byte_between():
    odd = b"LIST" + struct.pack("<I", 5) + b"INFOx"  # and the next one follows at once
    data = riff(odd, fmt(), chunk(b"data", np.arange(4, dtype="<i2").tobytes()))
    assert len(read_wav(data).samples) == 4


@pytest.mark.parametrize("name", [b"RF64", b"BW64"])
def test_files_whose_lengths_take_64_bits(name):
    body = np.arange(6, dtype="<i2").tobytes()
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 1000, len(body), 6, 0))
    tail = chunk(b"LIST", b"INFOabcd")  # no samples
    head = name + b"\xff\xff\xff\xff" + b"WAVE" + ds64 + fmt()
    data = head + b"data" + b"\xff\xff\xff\xff" + body + tail
    assert np.allclose(read_wav(data).samples * 32768, np.arange(6))
    cut = head + b"data" + b"\xff\xff\xff\xff" + body[:5]
    with pytest.raises(Truncated, match="12 bytes of samples are announced and 5 there"):
        read_wav(cut)
