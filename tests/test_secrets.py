"""Promise 9: the key is in no file and no output of a build, for any failure."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from rhombus_dataset.server.run import running_server
from rhombus_dataset.sources.recordings.site import FAULT_KINDS, InjectedFault, load_site
from rhombus_dataset.sources.rhombus.client import RhombusSource
from tests.building.test_build import write_plan
from tests.conftest import CONFIGS
from tests.scripted_server import Answer, Asked, scripted_server

KEY = "rhk-4f9a1c77e2-do-not-tell"

# Maximum verbosity: all loggers, the dump of http.client, and local variables in tracebacks.
VERBOSE = """
import http.client, logging, sys
logging.basicConfig(level=logging.DEBUG)
http.client.HTTPConnection.debuglevel = 5
from rhombus_dataset.cli import main
main(sys.argv[1:])
"""


def traces_of_the_key(content: bytes) -> bool:
    key = KEY.encode()
    return key in content or base64.b64encode(key)[:-2] in content or key.hex().encode() in content


def build_verbosely(plan: Path, out: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", VERBOSE, "build", str(plan), "--out", str(out)],
        env=os.environ | {"RHOMBUS_API_KEY": KEY},
        capture_output=True,
        check=False,
        timeout=120,
    )


def check_no_trace(done: subprocess.CompletedProcess[bytes], folder: Path) -> None:
    assert done.stderr
    assert not traces_of_the_key(done.stdout + done.stderr), done.stderr.decode()
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    for path in folder.rglob("*"):
        assert not traces_of_the_key(str(path).encode())
        assert not path.is_file() or not traces_of_the_key(path.read_bytes()), path


def test_under_every_fault_of_the_server(tmp_path: Path) -> None:
    site = load_site(CONFIGS / "demo-site.yaml")
    quick = [kind for kind in FAULT_KINDS if kind not in ("stall", "trickle", "throttle", "long_body")]
    faults = (InjectedFault(kind="throttle", rate=0.02), *(InjectedFault(kind=kind, rate=0.04) for kind in quick))
    with running_server(dataclasses.replace(site, api_keys=(KEY,), faults=faults)) as url:
        text = (CONFIGS / "demo.yaml").read_text().replace("frames: 400", "frames: 60")
        plan = tmp_path / "plan.yaml"
        plan.write_text(text.replace("http://127.0.0.1:8765", url))
        done = build_verbosely(plan, tmp_path / "out")
    assert done.returncode == 1, done.stderr.decode()
    assert b"The commonest reasons" in done.stderr, "some frames fail on every attempt"
    assert b"x-auth-apikey" not in done.stdout
    check_no_trace(done, tmp_path / "out")


def echo(asked: Asked) -> str:
    return json.dumps({"errorMsg": f"no: {asked.headers}", "status": f"S {asked.headers}", "error": True})


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda asked: Answer(401, echo(asked).encode()), 1),
        (lambda asked: Answer(403, echo(asked).encode()), 1),
        (lambda asked: Answer(400, echo(asked).encode()), 1),
        (lambda asked: Answer(200, echo(asked).encode()), 1),
        (lambda asked: Answer(200, str(asked.headers).encode()), 1),
        (lambda asked: Answer(302, b"", {"Location": f"http://127.0.0.1:1/?{asked.headers['x-auth-apikey']}"}), 1),
    ],
)
def test_a_server_that_repeats_the_key_cannot_bring_it_in(tmp_path: Path, answer: object, code: int) -> None:
    with scripted_server(answer) as server:  # type: ignore[arg-type]
        sampling = {"strategy": "random", "frames_per_camera": 2}
        limits = {"requests_per_second": 1000, "tries": 2}
        source = {"type": "rhombus", "url": server.url, "limits": limits}
        done = build_verbosely(write_plan(tmp_path, server.url, sampling=sampling, source=source), tmp_path / "out")
        assert {asked.headers["x-auth-apikey"] for asked in server.asked} == {KEY}
    assert done.returncode == code, done.stderr.decode()
    check_no_trace(done, tmp_path / "out")


def test_a_traceback_with_locals_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 0)
    source = RhombusSource("http://127.0.0.1:9", KEY)
    shown = traceback.TracebackException
    try:
        source.get(None)  # type: ignore[arg-type]
    except AttributeError as error:
        text = "".join(shown.from_exception(error, capture_locals=True).format())
        assert "source" in text
        assert not traces_of_the_key((text + repr(vars(source))).encode())
    finally:
        source.close()
