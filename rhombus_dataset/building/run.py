"""One pass of a build: from a plan to a folder whose shards are all committed. Continues where it was stopped."""

from __future__ import annotations

import collections
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from rhombus_dataset.building.build_log import BuildLog
from rhombus_dataset.building.commit import roll_forward
from rhombus_dataset.building.context import BuildContext
from rhombus_dataset.building.engines.engine import ShardSpec
from rhombus_dataset.building.engines.local import LocalEngine
from rhombus_dataset.building.events import EventGroup
from rhombus_dataset.building.fetch import Fetcher
from rhombus_dataset.building.outcome import BuildOutcome
from rhombus_dataset.building.reuse import CommittedFrames, ErasedFrames, FrameProvider, KnownFrames, ReusedFrames
from rhombus_dataset.errors import DatasetError, OtherDataset
from rhombus_dataset.frame import Status
from rhombus_dataset.plan.model import Plan
from rhombus_dataset.planning.lock import Lock, Selection
from rhombus_dataset.planning.lock_differences import lock_differences
from rhombus_dataset.planning.lock_file import load_lock, lock_files
from rhombus_dataset.planning.resolve import resolve
from rhombus_dataset.planning.rounds import second_round, write_missing
from rhombus_dataset.planning.sampling import sample
from rhombus_dataset.planning.schedule import Schedule, Shard
from rhombus_dataset.store import layout, manifest
from rhombus_dataset.store.annotations import delete_annotations
from rhombus_dataset.store.files import (
    as_storage_error,
    exclusive_lock,
    remove,
    remove_temporary_files,
    sync,
    write_file,
)
from rhombus_dataset.store.journal import Journal


def run_build(
    plan: Plan, plan_text: bytes, context: BuildContext, now_ms: int, selection: Selection | None = None
) -> BuildOutcome:
    """Build the dataset of ``plan`` in the folder of ``context``, or continue it.

    ``plan_text`` is kept as ``plan.yaml``. ``now_ms``: UTC epoch milliseconds, the meaning of ``end: now`` in a new
    dataset. ``selection``: the frames chosen from a scout pass; only for the first run, the lock keeps them.
    No file under its final name is ever incomplete. After any interruption the same call continues.

    Raises OtherDataset when the folder holds something else, and AccessRefused, HostUnreachable, SourceFailing or
    StorageError when the build cannot continue.
    """
    out = context.out
    lock, schedule = _same_build(out, plan, now_ms, selection)
    with exclusive_lock(out):
        _write_inputs(out, plan_text, lock)
        remove_temporary_files(out)
        roll_forward(out)
        outcome = _build_round(context, schedule)
        if outcome.complete and lock.top_up and not (out / layout.TOP_UP_FILE).exists():
            count = write_missing(out, schedule)
            if count:
                context.events.on_note(f"{count:,} moments have no frame: others are drawn in their place")
        second = second_round(out, lock, schedule)
        if second is not None:
            outcome = outcome.plus(_build_round(context, second) if outcome.complete else _not_begun(out, second))
        if outcome.complete:
            remove(out / layout.JOURNAL_FOLDER)
            remove(out / layout.REWRITE_FOLDER)
        return outcome


def _build_round(context: BuildContext, schedule: Schedule) -> BuildOutcome:
    """Build the shards of one schedule that are not committed, or of which rows are to be replaced."""
    began = time.monotonic()
    out = context.out
    erased, committed_frames = ErasedFrames(out, schedule), CommittedFrames(out, context.retry)
    others: list[FrameProvider] = [erased] if erased else []
    if context.reuse is not None:
        others.append(ReusedFrames(context.reuse, schedule))
    known = KnownFrames(committed_frames, tuple(others))
    committed = {shard.stem for shard in schedule.shards if _is_committed(out, schedule, shard)}
    todo = [
        shard
        for shard in schedule.build_order()
        if shard.stem not in committed or _has_changes(out, shard, committed_frames, erased)
    ]
    if erased and todo:
        # An erasure that was interrupted may have recorded itself and done nothing else.
        delete_annotations(out, erased.frame_ids())
    limits = context.limits
    records = []
    with BuildLog(out) as log:
        events = EventGroup(log, context.events)
        shared = replace(context, events=events)
        fetcher = Fetcher(
            context.source,
            context.rate_limiter,
            limits.tries,
            events.on_retry,
            limits.deadline / 1000,
            events.on_wait,
        )
        try:
            engine = LocalEngine(shared, schedule, known, fetcher)
            records = engine.run([ShardSpec(shard, known.to_fetch(shard)) for shard in todo])
        finally:
            seconds = time.monotonic() - began
            # Counted after the build: of a large dataset, the first request would have to wait for it.
            counts = _count(out, committed - {shard.stem for shard in todo})
            for record in records:
                counts.update(record.counts)
            events.on_end(fetcher.requests, seconds, counts)
    finished = {record.shard.stem for record in records}
    counts += _count(out, committed & ({shard.stem for shard in todo} - finished))
    return BuildOutcome(
        out=out,
        planned=len(schedule),
        counts={status: counts[status] for status in Status if counts[status]},
        shards=len(schedule.shards),
        committed_shards=len(committed | finished),
        requests=fetcher.requests,
        seconds=seconds,
        unfinished_shards=len(todo) - len(finished),
    )


def _not_begun(out: Path, schedule: Schedule) -> BuildOutcome:
    """Return the outcome of a round that is not built in this run."""
    committed = sum((out / layout.manifest_file(shard.stem)).exists() for shard in schedule.shards)
    return BuildOutcome(out, len(schedule), {}, len(schedule.shards), committed, requests=0, seconds=0.0)


def _same_build(out: Path, plan: Plan, now_ms: int, selection: Selection | None) -> tuple[Lock, Schedule]:
    """Return the lock and schedule of ``plan``. Raises OtherDataset where ``out`` holds that of another one."""
    if not (out / layout.LOCK_FILE).exists():
        _refuse_other_files(out)
        lock = resolve(plan, now_ms, selection)
        return lock, sample(lock)
    old = load_lock(out)
    # `end: now` means the time of the first run, and frames that were chosen then stay chosen.
    now_ms = now_ms if old.now_ms is None else old.now_ms
    lock = resolve(plan, now_ms, old.selection, old.sampling_version)
    schedule = sample(lock)
    if lock != old and (old_digest := sample(old).digest) != schedule.digest:
        raise OtherDataset(
            f"{out}: the folder holds the dataset of another plan. What differs:\n  "
            + "\n  ".join(lock_differences(old, lock))
            + f"\nThe digest of its schedule is {old_digest}, this plan's is {schedule.digest}. Choose another "
            f"--out, and add --reuse {out} to take the frames that both have. Or build the plan in "
            f"{out / layout.PLAN_FILE}."
        )
    return lock, schedule


def _refuse_other_files(out: Path) -> None:
    with as_storage_error(out):
        names = [path.name for path in out.iterdir()] if out.is_dir() else []
    # What a run leaves that was killed before it had written the lock.
    expected = (layout.BUILD_FOLDER, layout.SCOUT_FOLDER, layout.PLAN_FILE, layout.LOCK_TIMES_FILE)
    others = sorted(name for name in names if name not in expected and name[0] != ".")
    if others:
        raise OtherDataset(
            f"{out}: the folder holds other files ({', '.join(others[:3])}) and no "
            f"{layout.LOCK_FILE}: choose a folder that is empty or does not exist yet"
        )


def _write_inputs(out: Path, plan_text: bytes, lock: Lock) -> None:
    """Write plan and lock. The lock comes last: a folder with a lock has all that a build starts from."""
    write_file(out / layout.PLAN_FILE, plan_text)
    files = lock_files(lock)
    for name in sorted(files, key=lambda name: name == layout.LOCK_FILE):
        path = out / name
        if not path.exists() or path.read_bytes() != files[name]:
            write_file(path, files[name])
    with as_storage_error(out):
        sync(out.parent)


def _is_committed(out: Path, schedule: Schedule, shard: Shard) -> bool:
    path = out / layout.manifest_file(shard.stem)
    if not path.exists():
        return False
    header = manifest.read_header(path)
    if header.schedule_digest != schedule.digest or header.shard != shard.stem:
        raise OtherDataset(
            f"{path}: this slice belongs to another schedule ({header.schedule_digest}); the plan's is "
            f"{schedule.digest}. Choose another --out."
        )
    data = layout.data_folder if header.data_format == "jpeg" else layout.data_file
    if not (out / data(shard.stem)).exists():
        raise DatasetError(
            f"{out / data(shard.stem)}: the shard's data is missing, but its manifest slice exists. "
            f"Restore it, or run: rhombus-dataset verify {out} --repair; then build again."
        )
    return True


def journal_of(out: Path, schedule: Schedule, shard: Shard) -> Journal:
    """Return the journal of one shard of a dataset."""
    return Journal(out / layout.journal_file(shard.stem), schedule.digest, shard.stem)


def _has_changes(out: Path, shard: Shard, committed: CommittedFrames, erased: ErasedFrames) -> bool:
    """Return whether a committed shard must be written again: with rows to request, to add or to erase."""
    if (out / layout.journal_file(shard.stem)).exists() or not committed.provides(shard).all():
        return True
    to_erase = erased.provides(shard)
    statuses = manifest.read_statuses(out / layout.manifest_file(shard.stem)) if to_erase.any() else None
    return statuses is not None and bool((statuses[to_erase] != str(Status.ERASED)).any())


def _count(out: Path, stems: Iterable[str]) -> collections.Counter[Status]:
    counts: collections.Counter[Status] = collections.Counter()
    for stem in stems:
        statuses, numbers = np.unique(manifest.read_statuses(out / layout.manifest_file(stem)), return_counts=True)
        counts.update(dict(zip(map(Status, statuses.tolist()), numbers.tolist(), strict=True)))
    return counts
