"""``interval``: a frame every so often, anchored at the camera's local midnight."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.errors import UsageError
from rhombus_dataset.hashing import hash_key, hashes
from rhombus_dataset.local_time import local_midnights
from rhombus_dataset.lock import Lock, inside
from rhombus_dataset.sampler.moments import Moments, Open, of_cameras

MAX_PER_CAMERA: Final = 100_000_000


def choose(lock: Lock, open_: list[Open]) -> Moments:
    """The moments of every camera."""
    every, jitter = lock.sampling["every"], lock.sampling["jitter"]
    return of_cameras([_of_camera(camera, every, jitter, lock.seed) for camera in open_])


def _of_camera(camera: Open, every: int, jitter: int, seed: int) -> npt.NDArray[np.int64]:
    """Each local day counts anew from its midnight, in elapsed time, so a window's start moves nothing.

    With jitter, a moment is up to ``jitter`` later, and never as late as the next or as midnight.
    """
    if not camera.intervals:
        return np.empty(0, np.int64)
    start, end = camera.intervals[0][0], camera.intervals[-1][1]
    if (end - start) // every > MAX_PER_CAMERA:
        raise UsageError(
            f"sampling.every: a frame every {every} ms over these windows is more than "
            f"{MAX_PER_CAMERA} of one camera: choose a longer interval"
        )
    parts: list[npt.NDArray[np.int64]] = []
    key = hash_key(seed, "interval", camera.uuid)
    for midnight, following in pairwise(local_midnights(camera.offsets, start, end)):
        times = np.arange(midnight, following, every, dtype=np.int64)
        if jitter:
            room = np.minimum(jitter, np.minimum(every, following - times)).astype(np.uint64)
            times = times + (hashes(key, times) % room).astype(np.int64)
        times = times[inside(times, camera.intervals)]
        if len(times):
            parts.append(times)
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
