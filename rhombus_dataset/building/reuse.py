"""Frames that need no request: they are in a dataset already, or were erased."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.frame import Measures, Outcome, Status
from rhombus_dataset.planning.erasures import erased_rows, read_erasures
from rhombus_dataset.planning.lock_file import load_lock
from rhombus_dataset.planning.schedule import Schedule, Shard
from rhombus_dataset.store import data_files, layout, manifest, schema
from rhombus_dataset.store.files import inside
from rhombus_dataset.store.images import read_jpeg
from rhombus_dataset.store.journal import Journal

ERASED_REASON: Final = "erased on request"


class FrameProvider(Protocol):
    """A place from which some frames of a schedule are taken without a request."""

    def provides(self, shard: Shard) -> npt.NDArray[np.bool_]:
        """Return which rows of ``shard`` it provides: bool, one for each row."""
        ...

    def fill(self, journal: Journal, shard: Shard, rows: Sequence[int]) -> None:
        """Append these rows of the schedule to the shard's journal. It must provide all of them."""
        ...


class CommittedFrames:
    """The committed rows of the dataset itself, except those whose status is in ``retry``."""

    def __init__(self, out: Path, retry: frozenset[Status] = frozenset()) -> None:
        self._out = out
        self._retry = [str(status) for status in retry]

    def has(self, shard: Shard) -> bool:
        """Return whether the shard is committed."""
        return self._path(shard).exists()

    def provides(self, shard: Shard) -> npt.NDArray[np.bool_]:
        if not self.has(shard):
            return np.zeros(shard.stop - shard.start, np.bool_)
        if (
            not self._retry
        ):  # the rows need not be read, which counts for the thousands of slices of a large dataset
            self._check_count(shard, manifest.count_rows(self._path(shard)))
            return np.ones(shard.stop - shard.start, np.bool_)
        statuses = manifest.read_statuses(self._path(shard))
        self._check_count(shard, len(statuses))
        return ~np.isin(statuses, self._retry)

    def outcomes(self, shard: Shard) -> list[tuple[str, str | None, str | None]]:
        """Return status, reason and sha256 of each row of a committed shard."""
        table = self._read(shard).select(["status", "reason", "sha256"])
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def fill(self, journal: Journal, shard: Shard, rows: Sequence[int]) -> None:
        table = self._read(shard)
        wanted = table.take(pa.array([row - shard.start for row in rows], pa.int64()))
        _append(journal, rows, stored_frames(self._out, wanted), self._out)

    def _read(self, shard: Shard) -> pa.Table:
        table = manifest.read_slice(self._path(shard))
        self._check_count(shard, table.num_rows)
        return table

    def _check_count(self, shard: Shard, count: int) -> None:
        if count != shard.stop - shard.start:
            raise DatasetError(
                f"{self._path(shard)}: damaged: {count} rows, expected {shard.stop - shard.start}. "
                f"`rhombus-dataset verify {self._out} --repair` makes the next build fetch them again"
            )

    def _path(self, shard: Shard) -> Path:
        return self._out / layout.manifest_file(shard.stem)


class ReusedFrames:
    """The frames of an earlier dataset with the same camera, time, geometry and masks."""

    def __init__(self, old: Path, schedule: Schedule) -> None:
        self._old = old
        self._schedule = schedule
        self._tables: dict[int, pa.Table] = {}
        masks = {camera.uuid: sorted(camera.masks) for camera in load_lock(old).cameras}
        shared = {c.uuid for c in schedule.cameras if masks.get(c.uuid) == sorted(c.masks)}
        self._paths = manifest.slice_paths(old)
        ids: list[npt.NDArray[np.bytes_]] = [np.empty(0, "S20")]
        places: list[npt.NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
        for number, path in enumerate(self._paths):
            manifest.read_header(path)
            table = manifest.read_slice(path).select(["frame_id", "camera_uuid", "status"])
            there = np.flatnonzero(
                (table.column("status").to_numpy() == str(Status.OK))
                & np.isin(table.column("camera_uuid").to_numpy().astype(str), sorted(shared))
            )
            ids.append(table.column("frame_id").to_numpy()[there].astype("S20"))
            places.append(np.stack([np.full(len(there), number), there], axis=1))
        every = np.concatenate(ids)
        order = np.argsort(every)
        self._ids, self._places = every[order], np.concatenate(places)[order]
        self._provided: dict[str, npt.NDArray[np.bool_]] = {}

    def provides(self, shard: Shard) -> npt.NDArray[np.bool_]:
        """See FrameProvider. Every image is read and compared with its sha256."""
        if shard.stem not in self._provided:
            has = np.zeros(shard.stop - shard.start, np.bool_)
            at = self._find(shard)
            for number, rows in _by_slice(self._places, at):
                table = self._table(number, at[rows])
                has[[rows[i] for i, _ in stored_frames(self._old, table)]] = True
            self._provided[shard.stem] = has
        return self._provided[shard.stem]

    def fill(self, journal: Journal, shard: Shard, rows: Sequence[int]) -> None:
        at = np.full(shard.stop - shard.start, -1, np.int64)
        wanted = np.asarray(rows, np.int64) - shard.start
        at[wanted] = self._find(shard)[wanted]
        for number, places in _by_slice(self._places, at):
            frames = stored_frames(self._old, self._table(number, at[places]))
            _append(journal, [shard.start + int(i) for i in places], frames, self._old)

    def _find(self, shard: Shard) -> npt.NDArray[np.int64]:
        """Return for each row the place of its frame in the sorted ids, or -1."""
        table = self._schedule.planned_table(shard.start, shard.stop)
        wanted = table.column("frame_id").to_numpy().astype("S20")
        at = np.searchsorted(self._ids, wanted)
        at[at == len(self._ids)] = 0
        found = self._ids[at] == wanted if len(self._ids) else np.zeros(len(wanted), np.bool_)
        return np.where(found, at, -1)

    def _table(self, number: int, at: npt.NDArray[np.int64]) -> pa.Table:
        if number not in self._tables:
            self._tables = {number: manifest.read_slice(self._paths[number])}  # the next rows are usually in it too
        return self._tables[number].take(pa.array(self._places[at, 1]))


class ErasedFrames:
    """Frames that were erased from this dataset. They must not return in any way."""

    def __init__(self, out: Path, schedule: Schedule) -> None:
        self._schedule = schedule
        self._erasures = read_erasures(out)

    def __bool__(self) -> bool:
        return bool(self._erasures)

    def provides(self, shard: Shard) -> npt.NDArray[np.bool_]:
        return erased_rows(self._erasures, self._schedule, shard)

    def frame_ids(self) -> set[str]:
        """Return the ids of all erased rows, whether their shard was built or not."""
        found: set[str] = set()
        for shard in self._schedule.shards:
            erased = self.provides(shard)
            if erased.any():
                ids = self._schedule.planned_table(shard.start, shard.stop).column("frame_id")
                found.update(ids.filter(pa.array(erased)).to_pylist())
        return found

    def fill(self, journal: Journal, shard: Shard, rows: Sequence[int]) -> None:
        for row in rows:
            journal.append(row, Outcome(Status.ERASED, reason=ERASED_REASON))


@dataclass(frozen=True)
class KnownFrames:
    """All frames of a schedule that need no request. Of several ``others`` that provide a row, the first one
    counts.
    """

    committed: CommittedFrames
    others: tuple[FrameProvider, ...] = ()

    def to_fetch(self, shard: Shard) -> npt.NDArray[np.bool_]:
        """Return which rows of ``shard`` must be requested: bool, one for each row."""
        wanted = ~self.committed.provides(shard)
        for provider in self.others:
            wanted &= ~provider.provides(shard)
        return wanted


def stored_frames(folder: Path, table: pa.Table) -> Iterator[tuple[int, Outcome]]:
    """Yield the frames of manifest rows with their place in ``table``; damaged ones are skipped.

    Rows of the same data file must be next to each other. One row group of images is in memory at a time.
    """
    rows = table.to_pylist()
    for i, row in enumerate(rows):
        if row["status"] != Status.OK:
            warning = _api_warning(row)
            yield i, Outcome(Status(row["status"]), reason=row["reason"], warning=warning)
    for i, image in _images(folder, rows):
        row = rows[i]
        if hashlib.sha256(image).hexdigest() == row["sha256"]:
            yield i, frame_of(row, image)


def frame_of(row: dict[str, Any], image: bytes) -> Outcome:
    """Return the outcome of an ``ok`` manifest row, with its image, as it was when the frame was received."""
    return Outcome(
        Status.OK,
        warning=_api_warning(row),
        image=image,
        mime_type=row["mime_type"],
        sha256=row["sha256"],
        measures=Measures(row["width"], row["height"], row["luma"], row["sharpness"], row["dhash"]),
    )


def _images(folder: Path, rows: list[dict[str, Any]]) -> Iterator[tuple[int, bytes]]:
    by_file: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row["status"] == Status.OK:
            by_file.setdefault(row["file"], []).append(i)
    for name, places in by_file.items():
        try:
            if name.endswith(".jpg"):
                yield places[0], read_jpeg(inside(folder, name))
            else:
                by_row = {rows[i]["row"]: i for i in places}
                for number, image in data_files.read_images(inside(folder, name), by_row.keys()):
                    yield by_row[number], image
        except (OSError, pa.ArrowException, DatasetError):
            continue


def _api_warning(row: dict[str, Any]) -> str | None:
    """Return the source's own warning: the one about the image's size is computed anew for every shard."""
    parts = (row["warning"] or "").split("; ")
    if parts[-1].startswith(f"{schema.SIZE_WARNING} {row['width']} x {row['height']} "):
        parts.pop()
    return "; ".join(parts) or None


def _by_slice(
    places: npt.NDArray[np.int64], at: npt.NDArray[np.int64]
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Yield the number of each slice that holds some of ``at`` (-1: no slice), with the indices into ``at``."""
    found = np.flatnonzero(at >= 0)
    numbers = places[at[found], 0]
    for number in np.unique(numbers):
        yield int(number), found[numbers == number]


def _append(journal: Journal, rows: Sequence[int], frames: Iterable[tuple[int, Outcome]], source: Path) -> None:
    left = set(range(len(rows)))
    for i, frame in frames:
        journal.append(rows[i], frame)
        left.discard(i)
    if left:
        raise DatasetError(
            f"{source}: {len(left)} of its frames are damaged. Run: rhombus-dataset verify {source} --repair; "
            "then build again."
        )
