"""Crops, downscaling and masks, in permyriads of the full frame, and the way to pixels and back.

A permyriad is 1/10000 of the full frame's width (for x) or height (for y), counted from
the top left corner: the unit of the API's crop fields.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PERMYRIAD = 10_000

Polygon = tuple[tuple[int, int], ...]
"""A mask's outline: three or more (x, y) points in permyriads of the full frame."""


@dataclass(frozen=True, slots=True, order=True)
class Geometry:
    """What part of the full frame an image shows, and how much smaller.

    ``crop_x``, ``crop_y``: the top left corner; ``crop_width``, ``crop_height``: the size; all in
    permyriads, 0 to 10000, inside the frame. ``downscale``: an integer of at least 1, by which
    width and height are divided. Instances compare in one fixed order, which is the order
    of a camera's views in a dataset.

    Raises ValueError for a crop that is empty or leaves the frame.
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
        """A point of the image, in its pixels, as permyriads of the full frame.

        ``width_px`` and ``height_px`` are the image's own size, as it came back.
        """
        return (
            self.crop_x + x * self.crop_width / width_px,
            self.crop_y + y * self.crop_height / height_px,
        )

    def from_full(self, x: float, y: float, width_px: int, height_px: int) -> tuple[float, float]:
        """A point in permyriads of the full frame, as pixels of the image.

        The inverse of :meth:`to_full`; a point outside the crop lies outside the image.
        """
        return (
            (x - self.crop_x) * width_px / self.crop_width,
            (y - self.crop_y) * height_px / self.crop_height,
        )

    def full_size_range(self, width_px: int, height_px: int) -> tuple[range, range]:
        """The full-frame widths and heights in pixels that could have given an image this big.

        How the API rounds crops and downscales is not documented, so each side of the image
        may be off by one pixel before and after the downscale.
        """
        return (
            _full_length_range(width_px, self.downscale, self.crop_width),
            _full_length_range(height_px, self.downscale, self.crop_height),
        )


def _full_length_range(length_px: int, downscale: int, permyriads: int) -> range:
    share = permyriads / PERMYRIAD
    # A pixel lost or gained by the crop is 1/share of the full frame, by the downscale `downscale`.
    slack = max(1 / share, downscale)
    low = (length_px - 1) * downscale / share - slack
    high = (length_px + 1) * downscale / share + slack
    return range(max(1, math.floor(low)), math.ceil(high) + 1)
