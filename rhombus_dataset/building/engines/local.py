"""The engine for one machine: fetches with threads and commits with one more.

Rows are requested in build order, oldest footage first. Every outcome is appended to the journal of its shard at
once. A shard whose last outcome was received is committed while later shards go on, so a slow frame delays only the
commit of its own shard.
"""

from __future__ import annotations

import bisect
import concurrent.futures
import functools
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.building.circuit_breaker import CircuitBreakers, SuccessRate
from rhombus_dataset.building.commit import finalize_shard
from rhombus_dataset.building.context import BuildContext
from rhombus_dataset.building.engines.engine import ShardRecord, ShardSpec
from rhombus_dataset.building.fetch import Deferred, Fetcher, Refused, access_advice
from rhombus_dataset.building.first_answers import FirstAnswers
from rhombus_dataset.building.rate_limiter import Stopped
from rhombus_dataset.building.reuse import KnownFrames
from rhombus_dataset.building.row_queue import Job, RowQueue
from rhombus_dataset.errors import AccessRefused, SourceFailing
from rhombus_dataset.frame import Outcome, Status
from rhombus_dataset.imaging.threads import single_threaded
from rhombus_dataset.planning.schedule import Schedule
from rhombus_dataset.store import layout
from rhombus_dataset.store.journal import Journals

SYNC_INTERVAL_S: Final = 0.8
"""Seconds between two syncs of the journals. With the sync itself, received data is on the disk within about 1 s.
"""

STOP_WITHIN_S: Final = 10.0
"""Seconds that requests in flight get to finish after a build was told to stop."""

WAKE_INTERVAL_S: Final = 0.5
"""Seconds after which a waiting thread looks whether `stop` was set: signal handlers can't notify it."""


class LocalEngine:
    """Builds shards of ``schedule`` into the folder of ``context``. Implements Engine. For one run.

    At most ``limits.concurrency`` requests are in flight, ``limits.per_camera`` of them for one camera. A camera
    that is down is probed from time to time while the others go on. Its remaining frames are `failed` if it is
    still down when nothing else is left. Setting ``context.stop`` ends the run early: no new frame is requested,
    and requests in flight get ten seconds to finish.
    """

    def __init__(self, context: BuildContext, schedule: Schedule, known: KnownFrames, fetcher: Fetcher) -> None:
        self._context = context
        self._schedule = schedule
        self._known = known
        self._fetcher = fetcher
        self._stop = context.stop
        self._success_rate = SuccessRate(context.limits.min_success_rate)
        self._breakers = CircuitBreakers()
        self._last_ok_row: dict[int, int] = {}  # by camera
        self._records: list[ShardRecord] = []
        self._journals = Journals(context.out / layout.JOURNAL_FOLDER, schedule.digest)
        self._changed = threading.Condition()
        self._error: BaseException | None = None

    def run(self, specs: Sequence[ShardSpec]) -> list[ShardRecord]:
        """See Engine. All threads have ended when it returns or raises."""
        # Each thread decodes its own frame: threads of OpenCV would only compete with them.
        with single_threaded():
            return self._run(specs)

    def _run(self, specs: Sequence[ShardSpec]) -> list[ShardRecord]:
        self._specs = sorted(specs, key=lambda spec: spec.shard.start)
        self._starts = [spec.shard.start for spec in self._specs]
        self._remaining = [0] * len(specs)
        self._committer = concurrent.futures.ThreadPoolExecutor(1, "commit")
        self._pending = rows = self._pending_rows(specs)
        self._context.events.on_start(self._schedule, len(self._schedule) - len(rows), len(specs))
        self._first_answers = first = self._judge_of(rows)
        self._queue = RowQueue(first.rows, self._schedule.camera[first.rows], self._context.limits.per_camera)
        flushed = threading.Event()
        flusher = threading.Thread(target=self._flush, args=(flushed,), name="flush")
        workers = [
            threading.Thread(target=self._work, name=f"fetch-{i}")
            for i in range(min(self._context.limits.concurrency, len(rows)))
        ]
        try:
            for thread in (flusher, *workers):
                thread.start()
            self._wait_for(workers)
        except BaseException as error:
            self._halt(error)
            self._wait_for(workers)
        finally:
            self._record_all(first.all_held())
            self._committer.shutdown()
            flushed.set()
            flusher.join()
            self._journals.close()
        if self._error is not None:
            raise self._error
        return self._records

    def _pending_rows(self, specs: Sequence[ShardSpec]) -> npt.NDArray[np.int32]:
        """Return the rows to request, in the order of ``specs``. Shards without any are committed."""
        parts = [np.empty(0, np.int32)]
        for spec in specs:
            shard, wanted = spec.shard, spec.to_fetch.copy()
            received, cut_bytes = self._journals.recover(shard.stem, range(shard.start, shard.stop))
            if cut_bytes:
                self._context.events.on_torn_journal(shard, cut_bytes)
            wanted[np.array(received, np.int64) - shard.start] = False
            parts.append((np.flatnonzero(wanted) + shard.start).astype(np.int32))
            self._remaining[self._place_of(shard.start)] = remaining = int(wanted.sum())
            if remaining == 0:
                self._commit_soon(spec)
        return np.concatenate(parts)

    def _judge_of(self, rows: npt.NDArray[np.int32]) -> FirstAnswers:
        """Return the judge of the first answers. No camera is judged that has rows, or if the plan wants none."""
        cameras = self._schedule.camera
        done = np.ones(len(self._schedule), np.bool_)
        done[rows] = False
        known = set(np.unique(cameras[done]).tolist())
        if self._context.limits.min_success_rate == 0:
            known = set(cameras.tolist())
        return FirstAnswers(rows, cameras[rows], [camera.name for camera in self._schedule.cameras], known)

    def _place_of(self, row: int) -> int:
        return bisect.bisect_right(self._starts, row) - 1

    def _wait_for(self, workers: list[threading.Thread]) -> None:
        cut_at_s: float | None = None
        for worker in workers:
            while worker.is_alive():
                worker.join(0.2)
                if self._stop.is_set() and cut_at_s is None:
                    cut_at_s = time.monotonic() + STOP_WITHIN_S
                if cut_at_s is not None and time.monotonic() > cut_at_s:
                    self._fetcher.close()
                    worker.join()

    def _work(self) -> None:
        try:
            while (job := self._next()) is not None:
                self._record_failed(self._fetch(job))
        except Stopped:
            pass
        except BaseException as error:
            self._halt(error)

    def _fetch(self, job: Job) -> Iterable[tuple[int, str]]:
        """Fetch and record one frame. Return the rows, with the reason, that are now known to be refused."""
        outcome = self._fetcher.fetch(
            self._schedule.request(job.row),
            self._schedule.masks(job.row),
            job.attempts,
            functools.partial(self._on_attempt, job),
        )
        match outcome:
            case Refused(reason=reason):
                self._on_attempt(job, None, 0, time.monotonic())
                with self._changed:
                    failed = self._queue.refused(job, reason)
                    self._changed.notify_all()
            case Deferred(attempts=attempts):
                failed = []
                with self._changed:
                    self._queue.defer(job, attempts)
                    if not self._breakers.is_down(job.camera):  # it has recovered in the meantime
                        self._queue.recovered(job.camera)
                    self._changed.notify_all()
            case Outcome():
                self._record_all(self._first_answers.add(job.row, job.camera, outcome))
                self._check_success_rate(outcome)
                if outcome.status is Status.OK:
                    self._last_ok_row[job.camera] = job.row
                with self._changed:
                    failed = self._queue.answered(job)
                    self._changed.notify()
        return [(refused.row, reason) for refused, reason in failed]

    def _on_attempt(self, job: Job, down_reason: str | None, attempts_used: int, sent_s: float) -> bool:
        with self._changed:
            if down_reason is not None:
                if not self._queue.has_more(job.camera):
                    attempts_used = 0  # deferring would save no request: the frame's own attempts decide
                return not self._breakers.failed(job.camera, job.row, attempts_used, down_reason, time.monotonic())
            if self._breakers.answered(job.camera, time.monotonic(), sent_s):
                self._queue.recovered(job.camera)
                self._changed.notify_all()
            return True

    def _check_success_rate(self, outcome: Outcome) -> None:
        good = outcome.status in (Status.OK, Status.MISSING)
        with self._changed:
            problem = self._success_rate.add(None if good else outcome.reason or str(outcome.status))
        if problem is not None:
            raise SourceFailing(
                f"the build stopped early, to save the quota: {problem}. What was received is kept. When the cause "
                "is fixed, run the same build again, and then once more with --retry failed (or corrupt). Or lower "
                "limits.min_success_rate in the plan."
            )

    def _next(self) -> Job | None:
        while True:
            with self._changed:
                while not self._stop.is_set():
                    job = self._probe() or self._queue.take()
                    if job is not None:
                        return job
                    if self._queue.finished:
                        self._changed.notify_all()
                        return None
                    if self._queue.unresolved_refusals is not None or self._is_unrecoverable():
                        break
                    self._changed.wait(WAKE_INTERVAL_S)
                else:
                    return None
                if self._queue.unresolved_refusals is not None:
                    failed = self._resolve_refusals(*self._queue.unresolved_refusals)
                else:
                    failed = self._give_up()
                self._changed.notify_all()
            self._record_failed(failed)

    def _probe(self) -> Job | None:
        camera = self._breakers.due(time.monotonic())
        job = None if camera is None else self._queue.probe(camera)
        if job is not None:
            self._breakers.probing(job.camera, job.row)
        return job

    def _is_unrecoverable(self) -> bool:
        if not self._queue.only_down_left:
            return False
        self._breakers.only_down_left(time.monotonic())
        return bool(self._breakers.unrecoverable)

    def _resolve_refusals(self, refused: set[int], reason: str) -> Iterable[tuple[int, str]]:
        """Only refused cameras are left: request a frame of another one, to learn whether the key still works.

        Return the rows of the refused cameras with the reason. Raises AccessRefused if the key does not work, or if
        there is no other camera.
        """
        others = np.flatnonzero(~np.isin(self._schedule.camera, list(refused)))
        if len(others) == 0:
            raise AccessRefused(access_advice(reason))
        answer = self._fetcher.fetch(self._schedule.request(int(others[0])))
        if isinstance(answer, Refused):
            raise AccessRefused(access_advice(answer.reason))
        return [(job.row, why) for job, why in self._queue.release_refused()]

    def _give_up(self) -> Iterable[tuple[int, str]]:
        """Only cameras that are down are left. Return their rows with the reason.

        Raises SourceFailing where no other camera answers either: then the source as a whole is down.
        """
        down = self._breakers.unrecoverable
        if not (self._breakers.other_cameras_alive or self._source_answers(set(down))):
            names = ", ".join(self._schedule.cameras[camera].name for camera in list(down)[:3])
            raise SourceFailing(
                f"no camera delivers frames any more ({next(iter(down.values()))}; {names}). What was received "
                "is kept, and nothing else is recorded as failed: run the same build again to continue."
            )
        return [(row, reason) for camera, reason in down.items() for row in self._queue.give_up(camera)]

    def _source_answers(self, down: set[int]) -> bool:
        """Return whether the source delivers a frame that it has delivered before: of another camera, then of
        these.
        """
        done = np.ones(len(self._schedule), np.bool_)
        done[self._pending] = False
        others = np.flatnonzero(~np.isin(self._schedule.camera, list(down)))
        for rows in (others, np.array(list(self._last_ok_row.values()), np.int64), np.flatnonzero(done)):
            if len(rows):
                answer = self._fetcher.fetch(self._schedule.request(int(rows[-1])))
                if isinstance(answer, Outcome) and answer.status in (Status.OK, Status.MISSING):
                    return True
        return False

    def _record_failed(self, failed: Iterable[tuple[int, str]]) -> None:
        for row, reason in failed:
            self._record_all(self._first_answers.give_up(int(self._schedule.camera[row])))
            self._record(row, Outcome(Status.FAILED, reason=reason))

    def _record_all(self, outcomes: Iterable[tuple[int, Outcome]]) -> None:
        for row, outcome in outcomes:
            self._record(row, outcome)

    def _record(self, row: int, outcome: Outcome) -> None:
        place = self._place_of(row)
        spec = self._specs[place]
        self._journals.append(spec.shard.stem, row, outcome)
        self._context.events.on_frame(outcome.status)
        with self._changed:
            self._remaining[place] -= 1
            is_complete = self._remaining[place] == 0
        if is_complete:
            self._commit_soon(spec)

    def _commit_soon(self, spec: ShardSpec) -> None:
        def commit() -> None:
            if self._error is not None:
                return
            try:
                journal = self._journals.take(spec.shard.stem)
                counts = finalize_shard(self._context.out, self._schedule, spec.shard, journal, self._known)
                self._records.append(ShardRecord(spec.shard, dict(counts)))
                self._context.events.on_shard(spec.shard, counts)
            except BaseException as error:
                self._halt(error)

        self._committer.submit(commit)

    def _halt(self, error: BaseException) -> None:
        with self._changed:
            if self._error is None:
                self._error = error
            self._stop.set()
            self._changed.notify_all()

    def _flush(self, done: threading.Event) -> None:
        while not done.wait(SYNC_INTERVAL_S):
            try:
                self._journals.sync()
            except BaseException as error:
                self._halt(error)
                return
