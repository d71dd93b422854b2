"""The strata of a scout pass: which parts of the footage get their share of the selection."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.plan.local_time import local_hours, local_weekdays
from rhombus_dataset.planning.lock import LockedCamera, Shortfall
from rhombus_dataset.scout.frames import ScoutFrames
from rhombus_dataset.scout.selection import QUIET, Candidates

NIGHT_APART: Final = 30
"""Minimum difference of the mean luma of day and night, in grey levels (0 to 255). Below it, there is one class."""
NIGHT_LUMA: Final = 60
"""Grey level below which that one class is night."""
_DIGITS: Final = {"hour": 25, "weekday": 8, "light": 3}
"""The base of each digit of a stratum's number: 0 if it is not used, else 1 and the value."""


class Strata:
    """The strata of a pass, by what the plan distinguishes: camera, hour, weekday, light.

    ``names`` are stable texts, from which the order of strata that are even is hashed."""

    def __init__(self, frames: ScoutFrames, by: tuple[str, ...]) -> None:
        self._lock = lock = frames.lock
        self._frames = frames
        self._by = by
        self._camera, self._times, luma = frames.camera, frames.timestamp_ms, frames.luma
        self._night_below = [night_below(luma[frames.of_camera(i)]) for i in range(len(lock.cameras))]
        keys = np.empty(len(self._times), np.int32)
        for i, camera in enumerate(lock.cameras):
            of_camera = self._camera == i
            keys[of_camera] = self._keys_of(i, camera, self._times[of_camera], luma[of_camera])
        self._keys, self._of_row = np.unique(keys, return_inverse=True)
        self.names = [self._name(key) for key in self._keys.tolist()]

    def _keys_of(
        self, i: int, camera: LockedCamera, times: npt.NDArray[np.int64], luma: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int32]:
        """Return a number for the stratum of each time: one digit for each part, 0 for a part that is not used."""
        offsets = self._lock.zones[camera.timezone].offsets
        keys = np.full(len(times), i + 1 if "camera" in self._by else 0, np.int32)
        light = np.where(np.isnan(luma), 0, 1 + (luma >= self._night_below[i]))
        for name, values in (
            ("hour", 1 + local_hours(times, offsets).astype(np.int32)),
            ("weekday", 1 + local_weekdays(times, offsets).astype(np.int32)),
            ("light", light.astype(np.int32)),
        ):
            keys = keys * _DIGITS[name] + (values if name in self._by else 0)
        return keys

    @staticmethod
    def _parts(key: int) -> list[int]:
        """Return camera, hour, weekday and light of a key; -1 for a part that is not used."""
        found = []
        for base in reversed(_DIGITS.values()):
            key, part = divmod(key, base)
            found.append(part - 1)
        return [key - 1, *reversed(found)]

    def of_times(self, i: int, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Return the stratum of each time of camera ``i``: int32. The times are those of frames of the pass."""
        of_camera = np.flatnonzero(self._camera == i)
        order = of_camera[np.argsort(self._times[of_camera], kind="stable")]
        return np.asarray(self._of_row[order[np.searchsorted(self._times[order], times)]], np.int32)

    def shortfalls(
        self, pool: list[int], count: int, candidates: Candidates, chosen: list[int], *, spare: bool
    ) -> list[Shortfall]:
        """Return the strata of these cameras that gave less than their share, with the reason.

        ``count``: frames that were wanted of the pool. ``chosen``: rows of the candidates. ``spare``: whether more
        could be chosen."""
        given = np.bincount(candidates.stratum[chosen], minlength=len(self.names))
        is_new = candidates.event != QUIET
        of_new = np.bincount(candidates.stratum[[row for row in chosen if is_new[row]]], minlength=len(self.names))
        left = np.bincount(candidates.stratum[is_new], minlength=len(self.names)) - of_new
        of_pool = np.isin(self._camera, pool)
        present = np.unique(self._of_row[of_pool]).tolist()
        enough = [int(given[s]) for s in present if left[s] > 0]
        wanted = min(enough) if spare and enough else -(-count // max(1, len(present)))
        found = []
        for s in present:
            if given[s] < wanted and (left[s] == 0 or not spare):
                camera, hour, weekday, light = self._parts(int(self._keys[s]))
                found.append(
                    Shortfall(
                        self._lock.cameras[camera].name if camera >= 0 else None,
                        hour if hour >= 0 else None,
                        int(given[s]),
                        wanted,
                        weekday if weekday >= 0 else None,
                        ("night", "day")[light] if light >= 0 else None,
                        self._lack(of_pool & (self._of_row == s)),
                    )
                )
        return found

    def _lack(self, rows: npt.NDArray[np.bool_]) -> str:
        """Return what a stratum with these rows of the pass lacks. The text is written to the lock."""
        lost = rows & ~self._frames.ok
        count = int(np.count_nonzero(lost))
        if 2 * count < np.count_nonzero(rows):
            return "nothing more in it is new"
        reasons = np.bincount(self._frames.reason[lost])
        most = self._frames.reasons[int(np.argmax(reasons))]
        return f"{count:,} of its {np.count_nonzero(rows):,} small frames are not there ({most})"

    def _name(self, key: int) -> str:
        camera, *rest = self._parts(key)
        return " ".join([self._lock.cameras[camera].uuid if camera >= 0 else "", *map(str, rest)])


def night_below(luma: npt.NDArray[np.float64]) -> float:
    """Return the luma below which it is night for a camera: the threshold between its two most separate classes of
    luma (Otsu, "A threshold selection method from gray-level histograms", 1979)."""
    counts = np.bincount(luma.astype(np.int64), minlength=256).astype(object)
    values = np.arange(256).astype(object)
    below, weight = np.cumsum(counts), np.cumsum(counts * values)
    total, sums = below[-1], weight[-1]
    best, best_at, apart = -1.0, 0, 0.0
    for at in range(1, 256):
        dark, light = below[at - 1], total - below[at - 1]
        if dark and light:
            means = weight[at - 1] / dark, (sums - weight[at - 1]) / light
            between = dark * light * (means[1] - means[0]) ** 2
            if between > best:
                best, best_at, apart = between, at, means[1] - means[0]
    return float(best_at if apart >= NIGHT_APART else NIGHT_LUMA)
