"""The server's lists: cameras, locations, times with footage, and resolutions, from the site and its videos."""

from __future__ import annotations

import dataclasses
import http.client
import json
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from rhombus_dataset import wire
from rhombus_dataset.server.run import running_server
from rhombus_dataset.sources.recordings.site import Site, SiteQuota, load_site
from tests.videos import write_video

DOCK, GATE, FUTURE = "A" * 22, "B" * 22, "C" * 22
START_S = 1_780_322_400
SITE = """
api_keys: [local-key]
locations:
  - {uuid: LLLLLLLLLLLLLLLLLLLLLL, name: Oakland, tz: America/Los_Angeles}
  - {uuid: MMMMMMMMMMMMMMMMMMMMMM, name: Berlin, tz: Europe/Berlin}
cameras:
  - uuid: AAAAAAAAAAAAAAAAAAAAAA
    name: dock
    location: Oakland
    recordings:
      - {path: dock.mp4, start: "2026-06-01T14:00:00.500Z"}
      - {path: dock.mp4, start: "2026-06-01T15:00:00Z", repeat: 30}
  - {uuid: BBBBBBBBBBBBBBBBBBBBBB.v2, name: gate, location: MMMMMMMMMMMMMMMMMMMMMM}
  - uuid: CCCCCCCCCCCCCCCCCCCCCC
    name: future
    location: Berlin
    recordings: [{scene: demo, start: 2190-01-01, duration: 1d}]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    # 2.967 s: the last frame is shown for 1/30 s.
    write_video(folder / "dock.mp4", [Fraction(i, 15) for i in range(45)])
    (folder / "site.yaml").write_text(SITE)
    return load_site(folder / "site.yaml")


@pytest.fixture(scope="module")
def url(site: Site) -> Iterator[str]:
    with running_server(site) as url:
        yield url


def post(url: str, path: str, body: Any = None, key: str = "local-key") -> requests.Response:
    return requests.post(url + path, json=body, headers={"x-auth-apikey": key}, timeout=10)


@pytest.mark.parametrize("body", [None, {}, {"includeMummified": None, "unknown": [1]}])
def test_cameras(url: str, body: Any) -> None:
    answer = post(url, wire.CAMERAS_PATH, body)
    assert answer.status_code == 200
    assert answer.json()["error"] is False
    dock, gate, _ = answer.json()["cameraStates"]
    assert dock == {
        "uuid": DOCK,
        "name": "dock",
        "locationUuid": "L" * 22,
        "connectionStatus": "GREEN",
        "healthStatus": "GREEN",
        "healthStatusDetails": "NONE",
        "mummified": False,
        "supportedFacets": ["v0"],
        "serialNumber": f"LOCAL-{DOCK}",
        "firmwareVersion": "recordings",
    }
    assert (gate["uuid"], gate["locationUuid"], gate["supportedFacets"]) == (GATE, "M" * 22, ["v2"])


@pytest.mark.parametrize("body", [None, {"subLocationsIncluded": True}])
def test_locations(url: str, body: Any) -> None:
    found = post(url, wire.LOCATIONS_PATH, body).json()["locations"]
    assert found == [
        {"uuid": "L" * 22, "name": "Oakland", "tz": "America/Los_Angeles", "subLocations": []},
        {"uuid": "M" * 22, "name": "Berlin", "tz": "Europe/Berlin", "subLocations": []},
    ]


@pytest.mark.parametrize(
    ("camera", "start_s", "duration_s", "windows"),
    [
        (DOCK, 0, 2_000_000_000, [(START_S + 1, 2), (START_S + 3600, 89)]),
        (DOCK, START_S + 3610, 20, [(START_S + 3610, 20)]),
        (DOCK, START_S + 3700, 1000, []),
        (DOCK, START_S, -5, []),
        (f"{DOCK}.v0", START_S + 3600, 5, [(START_S + 3600, 5)]),
        (GATE, 0, 2_000_000_000, []),
        (FUTURE, 0, 10_000_000_000, []),
    ],
)
def test_presence_has_the_whole_seconds_with_footage(
    url: str, camera: str, start_s: int, duration_s: int, windows: list[tuple[int, int]]
) -> None:
    body = {"cameraUuid": camera, "startTimeSec": start_s, "durationSec": duration_s}
    found = post(url, wire.PRESENCE_PATH, body).json()["presenceWindows"]
    assert found == {"VideoCloud": [{"startSeconds": start, "durationSeconds": long} for start, long in windows]}


def test_every_second_of_presence_has_frames(url: str) -> None:
    body = {"cameraUuid": DOCK, "startTimeSec": 0, "durationSec": 2_000_000_000}
    for window in post(url, wire.PRESENCE_PATH, body).json()["presenceWindows"]["VideoCloud"]:
        for at_s in (window["startSeconds"], window["startSeconds"] + window["durationSeconds"] - 1):
            frame = post(url, wire.EXACT_FRAME_PATH, {"cameraUuid": DOCK, "timestampMs": at_s * 1000 + 999})
            assert frame.json()["status"] == "AVAILABLE"


@pytest.mark.parametrize(
    ("camera", "size"), [(DOCK, (320, 240)), (FUTURE, (1280, 720)), (GATE, None)], ids=["video", "scene", "none"]
)
def test_the_resolution_is_that_of_the_video(url: str, camera: str, size: tuple[int, int] | None) -> None:
    found = post(url, wire.CONFIG_PATH, {"cameraUuid": camera}).json()["config"]["resolution"]
    assert found == (None if size is None else {"width": size[0], "height": size[1]})


@pytest.mark.parametrize("path", [wire.CAMERAS_PATH, wire.LOCATIONS_PATH, wire.PRESENCE_PATH, wire.CONFIG_PATH])
def test_a_wrong_key_is_401(url: str, path: str) -> None:
    answer = post(url, path, {"cameraUuid": DOCK, "startTimeSec": 0, "durationSec": 1}, key="wrong")
    assert (answer.status_code, answer.json()) == (401, {"authenticationFailed": True})


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (wire.CAMERAS_PATH, [], "the body"),
        (wire.PRESENCE_PATH, {"cameraUuid": DOCK}, "missing parameter: startTimeSec, durationSec"),
        (wire.PRESENCE_PATH, {"cameraUuid": DOCK, "startTimeSec": "0", "durationSec": 1}, "startTimeSec"),
        (wire.PRESENCE_PATH, {"cameraUuid": "D" * 22, "startTimeSec": 0, "durationSec": 1}, "no camera DDDD"),
        (wire.CONFIG_PATH, {"cameraUuid": "short"}, "not a camera UUID"),
        (wire.CONFIG_PATH, {"cameraUuid": f"{DOCK}.a0"}, "audio"),
        (wire.CONFIG_PATH, None, "body"),
    ],
)
def test_mistakes_get_the_apis_error(url: str, path: str, body: Any, said: str) -> None:
    answer = post(url, path, body)
    assert answer.status_code == 400
    assert answer.json()["error"] is True
    assert said in answer.json()["errorMsg"]


def test_a_list_may_be_asked_for_without_any_header_of_a_body(url: str) -> None:
    """As ``curl -X POST`` does."""
    host = urlsplit(url)
    connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=10)
    connection.putrequest("POST", wire.CAMERAS_PATH)
    connection.putheader("x-auth-apikey", "local-key")
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 200
    assert len(json.loads(answer.read())["cameraStates"]) == 3
    connection.close()


def test_the_limits_are_those_of_frames(site: Site) -> None:
    assert post_bytes(site, b"x" * 100_000) == 413
    assert post_bytes(site, b"{oops") == 400
    quota = dataclasses.replace(site, quota=SiteQuota(requests_per_second=0.1, burst=2))
    with running_server(quota) as url:
        answers = [post(url, path) for path in (wire.CAMERAS_PATH, wire.LOCATIONS_PATH, wire.CAMERAS_PATH)]
        assert post(url, wire.CAMERAS_PATH, key="wrong").status_code == 401
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["Retry-After"] == "10"
    assert answers[2].headers["Content-Type"].startswith("text/plain")


def post_bytes(site: Site, body: bytes) -> int:
    headers = {"x-auth-apikey": "local-key", "Content-Type": "application/json"}
    with running_server(site) as url:
        return requests.post(url + wire.CAMERAS_PATH, data=body, headers=headers, timeout=10).status_code


def test_ten_thousand_cameras_are_listed_at_once(site: Site) -> None:
    dock = site.cameras[DOCK]
    many = {f"{i:022d}": dataclasses.replace(dock, uuid=f"{i:022d}.v0", name=f"dock {i}") for i in range(10_000)}
    with running_server(dataclasses.replace(site, cameras=many)) as url:
        began_s = time.monotonic()
        found = post(url, wire.CAMERAS_PATH).json()["cameraStates"]
    assert len({camera["uuid"] for camera in found}) == 10_000
    assert time.monotonic() - began_s < 5
