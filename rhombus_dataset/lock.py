"""The lock: the plan with everything looked up. From here on, all is a pure function.

Time zones are frozen as numbers and a timestamps file as its rows, so that neither a newer tzdata nor an
edited CSV changes what a lock means.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
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
from rhombus_dataset.plan.model import CameraSplits, Plan, RhombusSource, TimestampsSampling
from rhombus_dataset.timestamps_file import read_timestamps

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


@dataclass(frozen=True, slots=True)
class Times:
    """The times of a timestamps file: ``camera`` (int32, an index of the lock's cameras) and
    ``timestamp_ms`` (int64, UTC), sorted by both, each pair once."""

    camera: npt.NDArray[np.int32]
    timestamp_ms: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lock:
    """Everything that the schedule depends on.

    ``resolved_at_ms`` is the moment that ``end: now`` was frozen at. ``sampling`` and ``splits`` are the
    plan's, in milliseconds and camera UUIDs.
    """

    name: str
    seed: int
    resolved_at_ms: int
    source: dict[str, str]
    cameras: tuple[LockedCamera, ...]
    views: dict[str, Geometry]
    zones: dict[str, LockedZone]
    sampling: dict[str, Any]
    splits: dict[str, Any] | None
    data_format: str
    frames_per_shard: int
    times: Times | None = None
    notes: tuple[str, ...] = ()


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
            _distinct_views(camera.views, plan.views),
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
        camera, timestamp_ms = read_timestamps(
            plan.sampling.file, {c.uuid: i for i, c in enumerate(cameras)},
            {c.name: i for i, c in enumerate(cameras)}, [c.timezone for c in cameras], now_ms,
        )  # fmt: skip
        times, notes = _in_windows(camera, timestamp_ms, cameras, windows if plan.windows else None)
    zones = {zone: _locked_zone(zone, spans, times) for zone, spans in windows.items()}
    splits = None if plan.splits is None else plan.splits.model_dump(mode="json")
    if isinstance(plan.splits, CameraSplits) and splits is not None:
        by_name = {c.name: c.uuid for c in cameras}
        splits["assign"] = {
            split: sorted(by_name.get(camera, camera) for camera in assigned)
            for split, assigned in plan.splits.assign.items()
        }
    source = {"type": plan.source.type}
    if isinstance(plan.source, RhombusSource):
        source["url"] = plan.source.url
    return Lock(
        name=plan.name,
        seed=plan.seed,
        resolved_at_ms=now_ms,
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
    )


def _distinct_views(names: Iterable[str], views: dict[str, Geometry]) -> tuple[str, ...]:
    """A frame planned twice is one frame: of views with one geometry, the first stands."""
    first = {views[name]: name for name in reversed(tuple(names))}
    return tuple(sorted(first.values(), key=lambda name: views[name]))


def _in_windows(
    camera: npt.NDArray[np.int32],
    timestamp_ms: npt.NDArray[np.int64],
    cameras: tuple[LockedCamera, ...],
    windows: dict[str, Intervals] | None,
) -> tuple[Times, list[str]]:
    pairs = np.unique(np.stack([camera.astype(np.int64), timestamp_ms]), axis=1)
    notes: list[str] = []
    if (repeated := len(camera) - pairs.shape[1]) > 0:
        notes.append(f"{repeated} times stand more than once in the timestamps file: one frame each")
    kept = np.ones(pairs.shape[1], np.bool_)
    if windows is not None:
        for index, locked in enumerate(cameras):
            rows = np.flatnonzero(pairs[0] == index)
            kept[rows] = inside(pairs[1][rows], windows[locked.timezone])
    if dropped := int((~kept).sum()):
        notes.append(f"{dropped} times of the timestamps file lie outside the windows: left out")
    return Times(pairs[0][kept].astype(np.int32), pairs[1][kept]), notes


def inside(timestamps_ms: npt.NDArray[np.int64], intervals: Intervals) -> npt.NDArray[np.bool_]:
    """Which times lie in one of the intervals: bool, of the shape of ``timestamps_ms``."""
    if not intervals:
        return np.zeros(timestamps_ms.shape, np.bool_)
    table = np.array(intervals, np.int64)
    place = np.searchsorted(table[:, 0], timestamps_ms, side="right") - 1
    return (place >= 0) & (timestamps_ms < table[place, 1])


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
        pq.write_table(table, sink, compression="zstd")
        files[schema.LOCK_TIMES_FILE] = sink.getvalue()
        times_sha256 = hashlib.sha256(
            lock.times.camera.tobytes() + lock.times.timestamp_ms.tobytes()
        ).hexdigest()
    content = {
        "lock_version": LOCK_VERSION,
        "name": lock.name,
        "seed": lock.seed,
        "resolved_at_ms": lock.resolved_at_ms,
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
    }
    checksum = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    text = json.dumps({**content, "sha256": checksum}, indent=1, ensure_ascii=False)
    files[schema.LOCK_FILE] = text.encode() + b"\n"
    return files


def load_lock(dataset: Path) -> Lock:
    """The lock of the dataset in a folder. Raises DatasetError where it is missing or damaged."""
    path = dataset / schema.LOCK_FILE
    try:
        text = path.read_bytes()
        content = json.loads(text)
        lock = _from_json(content, dataset)
        intact = lock_files(lock)[schema.LOCK_FILE] == text
    except FileNotFoundError as error:
        raise DatasetError(f"{dataset}: no dataset here ({error.filename} is missing)") from None
    except (OSError, ValueError, KeyError, TypeError, IndexError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: damaged ({type(error).__name__}: {error})") from None
    if not intact:
        raise DatasetError(f"{path}: damaged, or changed by hand: its checksum does not fit")
    return lock


def _from_json(content: dict[str, Any], dataset: Path) -> Lock:
    if content["lock_version"] != LOCK_VERSION:
        raise ValueError(f"lock version {content['lock_version']}, this program reads {LOCK_VERSION}")
    times = None
    if content["times_sha256"] is not None:
        table = pq.read_table(dataset / schema.LOCK_TIMES_FILE)
        times = Times(
            table.column("camera").to_numpy().astype(np.int32),
            table.column("timestamp_ms").to_numpy().astype(np.int64),
        )
    return Lock(
        name=content["name"],
        seed=content["seed"],
        resolved_at_ms=content["resolved_at_ms"],
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
    )


def _pairs(values: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((a, b) for a, b in values)
