"""``random``: a number of moments, uniformly over the windows of each camera."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rhombus_dataset.planning.lock import Lock
from rhombus_dataset.planning.strategies.cells import draw
from rhombus_dataset.planning.strategies.sampled_times import CameraWindows, SampledTimes


def sample(
    lock: Lock, open_: list[CameraWindows], missing: list[npt.NDArray[np.int64]] | None = None
) -> SampledTimes:
    """With a total, the cameras take turns, so each has as many as any other that is not used up."""
    return draw(
        open_,
        seed=lock.seed,
        purpose="random",
        strata=["camera"],
        total=lock.sampling["frames"],
        per_camera=lock.sampling["frames_per_camera"],
        gap_ms=lock.sampling["min_gap"],
        missing=missing,
    )
