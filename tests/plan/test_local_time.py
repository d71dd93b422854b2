from __future__ import annotations

import datetime as dt
import itertools
import zoneinfo

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rhombus_dataset.plan.local_time import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    first_instant,
    local_clock_ms,
    local_hours,
    local_midnights,
    merged,
    moment_ms,
    spans,
    window_intervals,
    zone_offsets,
)
from rhombus_dataset.plan.model import DailyRange, LocalTime, Window
from rhombus_dataset.planning.resolve import inside

# Each zone with a date near which its clock does something unusual.
UNUSUAL = [
    ("America/Los_Angeles", "2026-03-08"),
    ("America/Los_Angeles", "2026-11-01"),
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("Australia/Lord_Howe", "2026-04-05"),  # by half an hour
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Sao_Paulo", "2018-02-18"),  # back at midnight
    ("America/Sao_Paulo", "2018-11-04"),  # forward at midnight
    ("America/St_Johns", "2006-10-29"),  # back at one past midnight: Sunday, Saturday, Sunday
    ("Africa/Casablanca", "2026-02-15"),
    ("Africa/Casablanca", "2026-03-22"),
    ("Pacific/Apia", "2011-12-30"),  # a day that the zone skips
    ("Asia/Kathmandu", "2026-06-01"),
    ("UTC", "2026-06-01"),
]


def utc_ms(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()) * 1000


def wall_clock(zone: str, at_ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(at_ms // 1000, zoneinfo.ZoneInfo(zone)).replace(tzinfo=None)


def first_minute(zone: str, local: dt.datetime) -> int:
    """Return the first UTC minute at which the local time is ``local`` or later, by trying every minute."""
    near = local_clock_ms(local) // MINUTE_MS
    return next(
        minute * MINUTE_MS
        for minute in range(near - 2 * 1440, near + 2 * 1440)
        if wall_clock(zone, minute * MINUTE_MS) >= local
    )


minutes = st.integers(0, 1440)
daily_ranges = st.tuples(minutes, minutes).filter(lambda pair: pair[0] < pair[1])
local_or_utc = st.booleans()


@settings(max_examples=40, deadline=None)
@given(
    place=st.sampled_from(UNUSUAL),
    from_minutes=st.integers(-2 * 1440, 1440),
    length_minutes=st.integers(1, 3 * 1440),
    start_is_local=local_or_utc,
    end_is_local=local_or_utc,
    daily=st.lists(daily_ranges, max_size=3),
    weekdays=st.sets(st.integers(0, 6), min_size=4),
    excluded=st.sets(st.integers(-2, 2), max_size=2),
)
@example(UNUSUAL[11], -1440, 3 * 1440, True, True, [], set(range(7)), set())
@example(UNUSUAL[8], -60, 180, True, True, [(0, 1), (1380, 1440)], set(range(7)), {0})
def test_windows_are_what_the_clock_shows_minute_by_minute(
    place: tuple[str, str],
    from_minutes: int,
    length_minutes: int,
    start_is_local: bool,
    end_is_local: bool,
    daily: list[tuple[int, int]],
    weekdays: set[int],
    excluded: set[int],
) -> None:
    zone, date = place
    day = dt.date.fromisoformat(date)
    start_local = dt.datetime.combine(day, dt.time()) + dt.timedelta(minutes=from_minutes)
    end_local = start_local + dt.timedelta(minutes=length_minutes)
    exclude = {day + dt.timedelta(days=n) for n in excluded}

    def moment(local: dt.datetime, is_local: bool) -> tuple[LocalTime, int]:
        if is_local:
            return LocalTime(local=local), first_minute(zone, local)
        at_ms = local_clock_ms(local)
        return LocalTime(utc_ms=at_ms), at_ms

    start, start_ms = moment(start_local, start_is_local)
    end, end_ms = moment(end_local, end_is_local)
    window = Window(
        start=start,
        end=end,
        daily=tuple(DailyRange(start_minute=a, end_minute=b) for a, b in daily),
        weekdays=tuple(sorted(weekdays)),
    ).model_copy(update={"exclude": tuple(sorted(exclude))})
    instants = np.arange(min(start_ms, end_ms) - DAY_MS, end_ms + DAY_MS, MINUTE_MS)

    def is_open(at_ms: int) -> bool:
        local = wall_clock(zone, at_ms)
        minute = local.hour * 60 + local.minute
        return (
            start_ms <= at_ms < end_ms
            and local.weekday() in weekdays
            and local.date() not in exclude
            and any(a <= minute < b for a, b in daily or [(0, 1440)])
        )

    intervals = window_intervals([window], zone, now_ms=0)
    assert inside(instants, intervals).tolist() == [is_open(at) for at in instants.tolist()]
    assert intervals == merged(intervals)


@settings(max_examples=60, deadline=None)
@given(place=st.sampled_from(UNUSUAL), around=st.integers(-2 * DAY_MS, 2 * DAY_MS), span=st.integers(0, 400))
def test_offsets_are_the_database_s(place: tuple[str, str], around: int, span: int) -> None:
    zone, date = place
    start = utc_ms(date) + around
    offsets = zone_offsets(zone, start, start + span * DAY_MS)
    assert offsets[0][0] == start
    assert [since for since, _ in offsets] == sorted({since for since, _ in offsets})
    assert all(a[1] != b[1] for a, b in itertools.pairwise(offsets))
    for at in range(start, start + span * DAY_MS + 1, 5 * HOUR_MS):
        offset = next(value for since, value in reversed(offsets) if since <= at)
        assert local_clock_ms(wall_clock(zone, at)) == at // 1000 * 1000 + offset
    assert sum(high - low for low, high, _ in spans(offsets, start, start + span * DAY_MS)) == span * DAY_MS


@pytest.mark.parametrize(("zone", "date"), UNUSUAL)
def test_local_days_begin_at_the_first_instant_of_their_date(zone: str, date: str) -> None:
    day = dt.date.fromisoformat(date)
    start, end = utc_ms(date) - DAY_MS, utc_ms(date) + 2 * DAY_MS
    found = list(local_midnights(zone_offsets(zone, start - 2 * DAY_MS, end + 2 * DAY_MS), start, end))
    dates = [day + dt.timedelta(days=n) for n in range(-3, 5)]
    all_midnights = {first_minute(zone, dt.datetime.combine(d, dt.time())) for d in dates}
    first = max(m for m in all_midnights if m <= start)
    assert found == sorted(m for m in all_midnights if first <= m and (m < end or m == found[-1]))
    assert found[-1] >= end > found[-2]


@settings(max_examples=60, deadline=None)
@given(place=st.sampled_from(UNUSUAL), minute=st.integers(-1440, 2880))
def test_a_local_time_is_its_first_instant(place: tuple[str, str], minute: int) -> None:
    """In a repeated hour, it is in the first one; in a skipped hour, the time of the change."""
    zone, date = place
    local = dt.datetime.fromisoformat(date) + dt.timedelta(minutes=minute)
    assert moment_ms(LocalTime(local=local), zone) == first_minute(zone, local)


def test_the_night_that_has_25_hours() -> None:
    day = Window(
        start=LocalTime(local=dt.datetime.fromisoformat("2026-11-01")),
        end=LocalTime(local=dt.datetime.fromisoformat("2026-11-02")),
    )
    zone = "America/Los_Angeles"
    assert window_intervals([day], zone, 0) == ((utc_ms("2026-11-01T07:00"), utc_ms("2026-11-02T08:00")),)
    twice = day.model_copy(update={"daily": (DailyRange(start_minute=60, end_minute=120),)})
    assert window_intervals([twice], zone, 0) == ((utc_ms("2026-11-01T08:00"), utc_ms("2026-11-01T10:00")),)
    half = day.model_copy(update={"daily": (DailyRange(start_minute=60, end_minute=90),)})
    assert window_intervals([half], zone, 0) == (
        (utc_ms("2026-11-01T08:00"), utc_ms("2026-11-01T08:30")),
        (utc_ms("2026-11-01T09:00"), utc_ms("2026-11-01T09:30")),
    )


def test_the_night_that_has_23_hours() -> None:
    day = Window(
        start=LocalTime(local=dt.datetime.fromisoformat("2026-03-08")),
        end=LocalTime(local=dt.datetime.fromisoformat("2026-03-09")),
    )
    zone = "America/Los_Angeles"
    assert window_intervals([day], zone, 0) == ((utc_ms("2026-03-08T08:00"), utc_ms("2026-03-09T07:00")),)
    skipped = day.model_copy(update={"daily": (DailyRange(start_minute=120, end_minute=180),)})
    assert window_intervals([skipped], zone, 0) == ()


def test_a_window_that_ends_now() -> None:
    now_ms = utc_ms("2026-06-03T12:34")
    window = Window(start=LocalTime(local=dt.datetime.fromisoformat("2026-06-01")), end=LocalTime(now=True))
    assert window_intervals([window], "UTC", now_ms) == ((utc_ms("2026-06-01"), now_ms),)
    assert window_intervals([window], "UTC", utc_ms("2026-05-01")) == ()


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=8))
def test_merging_keeps_every_instant_once(pairs: list[tuple[int, int]]) -> None:
    result = merged(pairs)
    assert all(a < b for a, b in result)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(result))
    assert {t for a, b in result for t in range(a, b)} == {t for a, b in pairs for t in range(a, b)}


@pytest.mark.parametrize(("zone", "date"), UNUSUAL)
def test_local_hours_are_what_the_clock_shows(zone: str, date: str) -> None:
    times = np.arange(utc_ms(date) - 2 * DAY_MS, utc_ms(date) + 2 * DAY_MS, 7 * MINUTE_MS)
    offsets = zone_offsets(zone, int(times[0]), int(times[-1]))
    assert local_hours(times, offsets).tolist() == [wall_clock(zone, t).hour for t in times.tolist()]


def test_first_instant_before_the_first_offset_goes_on_with_it() -> None:
    assert first_instant(((1000, 500),), 0) == -500
