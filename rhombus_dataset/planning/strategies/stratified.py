"""``stratified``: a number of times, spread evenly over strata such as camera and local hour of the day."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rhombus_dataset.planning.lock import LockedStratified
from rhombus_dataset.planning.strategies.draw import draw
from rhombus_dataset.planning.strategies.sampled_times import CameraWindows, SampledTimes


def sample(
    strategy: LockedStratified, seed: int, windows: list[CameraWindows], missing: list[npt.NDArray[np.int64]] | None
) -> SampledTimes:
    """Return the times, or with ``missing`` those that replace them.

    What a stratum lacks is taken from the others, and is reported as a shortfall."""
    return draw(
        windows,
        seed=seed,
        purpose="stratified",
        strata=strategy.strata,
        count=strategy.count,
        gap_ms=strategy.min_gap_ms,
        version=strategy.version,
        missing=missing,
    )
