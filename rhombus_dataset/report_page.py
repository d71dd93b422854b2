"""One page that shows a dataset: what came, when, how it looks, and how far its splits are apart.

Everything in it is computed from the dataset's files, so the same dataset gives the same bytes, and all of it
stands in the page itself, which asks no network for anything.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset import manifest, schema
from rhombus_dataset.dataset import Dataset, open_dataset
from rhombus_dataset.decode import DamagedPicture, thumbnail
from rhombus_dataset.errors import DatasetError
from rhombus_dataset.frame import Status
from rhombus_dataset.local_time import DAY_MS, HOUR_MS, MINUTE_MS
from rhombus_dataset.lock import Lock, load_lock
from rhombus_dataset.markup import data_uri, html
from rhombus_dataset.sampler import sample
from rhombus_dataset.schedule import Schedule
from rhombus_dataset.splits import split_names
from rhombus_dataset.storage import write_file

REPORT_FILE: Final = "report.html"
THUMBNAIL_PX: Final = 160
MAX_PICTURES: Final = 240
MAX_PICTURE_BYTES: Final = 4_000_000
"""Of all pictures of a page together, as they stand in it."""
NEIGHBOURS: Final = 50
"""A frame is compared with so many others of its camera and view: all pairs would be too many."""
ALIKE_BITS: Final = 4
"""Two frames are alike where at most this many of the 64 bits of their difference hashes differ."""
DARK_LUMA: Final = 16

_ODDEST: Final = 7
_ALIKE_PAIRS: Final = 8
_LEAK_PAIRS: Final = 12
_SHEET: Final = MAX_PICTURES - 2 * _ODDEST - 2 * (_ALIKE_PAIRS + _LEAK_PAIRS)
_LOST_TILES: Final = 24
_MAX_COLUMNS: Final = 60
_BINS: Final = 32
_TIMELINE_BINS: Final = 240
_MAX_LABELS: Final = 50
_MAX_SIZES: Final = 12
_NOT_BUILT: Final = "not built yet"
_STATUSES: Final = [*map(str, Status), _NOT_BUILT]
_OK: Final = _STATUSES.index(Status.OK)
_PENDING: Final = _STATUSES.index(_NOT_BUILT)

_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]
_Hashes = npt.NDArray[np.uint64]


def write_report(dataset: Path, out: Path | None = None) -> Path:
    """Write the report of the dataset in a folder, into that folder by default.

    Raises DatasetError where there is none, and StorageError.
    """
    path = dataset / REPORT_FILE if out is None else out
    write_file(path, report_html(dataset).encode())
    return path


def report_html(dataset: Path) -> str:
    """The page, a pure function of the dataset's files. Raises DatasetError where there is none."""
    lock = load_lock(dataset)
    schedule = sample(lock)
    # A build may have been stopped before its first shard stood.
    opened = open_dataset(dataset) if manifest.slice_paths(dataset) else None
    names = _Names.of(lock)
    frames = _frames(dataset, lock, schedule, opened, names)
    album = _Album(dataset, opened, names, frames)
    ok = np.flatnonzero(frames.status == _OK)
    days = _days(frames)
    pairs = _Pairs(frames, ok)
    alike = _alike(pairs, names, album)
    leaks = _leaks(pairs, names, album)
    oddest = [
        ("Darkest", "Lowest mean grey value (0 is black, 255 is white).", _least(frames.luma, ok)),
        (
            "Blurriest",
            "Lowest variance of the Laplacian, in squared grey levels: flat, fogged or out of focus.",
            _least(frames.sharpness, ok),
        ),
    ]
    odd = [(title, what, [album.figure(i, days) for i in found]) for title, what, found in oddest]
    chosen, lost = _sheet(frames)
    # In the order of the choice, so that what no longer fits is spread as well.
    shown = {i: album.figure(i, days) for i in [*chosen, *lost]}
    sheets = [shown[i] for i in sorted(shown, key=lambda i: (frames.camera[i], frames.hour[i], frames.t_ms[i], i))]
    values = {
        "facts": _facts(dataset, lock, schedule, frames, names),
        "notes": lock.notes,
        "outcomes": _outcomes(frames, names),
        "reasons": _reasons(frames, names),
        "hours": _heat(frames, names, frames.hour, _HOURS, "hour"),
        "days": _heat(frames, names, days.bins, [(d.label, d.long) for d in days.columns], "day"),
        "day_unit": days.unit,
        "timeline": _timeline(frames, names),
        "sheets": [(name, [f for f in sheets if f["camera"] == c]) for c, name in enumerate(names.cameras)],
        "sheet_count": len(chosen),
        "lost_tiles": len(lost),
        "oddest": odd,
        "alike": alike,
        "measures": _measures(frames, ok, names),
        "splits": _splits(frames, names),
        "split_rule": _split_rule(lock),
        "leaks": leaks,
        "labels": _labels(opened, frames, names),
        "plan": _plan_text(dataset),
        "album": album,
        "columns": {
            "camera": names.cameras,
            "hour": [label for label, _ in _HOURS],
            "day": [d.label for d in days.columns],
            "split": names.splits,
            "view": names.views,
            "status": _STATUSES,
        },
        "used_statuses": [i for i in range(len(_STATUSES)) if (frames.status == i).any()],
        "limits": {
            "thumbnail_px": THUMBNAIL_PX,
            "pictures": MAX_PICTURES,
            "megabytes": MAX_PICTURE_BYTES / 1e6,
            "neighbours": NEIGHBOURS,
            "bits": ALIKE_BITS,
        },
    }
    values["findings"] = _findings(schedule, frames, ok, opened, alike, leaks)
    return html("report.html.j2", **values)


_HOURS: Final = [(f"{hour:02d}", f"{hour:02d}:00 to {hour + 1:02d}:00") for hour in range(24)]


@dataclass(frozen=True, slots=True)
class _Names:
    """What the integers in :class:`_Frames` stand for."""

    cameras: list[str]
    uuids: list[str]
    zones: list[str]
    locations: list[str]
    views: list[str]
    splits: list[str]

    @classmethod
    def of(cls, lock: Lock) -> _Names:
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
class _Frames:
    """Every planned frame, in columns: those of the manifest in its order, then those not built yet.

    What is measured stands for status `ok` only. ``draw`` orders frames by nothing but chance, the same every
    time; ``picture`` has one number for each distinct picture.
    """

    camera: _Ints
    view: _Ints
    split: _Ints
    status: _Ints
    t_ms: _Ints
    local_ms: _Ints
    hour: _Ints
    reason: npt.NDArray[Any]
    luma: npt.NDArray[np.float64]
    sharpness: npt.NDArray[np.float64]
    width: _Ints
    height: _Ints
    dhash: _Hashes
    draw: _Hashes
    picture: _Ints

    def __len__(self) -> int:
        return len(self.t_ms)


def _frames(folder: Path, lock: Lock, schedule: Schedule, dataset: Dataset | None, names: _Names) -> _Frames:
    table = schema.manifest_schema().empty_table() if dataset is None else dataset.manifest
    standing = {path.stem for path in manifest.slice_paths(folder)}
    ranges = [np.arange(s.start, s.stop) for s in schedule.shards if s.stem not in standing]
    pending: _Ints = np.concatenate([np.empty(0, np.int64), *ranges])
    place = np.array([names.uuids.index(camera.uuid) for camera in schedule.cameras], np.int64)
    view = np.array([names.views.index(name) for name, _ in schedule.views], np.int64)

    def joined(built: npt.NDArray[Any], planned: Any) -> npt.NDArray[Any]:
        return np.concatenate([built, np.broadcast_to(np.asarray(planned, built.dtype), pending.shape)])

    def numbers(name: str) -> npt.NDArray[Any]:
        return np.asarray(table.column(name).to_pandas(), np.float64)

    def hexadecimal(name: str) -> _Hashes:
        column = pc.utf8_slice_codeunits(pc.fill_null(table.column(name), "0" * 16), 0, 16)
        return np.frombuffer(bytes.fromhex("".join(column.to_pylist())), ">u8").astype(np.uint64)

    camera = joined(_codes(table, "camera_uuid", names.uuids), place[schedule.camera[pending]])
    t_ms = joined(np.asarray(table.column("timestamp").cast(pa.int64()), np.int64), schedule.timestamp_ms[pending])
    local_ms = t_ms.copy()
    for zone in set(names.zones):
        mine = np.array([z == zone for z in names.zones])[camera]
        offsets = np.array(lock.zones[zone].offsets, np.int64)
        since = np.maximum(np.searchsorted(offsets[:, 0], t_ms[mine], side="right") - 1, 0)
        local_ms[mine] += offsets[since, 1]
    return _Frames(
        camera=camera,
        view=joined(_codes(table, "view", names.views), view[schedule.view[pending]]),
        split=joined(_codes(table, "split", names.splits), schedule.split[pending]),
        status=joined(_codes(table, "status", _STATUSES), _PENDING),
        t_ms=t_ms,
        local_ms=local_ms,
        hour=local_ms // HOUR_MS % 24,
        reason=joined(np.asarray(table.column("reason").to_pylist(), object), None),
        luma=joined(numbers("luma"), np.nan),
        sharpness=joined(numbers("sharpness"), np.nan),
        width=joined(np.nan_to_num(numbers("width")).astype(np.int64), 0),
        height=joined(np.nan_to_num(numbers("height")).astype(np.int64), 0),
        dhash=joined(hexadecimal("dhash"), 0),
        draw=joined(hexadecimal("frame_id"), 0),
        picture=joined(pd.factorize(np.asarray(table.column("sha256").to_pylist(), object))[0], -1),
    )


def _codes(table: pa.Table, column: str, names: list[str]) -> _Ints:
    found = pc.fill_null(pc.index_in(table.column(column), value_set=pa.array(names, pa.string())), -1)
    codes = np.asarray(found, np.int64)
    if (codes < 0).any():
        raise DatasetError(
            f"the manifest has a {column} that {schema.LOCK_FILE} does not name: "
            "`rhombus-dataset verify` tells more"
        )
    return codes


# What came


def _facts(folder: Path, lock: Lock, schedule: Schedule, frames: _Frames, names: _Names) -> dict[str, Any]:
    files = (path for path in (folder / schema.DATA_FOLDER).rglob("*") if path.is_file())
    ok = int((frames.status == _OK).sum())
    span = None
    if len(frames):
        span = f"{_utc(int(frames.t_ms.min()))} to {_utc(int(frames.t_ms.max()))} UTC"
    where = sorted({place for place in names.locations if place})
    return {
        "name": lock.name,
        "ok": ok,
        "planned": len(frames),
        "span": span,
        "cameras": len(names.cameras),
        "locations": where,
        "zones": sorted(set(names.zones)),
        "views": [
            {
                "name": name,
                "crop": f"{g.crop_width / 100:g} % by {g.crop_height / 100:g} % of the frame, from "
                f"{g.crop_x / 100:g} %, {g.crop_y / 100:g} %"
                if g.is_cropped
                else "whole frame",
                "downscale": g.downscale,
            }
            for name, g in lock.views.items()
        ],
        "format": lock.data_format,
        "megabytes": sum(path.stat().st_size for path in files) / 1e6,
        "strategy": lock.sampling["strategy"],
        "seed": lock.seed,
        "digest": schedule.digest,
        "shards": len(schedule.shards),
        "standing": len(manifest.slice_paths(folder)),
        "masked": sum(bool(camera.masks) for camera in lock.cameras),
    }


def _outcomes(frames: _Frames, names: _Names) -> dict[str, Any]:
    counts = _table(frames.camera, frames.status, len(names.cameras), len(_STATUSES))
    # The planned outcomes always, what is not built only where there is such a thing.
    used = [i for i in range(len(_STATUSES)) if i != _PENDING or counts[:, i].any()]
    return {
        "statuses": [_STATUSES[i] for i in used],
        "rows": [
            (name, zone, [int(row[i]) for i in used], int(row.sum()))
            for name, zone, row in zip(names.cameras, names.zones, counts, strict=True)
        ],
        "totals": [int(counts[:, i].sum()) for i in used],
        "planned": len(frames),
    }


def _reasons(frames: _Frames, names: _Names) -> dict[str, Any]:
    given = np.flatnonzero(frames.reason != None)  # noqa: E711 - of each element
    code, reasons = pd.factorize(frames.reason[given], sort=True)
    counts = _table(frames.camera[given], code.astype(np.int64), len(names.cameras), len(reasons))
    affected = np.flatnonzero(counts.sum(axis=1)).tolist()
    return {
        "names": [str(reason) for reason in reasons],
        "rows": [(names.cameras[c], counts[c].tolist()) for c in affected],
    }


def _table(rows: _Ints, columns: _Ints, n_rows: int, n_columns: int) -> _Ints:
    counts = np.bincount(rows * n_columns + columns, minlength=n_rows * n_columns)
    return counts.reshape(n_rows, n_columns).astype(np.int64)


# When it came


@dataclass(frozen=True, slots=True)
class _DayColumn:
    label: str
    long: str


@dataclass(frozen=True, slots=True)
class _Days:
    """The columns of the heat map by day, and the column of each frame."""

    unit: str
    columns: list[_DayColumn]
    bins: _Ints


def _days(frames: _Frames) -> _Days:
    day = frames.local_ms // DAY_MS
    if not len(day):
        return _Days("day", [], day)
    first, last = int(day.min()), int(day.max())
    if last - first < _MAX_COLUMNS:
        width, unit = 1, "day"
    else:
        # 1970-01-01 was a Thursday.
        first -= (first + 3) % 7
        width, unit = (7, "week") if (last - first) // 7 < _MAX_COLUMNS else (28, "four weeks")
    columns = []
    for start in range(first, last + 1, width):
        date = dt.date(1970, 1, 1) + dt.timedelta(days=start)
        columns.append(_DayColumn(date.isoformat(), f"{date:%a} {date}" if width == 1 else f"{unit} from {date}"))
    return _Days(unit, columns, (day - first) // width)


def _heat(
    frames: _Frames, names: _Names, column: _Ints, labels: Sequence[tuple[str, str]], key: str
) -> dict[str, Any]:
    shape = len(names.cameras), len(labels)
    planned = _table(frames.camera, column, *shape)
    came = frames.status == _OK
    ok = _table(frames.camera[came], column[came], *shape)
    most = int(ok.max(initial=0))
    levels = np.where(ok > 0, 1 + (ok * 5 - 1) // max(most, 1), 0)
    return {
        "key": key,
        "labels": labels,
        "bare": np.flatnonzero(~planned.any(axis=0)).tolist(),
        "rows": [
            (
                c,
                name,
                [
                    (j, _short(n), _short(p), n, p, level) if p else None
                    for j, (n, p, level) in enumerate(
                        zip(ok[c].tolist(), planned[c].tolist(), levels[c].tolist(), strict=True)
                    )
                ],
            )
            for c, name in enumerate(names.cameras)
        ],
        "legend": [
            (level, low, level * most // 5)
            for level in range(1, 6)
            if (low := (level - 1) * most // 5 + 1) <= level * most // 5
        ],
    }


def _timeline(frames: _Frames, names: _Names) -> dict[str, Any]:
    if not len(frames):
        return {"ticks": [], "rows": []}
    first, last = int(frames.t_ms.min()), int(frames.t_ms.max())
    at = (frames.t_ms - first) * _TIMELINE_BINS // (last - first + 1)
    shape = len(names.cameras), _TIMELINE_BINS
    came = frames.status == _OK
    waits = frames.status == _PENDING
    lost = ~came & ~waits
    tracks = [_table(frames.camera[part], at[part], *shape) > 0 for part in (came, lost, waits)]
    rows = []
    order = np.lexsort((frames.t_ms, frames.camera))
    bounds = np.searchsorted(frames.camera[order], np.arange(len(names.cameras) + 1)).tolist()
    for c, name in enumerate(names.cameras):
        mine = order[bounds[c] : bounds[c + 1]]
        rows.append(
            {
                "name": name,
                "paths": [
                    _path(track[c], top, height)
                    for track, (top, height) in zip(tracks, ((0, 14), (16, 8), (0, 14)), strict=True)
                ],
                "ok": int(came[mine].sum()),
                "planned": len(mine),
                "idle": _longest_idle(frames, mine),
                "lost": _longest_loss(frames, mine, lost),
            }
        )
    ticks = [_utc(first + (last - first) * i // 4) for i in range(5)]
    return {"ticks": ticks, "rows": rows, "bin": _duration((last - first) / _TIMELINE_BINS)}


def _path(track: _Bools, top: int, height: int) -> str:
    """Boxes over the runs of True, as an SVG path."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], track, [False]]).astype(np.int8)))
    return "".join(
        f"M{start} {top}h{stop - start}v{height}h{start - stop}z" for start, stop in edges.reshape(-1, 2).tolist()
    )


def _longest_idle(frames: _Frames, mine: _Ints) -> tuple[str, str, str] | None:
    if len(mine) < 2:
        return None
    gaps = np.diff(frames.t_ms[mine])
    i = int(gaps.argmax())
    start, stop = (_local(int(frames.local_ms[mine[j]])) for j in (i, i + 1))
    return _duration(int(gaps[i])), start, stop


def _longest_loss(frames: _Frames, mine: _Ints, lost: _Bools) -> tuple[int, str, str] | None:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lost[mine], [False]]).astype(np.int8))).reshape(-1, 2)
    if not len(edges):
        return None
    start, stop = edges[int((edges[:, 1] - edges[:, 0]).argmax())].tolist()
    return stop - start, *(_local(int(frames.local_ms[mine[j]])) for j in (start, stop - 1))


# How it looks


class _Album:
    """The pictures of the page: small, and no more of them than it may hold."""

    def __init__(self, folder: Path, dataset: Dataset | None, names: _Names, frames: _Frames) -> None:
        self._folder, self._names, self._frames = folder, names, frames
        self._dataset = dataset
        ok = np.flatnonzero(frames.status == _OK)
        self._number = dict(zip(ok.tolist(), range(len(ok)), strict=True))
        self.bytes = 0
        self.shown = 0

    def figure(self, i: int, days: _Days | None = None) -> dict[str, Any]:
        """What the template shows of a frame. Where there is no picture, why."""
        f, names = self._frames, self._names
        picture, note, frame_id = None, None, ""
        if (number := self._number.get(i)) is None or self._dataset is None:
            note = f"{_STATUSES[f.status[i]]}: {f.reason[i]}" if f.reason[i] else _STATUSES[f.status[i]]
        else:
            frame = self._dataset[number]
            frame_id = frame.frame_id
            try:
                uri = data_uri(thumbnail(frame.read(), THUMBNAIL_PX))
                if self.bytes + len(uri) <= MAX_PICTURE_BYTES and self.shown < MAX_PICTURES:
                    picture = uri
                    self.bytes += len(uri)
                    self.shown += 1
                else:
                    note = "left out: the page has reached its limit"
            except (DatasetError, DamagedPicture) as error:
                # Not the folder: the same dataset in another place has the same report.
                note = f"cannot be shown: {str(error).replace(f'{self._folder}/', '')}"
        local = _local(int(f.local_ms[i]))
        return {
            "camera": int(f.camera[i]),
            "hour": int(f.hour[i]),
            "day": 0 if days is None else int(days.bins[i]),
            "split": int(f.split[i]),
            "view": int(f.view[i]),
            "status": int(f.status[i]),
            "camera_name": names.cameras[f.camera[i]],
            "local": local,
            "view_name": names.views[f.view[i]],
            "split_name": names.splits[f.split[i]],
            "picture": picture,
            "note": note,
            "frame_id": frame_id,
            "width": THUMBNAIL_PX,
            "height": round(THUMBNAIL_PX * min(1.5, int(f.height[i]) / int(f.width[i]))) if f.width[i] else 90,
            "luma": None if picture is None else float(f.luma[i]),
            "sharpness": None if picture is None else float(f.sharpness[i]),
        }


def _sheet(frames: _Frames) -> tuple[list[int], list[int]]:
    """Which frames the contact sheets show, and which of those that did not come."""
    built = frames.status != _PENDING
    came = frames.status == _OK
    return _spread(frames, built & came, _SHEET), _spread(frames, built & ~came, _LOST_TILES)


def _spread(frames: _Frames, chosen: _Bools, count: int) -> list[int]:
    """One frame of every camera and hour, then a second of each, and so on; by chance within each."""
    rows = np.flatnonzero(chosen)
    cell = frames.camera[rows] * 24 + frames.hour[rows]
    rows = rows[order := np.lexsort((frames.draw[rows], cell))]
    cell = cell[order]
    turn = np.arange(len(rows)) - np.searchsorted(cell, cell)
    found: list[int] = rows[np.lexsort((frames.draw[rows], turn))][:count].tolist()
    return found


def _least(values: npt.NDArray[np.float64], ok: _Ints) -> list[int]:
    found: list[int] = ok[np.argsort(values[ok], kind="stable")[:_ODDEST]].tolist()
    return found


def _measures(frames: _Frames, ok: _Ints, names: _Names) -> dict[str, Any]:
    luma, sharpness = frames.luma[ok], frames.sharpness[ok]
    # At least two octaves, and 0 for a flat picture: the axis is logarithmic.
    low, high = (max(0.1, float(v)) for v in (sharpness.min(initial=1e6), sharpness.max(initial=0)))
    middle = float(np.sqrt(low * high)) if len(ok) else 100.0
    edges = np.geomspace(min(low / 1.1, middle / 2), max(high * 1.1, middle * 2), _BINS + 1)
    sizes, counts = np.unique(np.stack([frames.width[ok], frames.height[ok]], axis=1), axis=0, return_counts=True)
    largest = np.argsort(-counts, kind="stable")[:_MAX_SIZES].tolist()
    rows = []
    for c, name in enumerate(names.cameras):
        mine = frames.camera[ok] == c
        if mine.any():
            rows.append(
                (
                    name,
                    int(mine.sum()),
                    [np.quantile(v[mine], [0.05, 0.5, 0.95]).tolist() for v in (luma, sharpness)],
                )
            )
    return {
        "count": len(ok),
        "luma": _histogram(luma, np.linspace(0, 256, _BINS + 1), ["0 (black)", "128", "255 (white)"]),
        "sharpness": _histogram(
            np.clip(sharpness, edges[0], edges[-1]), edges, [_figure(v) for v in (edges[0], middle, edges[-1])]
        ),
        "sizes": [(*sizes[i].tolist(), int(counts[i]), 100 * int(counts[i]) / len(ok)) for i in largest],
        "more_sizes": len(sizes) - len(largest),
        "rows": rows,
    }


def _histogram(values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64], ticks: list[str]) -> dict[str, Any]:
    counts, _ = np.histogram(values, edges)
    most = max(1, int(counts.max(initial=0)))
    low, median, high = np.quantile(values, [0.05, 0.5, 0.95]).tolist() if len(values) else (0.0, 0.0, 0.0)
    return {
        "bars": [
            (i, 100 * n / most, f"{_figure(edges[i])} to {_figure(edges[i + 1])}: {n:,} frames")
            for i, n in enumerate(counts.tolist())
            if n
        ],
        "bins": len(counts),
        "ticks": ticks,
        "most": most,
        "summary": f"median {_figure(median)}, nine in ten between {_figure(low)} and {_figure(high)}",
    }


# What is like what

_Pair = tuple[int, int, int, int]
"""Bits that differ, milliseconds between, and the two frames."""


class _Pairs:
    """Frames that are there, compared by their difference hashes within a camera and view."""

    def __init__(self, frames: _Frames, ok: _Ints) -> None:
        group = frames.camera[ok] * (int(frames.view.max(initial=0)) + 1) + frames.view[ok]
        order = np.lexsort((frames.t_ms[ok], group))
        self.frames = frames
        self.rows: _Ints = ok[order]
        """Ordered by camera, view and time."""
        self.group: _Ints = group[order]
        self.t_ms: _Ints = frames.t_ms[self.rows]
        self.split: _Ints = frames.split[self.rows]
        self.hash: _Hashes = frames.dhash[self.rows]
        self.by_hash = np.lexsort((self.t_ms, self.hash, self.group))
        changes = (np.diff(self.group[self.by_hash]) != 0) | (np.diff(self.hash[self.by_hash]) != 0)
        self.same_hash: _Ints = np.empty(len(ok), np.int64)
        """A number for each distinct hash of a camera and view."""
        self.same_hash[self.by_hash] = np.concatenate([np.zeros(min(1, len(ok)), np.int64), np.cumsum(changes)])

    def near(self, a: _Ints, b: _Ints) -> tuple[npt.NDArray[np.uint8], _Ints]:
        """Bits that differ between the a-th and the b-th, 64 where camera or view do; time between them."""
        bits = _count_bits(self.hash[a] ^ self.hash[b])
        bits[self.group[a] != self.group[b]] = 64
        return bits, np.abs(self.t_ms[a] - self.t_ms[b])

    def worst(self, bits: npt.NDArray[np.uint8], gaps: _Ints, a: _Ints, b: _Ints) -> list[_Pair]:
        """The most alike of these, bounded."""
        close = np.flatnonzero(bits <= ALIKE_BITS)
        best = close[np.lexsort((a[close], gaps[close], bits[close]))][:200]
        return list(
            zip(
                bits[best].tolist(),
                gaps[best].tolist(),
                self.rows[a[best]].tolist(),
                self.rows[b[best]].tolist(),
                strict=True,
            )
        )


def _count_bits(values: _Hashes) -> npt.NDArray[np.uint8]:
    # numpy 1.26 has no bitwise_count.
    one, two, four = (np.uint64(m) for m in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F))
    values = values - ((values >> np.uint64(1)) & one)
    values = (values & two) + ((values >> np.uint64(2)) & two)
    values = (values + (values >> np.uint64(4))) & four
    return ((values * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.uint8)


def _told(pairs: list[_Pair], limit: int, per_camera: int, frames: _Frames) -> Iterator[_Pair]:
    """The first of the pairs, each frame once, and no camera's pairs alone."""
    used: set[int] = set()
    told: dict[int, int] = {}
    for pair in pairs:
        camera = int(frames.camera[pair[2]])
        if limit and not used & {pair[2], pair[3]} and told.get(camera, 0) < per_camera:
            used |= {pair[2], pair[3]}
            told[camera] = told.get(camera, 0) + 1
            limit -= 1
            yield pair


def _show(pair: _Pair, album: _Album, frames: _Frames) -> dict[str, Any]:
    bits, gap_ms, a, b = pair
    a, b = (a, b) if (frames.t_ms[a], a) <= (frames.t_ms[b], b) else (b, a)
    same = frames.picture[a] == frames.picture[b]
    what = "the same bytes" if same else "the same hash" if not bits else f"{bits} of 64 bits differ"
    return {"frames": [album.figure(i) for i in (a, b)], "what": what, "gap": _duration(gap_ms)}


def _alike(pairs: _Pairs, names: _Names, album: _Album) -> dict[str, Any]:
    n = len(pairs.rows)
    has_alike = np.zeros(n, np.bool_)
    everything = np.arange(n)
    found: list[_Pair] = []
    for lag in range(1, min(NEIGHBOURS + 1, n)):
        a, b = everything[:-lag], everything[lag:]
        bits, gaps = pairs.near(a, b)
        has_alike[:-lag] |= bits <= ALIKE_BITS
        has_alike[lag:] |= bits <= ALIKE_BITS
        found += pairs.worst(bits, gaps, a, b)
    a, b = pairs.by_hash[:-1], pairs.by_hash[1:]
    equal = pairs.same_hash[a] == pairs.same_hash[b]
    has_alike[a[equal]] = has_alike[b[equal]] = True
    found += pairs.worst(*pairs.near(a, b), a, b)
    picture = pairs.frames.picture
    unique = sorted(set(found), key=lambda p: (picture[p[2]] != picture[p[3]], p))
    told = _told(unique, _ALIKE_PAIRS, max(3, -(-_ALIKE_PAIRS // len(names.cameras))), pairs.frames)
    _, inverse, counts = np.unique(picture[pairs.rows], return_inverse=True, return_counts=True)
    identical = counts[inverse] > 1 if n else np.zeros(0, np.bool_)
    camera = pairs.frames.camera[pairs.rows]
    sums = [
        np.bincount(camera[part], minlength=len(names.cameras)).tolist()
        for part in (camera >= 0, has_alike, identical)
    ]
    return {
        "pairs": [_show(pair, album, pairs.frames) for pair in told],
        "rows": [row for row in zip(names.cameras, *sums, strict=True) if row[1]],
        "count": int(has_alike.sum()),
        "identical": int(identical.sum()),
    }


def _leaks(pairs: _Pairs, names: _Names, album: _Album) -> list[dict[str, Any]]:
    """For every two splits: how near they come to each other, in time and in looks."""
    used = [s for s in range(len(names.splits)) if (pairs.split == s).any()]
    both = list(itertools.combinations(used, 2))
    frames, audits = pairs.frames, []
    for first, second in both:
        of = {s: np.flatnonzero(pairs.split == s) for s in (first, second)}
        found: list[_Pair] = []
        sides = []
        for own, other in ((first, second), (second, first)):
            alike, worst = _alike_across(pairs, of[own], of[other])
            sides.append((names.splits[own], names.splits[other], int(alike.sum()), len(alike)))
            found += worst
        told = _told(
            sorted({(d, g, min(a, b), max(a, b)) for d, g, a, b in found}),
            _LEAK_PAIRS // len(both),
            2,
            frames,
        )
        rows = pairs.rows[np.concatenate([of[first], of[second]])]
        picture = [frames.picture[pairs.rows[of[s]]] for s in (first, second)]
        audits.append(
            {
                "names": (names.splits[first], names.splits[second]),
                "sides": sides,
                "gap": _smallest_gap(frames, rows, names),
                "identical": int(np.isin(picture[0], picture[1]).sum()),
                "pairs": [_show(pair, album, frames) for pair in told],
            }
        )
    return audits


def _alike_across(pairs: _Pairs, own: _Ints, other: _Ints) -> tuple[_Bools, list[_Pair]]:
    """Which of ``own`` have a look-alike among the ``other`` frames nearest in time, or of the same hash."""
    alike: _Bools = np.isin(pairs.same_hash[own], pairs.same_hash[other])
    found: list[_Pair] = []
    # One number that orders as group and time do.
    start = int(pairs.t_ms.min())
    step = int(pairs.t_ms.max()) - start + 1
    keys = [pairs.group[part] * step + (pairs.t_ms[part] - start) for part in (own, other)]
    place = np.searchsorted(keys[1], keys[0])
    for offset in range(-(NEIGHBOURS // 2), NEIGHBOURS // 2):
        there = np.flatnonzero((place + offset >= 0) & (place + offset < len(other)))
        a, b = own[there], other[place[there] + offset]
        bits, gaps = pairs.near(a, b)
        alike[there] |= bits <= ALIKE_BITS
        found += pairs.worst(bits, gaps, a, b)
    return alike, found


def _smallest_gap(frames: _Frames, rows: _Ints, names: _Names) -> dict[str, Any] | None:
    rows = rows[np.lexsort((frames.t_ms[rows], frames.camera[rows]))]
    across = (np.diff(frames.camera[rows]) == 0) & (np.diff(frames.split[rows]) != 0)
    if not across.any():
        return None
    gaps = np.where(across, np.diff(frames.t_ms[rows]), np.iinfo(np.int64).max)
    i = int(gaps.argmin())
    before, after = (_local(int(frames.local_ms[rows[j]])) for j in (i, i + 1))
    camera = names.cameras[frames.camera[rows[i]]]
    return {"text": _duration(int(gaps[i])), "camera": camera, "before": before, "after": after}


# What it is for


def _splits(frames: _Frames, names: _Names) -> dict[str, Any]:
    shape = len(names.cameras), len(names.splits)
    came = frames.status == _OK
    planned = _table(frames.camera, frames.split, *shape)
    ok = _table(frames.camera[came], frames.split[came], *shape)
    total = max(1, int(ok.sum()))
    return {
        "names": names.splits,
        "rows": [
            (name, list(zip(ok[c].tolist(), planned[c].tolist(), strict=True)))
            for c, name in enumerate(names.cameras)
        ],
        "totals": [
            (int(n), int(p), 100 * int(n) / total) for n, p in zip(ok.sum(axis=0), planned.sum(axis=0), strict=True)
        ],
    }


def _split_rule(lock: Lock) -> str:
    if lock.splits is None:
        return "The plan makes no splits: all frames are in one."
    if lock.splits["by"] == "camera":
        return "The plan splits by camera: all frames of a camera are in one split."
    block, embargo = (_duration(lock.splits[key]) for key in ("block", "embargo"))
    left_out = f", and leaves out {embargo} where the split changes" if lock.splits["embargo"] else ""
    return f"The plan splits by time, in blocks of {block}, the same for all cameras{left_out}."


def _labels(dataset: Dataset | None, frames: _Frames, names: _Names) -> dict[str, Any] | None:
    table = None if dataset is None else dataset.annotations()
    if dataset is None or table is None or not table.num_rows:
        return None
    of = dataset.to_pandas()[["frame_id", "split"]]
    merged = table.select(["frame_id", "kind", "label"]).to_pandas().merge(of, on="frame_id")
    counts = merged.groupby(["label", "kind", "split"]).size().unstack("split", fill_value=0)
    counts = counts.reindex(columns=names.splits, fill_value=0)
    most = counts.sum(axis=1).sort_values(ascending=False, kind="stable")
    annotated = merged.drop_duplicates("frame_id")["split"].value_counts()
    in_split = np.bincount(frames.split[frames.status == _OK], minlength=len(names.splits)).tolist()
    return {
        "splits": names.splits,
        "rows": [
            (str(label), str(kind), counts.loc[(label, kind)].astype(int).tolist(), int(n))
            for (label, kind), n in most.head(_MAX_LABELS).items()
        ],
        "of": len(most),
        "annotated": [(int(annotated.get(s, 0)), n) for s, n in zip(names.splits, in_split, strict=True)],
    }


def _plan_text(folder: Path) -> str | None:
    try:
        return (folder / schema.PLAN_FILE).read_text(errors="replace")
    except OSError:
        return None


def _findings(
    schedule: Schedule,
    frames: _Frames,
    ok: _Ints,
    dataset: Dataset | None,
    alike: dict[str, Any],
    leaks: list[dict[str, Any]],
) -> list[tuple[str, str]]:
    """What a reader should look at first: sentence and section."""
    found: list[tuple[str, str]] = []
    lost = int(((frames.status != _OK) & (frames.status != _PENDING)).sum())
    if lost:
        found.append(
            (
                f"{lost:,} of {len(frames):,} planned frames ({_percent(lost, len(frames))}) are not there.",
                "outcomes",
            )
        )
    if schedule.shortfalls:
        found.append(
            (
                f"{len(schedule.shortfalls):,} strata (cameras and hours) had less footage time than their share.",
                "coverage",
            )
        )
    if dataset is not None and (
        warned := dataset.manifest.num_rows - dataset.manifest.column("warning").null_count
    ):
        found.append(
            (
                f"{_count(warned, 'frame carries', 'frames carry')} a warning of the source (column warning).",
                "outcomes",
            )
        )
    dark = int((frames.luma[ok] < DARK_LUMA).sum())
    if dark:
        found.append(
            (
                f"{_count(dark, 'frame is', 'frames are')} nearly black (mean grey below {DARK_LUMA} of 255).",
                "oddest",
            )
        )
    if alike["identical"]:
        found.append(
            (
                f"{alike['identical']:,} frames have the same bytes as another: a placeholder, or a still picture?",
                "alike",
            )
        )
    for audit in leaks:
        own, other, n, of = max(audit["sides"], key=lambda side: side[2] / side[3])
        if n:
            found.append(
                (f"{n:,} of {of:,} frames of {own} ({_percent(n, of)}) have a look-alike in {other}.", "leaks")
            )
    return found


# Words


def _count(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"


def _percent(n: int, of: int) -> str:
    share = 100 * n / of
    return f"{share:.0f} %" if share >= 10 or share == 0 else f"{share:.2g} %"


def _short(n: int) -> str:
    return f"{n}" if n < 10_000 else f"{n / 1000:.0f}k"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _utc(t_ms: int) -> str:
    return f"{dt.datetime.fromtimestamp(t_ms // 1000, dt.UTC):%Y-%m-%d %H:%M}"


def _local(local_ms: int) -> str:
    return f"{dt.datetime.fromtimestamp(local_ms // 1000, dt.UTC):%Y-%m-%d %H:%M:%S}"


def _duration(ms: float) -> str:
    if ms < MINUTE_MS:
        return f"{ms / 1000:.3g} s"
    if ms < HOUR_MS:
        minutes, seconds = divmod(round(ms / 1000), 60)
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    if ms < 2 * DAY_MS:
        hours, minutes = divmod(round(ms / MINUTE_MS), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{ms / DAY_MS:.1f} days"
