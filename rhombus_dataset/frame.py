"""A frame: its request, its outcome and the measures of its image."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

from rhombus_dataset.geometry import Geometry


class Status(enum.StrEnum):
    """The status of a planned frame. Every manifest row has exactly one."""

    OK = "ok"
    MISSING = "missing"
    """The frame does not exist, according to the source."""
    FAILED = "failed"
    """All attempts failed, or the request was refused permanently."""
    CORRUPT = "corrupt"
    """The received data is not a complete image."""
    ERASED = "erased"
    """Removed from the dataset on request."""


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """A request for one frame.

    ``camera_uuid`` includes the facet (``….v0``). ``timestamp_ms``: UTC epoch milliseconds.
    """

    camera_uuid: str
    timestamp_ms: int
    geometry: Geometry


def frame_id(camera_uuid: str, timestamp_ms: int, geometry: Geometry) -> str:
    """Return the id of a frame: 20 hex digits, the same in every dataset.

    It is the start of the SHA-256 of camera, time and geometry. It does not depend on the names of the view, the
    camera and the dataset.
    """
    g = geometry
    text = f"{camera_uuid} {timestamp_ms} {g.downscale} {g.crop_x} {g.crop_y} {g.crop_width} {g.crop_height}"
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:20]


@dataclass(frozen=True, slots=True)
class Measures:
    """Measures of a stored image.

    They are taken in grey, at the smallest JPEG scale at which the shorter side has at least 256 pixels (full size
    for smaller images).

    ``width_px``, ``height_px``: size of the stored image. ``luma``: mean grey value, 0 to 255. ``sharpness``:
    variance of the Laplacian, 0 for a uniform image. ``dhash``: 64-bit difference hash as 16 hex digits, row by
    row; a bit is 1 where the left one of two neighbours is darker.
    """

    width_px: int
    height_px: int
    luma: float
    sharpness: float
    dhash: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one planned frame.

    ``image`` (the encoded bytes that are stored), ``mime_type``, ``sha256`` (hex, of ``image``) and ``measures``
    are set if ``status`` is ``ok``, else ``reason`` is set. ``warning``: the source's warning about a received
    frame.
    """

    status: Status
    reason: str | None = None
    warning: str | None = None
    image: bytes | None = None
    mime_type: str | None = None
    sha256: str | None = None
    measures: Measures | None = None
