"""Pixels that are no opaque bytes: one rule for the whole set, said and kept for prediction."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from lessonplan.data import Preprocessing, load, pixels
from lessonplan.data.pixels import Decoding, cover, decoding_of, from_pil, range_of, size_of, to_uint8
from lessonplan.errors import DataError

GRID = np.linspace(0, 1, 64).reshape(8, 8)


def fill(root: Path, values, suffix: str = "png", n: int = 4) -> Path:
    """Two classes; ``values(i)`` is the array of picture i."""
    for c in range(2):
        (root / "ab"[c]).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(values(c * n + i)).save(root / "ab"[c] / f"{i}.{suffix}")
    return root


def raw(data) -> np.ndarray:
    return data.train.raw(torch.arange(len(data.train)))[:, 0].numpy()


# -- more than 8 bits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "top", "suffix", "bits"),
    [
        (np.uint16, 65535, "png", 16),
        (np.uint16, 4095, "png", 12),
        (np.uint16, 1023, "tiff", 10),
        (np.uint16, 255, "png", 8),
        (np.int32, 255, "tiff", 8),
        (np.int32, 2**20 - 1, "tiff", 20),
        (np.int32, 2**31 - 1, "tiff", 31),
    ],
)
@pytest.mark.parametrize("limit", [0, 2**30])
def test_grey_levels_keep_the_upper_8_of_the_bits_in_use(tmp_path, kind, top, suffix, bits, limit) -> None:
    def values(i):  # the first picture alone is dark: the rule is the set's
        return (np.roll(GRID, i) * (top if i else top // 16)).astype(kind)

    data = load(fill(tmp_path, values, suffix), test_fraction=0, augment="none", memory_limit=limit)
    expected = np.stack([values(i).astype(np.int64) * 256 // 2**bits for i in range(8)])
    assert np.array_equal(raw(data), expected)
    assert data.description["grey_levels"] == f"{bits} bits are used, of which the upper 8 are kept"
    stored = Preprocessing.from_dict(data.preprocessing.to_dict())
    shown = stored([tmp_path / "a" / f"1.{suffix}", Image.open(tmp_path / "b" / f"2.{suffix}")])
    assert torch.equal(shown, data.train.fetch(torch.tensor([1, 6]))[0])


def test_a_test_set_is_read_like_the_training_set(tmp_path) -> None:
    train = fill(tmp_path / "one", lambda i: (np.roll(GRID, i) * 4095).astype(np.uint16))
    test = fill(tmp_path / "two", lambda i: (np.roll(GRID.T, i) * 500).astype(np.uint16))
    data = load(train, test=str(test))
    shown = data.test.raw(torch.tensor([0]))[0, 0].numpy()
    assert np.array_equal(shown, (GRID.T * 500).astype(np.uint16) >> 4)


@pytest.mark.parametrize(
    ("top", "scale", "whole"), [(1.0, 255, False), (0.25, 255, False), (255.0, 1, True), (90.0, 1, True)]
)
def test_floating_point_pixels(tmp_path, top, scale, whole) -> None:
    def values(i):  # a dark picture of a set in 0..255 lies in 0..1 itself
        array = np.roll(GRID, i) * (top if i else min(top, 1.0))
        return (np.rint(array) if whole else array).astype(np.float32)

    data = load(fill(tmp_path, values, "tiff"), test_fraction=0, augment="none")
    assert np.array_equal(raw(data), np.stack([np.rint(values(i) * np.float32(scale)) for i in range(8)]))
    shown = Preprocessing.from_dict(data.preprocessing.to_dict())([tmp_path / "a" / "0.tiff"])
    assert torch.equal(shown, data.train.fetch(torch.tensor([0]))[0])


@pytest.mark.parametrize("array", [GRID * 1.7, GRID - 0.5, np.full((8, 8), np.inf), GRID * 300])
def test_floating_point_pixels_of_no_known_range(tmp_path, array) -> None:
    with pytest.raises(DataError, match="before normalisation"):
        load(fill(tmp_path, lambda i: array.astype(np.float32), "tiff"))


def test_arrays_and_items_beyond_8_bits() -> None:
    x = np.stack([np.roll(GRID, i) * 4095 for i in range(8)]).astype(np.uint16)
    y = np.arange(8) % 2

    class Items:
        def __len__(self):
            return 8

        def __getitem__(self, i):
            return x[i], int(y[i])

    class Pictures(Items):
        def __getitem__(self, i):
            return Image.fromarray(x[i]), int(y[i])

    for spec in ((x, y), Items(), Pictures(), (torch.from_numpy(x.astype(np.int32)), y)):
        for limit in (0, 2**30):
            data = load(spec, test_fraction=0, augment="none", memory_limit=limit)
            assert np.array_equal(raw(data), x >> 4)
            assert torch.equal(data.preprocessing([x[3]]), data.train.fetch(torch.tensor([3]))[0])


def test_items_of_floats_share_a_range() -> None:
    class Items:
        def __len__(self):
            return 8

        def __getitem__(self, i):
            return (np.roll(GRID, i) * (0.5 if i else 255)).round().astype(np.float32), i % 2

    assert raw(load(Items(), test_fraction=0))[1].max() == 0  # 0.5 rounds to 0; times 255 it would be 255


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=20))
def test_levels_keep_their_order_and_use_the_range(values) -> None:
    array = np.array(values, dtype=np.int64)
    shown = to_uint8(array, decoding_of([range_of(array)])).astype(int)
    assert (np.diff(shown[np.argsort(array, kind="stable")]) >= 0).all()
    assert shown.max() >= 128 or array.max() < 128


# -- transparency ------------------------------------------------------------------------------------------


def icon(i: int, shade: int, mode: str) -> Image.Image:
    pixels = np.zeros((12, 12, 4), np.uint8)
    pixels[..., :3] = shade
    pixels[2 : 6 + i % 4, 3:9, 3] = 255
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize(("shade", "behind"), [(0, 255), (40, 255), (255, 0), (200, 0)])
def test_drawings_stand_out_from_what_is_behind_them(tmp_path, mode, shade, behind) -> None:
    for c in "ab":
        (tmp_path / c).mkdir()
        for i in range(4):
            made = icon(i + (c == "b"), shade, "RGBA")
            drawn = made.quantize(16) if mode == "P" else made.convert(mode)
            drawn.save(tmp_path / c / f"{i}.png")
    for limit in (0, 2**30):
        data = load(tmp_path, test_fraction=0, augment="none", memory_limit=limit)
        shown = raw(data)[0]
        assert shown[0, 0] == behind
        assert abs(int(shown[3, 5]) - shade) <= 8
        assert data.description["transparent"] == ("on white" if behind else "on black")
        kept = Preprocessing.from_dict(data.preprocessing.to_dict())
        assert torch.equal(kept([tmp_path / "a" / "0.png"]), data.train.fetch(torch.tensor([0]))[0])


def test_half_transparent_pixels_are_blended(tmp_path) -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., 3] = 51  # a fifth
    image = Image.fromarray(pixels)
    assert from_pil(image, 3, None, Decoding(background=255)).max() == pytest.approx(204, abs=1)


def test_opaque_alpha_changes_nothing(tmp_path) -> None:
    rng = np.random.default_rng(0)

    def values(i):
        return np.concatenate([rng.integers(0, 256, (6, 6, 3)), np.full((6, 6, 1), 255)], 2).astype(np.uint8)

    data = load(fill(tmp_path, values), test_fraction=0)
    assert "transparent" not in data.description
    assert data.preprocessing.decoding == Decoding()
    stored = np.asarray(Image.open(tmp_path / "a" / "0.png").convert("RGB"))
    assert np.array_equal(data.train.raw(torch.tensor([0]))[0].permute(1, 2, 0).numpy(), stored)


def test_runs_of_before_predict_as_they_did() -> None:
    """Their preprocessing says nothing of decisions: 16 bits are cut to the upper 8, alpha is dropped."""
    old = Preprocessing.from_dict({"shape": [1, 8, 8], "mean": [0.0], "std": [1.0]})
    deep = (GRID * 4095).astype(np.uint16)
    assert torch.equal(
        (old([Image.fromarray(deep)])[0, 0] * 255).round(), torch.from_numpy((deep >> 8) * 1.0).float()
    )
    assert old([icon(0, 90, "RGBA")]).std() < 1e-6


# -- EXIF --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_every_format_is_shown_upright(kind, turned) -> None:
    rng = np.random.default_rng(turned)
    image = Image.fromarray(rng.integers(0, 256, (3, 2, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1))
    exif = Image.Exif()
    exif[0x0112] = turned
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    opened = Image.open(buffer)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(buffer)).convert("RGB"))
    assert size_of(opened) == expected.shape[:2]
    assert np.array_equal(from_pil(opened, 3, None).transpose(1, 2, 0), expected)


def ifd(entries) -> bytes:
    block = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHI", t, k, n) + v for t, k, n, v in entries)
    return b"II" + struct.pack("<HI", 42, 8) + block + struct.pack("<I", 0)


@pytest.mark.parametrize(
    "block",
    [
        ifd([(0x112, 3, 1, struct.pack("<HH", 9, 0))]),
        ifd([(0x112, 2, 4, b"top\0")]),
        ifd([(0x112, 7, 4, b"\6\0\0\0")]),
        ifd([(0x112, 11, 1, struct.pack("<f", float("nan")))]),
        ifd([(0x11A, 2, 4, b"abc\0")]),
        ifd([(0x112, 3, 1, struct.pack("<HH", 6, 0))])[:12],
        b"II" + b"\xff" * 20,
        b"no exif",
        b"",
    ],
)
def test_odd_exif_counts_as_upright(block) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(buffer, "JPEG")
    app, plain = b"Exif\0\0" + block, buffer.getvalue()
    odd = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(app) + 2) + app + plain[2:]
    assert from_pil(Image.open(io.BytesIO(odd)), 3, None).shape == (3, 4, 6)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_odd_exif_of_other_formats(kind) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(buffer, kind, exif=b"Exif\0\0" + b"\xff" * 30)
    assert from_pil(Image.open(buffer), 3, None).shape == (3, 4, 6)


# -- very long and thin ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(60_000, 4), (4, 60_000)])
def test_thin_images_take_little_memory(size) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))
    assert cover(image, (64, 64)).size == (64, 64)
    wide = Image.fromarray(np.tile(np.arange(4, dtype=np.uint8)[:, None] * 80, (1, 60_000)))
    levels = np.asarray(cover(wide, (64, 64)))
    assert (np.diff(levels[:, 0].astype(int)) >= 0).all()  # top to bottom as before
    assert levels.std(1).max() == 0


@pytest.mark.parametrize("own", [(3, 4000), (4000, 3), (7, 900)])
def test_cutting_first_shows_the_same(own, monkeypatch) -> None:
    """Resizing what will be seen agrees with resizing everything and cutting, up to rounding."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, own, dtype=np.uint8))
    whole = np.asarray(cover(image, (32, 32))).astype(int)
    monkeypatch.setattr(pixels, "_LARGE", 0)
    assert np.abs(np.asarray(cover(image, (32, 32))).astype(int) - whole).max() <= 1


def test_a_long_image_never_becomes_a_longer_one(monkeypatch) -> None:
    """What is asked of PIL stays small: 4 x 60,000 covering 64 x 64 would be 61 million pixels."""
    asked = []
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda *a, **k: asked.append(a[1]) or resize(*a, **k))
    cover(Image.new("L", (60_000, 4)), (64, 64))
    assert asked == [(64, 64)]


def _png_of_16_bit_colours(pixels: np.ndarray) -> bytes:
    """PIL cannot write these."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_colours_of_16_bits(bits: int, tmp_path: Path) -> None:
    """PIL keeps the upper 8: right where all are used, black where the picture lies in the lower ones."""
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 2**bits, (12, 8, 8, 3))
    for place, picture in enumerate(stored):
        folder = tmp_path / f"class{place % 2}"
        folder.mkdir(exist_ok=True)
        (folder / f"{place}.png").write_bytes(_png_of_16_bit_colours(picture))
    if bits == 16:
        data = load(f"folder:{tmp_path}", augment="none")
        assert data.train.raw(torch.arange(len(data.train))).max() > 200
    else:
        with pytest.raises(DataError, match="16 bits of which 12 or fewer are used"):
            load(f"folder:{tmp_path}", augment="none")
