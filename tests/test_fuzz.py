"""Fuzzing: no plan, response or file causes a traceback or a deadlock.

The number of cases is at the end of the output of the tests.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, given, settings

from rhombus_dataset import wire
from rhombus_dataset.errors import InvalidFile
from rhombus_dataset.frame import Outcome, Status
from rhombus_dataset.plan.loader import load_plan
from rhombus_dataset.plan.model import Plan
from rhombus_dataset.sources.recordings.site import load_site
from rhombus_dataset.store.journal import Journal
from tests import scale
from tests.conftest import CONFIGS, NOW_MS
from tests.scripted_server import frame_answer, jpeg

PIECES = [
    b"", b"\0", b"\n", b"  ", b"- ", b": ", b"{", b"}", b"[", b"]", b"&a ", b"*a", b"<<: ", b"!!binary ",
    b"!!python/object/apply:os.system ", b"null", b"true", b"-1", b"1e999", b"9" * 40, b".nan", b"0x10",
    b"2026-13-99", b"\xff\xfe", b"'", b'"', b"\xf0\x9f\x8e\xa5", b"../../etc/passwd", b"%", b"#", b"|\n", b"? ",
    b"--- ", b"\t", b"A" * 3000, b"\xed\xa0\x80", b"\x1b[2J",
]  # fmt: skip

Record = Callable[[str, object], None]


def mangled(content: bytes, rng: random.Random, pieces: list[bytes] = PIECES) -> bytes:
    """Return ``content`` with a few edits: flipped bits, and parts that are cut, doubled, moved or replaced."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + int(rng.expovariate(0.05)))
        match rng.randrange(5):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end] * rng.randint(1, 3)
            case 3:
                data[at:end] = rng.choice(pieces)
            case _:
                data[at:at] = rng.choice(pieces)
    return bytes(data)


def test_plans_and_site_files(tmp_path: Path, record_property: Record) -> None:
    seeds = [path.read_bytes() for path in sorted(CONFIGS.glob("*.yaml"))]
    count, valid = scale.count(8_000, 8), 0
    path = tmp_path / "plan.yaml"
    for name in CONFIGS.glob("*.csv"):
        shutil.copy(name, tmp_path)
    for case in range(count):
        rng = random.Random(case)
        path.write_bytes(mangled(rng.choice(seeds), rng))
        with contextlib.suppress(InvalidFile):
            valid += isinstance(load_plan(path, now_ms=NOW_MS), Plan)
        if case % 8 == 0:
            path.write_bytes(mangled((CONFIGS / "demo-site.yaml").read_bytes(), rng))
            with contextlib.suppress(InvalidFile):
                load_site(path)
    assert 0 < valid < count
    record_property("fuzzed", f"{count} plans ({valid} still valid), {count // 8} site files")


def test_answers(record_property: Record) -> None:
    full = {"error": False, "errorMsg": "no", "status": "AVAILABLE", "warningMsg": "x", "responseMessage": "y"}
    seeds = [
        frame_answer(jpeg(0, 64, 48)).body,
        json.dumps(full | {"frameData": "AAAA", "mimeType": "image/jpeg"}).encode(),
        b'{"error": true, "errorMsg": "not there"}',
        b'{"msg": "malformed"}',
        b"[[[[[[[[" * 2000,
    ]
    pieces = [*PIECES, b'"status": 7,', b'"frameData": {},', b'"mimeType": [],', b"\\ud800", b"{" * 5000]
    statuses = [100, 200, 204, 301, 400, 401, 403, 404, 408, 429, 500, 503, 599]
    count = scale.count(40_000, 8)
    for case in range(count):
        rng = random.Random(case)
        body = mangled(rng.choice(seeds), rng, pieces)
        retry_after = mangled(rng.choice([b"5", b"Wed, 21 Oct 2026 07:28:00 GMT", b""]), rng).decode("latin-1")
        reply = wire.parse_reply(rng.choice(statuses), body, rng.choice([None, retry_after]), 1.79e9)
        reason = getattr(reply, "reason", "")
        assert len(reason) <= wire.REASON_LENGTH + 20
        assert reason.isprintable()
        if isinstance(reply, wire.Throttled):
            assert 1 <= reply.retry_after_s < 1e9
    record_property("fuzzed", f"{count} answers")


def test_journals(tmp_path: Path, record_property: Record) -> None:
    journal = Journal(tmp_path / "whole.journal", "digest", "shard")
    rng = random.Random(0)
    for row in range(6):
        image = jpeg(row, 32, 24)
        frame = Outcome(Status.FAILED, reason="why") if row == 3 else received(image)
        journal.append(row, frame)
    journal.release()
    whole = journal.path.read_bytes()
    count = scale.count(8_000, 8)
    for case in range(count):
        rng = random.Random(case)
        path = tmp_path / "case.journal"
        path.write_bytes(mangled(whole, rng))
        damaged = Journal(path, "digest", "shard")
        rows = damaged.recover()
        assert set(rows) <= set(range(6))
        again = damaged.recover()
        assert again == rows
        damaged.append(9, Outcome(Status.MISSING, reason="new"))
        damaged.release()
        assert Journal(path, "digest", "shard").recover() == [*rows, 9]
    record_property("fuzzed", f"{count} journals")


def received(image: bytes) -> Outcome:
    import hashlib

    from rhombus_dataset.imaging.jpeg import measure

    sha256 = hashlib.sha256(image).hexdigest()
    return Outcome(Status.OK, image=image, mime_type="image/jpeg", sha256=sha256, measures=measure(image))


def test_schemathesis_finds_no_server_error(demo_url: str, record_property: Record) -> None:
    """Valid and invalid requests, generated from the OpenAPI document of the server."""
    document = schemathesis.openapi.from_url(demo_url + "/openapi.json")
    tried = 0
    for result in document.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        for mode in schemathesis.GenerationMode:

            @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
            @given(operation.as_strategy(generation_mode=mode))
            def check(case: schemathesis.Case[Any]) -> None:
                nonlocal tried
                tried += 1
                # A crop beyond the frame is valid by the schema, but it is refused.
                accepted: Any = schemathesis.checks.CHECKS.get_one("positive_data_acceptance")
                case.call_and_validate(headers={"x-auth-apikey": "local-key"}, excluded_checks=[accepted])

            check()
    assert tried > 200
    record_property("fuzzed", f"{tried} requests by schemathesis")


def test_the_servers_answers_to_nonsense_are_the_apis_own_errors(demo_url: str, record_property: Record) -> None:
    seed = b'{"cameraUuid": "AAAAAAAAAAAAAAAAAAAAAA.v0", "timestampMs": 1780322400000, "downscaleFactor": 2}'
    count = scale.count(2_000, 5)
    with requests.Session() as session:
        for case in range(count):
            rng = random.Random(case)
            body = mangled(seed, rng)
            answer = session.post(
                demo_url + wire.EXACT_FRAME_PATH, data=body, headers={"x-auth-apikey": "local-key"}, timeout=20
            )
            assert answer.status_code in (200, 400, 413), (body, answer.status_code, answer.text[:200])
            assert "error" in answer.json() or "msg" in answer.json()
            assert "Traceback" not in answer.text
    record_property("fuzzed", f"{count} requests to the server")
