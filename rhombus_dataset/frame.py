"""A frame: what is asked for, what becomes of it, and what is measured on it."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

from rhombus_dataset.geometry import Geometry


class Status(enum.StrEnum):
    """What became of a planned frame. Every manifest row has exactly one."""

    OK = "ok"
    MISSING = "missing"
    """There is no such frame: the source said so."""
    FAILED = "failed"
    """The tries are used up, or the request was refused for good."""
    CORRUPT = "corrupt"
    """What came back is not a whole image."""
    ERASED = "erased"
    """Removed from the dataset on request."""


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """One frame to ask for.

    ``camera_uuid`` carries its facet (``….v0``); ``timestamp_ms`` is UTC epoch milliseconds.
    """

    camera_uuid: str
    timestamp_ms: int
    geometry: Geometry


def frame_id(camera_uuid: str, timestamp_ms: int, geometry: Geometry) -> str:
    """20 hex digits that name a frame in every dataset that holds it.

    The start of SHA-256 over camera, time and geometry: the name of the view, of the camera and of the
    dataset may change without changing it.
    """
    g = geometry
    text = f"{camera_uuid} {timestamp_ms} {g.downscale} {g.crop_x} {g.crop_y} {g.crop_width} {g.crop_height}"
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:20]


@dataclass(frozen=True, slots=True)
class Measures:
    """What is measured on the stored bytes of an image.

    Taken in grey, decoded at the strongest JPEG scale that leaves the shorter side at 256
    pixels or more (unscaled where the image is smaller).

    ``width_px``, ``height_px``: the size of the stored image. ``luma``: mean grey value, 0 to
    255. ``sharpness``: variance of the Laplacian, 0 for a flat image. ``dhash``: 64-bit difference
    hash as 16 hex digits, row-major, a bit is 1 where the left neighbour is darker.
    """

    width_px: int
    height_px: int
    luma: float
    sharpness: float
    dhash: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one planned frame.

    ``image`` (the encoded bytes that are stored), ``mime_type``, ``sha256`` (hex, of ``image``) and
    ``measures`` stand exactly when ``status`` is ``ok``; ``reason`` stands when it is not.
    ``warning`` is the source's caveat on a frame that did come.
    """

    status: Status
    reason: str | None = None
    warning: str | None = None
    image: bytes | None = None
    mime_type: str | None = None
    sha256: str | None = None
    measures: Measures | None = None
