"""One token bucket for all threads of a build: other systems of the organisation use the same quota.

The rate in the plan is an upper limit. The limit of the cloud is measured by its 429 answers: its bucket is empty
at each of them, so the number of requests it let through between two, divided by the time between them, is its
rate. After a 429 the rate falls to nine tenths of that. Then it rises by a cubic function: fast to the rate that
worked before, slowly around it, then faster and faster (the shape of RFC 9438, section 4.1).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from rhombus_dataset.errors import QuotaExhausted

DECREASE: Final = 0.9
"""The factor by which a 429 lowers the rate."""
TRUSTED_DROP: Final = 0.8
"""The lowest factor by which one 429 changes the measured rate: other systems may have emptied the bucket."""
BACK_AFTER_S: Final = 10.0
"""Seconds after a 429 until the rate is again what it was before."""
MIN_RATE_PER_S: Final = 0.02
"""Requests a second below which the rate never falls: slower probes would measure nothing."""
LIMITED_BURST_S: Final = 0.1
"""Below the upper limit, the bucket holds tokens for this many seconds: requests are then sent evenly."""


class Stopped(Exception):
    """The build is stopping: raised in threads that wait for the quota."""


class RateLimiter:
    """Allows at most ``rate_per_s`` requests a second, and up to ``burst`` at once after a pause.

    ``throttled`` delays all threads and lowers the rate, as a 429 demands. It raises QuotaExhausted where the
    threads would wait longer than ``max_wait_s`` without any other answer. Thread-safe. ``clock`` returns monotonic
    seconds.
    """

    def __init__(
        self,
        rate_per_s: float,
        burst: int,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
        max_wait_s: float = float("inf"),
    ) -> None:
        self._cap_per_s = rate_per_s
        self._burst = burst
        self._stop = stop
        self._max_wait_s = max_wait_s
        self._throttled_since_s: float | None = None
        self._clock = clock
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._tokens = float(burst)
        self._filled_s = clock()
        self._closed_until_s = float("-inf")
        # The limit of the cloud as measured at the last 429 that gave new information.
        self._known_per_s: float | None = None
        self._learnt_s = float("-inf")
        self._passed_since = 0

    def acquire(self) -> float:
        """Wait for a token. Return the time at which it was granted. Raises Stopped when the build stops."""
        # One thread waits for the token, the others for this lock: each sees the latest 429 before it sends.
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

    def answered(self) -> None:
        """Note an answer that is not a 429."""
        self._throttled_since_s = None

    def throttled(self, sent_s: float, retry_after_s: float) -> bool:
        """Note that a request whose token was granted at ``sent_s`` got a 429: no token for ``retry_after_s``.

        Return whether this makes the threads wait longer than before. Of several requests in flight at the same
        time, only the first lowers the rate. Raises QuotaExhausted.
        """
        with self._lock:
            now_s = self._clock()
            if self._throttled_since_s is None:
                self._throttled_since_s = now_s
            wait_s = now_s + retry_after_s - self._throttled_since_s
            if wait_s > self._max_wait_s:
                raise QuotaExhausted(
                    f"the API's rate limit leaves nothing for this build: it answers 429 and asks to wait "
                    f"{retry_after_s:,.0f} s more, {wait_s:,.0f} s in all, and limits.max_wait of the plan is "
                    f"{self._max_wait_s:,.0f} s. What was received is kept: run the same build again later, or "
                    "lower limits.requests_per_second, or raise limits.max_wait."
                )
            self._passed_since -= 1
            rate_per_s = self._rate_per_s(now_s)
            waits_longer = now_s + retry_after_s > self._closed_until_s
            if waits_longer:
                self._closed_until_s = now_s + retry_after_s
                self._tokens, self._filled_s = 1.0, self._closed_until_s
            if sent_s <= self._learnt_s:
                return waits_longer
            measured_per_s = rate_per_s
            if self._known_per_s is not None and now_s > self._learnt_s:
                measured_per_s = self._passed_since / (now_s - self._learnt_s)
            self._known_per_s = max(min(measured_per_s, rate_per_s), TRUSTED_DROP * rate_per_s)
            self._learnt_s = now_s
            self._passed_since = 0
            return waits_longer

    def sleep(self, seconds: float) -> None:
        """Wait without a token. Raises Stopped when the build stops meanwhile."""
        if self._stop.wait(seconds):
            raise Stopped

    @property
    def rate_per_s(self) -> float:
        """The current rate in requests a second."""
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
