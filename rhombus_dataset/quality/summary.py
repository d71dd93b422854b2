"""Summary of a dataset: counts of its planned frames, from its manifest alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from rhombus_dataset.dataset import read_duplicates
from rhombus_dataset.frame import Status
from rhombus_dataset.plan.local_time import local_hours
from rhombus_dataset.planning.lock_file import load_lock
from rhombus_dataset.planning.rounds import rounds
from rhombus_dataset.planning.shortfalls import shortfalls
from rhombus_dataset.quality.text import counted
from rhombus_dataset.store import layout, manifest, schema
from rhombus_dataset.store.files import folder_inside

IDENTICAL_RUN: Final = 3
"""Consecutive byte-identical frames of one camera and view that give a warning: placeholder images, or a still
image. Two can be a coincidence of a source that repeats its last frame."""


@dataclass(frozen=True)
class DatasetInfo:
    """What a dataset contains. Counts are of manifest rows; ``planned`` includes the rows of shards not built
    yet."""

    name: str
    digest: str
    data_format: str
    planned: int
    shards: int
    committed_shards: int
    counts: dict[str, int]
    reasons: dict[str, int]
    warnings: int
    by_camera: dict[str, dict[str, int]]
    by_split: dict[str, dict[str, int]]
    by_view: dict[str, dict[str, int]]
    by_local_hour: dict[int, int]
    first: str | None
    last: str | None
    data_bytes: int
    identical_runs: tuple[dict[str, Any], ...]
    shortfalls: tuple[dict[str, Any], ...]
    """Strata with fewer frames than planned: ``stratum``, ``available`` frames, ``wanted`` frames, ``reason``."""
    scout: dict[str, Any] | None = None
    """Counts of the scout pass that the frames were selected from, if there was one."""
    topped_up: int = 0
    """Planned frames that replace missing ones."""
    duplicates: int = 0
    """Near-duplicates, which readers skip."""
    shards_without_data: tuple[str, ...] = ()
    """Shards whose images are gone."""

    @property
    def complete(self) -> bool:
        """Whether all shards are committed."""
        return self.committed_shards == self.shards

    def to_json(self) -> dict[str, Any]:
        """Return the summary as plain values."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        return {**plain, "complete": self.complete}

    def to_text(self) -> str:
        """Return the summary as lines for a terminal."""
        state = "complete" if self.complete else f"INCOMPLETE: {self.committed_shards} of {self.shards} shards"
        lines = [
            f"{self.name}: {counted(self.planned, 'planned frame')}, {state}",
            "outcomes  " + ", ".join(f"{n:,} {status}" for status, n in self.counts.items() if n),
            f"time      {self.first} to {self.last}",
            f"data      {self.data_bytes / 1e6:,.1f} MB as {self.data_format}",
            f"schedule  {self.digest}",
        ]
        if self.scout is not None:
            about = self.scout
            lines.append(
                f"scout     {about['new']:,} of {counted(about['pass_ok'], 'small frame')} show something new, in "
                f"{counted(about['events'], 'event')}; the dataset has frames of {about['covered']:,} of them"
            )
        for title, table in (("camera", self.by_camera), ("split", self.by_split), ("view", self.by_view)):
            lines += ["", *_table(title, table)]
        if self.reasons:
            lines += ["", "reasons"]
            lines += [f"  {n:>6,}  {reason}" for reason, n in self.reasons.items()]
        if self.warnings:
            lines += ["", f"{counted(self.warnings, 'frame has', 'frames have')} a warning (column `warning`)"]
        for run in self.identical_runs[:10]:
            lines.append(
                f"warning: {run['frames']} byte-identical frames of {run['camera_name']} in a row from "
                f"{run['first']}: possibly placeholder images"
            )
        if self.duplicates:
            lines += ["", f"{counted(self.duplicates, 'near-duplicate')}, which readers skip"]
        if gone := self.shards_without_data:
            lines += [
                "",
                f"PROBLEM: the images of {counted(len(gone), 'shard')} are gone ({', '.join(gone[:3])}). Run "
                "`rhombus-dataset verify` with --repair, then build again",
            ]
        if self.topped_up:
            lines += [
                "",
                f"{counted(self.topped_up, 'planned frame replaces', 'planned frames replace')} missing ones",
            ]
        if self.shortfalls:
            strata = counted(len(self.shortfalls), "stratum has", "strata have")
            lines += ["", f"shortfalls: {strata} fewer frames than planned"]
            lines += [
                f"  {s['stratum']}: {s['available']} of {s['wanted']}: {s['reason']}" for s in self.shortfalls[:20]
            ]
            if len(self.shortfalls) > 20:
                lines.append(f"  ... and {len(self.shortfalls) - 20} more (--json lists all)")
        return "\n".join(lines)


def summarize_dataset(dataset: str | Path) -> DatasetInfo:
    """Return the summary of the dataset in a folder. Raises DatasetError if there is no dataset."""
    folder = Path(dataset)
    lock = load_lock(folder)
    schedules = rounds(folder, lock)
    schedule = schedules[0]
    rows = _rows(folder)
    counts = rows["status"].value_counts()
    timestamps = rows["timestamp"]
    hours: dict[int, int] = {}
    for camera in lock.cameras:
        times_ms = np.asarray(rows.loc[rows["camera_uuid"] == camera.uuid, "timestamp"].astype("int64"), np.int64)
        for hour in local_hours(times_ms, lock.zones[camera.timezone].offsets).tolist():
            hours[hour] = hours.get(hour, 0) + 1
    reasons = rows["reason"].dropna().value_counts()
    return DatasetInfo(
        name=lock.name,
        digest=schedule.digest,
        data_format=lock.data_format,
        planned=sum(map(len, schedules)),
        shards=sum(len(of_round.shards) for of_round in schedules),
        committed_shards=len(manifest.slice_paths(folder)),
        counts={str(status): int(counts.get(status, 0)) for status in Status},
        reasons={str(reason): int(n) for reason, n in reasons.items()},
        warnings=int(rows["warning"].notna().sum()),
        by_camera=_counts_by(rows, "camera_name"),
        by_split=_counts_by(rows, "split"),
        by_view=_counts_by(rows, "view"),
        by_local_hour=dict(sorted(hours.items())),
        first=_time_text(timestamps.min()) if len(rows) else None,
        last=_time_text(timestamps.max()) if len(rows) else None,
        data_bytes=sum(
            p.stat().st_size for p in folder_inside(folder, layout.DATA_FOLDER).rglob("*") if p.is_file()
        ),
        identical_runs=tuple(_identical_runs(rows)),
        shortfalls=tuple(shortfalls(lock, schedules, rows)),
        scout=None
        if lock.scout is None
        else {
            name: getattr(lock.scout, name)
            for name in ("pass_frames", "pass_ok", "new", "events", "covered", "chosen")
        },
        topped_up=sum(map(len, schedules[1:])),
        shards_without_data=tuple(_without_data(folder)),
        duplicates=len(read_duplicates(folder)),
    )


def _time_text(time: pd.Timestamp) -> str:
    return time.isoformat(" ", "milliseconds")


def _without_data(folder: Path) -> Iterator[str]:
    """Yield the names of the shards whose images are gone, although their manifest slice is there."""
    for path in manifest.slice_paths(folder):
        if not any(os.path.lexists(folder / name(path.stem)) for name in (layout.data_file, layout.data_folder)):
            yield path.stem


def _rows(folder: Path) -> pd.DataFrame:
    if not manifest.slice_paths(folder):
        return pd.DataFrame({f.name: pd.Series(dtype="object") for f in schema.manifest_schema()}).astype(
            {"timestamp": "datetime64[ms, UTC]"}
        )
    rows: pd.DataFrame = manifest.read_manifest(folder).to_pandas()
    return rows


def _counts_by(rows: pd.DataFrame, column: str) -> dict[str, dict[str, int]]:
    """Return the number of rows of each status, for each value of a column."""
    found: dict[str, dict[str, int]] = {}
    counted = rows.groupby([column, "status"], sort=True).size().reset_index(name="n")
    for value, status, n in counted.itertuples(index=False, name=None):
        found.setdefault(str(value), {})[str(status)] = int(n)
    return found


def _identical_runs(rows: pd.DataFrame) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    ok = rows[rows["status"] == Status.OK]
    for (name, _), part in ok.groupby(["camera_name", "view"], sort=True):
        ordered = part.sort_values("timestamp", kind="stable")
        changes = (ordered["sha256"] != ordered["sha256"].shift()).cumsum()
        for _, run in ordered.groupby(changes, sort=False):
            if len(run) >= IDENTICAL_RUN:
                first = run["timestamp"].iloc[0]
                found.append({"camera_name": str(name), "first": _time_text(first), "frames": len(run)})
    return found


def _table(title: str, table: dict[str, dict[str, int]]) -> list[str]:
    """Return the lines of a table with one row for each name and one column for each status that occurs."""
    statuses = [str(s) for s in Status if any(str(s) in row for row in table.values())]
    width = max([len(title), *(len(name) for name in table)])
    return [
        f"{title:{width}}  " + "".join(f"{status:>9}" for status in statuses),
        *(
            f"{name:{width}}  " + "".join(f"{row.get(status, 0):>9,}" for status in statuses)
            for name, row in table.items()
        ),
    ]
