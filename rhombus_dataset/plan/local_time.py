"""Local clocks: which instants a camera's wall clock means, on daylight-saving nights too.

A zone is taken apart into spans of constant offset from UTC. Inside one, local time is UTC plus a
number, so windows, days and hours are plain arithmetic on integers. All times are milliseconds.
"""

from __future__ import annotations

import datetime as dt
import functools
import zoneinfo
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from rhombus_dataset.plan.model import LocalTime, Window

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
_PROBE_MS = 6 * HOUR_MS
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - wall-clock times have no zone

Offsets = tuple[tuple[int, int], ...]
"""(from utc_ms, offset_ms), ascending: local time is UTC plus the offset from there on."""
Intervals = tuple[tuple[int, int], ...]
"""Disjoint [start_ms, end_ms) in UTC, ascending."""


def zone_offsets(zone: str, start_ms: int, end_ms: int) -> Offsets:
    """The zone's offsets over [start_ms, end_ms]; the first entry is from ``start_ms`` on."""
    info = zoneinfo.ZoneInfo(zone)

    def offset_ms(utc_ms: int) -> int:
        moment = dt.datetime.fromtimestamp(utc_ms // 1000, info)
        return round((moment.utcoffset() or dt.timedelta()) / dt.timedelta(milliseconds=1))

    at, current = start_ms, offset_ms(start_ms)
    found = [(start_ms, current)]
    while at < end_ms:
        step = min(at + _PROBE_MS, end_ms)
        if (later := offset_ms(step)) != current:
            low, high = at // 1000, step // 1000  # zones change on whole seconds
            while high - low > 1:
                middle = (low + high) // 2
                if offset_ms(middle * 1000) == current:
                    low = middle
                else:
                    high = middle
            current = offset_ms(high * 1000)
            found.append((high * 1000, current))
            # Look again from here: two changes within one step must not hide each other.
            step = high * 1000 if current != later else step
        at = step
    return tuple(found)


def spans(offsets: Offsets, start_ms: int, end_ms: int) -> Iterator[tuple[int, int, int]]:
    """The parts of [start_ms, end_ms) with one offset each: (start_ms, end_ms, offset_ms)."""
    for i, (since_ms, offset_ms) in enumerate(offsets):
        until_ms = offsets[i + 1][0] if i + 1 < len(offsets) else end_ms
        low, high = max(start_ms, since_ms), min(end_ms, until_ms)
        if low < high:
            yield low, high, offset_ms


def first_instant(offsets: Offsets, local_ms: int) -> int:
    """The first UTC instant whose local time is ``local_ms`` or later.

    Of an hour that the clock shows twice, the first; of one that it skips, the moment of the skip.
    """
    for i, (since_ms, offset_ms) in enumerate(offsets):
        utc_ms = local_ms - offset_ms
        if i + 1 == len(offsets) or utc_ms < offsets[i + 1][0]:
            return max(utc_ms, since_ms) if i else utc_ms
    raise ValueError("no offsets")


def local_midnights(offsets: Offsets, start_ms: int, end_ms: int) -> Iterator[int]:
    """The first instants of the local days from the one that holds ``start_ms`` to the first after
    ``end_ms``. A day that a zone skips as a whole has no length, and is left out."""
    first = min((low + offset) // DAY_MS for low, _, offset in spans(offsets, start_ms, start_ms + 1))
    day, before = first, None
    while True:
        midnight = first_instant(offsets, day * DAY_MS)
        if midnight != before:
            yield midnight
        if midnight >= end_ms:
            return
        day, before = day + 1, midnight


def wall_clock_ms(moment: dt.datetime) -> int:
    """A wall-clock time as milliseconds since 1970-01-01T00:00 on that same clock."""
    return round((moment - _EPOCH) / dt.timedelta(milliseconds=1))


def window_intervals(windows: Iterable[Window], zone: str, now_ms: int) -> Intervals:
    """When the windows are open for a camera in ``zone``. ``now_ms`` is what ``end: now`` means."""
    found: list[tuple[int, int]] = []
    for window in windows:
        start_ms = moment_ms(window.start, zone)
        end_ms = now_ms if window.end.now else moment_ms(window.end, zone)
        offsets = zone_offsets(zone, start_ms, max(start_ms, end_ms))
        excluded = {(day - _EPOCH.date()).days for day in window.exclude}
        daily = [(r.start_minute * MINUTE_MS, r.end_minute * MINUTE_MS) for r in window.daily]
        for low, high, offset in spans(offsets, start_ms, end_ms):
            for day in range((low + offset) // DAY_MS, (high - 1 + offset) // DAY_MS + 1):
                # 1970-01-01 was a Thursday.
                if (day + 3) % 7 not in window.weekdays or day in excluded:
                    continue
                midnight = day * DAY_MS - offset
                for opens, closes in daily or [(0, DAY_MS)]:
                    found.append((max(low, midnight + opens), min(high, midnight + closes)))
    return merged(found)


def merged(intervals: Iterable[tuple[int, int]]) -> Intervals:
    """The union, in order, with touching intervals joined and empty ones left out."""
    result: list[tuple[int, int]] = []
    for start, end in sorted(pair for pair in intervals if pair[0] < pair[1]):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], end))
        else:
            result.append((start, end))
    return tuple(result)


def moment_ms(moment: LocalTime, zone: str) -> int:
    """A moment other than now, for a camera in ``zone``, in UTC."""
    if moment.utc_ms is not None:
        return moment.utc_ms
    assert moment.local is not None
    local_ms = wall_clock_ms(moment.local)
    return first_instant(_offsets_around(zone, local_ms // DAY_MS), local_ms)


@functools.lru_cache(maxsize=1024)
def _offsets_around(zone: str, local_day: int) -> Offsets:
    # Kept, since a timestamps file may hold many local times of one day.
    return zone_offsets(zone, (local_day - 2) * DAY_MS, (local_day + 3) * DAY_MS)


def local_hours(timestamps_ms: npt.NDArray[np.int64], offsets: Offsets) -> npt.NDArray[np.int8]:
    """The hour of the day (0 to 23) that the local clock shows at each time: int8."""
    return (local_ms(timestamps_ms, offsets) // HOUR_MS % 24).astype(np.int8)


def local_weekdays(timestamps_ms: npt.NDArray[np.int64], offsets: Offsets) -> npt.NDArray[np.int8]:
    """The day of the week (Monday is 0) that it is on the local clock at each time: int8."""
    # 1970-01-01 was a Thursday.
    return ((local_ms(timestamps_ms, offsets) // DAY_MS + 3) % 7).astype(np.int8)


def local_ms(timestamps_ms: npt.NDArray[np.int64], offsets: Offsets) -> npt.NDArray[np.int64]:
    """The local clock at each time, as milliseconds since 1970-01-01T00:00 on that clock: int64."""
    table = np.array(offsets, np.int64)
    place = np.searchsorted(table[:, 0], timestamps_ms, side="right") - 1
    local: npt.NDArray[np.int64] = timestamps_ms + table[np.maximum(place, 0), 1]
    return local
