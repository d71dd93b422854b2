"""Which row is requested next, and whether a refusal is of the camera or of the key. No threads, clocks or I/O."""

from __future__ import annotations

import collections
import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Job:
    """One row to request.

    ``place`` is its place in build order, ``number`` counts the jobs that were handed out, and ``attempts`` are
    those made for this row before.
    """

    row: int
    camera: int
    number: int
    place: int
    attempts: int = 0


class RowQueue:
    """Hands out ``rows``, which are in build order, with at most ``per_camera`` of one camera at a time.

    ``cameras`` is the camera of each row. The next row is the earliest one whose camera is below its limit, so a
    slow camera does not delay the others.

    A row that was refused (403) is held, and its camera with it, until it is known whether only this camera is
    refused. That is known once another camera answers a request that was sent later.

    A camera that is down is set aside with all its rows, except for probes, until it recovers or is given up.
    """

    def __init__(self, rows: npt.NDArray[np.int32], cameras: npt.NDArray[np.int32], per_camera: int) -> None:
        self._rows = rows
        self._per_camera = per_camera
        self._by_camera = np.argsort(cameras, kind="stable").astype(np.int32)
        present, starts, counts = np.unique(cameras[self._by_camera], return_index=True, return_counts=True)
        self._next: dict[int, int] = dict(zip(present.tolist(), starts.tolist(), strict=True))
        self._stop: dict[int, int] = dict(zip(present.tolist(), (starts + counts).tolist(), strict=True))
        self._in_flight: dict[int, int] = dict.fromkeys(self._next, 0)
        self._held: dict[int, list[tuple[Job, int, str]]] = {}
        self._refused: set[int] = set()
        self._down: set[int] = set()
        self._deferred: dict[int, collections.deque[int]] = collections.defaultdict(collections.deque)
        self._attempts: dict[int, int] = {}
        self._jobs = 0
        self._unfinished = len(rows)
        self._ready: list[tuple[int, int]] = []  # a heap of (place in build order, camera)
        self._in_ready: set[int] = set()
        for camera in self._next:
            self._offer(camera)

    @property
    def finished(self) -> bool:
        """Whether every row has its outcome."""
        return self._unfinished == 0

    def take(self) -> Job | None:
        """Return the next row to request, or None while none may be requested."""
        while self._ready:
            place, camera = heapq.heappop(self._ready)
            self._in_ready.remove(camera)
            if camera in self._held or camera in self._down:
                continue  # offered again when it is released
            if place != self._first(camera):
                self._offer(camera)  # a probe took that row while the camera was down
                continue
            return self._hand_out(camera, place)
        return None

    def has_more(self, camera: int) -> bool:
        """Return whether rows of the camera wait to be requested."""
        return self._first(camera) is not None

    def probe(self, camera: int) -> Job | None:
        """Return a row of a camera that is down: a different one each time, where there are several."""
        place = self._first(camera)
        return None if place is None else self._hand_out(camera, place)

    def defer(self, job: Job, attempts: int) -> None:
        """Note that the camera of ``job`` is down: its rows wait, this one behind the others."""
        self._in_flight[job.camera] -= 1
        self._down.add(job.camera)
        self._deferred[job.camera].append(job.place)
        self._attempts[job.place] = attempts

    def recovered(self, camera: int) -> None:
        """Note that the camera answers again."""
        self._down.discard(camera)
        self._offer(camera)

    def give_up(self, camera: int) -> Iterator[int]:
        """Yield the waiting rows of a camera that stays down. They count as finished."""
        while (place := self._first(camera)) is not None:
            self._drop_first(camera)
            self._unfinished -= 1
            yield int(self._rows[place])

    @property
    def only_down_left(self) -> bool:
        """Whether nothing but probes can be requested, and no request is in flight."""
        return not (self.finished or self._ready or self._held or any(self._in_flight.values()))

    def answered(self, job: Job) -> list[tuple[Job, str]]:
        """Note the outcome of a row. Return the held rows, with the reason, that this shows to be refused.

        They count as finished.
        """
        self._unfinished -= 1
        self._in_flight[job.camera] -= 1
        self._offer(job.camera)
        refused: list[tuple[Job, str]] = []
        for camera in [c for c in self._held if c != job.camera]:
            if any(job.number > since for _, since, _ in self._held[camera]):
                refused += self._release(camera)
        return refused

    def refused(self, job: Job, reason: str) -> list[tuple[Job, str]]:
        """Note a refusal. Return the row, with the reason, if only its camera is known to be refused."""
        self._in_flight[job.camera] -= 1
        self._held.setdefault(job.camera, []).append((job, self._jobs, reason))
        return self._release(job.camera) if job.camera in self._refused else []

    @property
    def unresolved_refusals(self) -> tuple[set[int], str] | None:
        """The held cameras and a reason, when no other row is left that could show what the refusals apply to."""
        if not self._held or self._ready or any(self._in_flight.values()):
            return None
        return set(self._held), next(iter(self._held.values()))[0][2]

    def release_refused(self) -> list[tuple[Job, str]]:
        """Note that only the held cameras are refused. Return their held rows, as :meth:`answered` does."""
        return [item for camera in list(self._held) for item in self._release(camera)]

    def _release(self, camera: int) -> list[tuple[Job, str]]:
        self._refused.add(camera)
        held = self._held.pop(camera)
        self._unfinished -= len(held)
        self._offer(camera)
        return [(job, reason) for job, _, reason in held]

    def _hand_out(self, camera: int, place: int) -> Job:
        self._drop_first(camera)
        self._in_flight[camera] += 1
        self._jobs += 1
        self._offer(camera)
        return Job(int(self._rows[place]), camera, self._jobs, place, self._attempts.pop(place, 0))

    def _first(self, camera: int) -> int | None:
        """Return the place of the camera's next row. Deferred rows come after the others."""
        if self._next[camera] < self._stop[camera]:
            return int(self._by_camera[self._next[camera]])
        return self._deferred[camera][0] if self._deferred[camera] else None

    def _drop_first(self, camera: int) -> None:
        if self._next[camera] < self._stop[camera]:
            self._next[camera] += 1
        else:
            self._deferred[camera].popleft()

    def _offer(self, camera: int) -> None:
        """Make the camera's next row ready, if it has one and may have another request in flight."""
        place = self._first(camera)
        if (
            place is not None
            and self._in_flight[camera] < self._per_camera
            and camera not in self._held
            and camera not in self._down
            and camera not in self._in_ready
        ):
            heapq.heappush(self._ready, (place, camera))
            self._in_ready.add(camera)
