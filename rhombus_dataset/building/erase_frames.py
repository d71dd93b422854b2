"""Frames taken back out of a dataset: a person's right, a court's order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rhombus_dataset.building.commit import finalize_shard, roll_forward
from rhombus_dataset.building.reuse import CommittedFrames, ErasedFrames
from rhombus_dataset.building.run import journal_of
from rhombus_dataset.errors import UsageError, nearest
from rhombus_dataset.plan.local_time import moment_ms
from rhombus_dataset.plan.model import LocalTime
from rhombus_dataset.planning.erasures import Erasure, add_erasure
from rhombus_dataset.planning.lock import Lock, LockedCamera, load_lock
from rhombus_dataset.planning.rounds import rounds
from rhombus_dataset.store.annotations import delete_annotations
from rhombus_dataset.store.files import exclusive_lock


@dataclass(frozen=True, slots=True)
class ErasureOutcome:
    """``rows``: planned frames that are erased now; ``shards``: how many committed shards were rewritten."""

    dataset: Path
    camera_name: str
    rows: int
    shards: int


def erase_frames(out: Path, camera: str, start: LocalTime | None, end: LocalTime | None) -> ErasureOutcome:
    """Erase every frame of a camera (name or UUID) from ``start`` to before ``end``; None is without bound.

    The images go from data, journals and the report, what was labelled on them from the annotations, and
    their rows of the manifest become `erased`. Frames of that
    time that are not built yet are never asked for. Ends what an interrupted erasure has left.

    Raises DatasetError, UsageError for a camera that is not in the dataset, and StorageError.
    """
    lock = load_lock(out)
    schedules = rounds(out, lock)
    mine = _camera(lock, camera)
    start_ms = -(2**62) if start is None else moment_ms(start, mine.timezone)
    end_ms = 2**62 if end is None else moment_ms(end, mine.timezone)
    if start_ms >= end_ms:
        raise UsageError("the time to erase is empty: --to must be later than --from")
    with exclusive_lock(out):
        roll_forward(out)
        add_erasure(out, Erasure(mine.uuid, start_ms, end_ms))
        own = CommittedFrames(out)
        every = [ErasedFrames(out, schedule) for schedule in schedules]
        delete_annotations(out, set().union(*(erased.frame_ids() for erased in every)))
        rows = shards = 0
        pairs = zip(schedules, every, strict=True)
        for schedule, erased, shard in [(s, erased, shard) for s, erased in pairs for shard in s.shards]:
            gone = erased.of(shard)
            if not gone.any():
                continue
            rows += int(gone.sum())
            journal = journal_of(out, schedule, shard)
            first = shard.start
            journal.recover()
            journal.keep_only(lambda row, gone=gone, first=first: not gone[row - first])  # type: ignore[misc]
            if own.stands(shard):
                before = own.outcomes(shard)
                finalize_shard(out, schedule, shard, lock.data_format, journal, own, [erased])
                shards += own.outcomes(shard) != before
    return ErasureOutcome(out, mine.name, rows, shards)


def _camera(lock: Lock, wanted: str) -> LockedCamera:
    for camera in lock.cameras:
        if wanted in (camera.name, camera.uuid, camera.uuid[:22]):
            return camera
    names = [camera.name for camera in lock.cameras]
    meant = nearest(wanted, names)
    raise UsageError(
        f"{wanted!r} is no camera of this dataset ({', '.join(names[:10])})"
        + (f"; did you mean {meant}?" if meant else "")
    )
