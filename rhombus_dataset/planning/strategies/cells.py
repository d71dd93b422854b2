"""The candidates of datasets that were begun by version 1 of sampling: all of them are visited for each draw.

Time is divided into cells of twice the gap, counted from a fixed origin of each camera. Each cell has one
candidate, in its first half, so two candidates are never closer than the gap. The candidate's time, and its place
in the order of all candidates, are hashes of (seed, purpose, camera, cell).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.errors import UsageError
from rhombus_dataset.hashing import hash_key, hashes
from rhombus_dataset.planning.strategies.candidates import NONE, Chosen, Clock, numbers
from rhombus_dataset.planning.strategies.sampled_times import CameraWindows

MAX_CELLS: Final = 20_000_000_000
"""Maximum number of cells, about a quarter of an hour of planning: 1,000 cameras for a year with a gap of 1 s."""


class Cells:
    """The candidates of one camera. ``count`` is the number of cells that its intervals touch."""

    def __init__(self, camera: CameraWindows, clock: Clock, *, seed: int, purpose: str, gap_ms: int) -> None:
        self._camera = camera
        self._clock = clock
        self._gap_ms = gap_ms
        self._width_ms = 2 * gap_ms
        self._origin_ms = hash_key(seed, purpose, "origin", camera.uuid) % self._width_ms
        self._place_key = hash_key(seed, purpose, "place", camera.uuid)
        self._order_key = hash_key(seed, purpose, "order", camera.uuid)
        self._bounds = np.array(camera.intervals, np.int64).reshape(-1, 2)
        self._first = (self._bounds[:, 0] - self._origin_ms) // self._width_ms
        self._counts = (self._bounds[:, 1] - 1 - self._origin_ms) // self._width_ms - self._first + 1
        self.count = int(self._counts.sum())

    def available(self) -> npt.NDArray[np.int64]:
        """Return the number of candidates of each column of the clock: int64, (C,)."""
        found = np.zeros(self._clock.count, np.int64)
        for times in self._chunks():
            found += np.bincount(self._clock.columns(times, self._camera.offsets), minlength=self._clock.count)
        return found

    def below(self, limits: npt.NDArray[np.uint64]) -> Chosen:
        """Return the candidates whose place in the order is at most the limit of their column: uint64, (C,)."""
        times, places, columns = [NONE.timestamp_ms], [NONE.order], [NONE.column]
        for chunk in self._chunks():
            column, place = self._clock.columns(chunk, self._camera.offsets), hashes(self._order_key, chunk)
            near = place <= limits[column]
            times.append(chunk[near])
            places.append(place[near])
            columns.append(column[near])
        return Chosen(np.concatenate(times), np.concatenate(places), np.concatenate(columns))

    def _chunks(self) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the times of the candidates in parts: int64, UTC ms, ascending."""
        start, end = self._bounds.T
        for interval, cells in numbers(self._first, self._counts):
            offsets = hashes(self._place_key, cells) % np.uint64(self._gap_ms + 1)
            times = cells * self._width_ms + self._origin_ms + offsets.astype(np.int64)
            yield times[(times >= start[interval]) & (times < end[interval])]


def check_count(cells: list[Cells], gap_ms: int) -> None:
    """Raise UsageError for a gap that gives too many cells."""
    if (candidates := sum(of_camera.count for of_camera in cells)) > MAX_CELLS:
        raise UsageError(
            f"sampling.min_gap: {gap_ms} ms over these windows gives {candidates:,} moments to choose from, "
            f"expected at most {MAX_CELLS:,}: choose at least "
            f"{-(-gap_ms * candidates // MAX_CELLS)} ms"
        )
