"""Decode, measure, mask and encode JPEG images. Damaged images raise an error.

For data that is damaged in the middle, ``simplejpeg`` raises an error, while ``cv2.imdecode`` returns an image and
prints a line to stderr.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from rhombus_dataset.frame import Measures
from rhombus_dataset.geometry import Geometry, Polygon
from rhombus_dataset.imaging.limits import DECODING, CostlyImage, buffered_bytes

Scale = Literal[1, 2, 4, 8]
SCALES: Final[tuple[Scale, ...]] = get_args(Scale)

MIME_TYPES: Final = ("image/jpeg", "image/jpg")

MEASURED_SIDE_PX: Final = 256
"""Minimum length in pixels of the shorter side at which measures are taken, if the image is that large."""
MAX_PIXELS: Final = 100_000_000
"""Maximum number of pixels of an image. A larger one is refused before decoding, to bound memory (300 MB RGB)."""
SMALL_GREY: Final = (54, 96)
"""Rows and columns of the small grey images by which frames are compared: cells of 20 x 20 pixels in 1080p."""
MASKED_QUALITY: Final = 95
"""JPEG quality of an image that is encoded again because a mask was painted on it."""

_RGB_BYTES: Final = 3
"""Bytes for each decoded pixel: an image in RGB."""
_GREY_BYTES: Final = 8
"""Bytes for each decoded pixel: a grey image (1), its integral image (4) and its Laplacian (2)."""
_PAINT_BYTES: Final = 12
"""Bytes for each pixel: masks (2), an image in RGB (3), and the buffer that it is encoded into (6)."""
_BAND_PX: Final = 1_000_000
"""Pixels for which a mask is computed at once: it takes 20 bytes a pixel."""


class DamagedImage(ValueError):
    """The bytes are not one complete image in a supported format."""


def size_px(image: bytes) -> tuple[int, int]:
    """Return width and height as the header says. Raises DamagedImage for what :func:`decode_rgb` would refuse."""
    header = _check_header(image)
    return header.width_px, header.height_px


def decode_rgb(image: bytes, scale: Scale = 1) -> npt.NDArray[np.uint8]:
    """Return the image as an array: uint8, (H, W, 3), RGB.

    ``scale`` (1, 2, 4 or 8) divides width and height, rounding up. It uses the scaling of JPEG, which is faster
    than decoding in full size. Raises DamagedImage if the bytes are not one complete JPEG, and ValueError for
    another scale.
    """
    header = _check_header(image)
    if scale not in SCALES:
        raise ValueError(f"scale: expected {', '.join(map(str, SCALES[:-1]))} or {SCALES[-1]}, got {scale}")
    with DECODING.reserve(header.memory_bytes(scale, _RGB_BYTES)):
        return _decode(image, header, "RGB", scale)


def encode_rgb(rgb: npt.NDArray[np.uint8], quality: int = 90, subsampling: str = "444") -> bytes:
    """Return an array (uint8, (H, W, 3), RGB) as JPEG. ``subsampling``: 444, 422, 420 or Gray."""
    grey = subsampling == "Gray"
    jpeg: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(rgb[:, :, :1] if grey else rgb),
        quality=quality,
        colorspace="GRAY" if grey else "RGB",
        colorsubsampling=subsampling,
    )
    return jpeg


def small_grey(image: bytes) -> npt.NDArray[np.uint8]:
    """Return the image as a small grey image: uint8, (54, 96). Each cell is the mean of its pixels, rounded down.

    The image is decoded at the smallest JPEG scale that has at least as many rows and columns. The arithmetic is
    exact: results are the same on every machine. Raises DamagedImage.
    """
    header = _check_header(image)
    rows, columns = SMALL_GREY
    scale = 8
    while scale > 1 and (-(-header.width_px // scale) < columns or -(-header.height_px // scale) < rows):
        scale //= 2
    with DECODING.reserve(header.memory_bytes(scale, _GREY_BYTES)):
        grey = _decode(image, header, "GRAY", scale)[:, :, 0]
        cells = _cells(*grey.shape)
        sums = cv2.integral(grey).ravel()
    totals = sums[cells.corners[0]] - sums[cells.corners[1]] - sums[cells.corners[2]] + sums[cells.corners[3]]
    return np.asarray(totals // cells.areas, np.uint8).reshape(SMALL_GREY)


@dataclass(frozen=True, slots=True)
class _Cells:
    """The cells of the small grey image.

    ``corners``: int64, (4, 5184), indices into the integral image: bottom right, top right, bottom left, top left.
    ``areas``: int32, (5184,), in pixels.
    """

    corners: npt.NDArray[np.int64]
    areas: npt.NDArray[np.int32]


@functools.lru_cache(maxsize=64)
def _cells(height_px: int, width_px: int) -> _Cells:
    rows, columns = SMALL_GREY
    down = np.arange(rows + 1) * height_px // rows
    across = np.arange(columns + 1) * width_px // columns
    # In an image with fewer pixels than cells, a cell is one pixel, and neighbours can share it.
    top, left = np.minimum(down[:-1], height_px - 1), np.minimum(across[:-1], width_px - 1)
    bottom, right = np.maximum(down[1:], top + 1), np.maximum(across[1:], left + 1)
    stride = width_px + 1
    corners = [(y[:, None] * stride + x).ravel() for y in (bottom, top) for x in (right, left)]
    areas = ((bottom - top)[:, None] * (right - left)).ravel().astype(np.int32)
    # The integral of 100 million pixels overflows 32 bits, but the differences are still correct.
    return _Cells(np.array([corners[0], corners[2], corners[1], corners[3]], np.int64), areas)


def thumbnail(image: bytes, width_px: int, quality: int = 75) -> bytes:
    """Return a small JPEG of the image, at most ``width_px`` wide and 1.5 times as high.

    Raises DamagedImage.
    """
    header = _check_header(image)
    ratio = max(1.0, header.width_px / width_px, header.height_px / (1.5 * width_px))
    scale = max(scale for scale in SCALES if scale <= ratio)
    rgb = decode_rgb(image, scale)
    size = max(1, round(header.width_px / ratio)), max(1, round(header.height_px / ratio))
    if size != (rgb.shape[1], rgb.shape[0]):
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    return encode_rgb(rgb, quality, "420")


def measure(image: bytes) -> Measures:
    """Return the measures of an image (see :class:`Measures`), after checking that it is complete.

    All entropy-coded data is read, at any decoding scale. The sums behind ``luma``, ``sharpness`` and ``dhash`` are
    exact integers, and the DCT is the accurate one, so the results do not depend on the processor. Only the scales
    1/1, 1/2, 1/4 and 1/8 are used, which every JPEG decoder supports. Raises DamagedImage.
    """
    header = _check_header(image)
    scale = 8
    while scale > 1 and -(-min(header.width_px, header.height_px) // scale) < MEASURED_SIDE_PX:
        scale //= 2
    with DECODING.reserve(header.memory_bytes(scale, _GREY_BYTES)):
        grey = _decode(image, header, "GRAY", scale)[:, :, 0]
        sums = np.asarray(cv2.integral(grey), np.int32)
        return Measures(
            width_px=header.width_px,
            height_px=header.height_px,
            luma=int(sums[-1, -1]) / grey.size,
            sharpness=_laplacian_variance(grey),
            dhash=_difference_hash(sums),
        )


def _decode(image: bytes, header: _Header, colours: Literal["RGB", "GRAY"], scale: int) -> npt.NDArray[np.uint8]:
    """Return the image as an array: uint8, (H, W, 3 or 1). Its memory must be reserved. Raises DamagedImage."""
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            image,
            colorspace=colours,
            min_width=-(-header.width_px // scale),
            min_height=-(-header.height_px // scale),
            strict=True,
        )
    except ValueError as error:
        raise DamagedImage(f"damaged JPEG: {error}") from None
    return pixels


def paint_masks(image: bytes, masks: Sequence[Polygon], geometry: Geometry) -> bytes:
    """Return the image with ``masks`` painted black and encoded again, or the same bytes if no mask touches it.

    ``masks`` are in permyriads of the full frame; ``geometry`` is the part of it that the image shows. Each pixel
    that a mask touches is painted, and the pixels next to it. Metadata of the file is dropped: an embedded
    thumbnail would show what the mask hides. Raises DamagedImage.
    """
    header = _check_header(image)
    with DECODING.reserve(header.memory_bytes(1, _PAINT_BYTES)):
        covered = mask_pixels(masks, geometry, header.width_px, header.height_px)
        if not covered.any():
            return image
        rgb = _decode(image, header, "RGB", 1)
        # The same as rgb[covered] = 0, which takes 20 times as long and 16 bytes more for each pixel.
        cv2.bitwise_xor(rgb, rgb, dst=rgb, mask=covered.view(np.uint8))
        return encode_rgb(rgb, MASKED_QUALITY, header.subsampling)


def mask_pixels(
    masks: Sequence[Polygon], geometry: Geometry, width_px: int, height_px: int
) -> npt.NDArray[np.bool_]:
    """Return which pixels of an image the masks cover: bool, (H, W).

    A pixel is covered if a mask touches it, or one of its eight neighbours, even slightly. Where an outline crosses
    itself, all areas inside it are covered (non-zero winding rule).
    """
    covered = np.zeros((height_px, width_px), np.uint8)
    for polygon in masks:
        corners = np.asarray([geometry.from_full(x, y, width_px, height_px) for x, y in polygon])
        left, top = np.clip(np.ceil(corners.min(axis=0)) - 1, 0, (width_px, height_px)).astype(int)
        right, bottom = np.clip(np.floor(corners.max(axis=0)) + 1, 0, (width_px, height_px)).astype(int)
        if left < right and top < bottom:
            step = max(1, _BAND_PX // int(right - left))
            for first in range(top, bottom, step):
                rows = range(first - top, min(first + step, bottom) - top)
                touched = _touched(corners - (left, top), rows, right - left)
                covered[first : first + len(rows), left:right] |= touched
    return cv2.dilate(covered, np.ones((3, 3), np.uint8)).view(np.bool_)


def _touched(corners: npt.NDArray[np.float64], within: range, width_px: int) -> npt.NDArray[np.bool_]:
    """Return which pixels of the rows ``within`` the polygon or its outline touches: bool, (rows, W)."""
    height_px = len(within)
    # Number of starts minus number of ends at each pixel: the cumulative sum of a row counts what covers a pixel.
    outline = np.zeros((height_px, width_px + 1), np.int32)
    winding = np.zeros((height_px, width_px + 1), np.int32)
    for (x, y), (next_x, next_y) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y <= next_y:
            _add_edge(outline, winding, within, (x, y), (next_x, next_y), 1)
        else:
            _add_edge(outline, winding, within, (next_x, next_y), (x, y), -1)
    # A pixel that the outline does not touch is completely inside or outside, like its centre.
    touched: npt.NDArray[np.bool_] = np.cumsum(outline, axis=1, dtype=np.int32) > 0
    touched |= np.cumsum(winding, axis=1, dtype=np.int32) != 0
    return touched[:, :-1]


def _add_edge(
    outline: npt.NDArray[np.int32],
    winding: npt.NDArray[np.int32],
    within: range,
    upper: tuple[float, float],
    lower: tuple[float, float],
    direction: int,
) -> None:
    """Add the edge from ``upper`` to ``lower``, (x, y), in the rows ``within``: the pixels that it touches, and the
    pixel centres to its right.

    An edge on the border of two pixels touches both.
    """
    (x0, y0), (x1, y1) = upper, lower
    width_px = outline.shape[1] - 1
    first, last = max(math.ceil(y0) - 1, within.start), min(math.floor(y1), within.stop - 1)
    if first > last:
        return
    rows = np.arange(first, last + 1)
    slope = (x1 - x0) / (y1 - y0) if y1 > y0 else 0.0
    if y1 > y0:
        enters = x0 + (np.clip(rows, y0, y1) - y0) * slope
        leaves = x0 + (np.clip(rows + 1, y0, y1) - y0) * slope
    else:
        enters, leaves = np.full(rows.shape, x0), np.full(rows.shape, x1)
    left, right = np.ceil(np.minimum(enters, leaves)) - 1, np.floor(np.maximum(enters, leaves))
    seen = (right >= 0) & (left < width_px)
    outline[rows[seen] - within.start, np.clip(left[seen], 0, width_px).astype(int)] += 1
    outline[rows[seen] - within.start, np.clip(right[seen] + 1, 0, width_px).astype(int)] -= 1
    crossed = rows[(rows + 0.5 >= y0) & (rows + 0.5 < y1)]
    at = np.ceil(x0 + (crossed + 0.5 - y0) * slope - 0.5)
    winding[crossed - within.start, np.clip(at, 0, width_px).astype(int)] += direction


@dataclass(frozen=True, slots=True)
class _Header:
    """The header of a JPEG. ``buffered_bytes``: memory for its coefficients while it is decoded."""

    width_px: int
    height_px: int
    subsampling: str
    buffered_bytes: int

    def memory_bytes(self, scale: int, bytes_per_px: int) -> int:
        """Return the memory for decoding at a scale, with ``bytes_per_px`` for each decoded pixel."""
        decoded_px = -(-self.width_px // scale) * -(-self.height_px // scale)
        return self.buffered_bytes + decoded_px * bytes_per_px


def _check_header(image: bytes) -> _Header:
    if image[:2] != b"\xff\xd8":
        raise DamagedImage("not a JPEG: it does not start with the JPEG marker")
    try:
        height_px, width_px, _, subsampling = simplejpeg.decode_jpeg_header(image)
    except ValueError as error:
        raise DamagedImage(f"damaged JPEG header: {error}") from None
    except KeyError as error:
        raise DamagedImage(f"damaged JPEG header: unknown subsampling or colours ({error})") from None
    if width_px * height_px > MAX_PIXELS:
        raise DamagedImage(f"the header claims {width_px} x {height_px} pixels, more than {MAX_PIXELS} in all")
    try:
        return _Header(width_px, height_px, subsampling, buffered_bytes(image, width_px, height_px))
    except CostlyImage as error:
        raise DamagedImage(str(error)) from None


def _laplacian_variance(grey: npt.NDArray[np.uint8]) -> float:
    laplacian = cv2.Laplacian(grey, cv2.CV_16S)
    total = int(cv2.sumElems(laplacian)[0])
    # OpenCV takes the square root of the exact sum and squares it again. The sum is far below 2**50, so rounding
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
    # Compare the means of cells of different width without division, so that the result is exact.
    darker = cells[:, :-1] * widths[1:] < cells[:, 1:] * widths[:-1]
    return np.packbits(darker).tobytes().hex()
