"""Formats of single values of a plan: durations, permyriads, moments, daily hours."""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Strict, WithJsonSchema

from rhombus_dataset.config.validation import shown
from rhombus_dataset.errors import did_you_mean
from rhombus_dataset.geometry import PERMYRIAD
from rhombus_dataset.wire import canonical_uuid

DAY_MS: Final = 86_400_000
"""Milliseconds of a day of 24 hours."""
_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?(ms|s|m|h|d)")
_PERCENT: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?) ?%")
_HOURS: Final = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def parse_duration(value: Any) -> int:
    """Return a duration such as ``200ms``, ``30s``, ``5m``, ``1.5h`` or ``2d`` in milliseconds.

    Raises ValueError.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"expected a duration with its unit, such as {value}s or {value}m, got {value}")
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected a duration such as 200ms, 30s, 5m, 1h or 2d, got {shown(value)}")
    exact = Decimal(match[1]) * _UNITS_MS[match[2]]
    if exact != int(exact):
        raise ValueError(f"expected whole milliseconds, got {value} = {exact.normalize():f} ms")
    return int(exact)


def duration_text(milliseconds: int) -> str:
    """Return a duration as a plan writes it, in the largest unit that gives a whole number: ``5m``, ``1500ms``."""
    for unit, length_ms in reversed(_UNITS_MS.items()):
        if milliseconds and milliseconds % length_ms == 0:
            return f"{milliseconds // length_ms}{unit}"
    return f"{milliseconds}ms"


def parse_permyriad(value: Any) -> int:
    """Return ``25%``, or an integer, in permyriads. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"expected a percentage such as 25%, or permyriads up to 10000, got {shown(value)}")
        exact = Decimal(match[1]) * 100
        if exact != int(exact):
            raise ValueError(f"expected at most two decimals of a percent (whole permyriads), got {value}")
        number = int(exact)
    if not 0 <= number <= PERMYRIAD:
        raise ValueError(f"expected 0% to 100%, or 0 to 10000 permyriads, got {shown(value)}")
    return number


def parse_daily(value: Any) -> Any:
    """Return ``["22:00-06:00"]`` as minutes of the day: here 1320-1440 and 0-360. Raises ValueError."""
    if not isinstance(value, list):
        raise ValueError(f'expected a list of hours such as ["06:00-20:00"], got {shown(value)}')
    if not value:
        raise ValueError("expected at least one range of hours; leave daily out for the whole day")
    ranges: list[dict[str, int]] = []
    for item in value:
        match = _HOURS.fullmatch(item) if isinstance(item, str) else None
        if match is None:
            raise ValueError(f'expected hours such as "06:00-20:00", got {shown(item)}')
        hours = [int(part) for part in match.groups()]
        start, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
        if hours[1] > 59 or hours[3] > 59 or start >= 1440 or end > 1440:
            raise ValueError(f"expected times from 00:00 to 24:00, got {shown(item)}")
        if start == end:
            raise ValueError(f"{shown(item)} is empty; for the whole day write 00:00-24:00")
        parts = [(start, end)] if start < end else [(start, 1440), (0, end)]
        ranges += [{"start_minute": a, "end_minute": b} for a, b in parts if a < b]
    return ranges


def parse_weekdays(value: Any) -> Any:
    """Return ``[mon, tue]`` as sorted numbers, Monday is 0. Raises ValueError."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"expected a list of weekdays such as [mon, tue, wed], got {shown(value)}")
    numbers: set[int] = set()
    for item in value:
        if item not in WEEKDAYS:
            hint = did_you_mean(str(item).lower(), WEEKDAYS)
            raise ValueError(f"expected mon, tue, wed, thu, fri, sat or sun, got {shown(item)}{hint}")
        numbers.add(WEEKDAYS.index(item))
    return tuple(sorted(numbers))


def parse_date(value: Any) -> Any:
    """Return a date such as ``2026-06-19``. Raises ValueError."""
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError(f"expected a date such as 2026-06-19, got {shown(value)}")


def parse_moment(value: Any) -> Any:
    """Return the fields of a LocalTime. Raises ValueError.

    ``value``: a date (its local midnight), a local time, a time with an offset, or ``now``.
    """
    if value == "now":
        return {"now": True}
    if isinstance(value, str) and len(value) >= 10 and _DATE.match(value):
        try:
            moment = dt.datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            if not 1990 <= moment.year <= 2200:
                raise ValueError(f"expected a year from 1990 to 2200, got {shown(value)}")
            if moment.tzinfo is None:
                return {"local": moment}
            epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
            return {"utc_ms": round((moment - epoch) / dt.timedelta(milliseconds=1))}
    raise ValueError(
        "expected a date (2026-06-01), a local time (2026-06-01T06:00), a time with an offset "
        f"(2026-06-01T06:00:00-07:00) or now, got {shown(value)}"
    )


_ABBREVIATED: Final = {
    "PST": "America/Los_Angeles", "PDT": "America/Los_Angeles", "PT": "America/Los_Angeles",
    "MDT": "America/Denver", "MT": "America/Denver", "CST": "America/Chicago", "CDT": "America/Chicago",
    "CT": "America/Chicago", "EDT": "America/New_York", "ET": "America/New_York", "AKST": "America/Anchorage",
    "HST": "Pacific/Honolulu", "BST": "Europe/London", "CEST": "Europe/Berlin", "EEST": "Europe/Helsinki",
    "IST": "Asia/Kolkata", "JST": "Asia/Tokyo", "KST": "Asia/Seoul", "AEST": "Australia/Sydney",
    "AEDT": "Australia/Sydney", "NZST": "Pacific/Auckland",
}  # fmt: skip
"""A zone of each abbreviation, as a suggestion: most abbreviations are ambiguous, and know no daylight saving."""


def check_zone(value: str) -> str:
    """Return an IANA time zone that this machine's database has. Raises ValueError."""
    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        meant = _ABBREVIATED.get(value.upper(), value)
        hint = did_you_mean(meant, zoneinfo.available_timezones())
        raise ValueError(
            f"expected an IANA time zone such as America/Los_Angeles, got {shown(value)}{hint}"
        ) from None
    return value


def check_text(value: str) -> str:
    """Return a text that is safe as a name in a file, a table or a terminal. Raises ValueError."""
    if not 1 <= len(value) <= 100 or not value.isprintable() or value != value.strip():
        raise ValueError(f"expected 1 to 100 printable characters without spaces at the ends, got {shown(value)}")
    return value


def check_slug(value: str) -> str:
    """Return a name of letters, digits, dot, dash and underscore. Raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise ValueError(f"expected letters, digits, dot, dash or underscore, at most 100, got {shown(value)}")
    return value


def check_split_name(value: str) -> str:
    """Return the name of a split. Raises ValueError."""
    # Hugging Face refuses a dash in the name of a split.
    if not re.fullmatch(r"[A-Za-z0-9_]{1,40}", value) or value == "all":
        raise ValueError(
            f"expected a split name of letters, digits and underscores, other than all, got {shown(value)}"
        )
    return value


_DURATION_SCHEMA: Final = {
    "type": "string",
    "pattern": r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)$",
    "description": "A duration with its unit: 200ms, 30s, 5m, 1h, 2d.",
}
_MOMENT_SCHEMA: Final = {
    "type": "string",
    "pattern": r"^(now|[0-9]{4}-[0-9]{2}-[0-9]{2}.*)$",
    "description": "A date (its local midnight), a local time, or a time with an offset.",
}

DurationMs = Annotated[int, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA)]
Permyriad = Annotated[
    int,
    BeforeValidator(parse_permyriad),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": PERMYRIAD},
                {"type": "string", "pattern": r"^[0-9]{1,3}(\.[0-9]{1,2}0*)? ?%$"},
            ],
            "description": "A percentage such as 25%, or permyriads (1/10000) of the full frame.",
        }
    ),
]
MomentSchema = WithJsonSchema(_MOMENT_SCHEMA)
DailySchema = WithJsonSchema(
    {
        "type": "array",
        "minItems": 1,
        "items": {"type": "string", "pattern": r"^[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}$"},
        "description": "Hours of the camera's local clock, such as 06:00-20:00; past midnight is allowed.",
    }
)
WeekdaysSchema = WithJsonSchema({"type": "array", "minItems": 1, "items": {"enum": list(WEEKDAYS)}})
DateValue = Annotated[dt.date, BeforeValidator(parse_date), WithJsonSchema({"type": "string", "format": "date"})]
Uuid = Annotated[
    str,
    AfterValidator(canonical_uuid),
    WithJsonSchema({"type": "string", "pattern": r"^[A-Za-z0-9_-]{22}(\.v[0-9]{1,2})?$"}),
]
Zone = Annotated[str, AfterValidator(check_zone)]
Text = Annotated[str, AfterValidator(check_text)]
Slug = Annotated[str, AfterValidator(check_slug)]
SplitName = Annotated[str, AfterValidator(check_split_name)]
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]
