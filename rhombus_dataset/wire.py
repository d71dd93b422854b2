"""The contract of the API: paths, request bodies, and the meaning of responses.

The HTTP source and the server both use it, and share nothing else.
"""

from __future__ import annotations

import contextlib
import email.utils
import itertools
import re
from dataclasses import dataclass
from typing import Any, Final

import orjson
import pybase64

from rhombus_dataset.frame import FrameRequest

EXACT_FRAME_PATH: Final = "/api/video/getExactFrameData"
CAMERAS_PATH: Final = "/api/camera/getMinimalCameraStateList"
LOCATIONS_PATH: Final = "/api/location/getLocations"
PRESENCE_PATH: Final = "/api/camera/getPresenceWindows"
CONFIG_PATH: Final = "/api/camera/getConfig"

UUID_PATTERN: Final = r"^[A-Za-z0-9_-]{22}(\.[va][0-9]{1,2})?$"
_UUID = re.compile(r"[A-Za-z0-9_-]{22}(\.[va]([0-9]{1,2}))?")

AUTH_SCHEMES: Final = ("api-token", "partner-api-token", "api", "partner-api")

AVAILABLE: Final = "AVAILABLE"
PERMANENT_STATUSES: Final = frozenset(
    {
        "FUTURE_TIMESTAMP",
        "CAMERA_DELETED",
        "NOT_RECORDING_AT_TIMESTAMP",
        "NO_FOOTAGE_AT_TIMESTAMP",
    }
)
CAMERA_DOWN_STATUSES: Final = frozenset(
    {
        "CAMERA_STATE_UNAVAILABLE",
        "CAMERA_NOT_CONNECTED",
        "MEDIA_STORAGE_DEVICE_NOT_CONNECTED",
        "MEDIA_ADDRESS_UNAVAILABLE",
    }
)
TRANSIENT_STATUSES: Final = CAMERA_DOWN_STATUSES | {"FRAME_RETRIEVAL_FAILED"}

MAX_ATTEMPTS_WITHOUT_STATUS: Final = 3
"""Maximum attempts after an error without a status: it may mean that there is no footage."""
REASON_LENGTH: Final = 200
"""Maximum characters of a text of the API in a manifest, a log or a message."""
EXCERPT_LENGTH: Final = 80
"""Maximum characters of a body that is not JSON in a reason: enough to recognise an HTML page."""
MAX_RETRY_AFTER_S: Final = 86_400.0
"""Maximum seconds of a Retry-After. It bounds arithmetic only: a build ends long before, by its plan's max_wait."""
MIN_SECRET_PIECE: Final = 8
"""Characters of the API key that may not appear in a row anywhere: fewer are too common to be a part of the key."""
KEY_MARK: Final = "[key]"
"""Replaces the API key, or a piece of it, in a text."""


def canonical_uuid(uuid: str) -> str:
    """Return a camera UUID with its video facet, which is ``.v0`` if there is none.

    Raises ValueError if the text is not the UUID of a video stream.
    """
    match = _UUID.fullmatch(uuid)
    if match is None:
        raise ValueError(
            f"{uuid!r} is not a camera UUID: expected 22 characters of A-Z a-z 0-9 _ -, "
            "optionally with a facet such as .v0"
        )
    facet = match.group(1)
    if facet is None:
        return f"{uuid}.v0"
    if facet[1] == "a":
        raise ValueError(f"{uuid!r} names an audio stream; frames come from a video facet (.v0)")
    number = int(match.group(2))
    if number > 51:
        raise ValueError(f"{uuid!r} names facet {facet}; video facets run from .v0 to .v51")
    return f"{uuid[:22]}.v{number}"


def request_body(request: FrameRequest) -> bytes:
    """Return the JSON body of a request. Fields with their default value are left out."""
    geometry = request.geometry
    body: dict[str, str | int] = {
        "cameraUuid": request.camera_uuid,
        "timestampMs": request.timestamp_ms,
    }
    if geometry.downscale != 1:
        body["downscaleFactor"] = geometry.downscale
    if geometry.is_cropped:
        body["permyriadCropX"] = geometry.crop_x
        body["permyriadCropY"] = geometry.crop_y
        body["permyriadCropWidth"] = geometry.crop_width
        body["permyriadCropHeight"] = geometry.crop_height
    return orjson.dumps(body)


@dataclass(frozen=True, slots=True)
class Image:
    """A frame: the encoded image, exactly as received, and the API's warning, if any."""

    image: bytes
    mime_type: str
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class NoFrame:
    """The frame does not exist. A retry would get the same answer."""

    reason: str


@dataclass(frozen=True, slots=True)
class Transient:
    """A failure that may be temporary: the request can be retried later.

    ``max_attempts``: a lower maximum than that of the build, if any. ``camera_down``: the cause may be the camera,
    or the connection to it, not this frame.
    """

    reason: str
    max_attempts: int | None = None
    camera_down: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """The API refused the request itself. A retry would get the same answer."""

    reason: str


@dataclass(frozen=True, slots=True)
class Throttled:
    """429: all threads and processes must wait ``retry_after_s`` seconds."""

    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Denied:
    """401 or 403: the key is refused, for all requests or for this camera."""

    http_status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No connection to the host. It says nothing about the frame."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The JSON object of a successful response, as it was sent: no text in it is safe to show or to store."""

    fields: dict[str, Any]


Failure = Transient | Rejected | Throttled | Denied | Unreachable
Reply = Image | NoFrame | Failure


def outside_text(text: str, secret: str = "") -> str:
    """Return a text of a server as one short, printable line, without the API key ``secret``.

    Every text of every reply passes through here before it is used. The key is removed first, with all pieces of 8
    characters or more, and only then the text is cut: a cut through the key would hide it from the search.
    """
    clean = _without_secret(text[: 8 * REASON_LENGTH], secret)
    clean = "".join(c if c.isprintable() else " " for c in clean)
    return " ".join(clean.split())[:REASON_LENGTH]


def _without_secret(text: str, secret: str) -> str:
    size = min(MIN_SECRET_PIECE, len(secret))
    pieces = {secret[i : i + size] for i in range(len(secret) - size + 1)} if size else set()
    if not any(piece in text for piece in pieces):
        return text
    found = [False] * len(text)
    for i in range(len(text) - size + 1):
        if text[i : i + size] in pieces:
            found[i : i + size] = [True] * size
    parts = itertools.groupby(zip(text, found, strict=True), key=lambda pair: pair[1])
    return "".join(KEY_MARK if is_secret else "".join(c for c, _ in part) for is_secret, part in parts)


def parse_reply(
    http_status: int, body: bytes, retry_after: str | None = None, now_s: float = 0.0, secret: str = ""
) -> Reply:
    """Return the meaning of a response of ``getExactFrameData``, for both ways in which it reports errors.

    The arguments are those of :func:`parse_answer`. An image that contains the API key is refused.
    """
    return frame_reply(parse_answer(http_status, body, retry_after, now_s, secret), secret)


def parse_answer(
    http_status: int, body: bytes, retry_after: str | None = None, now_s: float = 0.0, secret: str = ""
) -> Answered | Failure:
    """Return the JSON object of a response of any endpoint, or what the HTTP status says.

    ``retry_after``: the header ``Retry-After``, in seconds or as an HTTP date. ``now_s``: the time in epoch
    seconds, from which such a date is counted. ``secret``: the API key. It is in no reason, whatever the server
    repeats.
    """
    if http_status == 429:
        return Throttled(_retry_after_s(retry_after, now_s))
    if http_status in (401, 403):
        return Denied(http_status, _http_reason(http_status, body, secret))
    if 300 <= http_status < 400:
        return Rejected(f"HTTP {http_status}: the server redirects, and redirects are refused")
    if http_status >= 500 or http_status == 408:
        return Transient(_http_reason(http_status, body, secret), camera_down=True)
    if not 200 <= http_status < 300:
        return Rejected(_http_reason(http_status, body, secret))
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Transient(f"the answer is not JSON: {_excerpt(body, secret)}")
    if not isinstance(fields, dict):
        return Transient(f"the answer is not a JSON object: {_excerpt(body, secret)}")
    return Answered(fields)


def reported_error(fields: dict[str, Any], secret: str) -> str | None:
    """Return the error that a response with status 200 reports, or None."""
    if fields.get("error") is not True:
        return None
    note = _text(fields, "errorMsg", secret) or _text(fields, "responseMessage", secret)
    return note or "error without a message"


def frame_reply(answered: Answered | Failure, secret: str) -> Reply:
    """Return the meaning of the JSON object of a response of ``getExactFrameData``. A failure is returned as it is.

    ``secret``: the API key. It is in no text of the reply; an image that contains it is refused.
    """
    if not isinstance(answered, Answered):
        return answered
    answer = answered.fields
    status = answer.get("status")
    data = answer.get("frameData")
    if status is not None and status != AVAILABLE:
        reason = outside_text(str(status), secret) or "a status without a name"
        if reason in PERMANENT_STATUSES:
            return NoFrame(reason)
        return Transient(reason, camera_down=reason in CAMERA_DOWN_STATUSES)
    if (error := reported_error(answer, secret)) is not None:
        return Transient(error, max_attempts=MAX_ATTEMPTS_WITHOUT_STATUS)
    if data is None:
        if status == AVAILABLE:
            return Transient("status AVAILABLE without frameData")
        note = _text(answer, "errorMsg", secret) or _text(answer, "responseMessage", secret)
        return NoFrame(note or "no frameData")
    if not isinstance(data, str):
        return Transient(f"frameData is not a string but {type(data).__name__}")
    try:
        image = pybase64.b64decode(data, validate=True)
    except ValueError:
        return Transient("frameData is not valid base64")
    if not image:
        return Transient("frameData is empty")
    if secret and secret.encode() in image:
        return Transient("the image contains the API key, and is not stored")
    return Image(
        image,
        _text(answer, "mimeType", secret) or "image/jpeg",
        _text(answer, "warningMsg", secret),
    )


def _text(answer: dict[str, Any], key: str, secret: str) -> str | None:
    value = answer.get(key)
    return outside_text(value, secret) or None if isinstance(value, str) else None


def _http_reason(http_status: int, body: bytes, secret: str) -> str:
    text = ""
    try:
        answer = orjson.loads(body)
        if isinstance(answer, dict):
            text = _text(answer, "errorMsg", secret) or _text(answer, "msg", secret) or ""
    except orjson.JSONDecodeError:
        text = _excerpt(body, secret)
    return f"HTTP {http_status}: {text}" if text else f"HTTP {http_status}"


def _excerpt(body: bytes, secret: str) -> str:
    return outside_text(body[: 8 * REASON_LENGTH].decode("utf-8", "replace"), secret)[:EXCERPT_LENGTH]


def _retry_after_s(value: str | None, now_s: float) -> float:
    seconds = 1.0
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", text, re.ASCII):
        seconds = float(text)
    elif text.isascii() and text.isdecimal():
        seconds = MAX_RETRY_AFTER_S
    elif text:
        with contextlib.suppress(ValueError, OverflowError):
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - now_s
    return min(max(1.0, seconds), MAX_RETRY_AFTER_S)
