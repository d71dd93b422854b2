"""From a lock to the schedule: which moments are chosen, one file a strategy."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, Final, overload

import numpy as np
import numpy.typing as npt

from rhombus_dataset.errors import UsageError
from rhombus_dataset.plan.local_time import Intervals, merged
from rhombus_dataset.planning.lock import Lock
from rhombus_dataset.planning.schedule import Schedule
from rhombus_dataset.planning.splits import (
    count_blocks,
    split_names,
    split_of_group,
    splits_by_time,
    without_embargo,
)
from rhombus_dataset.planning.strategies import burst, interval, random, scout, stratified, timestamps
from rhombus_dataset.planning.strategies.sampled_times import MAX_FRAMES, CameraWindows, SampledTimes

_CHUNK_MOMENTS: Final = 1 << 16

_KINDS: Final = {
    "camera": "cameras",
    "location": "locations",
    "deployment": "deployments",
    "column": "values of the column",
}
_STRATEGIES: Final = {
    "interval": interval.sample,
    "random": random.sample,
    "stratified": stratified.sample,
    "burst": burst.sample,
    "timestamps": timestamps.sample,
    "scout": scout.sample,
}
_COUNTED: Final = {"random": random.sample, "stratified": stratified.sample, "scout": scout.sample}
"""Those that ask for a number of frames, and can draw others."""
TOP_UP_STEM: Final = "top-up-"


def sample(lock: Lock) -> Schedule:
    """Every frame that the lock plans: a pure function of the lock.

    Raises UsageError where a split has no groups or no frames, or where the plan asks for nothing.
    """
    return _sampled(lock, None)


def sample_more(lock: Lock, missing: list[npt.NDArray[np.int64]]) -> Schedule | None:
    """The second round: other frames in place of those at times (UTC ms, for each camera) of which there are none.

    A pure function of both; its shards are called after it. None where nothing can stand in. Raises UsageError for
    a strategy without a count.
    """
    if lock.sampling["strategy"] not in _COUNTED:
        raise UsageError(f"top_up goes with {', '.join(_COUNTED)}, not with {lock.sampling['strategy']}")
    return _sampled(lock, missing)


@overload
def _sampled(lock: Lock, missing: None) -> Schedule: ...
@overload
def _sampled(lock: Lock, missing: list[npt.NDArray[np.int64]]) -> Schedule | None: ...
def _sampled(lock: Lock, missing: list[npt.NDArray[np.int64]] | None) -> Schedule | None:
    names = split_names(lock.splits)
    opened = {zone: without_embargo(locked.windows, lock.splits, lock.seed) for zone, locked in lock.zones.items()}
    _enough_groups(lock, names, opened)
    open_ = [
        CameraWindows(camera.uuid, camera.name, lock.zones[camera.timezone].offsets, opened[camera.timezone])
        for camera in lock.cameras
    ]
    if missing is not None:
        moments = _COUNTED[lock.sampling["strategy"]](lock, open_, missing)
        if len(moments.timestamp_ms) == 0:
            return None
        return replace(_schedule(lock, names, moments, _split_of(lock, moments)), stem_part=TOP_UP_STEM)
    moments = _STRATEGIES[lock.sampling["strategy"]](lock, open_)
    if len(moments.timestamp_ms) == 0:
        raise UsageError("the plan asks for no frame at all: its windows hold no time for one")
    split = _split_of(lock, moments)
    _no_empty_split(lock, names, split)
    return _schedule(lock, names, moments, split)


def _split_of(lock: Lock, moments: SampledTimes) -> npt.NDArray[np.uint8]:
    if lock.splits is None:
        return np.zeros(len(moments.timestamp_ms), np.uint8)
    if lock.splits["by"] == "time":
        decides_ms = moments.timestamp_ms[:: moments.group_size]
        split = np.empty(len(decides_ms), np.uint8)
        for at in range(0, len(split), _CHUNK_MOMENTS):
            part = slice(at, at + _CHUNK_MOMENTS)
            split[part] = splits_by_time(decides_ms[part], lock.splits, lock.seed)
        return np.repeat(split, moments.group_size)
    of_group = np.array([split_of_group(group, lock.splits, lock.seed) for group in _groups(lock)], np.uint8)
    if lock.splits["by"] == "column":
        assert lock.times is not None
        assert lock.times.group is not None
        return of_group[lock.times.group]
    group = _group_of_camera(lock)[moments.camera]
    if lock.splits["by"] == "deployment":
        for i, camera in enumerate(lock.cameras):
            mine = moments.camera == i
            group[mine] += np.searchsorted(camera.deployments, moments.timestamp_ms[mine], side="right")
    return of_group[group]


def _groups(lock: Lock) -> list[str]:
    """What is split as a whole: cameras, locations, or what a column of the timestamps file says."""
    assert lock.splits is not None
    if lock.splits["by"] == "column":
        assert lock.times is not None
        return list(lock.times.groups)
    if lock.splits["by"] == "location":
        return sorted({str(camera.location) for camera in lock.cameras})
    if lock.splits["by"] == "deployment":
        return [group for camera in lock.cameras for group in camera.deployment_groups()]
    return [camera.uuid for camera in lock.cameras]


def _group_of_camera(lock: Lock) -> npt.NDArray[np.int64]:
    """The group of each camera; by deployments, its first one's."""
    groups = _groups(lock)
    by_location = lock.splits is not None and lock.splits["by"] == "location"
    return np.array(
        [groups.index(str(camera.location) if by_location else camera.uuid) for camera in lock.cameras], np.int64
    )


def _schedule(lock: Lock, names: list[str], moments: SampledTimes, split: npt.NDArray[np.uint8]) -> Schedule:
    """One row for each moment and view of its camera, in the schedule's order."""
    table = sorted({(lock.views[name], name) for camera in lock.cameras for name in camera.views})
    index = {pair: i for i, pair in enumerate(table)}
    views = [
        np.array(sorted(index[lock.views[name], name] for name in camera.views), np.uint16)
        for camera in lock.cameras
    ]
    counts = np.array([len(v) for v in views], np.int64)
    rows = int(np.bincount(moments.camera, minlength=len(views)) @ counts)
    if rows > MAX_FRAMES:
        raise UsageError(f"the plan asks for {rows:,} frames; at most {MAX_FRAMES:,} make one dataset")
    # SampledTimes first, then their views in order: nothing else needs sorting by view. In parts, since
    # millions of rows in a few more columns would be a lot of memory.
    order = np.lexsort((moments.camera, moments.timestamp_ms, split))
    views_of_all = np.concatenate(views)
    first_view = np.cumsum(counts) - counts
    timestamp_ms, camera = np.empty(rows, np.int64), np.empty(rows, np.int32)
    view, split_of_row = np.empty(rows, np.uint16), np.empty(rows, np.uint8)
    start = 0
    for at in range(0, len(order), _CHUNK_MOMENTS):
        chosen = order[at : at + _CHUNK_MOMENTS]
        repeats = counts[moments.camera[chosen]]
        row = np.repeat(chosen, repeats)
        stop = start + len(row)
        timestamp_ms[start:stop] = moments.timestamp_ms[row]
        camera[start:stop] = moments.camera[row]
        split_of_row[start:stop] = split[row]
        nth = np.arange(len(row)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        view[start:stop] = views_of_all[first_view[camera[start:stop]] + nth]
        start = stop
    return Schedule(
        timestamp_ms=timestamp_ms,
        camera=camera,
        view=view,
        split=split_of_row,
        cameras=lock.cameras,
        views=tuple((name, geometry) for geometry, name in table),
        splits=tuple(names),
        offsets={zone: locked.offsets for zone, locked in lock.zones.items()},
        data_format=lock.data_format,
        frames_per_shard=lock.frames_per_shard,
        shortfalls=moments.shortfalls,
        notes=lock.notes + moments.notes,
        picks=lock.times if lock.scout is not None else None,
        has_deployments=lock.has_deployments,
    )


def _enough_groups(lock: Lock, names: list[str], opened: dict[str, Intervals]) -> None:
    splits: dict[str, Any] | None = lock.splits
    if splits is None:
        return
    if splits["by"] == "deployment":
        _known_deployments(lock)
    if splits["by"] != "time":
        groups, kind, advice = len(_groups(lock)), _KINDS[splits["by"]], "name fewer splits, or split by time"
    elif lock.times is not None:  # of a timestamps file, or scouted
        blocks = np.unique(lock.times.timestamp_ms // splits["block"])
        groups, kind, advice = len(blocks), "blocks of time", "use a shorter block"
    else:
        everywhere = merged(itertools.chain.from_iterable(opened.values()))
        groups = count_blocks(everywhere, splits["block"])
        kind, advice = "blocks of time", "use a shorter block, or longer windows"
    if groups < len(names):
        raise UsageError(
            f"splits: {len(names)} splits ({', '.join(names)}) need at least as many {kind}, and the plan "
            f"has {groups}: {advice}"
        )


def _known_deployments(lock: Lock) -> None:
    assert lock.splits is not None
    known = {f"{camera.uuid}@{name}" for camera in lock.cameras for name in camera.deployment_names}
    for split, assigned in lock.splits["assign"].items():
        for name in assigned:
            if "@" in name and name not in known:
                uuid, _, start = name.rpartition("@")
                mine = next(camera for camera in lock.cameras if camera.uuid == uuid)
                raise UsageError(
                    f"splits.assign.{split}: {mine.name} has no deployment {start}: it has "
                    f"{', '.join(mine.deployment_names)}"
                )


def _no_empty_split(lock: Lock, names: list[str], split: npt.NDArray[np.uint8]) -> None:
    assert len(names) < 256
    present = np.bincount(split, minlength=len(names))
    empty = [name for name, count in zip(names, present.tolist(), strict=True) if count == 0]
    if not empty or lock.splits is None:
        return
    if lock.splits["by"] != "time":
        one = lock.cameras[0].name if lock.splits["by"] in ("camera", "deployment") else _groups(lock)[0]
        advice = f"give it one of the {_KINDS[lock.splits['by']]} by name: assign: {{{empty[0]}: [{one}]}}"
    else:
        advice = "use a shorter block, longer windows or another seed"
    raise UsageError(f"splits: no frame falls into {', '.join(empty)}: {advice}")
