"""Encoded pictures to arrays and measures, strictly: damage is found, not guessed over.

The only module that knows the image libraries. ``simplejpeg`` raises for data that is damaged in the
middle, where ``cv2.imdecode`` returns a picture and writes a line to stderr.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from rhombus_dataset.frame import Measures
from rhombus_dataset.geometry import Geometry, Polygon

MIME_TYPES: Final = ("image/jpeg", "image/jpg")

MEASURED_SIDE_PX: Final = 256
MAX_PIXELS: Final = 100_000_000
"""A picture that claims to be larger is refused before it is decoded."""
MASKED_QUALITY: Final = 95
"""JPEG quality of a picture that had to be encoded again because a mask was painted on it."""


class DamagedPicture(ValueError):
    """The bytes are not one whole picture of a kind that can be read."""


def decode_rgb(image: bytes) -> npt.NDArray[np.uint8]:
    """The picture as an array: uint8, (H, W, 3), RGB.

    Raises DamagedPicture for anything but one whole JPEG.
    """
    _check_header(image)
    try:
        rgb: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(image, colorspace="RGB", strict=True)
    except ValueError as error:
        raise DamagedPicture(f"damaged JPEG: {error}") from None
    return rgb


def encode_rgb(rgb: npt.NDArray[np.uint8], quality: int = 90, subsampling: str = "444") -> bytes:
    """An array (uint8, (H, W, 3), RGB) as JPEG; ``subsampling`` is that of the colours, or Gray."""
    grey = subsampling == "Gray"
    jpeg: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(rgb[:, :, :1] if grey else rgb),
        quality=quality,
        colorspace="GRAY" if grey else "RGB",
        colorsubsampling=subsampling,
    )
    return jpeg


def measure(image: bytes) -> Measures:
    """Check that the picture is whole, and measure it (see :class:`Measures`).

    Every byte of the entropy-coded data is read, at whatever scale the picture is decoded. The sums
    behind ``luma``, ``sharpness`` and ``dhash`` are exact integers, and the DCT is the accurate one, so
    the figures do not depend on the processor or on the order of summing. Of the JPEG scales, 1/1,
    1/2, 1/4 and 1/8 are used, which every JPEG decoder has.

    Raises DamagedPicture.
    """
    width_px, height_px = _check_header(image)
    scale = 8
    while scale > 1 and -(-min(width_px, height_px) // scale) < MEASURED_SIDE_PX:
        scale //= 2
    try:
        grey = simplejpeg.decode_jpeg(
            image,
            colorspace="GRAY",
            min_width=-(-width_px // scale),
            min_height=-(-height_px // scale),
            strict=True,
        )[:, :, 0]
    except ValueError as error:
        raise DamagedPicture(f"damaged JPEG: {error}") from None
    sums = cv2.integral(grey)
    return Measures(
        width_px=width_px,
        height_px=height_px,
        luma=int(sums[-1, -1]) / grey.size,
        sharpness=_laplacian_variance(grey),
        dhash=_difference_hash(sums),
    )


def paint_masks(image: bytes, masks: Sequence[Polygon], geometry: Geometry) -> bytes:
    """The picture with ``masks`` painted black, encoded again; the same bytes if none touches it.

    ``masks`` are in permyriads of the full frame, whatever part of it ``geometry`` shows. Every pixel
    that a mask touches is painted, and one more around it. Metadata of the old file, such as a
    thumbnail that would show what the mask hides, is not carried over.

    Raises DamagedPicture.
    """
    width_px, height_px = _check_header(image)
    covered = mask_pixels(masks, geometry, width_px, height_px)
    if not covered.any():
        return image
    rgb = decode_rgb(image)
    rgb[covered] = 0
    _, _, _, subsampling = simplejpeg.decode_jpeg_header(image)
    return encode_rgb(rgb, MASKED_QUALITY, subsampling)


def mask_pixels(
    masks: Sequence[Polygon], geometry: Geometry, width_px: int, height_px: int
) -> npt.NDArray[np.bool_]:
    """Which pixels of a picture the masks cover: bool, (H, W). Edges round outward by a pixel."""
    covered = np.zeros((height_px, width_px), np.uint8)
    for polygon in masks:
        points = [geometry.from_full(x, y, width_px, height_px) for x, y in polygon]
        # A pixel's square is [i, i + 1), and fillPoly draws through pixel centres: half a pixel off.
        corners = np.rint(np.asarray(points) * 256 - 128).astype(np.int32)
        cv2.fillPoly(covered, [corners], 1, shift=8)
    grown = cv2.dilate(covered, np.ones((3, 3), np.uint8))
    return grown.astype(np.bool_)


def _check_header(image: bytes) -> tuple[int, int]:
    if image[:2] != b"\xff\xd8":
        raise DamagedPicture("not a JPEG: it does not start with the JPEG marker")
    try:
        height_px, width_px, _, _ = simplejpeg.decode_jpeg_header(image)
    except ValueError as error:
        raise DamagedPicture(f"damaged JPEG header: {error}") from None
    if width_px * height_px > MAX_PIXELS:
        raise DamagedPicture(f"the header claims {width_px} x {height_px} pixels, more than {MAX_PIXELS} in all")
    return width_px, height_px


def _laplacian_variance(grey: npt.NDArray[np.uint8]) -> float:
    laplacian = cv2.Laplacian(grey, cv2.CV_16S)
    total = int(cv2.sumElems(laplacian)[0])
    # OpenCV takes the root of the exact sum and squares it again; far below 2**50, rounding
    # restores the integer.
    squares = round(cv2.norm(laplacian, cv2.NORM_L2SQR))
    count = laplacian.size
    return (squares * count - total * total) / (count * count)


def _difference_hash(sums: npt.NDArray[np.int32]) -> str:
    height, width = sums.shape[0] - 1, sums.shape[1] - 1
    rows = np.arange(9) * height // 8
    columns = np.arange(10) * width // 9
    corners = sums[np.ix_(rows, columns)].astype(np.int64)
    cells = corners[1:, 1:] - corners[:-1, 1:] - corners[1:, :-1] + corners[:-1, :-1]
    widths = np.diff(columns)
    # Cells of unequal width are compared by their means, multiplied out to stay exact.
    darker = cells[:, :-1] * widths[1:] < cells[:, 1:] * widths[:-1]
    return np.packbits(darker).tobytes().hex()
