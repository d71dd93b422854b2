"""``timestamps``: the moments of a file, which the lock holds."""

from __future__ import annotations

import numpy as np

from rhombus_dataset.planning.lock import Lock
from rhombus_dataset.planning.splits import embargoed
from rhombus_dataset.planning.strategies.sampled_times import CameraWindows, SampledTimes


def sample(lock: Lock, open_: list[CameraWindows]) -> SampledTimes:
    """All of the file's moments but those in an embargo. The windows have been applied already."""
    assert lock.times is not None
    camera, timestamp_ms = lock.times.camera, lock.times.timestamp_ms
    near = embargoed(timestamp_ms, lock.splits, lock.seed)
    if not (count := int(np.count_nonzero(near))):
        return SampledTimes(camera, timestamp_ms)
    note = f"{count} times of the file lie in an embargo between splits: left out"
    return SampledTimes(camera[~near], timestamp_ms[~near], notes=(note,))
