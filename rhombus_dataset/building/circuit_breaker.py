"""Cameras that are down, and sources that fail as a whole: when to leave off asking. No threads, no I/O.

Times are monotonic seconds, handed in.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import Final

DOWN_AFTER_TRIES: Final = 8
"""So many tries of one camera in a row, of two frames at least, must say that it is down. So may all the
tries of one frame, if the camera answered nothing else meanwhile."""
FIRST_PAUSE_S: Final = 10.0
MAX_PAUSE_S: Final = 300.0
LAST_PAUSE_S: Final = 30.0
"""The longest pause between probes once no other camera has frames left."""
LAST_PROBES: Final = 4
"""So many probes may fail then, before a camera's frames are given up."""
RATE_WINDOW: Final = 200
"""A success rate is taken over so many outcomes."""


@dataclass(slots=True)
class _Down:
    since_s: float
    probe_at_s: float
    pause_s: float
    reason: str
    probed_row: int | None = None
    failed_last_probes: int = 0


class CircuitBreakers:
    """Which cameras are down. A camera that is down is probed with one request now and then."""

    def __init__(self) -> None:
        self._streaks: dict[int, tuple[int, set[int]]] = {}
        self._down: dict[int, _Down] = {}
        self._last_answer_s = float("-inf")
        self._is_last = False

    def answered(self, camera: int, now_s: float) -> bool:
        """The camera is there. Returns whether it was thought to be down."""
        self._last_answer_s = now_s
        self._streaks.pop(camera, None)
        return self._down.pop(camera, None) is not None

    def failed(self, camera: int, row: int, used_up: int, reason: str, now_s: float) -> bool:
        """A try for ``row`` says that the camera is down. Returns whether that is now believed.

        ``used_up``: how many tries the row has had, if this was its last; else 0.
        """
        down = self._down.get(camera)
        if down is not None:
            down.reason = reason
            if down.probed_row == row:
                down.probed_row = None
                down.pause_s = min(MAX_PAUSE_S, 2 * down.pause_s)
                down.failed_last_probes += self._is_last
                down.probe_at_s = now_s + min(down.pause_s, LAST_PAUSE_S if self._is_last else MAX_PAUSE_S)
            return True
        tries, rows = self._streaks.get(camera, (0, set()))
        self._streaks[camera] = tries, rows = tries + 1, rows | {row} if len(rows) < 2 else rows
        # Where others came meanwhile, it is this frame that cannot be had, and not its camera.
        if not (tries >= DOWN_AFTER_TRIES and len(rows) > 1) and not 0 < used_up <= tries:
            return False
        del self._streaks[camera]
        self._down[camera] = _Down(now_s, now_s + FIRST_PAUSE_S, FIRST_PAUSE_S, reason)
        return True

    def is_down(self, camera: int) -> bool:
        return camera in self._down

    def due(self, now_s: float) -> int | None:
        """A camera whose next probe is due."""
        waiting = (c for c, down in self._down.items() if down.probed_row is None and down.probe_at_s <= now_s)
        return next(waiting, None)

    def probing(self, camera: int, row: int) -> None:
        """``row`` is asked for as the camera's probe."""
        self._down[camera].probed_row = row

    def last(self, now_s: float) -> None:
        """From now on, only frames of cameras that are down are left."""
        if not self._is_last:
            self._is_last = True
            for down in self._down.values():
                down.probe_at_s = min(down.probe_at_s, now_s + LAST_PAUSE_S)

    @property
    def unrecoverable(self) -> dict[int, str]:
        """The cameras that are down, with the reason, once each has failed its last probes; else empty."""
        if any(down.failed_last_probes < LAST_PROBES for down in self._down.values()):
            return {}
        return {camera: down.reason for camera, down in self._down.items()}

    @property
    def other_cameras_alive(self) -> bool:
        """Whether another camera has answered since the last one that is down was lost."""
        return all(self._last_answer_s > down.since_s for down in self._down.values())


class SuccessRate:
    """The share of frames that are got, or known not to exist, among the last outcomes."""

    def __init__(self, least: float) -> None:
        self._least = least
        self._recent: collections.deque[str | None] = collections.deque(maxlen=RATE_WINDOW)

    def add(self, failure: str | None) -> str | None:
        """Note an outcome: None, or why it failed. Returns what is wrong once the rate has collapsed."""
        self._recent.append(failure)
        if failure is None or len(self._recent) < RATE_WINDOW:
            return None
        reasons = collections.Counter(reason for reason in self._recent if reason is not None)
        got = RATE_WINDOW - reasons.total()
        if got >= self._least * RATE_WINDOW:
            return None
        told = "; ".join(f"{n} x {reason}" for reason, n in reasons.most_common(3))
        return f"only {got} of the last {RATE_WINDOW} frames came ({told})"
