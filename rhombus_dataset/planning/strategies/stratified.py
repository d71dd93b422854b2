"""``stratified``: a number of moments, spread evenly over camera and local hour of the day."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rhombus_dataset.planning.lock import Lock
from rhombus_dataset.planning.strategies.cells import draw
from rhombus_dataset.planning.strategies.sampled_times import CameraWindows, SampledTimes


def sample(
    lock: Lock, open_: list[CameraWindows], missing: list[npt.NDArray[np.int64]] | None = None
) -> SampledTimes:
    """What a stratum lacks goes to the others, and is reported as a shortfall."""
    return draw(
        open_,
        seed=lock.seed,
        purpose="stratified",
        strata=lock.sampling["strata"],
        total=lock.sampling["frames"],
        per_camera=lock.sampling["frames_per_camera"],
        gap_ms=lock.sampling["min_gap"],
        missing=missing,
    )
