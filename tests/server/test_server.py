"""The local server implements the API: all fields, and errors in the format of the API."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from rhombus_dataset.errors import InvalidFile, UsageError
from rhombus_dataset.imaging.drawn_scene import camera_code, read_stamp
from rhombus_dataset.imaging.jpeg import decode_rgb
from rhombus_dataset.server.run import running_server, serve
from rhombus_dataset.sources.recordings.site import load_site
from tests.conftest import CONFIGS

CAMERA = "DEMO-dock-north-AAAAAA"
T = 1_780_330_000_123
PATH = "/api/video/getExactFrameData"
KEY = {"x-auth-apikey": "local-key", "x-auth-scheme": "api-token"}


def post(url: str, body: Any, headers: dict[str, str] = KEY) -> requests.Response:
    return requests.post(url + PATH, json=body, headers=headers, timeout=30)


def test_a_frame_comes_as_documented(demo_url: str) -> None:
    answer = post(demo_url, {"cameraUuid": f"{CAMERA}.v0", "timestampMs": T})
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {
        "error", "errorMsg", "frameData", "mimeType", "responseMessage", "status", "warningMsg",
    }  # fmt: skip
    assert (body["error"], body["status"], body["mimeType"]) == (False, "AVAILABLE", "image/jpeg")
    rgb = decode_rgb(base64.b64decode(body["frameData"], validate=True))
    assert rgb.shape == (720, 1280, 3)
    stamp = read_stamp(rgb)
    assert stamp is not None
    assert (stamp.camera_code, stamp.timestamp_ms) == (camera_code(CAMERA), T)


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({"downscaleFactor": 2}, (360, 640, 3)),
        ({"downscaleFactor": 7}, (102, 182, 3)),
        ({"permyriadCropX": 2500, "permyriadCropY": 1000, "permyriadCropWidth": 5000,
          "permyriadCropHeight": 6000}, (432, 640, 3)),
        ({"downscaleFactor": 2, "permyriadCropX": 0, "permyriadCropY": 0, "permyriadCropWidth": 1,
          "permyriadCropHeight": 1}, (1, 1, 3)),
        ({"downscaleFactor": None, "permyriadCropX": None, "permyriadCropY": None,
          "permyriadCropWidth": None, "permyriadCropHeight": None}, (720, 1280, 3)),
        ({"jpgQuality": 80, "somethingNew": {"a": [1]}}, (720, 1280, 3)),
    ],
)  # fmt: skip
def test_crops_downscales_nulls_and_unknown_fields(
    demo_url: str, fields: dict[str, Any], shape: tuple[int, int, int]
) -> None:
    body = post(demo_url, {"cameraUuid": CAMERA, "timestampMs": T, **fields}).json()
    assert decode_rgb(base64.b64decode(body["frameData"])).shape == shape


@pytest.mark.parametrize(
    ("camera", "timestamp_ms", "status"),
    [
        (CAMERA, 4_000_000_000_000, "FUTURE_TIMESTAMP"),
        (CAMERA, 1_600_000_000_000, "NO_FOOTAGE_AT_TIMESTAMP"),
        ("DEMO-gate-east-AAAAAAA", 1_780_533_000_000, "NO_FOOTAGE_AT_TIMESTAMP"),
        (CAMERA, -5, "NO_FOOTAGE_AT_TIMESTAMP"),
    ],
)
def test_the_status_of_what_is_not_there(demo_url: str, camera: str, timestamp_ms: int, status: str) -> None:
    answer = post(demo_url, {"cameraUuid": camera, "timestampMs": timestamp_ms})
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["frameData"]) == (status, None)


@pytest.mark.parametrize("headers", [{}, {"x-auth-apikey": "wrong"}, {"x-auth-apikey": ""},
                                     {"x-auth-apikey": "local-key", "x-auth-scheme": "magic"}])  # fmt: skip
def test_a_wrong_key_is_401_as_the_api_says_it(demo_url: str, headers: dict[str, str]) -> None:
    answer = post(demo_url, {"cameraUuid": CAMERA, "timestampMs": T}, headers)
    assert (answer.status_code, answer.json()) == (401, {"authenticationFailed": True})


@pytest.mark.parametrize(
    ("body", "http_status"),
    [
        ({"timestampMs": T}, 400),
        ({"cameraUUID": CAMERA, "timestampMs": T}, 400),
        ({"cameraUuid": None, "timestampMs": T}, 400),
        ({"cameraUuid": CAMERA, "timestampMs": None}, 400),
        ({"cameraUuid": CAMERA, "timestampMs": "now"}, 400),
        ({"cameraUuid": CAMERA, "timestampMs": 2**70}, 400),
        ({"cameraUuid": "nobody-AAAAAAAAAAAAAAA", "timestampMs": T}, 400),
        ({"cameraUuid": "short", "timestampMs": T}, 400),
        ({"cameraUuid": CAMERA, "timestampMs": T, "downscaleFactor": 0}, 400),
        ({"cameraUuid": CAMERA, "timestampMs": T, "permyriadCropX": 5000, "permyriadCropWidth": 5001}, 400),
        ({"cameraUuid": CAMERA, "timestampMs": T, "permyriadCropHeight": 0}, 400),
        ([], 400),
        ("text", 400),
    ],
)
def test_mistakes_get_the_apis_error(demo_url: str, body: Any, http_status: int) -> None:
    answer = post(demo_url, body)
    assert answer.status_code == http_status
    assert answer.json()["error"] is True
    assert answer.json()["errorMsg"]
    assert "detail" not in answer.json()


def test_malformed_json_gets_msg(demo_url: str) -> None:
    headers = {**KEY, "Content-Type": "application/json"}
    answer = requests.post(demo_url + PATH, data=b"{oops", headers=headers, timeout=10)
    assert answer.status_code == 400
    assert set(answer.json()) == {"msg"}


def test_other_paths_methods_and_sizes_get_the_apis_error(demo_url: str) -> None:
    assert requests.post(demo_url + "/api/nothing", json={}, timeout=10).json()["error"] is True
    assert requests.get(demo_url + PATH, timeout=10).status_code == 405
    big = requests.post(demo_url + PATH, data=b"x" * 100_000, headers=KEY, timeout=10)
    assert (big.status_code, big.json()["error"]) == (413, True)
    host = urlsplit(demo_url)
    connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=10)
    connection.request("POST", PATH, iter([b"{}"]), {**KEY, "Transfer-Encoding": "chunked"}, encode_chunked=True)
    assert connection.getresponse().status == 411
    connection.close()


def test_the_openapi_page_describes_it(demo_url: str) -> None:
    document = requests.get(demo_url + "/openapi.json", timeout=10).json()
    operation = document["paths"][PATH]["post"]
    assert {"200", "400", "401", "429"} <= set(operation["responses"])
    assert "422" not in operation["responses"]
    assert requests.get(demo_url + "/docs", timeout=10).status_code == 200


def test_it_binds_beyond_loopback_only_with_keys(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text((CONFIGS / "demo-site.yaml").read_text().replace("api_keys: [local-key]", ""))
    with pytest.raises(UsageError, match="has no api_keys"):
        serve(site, host="0.0.0.0", port=0)


def test_a_port_that_is_taken_is_reported(demo_url: str) -> None:
    with pytest.raises(UsageError, match=r"cannot listen on 127\.0\.0\.1"):
        serve(CONFIGS / "demo-site.yaml", port=urlsplit(demo_url).port or 0)
    for port in (-1, 65536, 70000):
        with pytest.raises(UsageError, match=str(port)):
            serve(CONFIGS / "demo-site.yaml", port=port)


def test_without_keys_in_the_site_no_key_is_needed(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text((CONFIGS / "demo-site.yaml").read_text().replace("api_keys: [local-key]", ""))
    with running_server(load_site(site)) as url:
        assert post(url, {"cameraUuid": CAMERA, "timestampMs": T}, {}).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_prints_where_it_listens_and_ends_without_a_traceback(number: signal.Signals) -> None:
    command = [
        sys.executable,
        "-m",
        "rhombus_dataset",
        "serve",
        str(CONFIGS / "demo-site.yaml"),
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().removeprefix("listening on ").strip()
        assert post(url, {"cameraUuid": CAMERA, "timestampMs": T}).status_code == 200
        os.kill(server.pid, number)
        start_s = time.monotonic()
        _, errors = server.communicate(timeout=20)
    assert "Traceback" not in errors
    assert "local-key" not in errors
    assert time.monotonic() - start_s < 15


def test_a_wrong_site_file_gets_all_its_errors_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        """\
api_key: [x]
locations: [{uuid: short, name: HQ, tz: UTC}, {uuid: LLLLLLLLLLLLLLLLLLLLLL, name: Yard, tz: Mars/Base}]
cameras:
  - {uuid: AAAAAAAAAAAAAAAAAAAAAA, name: a, location: Nowhere}
  - uuid: BBBBBBBBBBBBBBBBBBBBBB
    name: b
    location: Dock
    recordings: [{path: no.mp4, start: 2026-06-01}]
locations2: []
"""
    )
    with pytest.raises(InvalidFile) as raised:
        load_site(path)
    lines = [problem.line for problem in raised.value.problems]
    assert lines == sorted(line for line in lines if line is not None)
    assert {1, 2, 4, 7, 9} <= set(lines)
    assert "did you mean api_keys?" in str(raised.value)


def test_recordings_that_overlap_or_are_not_there_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        json.dumps(
            {
                "locations": [{"uuid": "L" * 22, "name": "HQ", "tz": "UTC"}],
                "cameras": [
                    {
                        "uuid": "A" * 22,
                        "name": "a",
                        "location": "HQ",
                        "recordings": [
                            {"scene": "demo", "start": "2026-06-01", "duration": "2h"},
                            {"scene": "demo", "start": "2026-06-01T01:59", "duration": "2h"},
                            {"path": "no.mp4", "start": "2026-06-02", "repeat": 0},
                            {"path": "no.mp4", "start": "2026-06-02"},
                            {"start": "2026-06-02"},
                        ],
                    }
                ],
            }
        )
    )
    with pytest.raises(InvalidFile) as raised:
        load_site(path)
    text = str(raised.value)
    for part in (
        "recordings[1]",
        "before the end of the recording",
        "recordings[2].repeat",
        "no such file",
        "path (a video file) or scene",
    ):
        assert part in text


def test_faults_can_be_asked_for_on_the_command_line() -> None:
    command = [sys.executable, "-m", "rhombus_dataset", "serve", str(CONFIGS / "demo-site.yaml"), "--port", "0"]
    command += ["--fault", "http_503=1", "--fault-seed", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            body = {"cameraUuid": CAMERA, "timestampMs": T}
            answer = requests.post(url + PATH, json=body, headers={"x-auth-apikey": "local-key"}, timeout=10)
        finally:
            process.terminate()
    assert answer.status_code == 503
