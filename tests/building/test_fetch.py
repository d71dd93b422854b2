"""One frame from request to outcome, over a real socket: both error channels, tries, the quota, the key."""

from __future__ import annotations

import json
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from rhombus_dataset.building import fetch as fetch_module
from rhombus_dataset.building.fetch import Fetcher, Refused
from rhombus_dataset.building.rate_limiter import RateLimiter
from rhombus_dataset.errors import AccessRefused, HostUnreachable, UsageError
from rhombus_dataset.frame import FrameRequest, Outcome, Status
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.sources.rhombus.client import RhombusSource
from tests.scripted_server import Answer, Asked, ScriptedServer, frame_answer, jpeg, scripted_server

KEY = "a-very-secret-key"
REQUEST = FrameRequest("AAAAAAAAAAAAAAAAAAAAAA.v0", 1_700_000_000_000, Geometry(downscale=2))


@contextmanager
def fetching(
    script: Callable[[Asked], Answer], tries: int = 4, timeout_s: float = 5.0
) -> Iterator[tuple[Fetcher, ScriptedServer, list[str]]]:
    retries: list[str] = []
    with scripted_server(script) as server:
        source = RhombusSource(server.url, KEY, timeout_s=timeout_s)
        quota = RateLimiter(1000, 100, threading.Event())
        yield Fetcher(source, quota, tries, lambda _, reason: retries.append(reason)), server, retries
        source.close()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "BACKOFF_BASE_S", 0.01)


def outcome_of(script: Callable[[Asked], Answer], tries: int = 4) -> tuple[Outcome, int]:
    with fetching(script, tries) as (fetcher, server, _):
        outcome = fetcher.fetch(REQUEST)
        assert isinstance(outcome, Outcome)
        assert fetcher.requests == len(server.asked)
        return outcome, len(server.asked)


def test_a_image_is_kept_as_it_came() -> None:
    """Promise 4."""
    image = jpeg(1)
    with fetching(lambda _: frame_answer(image, warningMsg="late")) as (fetcher, server, _):
        frame = fetcher.fetch(REQUEST)
    assert isinstance(frame, Outcome)
    assert (frame.status, frame.image, frame.warning) == (Status.OK, image, "late")
    assert frame.measures is not None
    assert (frame.measures.width_px, frame.measures.height_px) == (320, 180)
    asked = server.asked[0]
    assert asked.path == "/api/video/getExactFrameData"
    assert asked.headers["x-auth-apikey"] == KEY
    assert asked.headers["x-auth-scheme"] == "api-token"
    assert asked.body == {
        "cameraUuid": REQUEST.camera_uuid,
        "timestampMs": REQUEST.timestamp_ms,
        "downscaleFactor": 2,
    }


@pytest.mark.parametrize(
    "bad",
    [
        Answer(500, b'{"errorMsg": "boom"}'),
        Answer(503, b"<html>"),
        Answer(200, b"not json"),
        Answer(200, json.dumps({"status": "CAMERA_NOT_CONNECTED", "frameData": None}).encode()),
        Answer(200, json.dumps({"error": True, "errorMsg": "try again"}).encode()),
        frame_answer(jpeg(1)[:-2000]),
        frame_answer(jpeg(1), mimeType="image/webp"),
        Answer(200, frame_answer(jpeg(1)).body, close_after=500),
        Answer(200, b"", {"Content-Length": "5000"}, close_after=0),
    ],
)  # fmt: skip
def test_what_is_transient_is_tried_again(bad: Answer) -> None:
    good = frame_answer(jpeg(1))
    outcome, requests = outcome_of(lambda asked: bad if asked.attempt < 3 else good)
    assert (outcome.status, outcome.image, requests) == (Status.OK, jpeg(1), 3)


@pytest.mark.parametrize(
    ("answer", "status", "requests"),
    [
        (Answer(500, b""), Status.FAILED, 4),
        (Answer(200, json.dumps({"status": "FRAME_RETRIEVAL_FAILED"}).encode()), Status.FAILED, 4),
        (Answer(200, json.dumps({"error": True}).encode()), Status.FAILED, 3),
        (Answer(200, json.dumps({"frameData": None}).encode()), Status.MISSING, 1),
        (Answer(200, json.dumps({"status": "FUTURE_TIMESTAMP"}).encode()), Status.MISSING, 1),
        (Answer(400, b'{"errorMsg": "bad"}'), Status.FAILED, 1),
        (Answer(404, b""), Status.FAILED, 1),
        (Answer(302, b"", {"Location": "http://127.0.0.1:1/"}), Status.FAILED, 1),
        (frame_answer(jpeg(1)[:-500]), Status.CORRUPT, 3),
        (frame_answer(b"GIF89a"), Status.CORRUPT, 3),
    ],
)
def test_how_often_each_failure_is_tried_and_what_becomes_of_it(
    answer: Answer, status: Status, requests: int
) -> None:
    outcome, asked = outcome_of(lambda _: answer)
    assert (outcome.status, asked) == (status, requests)
    assert outcome.reason
    assert outcome.image is None


def test_promise_7_a_retry_after_holds_and_is_not_a_try() -> None:
    def script(asked: Asked) -> Answer:
        if asked.attempt <= 2:
            return Answer(429, b"slow down", {"Retry-After": "1", "Content-Type": "text/plain"})
        return frame_answer(jpeg(1))

    start_s = time.monotonic()
    outcome, requests = outcome_of(script, tries=1)
    assert (outcome.status, requests) == (Status.OK, 3)
    assert time.monotonic() - start_s > 1.9


def test_401_stops_the_build_with_the_likely_cause() -> None:
    with fetching(lambda _: Answer(401, b'{"authenticationFailed": true}')) as (fetcher, server, _):
        with pytest.raises(AccessRefused, match=r"(?s)wrong or expired.*region.*RHOMBUS_API_KEY"):
            fetcher.fetch(REQUEST)
        assert len(server.asked) == 1


def test_403_is_handed_to_whoever_knows_the_other_cameras() -> None:
    with fetching(lambda _: Answer(403, b'{"msg": "Access Denied"}')) as (fetcher, server, _):
        assert fetcher.fetch(REQUEST) == Refused("HTTP 403: Access Denied")
        assert len(server.asked) == 1


def test_a_stalled_answer_ends_at_the_time_out() -> None:
    def script(asked: Asked) -> Answer:
        return Answer(200, frame_answer(jpeg(1)).body, delay_s=3 if asked.attempt == 1 else 0)

    with fetching(script, timeout_s=1.0) as (fetcher, _, retries):
        outcome = fetcher.fetch(REQUEST)
    assert isinstance(outcome, Outcome)
    assert outcome.status is Status.OK
    # Two clocks run: one for each read of the socket, and one for the whole answer.
    assert retries in (["no answer within the time-out"], ["no whole answer within the time-out"])


def test_an_answer_that_trickles_ends_at_the_time_out_too() -> None:
    def script(asked: Asked) -> Answer:
        slow = asked.attempt == 1
        return Answer(200, frame_answer(jpeg(1)).body, byte_every_s=0.1 if slow else None)

    start_s = time.monotonic()
    with fetching(script, timeout_s=0.6) as (fetcher, _, retries):
        outcome = fetcher.fetch(REQUEST)
        assert time.monotonic() - start_s < 5
    assert isinstance(outcome, Outcome)
    assert outcome.status is Status.OK
    assert retries == ["no whole answer within the time-out"]


def test_promise_10_an_unreachable_host_is_the_builds_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "UNREACHABLE_AT_START_S", 0.2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = taken.getsockname()[1]
        source = RhombusSource(f"http://127.0.0.1:{port}", KEY)
        fetcher = Fetcher(source, RateLimiter(1000, 100, threading.Event()), 3, lambda *_: None)
        with pytest.raises(HostUnreachable, match=r"no answer.*refused.*run the same command again"):
            fetcher.fetch(REQUEST)


def test_promise_9_a_key_that_the_server_echoes_reaches_no_reason() -> None:
    for answer in (
        Answer(400, json.dumps({"errorMsg": f"key {KEY} is odd"}).encode()),
        Answer(200, json.dumps({"status": f"NO {KEY}"}).encode()),
        Answer(500, f"<html>{KEY}</html>".encode()),
    ):
        outcome, _ = outcome_of(lambda _, a=answer: a, tries=1)  # type: ignore[misc]
        assert outcome.reason is not None
        assert KEY not in outcome.reason
        assert "[key]" in outcome.reason


def test_promise_9_the_key_shows_in_no_repr_and_no_error() -> None:
    source = RhombusSource("http://127.0.0.1:1", KEY)
    assert KEY not in repr(source)
    with pytest.raises(UsageError) as raised:
        RhombusSource("http://127.0.0.1:1", KEY + "\r\nx-evil: 1")
    assert KEY not in str(raised.value)
    assert KEY not in str(pickle.loads(pickle.dumps(raised.value)))


def test_a_body_over_the_limit_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rhombus_dataset.sources.rhombus.client.MAX_BODY_BYTES", 1000)
    outcome, _ = outcome_of(lambda _: frame_answer(jpeg(1)), tries=1)
    assert (outcome.status, outcome.reason) == (Status.FAILED, "the answer is longer than 1000 bytes")
