"""The lock: the plan with everything looked up. From here on, all is a pure function.

Time zones are frozen as numbers and a timestamps file as its rows, so that neither a newer tzdata nor an
edited CSV changes what a lock means.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rhombus_dataset.errors import DatasetError, OtherDataset, UsageError
from rhombus_dataset.geometry import Geometry, Polygon
from rhombus_dataset.plan.local_time import DAY_MS, Intervals, Offsets, moment_ms, window_intervals, zone_offsets
from rhombus_dataset.plan.model import (
    Camera,
    CameraSplits,
    ColumnSplits,
    DeploymentSplits,
    Plan,
    RhombusSource,
    ScoutSampling,
    TimestampsSampling,
)
from rhombus_dataset.plan.timestamps_file import TimestampRows, read_timestamps
from rhombus_dataset.store import layout

LOCK_VERSION: Final = 1
FIRST_DEPLOYMENT: Final = "first"
FOOTAGE_LAG_MS: Final = 5 * 60_000
"""Footage reaches the cloud's storage late, so ``end: now`` means this much earlier."""


@dataclass(frozen=True, slots=True)
class LockedCamera:
    """A camera of the plan. ``views`` are names, at most one for each geometry.

    ``deployments`` are when it was moved, turned or blocked (UTC ms, ascending): with each begins another
    deployment, and before the first is one too."""

    uuid: str
    name: str
    location: str | None
    timezone: str
    views: tuple[str, ...]
    masks: tuple[Polygon, ...]
    deployments: tuple[int, ...] = ()

    @property
    def deployment_names(self) -> tuple[str, ...]:
        """The names of its deployments: the first, and those that are named by their start (UTC)."""
        return (FIRST_DEPLOYMENT, *map(_instant, self.deployments))

    def deployment_groups(self) -> tuple[str, ...]:
        """The same as splits tell them apart. The first is the camera's UUID: that it was moved later changes
        nothing for it."""
        return (self.uuid, *(f"{self.uuid}@{name}" for name in self.deployment_names[1:]))


def _instant(utc_ms: int) -> str:
    moment = dt.datetime.fromtimestamp(utc_ms // 1000, dt.UTC).replace(microsecond=utc_ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds" if utc_ms % 1000 else "seconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class LockedZone:
    """A time zone over the plan's times: its offsets, and when the windows are open."""

    offsets: Offsets
    windows: Intervals


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """The times of a timestamps file, or those that were scouted: ``camera`` (int32, an index of the lock's
    cameras) and ``timestamp_ms`` (int64, UTC), sorted by both, each pair once.

    Where splits are by a column, ``group`` (int32) is an index of ``groups``, the texts in it. Of what was
    scouted, ``score`` (float64) is the share of the picture that is new, ``why`` (int32) an index of
    ``whys``, what each was chosen for, and ``rank`` (int32) its place in the order of choosing: those from the
    plan's count on are spare."""

    camera: npt.NDArray[np.int32]
    timestamp_ms: npt.NDArray[np.int64]
    group: npt.NDArray[np.int32] | None = None
    groups: tuple[str, ...] = ()
    score: npt.NDArray[np.float64] | None = None
    why: npt.NDArray[np.int32] | None = None
    whys: tuple[str, ...] = ()
    rank: npt.NDArray[np.int32] | None = None

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that it has, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if isinstance(value, np.ndarray)}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Times):
            return NotImplemented
        mine, others = self.columns(), other.columns()
        same_texts = (self.groups, self.whys) == (other.groups, other.whys)
        return (
            same_texts
            and mine.keys() == others.keys()
            and all(np.array_equal(mine[name], others[name]) for name in mine)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Selection:
    """What was chosen from a scout pass: the second stage of a lock.

    ``deployments`` are those that the pass shows, by camera UUID. ``about`` is what the lock says of the pass:
    its content hash, what was chosen by (``inputs_sha256``), and what was lacking.
    """

    times: Times
    deployments: Mapping[str, tuple[int, ...]]
    about: dict[str, Any]


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
    scout: dict[str, Any] | None = None
    """What the picks of a scout pass were chosen from, and by."""
    top_up: bool = False

    @property
    def picks(self) -> Selection | None:
        """What was chosen from the scout pass, where there was one."""
        if self.scout is None or self.times is None:
            return None
        return Selection(self.times, {c.uuid: c.deployments for c in self.cameras if c.deployments}, self.scout)

    @property
    def has_deployments(self) -> bool:
        """Whether frames are told apart by deployments of their cameras."""
        return self.scout is not None or any(camera.deployments for camera in self.cameras)


def resolve(plan: Plan, now_ms: int, picks: Selection | None = None) -> Lock:
    """Look everything up that ``plan`` leaves open. ``now_ms``: UTC epoch milliseconds.

    Reads the time-zone database, and the timestamps file of a plan that has one. A plan with strategy
    `scout` needs the ``picks`` from its pass. Raises InvalidFile for what is wrong in a file, UsageError without
    the picks, and OtherDataset where they were chosen by other settings than the plan's.
    """
    cameras = tuple(
        LockedCamera(
            camera.uuid,
            camera.name,
            camera.location,
            camera.timezone,
            _distinct_views(camera.views or plan.views, plan.views),
            camera.masks,
            _deployments(camera, picks),
        )
        for camera in sorted(plan.cameras, key=lambda camera: camera.uuid)
    )
    footage_ends_ms = now_ms - FOOTAGE_LAG_MS
    times: Times | None = None
    notes: list[str] = []
    sampling = plan.sampling.model_dump(mode="json", exclude={"file", "top_up"})
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
    scout = None
    if isinstance(plan.sampling, ScoutSampling):
        if picks is None:
            raise UsageError(
                "which frames a plan with strategy scout asks for is known once its scout pass is done: "
                "`rhombus-dataset plan` tells what the pass costs, and `build` makes it"
            )
        times, scout = picks.times, picks.about
    zones = {zone: _locked_zone(zone, spans, times) for zone, spans in windows.items()}
    splits = None if plan.splits is None else plan.splits.model_dump(mode="json")
    if isinstance(plan.splits, CameraSplits | DeploymentSplits) and splits is not None:
        by_name = {c.name: c.uuid for c in cameras}
        splits["assign"] = {
            split: sorted(_by_uuid(camera, by_name) for camera in assigned)
            for split, assigned in plan.splits.assign.items()
        }
    source: dict[str, str] = {"type": plan.source.type}
    if isinstance(plan.source, RhombusSource):
        source["url"] = plan.source.url
    lock = Lock(
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
        scout=scout,
        top_up=getattr(plan.sampling, "top_up", False),
    )
    if scout is not None and (chosen_by := scout_inputs_sha256(plan, now_ms)) != scout["inputs_sha256"]:
        raise OtherDataset(
            "the frames of this folder were chosen by other cameras, windows, splits or sampling settings than "
            f"the plan's: their digest is {scout['inputs_sha256']}, the plan's is {chosen_by}. Choose another "
            "--out; with --reuse of this folder, what it holds is not asked for again."
        )
    return lock


def scout_inputs_sha256(plan: Plan, now_ms: int) -> str:
    """Of all in a plan that decides which frames of a scout pass are chosen; names and limits do not."""
    windows = {
        zone: window_intervals(plan.windows, zone, now_ms - FOOTAGE_LAG_MS)
        for zone in sorted({camera.timezone for camera in plan.cameras})
    }
    cameras = sorted((c.uuid, c.timezone, c.masks, _deployments(c, None)) for c in plan.cameras)
    sampling = plan.sampling.model_dump(mode="json", exclude={"top_up"})
    splits = None if plan.splits is None else plan.splits.model_dump(mode="json", exclude={"assign"})
    return _checksum({"of": [plan.seed, sampling, splits, cameras, windows]})


def _deployments(camera: Camera, picks: Selection | None) -> tuple[int, ...]:
    """What the plan says of a camera, or else what its pass has shown."""
    said = {moment_ms(moment, camera.timezone) for moment in camera.deployments}
    if not said and picks is not None:
        return picks.deployments.get(camera.uuid, ())
    return tuple(sorted(said))


def _by_uuid(name: str, by_name: dict[str, str]) -> str:
    """A camera's name, perhaps with @ and a deployment's start, with its UUID in the name's place."""
    if name in by_name or "@" not in name:
        return by_name.get(name, name)
    camera, _, start = name.rpartition("@")
    return f"{by_name.get(camera, camera)}@{start}"


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
        columns: dict[str, Any] = dict(lock.times.columns())
        for name, texts in (("group", lock.times.groups), ("why", lock.times.whys)):
            if name in columns:
                columns[name] = pa.DictionaryArray.from_arrays(columns[name], pa.array(texts, pa.string()))
        table = pa.table(columns)
        pq.write_table(table, sink, compression="zstd")
        files[layout.LOCK_TIMES_FILE] = sink.getvalue()
        times_sha256 = _times_checksum(lock.times)
    content = {
        "lock_version": LOCK_VERSION,
        "name": lock.name,
        "seed": lock.seed,
        "now_ms": lock.now_ms,
        "source": lock.source,
        "cameras": [
            {name: value for name, value in asdict(camera).items() if name != "deployments" or value}
            for camera in lock.cameras
        ],
        "views": {name: asdict(geometry) for name, geometry in lock.views.items()},
        "zones": {zone: asdict(locked) for zone, locked in lock.zones.items()},
        "sampling": lock.sampling,
        "splits": lock.splits,
        "data_format": lock.data_format,
        "frames_per_shard": lock.frames_per_shard,
        "times_sha256": times_sha256,
        "notes": lock.notes,
        **({} if lock.dedup is None else {"dedup": lock.dedup}),
        **({} if lock.scout is None else {"scout": lock.scout}),
        **({"top_up": True} if lock.top_up else {}),
    }
    text = json.dumps({**content, "sha256": _checksum(content)}, indent=1, ensure_ascii=False)
    files[layout.LOCK_FILE] = text.encode() + b"\n"
    return files


def load_lock(dataset: Path) -> Lock:
    """The lock of the dataset in a folder. Raises DatasetError where it is missing or damaged."""
    path = dataset / layout.LOCK_FILE
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
                    "deployments": tuple(camera.get("deployments", ())),
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
        scout=content.get("scout"),
        top_up=content.get("top_up", False),
    )


def _load_times(dataset: Path, sha256: str | None) -> Times | None:
    if sha256 is None:
        return None
    path = dataset / layout.LOCK_TIMES_FILE
    try:
        table = pq.read_table(path)
        times = Times(**_times_columns(table))
    except FileNotFoundError:
        raise DatasetError(f"{path}: missing, and {layout.LOCK_FILE} counts on it") from None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: damaged ({type(error).__name__}: {error})") from None
    if _times_checksum(times) != sha256:
        raise DatasetError(f"{path}: not the times that {layout.LOCK_FILE} names (checksum)")
    return times


def _times_columns(table: pa.Table) -> dict[str, Any]:
    found: dict[str, Any] = {}
    kinds = {"camera": np.int32, "timestamp_ms": np.int64, "score": np.float64, "rank": np.int32}
    for name in table.column_names:
        if name in kinds:
            found[name] = table.column(name).to_numpy().astype(kinds[name])
        else:
            # Numbered by their names, whatever order the file has them in.
            said = table.column(name).cast(pa.string()).combine_chunks()
            texts = sorted(said.unique().to_pylist())
            found[name] = pc.index_in(said, value_set=pa.array(texts, pa.string())).to_numpy().astype(np.int32)
            found[f"{name}s"] = tuple(texts)
    return found


def _times_checksum(times: Times) -> str:
    # Of the times, not of the file: that depends on the version of pyarrow.
    digest = hashlib.sha256()
    for column in times.columns().values():
        digest.update(column.astype(column.dtype.newbyteorder("<")).tobytes())
    for texts in (times.groups, times.whys):
        if texts:
            digest.update(json.dumps(texts).encode())
    return digest.hexdigest()


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _pairs(values: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((a, b) for a, b in values)
