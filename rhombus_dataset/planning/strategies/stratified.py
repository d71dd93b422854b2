"""``stratified``: a number of moments, spread evenly over camera and local hour of the day."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rhombus_dataset.planning.lock import LockedStratified
from rhombus_dataset.planning.strategies.cells import draw
from rhombus_dataset.planning.strategies.sampled_times import CameraWindows, SampledTimes


def sample(
    strategy: LockedStratified, seed: int, windows: list[CameraWindows], missing: list[npt.NDArray[np.int64]] | None
) -> SampledTimes:
    """What a stratum lacks goes to the others, and is reported as a shortfall."""
    return draw(
        windows,
        seed=seed,
        purpose="stratified",
        strata=strategy.strata,
        count=strategy.count,
        gap_ms=strategy.min_gap_ms,
        missing=missing,
    )
