"""Cameras that are down, and sources that fail as a whole: when to stop asking. No threads, no I/O.

Times are monotonic seconds, passed in by the caller.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Final

DOWN_AFTER_ATTEMPTS: Final = 8
"""Consecutive failed attempts after which a camera counts as down, if they are for two frames or more.

All attempts of one frame are enough too, if the camera has answered nothing in between. 8 are two frames at the
usual four requests in flight for one camera.
"""
FIRST_PAUSE_S: Final = 10.0
"""Seconds until the first probe of a camera that is down. The pause doubles with each failed probe.

It is shorter in proportion where fewer than DOWN_AFTER_ATTEMPTS attempts failed: with ``tries: 1``, one error is
enough for a camera to count as down, and says little.
"""
MAX_PAUSE_S: Final = 300.0
"""The longest pause between two probes in seconds: a camera that recovers is noticed within five minutes."""
LAST_PAUSE_S: Final = 30.0
"""The longest pause in seconds once no other camera has frames left: nothing else is delayed by asking then."""
LAST_PROBES: Final = 4
"""Failed probes after which the frames of a camera are given up, once no other camera has frames left."""
RATE_WINDOW: Final = 200
"""Number of latest outcomes over which the success rate is taken."""


@dataclass(slots=True)
class _Down:
    since_s: float
    probe_at_s: float
    pause_s: float
    reason: str
    probed_row: int | None = None
    failed_last_probes: int = 0


@dataclass(slots=True)
class _Streak:
    """Attempts that failed one after the other since ``since_s``, and up to two rows of which they were."""

    since_s: float
    attempts: int = 0
    rows: set[int] = field(default_factory=set)


class CircuitBreakers:
    """Which cameras are down. A camera that is down is probed with one request from time to time."""

    def __init__(self) -> None:
        self._streaks: dict[int, _Streak] = {}
        self._down: dict[int, _Down] = {}
        self._last_answer_s = float("-inf")
        self._only_down_left = False

    def answered(self, camera: int, now_s: float, sent_s: float) -> bool:
        """Note that the camera answers a request of ``sent_s``. Return whether it counted as down.

        An answer to a request that was sent before the camera began to fail does not put a failure down to the
        frame."""
        self._last_answer_s = now_s
        if (streak := self._streaks.get(camera)) is not None and streak.since_s < sent_s:
            del self._streaks[camera]
        return self._down.pop(camera, None) is not None

    def failed(self, camera: int, row: int, attempts_used: int, reason: str, now_s: float) -> bool:
        """Note that an attempt for ``row`` failed because the camera is down. Return whether it now counts as down.

        ``attempts_used``: the number of attempts made for the row, if this was its last one; else 0.
        """
        down = self._down.get(camera)
        if down is not None:
            down.reason = reason
            if down.probed_row == row:
                down.probed_row = None
                down.pause_s = min(MAX_PAUSE_S, 2 * down.pause_s)
                down.failed_last_probes += self._only_down_left
                longest_s = LAST_PAUSE_S if self._only_down_left else MAX_PAUSE_S
                down.probe_at_s = now_s + min(down.pause_s, longest_s)
            return True
        streak = self._streaks.setdefault(camera, _Streak(now_s))
        streak.attempts += 1
        if len(streak.rows) < 2:
            streak.rows.add(row)
        # If the camera answered for other frames in between, the problem is this frame and not the camera.
        is_long = streak.attempts >= DOWN_AFTER_ATTEMPTS and len(streak.rows) > 1
        if not is_long and not 0 < attempts_used <= streak.attempts:
            return False
        del self._streaks[camera]
        pause_s = FIRST_PAUSE_S * min(1, streak.attempts / DOWN_AFTER_ATTEMPTS)
        self._down[camera] = _Down(now_s, now_s + pause_s, pause_s, reason)
        return True

    def is_down(self, camera: int) -> bool:
        """Return whether the camera counts as down."""
        return camera in self._down

    def due(self, now_s: float) -> int | None:
        """Return a camera whose next probe is due, or None."""
        waiting = (c for c, down in self._down.items() if down.probed_row is None and down.probe_at_s <= now_s)
        return next(waiting, None)

    def probing(self, camera: int, row: int) -> None:
        """Note that ``row`` is requested as a probe of the camera."""
        self._down[camera].probed_row = row

    def only_down_left(self, now_s: float) -> None:
        """Note that from now on only frames of cameras that are down are left."""
        if not self._only_down_left:
            self._only_down_left = True
            for down in self._down.values():
                down.probe_at_s = min(down.probe_at_s, now_s + LAST_PAUSE_S)

    @property
    def unrecoverable(self) -> dict[int, str]:
        """The cameras that are down with the reason, once each of them has failed its last probes; else empty."""
        if any(down.failed_last_probes < LAST_PROBES for down in self._down.values()):
            return {}
        return {camera: down.reason for camera, down in self._down.items()}

    @property
    def other_cameras_alive(self) -> bool:
        """Whether another camera has answered since the latest of the cameras that are down failed."""
        return all(self._last_answer_s > down.since_s for down in self._down.values())


class SuccessRate:
    """The share of `ok` and `missing` frames among the latest outcomes. ``least`` is the share below which it
    fails.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._recent: collections.deque[str | None] = collections.deque(maxlen=RATE_WINDOW)

    def add(self, failure: str | None) -> str | None:
        """Note an outcome: None, or why it failed. Return the problem once the rate is too low, else None."""
        self._recent.append(failure)
        if failure is None or len(self._recent) < RATE_WINDOW:
            return None
        reasons = collections.Counter(reason for reason in self._recent if reason is not None)
        successes = RATE_WINDOW - reasons.total()
        if successes >= self._least * RATE_WINDOW:
            return None
        listed = "; ".join(f"{n} x {reason}" for reason, n in reasons.most_common(3))
        return f"only {successes} of the last {RATE_WINDOW} frames were received ({listed})"
