"""Injected faults of the network and the cloud, at a configured rate, for tests.

The fault of a request depends only on the seed, the request and the number of its attempt, not on the order of
arrival: two runs with the same seed have the same faults.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import hashlib
import json
import math
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi.responses import JSONResponse, Response

from rhombus_dataset import wire
from rhombus_dataset.frame import FrameRequest
from rhombus_dataset.server.connections import connection_of
from rhombus_dataset.sources.recordings.site import InjectedFault, SiteQuota

REMEMBERED_REQUESTS: Final = 200_000
"""Maximum number of requests whose attempts are counted: the latest ones. It bounds memory to about 30 MB."""
TRICKLE_PAUSE_S: Final = 1.0
"""Seconds between two bytes of a trickling response."""
LONG_BODY_BYTES: Final = 80 * 1024 * 1024
"""Length of a response that is longer than clients accept (64 MiB)."""

_Answer = Callable[[], Awaitable[Response]]


class Faults:
    """Selects the fault of each request."""

    def __init__(self, faults: tuple[InjectedFault, ...], seed: int) -> None:
        self._faults = faults
        self._seed = seed
        self._attempts: collections.OrderedDict[bytes, int] = collections.OrderedDict()

    def next(self, request: FrameRequest) -> InjectedFault | None:
        """Return the fault of this attempt of ``request``, or None. Not safe for several threads."""
        if not self._faults:
            return None
        body = wire.request_body(request)
        key = hashlib.blake2b(body, digest_size=8).digest()
        attempt = self._attempts.pop(key, 0) + 1
        self._attempts[key] = attempt
        if len(self._attempts) > REMEMBERED_REQUESTS:
            self._attempts.popitem(last=False)
        return self.decide(request, attempt)

    def decide(self, request: FrameRequest, attempt: int) -> InjectedFault | None:
        """Return the fault of an attempt of ``request``, or None. ``attempt`` counts from 1."""
        text = f"{self._seed} {attempt} ".encode() + wire.request_body(request)
        draw = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64
        for fault in self._faults:
            if fault.camera is None or fault.camera == request.camera_uuid[:22]:
                if draw < fault.rate:
                    return fault
                draw -= fault.rate
        return None


class Bucket:
    """The rate limit of the server: a token bucket, as in the cloud. ``refused``: number of refused requests."""

    def __init__(self, quota: SiteQuota, clock: Callable[[], float] = time.monotonic) -> None:
        self._quota = quota
        self._clock = clock
        self._tokens = float(quota.burst)
        self._filled_s = clock()
        self._lock = threading.Lock()
        self.refused = 0

    def take(self) -> int | None:
        """Return None if the request is accepted, else the whole seconds after which to retry."""
        rate = self._quota.requests_per_second
        with self._lock:
            now_s = self._clock()
            self._tokens = min(float(self._quota.burst), self._tokens + (now_s - self._filled_s) * rate)
            self._filled_s = now_s
            if self._tokens >= 1:
                self._tokens -= 1
                return None
            self.refused += 1
            return max(1, math.ceil((1 - self._tokens) / rate))


def too_many(retry_after_s: int) -> Response:
    """Return a 429 in the format of the cloud."""
    return Response(
        "Too Many Requests", 429, {"Retry-After": str(retry_after_s)}, media_type="text/plain; charset=utf-8"
    )


async def faulty(fault: InjectedFault, answer: _Answer) -> Response:
    """Return the response with an injected fault. ``answer`` returns the response without it."""
    match fault.kind:
        case "throttle":
            return too_many(max(1, math.ceil(fault.retry_after / 1000)))
        case "http_500" | "http_503":
            status = int(fault.kind[-3:])
            return JSONResponse({"error": True, "errorMsg": f"injected {status}", "warningMsg": None}, status)
        case "error_true":
            return JSONResponse({"error": True, "errorMsg": "injected error", "frameData": None})
        case "not_json":
            return Response(b'{"error": false, "frameData": "', media_type="application/json")
        case "html":
            return Response("<html><body><h1>Sign in</h1></body></html>", media_type="text/html")
        case "long_body":
            return Response(b" " * LONG_BODY_BYTES, media_type="application/json")
        case "stall":
            return _Stalled(await answer(), fault.duration / 1000)
        case "trickle":
            return _Trickling(await answer())
        case "reset" | "truncate":
            return _Interrupted(await answer(), reset=fault.kind == "reset")
        case "bad_base64" | "wrong_mime" | "corrupt_jpeg" | "giant_jpeg":
            return _damaged(await answer(), fault.kind)
        case status:
            return JSONResponse({"error": False, "frameData": None, "responseMessage": status, "status": status})


def _damaged(response: Response, kind: str) -> Response:
    body: dict[str, Any] = json.loads(bytes(response.body))
    if not body.get("frameData"):
        return response
    image = bytearray(base64.b64decode(body["frameData"]))
    match kind:
        case "bad_base64":
            body["frameData"] = body["frameData"][:-7] + "!*" + body["frameData"][-5:]
        case "wrong_mime":
            body["mimeType"] = "image/webp"
        case "corrupt_jpeg":
            middle = len(image) // 2
            del image[middle : middle + max(1, len(image) // 8)]
            body["frameData"] = base64.b64encode(image).decode()
        case "giant_jpeg":
            frame = next(i for i in range(2, len(image)) if image[i] == 0xFF and image[i + 1] in (0xC0, 0xC1, 0xC2))
            image[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
            body["frameData"] = base64.b64encode(image).decode()
    return JSONResponse(body)


class _Stalled(Response):
    """Responds after a delay, if the client is still connected."""

    def __init__(self, response: Response, seconds: float) -> None:
        super().__init__()
        self._response = response
        self._seconds = seconds

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        end_s = time.monotonic() + self._seconds
        while time.monotonic() < end_s and connection_of(scope) is not None:
            await asyncio.sleep(min(0.2, self._seconds))
        await self._response(scope, receive, send)


class _Trickling(Response):
    """Sends one byte a second."""

    def __init__(self, response: Response) -> None:
        super().__init__(bytes(response.body), response.status_code, dict(response.headers))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for byte in bytes(self.body):
            if connection_of(scope) is None:
                return
            await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
            await asyncio.sleep(TRICKLE_PAUSE_S)


class _Interrupted(Response):
    """Sends half of the response, then closes or resets the connection."""

    def __init__(self, response: Response, reset: bool) -> None:
        super().__init__(bytes(response.body), response.status_code, dict(response.headers))
        self._reset = reset

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await asyncio.sleep(0.02)
        if (transport := connection_of(scope)) is not None:
            if self._reset:
                linger = struct.pack("ii", 1, 0)
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                transport.abort()
            else:
                transport.close()
        while connection_of(scope) is not None:
            await asyncio.sleep(0.02)
