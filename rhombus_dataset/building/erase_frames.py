"""Erase frames from a dataset for good: a person's right, or a court's order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rhombus_dataset.building.commit import finalize_shard, remove_working_folders, roll_forward
from rhombus_dataset.building.passes import scout_folder_of, write_derived_files
from rhombus_dataset.building.reuse import CommittedFrames, ErasedFrames, KnownFrames
from rhombus_dataset.building.run import journal_of
from rhombus_dataset.errors import UsageError, did_you_mean
from rhombus_dataset.plan.local_time import moment_ms
from rhombus_dataset.plan.model import LocalTime
from rhombus_dataset.plan.values import parse_moment
from rhombus_dataset.planning.erasures import Erasure, add_erasure
from rhombus_dataset.planning.lock import Lock, LockedCamera
from rhombus_dataset.planning.lock_file import load_lock
from rhombus_dataset.planning.rounds import rounds
from rhombus_dataset.planning.schedule import Schedule, Shard
from rhombus_dataset.store import layout
from rhombus_dataset.store.annotations import delete_annotations
from rhombus_dataset.store.files import exclusive_lock, folder_inside, remove, remove_temporary_files


@dataclass(frozen=True, slots=True)
class ErasureOutcome:
    """``rows``: planned frames that are erased now. ``shards``: how many committed shards were rewritten."""

    dataset: Path
    camera_name: str
    rows: int
    shards: int


def erase_frames(dataset: Path, camera: str, start: str | None, end: str | None) -> ErasureOutcome:
    """Erase every frame of a camera (name or UUID) from ``start`` to before ``end``. See ``api.erase``.

    The small images of a scout pass are erased too: an image of a person is one at any size. Also completes an
    erasure that was interrupted. Raises DatasetError, UsageError and StorageError.
    """
    bounds = _moment("start", start), _moment("end", end)
    for folder in (scout_folder_of(dataset), dataset):
        if folder is not None:
            outcome = _erase(folder, camera, *bounds)
            if (folder / layout.CARD_FILE).exists():
                write_derived_files(folder)
    return outcome


def _erase(out: Path, camera_name: str, start: LocalTime | None, end: LocalTime | None) -> ErasureOutcome:
    lock = load_lock(out)
    schedules = rounds(out, lock)
    camera = _camera(lock, camera_name)
    start_ms = -(2**62) if start is None else moment_ms(start, camera.timezone)
    end_ms = 2**62 if end is None else moment_ms(end, camera.timezone)
    if start_ms >= end_ms:
        raise UsageError("the time to erase is empty: --to must be later than --from")
    with exclusive_lock(out):
        roll_forward(out)
        # Erased means gone: also from files that a killed command had not finished writing.
        remove_temporary_files(out)
        _remove_unfinished(out, schedules)
        add_erasure(out, Erasure(camera.uuid, start_ms, end_ms))
        erasures = [(schedule, ErasedFrames(out, schedule)) for schedule in schedules]
        delete_annotations(out, set().union(*(erased.frame_ids() for _, erased in erasures)))
        rows = shards = 0
        for schedule, erased in erasures:
            for shard in schedule.shards:
                erased_rows = int(erased.provides(shard).sum())
                if erased_rows:
                    rows += erased_rows
                    shards += _rewrite(out, schedule, shard, erased)
        remove_working_folders(out)
    return ErasureOutcome(out, camera.name, rows, shards)


def _remove_unfinished(out: Path, schedules: list[Schedule]) -> None:
    """Remove data without a manifest slice, and data and journals of no shard of the dataset.

    A build that was killed between the two files of a shard leaves the first. The journal has its frames too.
    """
    journals, data = set(), set()
    for schedule in schedules:
        for shard in schedule.shards:
            journals.add(layout.journal_file(shard.stem))
            if CommittedFrames(out).has(shard):
                name = layout.data_folder if schedule.data_format == "jpeg" else layout.data_file
                data.add(name(shard.stem))
    for folder, kept in ((layout.JOURNAL_FOLDER, journals), (layout.DATA_FOLDER, data)):
        for path in sorted(folder_inside(out, folder).glob("*")):
            if f"{folder}/{path.name}" not in kept:
                remove(path)


def _rewrite(out: Path, schedule: Schedule, shard: Shard, erased: ErasedFrames) -> bool:
    """Remove the erased rows from the journal and the files of a shard. Return whether its files changed."""
    is_erased, first = erased.provides(shard), shard.start
    journal = journal_of(out, schedule, shard)
    journal.recover(range(first, shard.stop))
    journal.keep_only(lambda row: not is_erased[row - first])
    committed = CommittedFrames(out)
    if not committed.has(shard):
        return False
    before = committed.outcomes(shard)
    finalize_shard(out, schedule, shard, journal, KnownFrames(committed, (erased,)))
    return committed.outcomes(shard) != before


def _camera(lock: Lock, wanted: str) -> LockedCamera:
    for camera in lock.cameras:
        if wanted in (camera.name, camera.uuid, camera.uuid[:22]):
            return camera
    names = [camera.name for camera in lock.cameras]
    raise UsageError(
        f"{wanted!r} is not a camera of this dataset ({', '.join(names[:10])}){did_you_mean(wanted, names)}"
    )


def _moment(name: str, text: str | None) -> LocalTime | None:
    if text is None:
        return None
    try:
        moment = LocalTime.model_validate(parse_moment(text))
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None
    if moment.now:
        raise UsageError(f"{name}: expected a date or a time, got now")
    return moment
