"""What is new in each frame of a scout pass, which events that makes, and when a camera was moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from rhombus_dataset.imaging.background import (
    MIN_CELLS,
    USUAL_TIMES,
    Logs,
    fit_background,
    median_background,
    new_cells,
)
from rhombus_dataset.imaging.background import signature as place_signature
from rhombus_dataset.plan.local_time import DAY_MS, HOUR_MS, local_ms
from rhombus_dataset.scout.camera_moves import View, changes_of_scene, first_of_scene
from rhombus_dataset.scout.frames import ScoutFrames
from rhombus_dataset.scout.selection import QUIET

CHUNK_FRAMES: Final = 12
"""Images that a chunk has, at about. A chunk is an hour of the day, over as many days as that takes: 12 images have
a median that does not show what passes."""
CHANGING_LIGHT: Final = 1.1
"""Where the luma of the quarters of an hour differs by more than 10 %, each quarter is a chunk: dawn and dusk."""
LEARNT_PAIRS: Final = 40
"""Maximum pairs of images, spread evenly, from which the background of a chunk is learnt. It limits memory."""
AGREEING: Final = 5
"""Consecutive chunks whose median is the background: what stays for less than half of them does not count."""
UNSURE: Final = -2
"""The event of an image that shows too little for an event and too much to be quiet."""


@dataclass(frozen=True, slots=True, eq=False)
class CameraEvents:
    """The events of one camera, one row for each image, ordered by time.

    ``event`` (int32) is the number of the event, QUIET or UNSURE. ``cells`` (int32) is the number of new cells of
    54 x 96, and ``limit`` (int32) the number that makes an event. ``signature`` (int8, (M, 48)) is of the M images
    that belong to an event. ``deployments`` are the times (UTC ms) at which the camera was moved.
    """

    timestamp_ms: npt.NDArray[np.int64]
    event: npt.NDArray[np.int32]
    cells: npt.NDArray[np.int32]
    limit: npt.NDArray[np.int32]
    signature: npt.NDArray[np.int8]
    deployments: tuple[int, ...]


def detect_events(frames: ScoutFrames, camera: int, every_ms: int) -> CameraEvents:
    """Return what is new in each image of a camera, against what it usually shows at that hour.

    ``every_ms``: the interval of the pass. Raises DatasetError if an image cannot be decoded."""
    rows = frames.of_camera(camera)
    times, luma = frames.timestamp_ms[rows], frames.luma[rows]
    local = local_ms(times, frames.lock.zones[frames.lock.cameras[camera].timezone].offsets)
    keys = _chunk_keys(local, luma, every_ms)
    chunks = _Chunks(frames, rows, times, keys, luma, every_ms)
    deployments = chunks.deployments(local, times)
    if deployments:
        # No chunk has images from both sides of a move.
        deployment = np.searchsorted(deployments, times, "right")
        chunks = _Chunks(frames, rows, times, keys, luma, every_ms, deployment)
    cells, signature = np.zeros(len(rows), np.int32), np.zeros((len(rows), 48), np.int8)
    usual = np.zeros(len(chunks.members), np.int32)
    for i, members in enumerate(chunks.members):
        around = [chunks.agreed(k) for k in (i, i - 1, i + 1)]
        for row in members.tolist():
            cells[row], signature[row] = _new_in(chunks.log_luma(row), [one for one in around if one is not None])
        nth = len(members) // 2
        usual[i] = np.partition(cells[members], nth)[nth]
    limit = MIN_CELLS + USUAL_TIMES * chunks.smoothed(usual)[chunks.of_row]
    event = _events(times, cells, limit, every_ms)
    return CameraEvents(times, event, cells, limit, signature[event >= 0], deployments)


def _chunk_keys(
    local: npt.NDArray[np.int64], luma: npt.NDArray[np.float64], every_ms: int
) -> npt.NDArray[np.int64]:
    """Return the number of each image's chunk; chunks are ordered by time. ``local``: local clock, ms."""
    days = max(1, -(-CHUNK_FRAMES * every_ms // HOUR_MS))
    quarters = (local // DAY_MS // days * 24 + local // HOUR_MS % 24) * 4
    if HOUR_MS // every_ms < 4 * CHUNK_FRAMES:
        return quarters
    by_quarter = pd.Series(luma).groupby(local // (HOUR_MS // 4)).median()
    by_hour = by_quarter.groupby(by_quarter.index // 4).agg(["min", "max"])
    changes = by_hour.index[[not _same_light(*pair) for pair in by_hour.itertuples(index=False, name=None)]]
    changing = np.isin(local // HOUR_MS, changes.to_numpy())
    return quarters + np.where(changing, local // (HOUR_MS // 4) % 4, 0)


def _same_light(luma: float, other: float) -> bool:
    return max(luma, other, 1.0) <= CHANGING_LIGHT * max(min(luma, other), 1.0)


class _Chunks:
    """The images of a camera in chunks, and the background of each chunk.

    ``members`` are the images of each chunk (indices of ``rows``), ``of_row`` is the chunk of each image.
    """

    def __init__(
        self,
        frames: ScoutFrames,
        rows: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64],
        keys: npt.NDArray[np.int64],
        luma: npt.NDArray[np.float64],
        every_ms: int,
        deployment: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self._frames = frames
        self._rows = rows
        whole = keys if deployment is None else keys + deployment * (int(keys.max(initial=0)) + 1)
        numbers, self.of_row = np.unique(whole, return_inverse=True)
        self.members = [np.flatnonzero(self.of_row == i) for i in range(len(numbers))]
        self._deployment = [0 if deployment is None else int(deployment[members[0]]) for members in self.members]
        self._luma = [float(np.median(luma[members])) for members in self.members]
        self.backgrounds = [fit_background(self._pairs(members, times, every_ms)) for members in self.members]

    def log_luma(self, row: int) -> Logs:
        return self._frames.log_luma(int(self._rows[row]))

    def deployments(self, local: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> tuple[int, ...]:
        """Return when the camera was moved, turned or blocked (UTC ms): the first image of each later scene."""
        views = [
            View(usual.background, int(local[members[0]]) // DAY_MS, int(local[members[0]]) // HOUR_MS % 24, luma)
            for usual, members, luma in zip(self.backgrounds, self.members, self._luma, strict=True)
        ]
        found = []
        for first in changes_of_scene(views):
            around = np.sort(np.concatenate(self.members[first - 1 : first + 1]))
            before, after = views[first - 1].background, views[first + 1].background
            count = first_of_scene([self.log_luma(row) for row in around.tolist()], before, after)
            found.append(int(times[around[min(count, len(around) - 1)]]))
        return tuple(found)

    def agreed(self, i: int) -> tuple[Logs, Logs] | None:
        """Return the median background and limit of the chunks around ``i``. None if there is no chunk ``i``."""
        if not 0 <= i < len(self.backgrounds):
            return None
        usual = median_background([self.backgrounds[k] for k in self._around(i)])
        return usual.background, usual.limit()

    def smoothed(self, values: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Return for each chunk the median of the values of the chunks around it."""
        middles = [np.sort(values[self._around(i)]) for i in range(len(values))]
        return np.array([middle[(len(middle) - 1) // 2] for middle in middles], np.int32)

    def _around(self, i: int) -> list[int]:
        """Return the chunks around ``i`` of the same deployment and about the same light, evenly on both sides."""
        reach = AGREEING // 2
        same = [
            k
            for k in range(max(0, i - AGREEING), min(len(self.members), i + AGREEING + 1))
            if self._deployment[k] == self._deployment[i] and _same_light(self._luma[k], self._luma[i])
        ]
        at = same.index(i)
        half = min(reach, at, len(same) - 1 - at)
        if half == 0:
            first = max(0, min(at - 1, len(same) - 3))
            return same[first : first + 3] if len(same) >= 3 else [i]
        return same[at - half : at + half + 1]

    def _pairs(
        self, members: npt.NDArray[np.int64], times: npt.NDArray[np.int64], every_ms: int
    ) -> list[tuple[Logs, Logs]]:
        near = np.flatnonzero(np.diff(times[members]) <= 2 * every_ms)
        if not len(near):
            return [(one, one) for one in map(self.log_luma, members[:LEARNT_PAIRS].tolist())]
        count = min(len(near), LEARNT_PAIRS)
        first = near[np.arange(count) * len(near) // count]
        return [(self.log_luma(members[i]), self.log_luma(members[i + 1])) for i in first.tolist()]


def _new_in(values: Logs, usual: list[tuple[Logs, Logs]]) -> tuple[int, npt.NDArray[np.int8] | int]:
    """Return the number of new cells against the most similar of ``usual``, and the signature of the image."""
    background, limit = usual[0]
    new = new_cells(values, background, limit)
    count = int(np.count_nonzero(new))
    if not count:
        return 0, 0
    # The hours before and after count as usual, since the light also changes within an hour.
    for background_then, limit_then in usual[1:]:
        count = min(count, int(np.count_nonzero(new_cells(values, background_then, limit_then))))
    return count, place_signature(values, background, new)


def _events(
    times: npt.NDArray[np.int64],
    cells: npt.NDArray[np.int32],
    limit: npt.NDArray[np.int32],
    every_ms: int,
) -> npt.NDArray[np.int32]:
    """Return the event of each image. Consecutive images that show something new are one event."""
    new = cells >= limit
    begins = new.copy()
    begins[1:] &= ~new[:-1] | (np.diff(times) > 2 * every_ms)
    event = np.where(new, np.cumsum(begins) - 1, np.where(cells >= -(-limit // 2), UNSURE, QUIET))
    return np.asarray(event, np.int32)
