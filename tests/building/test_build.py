"""Builds, through the public function and the command line, over a real socket."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import rhombus_dataset
from rhombus_dataset.api import info, verify
from rhombus_dataset.building import fetch as fetch_module
from rhombus_dataset.errors import AccessRefused, BuildError, OtherDataset, StorageError, UsageError
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.imaging.drawn_scene import camera_code, read_stamp
from rhombus_dataset.imaging.jpeg import decode_rgb
from rhombus_dataset.store.manifest import read_manifest
from tests import scale
from tests.conftest import CONFIGS
from tests.scripted_server import Answer, Asked, frame_answer, jpeg, scripted_server


def files(folder: Path) -> dict[str, str]:
    """Every file of a dataset but the log, by its sha256."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".build" not in path.parts
    }


def write_plan(folder: Path, url: str, **changes: Any) -> Path:
    plan: dict[str, Any] = {
        "version": 1,
        "name": "test",
        "source": {
            "type": "rhombus",
            "url": url,
            "limits": {"requests_per_second": 5000, "burst": 500, "concurrency": 8, "tries": 3},
        },
        "cameras": [{"uuid": c * 22, "name": f"camera-{c}", "timezone": "UTC"} for c in ("A", "B", "C")],
        "windows": [{"start": "2026-06-01T00:00:00Z", "end": "2026-06-01T00:10:00Z"}],
        "sampling": {"strategy": "interval", "every": "30s"},
        "output": {"frames_per_shard": 12},
    }
    path = folder / "plan.yaml"
    path.write_text(json.dumps(plan | changes))
    return path


def same_for_each_frame(asked: Asked) -> Answer:
    """An image that depends on the camera and the time only."""
    seed = int(hashlib.sha256(json.dumps(asked.body, sort_keys=True).encode()).hexdigest()[:8], 16)
    return frame_answer(jpeg(seed, 160, 90))


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "BACKOFF_BASE_S", 0.01)


@pytest.mark.parametrize("data_format", ["parquet", "jpeg"])
def test_promise_1_one_and_sixteen_requests_in_flight_give_the_same_bytes(
    tmp_path: Path, demo_url: str, data_format: str
) -> None:
    text = (CONFIGS / "demo.yaml").read_text()
    text = text.replace("frames: 400", "frames: 60").replace("frames_per_shard: 200", "frames_per_shard: 20")
    text = text.replace("format: parquet", f"format: {data_format}").replace("block: 1h", "block: 6h")
    plan = tmp_path / "plan.yaml"
    plan.write_text(text.replace("per_camera: 4", "per_camera: 16"))
    found = []
    for concurrency in (1, 16):
        out = tmp_path / f"with-{concurrency}"
        outcome = rhombus_dataset.build(plan, out, url=demo_url, concurrency=concurrency)
        assert outcome.complete
        assert outcome.requests == outcome.planned == sum(outcome.counts.values())
        found.append(files(out))
    assert len(found[0]) > 8
    assert found[0] == found[1]


def test_the_millisecond_in_the_pixels_is_the_manifests_for_every_row(tmp_path: Path, demo_url: str) -> None:
    rhombus_dataset.build(CONFIGS / "demo.yaml", tmp_path / "out", url=demo_url)
    seen = 0
    for path in sorted((tmp_path / "out" / "data").glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            geometry = Geometry(
                row["downscale"], row["crop_x"], row["crop_y"], row["crop_width"], row["crop_height"]
            )
            stamp = read_stamp(decode_rgb(row["image"]["bytes"]), geometry)
            assert stamp is not None, row["frame_id"]
            assert stamp.timestamp_ms == round(row["timestamp"].timestamp() * 1000)
            assert stamp.camera_code == camera_code(row["camera_uuid"])
            seen += 1
    rows = read_manifest(tmp_path / "out").to_pylist()
    assert seen == sum(row["status"] == "ok" for row in rows) > 500
    assert verify(tmp_path / "out").problems == ()
    masked = [r for r in rows if r["camera_name"] == "dock-south" and r["status"] == "ok" and r["view"] == "full"]
    table = pq.read_table(tmp_path / "out" / masked[0]["file"])
    corner = decode_rgb(table.column("image")[masked[0]["row"]].as_py()["bytes"])[5:60, 5:120]
    assert corner.max() < 40


def test_promise_3_every_planned_frame_has_one_row_whatever_becomes_of_it(tmp_path: Path) -> None:
    def script(asked: Asked) -> Answer:
        kind = asked.body["timestampMs"] // 30_000 % 6
        if kind == 0:
            return Answer(body=json.dumps({"status": "NO_FOOTAGE_AT_TIMESTAMP"}).encode())
        if kind == 1:
            return Answer(500, b'{"errorMsg": "broken"}')
        if kind == 2:
            return frame_answer(jpeg(1)[:-900])
        if kind == 3:
            return Answer(400, b'{"errorMsg": "never"}')
        return same_for_each_frame(asked)

    with scripted_server(script) as server:
        outcome = rhombus_dataset.build(write_plan(tmp_path, server.url), tmp_path / "out")
    rows = read_manifest(tmp_path / "out").to_pylist()
    assert len(rows) == outcome.planned == 60
    assert len({row["frame_id"] for row in rows}) == 60
    reasons = {row["reason"] for row in rows}
    assert {"NO_FOOTAGE_AT_TIMESTAMP", "HTTP 500: broken", "HTTP 400: never", None} <= reasons
    assert outcome.complete
    assert {str(k): v for k, v in outcome.counts.items()} == {
        status: sum(row["status"] == status for row in rows) for status in ("ok", "missing", "failed", "corrupt")
    }
    assert verify(tmp_path / "out").problems == ()
    assert info(tmp_path / "out").counts["corrupt"] == sum(row["status"] == "corrupt" for row in rows)


def test_promise_4_what_was_sent_is_what_is_stored(tmp_path: Path) -> None:
    sent: dict[tuple[str, int], bytes] = {}

    def script(asked: Asked) -> Answer:
        image = jpeg(asked.number, 200, 120) + b"trailing bytes are kept too"
        sent[asked.body["cameraUuid"], asked.body["timestampMs"]] = image
        return frame_answer(image)

    with scripted_server(script) as server:
        rhombus_dataset.build(write_plan(tmp_path, server.url), tmp_path / "out")
    for path in (tmp_path / "out" / "data").glob("*.parquet"):
        for row in pq.read_table(path).to_pylist():
            image = sent.pop((row["camera_uuid"], round(row["timestamp"].timestamp() * 1000)))
            assert row["image"]["bytes"] == image
            assert row["sha256"] == hashlib.sha256(image).hexdigest()
    assert not sent


def test_a_slow_frame_holds_up_nothing_but_its_own_shard(tmp_path: Path) -> None:
    release = threading.Event()
    committed_meanwhile: list[int] = []
    out = tmp_path / "out"

    def script(asked: Asked) -> Answer:
        if asked.number == 0:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and len(list(out.glob("manifest/*.parquet"))) < 4:
                release.wait(0.02)
            committed_meanwhile.append(len(list(out.glob("manifest/*.parquet"))))
        return same_for_each_frame(asked)

    with scripted_server(script) as server:
        outcome = rhombus_dataset.build(write_plan(tmp_path, server.url), out)
    assert outcome.shards == 5
    assert committed_meanwhile == [4]


def test_promise_5_another_plans_dataset_is_refused_with_both_digests(tmp_path: Path) -> None:
    with scripted_server(same_for_each_frame) as server:
        plan = write_plan(tmp_path, server.url)
        rhombus_dataset.build(plan, tmp_path / "out")
        before = files(tmp_path / "out")
        write_plan(tmp_path, server.url, sampling={"strategy": "interval", "every": "29s"})
        with pytest.raises(OtherDataset) as raised:
            rhombus_dataset.build(plan, tmp_path / "out")
        assert info(tmp_path / "out").digest in str(raised.value)
        assert rhombus_dataset.schedule_of(plan).digest in str(raised.value)
    assert files(tmp_path / "out") == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    with scripted_server(same_for_each_frame) as server, pytest.raises(OtherDataset, match=r"thesis\.tex"):
        rhombus_dataset.build(write_plan(tmp_path, server.url), tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["thesis.tex"]


def test_limits_names_and_addresses_may_change_between_runs(tmp_path: Path) -> None:
    with scripted_server(same_for_each_frame) as server:
        plan = write_plan(tmp_path, server.url)
        rhombus_dataset.build(plan, tmp_path / "out")
    with scripted_server(same_for_each_frame) as server:
        write_plan(tmp_path, server.url, name="renamed")
        assert rhombus_dataset.build(plan, tmp_path / "out").requests == 0
        assert verify(tmp_path / "out").problems == ()


def test_two_builds_on_one_folder_the_second_is_refused(tmp_path: Path) -> None:
    started, release = threading.Event(), threading.Event()

    def script(asked: Asked) -> Answer:
        started.set()
        release.wait(20)
        return same_for_each_frame(asked)

    with scripted_server(script) as server:
        plan = write_plan(tmp_path, server.url)
        first = threading.Thread(target=rhombus_dataset.build, args=(plan, tmp_path / "out"))
        first.start()
        assert started.wait(20)
        with pytest.raises(BuildError, match="another process is changing this dataset"):
            rhombus_dataset.build(plan, tmp_path / "out")
        release.set()
        first.join()
    assert verify(tmp_path / "out").problems == ()


def denying(denied: Callable[[Asked], bool], http_status: int = 403) -> Callable[[Asked], Answer]:
    return lambda asked: Answer(http_status, b'{"msg": "no"}') if denied(asked) else same_for_each_frame(asked)


def test_403_for_one_camera_is_that_cameras_own(tmp_path: Path) -> None:
    with scripted_server(denying(lambda asked: asked.body["cameraUuid"].startswith("B"))) as server:
        outcome = rhombus_dataset.build(write_plan(tmp_path, server.url), tmp_path / "out")
        assert len(server.asked) <= 60 + 1
    rows = read_manifest(tmp_path / "out").to_pylist()
    assert {(r["camera_name"], r["status"]) for r in rows} == {
        ("camera-A", "ok"), ("camera-B", "failed"), ("camera-C", "ok"),
    }  # fmt: skip
    assert outcome.complete


def test_403_for_all_cameras_stops_the_build(tmp_path: Path) -> None:
    with scripted_server(denying(lambda _: True)) as server:
        with pytest.raises(AccessRefused, match="RHOMBUS_API_KEY"):
            rhombus_dataset.build(write_plan(tmp_path, server.url), tmp_path / "out")
        assert len(server.asked) <= 13
    assert not list((tmp_path / "out").glob("manifest/*.parquet"))


def test_a_key_that_is_revoked_half_way_stops_the_build_and_loses_nothing(tmp_path: Path) -> None:
    revoked = threading.Event()

    def script(asked: Asked) -> Answer:
        if asked.number == 30:
            revoked.set()
        return Answer(403, b"{}") if revoked.is_set() else same_for_each_frame(asked)

    with scripted_server(script) as server:
        plan = write_plan(tmp_path, server.url)
        with pytest.raises(AccessRefused):
            rhombus_dataset.build(plan, tmp_path / "out")
        received = sum(1 for asked in server.asked if asked.number < 30)
        server.script = same_for_each_frame
        assert rhombus_dataset.build(plan, tmp_path / "out").requests <= 60 - received + 8
    assert {row["status"] for row in read_manifest(tmp_path / "out").to_pylist()} == {"ok"}


def test_401_stops_the_build_at_once(tmp_path: Path) -> None:
    with scripted_server(denying(lambda _: True, 401)) as server:
        with pytest.raises(AccessRefused):
            rhombus_dataset.build(write_plan(tmp_path, server.url), tmp_path / "out")
        assert len(server.asked) <= 8


def test_without_a_key_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RHOMBUS_API_KEY")
    with pytest.raises(UsageError, match="set the environment variable RHOMBUS_API_KEY"):
        rhombus_dataset.build(write_plan(tmp_path, "http://127.0.0.1:9"), tmp_path / "out")


def test_a_image_that_is_not_the_size_that_was_asked_for_is_told(tmp_path: Path) -> None:
    def script(asked: Asked) -> Answer:
        ignored = asked.body["timestampMs"] % 120_000 == 0
        scale = 1 if ignored else asked.body.get("downscaleFactor", 1)
        return frame_answer(jpeg(asked.number, 640 // scale, 360 // scale))

    with scripted_server(script) as server:
        plan = write_plan(tmp_path, server.url, views={"half": {"downscale": 2}})
        rhombus_dataset.build(plan, tmp_path / "out")
    warned = [r for r in read_manifest(tmp_path / "out").to_pylist() if r["warning"] is not None]
    assert len(warned) == 15
    assert all("640 x 360 does not fit" in r["warning"] for r in warned)
    assert all(r["timestamp"].timestamp() % 120 == 0 for r in warned)


def command(plan: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "rhombus_dataset", "build", str(plan), "--out", str(out), "--quiet"]


@pytest.mark.parametrize("seed", range(scale.count(6, 3)))
def test_promise_6_killed_and_resumed_gives_the_same_bytes(tmp_path: Path, seed: int) -> None:
    """kill -9 after a random number of requests, over and over, until the build ends by itself."""
    rng = random.Random(seed)
    victims: list[subprocess.Popen[bytes]] = []
    kill_at = -1

    def script(asked: Asked) -> Answer:
        if asked.number == kill_at and victims:
            victims[-1].kill()
        return same_for_each_frame(asked)

    with scripted_server(script) as server:
        plan = write_plan(tmp_path, server.url)
        rhombus_dataset.build(plan, tmp_path / "whole")
        whole = files(tmp_path / "whole")
        server.asked.clear()
        kills = 0
        for _ in range(30):
            kill_at = len(server.asked) + rng.randrange(3, 25)
            victims.append(subprocess.Popen(command(plan, tmp_path / "out")))
            code = victims[-1].wait(60)
            time.sleep(0.05)  # what was in flight reaches the server's list
            if code == 0:
                break
            assert code == -signal.SIGKILL
            kills += 1
        assert kills >= 1
        repeated = len(server.asked) - 60
    assert files(tmp_path / "out") == whole
    assert not (tmp_path / "out" / ".build" / "journal").exists()
    assert 0 <= repeated <= kills * 8, "no kill costs more requests than were in flight"


def test_ctrl_c_commits_says_how_to_go_on_and_exits_130(tmp_path: Path) -> None:
    def script(asked: Asked) -> Answer:
        if asked.number == 20:
            process.send_signal(signal.SIGINT)
        time.sleep(0.02)
        return same_for_each_frame(asked)

    with scripted_server(script) as server:
        plan = write_plan(tmp_path, server.url)
        process = subprocess.Popen(command(plan, tmp_path / "out"), stderr=subprocess.PIPE, text=True)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        assert f"To resume: rhombus-dataset build {plan}" in errors
        assert "Traceback" not in errors
        asked = len(server.asked)
        assert asked < 60
        assert rhombus_dataset.build(plan, tmp_path / "out").requests == 60 - asked
    assert verify(tmp_path / "out").problems == ()


def test_sigterm_exits_143_and_a_second_ctrl_c_leaves_at_once_and_loses_nothing(tmp_path: Path) -> None:
    signals = [signal.SIGTERM]
    stalling = threading.Event()

    def script(asked: Asked) -> Answer:
        if asked.number == 20:
            for number in signals:
                process.send_signal(number)
                time.sleep(0.2)
        if stalling.is_set() and asked.number >= 20:
            time.sleep(5)
        return same_for_each_frame(asked)

    with scripted_server(script) as server:
        plan = write_plan(tmp_path, server.url)
        process = subprocess.Popen(command(plan, tmp_path / "one"), stderr=subprocess.PIPE, text=True)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 143, errors
        assert errors.count("To resume") == 1
        server.asked.clear()
        signals[:] = [signal.SIGINT, signal.SIGINT]
        stalling.set()
        process = subprocess.Popen(command(plan, tmp_path / "two"), stderr=subprocess.PIPE, text=True)
        began_s = time.monotonic()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        assert time.monotonic() - began_s < 5
        stalling.clear()
        signals.clear()
        received = min(len(server.asked), 20)
        assert rhombus_dataset.build(plan, tmp_path / "two").requests <= 60 - received + 8
    assert verify(tmp_path / "two").problems == ()


def test_a_torn_journal_is_told(tmp_path: Path) -> None:
    with scripted_server(lambda a: same_for_each_frame(a) if a.number < 10 else Answer(401)) as server:
        plan = write_plan(tmp_path, server.url)
        with pytest.raises(AccessRefused):
            rhombus_dataset.build(plan, tmp_path / "out")
        journal = sorted((tmp_path / "out" / ".build" / "journal").iterdir())[0]
        os.truncate(journal, journal.stat().st_size - 7)
        server.script = same_for_each_frame
        told = io.StringIO()
        assert rhombus_dataset.build(plan, tmp_path / "out", progress=told).complete
    assert f"{journal.stem}: the last" in told.getvalue()
    assert '"event": "torn"' in (tmp_path / "out" / ".build" / "log.jsonl").read_text()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A disk of 50 MB, mounted at two places."""
    places = tmp_path / "disk", tmp_path / "again"
    for place in places:
        place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", str(places[0])]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let tests mount")
    subprocess.run(["mount", "--bind", *map(str, places)], check=True)
    yield places
    for place in reversed(places):
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


def fails_with(message: str, plan: Path, out: Path) -> None:
    """The command ends with one clear error."""
    done = subprocess.run(command(plan, out), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1


def test_a_mount_that_vanishes_is_one_clear_error(tmp_path: Path, disk: tuple[Path, Path]) -> None:
    def script(asked: Asked) -> Answer:
        if asked.number == 30:
            subprocess.run(["umount", "-l", str(disk[0])], check=True)
        return same_for_each_frame(asked)

    with scripted_server(script) as server:
        plan = write_plan(tmp_path, server.url)
        fails_with("no longer exists", plan, disk[0] / "out")
        asked = len(server.asked)
        outcome = rhombus_dataset.build(plan, disk[1] / "out")
    assert outcome.complete
    assert outcome.requests <= 60 - asked + 8 + 4
    assert verify(disk[1] / "out").problems == ()


def test_a_file_system_that_is_read_only_is_one_clear_error(tmp_path: Path, disk: tuple[Path, Path]) -> None:
    with scripted_server(lambda a: same_for_each_frame(a) if a.number < 30 else Answer(401)) as server:
        plan = write_plan(tmp_path, server.url)
        with pytest.raises(AccessRefused):
            rhombus_dataset.build(plan, disk[0] / "out")
        server.script = same_for_each_frame
        subprocess.run(["mount", "-o", "remount,ro", str(disk[0])], check=True)
        fails_with("the file system is read-only", plan, disk[0] / "out")
        subprocess.run(["mount", "-o", "remount,rw", str(disk[0])], check=True)
        assert rhombus_dataset.build(plan, disk[0] / "out").requests == 30
    assert verify(disk[0] / "out").problems == ()


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/shm").is_dir(), reason="mounting takes root")
def test_promise_6_a_full_disk_is_one_clear_error_and_resuming_works(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let tests mount")
    try:
        with scripted_server(same_for_each_frame) as server:
            plan = write_plan(tmp_path, server.url)
            with pytest.raises(StorageError, match="the disk is full: free some space"):
                rhombus_dataset.build(plan, disk / "out")
            done = subprocess.run(command(plan, disk / "out"), capture_output=True, text=True, check=False)
            assert done.returncode == 1
            assert "the disk is full" in done.stderr
            assert "Traceback" not in done.stderr
            subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
            assert rhombus_dataset.build(plan, disk / "out").complete
            assert verify(disk / "out").problems == ()
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_promise_9_the_key_is_in_no_file_and_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "c2VjcmV0LWtleS1vZi1hLXVzZXI"
    monkeypatch.setenv("RHOMBUS_API_KEY", key)

    def script(asked: Asked) -> Answer:
        if asked.attempt == 1 and asked.number % 3 == 0:
            return Answer(500, json.dumps({"errorMsg": f"bad key {key}"}).encode())
        return same_for_each_frame(asked)

    with scripted_server(script) as server:
        plan = write_plan(tmp_path, server.url)
        done = subprocess.run(
            [*command(plan, tmp_path / "out"), "--json"], capture_output=True, text=True, check=True
        )
    assert key not in done.stdout + done.stderr
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes(), path
    assert "[key]" in (tmp_path / "out" / ".build" / "log.jsonl").read_text()


def test_a_build_that_was_killed_before_its_lock_was_written_begins_again(tmp_path: Path) -> None:
    """The times of a lock are written before the lock itself."""
    (tmp_path / "times.csv").write_text("camera,timestamp\ncamera-A,2026-06-01T00:00:00Z\n")
    with scripted_server(same_for_each_frame) as server:
        plan = write_plan(tmp_path, server.url, sampling={"strategy": "timestamps", "file": "times.csv"})
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "plan.yaml").write_bytes(plan.read_bytes())
        (tmp_path / "out" / "plan.lock.parquet").write_bytes(b"of the killed run")
        outcome = rhombus_dataset.build(plan, tmp_path / "out")
    assert outcome.counts == {"ok": 1}
    assert rhombus_dataset.verify(tmp_path / "out").problems == ()
