"""Crops, downscaling and masks in permyriads of the full frame, and conversion from and to pixels.

A permyriad is 1/10000 of the full frame's width (for x) or height (for y), from the top left corner. It is the unit
of the API's crop fields.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PERMYRIAD = 10_000

Polygon = tuple[tuple[int, int], ...]
"""The outline of a mask: at least three (x, y) points in permyriads of the full frame."""


@dataclass(frozen=True, slots=True, order=True)
class Geometry:
    """The part of the full frame that an image shows, and its downscale.

    ``crop_x``, ``crop_y``: top left corner; ``crop_width``, ``crop_height``: size; all in permyriads, 0 to 10000.
    ``downscale``: integer of at least 1 that divides width and height. The order of instances is the order of a
    camera's views in a dataset.

    Raises ValueError for a crop that is empty or extends beyond the frame.
    """

    downscale: int = 1
    crop_x: int = 0
    crop_y: int = 0
    crop_width: int = PERMYRIAD
    crop_height: int = PERMYRIAD

    def __post_init__(self) -> None:
        if self.downscale < 1:
            raise ValueError(f"downscale must be 1 or more, got {self.downscale}")
        for axis, start, size in (
            ("width", self.crop_x, self.crop_width),
            ("height", self.crop_y, self.crop_height),
        ):
            if start < 0 or size < 1 or start + size > PERMYRIAD:
                corner = "x" if axis == "width" else "y"
                raise ValueError(
                    f"crop leaves the frame: {corner} {start} + {axis} {size} must lie within "
                    f"0 to {PERMYRIAD} permyriads, with a {axis} of at least 1"
                )

    @property
    def is_cropped(self) -> bool:
        return (self.crop_x, self.crop_y, self.crop_width, self.crop_height) != (
            0,
            0,
            PERMYRIAD,
            PERMYRIAD,
        )

    def to_full(self, x: float, y: float, width_px: int, height_px: int) -> tuple[float, float]:
        """Return a point of the image (in pixels) in permyriads of the full frame.

        ``width_px``, ``height_px``: size of the received image.
        """
        return (
            self.crop_x + x * self.crop_width / width_px,
            self.crop_y + y * self.crop_height / height_px,
        )

    def from_full(self, x: float, y: float, width_px: int, height_px: int) -> tuple[float, float]:
        """Return a point of the full frame (in permyriads) in pixels of the image: the inverse of :meth:`to_full`.

        A point outside the crop gets coordinates outside the image.
        """
        return (
            (x - self.crop_x) * width_px / self.crop_width,
            (y - self.crop_y) * height_px / self.crop_height,
        )

    def full_size_range(self, width_px: int, height_px: int) -> tuple[range, range]:
        """Return the widths and heights in pixels of the full frame that are possible for an image of this size.

        It is not documented how the API rounds crops and downscales, so each side of the image may differ by one
        pixel before and after the downscale.
        """
        return (
            _full_length_range(width_px, self.downscale, self.crop_width),
            _full_length_range(height_px, self.downscale, self.crop_height),
        )


def _full_length_range(length_px: int, downscale: int, permyriads: int) -> range:
    share = permyriads / PERMYRIAD
    # One pixel of the crop is 1/share pixels of the full frame; one pixel of the image is `downscale` pixels.
    slack = max(1 / share, downscale)
    low = (length_px - 1) * downscale / share - slack
    high = (length_px + 1) * downscale / share + slack
    return range(max(1, math.floor(low)), math.ceil(high) + 1)
