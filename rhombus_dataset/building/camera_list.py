"""The cameras of a camera cloud, with their time zones and footage, and a first plan for them."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import zoneinfo
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rhombus_dataset import wire
from rhombus_dataset.building.fetch import Sender, access_advice
from rhombus_dataset.building.open_source import open_camera_cloud
from rhombus_dataset.building.rate_limiter import RateLimiter
from rhombus_dataset.errors import AccessRefused, QuotaExhausted, SourceFailing
from rhombus_dataset.plan.first_plan import CameraFootage, first_plan
from rhombus_dataset.plan.local_time import merged, utc_text
from rhombus_dataset.quality.text import counted
from rhombus_dataset.sources.rhombus import queries

if TYPE_CHECKING:
    from rhombus_dataset.sources.rhombus.client import RhombusSource

ATTEMPTS: Final = 3
"""Attempts for a list: somebody waits for it."""
MAX_WAIT_S: Final = 60.0
"""Longest wait for the rate limit in seconds, if the plan's ``limits.max_wait`` is not shorter."""
GIVE_UP_AFTER: Final = 5
"""After this many cameras in a row whose footage could not be learnt, the others are not asked for."""
SEAM_MS: Final = 2_000
"""Spans of footage that are less than this apart, in milliseconds, are one: two files of a recording meet there."""
UNKNOWN_MS: Final = 120_000
"""The cloud does not know the footage of this many last milliseconds yet."""
EARLIEST_MS: Final = 631_152_000_000
"""1990, the earliest year of a plan. Footage before it comes from a clock that was not set."""
MAX_LISTED: Final = 10
"""Cameras that a message names."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ListedCamera:
    """A camera of the cloud. A value is None where the cloud does not give it.

    ``spans_ms``: start and end of each span of footage, UTC milliseconds, in order; None if it is unknown, and
    ``problem`` is then the reason.
    """

    uuid: str
    name: str
    location: str | None
    timezone: str | None
    connection_status: str | None
    spans_ms: tuple[tuple[int, int], ...] | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class CameraList:
    """The cameras of a camera cloud at ``url``, in its order. ``now_ms``: when they were listed, UTC milliseconds.

    ``cameras`` have the attributes ``uuid``, ``name``, ``location``, ``timezone``, ``connection_status``,
    ``spans_ms`` (start and end of each span of footage in UTC milliseconds, or None) and ``problem`` (why the
    footage is unknown, or None).
    """

    url: str
    cameras: tuple[ListedCamera, ...]
    now_ms: int

    def to_json(self) -> dict[str, Any]:
        """Return the list for ``--json``. Times are in UTC."""
        return {
            "url": self.url,
            "cameras": [
                {
                    "uuid": camera.uuid,
                    "name": camera.name,
                    "location": camera.location,
                    "timezone": camera.timezone,
                    "connection_status": camera.connection_status,
                    "first_footage": utc_text(camera.spans_ms[0][0]) if camera.spans_ms else None,
                    "last_footage": utc_text(camera.spans_ms[-1][1]) if camera.spans_ms else None,
                    "problem": camera.problem,
                }
                for camera in self.cameras
            ],
        }

    def to_text(self) -> str:
        """Return the table for a terminal. Times are local times of the camera, with their UTC offset."""
        head = ("name", "UUID", "location", "time zone", "status", "first footage", "last footage")
        rows = [
            (
                camera.name,
                camera.uuid,
                camera.location or "unknown",
                camera.timezone or "unknown",
                camera.connection_status or "unknown",
                *self._footage(camera),
            )
            for camera in self.cameras
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [f"{counted(len(rows), 'camera')} at {self.url}", ""]
        for row in (head, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join(cells).rstrip())
        problems = [f"{c.name}: its footage is unknown: {c.problem}" for c in self.cameras if c.problem is not None]
        if problems:
            lines += ["", *problems[:MAX_LISTED]]
        if len(problems) > MAX_LISTED:
            lines.append(f"... and {len(problems) - MAX_LISTED:,} more (--json lists all)")
        return "\n".join(lines)

    def _footage(self, camera: ListedCamera) -> tuple[str, str]:
        if camera.spans_ms is None:
            return "unknown", "unknown"
        if not camera.spans_ms:
            return "none", "none"
        zone = zoneinfo.ZoneInfo(camera.timezone or "UTC")
        first, last = (
            dt.datetime.fromtimestamp(utc_ms / 1000, zone).strftime("%Y-%m-%d %H:%M:%S %z")
            for utc_ms in (camera.spans_ms[0][0], camera.spans_ms[-1][1])
        )
        return first, "now" if camera.spans_ms[-1][1] >= self.now_ms - UNKNOWN_MS else last


def fetch_camera_list(target: str, on_note: Callable[[str], None], now_ms: int) -> CameraList:
    """Return the cameras of the cloud that ``target`` names: an address, or a plan with its limits and scheme.

    Two requests, and one for each camera. ``on_note`` is called with texts about long waits. Raises UsageError,
    InvalidFile, AccessRefused, HostUnreachable, QuotaExhausted and SourceFailing.
    """
    with open_camera_cloud(target, now_ms) as (source, limits):
        limiter = RateLimiter(
            limits.requests_per_second,
            limits.burst,
            threading.Event(),
            max_wait_s=min(limits.max_wait / 1000, MAX_WAIT_S),
        )
        sender = Sender(limiter, lambda seconds: on_note(f"the API asks to wait {seconds:,.0f} s (429)"))
        with _quota_explained(source.url):
            states = [state for state in _ask(sender, source, queries.CAMERAS) if not state.mummified]
            locations = {place.uuid: place for place in _ask(sender, source, queries.LOCATIONS)}
            if len(states) > limits.requests_per_second * MAX_WAIT_S:
                seconds = len(states) / limits.requests_per_second
                on_note(f"{len(states):,} cameras: their footage takes about {seconds:,.0f} s")
            footage = list(_footage_of(sender, source, [state.uuid for state in states], now_ms))
        cameras = []
        for state, (spans_ms, problem) in zip(states, footage, strict=True):
            place = locations.get(state.locationUuid or "")
            cameras.append(
                ListedCamera(
                    uuid=state.uuid,
                    name=state.name or state.uuid,
                    location=(place.name or None) if place is not None else None,
                    timezone=place.tz if place is not None and _is_zone(place.tz) else None,
                    connection_status=state.connectionStatus or None,
                    spans_ms=spans_ms,
                    problem=problem,
                )
            )
        return CameraList(source.url, tuple(cameras), now_ms)


def plan_of_cameras(listed: CameraList, path: str) -> str:
    """Return a first plan for all listed cameras with footage. ``path`` names the plan in its comments.

    Raises SourceFailing if no camera has footage.
    """
    found = [camera for camera in listed.cameras if camera.spans_ms]
    if not found:
        problem = next((f": {camera.name}: {camera.problem}" for camera in listed.cameras if camera.problem), "")
        raise SourceFailing(
            f"{listed.url}: {counted(len(listed.cameras), 'camera')}, none with known footage{problem}. "
            f"To see them: rhombus-dataset cameras {listed.url}"
        )
    notes = []
    if without_zone := [camera.name for camera in found if camera.timezone is None]:
        notes.append(f"The cloud names no time zone of {_listed(without_zone)}. UTC is written: correct it.")
    if silent := [camera.name for camera in listed.cameras if camera.spans_ms == ()]:
        notes.append(f"Left out, since they have no footage: {_listed(silent)}.")
    if unknown := [camera.name for camera in listed.cameras if camera.spans_ms is None]:
        notes.append(f"Left out, since their footage is unknown: {_listed(unknown)}.")
    cameras = [
        CameraFootage(camera.uuid, camera.name, camera.timezone or "UTC", camera.location, camera.spans_ms or ())
        for camera in found
    ]
    return first_plan({"type": "rhombus", "url": listed.url}, cameras, path, notes)


def _is_zone(name: str | None) -> bool:
    """Return whether this machine's database has an IANA time zone of this name."""
    try:
        return name is not None and bool(zoneinfo.ZoneInfo(name).key)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LISTED:,} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


@contextlib.contextmanager
def _quota_explained(url: str) -> Iterator[None]:
    try:
        yield
    except QuotaExhausted:
        raise QuotaExhausted(
            f"{url}: the API's rate limit leaves nothing for this command: it answers 429 and asks to wait longer "
            f"than {MAX_WAIT_S:g} s, or than limits.max_wait of the plan. Run the same command again later."
        ) from None


def _ask(sender: Sender, source: RhombusSource, query: queries.Query[T]) -> T:
    """Return the result of a call. Raises AccessRefused and SourceFailing."""
    for attempt in range(1, ATTEMPTS + 1):
        result, _ = sender.send(lambda: source.ask(query))
        match result:
            case wire.Denied(reason=reason):
                raise AccessRefused(access_advice(reason))
            case wire.Rejected(reason=reason):
                break
            case wire.Transient(reason=reason):
                if attempt < ATTEMPTS:
                    sender.sleep(sender.pause_s(attempt))
            case wire.Throttled() | wire.Unreachable():
                raise TypeError("the sender does not return these")
            case _:
                return result
    advice = "Check that this is the address of the API, or run the same command again later."
    if reason.startswith(("HTTP 404", "HTTP 405")):
        advice = (
            "This server does not list its cameras. Check the address. If it is right, write a plan with the UUIDs "
            "of your cameras by hand: rhombus-dataset init plan.yaml"
        )
    raise SourceFailing(f"{source.url}{query.path}: {reason}. {advice}")


def _footage_of(
    sender: Sender, source: RhombusSource, uuids: Sequence[str], now_ms: int
) -> Iterator[tuple[tuple[tuple[int, int], ...] | None, str | None]]:
    """Yield the spans of footage of each camera, or None and the reason. Each is asked for once."""
    failures = 0
    for uuid in uuids:
        if failures >= GIVE_UP_AFTER:
            yield None, f"not asked for, since the {GIVE_UP_AFTER} cameras before failed"
            continue
        result, _ = sender.send(lambda uuid=uuid: source.ask(queries.presence(uuid, now_ms // 1000 + 1)))  # type: ignore[misc]
        if isinstance(result, list):
            failures = 0
            inside = [(max(start, EARLIEST_MS), min(end, now_ms)) for start, end in result]
            yield merged(inside, SEAM_MS), None
        else:
            failures = failures + 1 if isinstance(result, wire.Transient) else 0
            yield None, getattr(result, "reason", "the API refuses")
