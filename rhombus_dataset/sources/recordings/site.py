"""The site file: the cameras of a local site, and their recordings."""

from __future__ import annotations

import bisect
import datetime as dt
import zoneinfo
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt

from rhombus_dataset import wire
from rhombus_dataset.config.validation import Checker, shown
from rhombus_dataset.config.yaml_source import FieldPath, Marked, load_marked
from rhombus_dataset.errors import did_you_mean
from rhombus_dataset.plan.local_time import moment_ms, utc_text
from rhombus_dataset.plan.model import LocalTime
from rhombus_dataset.plan.values import Text, Uuid, Zone, parse_duration, parse_moment
from rhombus_dataset.sources.recordings.footage import Footage
from rhombus_dataset.sources.recordings.video_index import UnreadableVideo


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SiteLocation(_Model):
    """A location of the site. ``tz``: IANA time zone of its cameras."""

    uuid: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{22}$")]
    name: Text
    tz: Zone


_Moment = Annotated[LocalTime, BeforeValidator(parse_moment)]


class _Video(_Model):
    path: str
    start: _Moment
    repeat: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 1


class _Scene(_Model):
    scene: Literal["demo"]
    start: _Moment
    duration: Annotated[int, BeforeValidator(parse_duration), Field(ge=1)]


class _Camera(_Model):
    uuid: Uuid
    name: Text
    location: str
    recordings: list[Any] = []


FAULT_KINDS: Final = (
    "throttle", "http_500", "http_503", "error_true", "stall", "trickle", "reset", "truncate", "not_json", "html",
    "long_body", "bad_base64", "wrong_mime", "corrupt_jpeg", "giant_jpeg",
    *sorted(wire.TRANSIENT_STATUSES | wire.PERMANENT_STATUSES),
)  # fmt: skip
"""Faults that the server can inject into its responses. Names in capitals are statuses of the API."""


def _fault_kind(value: Any) -> str:
    if value not in FAULT_KINDS:
        raise ValueError(
            f"expected one of {', '.join(FAULT_KINDS)}, got {shown(value)}{did_you_mean(value, FAULT_KINDS)}"
        )
    return str(value)


def _without_facet(value: str) -> str:
    return value[:22]


class InjectedFault(_Model):
    """A fault that the server injects into a share (``rate``, 0 to 1) of all requests, or of those for one camera.

    ``camera``: its UUID. ``retry_after``: of a throttle. ``duration``: of a stall. Both in milliseconds.
    """

    kind: Annotated[str, BeforeValidator(_fault_kind)]
    rate: Annotated[float, Field(ge=0, le=1)]
    camera: Annotated[Uuid, AfterValidator(_without_facet)] | None = None
    retry_after: Annotated[int, BeforeValidator(parse_duration), Field(ge=1)] = 1_000
    duration: Annotated[int, BeforeValidator(parse_duration), Field(ge=1)] = 60_000


class SiteQuota(_Model):
    """The rate limit of the server. Requests beyond it get 429."""

    requests_per_second: Annotated[float, Field(gt=0, le=1_000_000)]
    burst: Annotated[StrictInt, Field(ge=1, le=10_000_000)] = 1


class _SiteFile(_Model):
    api_keys: list[Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")]] = []
    locations: Annotated[list[Any], Field(min_length=1)]
    cameras: Annotated[list[Any], Field(min_length=1)]
    quota: SiteQuota | None = None
    faults: list[InjectedFault] = []
    fault_seed: StrictInt = 0


@dataclass(frozen=True, slots=True)
class Recording:
    """Footage from ``start_ms`` (UTC) on: a video file, repeated ``repeat`` times, or the demo scene (no path)."""

    start_ms: int
    duration_ms: Fraction
    path: Path | None = None
    repeat: int = 1

    @property
    def end_ms(self) -> Fraction:
        return self.start_ms + self.duration_ms * self.repeat


@dataclass(frozen=True, slots=True)
class SiteCamera:
    """A camera of the site. Its ``recordings`` are in order of time and do not overlap.

    ``location``: name of its location.
    """

    uuid: str
    name: str
    location: str
    location_uuid: str
    timezone: str
    recordings: tuple[Recording, ...]

    def recording_at(self, timestamp_ms: int) -> Recording | None:
        """Return the recording at a time (UTC milliseconds), or None."""
        starts = [recording.start_ms for recording in self.recordings]
        place = bisect.bisect_right(starts, timestamp_ms) - 1
        if place >= 0 and timestamp_ms < self.recordings[place].end_ms:
            return self.recordings[place]
        return None


@dataclass(frozen=True)
class Site:
    """The content of a site file. ``cameras`` by UUID without facet; ``locations`` in the order of the file.

    ``quota``, ``faults`` and ``fault_seed`` apply to the server only, not to a source of type ``recordings``.
    """

    path: Path
    api_keys: tuple[str, ...]
    locations: tuple[SiteLocation, ...]
    cameras: dict[str, SiteCamera]
    footage: Footage
    quota: SiteQuota | None = None
    faults: tuple[InjectedFault, ...] = ()
    fault_seed: int = 0


def load_site(path: Path) -> Site:
    """Return the content of a site file, with the index of each of its videos.

    Paths are relative to the site file. Raises InvalidFile with all errors, including videos that cannot be read.
    """
    return SiteReader(load_marked(path), path).site()


_KINDS: Final[dict[str, type[_Video] | type[_Scene]]] = {"path": _Video, "scene": _Scene}


class SiteReader:
    """Reads one site file. See :func:`load_site`."""

    def __init__(self, marked: Marked, path: Path) -> None:
        self._check = Checker(marked)
        self._refuse = self._check.refuse
        self._value = marked.value
        self._path = path
        self._footage = Footage()

    def site(self) -> Site:
        """Return the site. Raises InvalidFile with all errors."""
        top = self._check.valid((), _SiteFile, self._value)
        cameras: dict[str, SiteCamera] = {}
        value = self._value if isinstance(self._value, dict) else {}
        locations = self._locations(value.get("locations"))
        for i, raw in enumerate(_as_list(value.get("cameras"))):
            camera = self._camera(("cameras", i), raw, locations)
            if camera is None:
                continue
            bare = camera.uuid[:22]
            if bare in cameras:
                self._refuse(("cameras", i, "uuid"), f"duplicate uuid {bare}")
            cameras[bare] = camera
        if self._check.problems or top is None:
            self._check.refuse_file()
        return Site(
            self._path,
            tuple(top.api_keys),
            tuple({location.uuid: location for location in locations.values()}.values()),
            cameras,
            self._footage,
            top.quota,
            tuple(top.faults),
            top.fault_seed,
        )

    def _locations(self, raw: Any) -> dict[str, SiteLocation]:
        found: dict[str, SiteLocation] = {}
        for i, value in enumerate(_as_list(raw)):
            location = self._check.valid(("locations", i), SiteLocation, value)
            if location is not None:
                found[location.name] = found[location.uuid] = location
        return found

    def _camera(self, path: FieldPath, raw: Any, locations: dict[str, SiteLocation]) -> SiteCamera | None:
        camera = self._check.valid(path, _Camera, raw)
        if camera is None:
            return None
        location = locations.get(camera.location)
        if location is None:
            hint = did_you_mean(camera.location, locations)
            self._refuse((*path, "location"), f"{shown(camera.location)} is not a location of the site{hint}")
            return None
        found: list[tuple[Recording, FieldPath]] = []
        for k, value in enumerate(camera.recordings):
            place = (*path, "recordings", k)
            recording = self._recording(place, value, location.tz)
            if recording is not None:
                found.append((recording, place))
        found.sort(key=lambda pair: pair[0].start_ms)
        for (before, _), (after, place) in pairwise(found):
            if after.start_ms < before.end_ms:
                self._refuse(
                    place, f"starts before the end of the recording that starts at {utc_text(before.start_ms)}"
                )
        return SiteCamera(
            camera.uuid, camera.name, location.name, location.uuid, location.tz, tuple(r for r, _ in found)
        )

    def _recording(self, path: FieldPath, raw: Any, zone: str) -> Recording | None:
        kinds = [kind for key, kind in _KINDS.items() if isinstance(raw, dict) and key in raw]
        if len(kinds) != 1:
            self._refuse(path, "expected a recording with either path (a video file) or scene: demo")
            return None
        value = self._check.valid(path, kinds[0], raw)
        if value is None:
            return None
        if value.start.now:
            self._refuse((*path, "start"), "expected a date or time, got now")
            return None
        start_ms = moment_ms(value.start, zone)
        if isinstance(value, _Scene):
            return Recording(start_ms, Fraction(value.duration))
        assert isinstance(value, _Video)
        file = (self._path.parent / value.path).absolute()
        if not file.is_file():
            self._refuse((*path, "path"), f"no such file: {file}")
            return None
        try:
            index = self._footage.index(file)
        except UnreadableVideo as error:
            self._refuse((*path, "path"), str(error))
            return None
        return Recording(start_ms, index.duration_ms, file, value.repeat)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def offset_ms(zone: str, utc_ms: int) -> int:
    """Return the zone's offset from UTC at a time, in milliseconds."""
    moment = dt.datetime.fromtimestamp(utc_ms // 1000, zoneinfo.ZoneInfo(zone))
    return round((moment.utcoffset() or dt.timedelta()) / dt.timedelta(milliseconds=1))
