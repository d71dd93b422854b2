"""Cameras that are down, sources that fail, frames that take too long: builds under faults, on real sockets."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

import rhombus_dataset
from rhombus_dataset.api import verify
from rhombus_dataset.building import circuit_breaker
from rhombus_dataset.building import fetch as fetch_module
from rhombus_dataset.building.engines import local as local_engine
from rhombus_dataset.errors import SourceFailing
from rhombus_dataset.frame import Status
from rhombus_dataset.store.manifest import read_manifest
from tests.building.test_build import files, same_for_each_frame, write_plan
from tests.scripted_server import Answer, Asked, frame_answer, jpeg, scripted_server

DOWN = Answer(body=json.dumps({"status": "CAMERA_NOT_CONNECTED", "frameData": None}).encode())
LIMITS = {"requests_per_second": 5000, "burst": 500, "concurrency": 8, "tries": 3}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "BACKOFF_BASE_S", 0.01)
    monkeypatch.setattr(circuit_breaker, "FIRST_PAUSE_S", 0.2)
    monkeypatch.setattr(circuit_breaker, "MAX_PAUSE_S", 0.4)
    monkeypatch.setattr(circuit_breaker, "LAST_PAUSE_S", 0.3)


def plan_of(folder: Path, url: str, cameras: str = "ABCD", frames: int = 100) -> Path:
    return write_plan(
        folder,
        url,
        cameras=[{"uuid": c * 22, "name": f"camera-{c}", "timezone": "UTC"} for c in cameras],
        sampling={"strategy": "random", "frames_per_camera": frames},
        source={"type": "rhombus", "url": url, "limits": LIMITS},
    )


def test_a_camera_that_is_offline_for_half_a_build_is_complete_in_the_end(tmp_path: Path) -> None:
    others: list[float] = []
    offline: list[float] = []

    def script(asked: Asked) -> Answer:
        if asked.body["cameraUuid"][0] != "A":
            others.append(time.monotonic())
            time.sleep(0.02)
        elif len(others) < 200:
            offline.append(time.monotonic())
            return DOWN
        return same_for_each_frame(asked)

    with scripted_server(script) as server:
        began_s = time.monotonic()
        plan = plan_of(tmp_path, server.url)
        outcome = rhombus_dataset.build(plan, tmp_path / "out")
        # None of the others was asked for twice, or waited for its frames to come.
        assert len(server.asked) == 400 + len(offline)
        server.script = same_for_each_frame
        rhombus_dataset.build(plan, tmp_path / "steady")
    assert outcome.counts == {Status.OK: 400}
    # Eight tries until it is believed, those under way meanwhile, and a probe now and then.
    assert len(offline) <= circuit_breaker.DOWN_AFTER_ATTEMPTS + 4 + (others[199] - began_s) / 0.2
    assert files(tmp_path / "out") == files(tmp_path / "steady")


def test_a_camera_that_stays_offline_is_given_up_and_the_rest_is_complete(tmp_path: Path) -> None:
    def script(asked: Asked) -> Answer:
        return DOWN if asked.body["cameraUuid"][0] == "A" else same_for_each_frame(asked)

    with scripted_server(script) as server:
        outcome = rhombus_dataset.build(plan_of(tmp_path, server.url), tmp_path / "out")
        tries = sum(asked.body["cameraUuid"][0] == "A" for asked in server.asked)
    assert outcome.complete
    assert outcome.counts == {Status.OK: 300, Status.FAILED: 100}
    assert tries <= circuit_breaker.DOWN_AFTER_ATTEMPTS + 4 + 10
    failed = [row for row in read_manifest(tmp_path / "out").to_pylist() if row["status"] == "failed"]
    assert {row["reason"] for row in failed} == {"CAMERA_NOT_CONNECTED"}
    assert verify(tmp_path / "out").problems == ()


def test_a_source_that_is_down_as_a_whole_fails_the_build_and_not_the_frames(tmp_path: Path) -> None:
    healthy = threading.Event()

    def script(asked: Asked) -> Answer:
        if healthy.is_set() or asked.number < 50:
            return same_for_each_frame(asked)
        return Answer(503, b"maintenance")

    with scripted_server(script) as server:
        plan = plan_of(tmp_path, server.url)
        with pytest.raises(SourceFailing, match="503: maintenance"):
            rhombus_dataset.build(plan, tmp_path / "out")
        assert len(server.asked) < 50 + 4 * (circuit_breaker.DOWN_AFTER_ATTEMPTS + 4 + 10)
        healthy.set()
        outcome = rhombus_dataset.build(plan, tmp_path / "out")
    assert outcome.counts == {Status.OK: 400}


def test_a_success_rate_that_collapses_stops_the_build_with_the_reason(tmp_path: Path) -> None:
    def script(asked: Asked) -> Answer:
        if asked.number < 100:
            return same_for_each_frame(asked)
        return Answer(400, b'{"errorMsg": "no such thing"}')

    with scripted_server(script) as server:
        plan = plan_of(tmp_path, server.url, frames=300)
        with pytest.raises(SourceFailing, match=r"of the last 200 frames were received .*no such thing"):
            rhombus_dataset.build(plan, tmp_path / "out")
        assert 270 < len(server.asked) < 330
        text = plan.read_text().replace('"tries": 3', '"tries": 3, "min_success_rate": 0')
        plan.write_text(text)
        assert rhombus_dataset.build(plan, tmp_path / "out").complete


def test_one_frame_that_cannot_be_had_says_nothing_of_its_camera(tmp_path: Path) -> None:
    def script(asked: Asked) -> Answer:
        return DOWN if asked.body["timestampMs"] % 7 == 0 else same_for_each_frame(asked)

    with scripted_server(script) as server:
        outcome = rhombus_dataset.build(plan_of(tmp_path, server.url, "AB"), tmp_path / "out")
        bad = {a.body["timestampMs"] for a in server.asked if a.body["timestampMs"] % 7 == 0}
        assert all(a.attempt <= 3 + circuit_breaker.LAST_PROBES + 6 for a in server.asked)
    assert outcome.complete
    assert outcome.counts[Status.FAILED] <= len(bad) * 2
    assert outcome.counts[Status.OK] + outcome.counts[Status.FAILED] == 200


def test_a_frame_has_a_deadline_as_a_whole(tmp_path: Path) -> None:
    def script(asked: Asked) -> Answer:
        time.sleep(0.3)
        return frame_answer(jpeg()[:-300])

    with scripted_server(script) as server:
        plan = plan_of(tmp_path, server.url, "A", frames=4)
        plan.write_text(plan.read_text().replace('"tries": 3', '"tries": 20, "deadline": "1s"'))
        outcome = rhombus_dataset.build(plan, tmp_path / "out")
        assert all(asked.attempt <= 4 for asked in server.asked)
    assert outcome.counts == {Status.CORRUPT: 4}


def test_stopping_does_not_wait_for_a_server_that_stalls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_engine, "STOP_WITHIN_S", 0.5)
    stop = threading.Event()

    def script(asked: Asked) -> Answer:
        if asked.number >= 20:
            stop.set()
            time.sleep(8)
        return same_for_each_frame(asked)

    with scripted_server(script) as server:
        plan = plan_of(tmp_path, server.url)
        began_s = time.monotonic()
        outcome = rhombus_dataset.build(plan, tmp_path / "out", stop=stop)
        assert time.monotonic() - began_s < 6
        assert not outcome.complete
        server.script = same_for_each_frame
        assert rhombus_dataset.build(plan, tmp_path / "out").complete
        assert len(server.asked) <= 400 + 8
