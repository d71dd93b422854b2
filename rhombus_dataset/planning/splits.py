"""Which split a frame belongs to: a stable hash of its block of time, or of its group.

Nothing else in the plan influences the decision, so a plan that grows moves no frame to another split.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.errors import UsageError
from rhombus_dataset.hashing import hash_key, hashes
from rhombus_dataset.plan.local_time import Intervals, merged
from rhombus_dataset.planning.lock import (
    CameraSplits,
    ColumnSplits,
    DeploymentSplits,
    Fractions,
    GroupedTimes,
    GroupSplits,
    LocationSplits,
    Lock,
    Splits,
    TimeSplits,
)
from rhombus_dataset.planning.strategies.sampled_times import SampledTimes

DEFAULT_SPLIT: Final = "train"
MAX_BLOCKS: Final = 1_000_000
"""Maximum number of blocks between which an embargo is kept: two years in blocks of a minute. It limits memory."""
_CHUNK_TIMES: Final = 1 << 16


def split_names(splits: Splits | None) -> list[str]:
    """Return the names of the splits in the plan's order, which is the order of the dataset."""
    return [DEFAULT_SPLIT] if splits is None else [name for name, _ in splits.fractions]


def splits_in_words(splits: Splits | None) -> str:
    """Return in one sentence how frames are split."""
    match splits:
        case None:
            return "The plan makes no splits."
        case TimeSplits(block_ms, embargo_ms):
            return (
                f"Split by time: blocks of {block_ms // 1000} s, the same for all cameras, with "
                f"{embargo_ms // 1000} s left out where the split changes."
            )
        case CameraSplits():
            return "Split by camera: no camera is in two splits."
        case LocationSplits():
            return "Split by location: no location is in two splits."
        case DeploymentSplits():
            return "Split by deployment: no stretch in which a camera stood unmoved is in two splits."
        case ColumnSplits(column):
            return f"Split by the column {column} of the timestamps file: no value of it is in two splits."


# -- the split of each time


def split_of_times(lock: Lock, times: SampledTimes) -> npt.NDArray[np.uint8]:
    """Return the split of each sampled time, an index of ``split_names``. Shape (N,), uint8."""
    splits = lock.splits
    if splits is None:
        return np.zeros(len(times.timestamp_ms), np.uint8)
    if isinstance(splits, TimeSplits):
        first_ms = times.timestamp_ms[:: times.group_size]
        split = np.empty(len(first_ms), np.uint8)
        for at in range(0, len(split), _CHUNK_TIMES):
            part = slice(at, at + _CHUNK_TIMES)
            split[part] = splits_by_time(first_ms[part], splits, lock.seed)
        return np.repeat(split, times.group_size)
    groups = _groups(lock, splits)
    of_group = np.array([split_of_group(name, splits, lock.seed) for name in groups.names], np.uint8)
    return np.take(of_group, groups.of_times(times))


def splits_by_time(timestamps_ms: npt.NDArray[np.int64], splits: TimeSplits, seed: int) -> npt.NDArray[np.uint8]:
    """Return the split of each time (UTC ms) by its block of UTC epoch time, an index of the names: uint8."""
    return split_index(hashes(hash_key(seed, "split"), timestamps_ms // splits.block_ms), splits.fractions)


def split_of_group(group: str, splits: GroupSplits, seed: int) -> int:
    """Return the split, an index of the names, of all frames of a group.

    A group is a camera's UUID, a location, a deployment or a value of the column."""
    names = split_names(splits)
    accepted = [group]
    if isinstance(splits, DeploymentSplits):
        # An assigned camera takes along all of its deployments that are not assigned themselves.
        camera, _, start = group.partition("@")
        accepted = [f"{camera}@{start or 'first'}", camera]
    for name in accepted:
        for split, groups in splits.assign:
            if name in groups:
                return names.index(split)
    value = hashes(hash_key(seed, "split", group), np.zeros(1, np.int64))
    return int(split_index(value, splits.fractions)[0])


def split_index(values: npt.NDArray[np.uint64], fractions: Fractions) -> npt.NDArray[np.uint8]:
    """Return the index of the split for each hash: the fractions divide the range of 64 bits in their order."""
    cumulative = np.cumsum([fraction for _, fraction in fractions])
    limits = [min(2**64 - 1, int(limit * 2**64)) for limit in cumulative[:-1].tolist()]
    return np.searchsorted(np.array(limits, np.uint64), values, side="right").astype(np.uint8)


@dataclass(frozen=True, slots=True)
class _Groups:
    """The groups that are kept in one split each. ``plural`` is what they are called, ``example`` how a plan may
    name one; ``of_times`` returns the group of each sampled time, an index of ``names``."""

    names: list[str]
    plural: str
    example: str
    of_times: Callable[[SampledTimes], npt.NDArray[np.integer[Any]]]


def _groups(lock: Lock, splits: GroupSplits) -> _Groups:
    cameras = lock.cameras
    match splits:
        case CameraSplits():
            return _Groups([c.uuid for c in cameras], "cameras", cameras[0].name, lambda times: times.camera)
        case LocationSplits():
            names = sorted({str(camera.location) for camera in cameras})
            of_camera = np.array([names.index(str(camera.location)) for camera in cameras], np.int64)
            return _Groups(names, "locations", names[0], lambda times: of_camera[times.camera])
        case DeploymentSplits():
            names = [group for camera in cameras for group in camera.deployment_groups()]
            return _Groups(names, "deployments", cameras[0].name, lambda times: _deployment_of(lock, times))
        case ColumnSplits():
            if not isinstance(lock.times, GroupedTimes):
                raise UsageError("splits: splits by column need strategy timestamps, with that column in its file")
            group = lock.times.group
            names = list(lock.times.groups)
            return _Groups(names, "values of the column", next(iter(names), ""), lambda _: group)


def _deployment_of(lock: Lock, times: SampledTimes) -> npt.NDArray[np.int64]:
    """Return the number of each time's deployment, counted over all cameras."""
    counts = np.array([len(camera.deployment_names) for camera in lock.cameras], np.int64)
    deployment: npt.NDArray[np.int64] = (np.cumsum(counts) - counts)[times.camera]
    for i, camera in enumerate(lock.cameras):
        of_camera = times.camera == i
        deployment[of_camera] += np.searchsorted(camera.deployments, times.timestamp_ms[of_camera], side="right")
    return deployment


# -- checks


def check_groups(lock: Lock, windows: Mapping[str, Intervals]) -> None:
    """Raise UsageError if there are fewer groups or blocks than splits, or if no camera has an assigned deployment.

    ``windows``: those of each zone, without embargoes."""
    splits, names = lock.splits, split_names(lock.splits)
    if splits is None:
        return
    if isinstance(splits, DeploymentSplits):
        _check_deployments(lock, splits)
    if not isinstance(splits, TimeSplits):
        groups = _groups(lock, splits)
        count, plural, advice = len(groups.names), groups.plural, "name fewer splits, or split by time"
    elif lock.times is not None:
        count, plural = len(np.unique(lock.times.timestamp_ms // splits.block_ms)), "blocks of time"
        advice = "use a shorter block"
    else:
        count = count_blocks(merged(itertools.chain.from_iterable(windows.values())), splits.block_ms)
        plural, advice = "blocks of time", "use a shorter block, or longer windows"
    if count < len(names):
        raise UsageError(
            f"splits: {len(names)} splits ({', '.join(names)}) need at least as many {plural}, and the plan "
            f"has {count}: {advice}"
        )


def _check_deployments(lock: Lock, splits: DeploymentSplits) -> None:
    cameras = {camera.uuid: camera for camera in lock.cameras}
    for split, assigned in splits.assign:
        for name in assigned:
            uuid, at, start = name.rpartition("@")
            camera = cameras.get(uuid)
            if at and camera is not None and start not in camera.deployment_names:
                raise UsageError(
                    f"splits.assign.{split}: {camera.name} has no deployment {start}: it has "
                    f"{', '.join(camera.deployment_names)}"
                )


def check_not_empty(lock: Lock, counts: list[int]) -> None:
    """Raise UsageError if a split has no frame. ``counts``: the number of sampled times of each split."""
    empty = [name for name, count in zip(split_names(lock.splits), counts, strict=True) if count == 0]
    if not empty or lock.splits is None:
        return
    advice = "use a shorter block, longer windows or another seed"
    if not isinstance(lock.splits, TimeSplits):
        groups = _groups(lock, lock.splits)
        advice = f"give it one of the {groups.plural} by name: assign: {{{empty[0]}: [{groups.example}]}}"
    raise UsageError(f"splits: no frame falls into {', '.join(empty)}: {advice}")


# -- embargoes


def without_embargo(intervals: Intervals, splits: Splits | None, seed: int) -> Intervals:
    """Return ``intervals`` without the times that are too near to a block of another split.

    Half the embargo is taken on each side of a boundary, so any two frames of different splits are at least the
    embargo apart. Raises UsageError if the blocks are far too short.
    """
    if not isinstance(splits, TimeSplits) or not splits.embargo_ms:
        return intervals
    block, half = splits.block_ms, -(-splits.embargo_ms // 2)
    result: list[tuple[int, int]] = []
    if (blocks_in_all := count_blocks(intervals, block)) > MAX_BLOCKS:
        raise UsageError(
            f"splits.block: {block} ms divides these windows into {blocks_in_all:,} blocks, and an embargo "
            f"can be kept between at most {MAX_BLOCKS:,}: choose a longer block"
        )
    for start, end in intervals:
        # Boundaries just outside the interval reach into it too.
        first, last = (start - half) // block, (end + half) // block + 1
        blocks = np.arange(first, last + 1, dtype=np.int64)
        split = splits_by_time(blocks * block, splits, seed)
        changes = (blocks[1:][split[1:] != split[:-1]] * block).tolist()
        at = start
        for boundary in changes:
            if at < min(end, boundary - half):
                result.append((at, min(end, boundary - half)))
            at = max(at, boundary + half)
        if at < end:
            result.append((at, end))
    return tuple(result)


def embargoed(timestamps_ms: npt.NDArray[np.int64], splits: Splits | None, seed: int) -> npt.NDArray[np.bool_]:
    """Return which times (UTC ms) :func:`without_embargo` takes out: bool, of the shape of ``timestamps_ms``."""
    result = np.zeros(len(timestamps_ms), np.bool_)
    if not isinstance(splits, TimeSplits) or not splits.embargo_ms:
        return result
    half = -(-splits.embargo_ms // 2)
    for at in range(0, len(result), _CHUNK_TIMES):
        times = timestamps_ms[at : at + _CHUNK_TIMES]
        own = splits_by_time(times, splits, seed)
        before, after = (splits_by_time(times + step, splits, seed) for step in (-half, half))
        result[at : at + _CHUNK_TIMES] = (before != own) | (after != own)
    return result


def count_blocks(intervals: Intervals, block_ms: int) -> int:
    """Return the number of blocks that the intervals touch."""
    count, last = 0, None
    for start, end in intervals:
        first = start // block_ms
        count += (end - 1) // block_ms - first + 1 - (first == last)
        last = (end - 1) // block_ms
    return count
