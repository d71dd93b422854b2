"""``timestamps``: the moments of a file, which the lock holds."""

from __future__ import annotations

import numpy as np

from rhombus_dataset.lock import Lock
from rhombus_dataset.sampler.moments import Moments, Open
from rhombus_dataset.splits import embargoed


def choose(lock: Lock, open_: list[Open]) -> Moments:
    """All of the file's moments but those in an embargo. The windows have been applied already."""
    assert lock.times is not None
    camera, timestamp_ms = lock.times.camera, lock.times.timestamp_ms
    near = embargoed(timestamp_ms, lock.splits, lock.seed)
    if not (count := int(np.count_nonzero(near))):
        return Moments(camera, timestamp_ms)
    note = f"{count} times of the file lie in an embargo between splits: left out"
    return Moments(camera[~near], timestamp_ms[~near], notes=(note,))
