"""Numbers, times and durations as text."""

from __future__ import annotations

import datetime as dt

from rhombus_dataset.plan.local_time import DAY_MS, HOUR_MS, MINUTE_MS


def percent_of(n: int, of: int) -> str:
    """Return a share in percent, with two significant digits, such as ``12 %`` or ``0.35 %``."""
    share = 100 * n / of
    return f"{share:.0f} %" if share >= 10 or share == 0 else f"{share:.2g} %"


def short_number(n: int) -> str:
    """Return at most five characters, such as ``9999`` or ``10k``, for a cell of a heat map."""
    return f"{n}" if n < 10_000 else f"{n / 1000:.0f}k"


def figure_text(value: float) -> str:
    """Return a number with three significant digits, or all digits before the decimal point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def utc_text(t_ms: int) -> str:
    """Return a time in UTC, to the minute."""
    return f"{dt.datetime.fromtimestamp(t_ms // 1000, dt.UTC):%Y-%m-%d %H:%M}"


def local_text(local_ms: int) -> str:
    """Return a time on the camera's clock, to the second."""
    return f"{dt.datetime.fromtimestamp(local_ms // 1000, dt.UTC):%Y-%m-%d %H:%M:%S}"


def duration_text(ms: float) -> str:
    """Return a duration in milliseconds as text, such as ``4.5 s``, ``12 min 3 s``, ``5 h`` or ``3.5 days``."""
    if ms < MINUTE_MS:
        return f"{ms / 1000:.3g} s"
    if ms < HOUR_MS:
        minutes, seconds = divmod(round(ms / 1000), 60)
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    if ms < 2 * DAY_MS:
        hours, minutes = divmod(round(ms / MINUTE_MS), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{ms / DAY_MS:.1f} days"
