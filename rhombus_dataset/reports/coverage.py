"""Coverage and outcomes of the planned frames, by camera and time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from rhombus_dataset.plan.local_time import DAY_MS
from rhombus_dataset.planning.lock import Lock
from rhombus_dataset.planning.schedule import Schedule
from rhombus_dataset.reports.frames import OK, PENDING, STATUSES, Bools, Frames, Ints, Names, cross_table
from rhombus_dataset.reports.text import duration_text, local_text, short_number, utc_text
from rhombus_dataset.store import layout, manifest
from rhombus_dataset.store.files import folder_inside

_MAX_COLUMNS: Final = 60
"""Maximum columns of the heat map by day. A longer period has a column for each week, or for four weeks."""
_TIMELINE_BINS: Final = 240
"""Parts that the timeline divides the whole period into: about 4 px each on a wide screen."""
HOURS: Final = [(f"{hour:02d}", f"{hour:02d}:00 to {hour + 1:02d}:00") for hour in range(24)]


def facts_section(
    folder: Path, lock: Lock, schedules: list[Schedule], frames: Frames, names: Names
) -> dict[str, Any]:
    """Return the facts at the top of the page."""
    files = (path for path in folder_inside(folder, layout.DATA_FOLDER).rglob("*") if path.is_file())
    ok = int((frames.status == OK).sum())
    span = None
    if len(frames):
        span = f"{utc_text(int(frames.t_ms.min()))} to {utc_text(int(frames.t_ms.max()))} UTC"
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
        "strategy": lock.sampling.strategy,
        "seed": lock.seed,
        "digest": schedules[0].digest,
        "shards": sum(len(schedule.shards) for schedule in schedules),
        "committed": len(manifest.slice_paths(folder)),
        "masked": sum(bool(camera.masks) for camera in lock.cameras),
    }


def outcomes_section(frames: Frames, names: Names) -> dict[str, Any]:
    """Return the number of frames of each camera and status."""
    counts = cross_table(frames.camera, frames.status, len(names.cameras), len(STATUSES))
    # "not built yet" is a column only if there are such frames.
    used = [i for i in range(len(STATUSES)) if i != PENDING or counts[:, i].any()]
    return {
        "statuses": [STATUSES[i] for i in used],
        "rows": [
            (name, zone, [int(row[i]) for i in used], int(row.sum()))
            for name, zone, row in zip(names.cameras, names.zones, counts, strict=True)
        ],
        "totals": [int(counts[:, i].sum()) for i in used],
        "planned": len(frames),
    }


def reasons_section(frames: Frames, names: Names) -> dict[str, Any]:
    """Return the number of frames of each camera and reason, for the cameras that have any."""
    given = np.flatnonzero(frames.reason != None)  # noqa: E711 - of each element
    code, reasons = pd.factorize(frames.reason[given], sort=True)
    counts = cross_table(frames.camera[given], code.astype(np.int64), len(names.cameras), len(reasons))
    affected = np.flatnonzero(counts.sum(axis=1)).tolist()
    return {
        "names": [str(reason) for reason in reasons],
        "rows": [(names.cameras[c], counts[c].tolist()) for c in affected],
        "totals": counts.sum(axis=0).tolist(),
    }


@dataclass(frozen=True, slots=True)
class _DayColumn:
    label: str
    long: str


@dataclass(frozen=True, slots=True)
class Days:
    """The columns of the heat map by day, and the column of each frame (``bins``). ``unit``: what a column
    covers."""

    unit: str
    columns: list[_DayColumn]
    bins: Ints


def days_of(frames: Frames) -> Days:
    """Return a column for each local day, or for one or four weeks if there would be more than _MAX_COLUMNS."""
    day = frames.local_ms // DAY_MS
    if not len(day):
        return Days("day", [], day)
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
    return Days(unit, columns, (day - first) // width)


def heat_section(
    frames: Frames, names: Names, column: Ints, labels: Sequence[tuple[str, str]], key: str
) -> dict[str, Any]:
    """Return a heat map of the frames by camera and ``column`` (int64, an index of ``labels``).

    ``labels``: short and long label of each column. ``key``: the name of the filter that a cell sets.
    """
    shape = len(names.cameras), len(labels)
    planned = cross_table(frames.camera, column, *shape)
    is_ok = frames.status == OK
    ok = cross_table(frames.camera[is_ok], column[is_ok], *shape)
    most = int(ok.max(initial=0))
    levels = np.where(ok > 0, 1 + (ok * 5 - 1) // max(most, 1), 0)
    alike = len(np.unique(ok[ok > 0])) == 1
    return {
        "key": key,
        "labels": labels,
        "bare": np.flatnonzero(~planned.any(axis=0)).tolist(),
        "rows": [
            (
                c,
                name,
                [
                    (j, short_number(n), short_number(p), n, p, level) if p else None
                    for j, (n, p, level) in enumerate(
                        zip(ok[c].tolist(), planned[c].tolist(), levels[c].tolist(), strict=True)
                    )
                ],
            )
            for c, name in enumerate(names.cameras)
        ],
        # Cells that are all alike have no steps.
        "legend": [(5, most, most)]
        if alike
        else [
            (level, low, level * most // 5)
            for level in range(1, 6)
            if (low := (level - 1) * most // 5 + 1) <= level * most // 5
        ],
        "some_short": bool(((ok > 0) & (ok < planned)).any()),
        "some_empty": bool(((ok == 0) & (planned > 0)).any()),
        "some_unplanned": bool((planned == 0).any()),
    }


def timeline_section(frames: Frames, names: Names) -> dict[str, Any]:
    """Return, for each camera, a timeline as SVG paths and its longest gaps."""
    if not len(frames):
        return {"ticks": [], "rows": []}
    first, last = int(frames.t_ms.min()), int(frames.t_ms.max())
    at = (frames.t_ms - first) * _TIMELINE_BINS // (last - first + 1)
    shape = len(names.cameras), _TIMELINE_BINS
    ok = frames.status == OK
    pending = frames.status == PENDING
    failed = ~ok & ~pending
    tracks = [cross_table(frames.camera[part], at[part], *shape) > 0 for part in (ok, failed, pending)]
    rows = []
    order = np.lexsort((frames.t_ms, frames.camera))
    bounds = np.searchsorted(frames.camera[order], np.arange(len(names.cameras) + 1)).tolist()
    for c, name in enumerate(names.cameras):
        of_camera = order[bounds[c] : bounds[c + 1]]
        rows.append(
            {
                "name": name,
                "paths": [
                    _path(track[c], top, height)
                    for track, (top, height) in zip(tracks, ((0, 14), (16, 8), (0, 14)), strict=True)
                ],
                "ok": int(ok[of_camera].sum()),
                "planned": len(of_camera),
                "idle": _longest_idle(frames, of_camera),
                "failed": _longest_failure(frames, of_camera, failed),
            }
        )
    ticks = [utc_text(first + (last - first) * i // 4) for i in range(5)]
    return {"ticks": ticks, "rows": rows, "bin": duration_text((last - first) / _TIMELINE_BINS)}


def _path(track: Bools, top: int, height: int) -> str:
    """Return an SVG path with a rectangle for each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], track, [False]]).astype(np.int8)))
    return "".join(
        f"M{start} {top}h{stop - start}v{height}h{start - stop}z" for start, stop in edges.reshape(-1, 2).tolist()
    )


def _longest_idle(frames: Frames, rows: Ints) -> tuple[str, str, str] | None:
    """Return the longest time between two consecutive frames of a camera: duration, start and end."""
    if len(rows) < 2:
        return None
    gaps = np.diff(frames.t_ms[rows])
    i = int(gaps.argmax())
    start, stop = (local_text(int(frames.local_ms[rows[j]])) for j in (i, i + 1))
    return duration_text(int(gaps[i])), start, stop


def _longest_failure(frames: Frames, rows: Ints, failed: Bools) -> tuple[int, str, str] | None:
    """Return the longest run of a camera's frames without an image: count, time of the first and the last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], failed[rows], [False]]).astype(np.int8))).reshape(-1, 2)
    if not len(edges):
        return None
    start, stop = edges[int((edges[:, 1] - edges[:, 0]).argmax())].tolist()
    return stop - start, *(local_text(int(frames.local_ms[rows[j]])) for j in (start, stop - 1))
