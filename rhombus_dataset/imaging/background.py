"""What is new in the images of a fixed camera, against what it usually shows at that time.

Small grey images are compared as logarithms: a change of light is then a difference that varies slowly over the
image, and goes with its local mean, while things have edges, and stay. What a place usually shows, and how
much it differs from one image to the next (leaves, rain, a sensor at night, a burned-in clock), is learnt from
the images themselves, so there is no one threshold for all cameras. Arithmetic is on integers, the same on
every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from rhombus_dataset.imaging.jpeg import SMALL_GREY

REACH: Final = 10
"""Cells in each direction over which a change of light is taken to be even: a fifth of the image's width."""
FLOOR: Final = 14
"""A cell may always differ by so many sixty-fourths of an octave: by 16 % of its light."""
NOISES: Final = 3
"""How many times its noise a cell may differ by."""
NOISE_QUANTILE: Final = 0.8
"""A cell's noise is what it differs by at most in so many of the pairs of neighbours in time."""
SPREAD_QUANTILE: Final = 0.7
"""And from its middle value, in so many of the images: shadows that wander, clouds."""
MIN_CELLS: Final = 8
"""So many cells that hang together must be new: 0.15 % of the image."""
SAME_EDGES: Final = 0.8
"""What changed is light, not a thing, if it correlates so well with what was there."""
USUAL_TIMES: Final = 3
"""And so many times what is usual at that hour, where something always is: rain."""
SIGNATURE: Final = (6, 8)
"""Rows and columns of the signature by which images with something new are told apart."""
CLOCK_RATE: Final = 0.4
"""A cell of a clock's seconds differs in more than so many of the pairs."""
CLOCK_ROWS: Final = 8
"""Of the 54 rows, so many at the top and at the bottom are looked at for a clock."""
CLOCK_REACH: Final = (1, 20)
"""Rows and columns around a clock's seconds that belong to it: its hours and minutes, and the date."""
NEVER: Final = 4096
"""A limit that no cell reaches."""
_DARK: Final = 24
"""Grey levels that are added before the logarithm is taken: a sensor's noise in the dark is no octave."""
_LOG: Final = np.round(64 * np.log2(np.arange(256) + _DARK)).astype(np.int16)
_BOX: Final = (2 * REACH + 1, 2 * REACH + 1)
_SQUARE: Final = np.ones((2, 2), np.uint8)
_BLOCK: Final = (SMALL_GREY[0] // SIGNATURE[0], SMALL_GREY[1] // SIGNATURE[1])


def _areas() -> npt.NDArray[np.int32]:
    """How many cells of the image are within reach of each."""
    rows, columns = (
        np.minimum(np.arange(size) + REACH + 1, size) - np.maximum(np.arange(size) - REACH, 0)
        for size in SMALL_GREY
    )
    return np.asarray(rows[:, None] * columns[None, :], np.int32)


_AREAS: Final = _areas()

Greys = npt.NDArray[np.uint8]
Logs = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Background:
    """What a camera usually shows at a time, all int16, (54, 96): the middle value of each cell, how much it
    differs from image to image, and how much from its middle value; and where a clock runs (bool)."""

    background: Logs
    noise: Logs
    spread: Logs
    clock: npt.NDArray[np.bool_]

    def limit(self) -> Logs:
        """By how much a cell may differ before it is new."""
        found = np.maximum(FLOOR, NOISES * np.maximum(self.noise, self.spread))
        found[self.clock] = NEVER
        return np.asarray(found, np.int16)


def log_luma(grey: Greys) -> Logs:
    """The logarithms of a small grey image, less its own middle value: int16, (54, 96), 64 an octave."""
    # The middle of the logarithms is the logarithm of the middle, which is counted faster than sorted.
    middle = int(np.searchsorted(np.cumsum(np.bincount(grey.ravel(), minlength=256)), grey.size // 2, side="right"))
    values: Logs = _LOG[grey] - _LOG[middle]
    return values


def fit_background(pairs: list[tuple[Logs, Logs]]) -> Background:
    """What is usual, from pairs of images that follow each other."""
    values = np.array([one for pair in pairs for one in pair], np.int16)
    background = _quantile(values, 0.5)
    apart = np.array([_magnitude(after, before) for before, after in pairs], np.int16)
    away = np.array([_magnitude(one, background) for one in values], np.int16)
    changing = (apart > FLOOR).sum(axis=0) > CLOCK_RATE * len(pairs)
    changing[CLOCK_ROWS:-CLOCK_ROWS] = False
    reach = np.ones([2 * n + 1 for n in CLOCK_REACH], np.uint8)
    clock = cv2.dilate(changing.astype(np.uint8), reach).astype(np.bool_)
    return Background(background, _quantile(apart, NOISE_QUANTILE), _quantile(away, SPREAD_QUANTILE), clock)


def median_background(habits: list[Background]) -> Background:
    """What most of several habits say, cell by cell: an hour of something else is outvoted."""

    def middle(name: str) -> Logs:
        return _quantile(np.array([getattr(one, name) for one in habits], np.int16), 0.5)

    clock = np.sum([one.clock for one in habits], axis=0) * 2 > len(habits)
    return Background(middle("background"), middle("noise"), middle("spread"), np.asarray(clock, np.bool_))


def new_cells(values: Logs, background: Logs, limit: Logs) -> npt.NDArray[np.bool_]:
    """Which cells of an image are new: bool, (54, 96).

    A cell alone, or a line of them, does not count: drops and streaks are thinner than things. Nor do a few that
    hang together.
    """
    far = (_magnitude(values, background) > limit).astype(np.uint8)
    # The other corner of the square, so that what is left stays where it was.
    squares = cv2.dilate(cv2.erode(far, _SQUARE, anchor=(0, 0)), _SQUARE, anchor=(1, 1))
    if np.count_nonzero(squares) < MIN_CELLS:
        return np.zeros(squares.shape, np.bool_)
    count, part, boxes, _ = cv2.connectedComponentsWithStats(squares, connectivity=8)
    for i in range(1, count):
        left, top, width, height, area = boxes[i].tolist()
        around = slice(max(0, top - 1), top + height + 1), slice(max(0, left - 1), left + width + 1)
        mine = part[around] == i
        if area < MIN_CELLS or _is_light(values[around], background[around], mine):
            squares[around][mine] = 0
    return squares.astype(np.bool_)


def _is_light(values: Logs, background: Logs, mine: npt.NDArray[np.uint8]) -> bool:
    """Whether what changed still has the edges of what was there: then it is lit otherwise, and nothing is new.

    Where there were no edges, nobody can tell."""
    place = cv2.dilate(mine.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)
    now, before = values[place].astype(np.int64), background[place].astype(np.int64)
    count = len(now)
    product = count * int((now * before).sum()) - int(now.sum()) * int(before.sum())
    norms = [count * int((one * one).sum()) - int(one.sum()) ** 2 for one in (now, before)]
    return product > 0 and product**2 * 100 >= SAME_EDGES**2 * 100 * norms[0] * norms[1]


def structure(values: Logs) -> npt.NDArray[np.int64]:
    """What of an image is no matter of light: int64, without the rows in which clocks are burned in."""
    return _apart(values)[CLOCK_ROWS:-CLOCK_ROWS].astype(np.int64)


def signature(values: Logs, background: Logs, new: npt.NDArray[np.bool_]) -> npt.NDArray[np.int8]:
    """Where something new is, and whether it is lighter or darker: int8, (48,)."""
    difference = np.where(new, np.clip(values - background, -127, 127), 0).astype(np.int32)
    blocks = difference.reshape(SIGNATURE[0], _BLOCK[0], SIGNATURE[1], _BLOCK[1]).sum(axis=(1, 3))
    # A block that is half covered by something an octave lighter has 32.
    return np.asarray(blocks // (_BLOCK[0] * _BLOCK[1]), np.int8).reshape(-1)


def _magnitude(values: Logs, other: Logs) -> Logs:
    """By how much two images differ in each cell, less what is common to its surroundings."""
    return np.abs(_apart(values - other))


def _apart(values: Logs) -> Logs:
    around = cv2.boxFilter(values, cv2.CV_32S, _BOX, normalize=False, borderType=cv2.BORDER_CONSTANT)
    found: Logs = (values - (around // _AREAS)).astype(np.int16)
    return found


def _quantile(values: Logs, quantile: float) -> Logs:
    nth = int(quantile * (len(values) - 1))
    # A copy: the row alone would keep all rows in memory.
    found: Logs = np.partition(values, nth, axis=0)[nth].copy()
    return found
