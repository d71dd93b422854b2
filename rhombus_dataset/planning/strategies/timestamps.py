"""``timestamps``: the times of a file, which the lock holds."""

from __future__ import annotations

import numpy as np

from rhombus_dataset.planning.lock import LockedTimestamps, Splits
from rhombus_dataset.planning.splits import embargoed
from rhombus_dataset.planning.strategies.sampled_times import SampledTimes


def sample(strategy: LockedTimestamps, seed: int, splits: Splits | None) -> SampledTimes:
    """Return all times of the file except those in an embargo. The windows have been applied already."""
    camera, timestamp_ms = strategy.times.camera, strategy.times.timestamp_ms
    near = embargoed(timestamp_ms, splits, seed)
    if not (count := int(np.count_nonzero(near))):
        return SampledTimes(camera, timestamp_ms)
    note = f"{count} times of the file lie in an embargo between splits: left out"
    return SampledTimes(camera[~near], timestamp_ms[~near], notes=(note,))
