"""The lock: the plan with everything looked up. From here on, all is a pure function."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rhombus_dataset.geometry import Geometry, Polygon


@dataclass(frozen=True, slots=True)
class LockedCamera:
    uuid: str
    name: str
    location: str | None
    timezone: str
    views: tuple[str, ...]
    masks: tuple[Polygon, ...]


@dataclass(frozen=True, slots=True)
class LockedZone:
    """A time zone over the plan's windows, frozen, so that a later tzdata changes nothing.

    ``offsets``: (from utc_ms, offset_ms) ascending, the first at or before the first window.
    ``windows``: merged, ascending, disjoint [start_ms, end_ms) in UTC.
    """

    offsets: tuple[tuple[int, int], ...]
    windows: tuple[tuple[int, int], ...]
