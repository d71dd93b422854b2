"""The background and noise model of a fixed camera, for scout passes and for near-duplicates.

Images are compared as small grey images (54 rows of 96 cells). The difference that is common to many cells is
subtracted first, since it is a change of light. The noise of each cell (leaves, rain, a sensor at night) is learnt
from pairs of consecutive images of the same camera, so no threshold is the same for all cameras. Burned-in clocks
are found and ignored. All arithmetic is on integers, so the results are the same on every machine.

A scout pass compares logarithms of the luma with a background: a cell is then new by its contrast, in the dark too.
Near-duplicates compare grey levels of two images directly. Each of the two has its own :class:`NoiseModel`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from rhombus_dataset.imaging.jpeg import SMALL_GREY

Greys = npt.NDArray[np.uint8]
Logs = npt.NDArray[np.int16]
Cells = npt.NDArray[np.int16]
"""One value for each cell of a small grey image, shape (54, 96)."""
CellMask = npt.NDArray[np.bool_]

NOISE_QUANTILE: Final = 0.8
"""The noise of a cell is this quantile of its differences over all pairs. A thing that passes shows in fewer than
20 % of the pairs and does not count as noise."""
NOISE_FACTOR: Final = 3
"""A cell differs when its difference exceeds 3 times its noise: about 4 standard deviations of normal noise."""
CLOCK_RATE: Final = 0.4
"""A cell of a clock's seconds differs in more than 40 % of the pairs. No part of a scene changes as often."""
CLOCK_ROWS: Final = 8
"""A clock is searched for in the first 8 and the last 8 of the 54 rows, where cameras burn it in."""
CLOCK_REACH_ROWS: Final = 1
"""Rows above and below the seconds that belong to the clock: its text may cross the edge of a cell."""


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """The constants that differ between the two uses. Each set was measured separately, on its own kind of image,
    and is fixed: another value would give other datasets for the same plan.

    ``floor``: the difference that a cell without any noise may have, in the unit of the image.
    ``adds_floor``: whether the scaled noise is added to the floor (True), or the larger of the two counts (False).
    ``clock_reach_columns``: columns left and right of a clock's seconds that are ignored.
    ``ignored``: the limit of ignored cells, in the unit of the image.
    """

    floor: int
    adds_floor: bool
    clock_reach_columns: int
    ignored: int


LOG_LUMA: Final = NoiseModel(floor=14, adds_floor=False, clock_reach_columns=20, ignored=4096)
"""For the log-luma images of a scout pass, in 1/64 octave. 14/64 octave = 16 % of the luma. An image is compared
with the background of an hour or longer, over which the whole text of a clock changes: 20 columns reach its hours
and date. No difference reaches 4096/64 = 64 octaves."""
GREY: Final = NoiseModel(floor=6, adds_floor=True, clock_reach_columns=8, ignored=256)
"""For the grey images of near-duplicates, in grey levels (0 to 255). The two frames are usually minutes apart, so
only the seconds and minutes of a clock change: 8 columns. In the same light, no difference reaches 256."""

REACH: Final = 10
"""Cells in each direction whose mean difference is subtracted as a change of light: a fifth of the image width."""
SPREAD_QUANTILE: Final = 0.7
"""The spread of a cell is this quantile of its differences from the background: moving shadows, clouds."""
MIN_CELLS: Final = 8
"""Minimum connected cells of something new: 0.15 % of the image. Near-duplicates have a limit of their own."""
SAME_EDGES: Final = 0.8
"""A change is a change of light where it correlates at least this well with the background."""
USUAL_TIMES: Final = 3
"""Where something is new in most images of an hour (rain), an event needs 3 times as many new cells."""
SIGNATURE: Final = (6, 8)
"""Rows and columns of the signature that distinguishes events: blocks of 9 x 12 cells."""
_DARK: Final = 24
"""Grey levels added before the logarithm: without them, sensor noise in the dark would span octaves."""
_LOG: Final = np.round(64 * np.log2(np.arange(256) + _DARK)).astype(np.int16)
_BOX: Final = (2 * REACH + 1, 2 * REACH + 1)
_SQUARE: Final = np.ones((2, 2), np.uint8)
_BLOCK: Final = (SMALL_GREY[0] // SIGNATURE[0], SMALL_GREY[1] // SIGNATURE[1])


def _neighbour_counts() -> npt.NDArray[np.int32]:
    """Return the number of cells within REACH of each cell: int32, (54, 96)."""
    rows, columns = (
        np.minimum(np.arange(size) + REACH + 1, size) - np.maximum(np.arange(size) - REACH, 0)
        for size in SMALL_GREY
    )
    return np.asarray(rows[:, None] * columns[None, :], np.int32)


_NEIGHBOUR_COUNTS: Final = _neighbour_counts()


def noise(differences: npt.NDArray[np.int16]) -> Cells:
    """Return the noise of each cell, int16, (54, 96), from the absolute differences of pairs, (pairs, 54, 96)."""
    return _quantile(differences, NOISE_QUANTILE)


def clock_cells(differences: npt.NDArray[np.int16], model: NoiseModel) -> CellMask:
    """Return the cells that a burned-in clock covers: bool, (54, 96).

    ``differences``: absolute differences of pairs of consecutive images, int16, (pairs, 54, 96).
    """
    changing = (differences > model.floor).sum(axis=0) > CLOCK_RATE * len(differences)
    changing[CLOCK_ROWS:-CLOCK_ROWS] = False
    reach = np.ones((2 * CLOCK_REACH_ROWS + 1, 2 * model.clock_reach_columns + 1), np.uint8)
    return cv2.dilate(changing.astype(np.uint8), reach).astype(np.bool_)


def cell_limits(noise_of_cells: Cells, clock: CellMask, model: NoiseModel) -> Cells:
    """Return the difference that each cell may have without counting as different: int16, (54, 96)."""
    scaled = NOISE_FACTOR * noise_of_cells
    limits = np.asarray(model.floor + scaled if model.adds_floor else np.maximum(model.floor, scaled), np.int16)
    limits[clock] = model.ignored
    return limits


def grey_difference(a: Greys, b: Greys) -> Cells:
    """Return the absolute difference of each cell, after subtracting the median difference: a change of light."""
    difference = a.astype(np.int16) - b
    difference -= np.partition(difference, difference.size // 2, axis=None)[difference.size // 2]
    found: Cells = np.abs(difference)
    return found


@dataclass(frozen=True, slots=True)
class Background:
    """What a camera usually shows at a time of day, in log-luma, all of shape (54, 96).

    ``background``: the median of each cell. ``noise``: its difference between consecutive images. ``spread``: its
    difference from the median. ``clock``: the cells of a burned-in clock.
    """

    background: Logs
    noise: Logs
    spread: Logs
    clock: CellMask

    def limit(self) -> Logs:
        """Return the difference from which on each cell is new."""
        return cell_limits(np.maximum(self.noise, self.spread), self.clock, LOG_LUMA)


def log_luma(grey: Greys) -> Logs:
    """Return the logarithms of a small grey image, minus their median: int16, (54, 96), 64 per octave."""
    # The median of the logarithms is the logarithm of the median. Counting finds it faster than sorting.
    middle = int(np.searchsorted(np.cumsum(np.bincount(grey.ravel(), minlength=256)), grey.size // 2, side="right"))
    values: Logs = _LOG[grey] - _LOG[middle]
    return values


def fit_background(pairs: list[tuple[Logs, Logs]]) -> Background:
    """Return the background of pairs of consecutive log-luma images."""
    values = np.array([one for pair in pairs for one in pair], np.int16)
    background = _quantile(values, 0.5)
    apart = np.array([_magnitude(after, before) for before, after in pairs], np.int16)
    away = np.array([_magnitude(one, background) for one in values], np.int16)
    return Background(background, noise(apart), _quantile(away, SPREAD_QUANTILE), clock_cells(apart, LOG_LUMA))


def median_background(backgrounds: list[Background]) -> Background:
    """Return the median of several backgrounds, cell by cell: an unusual hour has no influence."""

    def middle(name: str) -> Logs:
        return _quantile(np.array([getattr(one, name) for one in backgrounds], np.int16), 0.5)

    clock = np.sum([one.clock for one in backgrounds], axis=0) * 2 > len(backgrounds)
    return Background(middle("background"), middle("noise"), middle("spread"), np.asarray(clock, np.bool_))


def new_cells(values: Logs, background: Logs, limit: Logs) -> CellMask:
    """Return the cells of an image that are new: bool, (54, 96).

    Single cells and lines of single cells are removed: rain drops and light streaks are thinner than objects. So
    are connected regions of fewer than MIN_CELLS cells, and regions where only the light changed.
    """
    far = (_magnitude(values, background) > limit).astype(np.uint8)
    # The dilation is anchored at the opposite corner of the square, so that the cells keep their position.
    squares = cv2.dilate(cv2.erode(far, _SQUARE, anchor=(0, 0)), _SQUARE, anchor=(1, 1))
    if np.count_nonzero(squares) < MIN_CELLS:
        return np.zeros(squares.shape, np.bool_)
    count, part, boxes, _ = cv2.connectedComponentsWithStats(squares, connectivity=8)
    for i in range(1, count):
        left, top, width, height, area = boxes[i].tolist()
        around = slice(max(0, top - 1), top + height + 1), slice(max(0, left - 1), left + width + 1)
        region = part[around] == i
        if area < MIN_CELLS or _is_light(values[around], background[around], region):
            squares[around][region] = 0
    return squares.astype(np.bool_)


def _is_light(values: Logs, background: Logs, region: CellMask) -> bool:
    """Return whether a changed region still has the edges of the background: then only its light changed.

    False where the background has no edges: the two cases cannot be distinguished there.
    """
    place = cv2.dilate(region.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)
    now, before = values[place].astype(np.int64), background[place].astype(np.int64)
    count = len(now)
    product = count * int((now * before).sum()) - int(now.sum()) * int(before.sum())
    norms = [count * int((one * one).sum()) - int(one.sum()) ** 2 for one in (now, before)]
    return product > 0 and product**2 * 100 >= SAME_EDGES**2 * 100 * norms[0] * norms[1]


def structure(values: Logs) -> npt.NDArray[np.int64]:
    """Return the local contrast of an image, which does not depend on the light: int64, (38, 96).

    The rows in which cameras burn in clocks are left out.
    """
    return _local_contrast(values)[CLOCK_ROWS:-CLOCK_ROWS].astype(np.int64)


def signature(values: Logs, background: Logs, new: CellMask) -> npt.NDArray[np.int8]:
    """Return where something new is, and whether it is lighter or darker than the background: int8, (48,)."""
    difference = np.where(new, np.clip(values - background, -127, 127), 0).astype(np.int32)
    blocks = difference.reshape(SIGNATURE[0], _BLOCK[0], SIGNATURE[1], _BLOCK[1]).sum(axis=(1, 3))
    # A block has 32 where half of it is covered by something one octave lighter.
    return np.asarray(blocks // (_BLOCK[0] * _BLOCK[1]), np.int8).reshape(-1)


def _magnitude(values: Logs, other: Logs) -> Logs:
    """Return the absolute difference of each cell, after the mean difference around it is subtracted."""
    return np.abs(_local_contrast(values - other))


def _local_contrast(values: Logs) -> Logs:
    around = cv2.boxFilter(values, cv2.CV_32S, _BOX, normalize=False, borderType=cv2.BORDER_CONSTANT)
    found: Logs = (values - (around // _NEIGHBOUR_COUNTS)).astype(np.int16)
    return found


def _quantile(values: npt.NDArray[np.int16], quantile: float) -> Cells:
    nth = int(quantile * (len(values) - 1))
    # A copy: a view of the row would keep all rows in memory.
    found: Cells = np.partition(values, nth, axis=0)[nth].copy()
    return found
