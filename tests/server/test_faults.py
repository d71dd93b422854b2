"""The injected faults of the server, and the outcome of a build with each of them."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

import rhombus_dataset
from rhombus_dataset.api import info, verify
from rhombus_dataset.building import circuit_breaker
from rhombus_dataset.building import fetch as fetch_module
from rhombus_dataset.errors import InvalidFile, UsageError
from rhombus_dataset.frame import FrameRequest, Status
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.server.faults import Faults
from rhombus_dataset.server.run import running_server, serve
from rhombus_dataset.sources.recordings.site import FAULT_KINDS, InjectedFault, Site, SiteQuota, load_site
from rhombus_dataset.store.manifest import read_manifest
from tests.conftest import CONFIGS
from tests.videos import write_video

START = "2026-06-01T00:00:00Z"
TRIES = 6
CORRUPT = {"wrong_mime", "corrupt_jpeg", "giant_jpeg"}
MISSING = {"FUTURE_TIMESTAMP", "CAMERA_DELETED", "NOT_RECORDING_AT_TIMESTAMP", "NO_FOOTAGE_AT_TIMESTAMP"}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "BACKOFF_BASE_S", 0.01)
    monkeypatch.setattr(circuit_breaker, "FIRST_PAUSE_S", 0.2)
    monkeypatch.setattr(circuit_breaker, "LAST_PAUSE_S", 0.2)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Four cameras that repeat a short clip."""
    folder = tmp_path_factory.mktemp("site")
    write_video(folder / "clip.avi", [Fraction(i, 25) for i in range(50)], codec="mjpeg")
    path = folder / "site.yaml"
    recording = {"path": "clip.avi", "start": START, "repeat": 10_000}
    cameras = [{"uuid": c * 22, "name": f"camera-{c}", "location": "HQ", "recordings": [recording]} for c in "ABCD"]
    locations = [{"uuid": "L" * 22, "name": "HQ", "tz": "UTC"}]
    path.write_text(json.dumps({"api_keys": ["local-key"], "locations": locations, "cameras": cameras}))
    site = load_site(path)
    yield site
    site.footage.close()


def plan_of(folder: Path, url: str, frames: int, **limits: object) -> Path:
    path = folder / "plan.yaml"
    limits = {"requests_per_second": 10_000, "burst": 100, "timeout": "3s", "tries": TRIES} | limits
    plan = {
        "version": 1,
        "name": "faults",
        "source": {"type": "rhombus", "url": url, "limits": limits},
        "cameras": [{"uuid": c * 22, "name": f"camera-{c}", "timezone": "UTC"} for c in "ABCD"],
        "windows": [{"start": START, "end": "2026-06-01T05:00:00Z"}],
        "sampling": {"strategy": "random", "frames_per_camera": frames // 4},
        "output": {"frames_per_shard": 500},
    }
    path.write_text(json.dumps(plan))
    return path


@pytest.mark.parametrize("kind", sorted(set(FAULT_KINDS) - {"throttle", "trickle", "stall"}))
def test_each_fault_ends_as_an_outcome_of_its_frame(site: Site, tmp_path: Path, kind: str) -> None:
    """All requests of one camera have the fault, and none of the other three."""
    faulty = dataclasses.replace(site, faults=(InjectedFault(kind=kind, rate=1, camera="A" * 22),))
    with running_server(faulty) as url:
        outcome = rhombus_dataset.build(plan_of(tmp_path, url, 4, tries=2), tmp_path / "out")
    assert outcome.complete
    rows = read_manifest(tmp_path / "out").to_pylist()
    of_a = [row for row in rows if row["camera_uuid"][0] == "A"]
    expected = "missing" if kind in MISSING else "corrupt" if kind in CORRUPT else "failed"
    assert [row["status"] for row in of_a] == [expected]
    assert of_a[0]["reason"]
    assert {row["status"] for row in rows if row["camera_uuid"][0] != "A"} == {"ok"}
    assert verify(tmp_path / "out").problems == ()


@pytest.mark.parametrize("kind", ["trickle", "stall"])
def test_an_answer_that_takes_too_long_is_an_outcome_too(site: Site, tmp_path: Path, kind: str) -> None:
    faulty = dataclasses.replace(site, faults=(InjectedFault(kind=kind, rate=1, camera="A" * 22),))
    with running_server(faulty) as url:
        outcome = rhombus_dataset.build(plan_of(tmp_path, url, 4, tries=1, timeout="1s"), tmp_path / "out")
    assert outcome.counts == {Status.OK: 3, Status.FAILED: 1}


def expected_outcome(faults: Faults, request: FrameRequest) -> tuple[Status, int]:
    """Return the expected outcome, and the expected number of requests."""
    tries = requests = 0
    repeats: collections.Counter[str] = collections.Counter()
    while True:
        requests += 1
        fault = faults.decide(request, requests)
        if fault is None:
            return Status.OK, requests
        if fault.kind in MISSING:
            return Status.MISSING, requests
        if fault.kind == "throttle":
            continue
        tries += 1
        repeats[fault.kind] += 1
        corrupt = fault.kind in CORRUPT
        # Each kind of damage gives the same bytes every time. The third time, they end the attempts.
        limited = corrupt or fault.kind == "error_true"
        if tries >= TRIES or (limited and repeats[fault.kind] >= 3):
            return Status.CORRUPT if corrupt else Status.FAILED, requests


def test_a_build_through_every_fault_is_complete_and_asks_no_more_than_its_rules(
    site: Site, tmp_path: Path
) -> None:
    """5,000 frames, 30 % of all requests fail."""
    # Slow ones are rare, and one kind of damage is frequent enough to come three times for one frame.
    rates = {"stall": 0.002, "trickle": 0.002, "long_body": 0.001, "throttle": 0.002, "corrupt_jpeg": 0.06}
    share = (0.3 - sum(rates.values())) / (len(FAULT_KINDS) - len(rates))
    kinds = tuple(InjectedFault(kind=kind, rate=rates.get(kind, share)) for kind in FAULT_KINDS)
    faulty = dataclasses.replace(site, faults=kinds, fault_seed=5)
    with running_server(faulty) as url:
        outcome = rhombus_dataset.build(plan_of(tmp_path, url, 5000), tmp_path / "out")
    assert outcome.complete
    assert outcome.planned == 5000
    rules = Faults(faulty.faults, faulty.fault_seed)
    counted: collections.Counter[Status] = collections.Counter()
    requests = 0
    for row in read_manifest(tmp_path / "out").to_pylist():
        timestamp_ms = round(row["timestamp"].timestamp() * 1000)
        status, sent = expected_outcome(rules, FrameRequest(row["camera_uuid"], timestamp_ms, Geometry()))
        assert row["status"] == status, row
        assert (row["reason"] is None) == (status is Status.OK)
        counted[status] += 1
        requests += sent
    assert outcome.counts == counted
    assert set(counted) == {Status.OK, Status.MISSING, Status.FAILED, Status.CORRUPT}
    assert outcome.requests == requests
    assert sum(info(tmp_path / "out").reasons.values()) == 5000 - counted[Status.OK]
    assert verify(tmp_path / "out").problems == ()


def test_a_minute_under_a_quota_uses_nearly_all_of_it(site: Site, tmp_path: Path) -> None:
    """At least 97 % of the allowed requests are sent, and fewer than 1 % are refused."""
    quota = SiteQuota(requests_per_second=20, burst=200)
    allowed = 200 + 20 * 60
    with running_server(dataclasses.replace(site, quota=quota)) as url:
        plan = plan_of(tmp_path, url, allowed - allowed % 4, requests_per_second=60, burst=20)
        began_s = time.monotonic()
        outcome = rhombus_dataset.build(plan, tmp_path / "out")
        minutes = (time.monotonic() - began_s) / 60
    log = [json.loads(line) for line in (tmp_path / "out" / ".build" / "log.jsonl").read_text().splitlines()]
    refused = sum(line["event"] == "retry" and line["reason"].startswith("429") for line in log)
    print(f"{outcome.planned} frames in {minutes:.3f} min, {refused} refused")
    assert outcome.counts == {Status.OK: outcome.planned}
    assert outcome.planned >= 0.97 * (200 + 20 * 60 * minutes)
    assert refused < 0.01 * outcome.requests
    assert outcome.requests == outcome.planned + refused


def test_two_builds_on_one_key_share_the_quota_and_back_off(site: Site, tmp_path: Path) -> None:
    quota = SiteQuota(requests_per_second=40, burst=40)
    refused: list[int] = []

    def build(name: str) -> None:
        (tmp_path / name).mkdir()
        plan = plan_of(tmp_path / name, url, 240, requests_per_second=40, burst=10)
        outcome = rhombus_dataset.build(plan, tmp_path / name / "out")
        assert outcome.counts == {Status.OK: 240}
        refused.append(outcome.requests - 240)

    with running_server(dataclasses.replace(site, quota=quota)) as url:
        began_s = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(build, ["one", "two"]))
        seconds = time.monotonic() - began_s
    print(f"two builds of 240 frames in {seconds:.1f} s, {refused} refused")
    assert sum(refused) <= 0.05 * 480
    # Together they keep the limit. How they share it is tested in test_rate_limiter.py.
    assert 1.02 * (40 + 40 * seconds) >= 480


def test_many_clients_at_once_do_not_fill_the_servers_memory(site: Site, tmp_path: Path) -> None:
    """In a separate process, so that its memory can be measured apart from that of the clients."""
    command = [sys.executable, "-m", "rhombus_dataset", "serve", str(site.path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            peaks = []
            for clients in (16, 256):
                frames = 4 * clients
                (tmp_path / str(clients)).mkdir()
                plan = plan_of(tmp_path / str(clients), url, frames, concurrency=clients, per_camera=clients)
                outcome = rhombus_dataset.build(plan, tmp_path / str(clients) / "out")
                assert outcome.counts == {Status.OK: frames}
                status = Path(f"/proc/{process.pid}/status").read_text()
                peaks.append(int(status.split("VmHWM:")[1].split()[0]) / 1024)
        finally:
            process.terminate()
    print(f"peak memory of the server: {peaks[0]:.0f} MB with 16 clients, {peaks[1]:.0f} MB with 256")
    assert peaks[1] < peaks[0] + 100


def test_which_request_meets_a_fault_is_decided_by_request_and_attempt() -> None:
    faults = (InjectedFault(kind="http_500", rate=0.3), InjectedFault(kind="stall", rate=0.2))
    requests = [FrameRequest("A" * 22 + ".v0", t, Geometry()) for t in range(2000)]
    one, other = Faults(faults, 1), Faults(faults, 1)
    forward = {r.timestamp_ms: one.next(r) for r in requests}
    assert forward == {r.timestamp_ms: other.next(r) for r in reversed(requests)}
    kinds = collections.Counter(fault and fault.kind for fault in forward.values())
    assert 0.25 < kinds["http_500"] / 2000 < 0.35
    assert 0.15 < kinds["stall"] / 2000 < 0.25
    assert forward != {r.timestamp_ms: one.next(r) for r in requests}
    assert forward != {r.timestamp_ms: Faults(faults, 2).next(r) for r in requests}


def test_faults_are_in_the_site_file_and_mistakes_in_them_are_reported(tmp_path: Path) -> None:
    text = (CONFIGS / "demo-site.yaml").read_text()
    good = tmp_path / "good.yaml"
    good.write_text(
        text + "faults: [{kind: throttle, rate: 0.5, retry_after: 2s}]\nquota: {requests_per_second: 5}\n"
    )
    site = load_site(good)
    assert site.faults == (InjectedFault(kind="throttle", rate=0.5, retry_after="2s"),)
    assert site.quota is not None
    bad = tmp_path / "bad.yaml"
    bad.write_text(text + "faults: [{kind: trotle, rate: 2}]\n")
    with pytest.raises(InvalidFile, match="did you mean throttle") as caught:
        load_site(bad)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("fault", ["nonsense=1", "stall=much", "stall=2"])
def test_a_wrong_fault_on_the_command_line_is_reported(fault: str) -> None:
    with pytest.raises(UsageError, match=fault.split("=", maxsplit=1)[0]):
        serve(CONFIGS / "demo-site.yaml", port=0, faults=[fault])
