"""Conversion between UTC and the local time of a camera, including changes of daylight saving.

A time zone is a sequence of spans with a constant offset from UTC. Inside a span, local time is UTC plus the
offset, so windows, days and hours are integer arithmetic. All times are in milliseconds.
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
"""Step in which a zone is searched for changes of its offset: far shorter than the time between two changes."""
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - local times have no zone

Offsets = tuple[tuple[int, int], ...]
"""(utc_ms, offset_ms), ascending: from utc_ms on, local time is UTC plus the offset."""
Intervals = tuple[tuple[int, int], ...]
"""Disjoint [start_ms, end_ms) in UTC, ascending."""


def zone_offsets(zone: str, start_ms: int, end_ms: int) -> Offsets:
    """Return the zone's offsets over [start_ms, end_ms]. The first entry starts at ``start_ms``."""
    info = zoneinfo.ZoneInfo(zone)

    def offset_ms(utc_ms: int) -> int:
        moment = dt.datetime.fromtimestamp(utc_ms // 1000, info)
        return round((moment.utcoffset() or dt.timedelta()) / dt.timedelta(milliseconds=1))

    at, current = start_ms, offset_ms(start_ms)
    found = [(start_ms, current)]
    while at < end_ms:
        step = min(at + _PROBE_MS, end_ms)
        if (later := offset_ms(step)) != current:
            low, high = at // 1000, step // 1000  # offsets change at whole seconds
            while high - low > 1:
                middle = (low + high) // 2
                if offset_ms(middle * 1000) == current:
                    low = middle
                else:
                    high = middle
            current = offset_ms(high * 1000)
            found.append((high * 1000, current))
            # Continue from here, so that a second change within the same step is found too.
            step = high * 1000 if current != later else step
        at = step
    return tuple(found)


def spans(offsets: Offsets, start_ms: int, end_ms: int) -> Iterator[tuple[int, int, int]]:
    """Yield the parts of [start_ms, end_ms) with a constant offset, as (start_ms, end_ms, offset_ms)."""
    for i, (since_ms, offset_ms) in enumerate(offsets):
        until_ms = offsets[i + 1][0] if i + 1 < len(offsets) else end_ms
        low, high = max(start_ms, since_ms), min(end_ms, until_ms)
        if low < high:
            yield low, high, offset_ms


def first_instant(offsets: Offsets, local_ms: int) -> int:
    """Return the first time (UTC) at which the local time is ``local_ms`` or later.

    In an hour that the clock repeats, it is in the first one; in an hour that the clock skips, the time of the
    change.
    """
    for i, (since_ms, offset_ms) in enumerate(offsets):
        utc_ms = local_ms - offset_ms
        if i + 1 == len(offsets) or utc_ms < offsets[i + 1][0]:
            return max(utc_ms, since_ms) if i else utc_ms
    raise ValueError("no offsets")


def local_midnights(offsets: Offsets, start_ms: int, end_ms: int) -> Iterator[int]:
    """Yield the start (UTC) of each local day, from the day of ``start_ms`` to the first day after ``end_ms``.

    A day that the zone skips completely is left out.
    """
    first = min((low + offset) // DAY_MS for low, _, offset in spans(offsets, start_ms, start_ms + 1))
    day, before = first, None
    while True:
        midnight = first_instant(offsets, day * DAY_MS)
        if midnight != before:
            yield midnight
        if midnight >= end_ms:
            return
        day, before = day + 1, midnight


def local_clock_ms(moment: dt.datetime) -> int:
    """Return a local time as milliseconds since 1970-01-01T00:00 of the same local clock."""
    return round((moment - _EPOCH) / dt.timedelta(milliseconds=1))


def window_intervals(windows: Iterable[Window], zone: str, now_ms: int) -> Intervals:
    """Return when the windows are open for a camera in ``zone``. ``now_ms``: the time (UTC) of ``end: now``."""
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


def merged(intervals: Iterable[tuple[int, int]], seam_ms: int = 0) -> Intervals:
    """Return the union, in order, without empty intervals.

    Those that overlap, touch, or are less than ``seam_ms`` apart are joined."""
    result: list[tuple[int, int]] = []
    for start, end in sorted(pair for pair in intervals if pair[0] < pair[1]):
        if result and start < result[-1][1] + max(seam_ms, 1):
            result[-1] = (result[-1][0], max(result[-1][1], end))
        else:
            result.append((start, end))
    return tuple(result)


def moment_ms(moment: LocalTime, zone: str) -> int:
    """Return a moment other than now in UTC, for a camera in ``zone``."""
    if moment.utc_ms is not None:
        return moment.utc_ms
    assert moment.local is not None
    local_ms = local_clock_ms(moment.local)
    return first_instant(_offsets_around(zone, local_ms // DAY_MS), local_ms)


@functools.lru_cache(maxsize=1024)
def _offsets_around(zone: str, local_day: int) -> Offsets:
    # Cached, because a timestamps file can have many local times of the same day.
    return zone_offsets(zone, (local_day - 2) * DAY_MS, (local_day + 3) * DAY_MS)


def utc_text(utc_ms: int) -> str:
    """Return a time as ISO 8601 in UTC, with milliseconds only where it has any."""
    moment = dt.datetime.fromtimestamp(utc_ms // 1000, dt.UTC).replace(microsecond=utc_ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds" if utc_ms % 1000 else "seconds").replace("+00:00", "Z")


def local_hours(timestamps_ms: npt.NDArray[np.int64], offsets: Offsets) -> npt.NDArray[np.int8]:
    """Return the local hour of the day (0 to 23) of each time: int8, (N,)."""
    return (local_ms(timestamps_ms, offsets) // HOUR_MS % 24).astype(np.int8)


def local_weekdays(timestamps_ms: npt.NDArray[np.int64], offsets: Offsets) -> npt.NDArray[np.int8]:
    """Return the local day of the week (Monday is 0) of each time: int8, (N,)."""
    # 1970-01-01 was a Thursday.
    return ((local_ms(timestamps_ms, offsets) // DAY_MS + 3) % 7).astype(np.int8)


def local_ms(timestamps_ms: npt.NDArray[np.int64], offsets: Offsets) -> npt.NDArray[np.int64]:
    """Return the local time of each time, in milliseconds since 1970-01-01T00:00 local: int64, (N,)."""
    table = np.array(offsets, np.int64)
    place = np.searchsorted(table[:, 0], timestamps_ms, side="right") - 1
    local: npt.NDArray[np.int64] = timestamps_ms + table[np.maximum(place, 0), 1]
    return local
