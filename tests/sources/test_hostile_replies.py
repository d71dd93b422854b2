"""Replies of a hostile server: bounded memory and time, one frame's failure at most, and the key in no text."""

from __future__ import annotations

import base64
import gzip
import json
import random
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rhombus_dataset
from rhombus_dataset import wire
from rhombus_dataset.building import fetch
from rhombus_dataset.errors import BuildError, QuotaExhausted
from rhombus_dataset.frame import FrameRequest, Status
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.sources.rhombus.client import MAX_BODY_BYTES, RhombusSource
from tests import scale
from tests.building.test_build import same_for_each_frame, write_plan
from tests.conftest import ROOT
from tests.scripted_server import Answer, Asked, frame_answer, jpeg, scripted_server
from tests.sources.raw_server import raw_server, response

KEY = "rhk-4f9a1c77e2-Kd0xQ"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "BACKOFF_BASE_S", 0.01)


REQUEST = FrameRequest("AAAAAAAAAAAAAAAAAAAAAA.v0", 1_700_000_000_000, Geometry())
GOOD = frame_answer(jpeg(1)).body


def limited(folder: Path, url: str, every: str = "30s", **limits: Any) -> Path:
    """A plan of 20 frames a camera, or more, with these limits."""
    defaults = {"requests_per_second": 10_000, "burst": 1000, "concurrency": 8, "tries": 3}
    return write_plan(
        folder,
        url,
        source={"type": "rhombus", "url": url, "limits": defaults | limits},
        sampling={"strategy": "interval", "every": every},
    )


def reply_to(raw: bytes, timeout_s: float = 5.0) -> wire.Reply:
    with raw_server(lambda _: raw) as url:
        source = RhombusSource(url, KEY, timeout_s=timeout_s)
        reply = source.get(REQUEST)
        source.close()
    return reply


BOMB = b"0" * (2 * MAX_BODY_BYTES)


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("gzip, gzip", lambda data: gzip.compress(gzip.compress(data))),
        ("br", lambda data: data[:1000]),
    ],
    ids=["gzip", "deflate", "double-gzip", "unknown"],
)
def test_a_compressed_response_is_bounded(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    raw = response(compress(BOMB), f"Content-Encoding: {encoding}")
    assert len(raw) < 1_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    reply = reply_to(raw)
    assert isinstance(reply, wire.Transient)
    assert "longer than" in reply.reason or "compressed in a way" in reply.reason
    assert time.monotonic() - began < 5
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 3 * MAX_BODY_BYTES, "memory grows with the limit, not with the bomb"


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_proxy_that_compresses_does_no_harm(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    reply = reply_to(response(compress(GOOD), f"Content-Encoding: {encoding}"))
    assert isinstance(reply, wire.Image)
    assert reply.image == jpeg(1)


@pytest.mark.parametrize(
    "raw",
    [
        response(b"-5\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=False),
        response(b"zz\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=False),
        response(b"f" * 40 + b"\r\nabc\r\n", "Transfer-Encoding: chunked", length=False),
        response(b"", "Content-Length: -7", length=False),
        response(b"", "Content-Length: 5, 6", length=False),
        response(GOOD, f"Content-Length: {'9' * 40}", length=False),
        response(GOOD, *[f"X-{i}: y" for i in range(300)]),
        response(GOOD, "X: " + "y" * 100_000),
        response(gzip.compress(GOOD)[:-20], "Content-Encoding: gzip"),
        response(b"no gzip at all", "Content-Encoding: gzip"),
        response(GOOD, status="099 ?"),
        response(GOOD, status="99999 ?"),
        b"HTTP/9.9 hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00 not http",
        b"\r\n" * 5000,
        b"",
        b"HTTP/1.1 103 Early\r\n\r\n" * 50 + response(GOOD),
    ],
)
def test_a_malformed_response_is_the_reply_of_one_frame(raw: bytes) -> None:
    reply = reply_to(raw)
    if isinstance(reply, wire.Image):
        assert reply.image == jpeg(1), "an image only if it is whole"
    else:
        assert isinstance(reply, wire.Transient | wire.Rejected | wire.Unreachable)
        assert reply.reason.isprintable()


def test_a_chunk_of_negative_size_does_not_end_a_build(tmp_path: Path) -> None:
    def script(asked: Asked) -> Answer:
        if asked.attempt == 1 and asked.number % 3 == 0:
            return Answer(
                body=b"-5\r\nabc\r\n0\r\n\r\n", headers={"Transfer-Encoding": "chunked", "Connection": "close"}
            )
        return same_for_each_frame(asked)

    with scripted_server(script) as server:
        outcome = rhombus_dataset.build(limited(tmp_path, server.url), tmp_path / "out")
    assert outcome.counts == {Status.OK: outcome.planned}


@pytest.mark.parametrize(
    "status", ["102 Processing", "103 Early Hints", "103 Early Hints\r\nLink: </a>; rel=preload"]
)
def test_an_informational_response_is_not_the_answer(status: str) -> None:
    reply = reply_to(f"HTTP/1.1 {status}\r\n\r\n".encode() + response(GOOD))
    assert isinstance(reply, wire.Image)
    assert reply.image == jpeg(1)


# The key, everywhere.


def echoes(key: str) -> list[Answer]:
    """The key in every field of every kind of reply: whole, in pieces, at a cut, with control codes."""
    forms = [
        key,
        f"\x1b[31m{key}\x07",
        "x" * (wire.REASON_LENGTH - 15) + key,
        "x" * (8 * wire.REASON_LENGTH - 11) + key,
        f"{key[:9]} {key[9:]}",
        f"{key[4:16]}, {key[2:11]}",
        key * 30,
        json.dumps(key)[1:-1].replace("-", "\\u002d"),
    ]
    found = []
    for text in forms:
        found += [
            frame_answer(jpeg(1), warningMsg=text),
            frame_answer(jpeg(1), mimeType=text),
            frame_answer(jpeg(1), errorMsg=text, responseMessage=text, warningMsg=text, status=text),
            frame_answer(jpeg(1), error=True, errorMsg=text),
            Answer(body=json.dumps({"status": text, "frameData": None}).encode()),
            Answer(body=json.dumps({"status": [text], "frameData": {text: text}}).encode()),
            Answer(body=json.dumps({"frameData": None, "responseMessage": text}).encode()),
            Answer(body=json.dumps({"frameData": text}).encode()),
            Answer(body=json.dumps([text]).encode()),
            Answer(body=text.encode()),
            *(Answer(s, json.dumps({"msg": text, "errorMsg": text}).encode()) for s in (400, 404, 500, 503)),
            *(Answer(s, text.encode()) for s in (400, 404, 500, 503)),
        ]
    found.append(Answer(429, key.encode(), {"Retry-After": "1"}))
    with_comment = jpeg(1)[:2] + b"\xff\xfe" + (len(key) + 2).to_bytes(2, "big") + key.encode() + jpeg(1)[2:]
    return [*found, frame_answer(with_comment)]


def pieces_of(key: str) -> list[bytes]:
    return [key[i : i + wire.MIN_SECRET_PIECE].encode() for i in range(len(key) - wire.MIN_SECRET_PIECE + 1)]


def check_bytes(name: str, content: bytes) -> None:
    assert not [piece for piece in pieces_of(KEY) if piece in content], name


def test_promise_9_a_key_that_the_server_echoes_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte of all files, of the output and of the reports, for a server that repeats the key everywhere."""
    monkeypatch.setenv("RHOMBUS_API_KEY", KEY)
    answers = echoes(KEY)
    with scripted_server(lambda asked: answers[asked.number % len(answers)]) as server:
        plan = limited(tmp_path, server.url, "3s", tries=1, min_success_rate=0)
        built = run("build", plan, "--out", tmp_path / "out")
        assert len(server.asked) > len(answers)
        for command in (["info"], ["info", "--json"], ["verify"], ["verify", "--json"], ["report"]):
            run(*command, tmp_path / "out")
    assert b"frames planned" in built
    texts = 0
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            check_bytes(str(path), content)
            if path.suffix in (".json", ".md", ".html", ".yaml", ".jsonl"):
                texts += 1
                assert not [c for c in content if c < 32 and c not in b"\n\r\t"], path
    assert texts >= 5
    rows = rhombus_dataset.open_dataset(tmp_path / "out", duplicates=True).manifest.to_pylist()
    marked = [row for row in rows if wire.KEY_MARK in f"{row['reason']} {row['warning']}"]
    assert len(marked) > 5, "the texts themselves are kept"
    for row in rows:
        text = f"{row['reason']}{row['warning']}{row['mime_type']}"
        check_bytes("manifest", text.encode())
        assert text.isprintable()


def run(*arguments: str | Path) -> bytes:
    """Run the command. Return its output, in which no control character and no piece of the key is."""
    command = [sys.executable, "-m", "rhombus_dataset", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    output = done.stdout + done.stderr
    check_bytes(" ".join(command), output)
    assert b"Traceback" not in output, output.decode()
    assert not [c for c in output if c < 32 and c not in b"\n\r\t"], output
    return output


def test_the_reason_of_a_connection_error_has_no_key() -> None:
    reply = reply_to(f"HTTP/1.1 {KEY}\r\n\r\n".encode())
    check_bytes("reason", repr(reply).encode())


# Waiting.


@pytest.mark.parametrize(
    "retry_after", ["1000000000", "9" * 30, "Fri, 31 Dec 9999 23:59:59 GMT"], ids=["billion", "digits", "year-9999"]
)
def test_a_retry_after_without_end_stops_the_build_with_the_reason(tmp_path: Path, retry_after: str) -> None:
    with scripted_server(lambda _: Answer(429, b"", {"Retry-After": retry_after})) as server:
        began = time.monotonic()
        with pytest.raises(QuotaExhausted, match=r"limits\.max_wait of the plan is 900 s"):
            rhombus_dataset.build(limited(tmp_path, server.url), tmp_path / "out")
    assert time.monotonic() - began < 20


def test_429_without_end_stops_the_build(tmp_path: Path) -> None:
    with scripted_server(lambda _: Answer(429, b"", {"Retry-After": "1"})) as server:
        plan = limited(tmp_path, server.url, max_wait="3s")
        with pytest.raises(BuildError, match="run the same build again later"):
            rhombus_dataset.build(plan, tmp_path / "out")
        assert len(server.asked) < 8 * 6, "at most one a second for each of eight threads"


@pytest.mark.parametrize(("text", "seconds"), [("2.7", 2.7), ("2", 2.0), ("0", 1.0), ("-3", 1.0), ("soon", 1.0)])
def test_retry_after_may_have_a_fraction(text: str, seconds: float) -> None:
    assert wire.parse_reply(429, b"", text) == wire.Throttled(seconds)


# Damage.


def test_damage_in_transit_uses_the_attempts_of_the_frame(tmp_path: Path) -> None:
    """Three damaged images that differ are no proof that the frame is damaged in the cloud."""

    def script(asked: Asked) -> Answer:
        image = jpeg(asked.body["timestampMs"] % 1000)
        return frame_answer(image[: -100 * asked.attempt] if asked.attempt <= 4 else image)

    with scripted_server(script) as server:
        outcome = rhombus_dataset.build(limited(tmp_path, server.url, tries=6), tmp_path / "out")
    assert outcome.counts == {Status.OK: outcome.planned}


def test_the_same_damaged_bytes_three_times_are_corrupt(tmp_path: Path) -> None:
    with scripted_server(lambda _: frame_answer(jpeg(1)[:-500])) as server:
        plan = limited(tmp_path, server.url, tries=6, min_success_rate=0)
        outcome = rhombus_dataset.build(plan, tmp_path / "out")
        assert outcome.counts == {Status.CORRUPT: outcome.planned}
        assert len(server.asked) == 3 * outcome.planned


def test_a_third_of_all_answers_may_be_spoilt(tmp_path: Path) -> None:
    """Damage of ten kinds in 30 % of the answers: a frame is lost only if all of its attempts failed."""
    rng = random.Random(5)
    spoilt: dict[tuple[str, int], int] = {}

    def script(asked: Asked) -> Answer:
        good = frame_answer(jpeg(asked.body["timestampMs"] % 997))
        if rng.random() >= 0.3:
            return good
        key = asked.body["cameraUuid"], asked.body["timestampMs"]
        spoilt[key] = spoilt.get(key, 0) + 1
        image = base64.b64decode(json.loads(good.body)["frameData"])
        cut = rng.randrange(40, len(image) - 40)
        return rng.choice(
            [
                frame_answer(image[:cut]),
                frame_answer(image[:cut] + bytes(40) + image[cut + 40 :]),
                frame_answer(image, mimeType="image/webp"),
                frame_answer(bytes(cut)),
                Answer(500, b"{}"),
                Answer(503, b"<html>"),
                Answer(body=b"not json"),
                Answer(body=good.body[: len(good.body) // 2]),
                frame_answer(b""),
                Answer(body=json.dumps({"frameData": "?"}).encode()),
            ]
        )

    with scripted_server(script) as server:
        plan = limited(tmp_path, server.url, "3s", tries=6)
        outcome = rhombus_dataset.build(plan, tmp_path / "out")
    lost = outcome.planned - outcome.counts[Status.OK]
    assert lost <= sum(count >= 6 for count in spoilt.values())


def test_thousands_of_hostile_replies(record_property: Callable[[str, object], None]) -> None:
    """Bounded time and memory for each, no key, and nothing is opened, started or executed."""
    count = scale.count(20_000, 10)
    command = [sys.executable, "-m", "tests.sources.reply_fuzz", str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    kinds = json.loads(done.stdout.splitlines()[-1])
    assert sum(kinds.values()) == count
    assert {"ok", "missing", "failed", "corrupt", "Refused", "QuotaExhausted"} <= set(kinds), kinds
    record_property("fuzzed", f"{count} hostile replies over a socket ({kinds})")
