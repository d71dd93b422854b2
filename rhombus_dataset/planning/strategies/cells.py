"""Draw times from absolute cells of time: evenly over strata, with a minimum gap.

Time is divided into cells of twice the gap, counted from a fixed origin of each camera. Each cell has one
candidate, in its first half, so two candidates are never closer than the gap. The candidate's time, and its place
in the order of all candidates, are hashes of (seed, purpose, camera, cell). A longer window, another camera or a
higher count therefore moves no candidate: it only changes how many are taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.errors import UsageError
from rhombus_dataset.hashing import hash_key, hashes
from rhombus_dataset.plan.local_time import HOUR_MS, local_hours, local_weekdays, spans
from rhombus_dataset.planning.lock import Count, Shortfall
from rhombus_dataset.planning.strategies.sampled_times import CameraWindows, SampledTimes

CHUNK_CELLS: Final = 1 << 16
"""Cells that are processed at once. It limits memory."""
MAX_CELLS: Final = 20_000_000_000
"""Maximum number of cells, about a quarter of an hour of planning: 1,000 cameras for a year with a gap of 1 s."""
HOURS: Final = 24
WEEKDAYS: Final = 7


def draw(
    windows: list[CameraWindows],
    *,
    seed: int,
    purpose: str,
    strata: Sequence[str],
    count: Count,
    gap_ms: int,
    missing: list[npt.NDArray[np.int64]] | None = None,
) -> SampledTimes:
    """Return ``count`` times, in total or of each camera, spread evenly over the strata.

    ``strata`` names what makes a stratum: "camera", "hour" and "weekday", both local. The sample is the start of
    one order: in each round one candidate of each stratum that has one left, the strata ordered by hash. Two times
    of one camera are at least ``gap_ms`` apart, and at least 1 ms.

    With ``missing``, the times (UTC ms) of each camera without a frame: the candidates that follow in the order and
    replace them, from the same strata as far as possible. Raises UsageError for a gap that gives too many cells.
    """
    gap_ms = max(1, gap_ms)
    cells = [_Cells(camera, seed, purpose, gap_ms) for camera in windows]
    if (candidates := sum(c.count for c in cells)) > MAX_CELLS:
        raise UsageError(
            f"sampling.min_gap: {gap_ms} ms over these windows gives {candidates:,} moments to choose from, "
            f"expected at most {MAX_CELLS:,}: choose at least "
            f"{-(-gap_ms * candidates // MAX_CELLS)} ms"
        )
    clock = _Clock("hour" in strata, "weekday" in strata)
    if count.per_camera:
        parts = [
            _sample([camera], True, clock, count.number, seed, purpose, None if missing is None else [missing[i]])
            for i, camera in enumerate(cells)
        ]
        # Each camera was drawn separately, as camera 0.
        camera = [np.full_like(part.camera, i) for i, part in enumerate(parts)]
    else:
        parts = [_sample(cells, "camera" in strata, clock, count.number, seed, purpose, missing)]
        camera = [part.camera for part in parts]
    return SampledTimes(
        np.concatenate(camera),
        np.concatenate([part.timestamp_ms for part in parts]),
        shortfalls=tuple(shortfall for part in parts for shortfall in part.shortfalls),
    )


@dataclass(frozen=True, slots=True)
class _Clock:
    """The strata of a pool by the local clocks of its cameras: one column each, some possibly without any time."""

    by_hour: bool
    by_weekday: bool

    @property
    def count(self) -> int:
        return HOURS * (WEEKDAYS if self.by_weekday else 1)

    def columns(self, times: npt.NDArray[np.int64], camera: CameraWindows) -> npt.NDArray[np.int16]:
        """Return the column of each time (UTC ms): int16."""
        found = np.zeros(len(times), np.int16)
        if self.by_hour:
            found += local_hours(times, camera.offsets)
        if self.by_weekday:
            found += HOURS * local_weekdays(times, camera.offsets).astype(np.int16)
        return found

    def open_columns(self, camera: CameraWindows) -> list[int]:
        """Return the columns in which frames of the camera may be requested."""
        found: set[int] = set()
        kinds = (HOURS if self.by_hour else 1) * (WEEKDAYS if self.by_weekday else 1)
        local = replace(camera, offsets=((0, 0),))
        for start, end in camera.intervals:
            for low, high, offset in spans(camera.offsets, start, end):
                first, last = (low + offset) // HOUR_MS, (high - 1 + offset) // HOUR_MS
                hours = np.arange(first, min(last, first + HOURS * WEEKDAYS) + 1, dtype=np.int64)
                found |= set(self.columns(hours * HOUR_MS, local).tolist())
            if len(found) == kinds:
                break
        return sorted(found)

    def hour(self, column: int) -> int | None:
        return column % HOURS if self.by_hour else None

    def weekday(self, column: int) -> int | None:
        return column // HOURS if self.by_weekday else None


class _Cells:
    """The candidates of one camera. ``count`` is the number of cells that its intervals touch."""

    def __init__(self, camera: CameraWindows, seed: int, purpose: str, gap_ms: int) -> None:
        self.camera = camera
        self._gap_ms = gap_ms
        self._width_ms = 2 * gap_ms
        self._origin_ms = hash_key(seed, purpose, "origin", camera.uuid) % self._width_ms
        self._place_key = hash_key(seed, purpose, "place", camera.uuid)
        self._order_key = hash_key(seed, purpose, "order", camera.uuid)
        self._bounds = np.array(camera.intervals, np.int64).reshape(-1, 2)
        self._first = (self._bounds[:, 0] - self._origin_ms) // self._width_ms
        last = (self._bounds[:, 1] - 1 - self._origin_ms) // self._width_ms
        self._through = np.cumsum(last - self._first + 1)
        self.count = int(self._through[-1]) if len(self._through) else 0

    def chunks(self) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the times of the candidates in parts: int64, UTC ms, ascending."""
        for low in range(0, self.count, CHUNK_CELLS):
            high = min(low + CHUNK_CELLS, self.count)
            # The intervals of these cells, and the number of cells in each.
            a, b = np.searchsorted(self._through, [low, high - 1], side="right").tolist()
            through = self._through[a : b + 1]
            shares = np.diff(np.minimum(through, high), prepend=low)
            before = np.concatenate([self._through[a - 1 : a] if a else [0], through[:-1]])
            cells = np.arange(low, high) + np.repeat(self._first[a : b + 1] - before, shares)
            offsets = hashes(self._place_key, cells) % np.uint64(self._gap_ms + 1)
            times = cells * self._width_ms + self._origin_ms + offsets.astype(np.int64)
            start, end = (np.repeat(bound, shares) for bound in self._bounds[a : b + 1].T)
            yield times[(times >= start) & (times < end)]

    def order(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """Return each candidate's place in the order: uint64, different for all candidates of a camera."""
        return hashes(self._order_key, times)


def _sample(
    cells: list[_Cells],
    by_camera: bool,
    clock: _Clock,
    count: int,
    seed: int,
    purpose: str,
    missing: list[npt.NDArray[np.int64]] | None,
) -> SampledTimes:
    """Return the first ``count`` candidates in turn over the strata, or those that follow for ``missing`` ones.

    A pool is a set of cameras that is drawn from together: one camera, or all. A stratum is a time of the week of a
    pool: a row and a column of the tables here.
    """
    pools = [[i] for i in range(len(cells))] if by_camera else [list(range(len(cells)))]
    available = np.zeros((len(pools), clock.count), np.int64)
    ranks: list[int] = []
    for row, pool in enumerate(pools):
        for i in pool:
            for times in cells[i].chunks():
                available[row] += np.bincount(clock.columns(times, cells[i].camera), minlength=clock.count)
        name = cells[row].camera.uuid if by_camera else ""
        ranks += [hash_key(seed, purpose, "stratum", name, str(column)) for column in range(clock.count)]
    quotas = _fill(available.ravel(), count, ranks).reshape(available.shape)
    if missing is not None:
        missing_counts = np.zeros_like(available)
        for row, pool in enumerate(pools):
            for i in pool:
                missing_counts[row] += np.bincount(
                    clock.columns(missing[i], cells[i].camera), minlength=clock.count
                )
        # A stratum without a single frame has no footage: other strata replace its frames.
        room = np.where((missing_counts > 0) & (missing_counts >= quotas), 0, available - quotas)
        more = _replacements(room, missing_counts, ranks)
        return _joined(
            [
                _next(cells, pool, clock, available[row], quotas[row], more[row])
                for row, pool in enumerate(pools)
                if more[row].any()
            ]
        )
    parts = [
        _first(cells, pool, clock, available[row], quotas[row])
        for row, pool in enumerate(pools)
        if quotas[row].any()
    ]
    return replace(_joined(parts), shortfalls=_shortfalls(cells, by_camera, clock, available, quotas, count))


def _joined(parts: list[SampledTimes]) -> SampledTimes:
    return SampledTimes(
        np.concatenate([np.empty(0, np.int32), *(part.camera for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(part.timestamp_ms for part in parts)]),
    )


def _replacements(
    room: npt.NDArray[np.int64], missing: npt.NDArray[np.int64], ranks: list[int]
) -> npt.NDArray[np.int64]:
    """Return how many more each stratum gives: first for its own ``missing`` ones, up to ``room``, then in turn."""
    own = np.minimum(room, missing)
    left = int(missing.sum() - own.sum())
    return own + _fill((room - own).ravel(), left, ranks).reshape(room.shape)


def _next(
    cells: list[_Cells],
    pool: list[int],
    clock: _Clock,
    available: npt.NDArray[np.int64],
    quotas: npt.NDArray[np.int64],
    more: npt.NDArray[np.int64],
) -> SampledTimes:
    """Return the candidates of a pool that follow the first ``quotas``, as many as ``more``."""
    through = _first(cells, pool, clock, available, quotas + more)
    kept = np.ones(len(through.camera), np.bool_)
    if quotas.any():
        before = _first(cells, pool, clock, available, quotas)
        for i in pool:
            of_camera = through.camera == i
            kept[of_camera] = ~np.isin(through.timestamp_ms[of_camera], before.timestamp_ms[before.camera == i])
    return SampledTimes(through.camera[kept], through.timestamp_ms[kept])


def _fill(available: npt.NDArray[np.int64], count: int, ranks: list[int]) -> npt.NDArray[np.int64]:
    """Return how many each stratum gives when they take turns: int64, of the shape of ``available``.

    If the last round is not complete, the strata with the lowest ``ranks`` are served.
    """
    low, high = 0, int(available.max(initial=0))
    while low < high:  # the maximum number of whole rounds
        middle = (low + high + 1) // 2
        if int(np.minimum(available, middle).sum()) <= count:
            low = middle
        else:
            high = middle - 1
    quotas = np.minimum(available, low)
    more = sorted(np.flatnonzero(available > low).tolist(), key=ranks.__getitem__)
    quotas[more[: count - int(quotas.sum())]] += 1
    return quotas


def _first(
    cells: list[_Cells],
    pool: list[int],
    clock: _Clock,
    available: npt.NDArray[np.int64],
    quotas: npt.NDArray[np.int64],
) -> SampledTimes:
    """Return the first candidates of each stratum of a pool, as many as the ``quotas``.

    Hashes are uniform, so the place in the order that a quota reaches can be estimated. Only candidates up to there
    are kept in memory; if they are too few, the estimate is raised.
    """
    for power in itertools.count(2):
        likely = _likely_limits(available, quotas, 2.0**power)
        parts: list[list[npt.NDArray[np.int64]]] = []
        for i in pool:
            parts.append([])
            for times in cells[i].chunks():
                near = cells[i].order(times) <= likely[clock.columns(times, cells[i].camera)]
                parts[-1].append(times[near])
        sizes = [sum(map(len, of_camera)) for of_camera in parts]
        times = np.concatenate(list(itertools.chain.from_iterable(parts)))
        parts.clear()
        order, column = np.empty(len(times), np.uint64), np.empty(len(times), np.int16)
        for i, start, stop in _slices(pool, sizes):
            order[start:stop] = cells[i].order(times[start:stop])
            column[start:stop] = clock.columns(times[start:stop], cells[i].camera)
        if (kept := _lowest(order, column, quotas)) is not None:
            counts = [int(np.count_nonzero(part)) for part in np.split(kept, np.cumsum(sizes)[:-1])]
            return SampledTimes(np.repeat(np.array(pool, np.int32), counts), times[kept])
    raise AssertionError("unreachable: the estimate grows until all candidates are kept")


def _slices(pool: list[int], sizes: list[int]) -> Iterator[tuple[int, int, int]]:
    """Yield short slices (camera, start, stop) of columns that hold ``sizes`` rows of each camera."""
    at = 0
    for i, size in zip(pool, sizes, strict=True):
        for start in range(at, at + size, CHUNK_CELLS):
            yield i, start, min(start + CHUNK_CELLS, at + size)
        at += size


def _likely_limits(
    available: npt.NDArray[np.int64], quotas: npt.NDArray[np.int64], slack: float
) -> npt.NDArray[np.uint64]:
    """Return the places in the order up to which there are probably ``quotas`` of the ``available`` candidates."""
    share = (quotas + slack * np.sqrt(quotas) + 2) / np.maximum(available, 1)
    limits = (np.minimum(share, 0.5) * 2.0**64).astype(np.uint64)
    return np.where(share < 0.5, limits, np.iinfo(np.uint64).max)


def _lowest(
    order: npt.NDArray[np.uint64], column: npt.NDArray[np.int16], quotas: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_] | None:
    """Return which rows are the lowest of their column, as many as its quota. None if a column has too few."""
    kept = np.zeros(len(order), np.bool_)
    for stratum in np.flatnonzero(quotas).tolist():
        quota = int(quotas[stratum])
        members = column == stratum
        orders = order[members]
        if len(orders) < quota:
            return None
        orders.partition(quota - 1)
        kept |= members & (order <= orders[quota - 1])
    return kept


def _shortfalls(
    cells: list[_Cells],
    by_camera: bool,
    clock: _Clock,
    available: npt.NDArray[np.int64],
    quotas: npt.NDArray[np.int64],
    count: int,
) -> tuple[Shortfall, ...]:
    """Return the strata with fewer candidates than each stratum with enough candidates gives."""
    exists = np.zeros(available.shape, np.bool_)
    for i, of_camera in enumerate(cells):
        exists[i if by_camera else 0, clock.open_columns(of_camera.camera)] = True
    # A camera without any window lacks all of its frames.
    exists[:, 0] |= ~exists.any(axis=1)
    enough = available > quotas
    wanted = int(quotas[enough].min()) if enough.any() else -(-count // max(1, int(exists.sum())))
    return tuple(
        Shortfall(
            cells[row].camera.name if by_camera else None,
            clock.hour(column) if available[row].any() else None,
            int(available[row, column]),
            max(1, wanted),
            clock.weekday(column) if available[row].any() else None,
        )
        for row, column in np.argwhere(exists & (available < max(1, wanted))).tolist()
    )
