"""Promise 7: one bucket for all, and a Retry-After holds everybody."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhombus_dataset.quota import Quota, Stopped


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Waiting(threading.Event):
    """An event that never comes: waiting for it moves the clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self._clock.now_s += timeout
        return False


@given(
    st.floats(0.5, 500),
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 30) | st.none()), min_size=1, max_size=60),
)
def test_no_span_holds_more_than_rate_and_burst(
    rate: float, burst: int, events: list[tuple[float, float | None]]
) -> None:
    clock = Clock()
    quota = Quota(rate, burst, Waiting(clock), clock)
    times: list[float] = []
    closed_until = 0.0
    for idle, pause in events:
        clock.now_s += idle
        if pause is not None:
            quota.pause(pause)
            closed_until = max(closed_until, clock.now_s + pause)
        quota.acquire()
        assert clock.now_s >= closed_until - 1e-9
        times.append(clock.now_s)
    for i, start in enumerate(times):
        for j in range(i, len(times)):
            assert j - i + 1 <= burst + rate * (times[j] - start) + 1e-6


@given(st.floats(1, 100), st.integers(1, 20))
def test_a_busy_build_uses_all_of_its_rate(rate: float, burst: int) -> None:
    clock = Clock()
    quota = Quota(rate, burst, Waiting(clock), clock)
    start = clock.now_s
    for _ in range(burst + 200):
        quota.acquire()
    assert clock.now_s - start == pytest.approx(200 / rate)


def test_a_pause_holds_those_who_wait_already() -> None:
    stop = threading.Event()
    quota = Quota(20, 1, stop)
    quota.acquire()
    passed: list[float] = []

    def wait_for_token() -> None:
        quota.acquire()
        passed.append(time.monotonic())

    thread = threading.Thread(target=wait_for_token)
    thread.start()
    quota.pause(0.3)
    paused_s = time.monotonic()
    thread.join()
    assert passed[0] - paused_s > 0.25


def test_stopping_wakes_whoever_waits() -> None:
    stop = threading.Event()
    quota = Quota(1, 1, stop)
    quota.pause(3600)
    threading.Timer(0.05, stop.set).start()
    with pytest.raises(Stopped):
        quota.acquire()
