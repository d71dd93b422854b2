"""Every planned frame of a dataset, in columns of numbers that the sections of the report count."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.dataset import Dataset
from rhombus_dataset.errors import DatasetError
from rhombus_dataset.frame import Status
from rhombus_dataset.plan.local_time import HOUR_MS
from rhombus_dataset.planning.lock import Lock
from rhombus_dataset.planning.schedule import Schedule
from rhombus_dataset.planning.splits import split_names
from rhombus_dataset.store import layout, manifest, schema

_NOT_BUILT: Final = "not built yet"
STATUSES: Final = [*map(str, Status), _NOT_BUILT]
OK: Final = STATUSES.index(Status.OK)
PENDING: Final = STATUSES.index(_NOT_BUILT)

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Names:
    """The names that the codes in :class:`Frames` are indices of."""

    cameras: list[str]
    uuids: list[str]
    zones: list[str]
    locations: list[str]
    views: list[str]
    splits: list[str]

    @classmethod
    def of(cls, lock: Lock) -> Names:
        cameras = sorted(lock.cameras, key=lambda camera: (camera.name, camera.uuid))
        return cls(
            cameras=[camera.name for camera in cameras],
            uuids=[camera.uuid for camera in cameras],
            zones=[camera.timezone for camera in cameras],
            locations=[camera.location or "" for camera in cameras],
            views=list(lock.views),
            splits=split_names(lock.splits),
        )


@dataclass(frozen=True, slots=True)
class Frames:
    """Every planned frame, in columns: the rows of the manifest in its order, then the frames not built yet.

    ``camera``, ``view``, ``split`` and ``status`` are codes. ``t_ms`` is in UTC milliseconds; ``local_ms`` and
    ``hour`` are of the camera's clock. Measures are valid for status `ok` only. ``draw`` orders frames at random,
    the same every time.
    """

    camera: Ints
    view: Ints
    split: Ints
    status: Ints
    t_ms: Ints
    local_ms: Ints
    hour: Ints
    reason: npt.NDArray[Any]
    luma: npt.NDArray[np.float64]
    sharpness: npt.NDArray[np.float64]
    width: Ints
    height: Ints
    draw: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.t_ms)


def read_frames(
    folder: Path, lock: Lock, schedules: list[Schedule], dataset: Dataset | None, names: Names
) -> Frames:
    """Return every planned frame of a dataset. ``dataset`` is None if no shard is committed yet.

    Raises DatasetError if the manifest does not match the lock.
    """
    table = manifest_table(dataset)
    committed = {path.stem for path in manifest.slice_paths(folder)}
    pending = [_pending(schedule, committed, names) for schedule in schedules]
    pending_camera, pending_view, pending_split, pending_t_ms = (
        np.concatenate(column) for column in zip(*pending, strict=True)
    )

    def joined(built: npt.NDArray[Any], planned: Any) -> npt.NDArray[Any]:
        return np.concatenate([built, np.broadcast_to(np.asarray(planned, built.dtype), pending_t_ms.shape)])

    def numbers(name: str) -> npt.NDArray[Any]:
        return np.asarray(table.column(name).to_pandas(), np.float64)

    camera = joined(_codes(table, "camera_uuid", names.uuids), pending_camera)
    t_ms = joined(np.asarray(table.column("timestamp").cast(pa.int64()), np.int64), pending_t_ms)
    local_ms = t_ms.copy()
    for zone in set(names.zones):
        in_zone = np.array([z == zone for z in names.zones])[camera]
        offsets = np.array(lock.zones[zone].offsets, np.int64)
        since = np.maximum(np.searchsorted(offsets[:, 0], t_ms[in_zone], side="right") - 1, 0)
        local_ms[in_zone] += offsets[since, 1]
    frame_ids = pc.utf8_slice_codeunits(table.column("frame_id"), 0, 16).to_pylist()
    draw = np.frombuffer(bytes.fromhex("".join(frame_ids)), ">u8").astype(np.uint64)
    return Frames(
        camera=camera,
        view=joined(_codes(table, "view", names.views), pending_view),
        split=joined(_codes(table, "split", names.splits), pending_split),
        status=joined(_codes(table, "status", STATUSES), PENDING),
        t_ms=t_ms,
        local_ms=local_ms,
        hour=local_ms // HOUR_MS % 24,
        reason=joined(np.asarray(table.column("reason").to_pylist(), object), None),
        luma=joined(numbers("luma"), np.nan),
        sharpness=joined(numbers("sharpness"), np.nan),
        width=joined(np.nan_to_num(numbers("width")).astype(np.int64), 0),
        height=joined(np.nan_to_num(numbers("height")).astype(np.int64), 0),
        draw=joined(draw, 0),
    )


def manifest_table(dataset: Dataset | None) -> pa.Table:
    """Return the manifest of a dataset, or an empty table if no shard is committed yet."""
    return schema.manifest_schema().empty_table() if dataset is None else dataset.manifest


def _pending(schedule: Schedule, committed: set[str], names: Names) -> tuple[Ints, Ints, Ints, Ints]:
    """Return camera, view, split and time of the rows whose shards are not committed yet."""
    ranges = [np.arange(s.start, s.stop) for s in schedule.shards if s.stem not in committed]
    rows: Ints = np.concatenate([np.empty(0, np.int64), *ranges])
    camera = np.array([names.uuids.index(camera.uuid) for camera in schedule.cameras], np.int64)
    view = np.array([names.views.index(name) for name, _ in schedule.views], np.int64)
    return (
        camera[schedule.camera[rows]],
        view[schedule.view[rows]],
        schedule.split[rows].astype(np.int64),
        schedule.timestamp_ms[rows],
    )


def _codes(table: pa.Table, column: str, names: list[str]) -> Ints:
    found = pc.fill_null(pc.index_in(table.column(column), value_set=pa.array(names, pa.string())), -1)
    codes = np.asarray(found, np.int64)
    if (codes < 0).any():
        raise DatasetError(
            f"the manifest has a {column} that {layout.LOCK_FILE} does not name. "
            "Run `rhombus-dataset verify` for details"
        )
    return codes


def cross_table(rows: Ints, columns: Ints, n_rows: int, n_columns: int) -> Ints:
    """Return how often each combination of two codes occurs: int64, (n_rows, n_columns)."""
    counts = np.bincount(rows * n_columns + columns, minlength=n_rows * n_columns)
    return counts.reshape(n_rows, n_columns).astype(np.int64)
