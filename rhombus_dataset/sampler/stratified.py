"""``stratified``: a number of moments, spread evenly over camera and local hour of the day."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rhombus_dataset.lock import Lock
from rhombus_dataset.sampler.cells import draw
from rhombus_dataset.sampler.moments import Moments, Open


def choose(lock: Lock, open_: list[Open], missing: list[npt.NDArray[np.int64]] | None = None) -> Moments:
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
