"""Clients that send half a request: they are closed, and honest clients get their frames meanwhile."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from rhombus_dataset import wire
from rhombus_dataset.server import connections
from rhombus_dataset.server.run import running_server
from rhombus_dataset.sources.recordings.site import load_site
from tests.conftest import CONFIGS

BODY = b'{"cameraUuid": "DEMO-dock-north-AAAAAA.v0", "timestampMs": 1780322400000, "downscaleFactor": 8}'
HEAD = (
    f"POST {wire.EXACT_FRAME_PATH} HTTP/1.1\r\nHost: x\r\nx-auth-apikey: local-key\r\n"
    f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
).encode()
HALVES = [b"", b"POST /", HEAD[:40], HEAD, HEAD + BODY[:20]]


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(connections, "RECEIVE_TIMEOUT_S", 3.0)
    with running_server(load_site(CONFIGS / "demo-site.yaml")) as found:
        yield found


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=20)


def get_frame(url: str) -> int:
    headers = {"x-auth-apikey": "local-key", "Content-Type": "application/json"}
    return requests.post(url + wire.EXACT_FRAME_PATH, data=BODY, headers=headers, timeout=20).status_code


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def is_closed(client: socket.socket) -> bool:
    with contextlib.suppress(ConnectionError):
        return client.recv(1000) == b""
    return True


def test_a_thousand_half_sent_requests_keep_nobody_out(url: str) -> None:
    assert get_frame(url) == 200
    before = open_files()
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(1_100):
            client = stack.enter_context(connect(url))
            client.sendall(HALVES[number % len(HALVES)])
            clients.append(client)
        began = time.monotonic()
        for _ in range(20):
            assert get_frame(url) == 200
        assert time.monotonic() - began < 15
        time.sleep(connections.RECEIVE_TIMEOUT_S + 1)
        assert get_frame(url) == 200
        # The server has closed all of them: what is left open is on this side.
        assert open_files() - before <= len(clients) + 20
        assert all(map(is_closed, clients))
    assert open_files() - before < 20


def test_a_byte_now_and_then_does_not_extend_the_time(url: str) -> None:
    with connect(url) as client:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in HEAD + BODY:
                client.sendall(bytes([byte]))
                time.sleep(0.2)
        assert time.monotonic() - began < 3 * connections.RECEIVE_TIMEOUT_S
        assert is_closed(client)


@pytest.mark.parametrize("pause_s", [0.0, 0.5])
def test_requests_on_one_connection_have_their_own_time(url: str, pause_s: float) -> None:
    """Longer in all than one request may take."""
    with requests.Session() as session:
        headers = {"x-auth-apikey": "local-key", "Content-Type": "application/json"}
        end_s = time.monotonic() + connections.RECEIVE_TIMEOUT_S + 1.5
        while time.monotonic() < end_s:
            answer = session.post(url + wire.EXACT_FRAME_PATH, data=BODY, headers=headers, timeout=20)
            assert answer.status_code == 200
            time.sleep(pause_s)
