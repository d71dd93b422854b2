"""Sends hostile replies to the HTTP source and to the checks behind it, and watches what the process does.

A program of its own: an audit hook and a limit of memory stay for the life of a process. Prints a JSON object with
the number of cases by outcome. Fails on a case that takes more than a second of processor time, on more than 500
MB, on a file that is opened for writing, on a started program, and on executed code.
"""

from __future__ import annotations

import base64
import collections
import gzip
import json
import os
import random
import resource
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import rhombus_dataset
from rhombus_dataset import wire
from rhombus_dataset.building.fetch import Fetcher
from rhombus_dataset.building.rate_limiter import RateLimiter
from rhombus_dataset.errors import RhombusDatasetError
from rhombus_dataset.frame import FrameRequest, Outcome
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.sources.rhombus.client import RhombusSource
from tests.scripted_server import jpeg
from tests.sources.raw_server import raw_server, response
from tests.zygote import import_all

KEY = "rhk-4f9a1c77e2-Kd0xQ"
MASKS = (((0, 0), (5000, 0), (5000, 5000)),)
MAX_CPU_S = 3.0
MAX_MEMORY_BYTES = 500_000_000
WATCHED = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "ctypes.dlopen")
STRINGS = [
    "",
    "x",
    KEY,
    KEY[3:15],
    "\x1b[2J\x07",
    "\ud800",
    "../../etc/passwd",
    "a" * 50_000,
    "\0",
    "{{7*7}}",
    "AVAILABLE",
]
SMALL = jpeg(0, 64, 48)
LARGE = jpeg(1, 1920, 1080)

BOMB = gzip.compress(bytes(100_000_000), 1)

violations: list[str] = []


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        violations.append(f"writes {arguments[0]!r}")
    elif event.startswith(WATCHED) or (event == "exec" and threading.current_thread() is threading.main_thread()):
        violations.append(f"{event} {arguments!r:.200}")


def value(rng: random.Random, depth: int = 0) -> Any:
    """A JSON value of any kind."""
    kind = rng.randrange(9 if depth < 4 else 7)
    if kind == 7:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 8:
        return {rng.choice(STRINGS): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return [None, True, -1, 10**30, 1e308, rng.choice(STRINGS), rng.random()][kind]


def image(rng: random.Random) -> bytes:
    """An image: whole, with edits, or with hostile headers."""
    data = bytearray(LARGE if rng.random() < 0.02 else SMALL)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(data))
        match rng.randrange(6):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:]
                data += b"\xff\xd9"
            case 2:
                size = data.find(b"\xff\xc0") + 5
                data[size : size + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x27\x10\x27\x10"])
            case 3:
                scan = bytes(data[data.find(b"\xff\xda") :][: rng.randrange(20, 400)])
                data[at:at] = scan * rng.randrange(1, 200)
            case 4:
                data[2:2] = b"\xff\xfe" + (len(KEY) + 2).to_bytes(2, "big") + KEY.encode()
            case _:
                data[at:at] = rng.randbytes(rng.randrange(1, 500))
            # A cut may have left little.
        if len(data) < 20:
            break
    return bytes(data)


def body(rng: random.Random) -> bytes:
    answer: dict[str, Any] = {
        "error": False,
        "errorMsg": None,
        "frameData": base64.b64encode(image(rng)).decode(),
        "mimeType": "image/jpeg",
        "responseMessage": None,
        "warningMsg": None,
    }
    for _ in range(rng.randrange(4)):
        answer[rng.choice([*answer, "status", "msg", "x"])] = value(rng)
    text = json.dumps(answer).encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        at = rng.randrange(len(text))
        text = (
            text[:at]
            + rng.choice([b"", b"\0", b"}", b"[" * 5000, b"\xff", text[:300]])
            + text[at + rng.randrange(5) :]
        )
    return text


def raw(rng: random.Random) -> bytes:
    """A whole response, often malformed."""
    content, headers, length = body(rng), [], True
    match rng.randrange(12):
        case 0:
            headers = [f"Content-Encoding: {rng.choice(['gzip', 'deflate', 'br', 'gzip, gzip', KEY, ''])}"]
            compress = zlib.compress if rng.random() < 0.5 else gzip.compress
            content = compress(content) if rng.random() < 0.95 else BOMB
        case 1:
            headers, length = ["Transfer-Encoding: chunked"], False
            size = rng.choice([b"-5", b"%x" % len(content), b"ffffffffffff", b"0x5", b"", b" 7 ;" + KEY.encode()])
            content = size + b"\r\n" + content + b"\r\n0\r\n\r\n"
        case 2:
            headers, length = [f"Content-Length: {rng.choice([-1, 0, 5, 10**12, 10**40, '5, 5', KEY])}"], False
        case 3:
            headers = [f"X-{i}: {KEY}" for i in range(rng.choice([5, 90, 150]))]
        case 4:
            times = ["1e9", "5", "-1", "9" * 50, "Fri, 31 Dec 9999 23:59:59 GMT", KEY]
            headers = [f"Retry-After: {rng.choice(times)}"]
        case 5:
            return rng.choice([b"", b"\0" * 100, KEY.encode(), b"HTTP/1.1 200", b"HTTP/1.1 103 x\r\n\r\n" * 40])
        case 6:
            headers = [f"Location: http://127.0.0.1:1/{KEY}", f"Set-Cookie: {KEY}"]
    codes = [100, 102, 103, 204, 206, 301, 304, 307, 400, 403, 404, 408, 429, 500, 503, 599, 999]
    code = rng.choice([*[200] * 30, *codes])
    return response(content, *headers, status=f"{code} {rng.choice(['OK', KEY, ''])}", length=length)


def run(count: int) -> collections.Counter[str]:
    found: collections.Counter[str] = collections.Counter()
    pieces = [KEY[i : i + wire.MIN_SECRET_PIECE] for i in range(len(KEY) - wire.MIN_SECRET_PIECE + 1)]
    current = [b""]
    with raw_server(lambda _: current[0]) as url:
        source = RhombusSource(url, KEY, timeout_s=2.0)
        for case in range(count):
            rng = random.Random(case)
            current[0] = raw(rng)
            limiter = RateLimiter(1e6, 1_000_000, threading.Event(), max_wait_s=0.5)
            fetcher = Fetcher(source, limiter, 1, lambda *_: None)
            began_s = time.thread_time()
            try:
                request = FrameRequest(f"{'A' * 22}.v0", case, Geometry())
                outcome = fetcher.fetch(request, MASKS if case % 3 == 0 else ())
                kind, text = type(outcome).__name__, repr(getattr(outcome, "reason", ""))
                if isinstance(outcome, Outcome):
                    kind = str(outcome.status)
                    text += f"{outcome.warning}{outcome.mime_type}"
                    assert outcome.image is None or KEY.encode() not in outcome.image, case
            except RhombusDatasetError as error:
                kind, text = type(error).__name__, str(error)
            taken_s = time.thread_time() - began_s
            assert taken_s < MAX_CPU_S, (case, taken_s)
            assert not [piece for piece in pieces if piece in text], (case, text)
            assert text.isprintable(), (case, text)
            assert not violations, (case, violations)
            found[kind] += 1
        source.close()
    return found


def main() -> None:
    import_all()
    rhombus_dataset.validate("configs/demo.yaml")  # what is opened late is opened now
    run(20)
    virtual_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = virtual_bytes + MAX_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.addaudithook(watch)
    print(json.dumps(run(int(sys.argv[1]))))


if __name__ == "__main__":
    main()
