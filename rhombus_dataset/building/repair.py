"""Repair a dataset: damaged shards become "not yet built"; their undamaged frames are kept in their journals."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from rhombus_dataset.building.commit import roll_forward
from rhombus_dataset.building.reuse import ErasedFrames, stored_frames
from rhombus_dataset.building.run import journal_of
from rhombus_dataset.errors import DatasetError
from rhombus_dataset.frame import Measures, Outcome, Status
from rhombus_dataset.imaging import jpeg
from rhombus_dataset.planning.lock_file import load_lock
from rhombus_dataset.planning.rounds import rounds
from rhombus_dataset.planning.schedule import Schedule, Shard
from rhombus_dataset.quality.verification import VerifyReport, verify_dataset
from rhombus_dataset.store import data_files, layout, manifest
from rhombus_dataset.store.files import exclusive_lock, folder_inside, inside, remove
from rhombus_dataset.store.images import read_jpeg


def repair_dataset(dataset: Path) -> VerifyReport:
    """Verify a dataset, and reopen its damaged shards. Return the report of the dataset as it was before.

    Raises DatasetError and StorageError.
    """
    report = verify_dataset(dataset)
    stems = sorted({problem.shard for problem in report.problems if problem.shard is not None})
    prefix = f"{layout.SCOUT_FOLDER}/"
    of_pass = [stem.removeprefix(prefix) for stem in stems if stem.startswith(prefix)]
    own = [stem for stem in stems if not stem.startswith(prefix)]
    kept = to_refetch = 0
    for folder, of_folder in ((dataset, own), (dataset / layout.SCOUT_FOLDER, of_pass)):
        if of_folder:
            of_whole, of_damaged = reopen_shards(folder, of_folder)
            kept, to_refetch = kept + of_whole, to_refetch + of_damaged
    return replace(report, repaired=tuple(stems), kept=kept, lost=to_refetch)


def reopen_shards(out: Path, stems: Iterable[str]) -> tuple[int, int]:
    """Move the undamaged frames of the shards ``stems`` to their journals, and remove the shards.

    Return how many rows were kept, and how many the next build requests. Every image that is kept was compared with
    its sha256 and decoded. Raises DatasetError where the lock is damaged, and StorageError.
    """
    schedules = rounds(out, load_lock(out))
    wanted = set(stems)
    kept = to_refetch = 0
    with exclusive_lock(out):
        roll_forward(out)
        for schedule, shard in [(s, shard) for s in schedules for shard in s.shards]:
            if shard.stem in wanted:
                rows = _reopen(out, schedule, shard)
                kept += rows
                to_refetch += shard.stop - shard.start - rows
    return kept, to_refetch


def _reopen(out: Path, schedule: Schedule, shard: Shard) -> int:
    ids = schedule.planned_table(shard.start, shard.stop).column("frame_id").to_pylist()
    row_of = {frame_id: shard.start + i for i, frame_id in enumerate(ids)}
    erased = ErasedFrames(out, schedule).provides(shard)
    journal = journal_of(out, schedule, shard)
    known = set(journal.recover(range(shard.start, shard.stop)))
    for frame_id, frame in _whole_frames(out, shard):
        row = row_of.get(frame_id)
        if row is not None and row not in known and not erased[row - shard.start]:
            journal.append(row, frame)
            known.add(row)
    journal.sync()
    journal.release()
    # The slice is removed first: without it, the rest of the data does not count.
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
    """Yield the undamaged frames of a shard without a manifest slice: its data has their ids."""
    for frame_id, image, expected in _images(out, shard):
        sha256 = hashlib.sha256(image).hexdigest()
        measured = _measured(image) if expected in (None, sha256) else None
        if measured is not None:
            yield frame_id, Outcome(Status.OK, None, None, image, "image/jpeg", sha256, measured)


def _images(out: Path, shard: Shard) -> Iterator[tuple[str, bytes, str | None]]:
    """Yield id, image and recorded sha256 (if any) of what can be read in the data of a shard."""
    with contextlib.suppress(OSError, pa.ArrowException, DatasetError):
        path = inside(out, layout.data_file(shard.stem))
        if path.is_file():
            for row in data_files.read_rows(path):
                image = (row["image"] or {}).get("bytes")
                if isinstance(image, bytes):
                    yield row["frame_id"], image, row["sha256"] or ""
            return
        for path in sorted(folder_inside(out, layout.data_folder(shard.stem)).glob("*.jpg")):
            yield path.stem, read_jpeg(inside(out, f"{layout.data_folder(shard.stem)}/{path.name}")), None


def _measured(image: bytes) -> Measures | None:
    try:
        return jpeg.measure(image)
    except jpeg.DamagedImage:
        return None
