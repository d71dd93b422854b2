"""Damaged shards go back to "not yet built"; what is whole in them is kept in their journals."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rhombus_dataset.building.commit import roll_forward
from rhombus_dataset.building.reuse import ErasedFrames, frame_of, stored_frames
from rhombus_dataset.building.run import journal_of
from rhombus_dataset.errors import DatasetError
from rhombus_dataset.frame import Measures, Outcome, Status
from rhombus_dataset.imaging import jpeg
from rhombus_dataset.planning.lock import load_lock
from rhombus_dataset.planning.rounds import rounds
from rhombus_dataset.planning.schedule import Schedule, Shard
from rhombus_dataset.store import layout, manifest
from rhombus_dataset.store.files import exclusive_lock, remove


def reopen_shards(out: Path, stems: Iterable[str]) -> tuple[int, int]:
    """Take the shards named ``stems`` apart. Returns how many rows were kept, and how many are to be asked for.

    Every image that is kept has been compared with its sha256 and decoded. Raises DatasetError where the
    lock is damaged, and StorageError.
    """
    schedules = rounds(out, load_lock(out))
    wanted = set(stems)
    kept = lost = 0
    with exclusive_lock(out):
        roll_forward(out)
        for schedule, shard in [(s, shard) for s in schedules for shard in s.shards]:
            if shard.stem in wanted:
                rows = _take_apart(out, schedule, shard)
                kept += rows
                lost += shard.stop - shard.start - rows
    return kept, lost


def _take_apart(out: Path, schedule: Schedule, shard: Shard) -> int:
    ids = schedule.planned_table(shard.start, shard.stop).column("frame_id").to_pylist()
    row_of = {frame_id: shard.start + i for i, frame_id in enumerate(ids)}
    gone = ErasedFrames(out, schedule).of(shard)
    journal = journal_of(out, schedule, shard)
    known = set(journal.recover())
    for frame_id, frame in _whole_frames(out, shard):
        row = row_of.get(frame_id)
        if row is not None and row not in known and not gone[row - shard.start]:
            journal.append(row, frame)
            known.add(row)
    journal.sync()
    journal.release()
    # The slice goes first: without it, what is left of the data counts for nothing.
    remove(out / layout.manifest_file(shard.stem))
    remove(out / layout.data_file(shard.stem))
    remove(out / layout.data_folder(shard.stem))
    return len(known)


def _whole_frames(out: Path, shard: Shard) -> Iterator[tuple[str, Outcome]]:
    path = out / layout.manifest_file(shard.stem)
    try:
        header = manifest.read_header(path)
        table = manifest.read_slice(path)
        trusted = manifest.content_sha256(table) == header.content_sha256
    except (DatasetError, pa.ArrowException, KeyError):
        yield from _from_data(out, shard)
        return
    ids = table.column("frame_id").to_pylist()
    for i, frame in stored_frames(out, table):
        if frame.status is not Status.OK:
            if trusted:
                yield ids[i], frame
        elif (measured := _measured(frame.image or b"")) is not None:
            warning = frame.warning if trusted else None
            yield ids[i], Outcome(Status.OK, None, warning, frame.image, "image/jpeg", frame.sha256, measured)


def _from_data(out: Path, shard: Shard) -> Iterator[tuple[str, Outcome]]:
    """Without a manifest slice: the images, which carry their own columns."""
    path = out / layout.data_file(shard.stem)
    if not path.is_file():
        folder = out / layout.data_folder(shard.stem)
        for path in sorted(folder.glob("*.jpg")) if folder.is_dir() else ():
            image = path.read_bytes()
            measured = _measured(image)
            if measured is not None:
                sha256 = hashlib.sha256(image).hexdigest()
                yield path.stem, Outcome(Status.OK, None, None, image, "image/jpeg", sha256, measured)
        return
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                for row in _rows(file, group):
                    image = (row["image"] or {}).get("bytes") or b""
                    if hashlib.sha256(image).hexdigest() == row["sha256"] and _measured(image) is not None:
                        yield row["frame_id"], frame_of(row | {"warning": None}, image)
    except (OSError, pa.ArrowException):
        return


def _rows(file: pq.ParquetFile, group: int) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = file.read_row_group(group).to_pylist()
    except (OSError, pa.ArrowException):
        return []
    return rows


def _measured(image: bytes) -> Measures | None:
    try:
        return jpeg.measure(image)
    except jpeg.DamagedImage:
        return None
