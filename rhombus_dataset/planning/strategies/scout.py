"""``scout``: the times that were chosen from a scout pass, which the lock holds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from rhombus_dataset.plan.local_time import local_hours, local_weekdays
from rhombus_dataset.planning.lock import LockedScout
from rhombus_dataset.planning.strategies.sampled_times import CameraWindows, SampledTimes


def sample(
    strategy: LockedScout, windows: list[CameraWindows], missing: list[npt.NDArray[np.int64]] | None
) -> SampledTimes:
    """Return the chosen times. None of them is in an embargo.

    With ``missing``: spare times in their place, in the order of selection. They are of the same camera, hour and
    day of the week as far as these are strata and have spare times; then of others.
    """
    if missing is not None:
        return _spare(strategy, windows, missing)
    result = strategy.result
    chosen = result.times.rank < result.chosen
    return SampledTimes(
        result.times.camera[chosen],
        result.times.timestamp_ms[chosen],
        shortfalls=result.shortfalls,
        notes=result.notes,
    )


def _spare(
    strategy: LockedScout, windows: list[CameraWindows], missing: list[npt.NDArray[np.int64]]
) -> SampledTimes:
    times = strategy.result.times
    strata, per_camera = strategy.settings.strata, strategy.settings.count.per_camera

    def keys(camera: int, of_camera: npt.NDArray[np.int64]) -> list[tuple[int, int, int]]:
        hours, days = (f(of_camera, windows[camera].offsets).tolist() for f in (local_hours, local_weekdays))
        return [
            (
                camera if per_camera or "camera" in strata else -1,
                hour if "hour" in strata else -1,
                day if "weekday" in strata else -1,
            )
            for hour, day in zip(hours, days, strict=True)
        ]

    missing_keys = Counter(key for camera, of_camera in enumerate(missing) for key in keys(camera, of_camera))
    spare = np.flatnonzero(times.rank >= strategy.result.chosen)
    spare = spare[np.argsort(times.rank[spare])]
    key_of = {
        int(row): key for row in spare for key in keys(int(times.camera[row]), times.timestamp_ms[row : row + 1])
    }
    taken = _take(key_of, missing_keys)
    # Other strata replace what is left: of the same camera if each camera has a count of its own.
    left: Counter[tuple[int, int, int]] = Counter()
    for key, count in missing_keys.items():
        left[key[0] if per_camera else -1, -1, -1] += count
    others = {r: (key[0] if per_camera else -1, -1, -1) for r, key in key_of.items() if r not in set(taken)}
    taken += _take(others, left)
    rows = np.array(sorted(taken), np.int64)
    return SampledTimes(times.camera[rows], times.timestamp_ms[rows])


def _take(key_of: dict[int, tuple[int, int, int]], wanted: Counter[tuple[int, int, int]]) -> list[int]:
    """Return the first rows of each key, as many as are ``wanted``, and subtract them from ``wanted``."""
    taken = []
    for row, key in key_of.items():
        if wanted[key] > 0:
            wanted[key] -= 1
            taken.append(row)
    return taken
