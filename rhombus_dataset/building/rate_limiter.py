"""One token bucket for every thread of a build: the organisation's quota is not ours alone.

The rate that the plan allows is a cap. What the cloud allows besides is found out by its 429s: its bucket is
empty at each of them, so what it let through between two, over the time between them, is its rate. After
one, the rate comes down to nine tenths of that and creeps up again by a cubic: quickly back to what was
known to work, long about there, then ever faster (the shape is that of RFC 9438, section 4.1).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

DECREASE: Final = 0.9
"""What is left of the rate after a 429."""
TRUSTED_DROP: Final = 0.8
"""One 429 is trusted to lower what is known by no more: others may have emptied the bucket while we paused."""
BACK_AFTER_S: Final = 10.0
"""So long after a 429 the rate is what it was."""
MIN_RATE_PER_S: Final = 0.02
"""The rate never comes down further: nothing would be learnt any more."""
LIMITED_BURST_S: Final = 0.1
"""Below the cap, only so many seconds' worth of tokens are saved up: requests go out evenly."""


class Stopped(Exception):
    """The build is stopping: whoever waits goes home."""


class RateLimiter:
    """Lets ``rate_per_s`` requests a second through at most, and up to ``burst`` at once after a rest.

    ``throttled`` holds everybody back and lowers the rate, as a 429 asks for. Thread-safe. ``clock`` is
    monotonic seconds.
    """

    def __init__(
        self,
        rate_per_s: float,
        burst: int,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cap_per_s = rate_per_s
        self._burst = burst
        self._stop = stop
        self._clock = clock
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._tokens = float(burst)
        self._filled_s = clock()
        self._closed_until_s = float("-inf")
        # What is known of the cloud's own limit, from the last 429 that told something new.
        self._known_per_s: float | None = None
        self._learnt_s = float("-inf")
        self._passed_since = 0

    def acquire(self) -> float:
        """Wait for a token. Returns the time at which it was given. Raises Stopped when the build stops."""
        # One waits for the token, the others for their turn: whoever is let through has seen the last 429.
        while not self._turn.acquire(timeout=0.5):
            if self._stop.is_set():
                raise Stopped
        try:
            while True:
                with self._lock:
                    now_s = self._clock()
                    wait_s = self._wait_s(now_s)
                    if wait_s <= 0:
                        if self._stop.is_set():
                            raise Stopped
                        self._tokens -= 1
                        self._passed_since += 1
                        return now_s
                self.sleep(wait_s)
        finally:
            self._turn.release()

    def throttled(self, sent_s: float, retry_after_s: float) -> None:
        """A request whose token was given at ``sent_s`` got a 429: let nobody through for that long.

        Of several that were under way together, only the first lowers the rate.
        """
        with self._lock:
            now_s = self._clock()
            self._passed_since -= 1
            rate_per_s = self._rate_per_s(now_s)
            if now_s + retry_after_s > self._closed_until_s:
                self._closed_until_s = now_s + retry_after_s
                self._tokens, self._filled_s = 1.0, self._closed_until_s
            if sent_s <= self._learnt_s:
                return
            measured_per_s = rate_per_s
            if self._known_per_s is not None and now_s > self._learnt_s:
                measured_per_s = self._passed_since / (now_s - self._learnt_s)
            self._known_per_s = max(min(measured_per_s, rate_per_s), TRUSTED_DROP * rate_per_s)
            self._learnt_s = now_s
            self._passed_since = 0

    def sleep(self, seconds: float) -> None:
        """Wait without a token. Raises Stopped when the build stops meanwhile."""
        if self._stop.wait(seconds):
            raise Stopped

    @property
    def rate_per_s(self) -> float:
        """The rate at which requests are let through now."""
        with self._lock:
            return self._rate_per_s(self._clock())

    def _wait_s(self, now_s: float) -> float:
        if now_s < self._closed_until_s:
            return self._closed_until_s - now_s
        rate_per_s = self._rate_per_s(now_s)
        limit = float(self._burst)
        if rate_per_s < self._cap_per_s:
            limit = min(limit, max(1.0, rate_per_s * LIMITED_BURST_S))
        self._tokens = min(limit, self._tokens + (now_s - self._filled_s) * rate_per_s)
        self._filled_s = now_s
        return 0.0 if self._tokens >= 1 - 1e-9 else (1 - self._tokens) / rate_per_s

    def _rate_per_s(self, now_s: float) -> float:
        if self._known_per_s is None:
            return self._cap_per_s
        since_s = max(0.0, now_s - max(self._learnt_s, self._closed_until_s))
        growth = 1 + (1 - DECREASE) * (since_s / BACK_AFTER_S - 1) ** 3
        return min(self._cap_per_s, max(MIN_RATE_PER_S, self._known_per_s * growth))
