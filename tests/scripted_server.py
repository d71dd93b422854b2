"""A real HTTP server on a real socket. A function of the test returns the response to each request."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import simplejpeg


@dataclass(frozen=True)
class Asked:
    """One received request. ``number`` counts from 0; ``attempt`` counts from 1 for each camera and time."""

    number: int
    attempt: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """``close_after``: number of bytes of the body before the connection is closed. ``byte_every_s``: seconds
    between two bytes of the body."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    close_after: int | None = None
    byte_every_s: float | None = None


def jpeg(seed: int = 0, width_px: int = 320, height_px: int = 180) -> bytes:
    """Return a small image that depends on ``seed``."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (9, 16, 3), np.uint8)
    rgb = np.asarray(cv2.resize(small, (width_px, height_px), interpolation=cv2.INTER_CUBIC), np.uint8)
    image: bytes = simplejpeg.encode_jpeg(rgb, 90)
    return image


def frame_answer(image: bytes, **fields: Any) -> Answer:
    """Return the API's response with an image. ``fields`` replace or add fields."""
    body = {
        "error": False,
        "errorMsg": None,
        "frameData": base64.b64encode(image).decode(),
        "mimeType": "image/jpeg",
        "responseMessage": None,
        "warningMsg": None,
    }
    return Answer(body=json.dumps(body | fields).encode())


class ScriptedServer:
    """The server for a test: its URL, and all received requests."""

    def __init__(self, script: Callable[[Asked], Answer]) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.lock = threading.Lock()
        self.url = ""

    def record(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Asked:
        key = (body.get("cameraUuid"), body.get("timestampMs"))
        with self.lock:
            before = sum((a.body.get("cameraUuid"), a.body.get("timestampMs")) == key for a in self.asked)
            asked = Asked(len(self.asked), before + 1, path, headers, body)
            self.asked.append(asked)
        return asked


@contextlib.contextmanager
def scripted_server(script: Callable[[Asked], Answer]) -> Iterator[ScriptedServer]:
    scripted = ScriptedServer(script)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each small response takes 40 ms

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = scripted.script(scripted.record(self.path, dict(self.headers.items()), json.loads(body)))
            time.sleep(answer.delay_s)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in answer.headers and "Transfer-Encoding" not in answer.headers:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                for byte in answer.body if answer.byte_every_s is not None else b"":
                    self.wfile.write(bytes([byte]))
                    time.sleep(answer.byte_every_s or 0)
                if answer.byte_every_s is not None:
                    return
                if answer.close_after is not None:
                    self.wfile.write(answer.body[: answer.close_after])
                    self.close_connection = True
                else:
                    self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """A client that was killed is no error here."""

    with Server(("127.0.0.1", 0), Handler) as server:
        scripted.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield scripted
        finally:
            server.shutdown()
            thread.join()
