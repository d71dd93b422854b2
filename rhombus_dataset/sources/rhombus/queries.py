"""The calls that describe cameras: their list, their locations, and when they have footage.

A reply is not trusted. Only the fields below are read. Their types, numbers and lengths are checked, and every text
passes through ``wire.outside_text``. A wrong reply becomes a ``Rejected`` that names the field. A reply that
reports an error becomes a ``Transient``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo

from rhombus_dataset import wire

MAX_CAMERAS: Final = 10_000
"""Maximum cameras, and locations, of a reply: as many cameras as a plan may have."""
MAX_WINDOWS: Final = 100_000
"""Maximum presence windows of a camera and kind: a month has about 40,000 minutes."""
MAX_TIME_S: Final = 100_000_000_000
"""Maximum of a time in seconds: the year 5138. Milliseconds by mistake are larger."""
MAX_NAME: Final = 100
"""Maximum characters of a name: as in a plan. Longer ones are cut."""

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
_Wrong = wire.Transient | wire.Rejected


@dataclass(frozen=True, slots=True)
class Query(Generic[T]):
    """One call. ``read`` returns the result from the JSON object of a reply, given the API key to remove."""

    path: str
    body: dict[str, str | int]
    read: Callable[[wire.Answered, str], T | wire.Transient | wire.Rejected]

    @property
    def content(self) -> bytes:
        """The body of the request."""
        return json.dumps(self.body).encode()


def _name(value: Any, info: ValidationInfo) -> Any:
    """Return a text of the server as one short printable line without the key. Other types are left to pydantic."""
    return wire.outside_text(value, str(info.context))[:MAX_NAME].strip() if isinstance(value, str) else value


def _uuid(value: Any, info: ValidationInfo) -> Any:
    """Return a camera's UUID, without the facet if it is ``.v0``."""
    if not isinstance(value, str):
        return value
    return wire.canonical_uuid(wire.outside_text(value, str(info.context))[:MAX_NAME]).removesuffix(".v0")


Name = Annotated[str, BeforeValidator(_name)]


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class CameraState(_Reply):
    """A camera of ``cameraStates``. ``mummified``: the cloud keeps it, but it was removed."""

    uuid: Annotated[str, BeforeValidator(_uuid)]
    name: Name | None = None
    locationUuid: Name | None = None  # noqa: N815
    connectionStatus: Name | None = None  # noqa: N815
    mummified: bool | None = None


class Location(_Reply):
    """A location of ``locations``. ``tz``: IANA time zone, as the server writes it."""

    uuid: Name
    name: Name | None = None
    tz: Name | None = None


class _Cameras(_Reply):
    cameraStates: Annotated[tuple[CameraState, ...], Field(max_length=MAX_CAMERAS, strict=False)]  # noqa: N815


class _Locations(_Reply):
    locations: Annotated[tuple[Location, ...], Field(max_length=MAX_CAMERAS, strict=False)]


class _Window(_Reply):
    startSeconds: Annotated[float, Field(ge=0, le=MAX_TIME_S)]  # noqa: N815
    durationSeconds: Annotated[float, Field(ge=-MAX_TIME_S, le=MAX_TIME_S)]  # noqa: N815


_Windows = Annotated[tuple[_Window, ...], Field(max_length=MAX_WINDOWS, strict=False)]


class _Kinds(_Reply):
    """Footage in the cloud, and footage on the camera. A kind that is left out has none."""

    VideoCloud: _Windows | None = None
    VideoLocal: _Windows | None = None


class _Presence(_Reply):
    presenceWindows: _Kinds  # noqa: N815


def _read_cameras(answered: wire.Answered, secret: str) -> tuple[CameraState, ...] | _Wrong:
    found = _valid(_Cameras, answered, secret)
    if isinstance(found, _Wrong):
        return found
    seen: set[str] = set()
    for i, camera in enumerate(found.cameraStates):
        if camera.uuid in seen:
            return wire.Rejected(f"cameraStates[{i}].uuid: an earlier camera has the same UUID {camera.uuid}")
        seen.add(camera.uuid)
    return found.cameraStates


def _read_locations(answered: wire.Answered, secret: str) -> tuple[Location, ...] | _Wrong:
    found = _valid(_Locations, answered, secret)
    return found if isinstance(found, _Wrong) else found.locations


def _read_presence(answered: wire.Answered, secret: str) -> list[tuple[int, int]] | _Wrong:
    found = _valid(_Presence, answered, secret)
    if isinstance(found, _Wrong):
        return found
    windows = (*(found.presenceWindows.VideoCloud or ()), *(found.presenceWindows.VideoLocal or ()))
    return [
        (round(window.startSeconds * 1000), round((window.startSeconds + window.durationSeconds) * 1000))
        for window in windows
        if window.durationSeconds > 0
    ]


CAMERAS: Final = Query(wire.CAMERAS_PATH, {}, _read_cameras)
"""All cameras of the organisation."""
LOCATIONS: Final = Query(wire.LOCATIONS_PATH, {}, _read_locations)
"""All locations of the organisation. Only they have the time zones."""


def presence(camera_uuid: str, end_s: int) -> Query[list[tuple[int, int]]]:
    """Return the query for all footage of a camera until ``end_s`` (UTC epoch seconds).

    Its result: start and end of each span with footage, in UTC epoch milliseconds, in the server's order. Spans may
    overlap.
    """
    body: dict[str, str | int] = {"cameraUuid": camera_uuid[:22], "startTimeSec": 0, "durationSec": end_s}
    return Query(wire.PRESENCE_PATH, body, _read_presence)


def _valid(kind: type[M], answered: wire.Answered, secret: str) -> M | _Wrong:
    """Return the fields of a reply as a model, or the first error in them, with its field."""
    if (reported := wire.reported_error(answered.fields, secret)) is not None:
        return wire.Transient(reported)
    try:
        return kind.model_validate(answered.fields, context=secret)
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
    field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in details["loc"]).lstrip(".")
    match details["type"]:
        case "missing":
            problem = "is missing"
        case "too_long":
            problem = f"expected at most {details['ctx']['max_length']:,} items, got more"
        case "value_error":
            problem = str(details["ctx"]["error"])
        case "model_type":
            problem = f"expected an object, got {_kind_of(details['input'])}"
        case _:
            expected = details["msg"].removeprefix("Input should be ").removeprefix("a valid ")
            problem = f"expected {_WORDS.get(expected, expected)}, got {_kind_of(details['input'])}"
    return wire.Rejected(wire.outside_text(f"{field}: {problem}", secret))


_WORDS: Final = {
    "string": "text",
    "tuple": "a list",
    "boolean": "true or false",
    "number": "a number",
}


def _kind_of(value: Any) -> str:
    """Return the type of a JSON value in words. The value itself may contain the key, escaped."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return f"{value:g}"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"
