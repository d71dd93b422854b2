"""``interval``: times at a fixed interval, counted from the camera's local midnight."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rhombus_dataset.errors import UsageError
from rhombus_dataset.hashing import hash_key, hashes
from rhombus_dataset.plan.local_time import local_midnights
from rhombus_dataset.planning.lock import LockedInterval
from rhombus_dataset.planning.strategies.sampled_times import MAX_FRAMES, CameraWindows, SampledTimes, of_cameras


def sample(strategy: LockedInterval, seed: int, windows: list[CameraWindows]) -> SampledTimes:
    """Return the times of every camera. Raises UsageError for an interval that gives too many frames."""
    every, jitter = strategy.every_ms, strategy.jitter_ms
    expected = sum((b - a) // every for camera in windows for a, b in camera.intervals)
    if expected > MAX_FRAMES:
        raise UsageError(
            f"sampling.every: a frame every {every} ms over these windows gives {expected:,} frames, "
            f"expected at most {MAX_FRAMES:,}: choose a longer interval"
        )
    return of_cameras([_of_camera(camera, every, jitter, seed) for camera in windows])


def _of_camera(camera: CameraWindows, every: int, jitter: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the times of one camera. Shape (N,), int64, UTC ms.

    Each local day counts from its midnight in elapsed time, so the start of a window has no influence. With
    ``jitter`` (ms), a time is up to ``jitter`` later, but before the next time and before midnight.
    """
    parts: list[npt.NDArray[np.int64]] = []
    key = hash_key(seed, "interval", camera.uuid)
    for start, end in camera.intervals:
        for midnight, following in pairwise(local_midnights(camera.offsets, start, end)):
            # The first time that jitter could move into the interval.
            skipped = max(0, -((midnight - (start - jitter)) // every))
            times = np.arange(midnight + skipped * every, min(following, end), every, dtype=np.int64)
            if jitter:
                room = np.minimum(jitter, np.minimum(every, following - times)).astype(np.uint64)
                times = times + (hashes(key, times) % room).astype(np.int64)
                times = times[(times >= start) & (times < end)]
            if len(times):
                parts.append(times)
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
