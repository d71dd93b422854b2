"""Promises 8 and 11: hostile clients hold little of the server, and other clients get their frames meanwhile."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

import rhombus_dataset
from rhombus_dataset import wire
from rhombus_dataset.frame import FrameRequest, Status
from rhombus_dataset.server import app, connections
from rhombus_dataset.server.run import running_server
from rhombus_dataset.sources.recordings.site import load_site
from rhombus_dataset.sources.recordings.source import RecordingsSource
from tests.conftest import CONFIGS, ROOT

CAMERA = "DEMO-dock-north-AAAAAA"
BODY = json.dumps({"cameraUuid": CAMERA, "timestampMs": 1_780_322_400_000}).encode()
TIMEOUT_S = 3.0
"""The time limits of the server in these tests, for receiving and for sending."""


def head(body_bytes: int = len(BODY), more: str = "") -> bytes:
    return (
        f"POST {wire.EXACT_FRAME_PATH} HTTP/1.1\r\nHost: x\r\nx-auth-apikey: local-key\r\n{more}"
        f"Content-Type: application/json\r\nContent-Length: {body_bytes}\r\n\r\n"
    ).encode()


@dataclass(frozen=True)
class Server:
    """A server in its own process."""

    url: str
    pid: int

    def connect(self, receive_buffer_bytes: int | None = None) -> socket.socket:
        client = socket.socket()
        if receive_buffer_bytes is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        client.settimeout(20)
        client.connect((urlsplit(self.url).hostname, urlsplit(self.url).port))
        return client

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def memory_mb(self) -> float:
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found is not None
        return int(found[1]) / 1000

    def get_frame(self) -> int:
        headers = {"x-auth-apikey": "local-key", "Content-Type": "application/json"}
        return requests.post(self.url + wire.EXACT_FRAME_PATH, data=BODY, headers=headers, timeout=20).status_code

    def exchange(self, request: bytes) -> bytes:
        """Return all that the server sends for ``request`` until it closes the connection."""
        with self.connect() as client:
            return sent(client, request)


def sent(client: socket.socket, request: bytes) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        client.sendall(request)
        while data := client.recv(65536):
            received += data
    return received


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    program = f"""
from pathlib import Path
from rhombus_dataset.server import connections, run
connections.RECEIVE_TIMEOUT_S = connections.SEND_TIMEOUT_S = {TIMEOUT_S}
run.serve(Path({str(CONFIGS / "demo-site.yaml")!r}), port=0)
"""
    errors = tmp_path_factory.mktemp("server") / "stderr"
    with errors.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=file, text=True
        )
    try:
        assert process.stdout is not None
        found = Server(process.stdout.readline().split()[-1], process.pid)
        assert found.get_frame() == 200
        yield found
        assert found.get_frame() == 200
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert errors.read_text() == "", "a client can fill the log"


def half_head(client: socket.socket) -> None:
    client.sendall(head()[:60])


def half_body(client: socket.socket) -> None:
    client.sendall(head(60_000) + bytes(30_000))


def nothing(client: socket.socket) -> None:
    pass


def half_a_second_request(client: socket.socket) -> None:
    client.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" + head(60_000) + bytes(1_000))


def wait_for_100(client: socket.socket) -> None:
    client.sendall(head(1_000, "Expect: 100-continue\r\n"))


def idle(client: socket.socket) -> None:
    client.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")


def upgrade(client: socket.socket) -> None:
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")


ATTACKS = [half_head, half_body, nothing, half_a_second_request, wait_for_100, idle, upgrade]


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_connection_ends(server: Server, attack: Callable[[socket.socket], None]) -> None:
    with server.connect() as client:
        attack(client)
        start_s = time.monotonic()
        sent(client, b"")
        assert time.monotonic() - start_s < TIMEOUT_S + 4  # uvicorn closes idle connections after 5 s


@pytest.mark.parametrize("piece", [b"POST /a HTTP/1.1\r\nX-Long: ", head(60_000)])
def test_single_bytes_do_not_extend_the_time(server: Server, piece: bytes) -> None:
    with server.connect() as client:
        client.sendall(piece)
        start_s = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - start_s < 20:
                client.sendall(b"a")
                time.sleep(0.1)
        assert time.monotonic() - start_s < TIMEOUT_S + 2


@pytest.mark.slow
def test_a_build_ends_while_a_thousand_clients_attack(server: Server, tmp_path: Path) -> None:
    """1,100 connections are kept open with half of a request; those that the server closes are opened again."""
    before = server.open_files()
    memory_mb = server.memory_mb()
    stop = threading.Event()
    opened = [0] * 10

    def attack(number: int) -> None:
        clients: list[socket.socket] = []
        while not stop.is_set():
            while len(clients) < 110 and not stop.is_set():
                with contextlib.suppress(OSError):
                    clients.append(server.connect())
                    ATTACKS[opened[number] % len(ATTACKS)](clients[-1])
                opened[number] += 1
            stop.wait(1)
            for client in clients[:]:
                client.setblocking(False)
                try:
                    client.send(b"a")  # slowly, one byte after the other
                except OSError:
                    client.close()
                    clients.remove(client)
        for client in clients:
            client.close()

    threads = [threading.Thread(target=attack, args=(number,)) for number in range(len(opened))]
    for thread in threads:
        thread.start()
    try:
        while sum(opened) < 1_100:
            time.sleep(0.1)
        plan = {
            "version": 1,
            "name": "attacked",
            "source": {"type": "rhombus", "url": server.url, "limits": {"requests_per_second": 1_000}},
            "cameras": [{"uuid": CAMERA, "name": "dock", "timezone": "UTC"}],
            "windows": [{"start": "2026-06-01T14:00:00Z", "end": "2026-06-01T15:00:00Z"}],
            "sampling": {"strategy": "random", "frames": 60},
        }
        (tmp_path / "plan.yaml").write_text(json.dumps(plan))
        start_s = time.monotonic()
        result = rhombus_dataset.build(tmp_path / "plan.yaml", tmp_path / "dataset")
        assert time.monotonic() - start_s < 300, "without limits it never ended"
        assert result.counts[Status.OK] == 60
        assert server.open_files() <= connections.MAX_CONNECTIONS + 50
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    time.sleep(TIMEOUT_S + 1)
    assert server.open_files() <= before + 20
    assert server.memory_mb() < memory_mb + 150


@pytest.mark.slow
def test_clients_that_do_not_read_are_closed(server: Server) -> None:
    """Each client requests 60 frames and reads none: more than fits into the buffers of the system."""
    before, memory_mb = server.open_files(), server.memory_mb()
    for _ in range(20):  # clients of an earlier test are still being closed
        time.sleep(2)
        earlier, before = before, server.open_files()
        if before == earlier:
            break
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            client = stack.enter_context(server.connect(receive_buffer_bytes=2_048))
            client.sendall((head() + BODY) * 60)
        time.sleep(1)
        assert server.open_files() >= before + 6
        end_s = time.monotonic() + 40
        while server.open_files() > before + 1 and time.monotonic() < end_s:
            assert server.get_frame() == 200
            time.sleep(0.2)
        assert server.open_files() <= before + 1
        assert server.memory_mb() < memory_mb + 150


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /" + b"a" * 600_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 100_000 + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 50_000, 400),
        (b"\x16\x03\x01\x02\x00\x01\x00" * 100 + b"\r\n\r\n", 400),
        (head(-1) + BODY, 400),
        (head(10**30) + BODY, 400),
        (head(10**8) + BODY, 413),
        (head(65_537) + BODY, 413),
        (head().replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 411),
        (head(0), 400),
    ],
)
def test_the_size_of_a_request_is_limited(server: Server, request_bytes: bytes, status: int) -> None:
    """The server answers, and closes the connection by itself or after the time limit."""
    answer = server.exchange(request_bytes)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert len(answer) < 600


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b'{"a":' * 12_000,
        b'{"cameraUuid": ' + b"[" * 60_000,
        b"9" * 60_000,
        b'{"timestampMs": ' + b"9" * 4_000 + b"}",
        b"\xff\xfe\x00",
        b'{"cameraUuid": "' + b"x" * 60_000 + b'", "timestampMs": 1}',
        b'{"cameraUuid": "' + rb"\u001b[31m\u202e" * 3_000 + b'", "timestampMs": 1}',
        b'{"cameraUuid": "\\ud800", "timestampMs": NaN}',
        b"{" + b",".join(b'"%d": 1' % i for i in range(5_000)) + b"}",
    ],
)
def test_an_error_quotes_little_of_the_request(server: Server, body: bytes) -> None:
    """Nesting is limited, too: the parser of JSON refuses it."""
    headers = {"x-auth-apikey": "local-key", "Content-Type": "application/json"}
    answer = requests.post(server.url + wire.EXACT_FRAME_PATH, data=body, headers=headers, timeout=20)
    assert answer.status_code == 400
    assert len(answer.content) < 400
    text = answer.json().get("errorMsg") or answer.json()["msg"]
    assert text.isprintable()


def test_few_frames_are_decoded_at_once_and_none_for_clients_that_have_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    active, most, calls, lock = 0, 0, 0, threading.Lock()
    get = RecordingsSource.get

    def counted(source: RecordingsSource, request: FrameRequest) -> wire.Reply:
        nonlocal active, most, calls
        with lock:
            active, calls = active + 1, calls + 1
            most = max(most, active)
        time.sleep(0.05)
        try:
            return get(source, request)
        finally:
            with lock:
                active -= 1

    monkeypatch.setattr(RecordingsSource, "get", counted)
    with running_server(load_site(CONFIGS / "demo-site.yaml")) as url:
        server = Server(url, 0)
        for _ in range(200):
            with server.connect() as client:
                client.sendall(head() + BODY)
        threads = [threading.Thread(target=server.get_frame) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == app.RENDER_THREADS
    assert calls < 120, "20 honest requests, and those of 200 that began before their client closed"
