"""Which row is asked for next, and whose fault a refusal is. No threads, no clocks, no I/O."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Turn:
    """One row to ask for. ``number`` counts the turns that were given."""

    row: int
    camera: int
    number: int


class Dispatch:
    """Gives out ``rows``, which stand in build order, with at most ``per_camera`` of one camera at once.

    ``cameras`` is the camera of each of ``rows``. The earliest row whose camera is below its cap comes
    next: a slow camera doesn't hold the others up.

    A row that was refused (403) is held, and its camera with it, until it is known whether only this
    camera is refused: that is so once another camera answers a request that was sent later.
    """

    def __init__(self, rows: npt.NDArray[np.int32], cameras: npt.NDArray[np.int32], per_camera: int) -> None:
        self._rows = rows
        self._per_camera = per_camera
        self._by_camera = np.argsort(cameras, kind="stable").astype(np.int32)
        present, starts, counts = np.unique(cameras[self._by_camera], return_index=True, return_counts=True)
        self._next: dict[int, int] = dict(zip(present.tolist(), starts.tolist(), strict=True))
        self._stop: dict[int, int] = dict(zip(present.tolist(), (starts + counts).tolist(), strict=True))
        self._in_flight: dict[int, int] = dict.fromkeys(self._next, 0)
        self._held: dict[int, list[tuple[Turn, int, str]]] = {}
        self._refused: set[int] = set()
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

    def take(self) -> Turn | None:
        """The next row to ask for; None while none may be asked for."""
        while self._line:
            place, camera = heapq.heappop(self._line)
            self._in_line.remove(camera)
            if camera in self._held:
                continue  # offered again when it is released
            self._next[camera] += 1
            self._in_flight[camera] += 1
            self._turns += 1
            self._offer(camera)
            return Turn(int(self._rows[place]), camera, self._turns)
        return None

    def answered(self, turn: Turn) -> list[tuple[Turn, str]]:
        """The row of ``turn`` has its outcome. Returns the held rows that this shows to be refused.

        They have their outcome too: failed, for the reason given.
        """
        self._unfinished -= 1
        self._in_flight[turn.camera] -= 1
        self._offer(turn.camera)
        refused: list[tuple[Turn, str]] = []
        for camera in [c for c in self._held if c != turn.camera]:
            if any(turn.number > since for _, since, _ in self._held[camera]):
                refused += self._release(camera)
        return refused

    def refused(self, turn: Turn, reason: str) -> list[tuple[Turn, str]]:
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

    def settle(self) -> list[tuple[Turn, str]]:
        """It is the held cameras' own fault: returns their rows, as :meth:`answered` does."""
        return [item for camera in list(self._held) for item in self._release(camera)]

    def _release(self, camera: int) -> list[tuple[Turn, str]]:
        self._refused.add(camera)
        held = self._held.pop(camera)
        self._unfinished -= len(held)
        self._offer(camera)
        return [(turn, reason) for turn, _, reason in held]

    def _offer(self, camera: int) -> None:
        """Put the camera in line by its next row, if it has one and may ask for it."""
        if (
            self._next[camera] < self._stop[camera]
            and self._in_flight[camera] < self._per_camera
            and camera not in self._held
            and camera not in self._in_line
        ):
            place = int(self._by_camera[self._next[camera]])
            heapq.heappush(self._line, (place, camera))
            self._in_line.add(camera)
