"""The argument and the result of every strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.plan.local_time import Intervals, Offsets
from rhombus_dataset.planning.lock import Shortfall

MAX_FRAMES: Final = 200_000_000
"""Maximum number of frames of a dataset: at 50 bytes each, the schedule takes 10 GB of memory."""


@dataclass(frozen=True, slots=True)
class CameraWindows:
    """A camera, and when frames of it may be requested: ``intervals`` are its windows without embargoes."""

    uuid: str
    name: str
    offsets: Offsets
    intervals: Intervals


@dataclass(frozen=True, slots=True)
class SampledTimes:
    """The sampled times, in any order, each once.

    ``camera`` (int32) is an index of the lock's cameras; ``timestamp_ms`` (int64) is UTC. Each ``group_size``
    consecutive times are in one split, which the first of them decides.
    """

    camera: npt.NDArray[np.int32]
    timestamp_ms: npt.NDArray[np.int64]
    group_size: int = 1
    shortfalls: tuple[Shortfall, ...] = ()
    notes: tuple[str, ...] = ()


def of_cameras(chosen: Sequence[npt.NDArray[np.int64]]) -> SampledTimes:
    """Return the times (UTC ms) of all cameras, given one array for each camera."""
    return SampledTimes(
        np.repeat(np.arange(len(chosen), dtype=np.int32), [len(times) for times in chosen]),
        np.concatenate(chosen) if chosen else np.empty(0, np.int64),
    )
