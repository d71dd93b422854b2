"""``burst``: groups of times at a fixed spacing."""

from __future__ import annotations

import dataclasses

import numpy as np

from rhombus_dataset.errors import UsageError
from rhombus_dataset.planning.lock import LockedBurst
from rhombus_dataset.planning.strategies.draw import draw
from rhombus_dataset.planning.strategies.sampled_times import MAX_FRAMES, CameraWindows, SampledTimes


def sample(strategy: LockedBurst, seed: int, windows: list[CameraWindows]) -> SampledTimes:
    """Return first times as ``random`` draws them, each followed by the rest of its burst.

    A whole burst lies in one interval of a window, and its split is that of its first frame. Raises UsageError for
    too many frames.
    """
    count, spacing = strategy.frames_per_burst, strategy.spacing_ms
    span = (count - 1) * spacing
    fitting = [
        dataclasses.replace(
            camera,
            intervals=tuple((a, b - span) for a, b in camera.intervals if b - span > a),
        )
        for camera in windows
    ]
    first = draw(
        fitting,
        seed=seed,
        purpose="burst",
        strata=["camera"],
        count=strategy.count,
        gap_ms=span + max(1, strategy.min_gap_ms),
        version=strategy.version,
    )
    if (frames := len(first.timestamp_ms) * count) > MAX_FRAMES:
        raise UsageError(f"the plan asks for {frames:,} frames, expected at most {MAX_FRAMES:,}")
    steps = np.arange(count, dtype=np.int64) * spacing
    return SampledTimes(
        camera=np.repeat(first.camera, count),
        timestamp_ms=(first.timestamp_ms[:, None] + steps).ravel(),
        group_size=count,
        shortfalls=first.shortfalls,
    )
