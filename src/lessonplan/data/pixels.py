"""One image of any kind to uint8 ``(C, H, W)`` of a wanted size: what training and prediction share."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from lessonplan.errors import DataError

Pixels = npt.NDArray[np.uint8]
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"})
_TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
_WITH_EXIF = frozenset({"JPEG", "MPO"})


def open_image(where: Path | bytes) -> Image.Image:
    """Open an image file or its bytes; only its header is read."""
    return Image.open(io.BytesIO(where) if isinstance(where, bytes) else where)


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where there is none."""
    return int(image.getexif().get(0x0112, 1)) if image.format in _WITH_EXIF else 1


def size_of(image: Image.Image) -> tuple[int, int]:
    """Height and width once the image is upright."""
    w, h = image.size
    return (w, h) if orientation(image) in _TURNED else (h, w)


def is_grey(image: Image.Image) -> bool:
    """Whether the image has no colour channels."""
    return image.mode in GREY_MODES


def from_pil(image: Image.Image, channels: int, size: tuple[int, int] | None) -> Pixels:
    """Upright, converted, resized to cover ``size`` and cropped to its centre.

    Args:
        image: any PIL image of 8 or 16 bits per channel.
        channels: 1 (grey) or 3 (RGB).
        size: ``(H, W)``, or None for the image's own.

    Returns:
        ``(C, H, W)`` uint8. An image that already has the size keeps its pixels.

    Raises:
        DataError: floating-point pixels.
    """
    if size is not None and image.format == "JPEG":
        image.draft(None, (2 * max(size), 2 * max(size)))  # decodes large photographs at a fraction of their size
    if orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise DataError("images of floating-point pixels are not supported: convert them to 8 or 16 bits")
    if image.mode.startswith("I"):
        # PIL would clip 16 bits to 8; keep their upper half.
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    if size is not None:
        image = cover(image, size)
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def cover(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize (bilinear, antialiased) so that the image just covers ``(H, W)``, then crop its centre."""
    h, w = size
    if image.size == (w, h):
        return image
    tall, wide, top, left = covering((image.height, image.width), size)
    if image.size != (wide, tall):
        image = image.resize((wide, tall), Image.Resampling.BILINEAR)
    return image.crop((left, top, left + w, top + h)) if (wide, tall) != (w, h) else image


def covering(own: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """How an image of its own (H, W) covers ``size``: height and width it is resized to, top and left of the crop.

    >>> covering((10, 40), (20, 20))
    (20, 80, 0, 30)
    """
    (height, width), (h, w) = own, size
    ratio = max(w / width, h / height)
    tall, wide = max(h, round(height * ratio)), max(w, round(width * ratio))
    return tall, wide, (tall - h) // 2, (wide - w) // 2


def place_box(box: Sequence[float], own: tuple[int, int], size: tuple[int, int]) -> tuple[float, ...]:
    """A box (left, top, right, bottom) of an image in the pixels it has after :func:`cover`, cut at the border."""
    tall, wide, top, left = covering(own, size)
    x0, x1 = (min(max(x * wide / own[1] - left, 0.0), float(size[1])) for x in (box[0], box[2]))
    y0, y1 = (min(max(y * tall / own[0] - top, 0.0), float(size[0])) for y in (box[1], box[3]))
    return x0, y0, x1, y1


def from_array(array: npt.NDArray[Any], channels_first: bool | None = None) -> Pixels:
    """An array of one image to uint8 ``(C, H, W)`` with 1 or 3 channels, at its own size.

    Args:
        array: ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)``; uint8, integers in 0..255 or floats in 0..1.
        channels_first: where the channels are; None finds out.

    Raises:
        DataError: another shape or range.
    """
    if array.ndim == 2:
        return to_uint8(array)[None]
    if array.ndim != 3:
        raise DataError(f"an image must have shape (H, W), (H, W, C) or (C, H, W), not {array.shape}")
    if channels_first is None:
        channels_first = channels_lead(array.shape)
    if not channels_first:
        array = array.transpose(2, 0, 1)
    if array.shape[0] not in (1, 3):
        raise DataError(f"an image must have 1 or 3 channels; an array of shape {array.shape} has neither")
    return np.ascontiguousarray(to_uint8(array))


def channels_lead(shape: tuple[int, ...]) -> bool:
    """Whether the last three axes are ``(C, H, W)`` rather than ``(H, W, C)``."""
    return not (shape[-1] in (1, 3) and shape[-3] not in (1, 3))


def to_uint8(array: npt.NDArray[Any]) -> Pixels:
    """Pixel values of any kind to uint8: integers (or whole floats) 0..255 as they are, floats 0..1 times 255.

    Raises:
        DataError: values outside both ranges, or not finite.
    """
    if array.dtype == np.uint8 or array.size == 0:
        return array.astype(np.uint8, copy=False)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "iuf":
        raise DataError(f"pixels must be numbers, not {array.dtype}")
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        scaled: Pixels = np.rint(array * 255).astype(np.uint8)
        return scaled
    whole = array.dtype.kind != "f" or bool((array == np.rint(array)).all())
    if not (low >= 0 and high <= 255 and whole):
        raise DataError(
            f"pixels must be integers in 0..255 or floats in 0..1; these are {array.dtype} from {low} to {high}: "
            "give them before normalisation"
        )
    return array.astype(np.uint8)
