"""Samples as small pictures in text, for files that a page is made from."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

_WIDEST = 96  # px


def small_pictures(raw: Tensor) -> list[str | None]:
    """Images ``(B, C, H, W)`` uint8 as base64 PNG of at most 96 pixels; None for each sample that is no image."""
    raw = raw.cpu()
    if raw.ndim != 4 or raw.shape[1] not in (1, 3) or raw.dtype != torch.uint8:
        return [None] * len(raw)
    return [_png(sample.permute(1, 2, 0).numpy()) for sample in raw]


def _png(pixels: npt.NDArray[np.uint8]) -> str:
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
    image.thumbnail((_WIDEST, _WIDEST))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()
