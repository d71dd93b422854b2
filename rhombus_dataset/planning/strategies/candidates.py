"""What a draw chooses from: the candidates of one camera, each with its place in a fixed order.

A longer window, another camera or a higher count moves no candidate and no place: it only changes how many are
taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from rhombus_dataset.plan.local_time import HOUR_MS, Intervals, Offsets, local_hours, local_weekdays

CHUNK: Final = 1 << 16
"""Number of values that are processed at once. It limits memory."""
HOURS: Final = 24
WEEKDAYS: Final = 7


class Candidates(Protocol):
    """The candidates of one camera. Two of them are never closer than the gap."""

    def available(self) -> npt.NDArray[np.int64]:
        """Return the number of candidates of each column of the clock: int64, (C,)."""

    def below(self, limits: npt.NDArray[np.uint64]) -> Chosen:
        """Return the candidates whose place in the order is at most the limit of their column: uint64, (C,)."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Candidates of one camera: ``timestamp_ms`` (int64, UTC), ``order`` (uint64, the place in the order) and
    ``column`` (int16) of the clock."""

    timestamp_ms: npt.NDArray[np.int64]
    order: npt.NDArray[np.uint64]
    column: npt.NDArray[np.int16]


NONE: Final = Chosen(np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.int16))


@dataclass(frozen=True, slots=True)
class Clock:
    """The strata of a pool by the local clocks of its cameras: one column each, some possibly without any time."""

    by_hour: bool
    by_weekday: bool

    @property
    def count(self) -> int:
        """Return the number of columns."""
        return HOURS * (WEEKDAYS if self.by_weekday else 1)

    def columns(self, times: npt.NDArray[np.int64], offsets: Offsets) -> npt.NDArray[np.int16]:
        """Return the column of each time (UTC ms): int16."""
        found = np.zeros(len(times), np.int16)
        if self.by_hour:
            found += local_hours(times, offsets)
        if self.by_weekday:
            found += HOURS * local_weekdays(times, offsets).astype(np.int16)
        return found

    def hour(self, column: int) -> int | None:
        return column % HOURS if self.by_hour else None

    def weekday(self, column: int) -> int | None:
        return column // HOURS if self.by_weekday else None

    def segments(self, intervals: Intervals, offsets: Offsets) -> Segments:
        """Return the intervals, cut where the column may change."""
        bounds = np.array(intervals, np.int64).reshape(-1, 2)
        starts, ends = bounds.T
        if len(bounds) and (self.by_hour or self.by_weekday):
            cuts = _local_hours_between(offsets, int(starts[0]), int(ends[-1]))
            place = np.searchsorted(starts, cuts, side="left") - 1
            cuts = cuts[(place >= 0) & (cuts < ends[place])]
            starts, ends = np.sort(np.concatenate([starts, cuts])), np.sort(np.concatenate([ends, cuts]))
        return Segments(starts, ends, self.columns(starts, offsets))


@dataclass(frozen=True, slots=True)
class Segments:
    """Stretches [start, end) of open time of a camera (int64, UTC ms), each in one ``column`` (int16)."""

    start_ms: npt.NDArray[np.int64]
    end_ms: npt.NDArray[np.int64]
    column: npt.NDArray[np.int16]


def _local_hours_between(offsets: Offsets, start_ms: int, end_ms: int) -> npt.NDArray[np.int64]:
    """Return the times (UTC ms, ascending) from ``start_ms`` on at which a local hour or another offset begins."""
    found = []
    for i, (since_ms, offset_ms) in enumerate(offsets):
        low = max(start_ms, since_ms) if i else start_ms
        high = min(end_ms, offsets[i + 1][0]) if i + 1 < len(offsets) else end_ms
        if low < high:
            first = (low + offset_ms) // HOUR_MS + 1
            hours = np.arange(first, (high - 1 + offset_ms) // HOUR_MS + 1, dtype=np.int64)
            found += [np.array([low], np.int64), hours * HOUR_MS - offset_ms]
    return np.concatenate(found)


def numbers(
    first: npt.NDArray[np.int64], count: npt.NDArray[np.int64]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield the numbers from ``first[i]`` on, ``count[i]`` of them, for all i in order, in chunks: (i, number)."""
    through = np.cumsum(count)
    before = through - count
    total = int(through[-1]) if len(through) else 0
    for low in range(0, total, CHUNK):
        high = min(low + CHUNK, total)
        a, b = np.searchsorted(through, [low, high - 1], side="right").tolist()
        shares = np.diff(np.minimum(through[a : b + 1], high), prepend=low)
        owner = np.repeat(np.arange(a, b + 1), shares)
        yield owner, np.arange(low, high) + np.repeat((first - before)[a : b + 1], shares)
