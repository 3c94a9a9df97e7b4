"""One image of any kind to uint8 ``(C, H, W)`` of a wanted size: what training and prediction share."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lessonplan.errors import DataError

Pixels = npt.NDArray[np.uint8]
TRANSPARENT = "transparency"  # PIL's name of a palette's or a colour's transparent value
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"})
_EXIF_IN_PNG = frozenset({"exif", "Raw profile type exif", "XML:com.adobe.xmp"})
_TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LARGE = 2**24  # pixels; resized to more, an image is cut to what will be seen of it before


@dataclass(frozen=True)
class Decoding:
    """How pixels that are no 8-bit colours become ones, decided once for a set and kept for prediction.

    Attributes:
        bits: that grey pixels of more than 8 bits use in the set; their upper 8 are kept. None: 16 in files.
        scale: what floating-point pixels are multiplied by: 255 where the set lies in 0..1, 1 in 0..255.
        background: grey level behind transparent pixels: 255 behind dark drawings, 0 behind light ones. None: what
            the file has there.
        interpolation: how images of another size are resized: bilinear (None), bicubic, lanczos or nearest.
        crop: share of such an image's sides that is kept around its centre, in (0, 1]; None is all of what covers.
    """

    bits: int | None = None
    scale: float | None = None
    background: int | None = None
    interpolation: str | None = None
    crop: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """What was decided, as plain values."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def words(self) -> dict[str, str]:
        """The same for the description of the data."""
        said = {}
        if self.bits is not None:
            said["grey_levels"] = f"{self.bits} bits are used, of which the upper 8 are kept"
        if self.scale is not None:
            said["floating_point"] = f"pixels times {self.scale:g}"
        if self.background is not None:
            said["transparent"] = f"on {'white' if self.background else 'black'}"
        return said


BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, KeyError, OverflowError, AttributeError,
    ZeroDivisionError, NotImplementedError, MemoryError, AssertionError, RecursionError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip
"""What a broken file makes PIL raise."""
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""What pictures may be, whatever their names say. PIL knows more, and starts other programs for some of it."""


def open_image(where: Path | bytes) -> Image.Image:
    """Open an image file or its bytes; only its header is read.

    Raises:
        OSError: no picture of the ``FORMATS``, or no regular file.
    """
    if isinstance(where, bytes):
        return Image.open(io.BytesIO(where), formats=FORMATS)
    if not where.is_file():  # a pipe would be waited for
        raise FileNotFoundError("no regular file")
    return Image.open(where, formats=FORMATS)


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where there is none that can be used."""
    if image.format == "TIFF":
        return 1  # PIL turns these itself
    if image.format == "PNG" and not _EXIF_IN_PNG & image.info.keys():
        return 1  # PIL would decode the whole image to look behind its pixels
    try:
        value = image.getexif().get(0x0112, 1)
        value = value[0] if isinstance(value, (bytes, tuple)) and len(value) == 1 else value
        return int(value) if value in _UPRIGHT else 1
    except Exception:  # whatever a damaged block makes the reader raise: the picture is none the worse
        return 1


def size_of(image: Image.Image) -> tuple[int, int]:
    """Height and width once the image is upright."""
    w, h = image.size
    return (w, h) if orientation(image) in _TURNED else (h, w)


def is_grey(image: Image.Image) -> bool:
    """Whether the image has no colour channels."""
    return image.mode in GREY_MODES


def is_deep(image: Image.Image) -> bool:
    """Whether grey pixels have more than 8 bits, or are floating-point numbers."""
    return image.mode.startswith(("I", "F"))


def has_deep_colours(image: Image.Image) -> bool:
    """Whether colours are stored in 16 bits, of which PIL reads the upper 8."""
    stored: Sequence[Any] = getattr(image, "tile", ())  # of a file that is open
    return any(str(tile[3]).endswith(("RGB;16B", "RGBA;16B", "RGB;16L", "RGBA;16L")) for tile in stored)


def is_transparent(image: Image.Image) -> bool:
    """Whether pixels may be transparent."""
    return image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or TRANSPARENT in image.info


def from_pil(
    image: Image.Image, channels: int, size: tuple[int, int] | None, decoding: Decoding = Decoding()
) -> Pixels:
    """Upright, converted, resized to cover ``size`` and cropped to its centre.

    Args:
        image: any PIL image.
        channels: 1 (grey) or 3 (RGB).
        size: ``(H, W)``, or None for the image's own.
        decoding: of deep and transparent pixels.

    Returns:
        ``(C, H, W)`` uint8. An image that already has the size keeps its pixels.

    Raises:
        DataError: floating-point pixels whose range is not known.
    """
    if size is not None and image.format == "JPEG":
        image.draft(None, (2 * max(size), 2 * max(size)))  # decodes large photographs at a fraction of their size
    turned = orientation(image)
    if turned != 1:
        image = image.transpose(_UPRIGHT[turned])
    if is_deep(image):
        image = Image.fromarray(_upper_bits(np.asarray(image), decoding))
    if decoding.background is not None and is_transparent(image):
        behind = Image.new("RGBA", image.size, (*[decoding.background] * 3, 255))
        behind.alpha_composite(image.convert("RGBA"))
        image = behind
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    if size is not None:
        image = cover(image, size, decoding)
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def fit(pixels: Pixels, channels: int, size: tuple[int, int] | None, decoding: Decoding = Decoding()) -> Pixels:
    """Bring ``(C, H, W)`` uint8 pixels to a number of channels and a size; those that fit pass untouched."""
    if pixels.shape[0] == channels and size in (None, pixels.shape[1:]):
        return pixels
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    return from_pil(image, channels, size, decoding)


def _upper_bits(array: npt.NDArray[Any], decoding: Decoding) -> Pixels:
    if array.dtype.kind == "f":
        if decoding.scale is None:
            raise DataError("images of floating-point pixels: convert them to 8 or 16 bits")
        scaled: Pixels = np.rint(array * decoding.scale).clip(0, 255).astype(np.uint8)
        return scaled
    bits = 16 if decoding.bits is None else decoding.bits
    return (array.astype(np.int64) >> max(0, bits - 8)).clip(0, 255).astype(np.uint8)


def cover(image: Image.Image, size: tuple[int, int], decoding: Decoding = Decoding()) -> Image.Image:
    """Resize (antialiased) so that the image just covers ``(H, W)``, then crop its centre.

    With ``decoding.crop`` it is resized to cover more than that, of which the centre is this share. An image that
    has the size already stays as it is.
    """
    h, w = size
    if image.size == (w, h):
        return image
    how = Image.Resampling[(decoding.interpolation or "bilinear").upper()]
    tall, wide, top, left = covering((image.height, image.width), size, decoding.crop or 1.0)
    if tall * wide > max(_LARGE, 16 * h * w):  # very long and thin
        across, down = image.width / wide, image.height / tall
        seen = (left * across, top * down, (left + w) * across, (top + h) * down)
        return image.resize((w, h), how, box=seen)
    if image.size != (wide, tall):
        image = image.resize((wide, tall), how)
    return image.crop((left, top, left + w, top + h)) if (wide, tall) != (w, h) else image


def covering(own: tuple[int, int], size: tuple[int, int], crop: float = 1.0) -> tuple[int, int, int, int]:
    """How an image of its own (H, W) covers ``size``: height and width it is resized to, top and left of the crop.

    ``crop`` is the share of the covering image's shorter side that is kept.

    >>> covering((10, 40), (20, 20))
    (20, 80, 0, 30)
    >>> covering((10, 10), (14, 14), crop=0.875)
    (16, 16, 1, 1)
    """
    (height, width), (h, w) = own, size
    ratio = max(w / width, h / height) / crop
    tall, wide = max(h, round(height * ratio)), max(w, round(width * ratio))
    return tall, wide, (tall - h) // 2, (wide - w) // 2


def place_box(
    box: Sequence[float], own: tuple[int, int], size: tuple[int, int], crop: float = 1.0
) -> tuple[float, ...]:
    """A box (left, top, right, bottom) of an image in the pixels it has after :func:`cover`, cut at the border."""
    tall, wide, top, left = covering(own, size, crop if own != size else 1.0)
    x0, x1 = (min(max(x * wide / own[1] - left, 0.0), float(size[1])) for x in (box[0], box[2]))
    y0, y1 = (min(max(y * tall / own[0] - top, 0.0), float(size[0])) for y in (box[1], box[3]))
    return x0, y0, x1, y1


def from_array(
    array: npt.NDArray[Any], channels_first: bool | None = None, decoding: Decoding | None = None
) -> Pixels:
    """An array of one image to uint8 ``(C, H, W)`` with 1 or 3 channels, at its own size.

    Args:
        array: ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)``; uint8, integers in 0..255 or floats in 0..1.
        channels_first: where the channels are; None finds out.
        decoding: of numbers that are no bytes; None decides by the array itself.

    Raises:
        DataError: another shape or range.
    """
    if array.ndim == 2:
        return to_uint8(array, decoding)[None]
    if array.ndim != 3:
        raise DataError(f"an image must have shape (H, W), (H, W, C) or (C, H, W), not {array.shape}")
    if channels_first is None:
        channels_first = channels_lead(array.shape)
    if not channels_first:
        array = array.transpose(2, 0, 1)
    if array.shape[0] not in (1, 3):
        raise DataError(f"an image must have 1 or 3 channels; an array of shape {array.shape} has neither")
    return np.ascontiguousarray(to_uint8(array, decoding))


def channels_lead(shape: tuple[int, ...]) -> bool:
    """Whether the last three axes are ``(C, H, W)`` rather than ``(H, W, C)``."""
    return not (shape[-1] in (1, 3) and shape[-3] not in (1, 3))


def to_uint8(array: npt.NDArray[Any], decoding: Decoding | None = None) -> Pixels:
    """Pixel values of any kind to uint8: integers (or whole floats) 0..255 as they are, floats 0..1 times 255.

    Args:
        array: of any shape.
        decoding: what was decided for the set that it is of (:func:`decoding_of`); None decides by the array.

    Raises:
        DataError: values outside the range, or not finite.
    """
    if array.dtype == np.uint8 or array.size == 0:
        return array.astype(np.uint8, copy=False)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "iuf":
        raise DataError(f"pixels must be numbers, not {array.dtype}")
    known = decoding or Decoding()
    low, high = array.min(), array.max()
    if array.dtype.kind == "f":
        scale = known.scale or (255.0 if low >= 0 and high <= 1 else 1.0)
        inside = bool(low >= 0 and high * scale <= 255)
        if inside and (scale != 1 or bool((array == np.rint(array)).all())):
            scaled: Pixels = np.rint(array * scale).astype(np.uint8)
            return scaled
    elif low >= 0 and int(high).bit_length() <= max(8, known.bits or 8):
        return (array >> max(0, (known.bits or 8) - 8)).astype(np.uint8)
    raise DataError(
        f"pixels must be integers in 0..255 or floats in 0..1; these are {array.dtype} from {low} to {high}: "
        "give them before normalisation"
    )


def range_of(array: npt.NDArray[Any]) -> tuple[str, float, float]:
    """Kind of numbers (``"i"`` integers, ``"w"`` whole floats, ``"f"`` fractions), the lowest and the highest."""
    if array.dtype.kind != "f":
        return "i", int(array.min()), int(array.max())
    whole = bool((array == np.rint(array)).all())
    return "w" if whole else "f", float(array.min()), float(array.max())


def decoding_of(ranges: Iterable[tuple[str, float, float]], background: int | None = None) -> Decoding:
    """What a set's pixels call for.

    Args:
        ranges: of its images that are no bytes (:func:`range_of`).
        background: behind transparent pixels.

    Raises:
        DataError: negative or infinite values, floats above 255, or fractions above 1.

    >>> decoding_of([("i", 0, 4095), ("i", 0, 900)]).bits
    12
    """
    integers: list[tuple[str, float, float]] = []
    floats: list[tuple[str, float, float]] = []
    for found in ranges:
        (integers if found[0] == "i" else floats).append(found)
    bits, scale = None, None
    if integers:
        low, high = min(found[1] for found in integers), max(found[2] for found in integers)
        if not 0 <= low <= high < 2**32:
            raise DataError(f"grey levels from {low:g} to {high:g}: give whole numbers from 0")
        bits = max(8, int(high).bit_length())
    if floats:
        low, high = min(found[1] for found in floats), max(found[2] for found in floats)
        fractions = any(kind == "f" for kind, *_ in floats)
        if not (low >= 0 and high <= (1 if fractions else 255)):
            raise DataError(
                f"floating-point pixels from {low:g} to {high:g}: give them in 0..1, or whole ones in 0..255,"
                " before normalisation"
            )
        scale = 255.0 if high <= 1 else 1.0
    return Decoding(bits, scale, background)


def visible(image: Image.Image) -> tuple[float, float, int]:
    """The sum of grey levels, each weighted by how opaque it is; the sum of the weights; how many there are."""
    pixels = np.asarray(image.convert("RGBA"), dtype=np.float64)
    weights = pixels[..., 3] / 255
    grey = pixels[..., :3] @ np.array([0.299, 0.587, 0.114])
    return float((grey * weights).sum()), float(weights.sum()), weights.size


def background_of(shown: Iterable[tuple[float, float, int]]) -> int | None:
    """What to put behind transparent images: white behind dark ones, black behind light ones.

    None where nothing is transparent.

    Args:
        shown: of each image (:func:`visible`).
    """
    found = list(shown)
    grey, weight, count = (sum(f[i] for f in found) for i in range(3))
    if weight == count:
        return None
    return 0 if weight and grey / weight >= 128 else 255
