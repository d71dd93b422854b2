"""Which split a frame belongs to: a stable hash of its block of time, or of the group that it is in.

Nothing about the rest of the plan goes into the decision, so a plan that grows moves no frame to another
split.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.errors import UsageError
from rhombus_dataset.hashing import hash_key, hashes
from rhombus_dataset.plan.local_time import Intervals

DEFAULT_SPLIT: Final = "train"
MAX_BLOCKS: Final = 1_000_000
"""Two years in blocks of a minute."""
_CHUNK_TIMES: Final = 1 << 16


def split_names(splits: dict[str, Any] | None) -> list[str]:
    """The names of the splits, in the plan's order, which is the order of the dataset."""
    return list(splits["fractions"]) if splits else [DEFAULT_SPLIT]


def splits_in_words(splits: dict[str, Any] | None) -> str:
    """How frames are split, in a sentence."""
    if splits is None:
        return "The plan makes no splits."
    match splits["by"]:
        case "camera":
            return "Split by camera: no camera is in two splits."
        case "location":
            return "Split by location: no location is in two splits."
        case "deployment":
            return "Split by deployment: no stretch in which a camera stood unmoved is in two splits."
        case "column":
            return (
                f"Split by the column {splits['column']} of the timestamps file: no value of it is in two splits."
            )
    return (
        f"Split by time: blocks of {splits['block'] // 1000} s, the same for all cameras, with "
        f"{splits['embargo'] // 1000} s left out where the split changes."
    )


def split_index(values: npt.NDArray[np.uint64], fractions: dict[str, float]) -> npt.NDArray[np.uint8]:
    """The index of the split for each hash: cumulative fractions of the range of 64 bits."""
    cumulative = np.cumsum(list(fractions.values()))
    limits = [min(2**64 - 1, int(limit * 2**64)) for limit in cumulative[:-1].tolist()]
    return np.searchsorted(np.array(limits, np.uint64), values, side="right").astype(np.uint8)


def splits_by_time(
    timestamps_ms: npt.NDArray[np.int64], splits: dict[str, Any], seed: int
) -> npt.NDArray[np.uint8]:
    """The split of each timestamp, by its block of UTC epoch time: uint8, an index of the names."""
    return split_index(hashes(hash_key(seed, "split"), timestamps_ms // splits["block"]), splits["fractions"])


def split_of_group(group: str, splits: dict[str, Any], seed: int) -> int:
    """The split that all frames of a group (a camera's UUID, a location, a column's value) belong to."""
    names = split_names(splits)
    called = [group]
    if splits["by"] == "deployment":
        # A camera that is assigned takes along all of its deployments that are not assigned themselves.
        camera, _, start = group.partition("@")
        called = [f"{camera}@{start or 'first'}", camera]
    for call in called:
        for name, groups in splits["assign"].items():
            if call in groups:
                return names.index(name)
    value = hashes(hash_key(seed, "split", group), np.zeros(1, np.int64))
    return int(split_index(value, splits["fractions"])[0])


def without_embargo(intervals: Intervals, splits: dict[str, Any] | None, seed: int) -> Intervals:
    """``intervals`` less the times that are too near to a block of another split.

    Half the embargo goes on each side of a boundary, so any two frames of different splits are at least
    the embargo apart. Raises UsageError for far too short blocks.
    """
    if not splits or splits["by"] != "time" or not splits["embargo"]:
        return intervals
    block, half = splits["block"], -(-splits["embargo"] // 2)
    result: list[tuple[int, int]] = []
    if (blocks_in_all := count_blocks(intervals, block)) > MAX_BLOCKS:
        raise UsageError(
            f"splits.block: {block} ms cuts these windows into {blocks_in_all:,} blocks, and an embargo "
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


def embargoed(
    timestamps_ms: npt.NDArray[np.int64], splits: dict[str, Any] | None, seed: int
) -> npt.NDArray[np.bool_]:
    """Which times :func:`without_embargo` takes out: bool, of the shape of ``timestamps_ms``."""
    result = np.zeros(len(timestamps_ms), np.bool_)
    if not splits or splits["by"] != "time" or not splits["embargo"]:
        return result
    half = -(-splits["embargo"] // 2)
    for at in range(0, len(result), _CHUNK_TIMES):
        times = timestamps_ms[at : at + _CHUNK_TIMES]
        own = splits_by_time(times, splits, seed)
        before, after = (splits_by_time(times + step, splits, seed) for step in (-half, half))
        result[at : at + _CHUNK_TIMES] = (before != own) | (after != own)
    return result


def count_blocks(intervals: Intervals, block: int) -> int:
    """How many blocks the intervals touch."""
    count, last = 0, None
    for start, end in intervals:
        first = start // block
        count += (end - 1) // block - first + 1 - (first == last)
        last = (end - 1) // block
    return count
