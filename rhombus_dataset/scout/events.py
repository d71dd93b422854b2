"""What a scout pass has seen: what is new in each small frame of a camera, and when the camera was moved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.imaging.background import (
    MIN_CELLS,
    USUAL_TIMES,
    fit_background,
    log_luma,
    median_background,
    new_cells,
)
from rhombus_dataset.imaging.background import signature as place_signature
from rhombus_dataset.imaging.jpeg import DamagedImage, small_grey
from rhombus_dataset.plan.local_time import DAY_MS, HOUR_MS, local_ms
from rhombus_dataset.planning.lock_file import load_lock
from rhombus_dataset.scout.camera_moves import View, changes_of_scene, first_of_scene
from rhombus_dataset.scout.selection import QUIET
from rhombus_dataset.store import layout, manifest
from rhombus_dataset.store.images import ImageReader

CHUNK_FRAMES: Final = 12
"""A chunk is an hour, of as many days as it takes to have about so many images."""
CHANGING_LIGHT: Final = 1.1
"""Where the luma of an hour's quarters differs by more, each is a chunk: dawn, dusk, a cloud."""
LEARNT_PAIRS: Final = 40
"""What is usual in a chunk is learnt from so many pairs of images, spread evenly."""
AGREEING: Final = 5
"""What is usual is what most of so many chunks in a row say."""
UNSURE: Final = -2
"""In place of an event's number: too little is new to count, and too much to be quiet."""


_I4: Final = np.int32
_Log = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True, eq=False)
class CameraEvents:
    """What a pass has seen of one camera, a row an image, by time.

    ``event`` (int32) numbers what was going on, or is QUIET or UNSURE; ``cells`` (int32) is how many of the 54 x 96
    cells are new, and ``limit`` (int32) how many make an event; ``signature`` (int8, (M, 48)) is of the M images
    that belong to an event.
    """

    timestamp_ms: npt.NDArray[np.int64]
    event: npt.NDArray[np.int32]
    cells: npt.NDArray[np.int32]
    limit: npt.NDArray[np.int32]
    signature: npt.NDArray[np.int8]
    deployments: tuple[int, ...]


class ScoutFrames:
    """The small frames of a scout pass: a row a planned one, in columns that take little memory.

    ``camera`` (int32) is an index of the lock's cameras, ``timestamp_ms`` (int64) is UTC, ``luma`` (float64) is NaN
    and ``ok`` (bool) false where there is no frame, ``reason`` (int32) an index of ``reasons``, why. Raises
    DatasetError where the folder holds no dataset, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = load_lock(folder)
        self.reasons: list[str] = []
        self._images = ImageReader(folder)
        self._paths = manifest.slice_paths(folder)
        uuids = pa.array([camera.uuid for camera in self.lock.cameras])
        columns: list[list[npt.NDArray[Any]]] = [
            [np.empty(0, kind)] for kind in (_I4, np.int64, np.float64, _I4, _I4, _I4)
        ]
        for number, path in enumerate(self._paths):
            table = manifest.read_slice(path)
            codes = [self._reason(reason) for reason in table.column("reason").to_pylist()]
            for column, values in zip(
                columns,
                (
                    np.asarray(pc.index_in(table.column("camera_uuid"), value_set=uuids), _I4),
                    table.column("timestamp").cast(pa.int64()).to_numpy(),
                    table.column("luma").to_numpy(),
                    np.array(codes, _I4),
                    np.asarray(pc.fill_null(table.column("row"), -1), _I4),
                    np.full(table.num_rows, number, _I4),
                ),
                strict=True,
            ):
                column.append(values)
        self.camera, self.timestamp_ms, self.luma, self.reason, self._row, self._slice = map(
            np.concatenate, columns
        )
        self.ok = self._row >= 0

    def __len__(self) -> int:
        return len(self.camera)

    def of_camera(self, camera: int) -> npt.NDArray[np.int64]:
        """The frames of a camera that are there, by time."""
        rows = np.flatnonzero(self.ok & (self.camera == camera))
        return rows[np.argsort(self.timestamp_ms[rows], kind="stable")]

    def log_luma(self, row: int) -> _Log:
        """The image of a frame that is there, as ``log_luma`` has it."""
        name = layout.data_file(self._paths[self._slice[row]].stem)
        try:
            return log_luma(small_grey(self._images.read(name, int(self._row[row]))))
        except DamagedImage as error:
            raise DatasetError(
                f"{self.folder / name}: image {self._row[row]}: {error}. `rhombus-dataset verify` tells more"
            ) from None

    def _reason(self, text: str | None) -> int:
        if text is None:
            return -1
        if text not in self.reasons:
            self.reasons.append(text)
        return self.reasons.index(text)


def detect_events(frames: ScoutFrames, camera: int, every_ms: int) -> CameraEvents:
    """Tell what is new in each image of a camera from what the camera usually shows at that hour."""
    rows = frames.of_camera(camera)
    times, luma = frames.timestamp_ms[rows], frames.luma[rows]
    local = local_ms(times, frames.lock.zones[frames.lock.cameras[camera].timezone].offsets)
    keys = _chunk_keys(local, luma, every_ms)
    chunks = _Chunks(frames, rows, times, keys, luma, every_ms)
    deployments = chunks.deployments(local, times)
    if deployments:
        # No chunk holds images from before and after.
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
    """For each image (of a time on the local clock), a number for its chunk; chunks sort by time."""
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
    """A camera's images in chunks, and what is usual in each.

    ``members`` are the images (places in ``rows``) of each chunk, ``of_row`` the chunk of each image.
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

    def log_luma(self, row: int) -> _Log:
        return self._frames.log_luma(int(self._rows[row]))

    def deployments(self, local: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> tuple[int, ...]:
        """When the camera was moved, turned or blocked (UTC ms): the first image of each scene but the first."""
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

    def agreed(self, i: int) -> tuple[_Log, _Log] | None:
        """What is usual in chunk ``i``, as most of those around it say: background and limit. None without one."""
        if not 0 <= i < len(self.backgrounds):
            return None
        usual = median_background([self.backgrounds[k] for k in self._around(i)])
        return usual.background, usual.limit()

    def smoothed(self, values: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """For each chunk, the middle of what those around it have."""
        middles = [np.sort(values[self._around(i)]) for i in range(len(values))]
        return np.array([middle[(len(middle) - 1) // 2] for middle in middles], np.int32)

    def _around(self, i: int) -> list[int]:
        """The chunks to ask, as many before as after: of the same deployment, in about the same light."""
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
    ) -> list[tuple[_Log, _Log]]:
        near = np.flatnonzero(np.diff(times[members]) <= 2 * every_ms)
        if not len(near):
            return [(one, one) for one in map(self.log_luma, members[:LEARNT_PAIRS].tolist())]
        count = min(len(near), LEARNT_PAIRS)
        first = near[np.arange(count) * len(near) // count]
        return [(self.log_luma(members[i]), self.log_luma(members[i + 1])) for i in first.tolist()]


def _new_in(values: _Log, usual: list[tuple[_Log, _Log]]) -> tuple[int, npt.NDArray[np.int8] | int]:
    """How many cells are new, against whatever of ``usual`` the image is most like; and its signature."""
    background, limit = usual[0]
    new = new_cells(values, background, limit)
    count = int(np.count_nonzero(new))
    if not count:
        return 0, 0
    # The hour before and after are as usual: the light changes within an hour too.
    for background_then, limit_then in usual[1:]:
        count = min(count, int(np.count_nonzero(new_cells(values, background_then, limit_then))))
    return count, place_signature(values, background, new)


def _events(
    times: npt.NDArray[np.int64],
    cells: npt.NDArray[np.int32],
    limit: npt.NDArray[np.int32],
    every_ms: int,
) -> npt.NDArray[np.int32]:
    """Images in a row that show something new are one event; events are numbered by time."""
    new = cells >= limit
    begins = new.copy()
    begins[1:] &= ~new[:-1] | (np.diff(times) > 2 * every_ms)
    event = np.where(new, np.cumsum(begins) - 1, np.where(cells >= -(-limit // 2), UNSURE, QUIET))
    return np.asarray(event, np.int32)
