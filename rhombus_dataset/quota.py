"""One token bucket for every thread of a build: the organisation's quota is not ours alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Stopped(Exception):
    """The build is stopping: whoever waits goes home."""


class Quota:
    """Lets ``rate_per_s`` requests a second through, and up to ``burst`` at once after a rest.

    ``pause`` holds everybody back, as a 429 asks for. Thread-safe. ``clock`` is monotonic seconds.
    """

    def __init__(
        self,
        rate_per_s: float,
        burst: int,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval_s = 1.0 / rate_per_s
        self._slack_s = (burst - 1) / rate_per_s
        self._stop = stop
        self._clock = clock
        self._lock = threading.Lock()
        self._next_s = clock() - self._slack_s
        self._closed_until_s = float("-inf")

    def acquire(self) -> None:
        """Wait for a token. Raises Stopped when the build stops meanwhile."""
        with self._lock:
            now_s = self._clock()
            # The bucket as the time at which it would be empty: it fills no further than `burst`.
            due_s = max(self._next_s, now_s - self._slack_s)
            self._next_s = due_s + self._interval_s
        while True:
            ready_s = max(due_s, self._closed_until_s)
            wait_s = ready_s - self._clock()
            if wait_s <= 0:
                if self._stop.is_set():
                    raise Stopped
                return
            self.sleep(wait_s)

    def pause(self, seconds: float) -> None:
        """Let nobody through for ``seconds`` from now, and start with an empty bucket then."""
        with self._lock:
            until_s = self._clock() + seconds
            if until_s > self._closed_until_s:
                self._closed_until_s = until_s
                self._next_s = max(self._next_s, until_s)

    def sleep(self, seconds: float) -> None:
        """Wait without a token. Raises Stopped when the build stops meanwhile."""
        if self._stop.wait(seconds):
            raise Stopped
