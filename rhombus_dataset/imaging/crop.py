"""Crop, downscale and encode a frame, as the API does before it sends one."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from rhombus_dataset.geometry import PERMYRIAD, Geometry

JPEG_QUALITY: Final = 90


def render(rgb: npt.NDArray[np.uint8], geometry: Geometry, quality: int = JPEG_QUALITY) -> bytes:
    """Return the part of ``rgb`` (uint8, (H, W, 3), RGB) that ``geometry`` describes, as JPEG.

    The crop is first: its start is rounded down and its end up to whole pixels. Then width and height are divided
    by the downscale, rounded down to at least one pixel, by averaging areas.
    """
    height, width = rgb.shape[:2]
    left, right = _pixels(geometry.crop_x, geometry.crop_width, width)
    top, bottom = _pixels(geometry.crop_y, geometry.crop_height, height)
    part = rgb[top:bottom, left:right]
    if geometry.downscale > 1:
        size = (
            max(1, part.shape[1] // geometry.downscale),
            max(1, part.shape[0] // geometry.downscale),
        )
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    jpeg: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(part), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return jpeg


def _pixels(start: int, size: int, length_px: int) -> tuple[int, int]:
    low = start * length_px // PERMYRIAD
    high = -(-(start + size) * length_px // PERMYRIAD)
    return min(low, length_px - 1), max(high, low + 1)
