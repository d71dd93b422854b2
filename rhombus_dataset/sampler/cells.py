"""Drawing moments from absolute cells of time: evenly over strata, with a minimum gap.

Time is cut into cells of twice the gap, counted from a fixed instant of the camera's own. Each cell has one
candidate, in its first half, so two candidates are never nearer than the gap. Where the candidate lies,
and its place in the order of all, are hashes of (seed, purpose, camera, cell). A longer window, another
camera or a higher count therefore moves no candidate: it only changes how many are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.hashing import hash_key, hashes
from rhombus_dataset.sampler.moments import Moments, Open
from rhombus_dataset.schedule import Shortfall, local_hours

CHUNK_CELLS: Final = 1 << 17
HOURS: Final = 24


def draw(
    open_: list[Open],
    *,
    seed: int,
    purpose: str,
    strata: Sequence[str],
    total: int | None,
    per_camera: int | None,
    gap_ms: int,
) -> Moments:
    """``total`` moments, or ``per_camera`` of each camera, spread evenly over the strata.

    ``strata`` names what makes a stratum: "camera", "hour" (of the local day), both or neither. The sample
    is the first of one order: round by round, one candidate of each stratum that has one left, the strata
    by their own hashes. Two moments of one camera are at least ``gap_ms`` apart.
    """
    cells = [_Cells(camera, seed, purpose, max(1, gap_ms)) for camera in open_]
    if per_camera is not None:
        parts = [
            _sample([c], [i], strata, per_camera, seed, purpose) for i, c in enumerate(cells)
        ]
    else:
        assert total is not None
        parts = [_sample(cells, list(range(len(cells))), strata, total, seed, purpose)]
    return Moments(
        camera=np.concatenate([part.camera for part in parts]),
        timestamp_ms=np.concatenate([part.timestamp_ms for part in parts]),
        shortfalls=tuple(shortfall for part in parts for shortfall in part.shortfalls),
    )


class _Cells:
    """The candidates of one camera."""

    def __init__(self, camera: Open, seed: int, purpose: str, gap_ms: int) -> None:
        self.camera = camera
        self._gap_ms = gap_ms
        self._width_ms = 2 * gap_ms
        self._origin_ms = hash_key(seed, purpose, "origin", camera.uuid) % self._width_ms
        self._place_key = hash_key(seed, purpose, "place", camera.uuid)
        self._order_key = hash_key(seed, purpose, "order", camera.uuid)

    def chunks(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]]:
        """The candidates' times (UTC ms, ascending) and their places in the order, a part at a time."""
        waiting: list[npt.NDArray[np.int64]] = []
        count = 0
        for start, end in self.camera.intervals:
            first = (start - self._origin_ms) // self._width_ms
            last = (end - 1 - self._origin_ms) // self._width_ms
            for low in range(first, last + 1, CHUNK_CELLS):
                cells = np.arange(low, min(low + CHUNK_CELLS, last + 1), dtype=np.int64)
                offsets = hashes(self._place_key, cells) % np.uint64(self._gap_ms + 1)
                times = cells * self._width_ms + self._origin_ms + offsets.astype(np.int64)
                waiting.append(times[(times >= start) & (times < end)])
                count += len(waiting[-1])
                if count >= CHUNK_CELLS:
                    yield self._ordered(waiting)
                    waiting, count = [], 0
        if count:
            yield self._ordered(waiting)

    def _ordered(
        self, parts: list[npt.NDArray[np.int64]]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        times = np.concatenate(parts)
        return times, hashes(self._order_key, times)

    def hours(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
        return local_hours(times, self.camera.offsets)


def _sample(
    cells: list[_Cells],
    indices: list[int],
    strata: Sequence[str],
    count: int,
    seed: int,
    purpose: str,
) -> Moments:
    by_camera, by_hour = "camera" in strata and len(cells) > 1, "hour" in strata
    pools = len(cells) if by_camera else 1

    def stratum(position: int, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        base = position * HOURS if by_camera else 0
        if by_hour:
            return cells[position].hours(times).astype(np.int32) + np.int32(base)
        return np.full(len(times), base, np.int32)

    available = np.zeros(pools * HOURS, np.int64)
    for position, of_camera in enumerate(cells):
        for times, _ in of_camera.chunks():
            available += np.bincount(stratum(position, times), minlength=len(available))
    names = [
        (cells[place // HOURS].camera.uuid if by_camera else "", place % HOURS)
        for place in range(len(available))
    ]
    quotas, wanted = _fill(available, count, [hash_key(seed, purpose, "stratum", u, str(h)) for u, h in names])
    kept = _Lowest(quotas)
    camera_parts: list[npt.NDArray[np.int32]] = []
    time_parts: list[npt.NDArray[np.int64]] = []
    for position, of_camera in enumerate(cells):
        for times, order in of_camera.chunks():
            kept.add(times, order, stratum(position, times), indices[position])
        if by_camera or position == len(cells) - 1:
            cameras, times = kept.take()
            camera_parts.append(cameras)
            time_parts.append(times)
    shortfalls = tuple(
        Shortfall(
            cells[place // HOURS].camera.name if by_camera or len(cells) == 1 else None,
            place % HOURS if by_hour else None,
            int(available[place]),
            wanted,
        )
        for place in np.flatnonzero((available < wanted) & (available > 0)).tolist()
    ) or _none_at_all(cells, available, count, wanted)
    return Moments(
        np.concatenate(camera_parts), np.concatenate(time_parts), shortfalls=shortfalls
    )


def _none_at_all(
    cells: list[_Cells], available: npt.NDArray[np.int64], count: int, wanted: int
) -> tuple[Shortfall, ...]:
    if int(available.sum()) > 0 or count == 0:
        return ()
    return tuple(Shortfall(c.camera.name, None, 0, max(wanted, 1)) for c in cells)


def _fill(
    available: npt.NDArray[np.int64], count: int, ranks: list[int]
) -> tuple[npt.NDArray[np.int64], int]:
    """How many each stratum gives when they take turns, and the highest of these.

    The last round, which may not go all the way round, serves the strata of the lowest ``ranks``.
    """
    low, high = 0, int(available.max(initial=0))
    while low < high:  # the most whole rounds that are not too many
        middle = (low + high + 1) // 2
        if int(np.minimum(available, middle).sum()) <= count:
            low = middle
        else:
            high = middle - 1
    quotas = np.minimum(available, low)
    left = count - int(quotas.sum())
    more = [place for place in np.flatnonzero(available > low).tolist()]
    for place in sorted(more, key=lambda place: ranks[place])[:left]:
        quotas[place] += 1
    # With too little of everything there is no fair share but the count itself, spread evenly.
    if left > 0 and not more:
        strata = max(1, int((available > 0).sum()))
        return quotas, max(int(available.max(initial=0)), -(-count // strata))
    return quotas, int(quotas.max(initial=0))


class _Lowest:
    """The candidates that come first in each stratum, as many as its quota, of a stream of them."""

    def __init__(self, quotas: npt.NDArray[np.int64]) -> None:
        self._quotas = quotas
        self._limit = np.full(len(quotas), np.iinfo(np.uint64).max, np.uint64)
        self._limit[quotas == 0] = 0
        self._clear()

    def _clear(self) -> None:
        self._times = np.empty(0, np.int64)
        self._order = np.empty(0, np.uint64)
        self._stratum = np.empty(0, np.int32)
        self._camera = np.empty(0, np.int32)
        self._pruned = 0

    def add(
        self,
        times: npt.NDArray[np.int64],
        order: npt.NDArray[np.uint64],
        stratum: npt.NDArray[np.int32],
        camera: int,
    ) -> None:
        near = order <= self._limit[stratum]
        self._times = np.concatenate([self._times, times[near]])
        self._order = np.concatenate([self._order, order[near]])
        self._stratum = np.concatenate([self._stratum, stratum[near]])
        self._camera = np.concatenate(
            [self._camera, np.full(int(near.sum()), camera, np.int32)]
        )
        if len(self._times) > self._pruned + CHUNK_CELLS:
            self._prune()

    def take(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """The cameras and times that are kept; nothing is kept after that."""
        self._prune()
        result = self._camera, self._times
        self._clear()
        return result

    def _prune(self) -> None:
        by_rank = np.lexsort((self._times, self._order, self._stratum))
        stratum = self._stratum[by_rank]
        first = np.searchsorted(stratum, np.arange(len(self._quotas) + 1))
        rank = np.arange(len(stratum)) - first[stratum]
        kept = by_rank[rank < self._quotas[stratum]]
        full = np.flatnonzero((np.diff(first) >= self._quotas) & (self._quotas > 0))
        last = by_rank[first[full] + self._quotas[full] - 1]
        self._limit[full] = self._order[last]
        self._times, self._order = self._times[kept], self._order[kept]
        self._stratum, self._camera = self._stratum[kept], self._camera[kept]
        self._pruned = len(kept)
