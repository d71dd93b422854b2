"""What every strategy is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.plan.local_time import Intervals, Offsets
from rhombus_dataset.planning.lock import Shortfall

MAX_FRAMES: Final = 200_000_000


@dataclass(frozen=True, slots=True)
class CameraWindows:
    """A camera, and when frames of it may be asked for: windows less embargoes."""

    uuid: str
    name: str
    offsets: Offsets
    intervals: Intervals


@dataclass(frozen=True, slots=True)
class SampledTimes:
    """The chosen moments, in any order, each once.

    ``camera`` (int32) is an index of the lock's cameras; ``timestamp_ms`` (int64) is UTC. Groups of
    ``group_size`` moments that stand side by side belong to one split, which the first of them decides.
    """

    camera: npt.NDArray[np.int32]
    timestamp_ms: npt.NDArray[np.int64]
    group_size: int = 1
    shortfalls: tuple[Shortfall, ...] = ()
    notes: tuple[str, ...] = ()


def of_cameras(chosen: Sequence[npt.NDArray[np.int64]]) -> SampledTimes:
    """The moments of each camera, joined."""
    return SampledTimes(
        np.repeat(np.arange(len(chosen), dtype=np.int32), [len(times) for times in chosen]),
        np.concatenate(chosen) if chosen else np.empty(0, np.int64),
    )
