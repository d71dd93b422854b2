"""``timestamps``: the moments of a file, which the lock holds."""

from __future__ import annotations

import numpy as np

from rhombus_dataset.lock import Lock, inside
from rhombus_dataset.local_time import merged
from rhombus_dataset.sampler.moments import Moments, Open
from rhombus_dataset.splits import without_embargo


def choose(lock: Lock, open_: list[Open]) -> Moments:
    """All of the file's moments but those in an embargo."""
    assert lock.times is not None
    camera, timestamp_ms = lock.times.camera, lock.times.timestamp_ms
    if len(timestamp_ms) == 0:
        return Moments(camera, timestamp_ms)
    # The windows have been applied already, and there may be none.
    whole = merged([(int(timestamp_ms.min()), int(timestamp_ms.max()) + 1)])
    kept = inside(timestamp_ms, without_embargo(whole, lock.splits, lock.seed))
    embargoed = int(np.count_nonzero(~kept))
    notes = (f"{embargoed} times of the file lie in an embargo between splits: left out",)
    return Moments(camera[kept], timestamp_ms[kept], notes=notes if embargoed else ())
