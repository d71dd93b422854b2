"""The dry run: what a build would request, store and take, estimated without a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.geometry import PERMYRIAD, Geometry
from rhombus_dataset.plan.local_time import utc_text
from rhombus_dataset.plan.model import Plan
from rhombus_dataset.planning.resolve import scout_settings
from rhombus_dataset.planning.schedule import Schedule

ASSUMED_FULL_PX: Final = (1920, 1080)
"""Assumed width and height of a full frame, in pixels."""
ASSUMED_BYTES_PER_PIXEL: Final = 0.125
"""Assumed JPEG bytes for each pixel of a frame: 260 kB for full HD, as cameras of this kind usually send."""
ASSUMED_SMALL_BYTES_PER_PIXEL: Final = 0.25
"""Assumed JPEG bytes for each pixel of a small frame: more, since it has more detail for each pixel."""
SMALL_FRAME_BYTES: Final = 600
"""Bytes of the header and the tables of a JPEG, which count in a small frame."""
LONG_PASS_S: Final = 6 * 3600
"""Seconds of a scout pass, 6 hours: a longer pass gets a warning and a proposal for a longer interval."""
FIRST_TIMES: Final = 5
"""Number of times that are listed as examples."""
MAX_LISTED: Final = 20
"""Maximum number of shortfalls in the text for a terminal."""


@dataclass(frozen=True)
class MeasuredFrames:
    """The mean ``bytes`` of the JPEGs of a few frames, by geometry. ``frames`` were received, by ``requests``."""

    bytes: Mapping[Geometry, float]
    frames: int
    requests: int


@dataclass(frozen=True)
class DryRun:
    """What a build would request, store and take.

    Counts are of frames (one for each moment and view), except ``moments``. ``seconds`` is the shortest time that
    the rate limit allows. ``bytes`` is an estimate; ``bytes_basis`` says how it is made. ``free_bytes`` is the free
    space of the disk."""

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
    scouting: ScoutingEstimate | None = None
    """For a plan with a scout pass that is not done yet: what follows it. All other figures are of the pass."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        return plain | {"scouting": None if self.scouting is None else asdict(self.scouting)}

    def to_text(self) -> str:
        """Return the text for a terminal."""
        kind = "frames" if self.scouting is None else "small frames of the scout pass"
        shards = "1 shard" if self.shards == 1 else f"{self.shards:,} shards"
        lines = [
            f"{self.name}: {self.frames:,} {kind} of {self.moments:,} moments, {shards}",
            f"requests  {self.requests:,}, at least {_duration(self.seconds)} at "
            f"{self.requests_per_second:g} a second",
            f"bytes     about {_size(self.bytes)} ({self.bytes_basis}); {_size(self.free_bytes)} free",
        ]
        if self.scouting is not None:
            lines += self.scouting.lines(self)
        if self.bytes + (self.scouting.bytes if self.scouting else 0) > self.free_bytes:
            lines.append("WARNING   that is more than the free space of the disk")
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
            lines += ["", f"shortfalls: {len(self.shortfalls)} strata have less than their share"]
            lines += [
                f"  {s['stratum']}: {s['available']} of {s['wanted']}: {s['reason']}"
                for s in self.shortfalls[:MAX_LISTED]
            ]
            if len(self.shortfalls) > MAX_LISTED:
                lines.append(f"  ... and {len(self.shortfalls) - MAX_LISTED} more (--json lists all)")
        lines += ["", *(f"note: {note}" for note in self.notes)] if self.notes else []
        lines.append(f"\nschedule  {self.digest}")
        return "\n".join(lines)


@dataclass(frozen=True)
class ScoutingEstimate:
    """What follows a scout pass, compared with fetching every moment of the pass in full.

    ``moments`` is the number that the plan asks for, ``frames`` the same with all views. From ``pays_off_below``
    moments on, the pass costs more bytes than it saves.
    """

    moments: int
    frames: int
    bytes: int
    seconds: float
    frames_in_full: int
    bytes_in_full: int
    pays_off_below: int
    every_ms: int

    def lines(self, scout_pass: DryRun) -> list[str]:
        """Return the lines for a terminal that follow those of the pass."""
        total, seconds = scout_pass.bytes + self.bytes, scout_pass.seconds + self.seconds
        share = 100 * total / max(1, self.bytes_in_full)
        requests = scout_pass.requests + self.frames
        found = [
            f"then      {self.frames:,} frames of up to {self.moments:,} moments that show something new: "
            f"{requests:,} requests in all, {_duration(seconds)}, about {_size(total)}",
            f"in full   all {scout_pass.moments:,} moments would be {self.frames_in_full:,} frames, about "
            f"{_size(self.bytes_in_full)}: scouting fetches {share:.1f} % of that",
        ]
        if self.moments > self.pays_off_below:
            found.append(
                f"WARNING   scouting does not pay off: from {self.pays_off_below:,} moments on, fetching all "
                "in full (strategy interval) costs fewer bytes"
            )
        else:
            found.append(f"          scouting saves bytes below {self.pays_off_below:,} moments")
        if scout_pass.seconds > LONG_PASS_S:
            fits = -(-int(self.every_ms * scout_pass.seconds / LONG_PASS_S) // 1000)
            found.append(
                f"WARNING   the rate limit is low: the scout pass takes {_duration(scout_pass.seconds)} of the "
                f"{_duration(seconds)}. With every: {fits}s it takes {_duration(LONG_PASS_S)}, and may miss "
                "shorter events"
            )
        return found


def estimate_scout_pass(
    plan: Plan, schedule: Schedule, free_bytes: int, measured: MeasuredFrames | None = None
) -> DryRun:
    """Return the estimate for a plan's scout pass with this ``schedule``, and for what follows it.

    ``free_bytes``: of the disk for the dataset. Raises UsageError for a plan with another strategy."""
    settings = scout_settings(plan)
    limits = plan.source.limits
    scout_pass = estimate_build(schedule, plan.name, limits.requests_per_second, limits.burst, free_bytes, measured)
    width, height = ASSUMED_FULL_PX
    small = _measured_bytes(Geometry(settings.downscale), measured)
    if small is None:
        small = SMALL_FRAME_BYTES + width * height * ASSUMED_SMALL_BYTES_PER_PIXEL / settings.downscale**2
    views = {c.uuid: [plan.views[name] for name in c.views or plan.views] for c in plan.cameras}
    size = {uuid: sum(_bytes(view, measured) for view in of_camera) for uuid, of_camera in views.items()}
    moments_of = np.bincount(schedule.camera, minlength=len(schedule.cameras)).tolist()
    frames_in_full = sum(n * len(views[c.uuid]) for c, n in zip(schedule.cameras, moments_of, strict=True))
    bytes_in_full = sum(n * size[c.uuid] for c, n in zip(schedule.cameras, moments_of, strict=True))
    wanted = settings.count.number * (len(plan.cameras) if settings.count.per_camera else 1)
    moments = min(wanted, len(schedule))
    share = moments / max(1, len(schedule))
    pass_bytes = round(small * len(schedule))
    return replace(
        scout_pass,
        bytes=pass_bytes,
        bytes_basis=_basis(measured) or f"if a full frame is {width}x{height}",
        scouting=ScoutingEstimate(
            moments=moments,
            frames=round(share * frames_in_full),
            bytes=round(share * bytes_in_full),
            seconds=share * frames_in_full / limits.requests_per_second,
            frames_in_full=frames_in_full,
            bytes_in_full=bytes_in_full,
            pays_off_below=max(0, int(len(schedule) * (1 - pass_bytes / max(1, bytes_in_full)))),
            every_ms=settings.every_ms,
        ),
    )


def estimate_build(
    schedule: Schedule,
    name: str,
    requests_per_second: float,
    burst: int,
    free_bytes: int,
    measured: MeasuredFrames | None = None,
) -> DryRun:
    """Return the estimate for a build of ``schedule``. ``free_bytes``: of the disk for the dataset."""
    rows = len(schedule)
    views = [geometry for _, geometry in schedule.views]
    by_view = np.bincount(schedule.view, minlength=len(views)).tolist()
    names = [view_name for view_name, _ in schedule.views]
    moments = int(np.count_nonzero(_first_of_moment(schedule)))
    hours = np.bincount(schedule.local_hours(), minlength=24).tolist()
    order = np.argsort(schedule.timestamp_ms, kind="stable")[:FIRST_TIMES].tolist()
    first = tuple(
        {
            "utc": utc_text(int(schedule.timestamp_ms[row])),
            "local": schedule.local_time(row).isoformat(timespec="milliseconds"),
            "camera": schedule.camera_of(row).name,
            "view": names[schedule.view[row]],
        }
        for row in order
    )
    width, height = ASSUMED_FULL_PX
    return DryRun(
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
        bytes=sum(n * _bytes(g, measured) for n, g in zip(by_view, views, strict=True)),
        bytes_basis=_basis(measured)
        or f"if a full frame is {width}x{height} at {ASSUMED_BYTES_PER_PIXEL} bytes a pixel",
        free_bytes=free_bytes,
        seconds=max(0, rows - burst) / requests_per_second,
        requests_per_second=requests_per_second,
        first=first,
        shortfalls=tuple(
            {
                "stratum": s.stratum,
                "camera": s.camera_name,
                "weekday": s.weekday,
                "local_hour": s.local_hour,
                "light": s.light,
                "available": s.available,
                "wanted": s.wanted,
                "reason": s.reason,
            }
            for s in schedule.shortfalls
        ),
        notes=schedule.notes + _nothing_measured(measured),
    )


def _first_of_moment(schedule: Schedule) -> npt.NDArray[np.bool_]:
    """Return which rows are the first of their moment: the views of a moment follow each other."""
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


def _basis(measured: MeasuredFrames | None) -> str:
    if measured is None or not measured.frames:
        return ""
    return f"measured on {measured.frames} frame{'s' if measured.frames > 1 else ''}"


def _nothing_measured(measured: MeasuredFrames | None) -> tuple[str, ...]:
    if measured is None or measured.frames:
        return ()
    return (f"none of {measured.requests} planned frames that were tried could be fetched: the bytes are assumed",)


def _measured_bytes(geometry: Geometry, measured: MeasuredFrames | None) -> float | None:
    return None if measured is None else measured.bytes.get(geometry)


def _bytes(geometry: Geometry, measured: MeasuredFrames | None) -> int:
    """Return the mean bytes of a frame, as measured or else as assumed."""
    if (found := _measured_bytes(geometry, measured)) is not None:
        return round(found)
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
