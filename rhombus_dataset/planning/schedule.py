"""The schedule: every planned frame, in order, in columns."""

from __future__ import annotations

import bisect
import datetime as dt
import functools
import hashlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rhombus_dataset.frame import FrameRequest, frame_id
from rhombus_dataset.geometry import Geometry, Polygon
from rhombus_dataset.hashing import json_sha256
from rhombus_dataset.plan.local_time import local_hours
from rhombus_dataset.planning.lock import LockedCamera, ScoutTimes, Shortfall
from rhombus_dataset.store import schema

_CHUNK_ROWS: Final = 1 << 14


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows [start, stop) of the schedule: shard ``index``, from 0, of the ``count`` shards of its split."""

    split: str
    index: int
    count: int
    start: int
    stop: int
    stem_part: str = ""

    @property
    def stem(self) -> str:
        """Return the name of its files without the extension."""
        return f"{self.split}-{self.stem_part}{self.index:05d}-of-{self.count:05d}"


@dataclass(frozen=True)
class Schedule:
    """Every planned frame, ordered by (split, timestamp, camera UUID, geometry).

    ``timestamp_ms`` (int64, UTC), ``camera`` (int32), ``view`` (uint16) and ``split`` (uint8) have one value for
    each row. The last three are indices of ``cameras`` (sorted by UUID), ``views`` (name and geometry) and
    ``splits``. ``shortfalls`` and ``notes`` say what sampling could not do.
    """

    timestamp_ms: npt.NDArray[np.int64]
    camera: npt.NDArray[np.int32]
    view: npt.NDArray[np.uint16]
    split: npt.NDArray[np.uint8]
    cameras: tuple[LockedCamera, ...]
    views: tuple[tuple[str, Geometry], ...]
    splits: tuple[str, ...]
    offsets: dict[str, tuple[tuple[int, int], ...]]
    data_format: str
    frames_per_shard: int
    shortfalls: tuple[Shortfall, ...] = ()
    notes: tuple[str, ...] = ()
    scouted: ScoutTimes | None = None
    """The times that were chosen from a scout pass, with the reasons. None for other strategies."""
    has_deployments: bool = False
    stem_part: str = ""
    """Part of the names of its shards that distinguishes them from another schedule in the same folder."""

    def __len__(self) -> int:
        return len(self.timestamp_ms)

    @functools.cached_property
    def shards(self) -> tuple[Shard, ...]:
        """Return the shards in the order of their rows. Together they hold every row once."""
        found: list[Shard] = []
        bounds = np.searchsorted(self.split, np.arange(len(self.splits) + 1)).tolist()
        for name, start, stop in zip(self.splits, bounds[:-1], bounds[1:], strict=True):
            starts = range(start, stop, self.frames_per_shard)
            for index, at in enumerate(starts):
                end = min(at + self.frames_per_shard, stop)
                found.append(Shard(name, index, len(starts), at, end, self.stem_part))
        return tuple(found)

    def build_order(self) -> list[Shard]:
        """Return the shards, oldest footage first, since the cloud deletes it first."""
        return sorted(self.shards, key=lambda shard: (self.timestamp_ms[shard.start], shard.start))

    def request(self, row: int) -> FrameRequest:
        """Return the request for a row."""
        return FrameRequest(
            self.camera_of(row).uuid,
            int(self.timestamp_ms[row]),
            self.views[int(self.view[row])][1],
        )

    def camera_of(self, row: int) -> LockedCamera:
        """Return the camera of a row."""
        return self.cameras[int(self.camera[row])]

    def masks(self, row: int) -> tuple[Polygon, ...]:
        """Return the polygons to paint over the image of a row."""
        return self.camera_of(row).masks

    def local_time(self, row: int) -> dt.datetime:
        """Return the time of a row on its camera's local clock, with the UTC offset."""
        timestamp_ms = int(self.timestamp_ms[row])
        offsets = self.offsets[self.camera_of(row).timezone]
        place = max(0, bisect.bisect_right(offsets, (timestamp_ms, 2**62)) - 1)
        zone = dt.timezone(dt.timedelta(milliseconds=offsets[place][1]))
        return dt.datetime.fromtimestamp(timestamp_ms / 1000, zone)

    def local_hours(self) -> npt.NDArray[np.int8]:
        """Return the local hour of the day (0 to 23) of every row. Shape (N,), int8."""
        result = np.empty(len(self), np.int8)
        for at in range(0, len(self), _CHUNK_ROWS):
            times, camera = self.timestamp_ms[at : at + _CHUNK_ROWS], self.camera[at : at + _CHUNK_ROWS]
            for zone, offsets in self.offsets.items():
                in_zone = np.array([c.timezone == zone for c in self.cameras])[camera]
                result[at : at + _CHUNK_ROWS][in_zone] = local_hours(times[in_zone], offsets)
        return result

    def planned_table(self, start: int, stop: int) -> pa.Table:
        """Return rows [start, stop) with the columns of ``schema.PLANNED``."""
        camera, view = self.camera[start:stop], self.view[start:stop]
        geometries = [geometry for _, geometry in self.views]

        def by_camera(values: list[str | None]) -> pa.Array:
            return pa.array(values, pa.string()).take(pa.array(camera))

        def by_view(name: str) -> npt.NDArray[np.int32]:
            return np.array([getattr(g, name) for g in geometries], np.int32)[view]

        ids = [
            frame_id(self.cameras[c].uuid, t, geometries[v])
            for c, t, v in zip(camera.tolist(), self.timestamp_ms[start:stop].tolist(), view.tolist(), strict=True)
        ]
        columns = {
            "frame_id": ids,
            "split": pa.array(self.splits).take(pa.array(self.split[start:stop])),
            "camera_uuid": by_camera([c.uuid for c in self.cameras]),
            "camera_name": by_camera([c.name for c in self.cameras]),
            "location": by_camera([c.location for c in self.cameras]),
            "timestamp": pa.array(self.timestamp_ms[start:stop]).cast(pa.timestamp("ms", tz="UTC")),
            "timezone": by_camera([c.timezone for c in self.cameras]),
            "view": pa.array([name for name, _ in self.views]).take(pa.array(view)),
            "downscale": by_view("downscale"),
            "crop_x": by_view("crop_x"),
            "crop_y": by_view("crop_y"),
            "crop_width": by_view("crop_width"),
            "crop_height": by_view("crop_height"),
        }
        return pa.table(columns, schema=pa.schema(list(schema.PLANNED)))

    @property
    def more_fields(self) -> tuple[pa.Field[Any], ...]:
        """Return the manifest columns of this schedule that not every manifest has."""
        deployment = (schema.DEPLOYMENT,) if self.has_deployments else ()
        return deployment + (schema.CHOICE if self.scouted is not None else ())

    def more_columns(self, start: int, stop: int) -> dict[str, pa.Array]:
        """Return rows [start, stop) of the ``more_fields`` columns, by name."""
        camera, times = self.camera[start:stop], self.timestamp_ms[start:stop]
        found: dict[str, pa.Array] = {}
        if self.has_deployments:
            names = np.empty(stop - start, object)
            for i in np.unique(camera).tolist():
                of_camera = camera == i
                nth = np.searchsorted(self.cameras[i].deployments, times[of_camera], side="right")
                names[of_camera] = np.array(self.cameras[i].deployment_names, object)[nth]
            found["deployment"] = pa.array(names, pa.string())
        if (scouted := self.scouted) is not None:
            place = np.empty(stop - start, np.int64)
            for i in np.unique(camera).tolist():
                of_camera = camera == i
                first, last = np.searchsorted(scouted.camera, [i, i + 1])
                place[of_camera] = first + np.searchsorted(scouted.timestamp_ms[first:last], times[of_camera])
            found["score"] = pa.array(scouted.score[place])
            found["chosen_for"] = pa.array(scouted.reasons, pa.string()).take(pa.array(scouted.reason_code[place]))
        return found

    @functools.cached_property
    def digest(self) -> str:
        """Return the hex SHA-256 that identifies the build: of the ordered rows (UUID, time, geometry, masks,
        split), the format and the frames of a shard. Names, limits and addresses have no influence."""
        row = np.dtype([("uuid", "S26"), ("t", "<i8"), ("g", "<i4", 5), ("masks", "S16"), ("split", "S16")])
        cameras = np.zeros(len(self.cameras), row)
        for i, camera in enumerate(self.cameras):
            cameras[i]["uuid"] = camera.uuid.encode()
            cameras[i]["masks"] = _short_hash(sorted(camera.masks))
        geometries = np.array(
            [(g.downscale, g.crop_x, g.crop_y, g.crop_width, g.crop_height) for _, g in self.views],
            "<i4",
        )
        splits = np.array([_short_hash(name) for name in self.splits], "S16")
        digest = hashlib.sha256(
            f"rhombus-dataset {schema.FORMAT_VERSION} {self.data_format} {self.frames_per_shard}\n".encode()
        )
        for at in range(0, len(self), _CHUNK_ROWS):
            part = slice(at, at + _CHUNK_ROWS)
            rows = cameras[self.camera[part]]
            rows["t"] = self.timestamp_ms[part]
            rows["g"] = geometries[self.view[part]]
            rows["split"] = splits[self.split[part]]
            digest.update(rows.tobytes())
        return digest.hexdigest()


def _short_hash(value: object) -> bytes:
    # In hex, since a trailing zero byte would be lost in a fixed-width field.
    return json_sha256(value)[:16].encode()
