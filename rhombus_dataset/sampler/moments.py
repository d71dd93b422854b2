"""What every strategy is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rhombus_dataset.local_time import Intervals, Offsets
from rhombus_dataset.schedule import Shortfall


@dataclass(frozen=True, slots=True)
class Open:
    """A camera, and when frames of it may be asked for: windows less embargoes."""

    uuid: str
    name: str
    offsets: Offsets
    intervals: Intervals


@dataclass(frozen=True, slots=True)
class Moments:
    """The chosen moments, in any order, each once.

    ``camera`` (int32) is an index of the lock's cameras; ``timestamp_ms`` (int64) is UTC. ``decides_ms``,
    where it stands, is the time by which a moment's split is decided instead of its own.
    """

    camera: npt.NDArray[np.int32]
    timestamp_ms: npt.NDArray[np.int64]
    decides_ms: npt.NDArray[np.int64] | None = None
    shortfalls: tuple[Shortfall, ...] = ()
    notes: tuple[str, ...] = ()


def of_cameras(chosen: list[npt.NDArray[np.int64]]) -> Moments:
    """The moments of each camera, joined."""
    return Moments(
        np.repeat(np.arange(len(chosen), dtype=np.int32), [len(times) for times in chosen]),
        np.concatenate(chosen) if chosen else np.empty(0, np.int64),
    )
