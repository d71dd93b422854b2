"""``scout``: the moments that were chosen from a scout pass, which the lock holds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from rhombus_dataset.plan.local_time import local_hours, local_weekdays
from rhombus_dataset.planning.lock import Lock
from rhombus_dataset.planning.schedule import Shortfall
from rhombus_dataset.planning.strategies.sampled_times import CameraWindows, SampledTimes


def sample(
    lock: Lock, open_: list[CameraWindows], missing: list[npt.NDArray[np.int64]] | None = None
) -> SampledTimes:
    """Those that were chosen. Nothing was chosen from an embargo.

    With ``missing``, spare ones in their place, in the order of choosing: from the same camera, hour and day of the
    week as far as there are any, and as far as they are strata; then others.
    """
    assert lock.times is not None
    assert lock.times.rank is not None
    assert lock.scout is not None
    if missing is not None:
        return _spare(lock, open_, missing)
    chosen = lock.times.rank < lock.scout["chosen"]
    return SampledTimes(
        lock.times.camera[chosen],
        lock.times.timestamp_ms[chosen],
        shortfalls=tuple(Shortfall(**shortfall) for shortfall in lock.scout["shortfalls"]),
        notes=tuple(lock.scout["notes"]),
    )


def _spare(lock: Lock, open_: list[CameraWindows], missing: list[npt.NDArray[np.int64]]) -> SampledTimes:
    times = lock.times
    assert times is not None
    assert times.rank is not None
    assert lock.scout is not None
    strata, per_camera = lock.sampling["strata"], lock.sampling["frames_per_camera"] is not None

    def keys(camera: int, of_camera: npt.NDArray[np.int64]) -> list[tuple[int, int, int]]:
        hours, days = (f(of_camera, open_[camera].offsets).tolist() for f in (local_hours, local_weekdays))
        return [
            (
                camera if per_camera or "camera" in strata else -1,
                hour if "hour" in strata else -1,
                day if "weekday" in strata else -1,
            )
            for hour, day in zip(hours, days, strict=True)
        ]

    lost = Counter(key for camera, of_camera in enumerate(missing) for key in keys(camera, of_camera))
    spare = np.flatnonzero(times.rank >= lock.scout["chosen"])
    spare = spare[np.argsort(times.rank[spare])]
    key_of = {
        int(row): key for row in spare for key in keys(int(times.camera[row]), times.timestamp_ms[row : row + 1])
    }
    taken = _take(key_of, lost)
    # What the stratum itself has no more of, others give: of the same camera, if each has a count of its own.
    left: Counter[tuple[int, int, int]] = Counter()
    for key, count in lost.items():
        left[key[0] if per_camera else -1, -1, -1] += count
    others = {r: (key[0] if per_camera else -1, -1, -1) for r, key in key_of.items() if r not in set(taken)}
    taken += _take(others, left)
    rows = np.array(sorted(taken), np.int64)
    return SampledTimes(times.camera[rows], times.timestamp_ms[rows])


def _take(key_of: dict[int, tuple[int, int, int]], wanted: Counter[tuple[int, int, int]]) -> list[int]:
    """The first rows of each key, as many as are ``wanted``, of which they are taken off."""
    taken = []
    for row, key in key_of.items():
        if wanted[key] > 0:
            wanted[key] -= 1
            taken.append(row)
    return taken
