"""The contact sheet of a preview: small images with the crops and masks of a plan drawn on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from rhombus_dataset.geometry import Geometry, Polygon
from rhombus_dataset.imaging.jpeg import encode_rgb, mask_pixels

TILE_PX: Final = 400
"""Width of an image on the sheet, in pixels: the names of crops stay readable."""
MAX_TILES: Final = 200
"""Maximum number of images on a sheet: 200 give about 6,200 x 4,000 pixels."""
_MARGIN_PX: Final = 12
_CAPTION_PX: Final = 46
_COLOURS: Final = ((255, 196, 0), (0, 214, 255), (255, 92, 168), (120, 255, 90), (190, 140, 255))
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Tile:
    """One image of the sheet, or the reason why it is missing.

    ``image``: uint8, (H, W, 3), RGB, of the full frame. ``caption``: up to two lines. ``crops``, by name, are drawn
    as outlines; ``masks`` are covered.
    """

    image: npt.NDArray[np.uint8] | None
    caption: tuple[str, ...]
    reason: str | None = None
    crops: Mapping[str, Geometry] = field(default_factory=dict)
    masks: Sequence[Polygon] = ()


def contact_sheet(tiles: Sequence[Tile]) -> bytes:
    """Return the sheet as JPEG. Raises ValueError if there is no tile, or more than 200."""
    if not 1 <= len(tiles) <= MAX_TILES:
        raise ValueError(f"a contact sheet holds 1 to {MAX_TILES} images, got {len(tiles)}")
    columns = min(len(tiles), max(1, round(math.sqrt(len(tiles) * 1.2))))
    rows = -(-len(tiles) // columns)
    drawn = [_draw_tile(tile) for tile in tiles]
    height = max(image.shape[0] for image in drawn)
    cell_w, cell_h = TILE_PX + _MARGIN_PX, height + _CAPTION_PX + _MARGIN_PX
    sheet = np.full((rows * cell_h + _MARGIN_PX, columns * cell_w + _MARGIN_PX, 3), 24, np.uint8)
    for i, (tile, image) in enumerate(zip(tiles, drawn, strict=True)):
        top = _MARGIN_PX + i // columns * cell_h
        left = _MARGIN_PX + i % columns * cell_w
        sheet[top : top + image.shape[0], left : left + TILE_PX] = image
        for line, text in enumerate(tile.caption[:2]):
            place = (left + 2, top + height + 18 + line * 20)
            shade = (235, 235, 235) if line == 0 else (160, 160, 160)
            cv2.putText(sheet, _plain(text), place, _FONT, 0.5, shade, 1, cv2.LINE_AA)
    return encode_rgb(sheet)


def _draw_tile(tile: Tile) -> npt.NDArray[np.uint8]:
    if tile.image is None:
        empty = np.full((TILE_PX * 9 // 16, TILE_PX, 3), 48, np.uint8)
        text = _plain(tile.reason or "no frame")[:44]
        cv2.putText(empty, text, (12, 116), _FONT, 0.45, (200, 200, 200), 1, cv2.LINE_AA)
        return empty
    height = max(1, min(TILE_PX * 2, round(tile.image.shape[0] * TILE_PX / tile.image.shape[1])))
    shrinks = tile.image.shape[1] > TILE_PX
    canvas = np.asarray(
        cv2.resize(
            tile.image,
            (TILE_PX, height),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC,
        ),
        np.uint8,
    )
    if tile.masks:
        covered = mask_pixels(tile.masks, Geometry(), TILE_PX, height)
        stripes = (np.indices(covered.shape).sum(axis=0) // 6) % 2 == 0
        canvas[covered] = 0
        canvas[covered & stripes] = 70
    for i, (name, geometry) in enumerate(tile.crops.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        left, top = Geometry().from_full(geometry.crop_x, geometry.crop_y, TILE_PX, height)
        right, bottom = Geometry().from_full(
            geometry.crop_x + geometry.crop_width, geometry.crop_y + geometry.crop_height, TILE_PX, height
        )
        corners = (round(left), round(top)), (round(right) - 1, round(bottom) - 1)
        cv2.rectangle(canvas, *corners, (0, 0, 0), 3)
        cv2.rectangle(canvas, *corners, colour, 1)
        place = (round(left) + 5, round(top) + 16 + 16 * (i % 4))
        cv2.putText(canvas, _plain(name), place, _FONT, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(canvas, _plain(name), place, _FONT, 0.45, colour, 1, cv2.LINE_AA)
    return canvas


def _plain(text: str) -> str:
    # OpenCV's fonts have only ASCII characters.
    return text.encode("ascii", "replace").decode()
