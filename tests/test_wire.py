"""The contract with the API: the request, and the meaning of every kind of response."""

from __future__ import annotations

import base64
import email.utils
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhombus_dataset import wire
from rhombus_dataset.frame import FrameRequest
from rhombus_dataset.geometry import Geometry

UUID = "AAAAAAAAAAAAAAAAAAAAAA"
IMAGE = b"\xff\xd8 not decoded here"


def answer(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def with_image(**fields: Any) -> bytes:
    return answer(frameData=base64.b64encode(IMAGE).decode(), mimeType="image/jpeg", **fields)


def test_a_request_leaves_out_what_is_at_its_default() -> None:
    body = json.loads(wire.request_body(FrameRequest(f"{UUID}.v0", 1_700_000_000_123, Geometry())))
    assert body == {"cameraUuid": f"{UUID}.v0", "timestampMs": 1_700_000_000_123}


def test_a_request_with_a_crop_sends_all_four_fields() -> None:
    geometry = Geometry(downscale=2, crop_x=0, crop_y=1000, crop_width=5000, crop_height=6000)
    body = json.loads(wire.request_body(FrameRequest(f"{UUID}.v0", 5, geometry)))
    assert body == {
        "cameraUuid": f"{UUID}.v0",
        "timestampMs": 5,
        "downscaleFactor": 2,
        "permyriadCropX": 0,
        "permyriadCropY": 1000,
        "permyriadCropWidth": 5000,
        "permyriadCropHeight": 6000,
    }


@pytest.mark.parametrize(
    ("given_uuid", "canonical"),
    [(UUID, f"{UUID}.v0"), (f"{UUID}.v0", f"{UUID}.v0"), (f"{UUID}.v07", f"{UUID}.v7"),
     ("-_" + UUID[2:] + ".v51", "-_" + UUID[2:] + ".v51")],
)  # fmt: skip
def test_a_uuid_without_a_facet_means_the_first_video_stream(given_uuid: str, canonical: str) -> None:
    assert wire.canonical_uuid(given_uuid) == canonical


@pytest.mark.parametrize("bad", ["", "A" * 21, "A" * 23, UUID + ".v52", UUID + ".a0", UUID + ".v", UUID + "\n"])
def test_what_is_no_video_uuid_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"camera UUID|facet"):
        wire.canonical_uuid(bad)


def test_an_answer_with_an_image() -> None:
    assert wire.parse_reply(200, with_image()) == wire.Image(IMAGE, "image/jpeg")
    told = wire.parse_reply(200, with_image(status="AVAILABLE", error=False, warningMsg="clock  drift"))
    assert told == wire.Image(IMAGE, "image/jpeg", "clock drift")


@pytest.mark.parametrize("status", sorted(wire.PERMANENT_STATUSES))
def test_permanent_statuses_mean_that_there_is_no_such_frame(status: str) -> None:
    reply = wire.parse_reply(200, answer(status=status, frameData=None, error=True))
    assert reply == wire.NoFrame(status)


@pytest.mark.parametrize("status", [*sorted(wire.TRANSIENT_STATUSES), "A_STATUS_OF_TOMORROW"])
def test_other_statuses_are_kept_and_retried(status: str) -> None:
    expected = wire.Transient(status, camera_down=status in wire.CAMERA_DOWN_STATUSES)
    assert wire.parse_reply(200, answer(status=status, frameData=None)) == expected


def test_the_rules_for_answers_without_a_status() -> None:
    said = wire.parse_reply(200, answer(error=True, errorMsg="boom"))
    assert said == wire.Transient("boom", max_attempts=3)
    assert isinstance(wire.parse_reply(200, answer(error=False, frameData=None)), wire.NoFrame)
    assert isinstance(wire.parse_reply(400, answer(error=True)), wire.Rejected)
    assert isinstance(wire.parse_reply(404, b""), wire.Rejected)
    assert isinstance(wire.parse_reply(500, answer(errorMsg="x")), wire.Transient)
    denied = wire.parse_reply(403, answer(status=403, msg="Access Denied"))
    assert denied == wire.Denied(403, "HTTP 403: Access Denied")
    assert isinstance(wire.parse_reply(401, answer(authenticationFailed=True)), wire.Denied)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>busy</html>", b"[]", b'{"frameData": "@@@@"}', b'{"frameData": "QUJ"}',
     b'{"frameData": ""}', b'{"frameData": 7}', b'{"status": "AVAILABLE"}', b'{"frameData": "QU\\nJD"}'],
)  # fmt: skip
def test_invalid_answers_are_transient_and_never_an_image(body: bytes) -> None:
    assert isinstance(wire.parse_reply(200, body), wire.Transient)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_promise_9_redirects_are_refused(status: int) -> None:
    assert isinstance(wire.parse_reply(status, b""), wire.Rejected)


def test_retry_after_in_seconds_and_as_a_date() -> None:
    assert wire.parse_reply(429, b"slow down", "7") == wire.Throttled(7.0)
    assert wire.parse_reply(429, b"", None) == wire.Throttled(1.0)
    assert wire.parse_reply(429, b"", "0") == wire.Throttled(1.0)
    assert wire.parse_reply(429, b"", "soon") == wire.Throttled(1.0)
    date = email.utils.formatdate(1_000_030, usegmt=True)
    assert wire.parse_reply(429, b"", date, now_s=1_000_000.0) == wire.Throttled(30.0)


@given(st.integers(100, 599), st.binary(max_size=200), st.none() | st.text(max_size=30))
def test_no_answer_raises(status: int, body: bytes, retry_after: str | None) -> None:
    wire.parse_reply(status, body, retry_after)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(["error", "errorMsg", "frameData", "mimeType", "responseMessage", "status", "warningMsg"]),
        json_values,
    )
)
def test_no_json_object_raises(fields: dict[str, Any]) -> None:
    wire.parse_reply(200, json.dumps(fields).encode())
