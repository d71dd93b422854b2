"""A build: from a plan to a folder whose every shard is committed, going on where it stopped."""

from __future__ import annotations

import collections
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rhombus_dataset.building.commit import roll_forward
from rhombus_dataset.building.engines.local import LocalEngine
from rhombus_dataset.building.fetch import Fetcher
from rhombus_dataset.building.rate_limiter import RateLimiter
from rhombus_dataset.building.reuse import CommittedFrames, ErasedFrames, FrameProvider, ReusedFrames
from rhombus_dataset.errors import DatasetError, OtherDataset
from rhombus_dataset.frame import FrameRequest, Status
from rhombus_dataset.plan.model import Plan
from rhombus_dataset.planning.lock import Lock, Selection, load_lock, lock_files, resolve
from rhombus_dataset.planning.rounds import second_round, write_missing
from rhombus_dataset.planning.sampling import sample
from rhombus_dataset.planning.schedule import Schedule, Shard
from rhombus_dataset.sources import FrameSource
from rhombus_dataset.store import layout, manifest
from rhombus_dataset.store.annotations import delete_annotations
from rhombus_dataset.store.files import as_storage_error, exclusive_lock, remove, sync, write_file
from rhombus_dataset.store.journal import Journal
from rhombus_dataset.store.layout import BUILD_FOLDER, SCOUT_FOLDER


@dataclass(frozen=True, slots=True)
class BuildOutcome:
    """What a run of a build has come to.

    ``counts``: rows of the whole dataset by status, of the committed shards. ``planned``: how many rows
    there will be. ``requests``: how many this run has sent.
    """

    out: Path
    planned: int
    counts: dict[Status, int]
    shards: int
    committed_shards: int
    requests: int
    seconds: float
    unanswered: int = 0
    """Rows that this run was to ask for and has not, since it was stopped."""

    @property
    def complete(self) -> bool:
        """Every planned row stands, whatever became of it, and nothing is left to ask for again."""
        return self.stands and not self.unanswered

    @property
    def stands(self) -> bool:
        """Every planned row stands, whatever became of it."""
        return self.committed_shards == self.shards


class BuildLog:
    """``.build/log.jsonl``: one JSON object a line; the only file of a build that tells the time."""

    def __init__(self, path: Path) -> None:
        with as_storage_error(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()

    def write(self, event: str, **fields: Any) -> None:
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields})
        with self._lock:
            self._file.write(line + "\n")

    def close(self) -> None:
        self._file.close()


def run_build(
    plan: Plan,
    plan_text: bytes,
    out: Path,
    source: FrameSource,
    *,
    now_ms: int,
    quota: RateLimiter,
    stop: threading.Event,
    on_start: Callable[[Schedule, int], None],
    on_frame: Callable[[Status], None],
    on_note: Callable[[str], None] = lambda _: None,
    retry: frozenset[Status] = frozenset(),
    reuse: Path | None = None,
    picks: Selection | None = None,
) -> BuildOutcome:
    """Build the dataset of ``plan`` in the folder ``out``, or go on with it.

    ``plan_text`` is kept as ``plan.yaml``. ``picks`` are of a plan that scouts, and only the first time: then they
    stand in the lock. ``on_start`` is told the schedule and how many of its rows need no
    request. Rows that stand with a status of ``retry`` are asked for again; frames that the dataset in
    ``reuse`` holds are not asked for at all. What stands under a final name is never half-written; after
    any interruption the same call goes on.

    Raises OtherDataset when ``out`` holds something else, and AccessRefused, HostUnreachable or
    StorageError when the build cannot go on.
    """
    lock, schedule = _same_build(out, plan, now_ms, picks)
    with exclusive_lock(out):
        _write_inputs(out, plan_text, lock)
        _remove_leftovers(out)
        roll_forward(out)

        def build_round(schedule: Schedule) -> BuildOutcome:
            return _build_round(
                plan, lock, schedule, out, source, quota, stop, on_start, on_frame, on_note, retry, reuse
            )

        outcome = build_round(schedule)
        if outcome.complete and lock.top_up and not (out / layout.TOP_UP_FILE).exists():
            count = write_missing(out, schedule)
            if count:
                on_note(f"{count:,} moments have no frame: others are drawn in their place")
        more = second_round(out, lock, schedule)
        if more is not None:
            if outcome.complete:
                outcome = _together(outcome, build_round(more))
            else:
                standing = sum((out / layout.manifest_file(shard.stem)).exists() for shard in more.shards)
                outcome = replace(
                    outcome,
                    planned=outcome.planned + len(more),
                    shards=outcome.shards + len(more.shards),
                    committed_shards=outcome.committed_shards + standing,
                )
        if outcome.complete:
            remove(out / layout.JOURNAL_FOLDER)
        return outcome


def _together(a: BuildOutcome, b: BuildOutcome) -> BuildOutcome:
    counts = {status: a.counts.get(status, 0) + b.counts.get(status, 0) for status in Status}
    return BuildOutcome(
        out=a.out,
        planned=a.planned + b.planned,
        counts={status: count for status, count in counts.items() if count},
        shards=a.shards + b.shards,
        committed_shards=a.committed_shards + b.committed_shards,
        requests=a.requests + b.requests,
        seconds=a.seconds + b.seconds,
        unanswered=a.unanswered + b.unanswered,
    )


def _build_round(
    plan: Plan,
    lock: Lock,
    schedule: Schedule,
    out: Path,
    source: FrameSource,
    quota: RateLimiter,
    stop: threading.Event,
    on_start: Callable[[Schedule, int], None],
    on_frame: Callable[[Status], None],
    on_note: Callable[[str], None],
    retry: frozenset[Status],
    reuse: Path | None,
) -> BuildOutcome:
    """Build the shards of one schedule that do not stand yet."""
    began = time.monotonic()
    erased, own = ErasedFrames(out, schedule), CommittedFrames(out, retry)
    holdings: list[FrameProvider] = [erased] if erased else []
    if reuse is not None:
        holdings.append(ReusedFrames(reuse, schedule))
    standing = {shard.stem for shard in schedule.shards if _committed(out, schedule, shard)}
    todo = [
        shard
        for shard in schedule.build_order()
        if shard.stem not in standing or _has_changes(out, schedule, shard, own, erased)
    ]
    if erased and todo:
        # An erasure that was cut short may have got no further than its record.
        delete_annotations(out, erased.frame_ids())
    counts = _count(out, standing - {shard.stem for shard in todo})
    log = BuildLog(out / layout.LOG_FILE)
    log.write("start", schedule=schedule.digest, rows=len(schedule), shards=len(todo))
    settled: set[str] = set()

    def on_retry(request: FrameRequest, reason: str) -> None:
        log.write(
            "retry",
            camera=request.camera_uuid,
            timestamp_ms=request.timestamp_ms,
            reason=reason,
        )

    def on_torn(shard: Shard, cut_bytes: int) -> None:
        log.write("torn", name=shard.stem, cut_bytes=cut_bytes)
        on_note(f"{shard.stem}: the journal's last {cut_bytes:,} bytes were cut short and are asked for again")

    def on_shard(shard: Shard, of_shard: collections.Counter[Status]) -> None:
        standing.add(shard.stem)
        settled.add(shard.stem)
        counts.update(of_shard)
        log.write("shard", name=shard.stem, counts=of_shard)

    limits = plan.source.limits
    fetcher = Fetcher(source, quota, limits.tries, on_retry, limits.deadline / 1000)
    engine = LocalEngine(
        out,
        schedule,
        todo,
        lock.data_format,
        fetcher,
        concurrency=limits.concurrency,
        per_camera=limits.per_camera,
        min_success_rate=limits.min_success_rate,
        stop=stop,
        on_start=lambda known: on_start(schedule, known),
        on_torn=on_torn,
        on_frame=on_frame,
        on_shard=on_shard,
        own=own,
        holdings=holdings,
    )
    try:
        engine.run()
    finally:
        seconds = time.monotonic() - began
        log.write("end", requests=fetcher.requests, seconds=round(seconds, 3), counts=counts)
        log.close()
    counts += _count(out, standing & ({shard.stem for shard in todo} - settled))
    return BuildOutcome(
        out=out,
        planned=len(schedule),
        counts={status: counts[status] for status in Status if counts[status]},
        shards=len(schedule.shards),
        committed_shards=len(standing),
        requests=fetcher.requests,
        seconds=seconds,
        unanswered=engine.unanswered,
    )


def _same_build(out: Path, plan: Plan, now_ms: int, picks: Selection | None) -> tuple[Lock, Schedule]:
    """The lock and schedule to build: the plan's, if ``out`` is empty or holds that very schedule."""
    if not (out / layout.LOCK_FILE).exists():
        with as_storage_error(out):
            strangers = [p.name for p in out.iterdir()] if out.is_dir() else []
        strangers = [
            n for n in strangers if n not in (BUILD_FOLDER, SCOUT_FOLDER, layout.PLAN_FILE) and n[0] != "."
        ]
        if strangers:
            raise OtherDataset(
                f"{out}: the folder holds other files ({', '.join(sorted(strangers)[:3])}) and no "
                f"{layout.LOCK_FILE}: choose a folder that is empty or does not exist yet"
            )
        lock = resolve(plan, now_ms, picks)
        return lock, sample(lock)
    old = load_lock(out)
    # `end: now` means the now of the first run, and what was chosen then stays chosen.
    lock = resolve(plan, now_ms if old.now_ms is None else old.now_ms, old.picks)
    schedule = sample(lock)
    if lock != old and (held := sample(old).digest) != schedule.digest:
        raise OtherDataset(
            f"{out}: the folder holds the dataset of another plan. Its schedule's digest is "
            f"{held}, this plan's is {schedule.digest}. Choose another --out, or build the "
            f"plan that stands in {out / layout.PLAN_FILE}."
        )
    return lock, schedule


def _write_inputs(out: Path, plan_text: bytes, lock: Lock) -> None:
    """The lock last: a folder with a lock has everything else that a build starts from."""
    write_file(out / layout.PLAN_FILE, plan_text)
    files = lock_files(lock)
    for name in sorted(files, key=lambda name: name == layout.LOCK_FILE):
        path = out / name
        if not path.exists() or path.read_bytes() != files[name]:
            write_file(path, files[name])
    with as_storage_error(out):
        sync(out.parent)


def _remove_leftovers(out: Path) -> None:
    """What a killed run was writing: it never stood under its final name."""
    for folder in (out, out / layout.DATA_FOLDER, out / layout.MANIFEST_FOLDER):
        for path in folder.glob(".*.tmp"):
            remove(path)


def _committed(out: Path, schedule: Schedule, shard: Shard) -> bool:
    path = out / layout.manifest_file(shard.stem)
    if not path.exists():
        return False
    header = manifest.read_header(path)
    if header.schedule_digest != schedule.digest or header.shard != shard.stem:
        raise OtherDataset(
            f"{path}: this slice is of another schedule ({header.schedule_digest}); the plan's is "
            f"{schedule.digest}. Choose another --out."
        )
    data = layout.data_folder if header.data_format == "jpeg" else layout.data_file
    if not (out / data(shard.stem)).exists():
        raise DatasetError(
            f"{out / data(shard.stem)}: the shard's data is gone, but its manifest slice stands. "
            f"Bring it back, or run: rhombus-dataset verify {out} --repair; then build again."
        )
    return True


def journal_of(out: Path, schedule: Schedule, shard: Shard) -> Journal:
    """The journal of one shard of a dataset."""
    return Journal(out / layout.JOURNAL_FOLDER / f"{shard.stem}.journal", schedule.digest, shard.stem)


def _has_changes(out: Path, schedule: Schedule, shard: Shard, own: CommittedFrames, erased: ErasedFrames) -> bool:
    """Whether a shard that stands is to be written anew: there is something to ask for, to add or to erase."""
    if (out / layout.JOURNAL_FOLDER / f"{shard.stem}.journal").exists() or not own.of(shard).all():
        return True
    gone = erased.of(shard)
    statuses = manifest.read_statuses(out / layout.manifest_file(shard.stem)) if gone.any() else None
    return statuses is not None and bool((statuses[gone] != str(Status.ERASED)).any())


def _count(out: Path, stems: Iterable[str]) -> collections.Counter[Status]:
    counts: collections.Counter[Status] = collections.Counter()
    for stem in stems:
        statuses = manifest.read_statuses(out / layout.manifest_file(stem))
        counts.update(Status(status) for status in statuses.tolist())
    return counts
