"""From a lock to its schedule: sample the times by the plan's strategy, assign splits, put the rows in order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.errors import UsageError
from rhombus_dataset.planning.lock import (
    Lock,
    LockedBurst,
    LockedInterval,
    LockedRandom,
    LockedScout,
    LockedStratified,
    LockedTimestamps,
    Shortfall,
)
from rhombus_dataset.planning.schedule import Schedule
from rhombus_dataset.planning.splits import (
    check_groups,
    check_not_empty,
    split_names,
    split_of_times,
    without_embargo,
)
from rhombus_dataset.planning.strategies import burst, interval, random, scout, stratified, timestamps
from rhombus_dataset.planning.strategies.sampled_times import MAX_FRAMES, CameraWindows, SampledTimes

TOP_UP_STEM: Final = "top-up-"
_CHUNK_TIMES: Final = 1 << 16


def sample(lock: Lock) -> Schedule:
    """Return every frame that the lock plans: a pure function of the lock.

    Raises UsageError if a split has no groups or no frames, or if the plan asks for no frame.
    """
    moments = _moments(lock, None)
    if not any(map(len, moments.of_splits)):
        raise UsageError("the plan asks for no frame at all: its windows hold no time for one")
    check_not_empty(lock, [len(pairs) for pairs in moments.of_splits])
    return _schedule(lock, moments)


def sample_more(lock: Lock, missing: list[npt.NDArray[np.int64]]) -> Schedule | None:
    """Return the second round: frames that replace the missing ones. None if there are no others.

    ``missing``: for each camera of the lock, the times (UTC ms) at which there is no frame. The result is a pure
    function of both. Raises UsageError for a strategy without a count of frames.
    """
    if not isinstance(lock.sampling, LockedRandom | LockedStratified | LockedScout):
        raise UsageError(f"top_up goes with random, stratified, scout, not with {lock.sampling.strategy}")
    moments = _moments(lock, missing)
    if not any(map(len, moments.of_splits)):
        return None
    return replace(_schedule(lock, moments), stem_part=TOP_UP_STEM)


def _open_windows(lock: Lock) -> list[CameraWindows]:
    """Return when frames of each camera may be requested. Raises UsageError as ``check_groups``."""
    windows = {zone: without_embargo(locked.windows, lock.splits, lock.seed) for zone, locked in lock.zones.items()}
    check_groups(lock, windows)
    return [
        CameraWindows(camera.uuid, camera.name, lock.zones[camera.timezone].offsets, windows[camera.timezone])
        for camera in lock.cameras
    ]


def _sample_times(
    lock: Lock, windows: list[CameraWindows], missing: list[npt.NDArray[np.int64]] | None
) -> SampledTimes:
    match lock.sampling:
        case LockedInterval() as strategy:
            return interval.sample(strategy, lock.seed, windows)
        case LockedRandom() as strategy:
            return random.sample(strategy, lock.seed, windows, missing)
        case LockedStratified() as strategy:
            return stratified.sample(strategy, lock.seed, windows, missing)
        case LockedBurst() as strategy:
            return burst.sample(strategy, lock.seed, windows)
        case LockedTimestamps() as strategy:
            return timestamps.sample(strategy, lock.seed, lock.splits)
        case LockedScout() as strategy:
            return scout.sample(strategy, windows, missing)


@dataclass(frozen=True, slots=True)
class _Moments:
    """The sampled moments of each split, in order: as time (UTC ms) * number of cameras + camera, int64."""

    of_splits: list[npt.NDArray[np.int64]]
    shortfalls: tuple[Shortfall, ...]
    notes: tuple[str, ...]


def _moments(lock: Lock, missing: list[npt.NDArray[np.int64]] | None) -> _Moments:
    times = _sample_times(lock, _open_windows(lock), missing)
    split = split_of_times(lock, times)
    of_splits = []
    for i in range(len(split_names(lock.splits))):
        # Numbers are sorted in place: much faster than an order of two columns, and in a third of the memory. They
        # fit into 64 bits: a time has at most 43 bits, and a plan has at most 10,000 cameras.
        chosen = split == i
        pairs = times.timestamp_ms[chosen]
        pairs *= len(lock.cameras)
        pairs += times.camera[chosen]
        pairs.sort()
        of_splits.append(pairs)
    return _Moments(of_splits, times.shortfalls, times.notes)


def _schedule(lock: Lock, moments: _Moments) -> Schedule:
    """Return one row for each moment and view of its camera, in the schedule's order."""
    table = sorted({(lock.views[name], name) for camera in lock.cameras for name in camera.views})
    index = {pair: i for i, pair in enumerate(table)}
    views = [
        np.array(sorted(index[lock.views[name], name] for name in camera.views), np.uint16)
        for camera in lock.cameras
    ]
    counts = np.array([len(v) for v in views], np.int64)
    rows = sum(int(counts[pairs % len(views)].sum()) for pairs in moments.of_splits)
    if rows > MAX_FRAMES:
        raise UsageError(f"the plan asks for {rows:,} frames, expected at most {MAX_FRAMES:,}")
    views_of_all = np.concatenate(views)
    first_view = np.cumsum(counts) - counts
    timestamp_ms, camera = np.empty(rows, np.int64), np.empty(rows, np.int32)
    view, split_of_row = np.empty(rows, np.uint16), np.empty(rows, np.uint8)
    start = 0
    for split, pairs in enumerate(moments.of_splits):
        # Rows are filled in chunks, since a few temporary columns of millions of rows would take much memory.
        for at in range(0, len(pairs), _CHUNK_TIMES):
            times, cameras = np.divmod(pairs[at : at + _CHUNK_TIMES], len(views))
            repeats = counts[cameras]
            stop = start + int(repeats.sum())
            timestamp_ms[start:stop] = np.repeat(times, repeats)
            camera[start:stop] = np.repeat(cameras, repeats)
            split_of_row[start:stop] = split
            nth = np.arange(stop - start) - np.repeat(np.cumsum(repeats) - repeats, repeats)
            view[start:stop] = views_of_all[first_view[camera[start:stop]] + nth]
            start = stop
    return Schedule(
        timestamp_ms=timestamp_ms,
        camera=camera,
        view=view,
        split=split_of_row,
        cameras=lock.cameras,
        views=tuple((name, geometry) for geometry, name in table),
        splits=tuple(split_names(lock.splits)),
        offsets={zone: locked.offsets for zone, locked in lock.zones.items()},
        data_format=lock.data_format,
        frames_per_shard=lock.frames_per_shard,
        shortfalls=moments.shortfalls,
        notes=lock.notes + moments.notes,
        scouted=None if lock.scout is None else lock.scout.times,
        has_deployments=lock.has_deployments,
    )
