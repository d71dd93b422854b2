"""Promise 7: one bucket for all, and a Retry-After holds everybody."""

from __future__ import annotations

import random
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rhombus_dataset.building.rate_limiter import RateLimiter, Stopped


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
    quota = RateLimiter(rate, burst, Waiting(clock), clock)
    times: list[float] = []
    closed_until = 0.0
    for idle, pause in events:
        clock.now_s += idle
        if pause is not None:
            quota.throttled(clock.now_s, pause)
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
    quota = RateLimiter(rate, burst, Waiting(clock), clock)
    start = clock.now_s
    for _ in range(burst + 200):
        quota.acquire()
    assert clock.now_s - start == pytest.approx(200 / rate)


def test_a_pause_holds_those_who_wait_already() -> None:
    stop = threading.Event()
    quota = RateLimiter(20, 1, stop)
    quota.acquire()
    passed: list[float] = []

    def wait_for_token() -> None:
        quota.acquire()
        passed.append(time.monotonic())

    thread = threading.Thread(target=wait_for_token)
    thread.start()
    quota.throttled(time.monotonic(), 0.3)
    paused_s = time.monotonic()
    thread.join()
    assert passed[0] - paused_s > 0.25


def test_stopping_wakes_whoever_waits() -> None:
    stop = threading.Event()
    quota = RateLimiter(1, 1, stop)
    quota.throttled(time.monotonic(), 3600)
    threading.Timer(0.05, stop.set).start()
    with pytest.raises(Stopped):
        quota.acquire()


class Bucket:
    """The cloud's own limit: refuses what comes too fast, and costs nothing for that."""

    def __init__(self, clock: Clock, rate: float, burst: float) -> None:
        self.clock, self.rate, self.burst = clock, rate, burst
        self.tokens, self.at_s = burst, clock.now_s
        self.passed = self.refused = 0

    def take(self) -> bool:
        self.tokens = min(self.burst, self.tokens + (self.clock.now_s - self.at_s) * self.rate)
        self.at_s = self.clock.now_s
        if self.tokens < 1:
            self.refused += 1
            return False
        self.tokens -= 1
        self.passed += 1
        return True


@pytest.mark.slow
@given(st.floats(2, 100), st.floats(1.2, 20), st.floats(3, 12))
def test_what_the_cloud_allows_is_found_and_nearly_all_of_it_used(rate: float, over: float, saved_s: float) -> None:
    """At least 97 % of what is allowed over ten minutes; the cloud is said to save up ten seconds."""
    clock = Clock()
    quota = RateLimiter(rate * over, 20, Waiting(clock), clock)
    cloud = Bucket(clock, rate, max(1.0, rate * saved_s))
    allowed = cloud.burst + rate * 600
    while clock.now_s < 700:
        sent_s = quota.acquire()
        clock.now_s += 0.001
        if not cloud.take():
            quota.throttled(sent_s, 1.0)
    assert cloud.passed >= 0.97 * allowed
    assert cloud.refused <= max(0.01 * (cloud.passed + cloud.refused), 60)


def test_of_several_refused_together_one_lowers_the_rate() -> None:
    clock = Clock()
    quota = RateLimiter(100, 20, Waiting(clock), clock)
    sent = [quota.acquire() for _ in range(10)]
    clock.now_s += 0.1
    for sent_s in sent:
        quota.throttled(sent_s, 1.0)
    clock.now_s += 1.0
    assert quota.rate_per_s == pytest.approx(90)
    clock.now_s += 10.0
    assert quota.rate_per_s == pytest.approx(100)


def test_a_limit_that_is_lifted_is_noticed() -> None:
    clock = Clock()
    quota = RateLimiter(100, 20, Waiting(clock), clock)
    for _ in range(8):
        quota.throttled(quota.acquire(), 5.0)
        clock.now_s += 5
    assert quota.rate_per_s < 20
    clock.now_s += 900
    assert quota.rate_per_s == 100


@settings(max_examples=30)
@given(st.floats(5, 60), st.floats(1, 10), st.floats(3, 12), st.floats(0, 20))
def test_two_builds_share_what_the_cloud_allows(rate: float, over: float, saved_s: float, later_s: float) -> None:
    """Neither starves, each is refused once in six seconds at most, and what one leaves the other takes over."""
    cloud = Bucket(Clock(), rate, max(1.0, rate * saved_s))
    builds = []
    for start_s in (0.0, later_s):
        clock = Clock()
        clock.now_s += start_s
        builds.append((RateLimiter(rate * over, 10, Waiting(clock), clock), clock))
    allowed = cloud.burst + rate * 300
    passed = [0, 0]
    # Requests take a while, each another, so that none comes always just before the other's.
    rng = random.Random(7)
    coming = [(quota.acquire(), i) for i, (quota, _) in enumerate(builds)]
    while min(coming)[0] < 400:
        coming.sort()
        sent_s, i = coming.pop(0)
        quota, clock = builds[i]
        cloud.clock.now_s = max(cloud.clock.now_s, sent_s + rng.uniform(0.0, 1 / rate))
        if cloud.take():
            passed[i] += 1
        else:
            clock.now_s = max(clock.now_s, cloud.clock.now_s)
            quota.throttled(sent_s, 1.0)
        coming.append((quota.acquire(), i))
    assert sum(passed) >= 0.9 * allowed
    assert cloud.refused <= max(0.02 * sum(passed), 2 * 300 / 6)
    assert min(passed) >= 0.2 * sum(passed)
    _, left = min(coming)
    quota, clock = builds[left]
    clock.now_s += 60
    assert quota.rate_per_s >= 0.9 * min(rate, rate * over)
