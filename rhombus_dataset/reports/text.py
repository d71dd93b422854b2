"""Numbers, times and spans in words."""

from __future__ import annotations

import datetime as dt

from rhombus_dataset.plan.local_time import DAY_MS, HOUR_MS, MINUTE_MS


def counted(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"


def percent_of(n: int, of: int) -> str:
    share = 100 * n / of
    return f"{share:.0f} %" if share >= 10 or share == 0 else f"{share:.2g} %"


def short_number(n: int) -> str:
    return f"{n}" if n < 10_000 else f"{n / 1000:.0f}k"


def figure_text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def utc_text(t_ms: int) -> str:
    return f"{dt.datetime.fromtimestamp(t_ms // 1000, dt.UTC):%Y-%m-%d %H:%M}"


def local_text(local_ms: int) -> str:
    return f"{dt.datetime.fromtimestamp(local_ms // 1000, dt.UTC):%Y-%m-%d %H:%M:%S}"


def duration_text(ms: float) -> str:
    if ms < MINUTE_MS:
        return f"{ms / 1000:.3g} s"
    if ms < HOUR_MS:
        minutes, seconds = divmod(round(ms / 1000), 60)
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    if ms < 2 * DAY_MS:
        hours, minutes = divmod(round(ms / MINUTE_MS), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{ms / DAY_MS:.1f} days"
