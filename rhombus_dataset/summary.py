"""The dry run: what a schedule would come to, before anything is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from rhombus_dataset.geometry import PERMYRIAD, Geometry
from rhombus_dataset.schedule import Schedule

ASSUMED_FULL_PX: Final = (1920, 1080)
ASSUMED_BYTES_PER_PIXEL: Final = 0.125
"""A full-HD frame of about 260 kB: what cameras of this kind usually send."""
FIRST_TIMES: Final = 5
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class PlanSummary:
    """Counts are of rows (one a moment and view), but for ``moments``. ``seconds`` is the least time that
    the quota allows; ``bytes`` an estimate, by ``bytes_basis``."""

    name: str
    digest: str
    frames: int
    moments: int
    requests: int
    by_camera: dict[str, int]
    by_local_hour: dict[int, int]
    by_view: dict[str, int]
    by_split: dict[str, int]
    shards: int
    bytes: int
    bytes_basis: str
    free_bytes: int
    seconds: float
    requests_per_second: float
    first: tuple[dict[str, str], ...]
    shortfalls: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    def to_text(self) -> str:
        """For a terminal."""
        lines = [
            f"{self.name}: {self.frames:,} frames of {self.moments:,} moments, {self.shards} shards",
            f"requests  {self.requests:,}, at least {_duration(self.seconds)} at "
            f"{self.requests_per_second:g} a second",
            f"bytes     about {_size(self.bytes)} ({self.bytes_basis}); {_size(self.free_bytes)} free",
        ]
        if self.bytes > self.free_bytes:
            lines.append("WARNING   that is more than the free disk")
        for title, counts in (
            ("camera", self.by_camera),
            ("local hour", {f"{hour:02d}:00": n for hour, n in self.by_local_hour.items()}),
            ("view", self.by_view),
            ("split", self.by_split),
        ):
            lines += ["", *_bars(title, counts)]
        lines += ["", "first frames"]
        lines += [f"  {f['utc']}   {f['local']}   {f['camera']}   {f['view']}" for f in self.first]
        if self.shortfalls:
            lines += ["", f"shortfalls: {len(self.shortfalls)} strata have less time than their share"]
            lines += [
                f"  {s['camera'] or 'all cameras'}"
                + (f", {_WEEKDAYS[s['weekday']]}" if s["weekday"] is not None else "")
                + (f", {s['local_hour']:02d}:00" if s["local_hour"] is not None else "")
                + f": {s['available']} of {s['wanted']}"
                for s in self.shortfalls[:20]
            ]
            if len(self.shortfalls) > 20:
                lines.append(f"  ... and {len(self.shortfalls) - 20} more (--json lists all)")
        lines += ["", *(f"note: {note}" for note in self.notes)] if self.notes else []
        lines.append(f"\nschedule  {self.digest}")
        return "\n".join(lines)


def summarize(
    schedule: Schedule, name: str, requests_per_second: float, burst: int, free_bytes: int
) -> PlanSummary:
    """Count a schedule. ``free_bytes``: of the disk that the dataset would be written to."""
    rows = len(schedule)
    views = [geometry for _, geometry in schedule.views]
    by_view = np.bincount(schedule.view, minlength=len(views)).tolist()
    names = [view_name for view_name, _ in schedule.views]
    moments = int(np.count_nonzero(_first_of_moment(schedule)))
    hours = np.bincount(schedule.local_hours(), minlength=24).tolist()
    order = np.argsort(schedule.timestamp_ms, kind="stable")[:FIRST_TIMES].tolist()
    first = tuple(
        {
            "utc": str(pd.Timestamp(int(schedule.timestamp_ms[row]), unit="ms", tz="UTC")),
            "local": str(schedule.local_time(row)),
            "camera": schedule.camera_of(row).name,
            "view": names[schedule.view[row]],
        }
        for row in order
    )
    width, height = ASSUMED_FULL_PX
    return PlanSummary(
        name=name,
        digest=schedule.digest,
        frames=rows,
        moments=moments,
        requests=rows,
        by_camera=_named([c.name for c in schedule.cameras], schedule.camera),
        by_local_hour={hour: n for hour, n in enumerate(hours) if n},
        by_view=_summed(names, by_view),
        by_split=_named(list(schedule.splits), schedule.split),
        shards=len(schedule.shards),
        bytes=sum(n * _assumed_bytes(g) for n, g in zip(by_view, views, strict=True)),
        bytes_basis=f"if a full frame is {width}x{height} at {ASSUMED_BYTES_PER_PIXEL} bytes a pixel",
        free_bytes=free_bytes,
        seconds=max(0, rows - burst) / requests_per_second,
        requests_per_second=requests_per_second,
        first=first,
        shortfalls=tuple(
            {
                "camera": s.camera_name,
                "weekday": s.weekday,
                "local_hour": s.local_hour,
                "available": s.available,
                "wanted": s.wanted,
            }
            for s in schedule.shortfalls
        ),
        notes=schedule.notes,
    )


def _first_of_moment(schedule: Schedule) -> npt.NDArray[np.bool_]:
    """The views of one moment stand next to each other."""
    changes = np.ones(len(schedule), np.bool_)
    changes[1:] = (np.diff(schedule.timestamp_ms) != 0) | (np.diff(schedule.camera) != 0)
    return changes


def _named(names: list[str], index: npt.NDArray[Any]) -> dict[str, int]:
    return _summed(names, np.bincount(index, minlength=len(names)).tolist())


def _summed(names: list[str], counts: list[int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, count in zip(names, counts, strict=True):
        found[name] = found.get(name, 0) + count
    return found


def _assumed_bytes(geometry: Geometry) -> int:
    width, height = ASSUMED_FULL_PX
    part = geometry.crop_width * geometry.crop_height / PERMYRIAD**2 / geometry.downscale**2
    return round(width * height * part * ASSUMED_BYTES_PER_PIXEL)


def _bars(title: str, counts: Mapping[str, int]) -> list[str]:
    most = max(counts.values(), default=1)
    width = max([len(title), *(len(str(name)) for name in counts)])
    return [
        f"{title:{width}}  frames",
        *(f"{name:{width}}  {n:>6,}  {'█' * round(30 * n / max(most, 1))}" for name, n in counts.items()),
    ]


def _duration(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {left:02d} s" if minutes else f"{left} s"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
