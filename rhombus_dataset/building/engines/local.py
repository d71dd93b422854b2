"""Builds shards with threads on this machine.

Rows are handed out in build order, oldest footage first. Every outcome goes to its shard's journal at
once; a shard whose last row has come is committed while later ones go on, so a slow frame holds up
nothing but its own shard's commit.
"""

from __future__ import annotations

import bisect
import collections
import concurrent.futures
import functools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from rhombus_dataset.building.circuit_breaker import CircuitBreakers, SuccessRate
from rhombus_dataset.building.commit import finalize_shard
from rhombus_dataset.building.fetch import Deferred, Fetcher, Refused, access_advice
from rhombus_dataset.building.rate_limiter import Stopped
from rhombus_dataset.building.reuse import CommittedFrames, FrameProvider
from rhombus_dataset.building.row_queue import Job, RowQueue
from rhombus_dataset.errors import AccessRefused, SourceFailing
from rhombus_dataset.frame import Outcome, Status
from rhombus_dataset.planning.schedule import Schedule, Shard
from rhombus_dataset.store import layout
from rhombus_dataset.store.journal import Journals

SYNC_INTERVAL_S: Final = 0.8
"""Together with the sync itself, what was received is on the disk within about a second."""

STOP_WITHIN_S: Final = 10.0
"""A build that is told to stop gives what is in flight so long to come in."""

OnFrame = Callable[[Status], None]
OnShard = Callable[[Shard, "collections.Counter[Status]"], None]


class LocalEngine:
    """Builds ``shards`` of ``schedule`` into the dataset folder ``out``.

    These are the ones that are not committed, or of which something is to be done again. What ``holdings`` have is
    not asked for, nor what ``own`` keeps of shards that stand. ``concurrency`` requests are in flight at most,
    ``per_camera`` of them for one camera. Setting ``stop`` ends the build early: no further frame is asked for, and
    those in flight are finished if they come within ten seconds. A camera that is down is probed now and then
    while the others go on; what it owes in the end is `failed`. ``min_success_rate`` is that of the plan's limits.
    ``on_start`` is told for how many rows no request is needed, ``on_torn`` of bytes that were cut off a journal.
    ``on_frame`` and ``on_shard`` are called from the engine's threads and must be quick.
    """

    def __init__(
        self,
        out: Path,
        schedule: Schedule,
        shards: Sequence[Shard],
        data_format: Literal["parquet", "jpeg"],
        fetcher: Fetcher,
        *,
        concurrency: int,
        per_camera: int,
        min_success_rate: float,
        stop: threading.Event,
        on_start: Callable[[int], None],
        on_torn: Callable[[Shard, int], None],
        on_frame: OnFrame,
        on_shard: OnShard,
        own: CommittedFrames,
        holdings: Sequence[FrameProvider],
    ) -> None:
        self._out = out
        self._schedule = schedule
        self._data_format = data_format
        self._fetcher = fetcher
        self._concurrency = concurrency
        self._per_camera = per_camera
        self._stop = stop
        self._success_rate = SuccessRate(min_success_rate)
        self._breakers = CircuitBreakers()
        self._came: dict[int, int] = {}  # by camera, a row whose frame has come
        self._on_start = on_start
        self._on_torn = on_torn
        self._on_frame = on_frame
        self._own = own
        self._holdings = holdings
        self._on_shard = on_shard
        self._shards = list(shards)
        by_start = sorted(range(len(self._shards)), key=lambda i: self._shards[i].start)
        self._starts = [self._shards[i].start for i in by_start]
        self._by_start = by_start
        self._remaining = [shard.stop - shard.start for shard in self._shards]
        self._journals = Journals(out / layout.JOURNAL_FOLDER, schedule.digest)
        self._changed = threading.Condition()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Build until every shard stands, or until ``stop`` is set.

        Raises what ends a build: AccessRefused, HostUnreachable, StorageError. All threads are gone
        then, and all that was received is in the journals.
        """
        # One frame a thread is parallel enough: OpenCV's own threads would only get in the way.
        cv2.setNumThreads(1)
        self._committer = concurrent.futures.ThreadPoolExecutor(1, "commit")
        self._pending = rows = self._pending_rows()
        self._on_start(len(self._schedule) - len(rows))
        self._dispatch = RowQueue(rows, self._schedule.camera[rows], self._per_camera)
        flushed = threading.Event()
        flusher = threading.Thread(target=self._flush, args=(flushed,), name="flush")
        workers = [
            threading.Thread(target=self._work, name=f"fetch-{i}") for i in range(min(self._concurrency, len(rows)))
        ]
        try:
            for thread in (flusher, *workers):
                thread.start()
            self._wait_for(workers)
        except BaseException as error:
            self._halt(error)
            self._wait_for(workers)
        finally:
            self._committer.shutdown()
            flushed.set()
            flusher.join()
            self._journals.close()
        if self._error is not None:
            raise self._error

    @property
    def unanswered(self) -> int:
        """How many rows have no outcome yet."""
        return self._dispatch.unfinished

    def _pending_rows(self) -> npt.NDArray[np.int32]:
        """The rows to ask for, in build order. Shards whose journal is complete are committed."""
        parts = [np.empty(0, np.int32)]
        for place, shard in enumerate(self._shards):
            wanted = ~self._own.of(shard)
            for holdings in self._holdings:
                wanted &= ~holdings.of(shard)
            received, cut_bytes = self._journals.recover(shard.stem)
            if cut_bytes:
                self._on_torn(shard, cut_bytes)
            wanted[np.array(received, np.int64) - shard.start] = False
            parts.append((np.flatnonzero(wanted) + shard.start).astype(np.int32))
            self._remaining[place] = int(wanted.sum())
            if self._remaining[place] == 0:
                self._commit_soon(shard)
        return np.concatenate(parts)

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
            while (turn := self._next()) is not None:
                row = turn.row
                outcome = self._fetcher.fetch(
                    self._schedule.request(row),
                    self._schedule.masks(row),
                    turn.tries,
                    functools.partial(self._on_try, turn),
                )
                if isinstance(outcome, Refused):
                    self._on_try(turn, None, 0)
                    with self._changed:
                        failed = self._dispatch.refused(turn, outcome.reason)
                        self._changed.notify_all()
                elif isinstance(outcome, Deferred):
                    failed = []
                    with self._changed:
                        self._dispatch.defer(turn, outcome.tries)
                        if not self._breakers.is_down(turn.camera):  # it came up meanwhile
                            self._dispatch.up(turn.camera)
                        self._changed.notify_all()
                else:
                    self._record(row, outcome)
                    self._check_success(outcome)
                    if outcome.status is Status.OK:
                        self._came[turn.camera] = row
                    with self._changed:
                        failed = self._dispatch.answered(turn)
                        self._changed.notify()
                self._record_failed((refused.row, reason) for refused, reason in failed)
        except Stopped:
            pass
        except BaseException as error:
            self._halt(error)

    def _on_try(self, turn: Job, down: str | None, used_up: int) -> bool:
        with self._changed:
            if down is not None:
                if not self._dispatch.has_more(turn.camera):
                    used_up = 0  # nothing would be spared by leaving off: the frame's tries decide
                return not self._breakers.failed(turn.camera, turn.row, used_up, down, time.monotonic())
            if self._breakers.answered(turn.camera, time.monotonic()):
                self._dispatch.up(turn.camera)
                self._changed.notify_all()
            return True

    def _check_success(self, outcome: Outcome) -> None:
        good = outcome.status in (Status.OK, Status.MISSING)
        with self._changed:
            wrong = self._success_rate.add(None if good else outcome.reason or str(outcome.status))
        if wrong is not None:
            raise SourceFailing(
                f"the build stops early, to spare the quota: {wrong}. What has come is kept. When the cause "
                "is mended, run the same build again, and once more with --retry failed (or corrupt); or lower "
                "the plan's limits.min_success_rate."
            )

    def _next(self) -> Job | None:
        while True:
            with self._changed:
                while not self._stop.is_set():
                    turn = self._probe() or self._dispatch.take()
                    if turn is not None:
                        return turn
                    if self._dispatch.finished:
                        self._changed.notify_all()
                        return None
                    if self._dispatch.doubt is not None or self._is_unrecoverable():
                        break
                    self._changed.wait(0.5)  # `stop` may be set from outside, by a signal
                else:
                    return None
                failed = self._settle_refused() if self._dispatch.doubt is not None else self._give_up()
                self._changed.notify_all()
            self._record_failed(failed)

    def _probe(self) -> Job | None:
        camera = self._breakers.due(time.monotonic())
        turn = None if camera is None else self._dispatch.probe(camera)
        if turn is not None:
            self._breakers.probing(turn.camera, turn.row)
        return turn

    def _is_unrecoverable(self) -> bool:
        if not self._dispatch.only_down_left:
            return False
        self._breakers.last(time.monotonic())
        return bool(self._breakers.unrecoverable)

    def _settle_refused(self) -> Iterable[tuple[int, str]]:
        """Only refused cameras are left: ask one that is done, to learn whether the key still works.

        Raises AccessRefused if it does not, or if there is no other camera.
        """
        assert self._dispatch.doubt is not None
        held, reason = self._dispatch.doubt
        others = np.flatnonzero(~np.isin(self._schedule.camera, list(held)))
        if len(others) == 0:
            raise AccessRefused(access_advice(reason))
        answer = self._fetcher.fetch(self._schedule.request(int(others[0])))
        if isinstance(answer, Refused):
            raise AccessRefused(access_advice(answer.reason))
        return [(turn.row, why) for turn, why in self._dispatch.settle()]

    def _give_up(self) -> Iterable[tuple[int, str]]:
        """Only cameras that are down are left: are they, or is it the source?

        Raises SourceFailing where no other camera answers, either.
        """
        unrecoverable = self._breakers.unrecoverable
        if not (self._breakers.other_cameras_alive or self._source_answers(set(unrecoverable))):
            names = ", ".join(self._schedule.cameras[camera].name for camera in list(unrecoverable)[:3])
            raise SourceFailing(
                f"no camera gives a frame any more ({next(iter(unrecoverable.values()))}; {names}). What has come "
                "is kept, and nothing else is recorded as failed: run the same build again to go on."
            )
        return [(row, reason) for camera, reason in unrecoverable.items() for row in self._dispatch.give_up(camera)]

    def _source_answers(self, down: set[int]) -> bool:
        """Ask again for frames that are there already: of another camera, and of these."""
        done = np.ones(len(self._schedule), np.bool_)
        done[self._pending] = False
        others = np.flatnonzero(~np.isin(self._schedule.camera, list(down)))
        for rows in (others, np.array(list(self._came.values()), np.int64), np.flatnonzero(done)):
            if len(rows):
                answer = self._fetcher.fetch(self._schedule.request(int(rows[-1])))
                if isinstance(answer, Outcome) and answer.status in (Status.OK, Status.MISSING):
                    return True
        return False

    def _record_failed(self, failed: Iterable[tuple[int, str]]) -> None:
        for row, reason in failed:
            self._record(row, Outcome(Status.FAILED, reason=reason))

    def _record(self, row: int, frame: Outcome) -> None:
        place = self._by_start[bisect.bisect_right(self._starts, row) - 1]
        shard = self._shards[place]
        self._journals.append(shard.stem, row, frame)
        self._on_frame(frame.status)
        with self._changed:
            self._remaining[place] -= 1
            complete = self._remaining[place] == 0
        if complete:
            self._commit_soon(shard)

    def _commit_soon(self, shard: Shard) -> None:
        def commit() -> None:
            if self._error is not None:
                return
            try:
                journal = self._journals.take(shard.stem)
                counts = finalize_shard(
                    self._out, self._schedule, shard, self._data_format, journal, self._own, self._holdings
                )
                self._on_shard(shard, counts)
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
