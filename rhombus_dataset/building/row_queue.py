"""Which row is asked for next, and whose fault a refusal is. No threads, no clocks, no I/O."""

from __future__ import annotations

import collections
import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Job:
    """One row to ask for, of ``place`` in build order.

    ``number`` counts the turns that were given; ``tries`` those that were made for this row before.
    """

    row: int
    camera: int
    number: int
    place: int
    tries: int = 0


class RowQueue:
    """Gives out ``rows``, which stand in build order, with at most ``per_camera`` of one camera at once.

    ``cameras`` is the camera of each of ``rows``. The earliest row whose camera is below its cap comes
    next: a slow camera doesn't hold the others up.

    A row that was refused (403) is held, and its camera with it, until it is known whether only this
    camera is refused: that is so once another camera answers a request that was sent later.

    A camera that is down is set aside with all of its rows, but for probes, until it is up again or given up.
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
        self._again: dict[int, collections.deque[int]] = collections.defaultdict(collections.deque)
        self._tries: dict[int, int] = {}
        self._turns = 0
        self._unfinished = len(rows)
        self._line: list[tuple[int, int]] = []  # a heap of (place in build order, camera)
        self._in_line: set[int] = set()
        for camera in self._next:
            self._offer(camera)

    @property
    def finished(self) -> bool:
        """Every row has its outcome."""
        return self._unfinished == 0

    @property
    def unfinished(self) -> int:
        """How many rows have no outcome yet."""
        return self._unfinished

    def take(self) -> Job | None:
        """The next row to ask for; None while none may be asked for."""
        while self._line:
            place, camera = heapq.heappop(self._line)
            self._in_line.remove(camera)
            if camera in self._held or camera in self._down:
                continue  # offered again when it is released
            return self._give(camera, place)
        return None

    def has_more(self, camera: int) -> bool:
        """Whether rows of the camera wait to be asked for."""
        return self._first(camera) is not None

    def probe(self, camera: int) -> Job | None:
        """A row of a camera that is down, another one each time where there are several."""
        place = self._first(camera)
        return None if place is None else self._give(camera, place)

    def defer(self, turn: Job, tries: int) -> None:
        """The camera of ``turn`` is down: its rows wait, this one behind the others."""
        self._in_flight[turn.camera] -= 1
        self._down.add(turn.camera)
        self._again[turn.camera].append(turn.place)
        self._tries[turn.place] = tries

    def up(self, camera: int) -> None:
        """The camera is there again."""
        self._down.discard(camera)
        self._offer(camera)

    def give_up(self, camera: int) -> Iterator[int]:
        """The rows of a camera that stays down: they have their outcome now."""
        while (place := self._first(camera)) is not None:
            self._drop_first(camera)
            self._unfinished -= 1
            yield int(self._rows[place])

    @property
    def only_down_left(self) -> bool:
        """Nothing can be asked for but probes, and none is under way."""
        return not (self.finished or self._line or self._held or any(self._in_flight.values()))

    def answered(self, turn: Job) -> list[tuple[Job, str]]:
        """The row of ``turn`` has its outcome. Returns the held rows that this shows to be refused.

        They have their outcome too: failed, for the reason given.
        """
        self._unfinished -= 1
        self._in_flight[turn.camera] -= 1
        self._offer(turn.camera)
        refused: list[tuple[Job, str]] = []
        for camera in [c for c in self._held if c != turn.camera]:
            if any(turn.number > since for _, since, _ in self._held[camera]):
                refused += self._release(camera)
        return refused

    def refused(self, turn: Job, reason: str) -> list[tuple[Job, str]]:
        """The row of ``turn`` was refused. Returns it if it is known to be its camera's own fault."""
        self._in_flight[turn.camera] -= 1
        self._held.setdefault(turn.camera, []).append((turn, self._turns, reason))
        return self._release(turn.camera) if turn.camera in self._refused else []

    @property
    def doubt(self) -> tuple[set[int], str] | None:
        """The cameras that are held, and why, when nothing else is left that could settle it."""
        if not self._held or self._line or any(self._in_flight.values()):
            return None
        return set(self._held), next(iter(self._held.values()))[0][2]

    def settle(self) -> list[tuple[Job, str]]:
        """It is the held cameras' own fault: returns their rows, as :meth:`answered` does."""
        return [item for camera in list(self._held) for item in self._release(camera)]

    def _release(self, camera: int) -> list[tuple[Job, str]]:
        self._refused.add(camera)
        held = self._held.pop(camera)
        self._unfinished -= len(held)
        self._offer(camera)
        return [(turn, reason) for turn, _, reason in held]

    def _give(self, camera: int, place: int) -> Job:
        self._drop_first(camera)
        self._in_flight[camera] += 1
        self._turns += 1
        self._offer(camera)
        return Job(int(self._rows[place]), camera, self._turns, place, self._tries.pop(place, 0))

    def _first(self, camera: int) -> int | None:
        """The place of the camera's next row. Rows that were deferred come after the others."""
        if self._next[camera] < self._stop[camera]:
            return int(self._by_camera[self._next[camera]])
        return self._again[camera][0] if self._again[camera] else None

    def _drop_first(self, camera: int) -> None:
        if self._next[camera] < self._stop[camera]:
            self._next[camera] += 1
        else:
            self._again[camera].popleft()

    def _offer(self, camera: int) -> None:
        """Put the camera in line by its next row, if it has one and may ask for it."""
        place = self._first(camera)
        if (
            place is not None
            and self._in_flight[camera] < self._per_camera
            and camera not in self._held
            and camera not in self._down
            and camera not in self._in_line
        ):
            heapq.heappush(self._line, (place, camera))
            self._in_line.add(camera)
