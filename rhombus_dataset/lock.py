"""The lock: the plan with everything looked up. From here on, all is a pure function.

Time zones are frozen as numbers and a timestamps file as its rows, so that neither a newer tzdata nor an
edited CSV changes what a lock means.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rhombus_dataset import schema
from rhombus_dataset.errors import DatasetError
from rhombus_dataset.geometry import Geometry, Polygon
from rhombus_dataset.local_time import (
    DAY_MS,
    Intervals,
    Offsets,
    window_intervals,
    zone_offsets,
)
from rhombus_dataset.plan.model import CameraSplits, ColumnSplits, Plan, RhombusSource, TimestampsSampling
from rhombus_dataset.timestamps_file import TimestampRows, read_timestamps

LOCK_VERSION: Final = 1
FOOTAGE_LAG_MS: Final = 5 * 60_000
"""Footage reaches the cloud's storage late, so ``end: now`` means this much earlier."""


@dataclass(frozen=True, slots=True)
class LockedCamera:
    """A camera of the plan. ``views`` are names, at most one for each geometry."""

    uuid: str
    name: str
    location: str | None
    timezone: str
    views: tuple[str, ...]
    masks: tuple[Polygon, ...]


@dataclass(frozen=True, slots=True)
class LockedZone:
    """A time zone over the plan's times: its offsets, and when the windows are open."""

    offsets: Offsets
    windows: Intervals


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """The times of a timestamps file: ``camera`` (int32, an index of the lock's cameras) and
    ``timestamp_ms`` (int64, UTC), sorted by both, each pair once.

    Where splits are by a column, ``group`` (int32) is an index of ``groups``, the texts in it."""

    camera: npt.NDArray[np.int32]
    timestamp_ms: npt.NDArray[np.int64]
    group: npt.NDArray[np.int32] | None = None
    groups: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Times):
            return NotImplemented
        if self.group is None or other.group is None:
            same_groups = self.group is other.group
        else:
            same_groups = self.groups == other.groups and np.array_equal(self.group, other.group)
        same_times = np.array_equal(self.timestamp_ms, other.timestamp_ms)
        return same_groups and same_times and np.array_equal(self.camera, other.camera)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Lock:
    """Everything that the schedule depends on.

    ``now_ms`` is what ``end: now`` was frozen at, and None where no window says so: nothing else in a
    lock depends on when it was made. ``sampling`` and ``splits`` are the
    plan's, in milliseconds and camera UUIDs.
    """

    name: str
    seed: int
    now_ms: int | None
    source: dict[str, str]
    cameras: tuple[LockedCamera, ...]
    views: dict[str, Geometry]
    zones: dict[str, LockedZone]
    sampling: dict[str, Any]
    splits: dict[str, Any] | None
    data_format: Literal["parquet", "jpeg"]
    frames_per_shard: int
    times: Times | None = None
    notes: tuple[str, ...] = ()
    dedup: dict[str, int] | None = None


def resolve(plan: Plan, now_ms: int) -> Lock:
    """Look everything up that ``plan`` leaves open. ``now_ms``: UTC epoch milliseconds.

    Reads the time-zone database, and the timestamps file of a plan that has one. Raises InvalidFile
    for what is wrong in that file.
    """
    cameras = tuple(
        LockedCamera(
            camera.uuid,
            camera.name,
            camera.location,
            camera.timezone,
            _distinct_views(camera.views or plan.views, plan.views),
            camera.masks,
        )
        for camera in sorted(plan.cameras, key=lambda camera: camera.uuid)
    )
    footage_ends_ms = now_ms - FOOTAGE_LAG_MS
    times: Times | None = None
    notes: list[str] = []
    sampling = plan.sampling.model_dump(mode="json", exclude={"file"})
    windows = {
        zone: window_intervals(plan.windows, zone, footage_ends_ms)
        for zone in sorted({camera.timezone for camera in cameras})
    }
    if isinstance(plan.sampling, TimestampsSampling):
        column = plan.splits.column if isinstance(plan.splits, ColumnSplits) else None
        rows = read_timestamps(
            plan.sampling.file, {c.uuid: i for i, c in enumerate(cameras)},
            {c.name: i for i, c in enumerate(cameras)}, [c.timezone for c in cameras], now_ms, column,
        )  # fmt: skip
        times, notes = _in_windows(rows, cameras, windows if plan.windows else None)
    zones = {zone: _locked_zone(zone, spans, times) for zone, spans in windows.items()}
    splits = None if plan.splits is None else plan.splits.model_dump(mode="json")
    if isinstance(plan.splits, CameraSplits) and splits is not None:
        by_name = {c.name: c.uuid for c in cameras}
        splits["assign"] = {
            split: sorted(by_name.get(camera, camera) for camera in assigned)
            for split, assigned in plan.splits.assign.items()
        }
    source: dict[str, str] = {"type": plan.source.type}
    if isinstance(plan.source, RhombusSource):
        source["url"] = plan.source.url
    return Lock(
        name=plan.name,
        seed=plan.seed,
        now_ms=now_ms if any(window.end.now for window in plan.windows) else None,
        source=source,
        cameras=cameras,
        views=dict(plan.views),
        zones=zones,
        sampling=sampling,
        splits=splits,
        data_format=plan.output.format,
        frames_per_shard=plan.output.frames_per_shard,
        times=times,
        notes=tuple(notes),
        dedup=None if plan.dedup is None else plan.dedup.model_dump(mode="json"),
    )


def _distinct_views(names: Iterable[str], views: dict[str, Geometry]) -> tuple[str, ...]:
    """A frame planned twice is one frame: of views with one geometry, the first stands."""
    first = {views[name]: name for name in reversed(tuple(names))}
    return tuple(sorted(first.values(), key=lambda name: views[name]))


def _in_windows(
    rows: TimestampRows,
    cameras: tuple[LockedCamera, ...],
    windows: dict[str, Intervals] | None,
) -> tuple[Times, list[str]]:
    order = np.lexsort((rows.timestamp_ms, rows.camera))
    camera, timestamp_ms = rows.camera[order], rows.timestamp_ms[order]
    kept = np.ones(len(order), np.bool_)
    kept[1:] = (np.diff(camera) != 0) | (np.diff(timestamp_ms) != 0)
    notes: list[str] = []
    if repeated := int(np.count_nonzero(~kept)):
        notes.append(f"{repeated} times of the timestamps file stand there already: one frame each")
    if windows is not None:
        bounds = np.searchsorted(camera, np.arange(len(cameras) + 1)).tolist()
        for locked, start, stop in zip(cameras, bounds[:-1], bounds[1:], strict=True):
            kept[start:stop] &= inside(timestamp_ms[start:stop], windows[locked.timezone])
    if dropped := len(kept) - repeated - int(np.count_nonzero(kept)):
        notes.append(f"{dropped} times of the timestamps file lie outside the windows: left out")
    if rows.group is None:
        return Times(camera[kept], timestamp_ms[kept]), notes
    # Groups are numbered by their names: of those that are left, whatever the order of the file.
    group = rows.group[order][kept]
    names = sorted(rows.groups[i] for i in np.unique(group).tolist())
    place = {name: i for i, name in enumerate(names)}
    renumbered = np.array([place.get(name, -1) for name in rows.groups], np.int32)
    return Times(camera[kept], timestamp_ms[kept], renumbered[group], tuple(names)), notes


def inside(timestamps_ms: npt.NDArray[np.int64], intervals: Intervals) -> npt.NDArray[np.bool_]:
    """Which times lie in one of the intervals: bool, of the shape of ``timestamps_ms``."""
    if not intervals:
        return np.zeros(timestamps_ms.shape, np.bool_)
    table = np.array(intervals, np.int64)
    place = np.searchsorted(table[:, 0], timestamps_ms, side="right") - 1
    ends: npt.NDArray[np.int64] = table[place, 1]
    return (place >= 0) & (timestamps_ms < ends)


def _locked_zone(zone: str, windows: Intervals, times: Times | None) -> LockedZone:
    bounds = [windows[0][0], windows[-1][1]] if windows else []
    if times is not None and len(times.timestamp_ms):
        bounds += [int(times.timestamp_ms.min()), int(times.timestamp_ms.max())]
    if not bounds:
        return LockedZone(((0, 0),), ())
    # Two days more on each side: a local day may begin well before the first window does.
    return LockedZone(zone_offsets(zone, min(bounds) - 2 * DAY_MS, max(bounds) + 2 * DAY_MS), windows)


def lock_files(lock: Lock) -> dict[str, bytes]:
    """The lock as files, by name: the JSON, and a Parquet file where there are times."""
    files: dict[str, bytes] = {}
    times_sha256 = None
    if lock.times is not None:
        sink = io.BytesIO()
        table = pa.table({"camera": lock.times.camera, "timestamp_ms": lock.times.timestamp_ms})
        if lock.times.group is not None:
            names = pa.array(lock.times.groups, pa.string())
            table = table.append_column("group", pa.DictionaryArray.from_arrays(lock.times.group, names))
        pq.write_table(table, sink, compression="zstd")
        files[schema.LOCK_TIMES_FILE] = sink.getvalue()
        times_sha256 = _times_checksum(lock.times)
    content = {
        "lock_version": LOCK_VERSION,
        "name": lock.name,
        "seed": lock.seed,
        "now_ms": lock.now_ms,
        "source": lock.source,
        "cameras": [asdict(camera) for camera in lock.cameras],
        "views": {name: asdict(geometry) for name, geometry in lock.views.items()},
        "zones": {zone: asdict(locked) for zone, locked in lock.zones.items()},
        "sampling": lock.sampling,
        "splits": lock.splits,
        "data_format": lock.data_format,
        "frames_per_shard": lock.frames_per_shard,
        "times_sha256": times_sha256,
        "notes": lock.notes,
        **({} if lock.dedup is None else {"dedup": lock.dedup}),
    }
    text = json.dumps({**content, "sha256": _checksum(content)}, indent=1, ensure_ascii=False)
    files[schema.LOCK_FILE] = text.encode() + b"\n"
    return files


def load_lock(dataset: Path) -> Lock:
    """The lock of the dataset in a folder. Raises DatasetError where it is missing or damaged."""
    path = dataset / schema.LOCK_FILE
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DatasetError(f"{dataset}: no dataset here ({path.name} is missing)") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: damaged ({type(error).__name__}: {error})") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: damaged: expected an object")
    if (version := content.get("lock_version")) != LOCK_VERSION:
        raise DatasetError(
            f"{path}: expected lock version {LOCK_VERSION}, got {version!r:.40}: this dataset was built by "
            "another version of rhombus-dataset"
        )
    # With the right checksum it is what lock_files wrote, and needs no looking at.
    checksum = content.pop("sha256", None)
    if checksum != _checksum(content):
        raise DatasetError(f"{path}: damaged, or changed by hand: its checksum does not fit")
    times = _load_times(dataset, content["times_sha256"])
    return Lock(
        name=content["name"],
        seed=content["seed"],
        now_ms=content["now_ms"],
        source=content["source"],
        cameras=tuple(
            LockedCamera(
                **{
                    **camera,
                    "views": tuple(camera["views"]),
                    "masks": tuple(tuple((x, y) for x, y in mask) for mask in camera["masks"]),
                }
            )
            for camera in content["cameras"]
        ),
        views={name: Geometry(**geometry) for name, geometry in content["views"].items()},
        zones={
            zone: LockedZone(_pairs(locked["offsets"]), _pairs(locked["windows"]))
            for zone, locked in content["zones"].items()
        },
        sampling=content["sampling"],
        splits=content["splits"],
        data_format=content["data_format"],
        frames_per_shard=content["frames_per_shard"],
        times=times,
        notes=tuple(content["notes"]),
        dedup=content.get("dedup"),
    )


def _load_times(dataset: Path, sha256: str | None) -> Times | None:
    if sha256 is None:
        return None
    path = dataset / schema.LOCK_TIMES_FILE
    try:
        table = pq.read_table(path)
        times = Times(
            table.column("camera").to_numpy().astype(np.int32),
            table.column("timestamp_ms").to_numpy().astype(np.int64),
        )
        if "group" in table.column_names:
            said = table.column("group").cast(pa.string()).combine_chunks()
            names = sorted(said.unique().to_pylist())
            numbers = pc.index_in(said, value_set=pa.array(names, pa.string())).to_numpy().astype(np.int32)
            times = replace(times, group=numbers, groups=tuple(names))
    except FileNotFoundError:
        raise DatasetError(f"{path}: missing, and {schema.LOCK_FILE} counts on it") from None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: damaged ({type(error).__name__}: {error})") from None
    if _times_checksum(times) != sha256:
        raise DatasetError(f"{path}: not the times that {schema.LOCK_FILE} names (checksum)")
    return times


def _times_checksum(times: Times) -> str:
    # Of the times, not of the file: that depends on the version of pyarrow.
    digest = hashlib.sha256(times.camera.astype("<i4").tobytes())
    digest.update(times.timestamp_ms.astype("<i8").tobytes())
    if times.group is not None:
        digest.update(times.group.astype("<i4").tobytes() + json.dumps(times.groups).encode())
    return digest.hexdigest()


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _pairs(values: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((a, b) for a, b in values)
