"""Builds shards with threads on this machine.

Rows are handed out in build order, oldest footage first. Every outcome goes to its shard's journal at
once; a shard whose last row has come is committed while later ones go on, so a slow frame holds up
nothing but its own shard's commit.
"""

from __future__ import annotations

import bisect
import collections
import concurrent.futures
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from rhombus_dataset.engines.dispatch import Dispatch, Turn
from rhombus_dataset.errors import AccessRefused
from rhombus_dataset.fetch import Fetcher, Refused, access_advice
from rhombus_dataset.frame import Frame, Status
from rhombus_dataset.journal import Journals
from rhombus_dataset.quota import Stopped
from rhombus_dataset.schedule import Schedule, Shard
from rhombus_dataset.storage import BUILD_FOLDER
from rhombus_dataset.writer import commit_shard

SYNC_INTERVAL_S: Final = 0.8
"""Together with the sync itself, what was received is on the disk within about a second."""

OnFrame = Callable[[Status], None]
OnShard = Callable[[Shard, "collections.Counter[Status]"], None]


class LocalEngine:
    """Builds ``shards``, the uncommitted ones of ``schedule``, into the dataset folder ``out``.

    ``concurrency`` requests are in flight at most, ``per_camera`` of them for one camera. Setting
    ``stop`` ends the build early: no further frame is asked for, and those in flight are finished.
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
        stop: threading.Event,
        on_frame: OnFrame,
        on_shard: OnShard,
    ) -> None:
        self._out = out
        self._schedule = schedule
        self._data_format = data_format
        self._fetcher = fetcher
        self._concurrency = concurrency
        self._per_camera = per_camera
        self._stop = stop
        self._on_frame = on_frame
        self._on_shard = on_shard
        self._shards = list(shards)
        by_start = sorted(range(len(self._shards)), key=lambda i: self._shards[i].start)
        self._starts = [self._shards[i].start for i in by_start]
        self._by_start = by_start
        self._remaining = [shard.stop - shard.start for shard in self._shards]
        self._journals = Journals(out / BUILD_FOLDER / "journal", schedule.digest)
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
        rows = self._pending_rows()
        self._dispatch = Dispatch(rows, self._schedule.camera[rows], self._per_camera)
        flushed = threading.Event()
        flusher = threading.Thread(target=self._flush, args=(flushed,), name="flush")
        workers = [
            threading.Thread(target=self._work, name=f"fetch-{i}") for i in range(min(self._concurrency, len(rows)))
        ]
        try:
            for thread in (flusher, *workers):
                thread.start()
            for worker in workers:
                worker.join()
        except BaseException as error:
            self._halt(error)
            for worker in workers:
                worker.join()
        finally:
            self._committer.shutdown()
            flushed.set()
            flusher.join()
            self._journals.close()
        if self._error is not None:
            raise self._error

    def _pending_rows(self) -> npt.NDArray[np.int32]:
        """The rows to ask for, in build order. Shards whose journal is complete are committed."""
        parts = [np.empty(0, np.int32)]
        for place, shard in enumerate(self._shards):
            wanted = np.ones(shard.stop - shard.start, np.bool_)
            wanted[np.array(self._journals.recover(shard.stem), np.int64) - shard.start] = False
            parts.append((np.flatnonzero(wanted) + shard.start).astype(np.int32))
            self._remaining[place] = int(wanted.sum())
            if self._remaining[place] == 0:
                self._commit_soon(shard)
        return np.concatenate(parts)

    def _work(self) -> None:
        try:
            while (turn := self._next()) is not None:
                row = turn.row
                outcome = self._fetcher.fetch(self._schedule.request(row), self._schedule.masks(row))
                if isinstance(outcome, Refused):
                    with self._changed:
                        failed = self._dispatch.refused(turn, outcome.reason)
                        self._changed.notify_all()
                else:
                    self._record(row, outcome)
                    with self._changed:
                        failed = self._dispatch.answered(turn)
                        self._changed.notify()
                self._record_refused(failed)
        except Stopped:
            pass
        except BaseException as error:
            self._halt(error)

    def _next(self) -> Turn | None:
        while True:
            with self._changed:
                while not self._stop.is_set():
                    if (turn := self._dispatch.take()) is not None:
                        return turn
                    if self._dispatch.finished:
                        self._changed.notify_all()
                        return None
                    if (doubt := self._dispatch.doubt) is not None:
                        break
                    self._changed.wait(0.5)  # `stop` may be set from outside, by a signal
                else:
                    return None
                self._ask_another_camera(*doubt)
                failed = self._dispatch.settle()
                self._changed.notify_all()
            self._record_refused(failed)

    def _ask_another_camera(self, held: set[int], reason: str) -> None:
        """Only refused cameras are left: ask one that is done, to learn whether the key still works.

        Raises AccessRefused if it does not, or if there is no other camera.
        """
        others = np.flatnonzero(~np.isin(self._schedule.camera, list(held)))
        if len(others) == 0:
            raise AccessRefused(access_advice(reason))
        answer = self._fetcher.fetch(self._schedule.request(int(others[0])))
        if isinstance(answer, Refused):
            raise AccessRefused(access_advice(answer.reason))

    def _record_refused(self, failed: list[tuple[Turn, str]]) -> None:
        for turn, reason in failed:
            self._record(turn.row, Frame(Status.FAILED, reason=reason))

    def _record(self, row: int, frame: Frame) -> None:
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
                counts = commit_shard(self._out, self._schedule, shard, self._data_format, journal)
                journal.remove()
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
