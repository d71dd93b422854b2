"""``random``: a number of times, uniformly distributed over the windows of each camera."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rhombus_dataset.planning.lock import LockedRandom
from rhombus_dataset.planning.strategies.draw import draw
from rhombus_dataset.planning.strategies.sampled_times import CameraWindows, SampledTimes


def sample(
    strategy: LockedRandom, seed: int, windows: list[CameraWindows], missing: list[npt.NDArray[np.int64]] | None
) -> SampledTimes:
    """Return the times, or with ``missing`` those that replace them.

    With a total, the cameras take turns, so each gives as many as any other that has times left."""
    return draw(
        windows,
        seed=seed,
        purpose="random",
        strata=["camera"],
        count=strategy.count,
        gap_ms=strategy.min_gap_ms,
        version=strategy.version,
        missing=missing,
    )
