"""Going over a dataset again: retry, reuse, erase, repair. Each ends as if it had been so from the start."""

from __future__ import annotations

import errno
import json
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rhombus_dataset
from rhombus_dataset.api import verify
from rhombus_dataset.building import fetch as fetch_module
from rhombus_dataset.errors import BuildError, DatasetError, StorageError, UsageError
from rhombus_dataset.frame import Status
from rhombus_dataset.store.manifest import read_manifest
from tests.building.test_build import files, same_for_each_frame, write_plan
from tests.scripted_server import Answer, Asked, ScriptedServer, scripted_server

FORMATS = pytest.mark.parametrize("data_format", ["parquet", "jpeg"])
MISSING = Answer(body=json.dumps({"status": "NO_FOOTAGE_AT_TIMESTAMP"}).encode())
FAILED = Answer(400, b'{"errorMsg": "not now"}')


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "BACKOFF_BASE_S", 0.01)


def some(answer: Answer, share: int) -> Callable[[Asked], Answer]:
    """A script where one of ``share`` frames gets ``answer``."""

    def script(asked: Asked) -> Answer:
        picked = random.Random(json.dumps(asked.body, sort_keys=True)).randrange(share) == 0
        return answer if picked else same_for_each_frame(asked)

    return script


def plan_of(folder: Path, server: ScriptedServer, data_format: str, **changes: Any) -> Path:
    return write_plan(folder, server.url, output={"frames_per_shard": 12, "format": data_format}, **changes)


@FORMATS
@pytest.mark.parametrize(("answer", "status"), [(FAILED, "failed"), (MISSING, "missing")])
def test_a_retry_asks_for_those_rows_only_and_ends_like_a_build_that_never_failed(
    tmp_path: Path, data_format: str, answer: Answer, status: str
) -> None:
    out = tmp_path / "out"
    with scripted_server(some(answer, 12)) as server:
        plan = plan_of(tmp_path, server, data_format)
        first = rhombus_dataset.build(plan, out)
        lost = first.counts[Status(status)]
        untouched = {
            path: path.stat().st_mtime_ns
            for path in (out / "manifest").iterdir()
            if status not in read_manifest_of(path)
        }
        assert 0 < lost < 20
        assert untouched
        server.script = same_for_each_frame
        before = len(server.asked)
        again = rhombus_dataset.build(plan, out, retry=[status])
        assert again.requests == lost == len(server.asked) - before
        assert again.counts == {Status.OK: first.planned}
        assert {path: path.stat().st_mtime_ns for path in untouched} == untouched
        rhombus_dataset.build(plan, tmp_path / "whole")
        assert files(out) == files(tmp_path / "whole")
        # And nothing is left to be done.
        assert rhombus_dataset.build(plan, out, retry=["failed", "missing", "corrupt"]).requests == 0
    assert verify(out).problems == ()
    assert not (out / ".build" / "journal").exists()


def read_manifest_of(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    statuses: list[str] = pq.read_table(path, partitioning=None).column("status").to_pylist()
    return statuses


def test_a_retry_that_fails_again_changes_nothing_and_missing_is_not_made_failed(tmp_path: Path) -> None:
    with scripted_server(some(MISSING, 5)) as server:
        plan = plan_of(tmp_path, server, "parquet")
        rhombus_dataset.build(plan, tmp_path / "out")
        before = files(tmp_path / "out")
        for script in (some(MISSING, 5), some(FAILED, 1)):
            server.script = script
            assert rhombus_dataset.build(plan, tmp_path / "out", retry=["missing"]).requests > 0
            assert files(tmp_path / "out") == before


def test_an_interrupted_retry_keeps_what_has_come(tmp_path: Path) -> None:
    with scripted_server(some(FAILED, 2)) as server:
        plan = plan_of(tmp_path, server, "parquet")
        failed = rhombus_dataset.build(plan, tmp_path / "out").counts[Status.FAILED]
        asked = len(server.asked)

        def script(request: Asked) -> Answer:
            return same_for_each_frame(request) if request.number < asked + 10 else Answer(401)

        server.script = script
        with pytest.raises(BuildError):
            rhombus_dataset.build(plan, tmp_path / "out", retry=["failed"])
        assert verify(tmp_path / "out").problems == ()
        server.script = same_for_each_frame
        plain = rhombus_dataset.build(plan, tmp_path / "out")
        assert plain.requests == 0
        assert failed - 20 < plain.counts[Status.FAILED] <= failed - 10
        rhombus_dataset.build(plan, tmp_path / "out", retry=["failed"])
        rhombus_dataset.build(plan, tmp_path / "whole")
        assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_build_with_nothing_to_do_leaves_the_report(tmp_path: Path) -> None:
    """Also where frames were erased before it was made."""
    with scripted_server(same_for_each_frame) as server:
        plan = plan_of(tmp_path, server, "parquet")
        out = rhombus_dataset.build(plan, tmp_path / "out").out
        camera = rhombus_dataset.open_dataset(out)[0].camera_name
        rhombus_dataset.report(out)
        rhombus_dataset.erase(out, camera)
        assert not (out / "report.html").exists()
        rhombus_dataset.report(out)
        assert rhombus_dataset.build(plan, out).requests == 0
        assert (out / "report.html").exists()


def test_a_retry_that_is_stopped_is_not_complete(tmp_path: Path) -> None:
    stop = threading.Event()
    with scripted_server(some(FAILED, 2)) as server:
        plan = plan_of(tmp_path, server, "parquet")
        failed = rhombus_dataset.build(plan, tmp_path / "out").counts[Status.FAILED]
        asked = len(server.asked)

        def script(request: Asked) -> Answer:
            if request.number == asked + 5:
                stop.set()
            return same_for_each_frame(request)

        server.script = script
        stopped = rhombus_dataset.build(plan, tmp_path / "out", retry=["failed"], stop=stop)
        assert not stopped.complete
        assert verify(tmp_path / "out").problems == ()
        again = rhombus_dataset.build(plan, tmp_path / "out", retry=["failed"])
        assert again.complete
        assert again.requests == failed - stopped.requests


@pytest.mark.parametrize("wrong", [["ok"], ["erased"], "failed"])
def test_only_what_is_not_there_can_be_retried(tmp_path: Path, wrong: Any) -> None:
    with scripted_server(same_for_each_frame) as server:
        plan = plan_of(tmp_path, server, "parquet")
        with pytest.raises(UsageError, match="failed, missing or corrupt"):
            rhombus_dataset.build(plan, tmp_path / "out", retry=wrong)


@FORMATS
def test_a_plan_grown_by_a_camera_and_a_week_asks_for_what_is_new_only(tmp_path: Path, data_format: str) -> None:
    def cameras(names: str) -> list[dict[str, Any]]:
        mask = [[[0, 0], [2000, 0], [2000, 2000]]]
        return [
            {"uuid": c * 22, "name": f"camera-{c}", "timezone": "UTC", "masks": mask if c == "B" else []}
            for c in names
        ]

    sampling = {"strategy": "interval", "every": "2h"}
    with scripted_server(some(MISSING, 9)) as server:
        old = plan_of(
            tmp_path,
            server,
            data_format,
            cameras=cameras("AB"),
            windows=[{"start": "2026-06-01", "end": "2026-06-08"}],
            sampling=sampling,
        )
        first = rhombus_dataset.build(old, tmp_path / "old")
        (tmp_path / "grown").mkdir()
        grown = plan_of(
            tmp_path / "grown",
            server,
            data_format,
            cameras=cameras("ABC"),
            windows=[{"start": "2026-06-01", "end": "2026-06-15"}],
            sampling=sampling,
        )
        before = len(server.asked)
        reused = rhombus_dataset.build(grown, tmp_path / "reused", reuse=tmp_path / "old")
        assert reused.requests == len(server.asked) - before == reused.planned - first.counts[Status.OK]
        rhombus_dataset.build(grown, tmp_path / "nothing")
    assert files(tmp_path / "reused") == files(tmp_path / "nothing")
    assert verify(tmp_path / "reused").problems == ()


def test_frames_with_other_masks_or_other_bytes_are_not_reused(tmp_path: Path) -> None:
    with scripted_server(same_for_each_frame) as server:
        rhombus_dataset.build(plan_of(tmp_path, server, "jpeg"), tmp_path / "old")
        path = sorted((tmp_path / "old" / "data").rglob("*.jpg"))[0]
        path.write_bytes(path.read_bytes()[:-1])
        (tmp_path / "masked").mkdir()
        mask = [[[0, 0], [5000, 0], [5000, 5000]]]
        cameras = [{"uuid": c * 22, "name": c, "timezone": "UTC", "masks": mask if c == "A" else []} for c in "ABC"]
        plan = plan_of(tmp_path / "masked", server, "parquet", cameras=cameras)
        outcome = rhombus_dataset.build(plan, tmp_path / "new", reuse=tmp_path / "old")
        is_of_a = path.stem in {
            row["frame_id"] for row in read_manifest(tmp_path / "new").to_pylist() if row["camera_name"] == "A"
        }
        assert outcome.requests == outcome.planned // 3 + (0 if is_of_a else 1)
        rhombus_dataset.build(plan, tmp_path / "nothing")
    assert files(tmp_path / "new") == files(tmp_path / "nothing")


@FORMATS
def test_erased_frames_are_gone_for_good(tmp_path: Path, data_format: str) -> None:
    out = tmp_path / "out"
    with scripted_server(same_for_each_frame) as server:
        plan = plan_of(tmp_path, server, data_format)
        rhombus_dataset.build(plan, out)
        rows = read_manifest(out).to_pylist()
        taken = [
            row
            for row in rows
            if row["camera_name"] == "camera-B" and "00:02" <= row["timestamp"].isoformat()[11:16] < "00:06"
        ]
        images = [image_of(out, row) for row in taken]
        assert len(images) == 8
        outcome = rhombus_dataset.erase(out, "camera-B", start="2026-06-01T00:02:00Z", end="2026-06-01T00:06:00Z")
        assert outcome.rows == 8
        after = read_manifest(out).to_pylist()
        assert [row["frame_id"] for row in after] == [row["frame_id"] for row in rows]
        for row in after:
            if row["frame_id"] in {t["frame_id"] for t in taken}:
                assert (row["status"], row["reason"]) == ("erased", "erased on request")
                assert row["sha256"] is row["dhash"] is row["luma"] is row["file"] is None
            else:
                assert row["status"] == "ok"
        everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
        assert not any(image in everything for image in images)
        assert verify(out).problems == ()
        # Neither a build, nor a retry, nor a repair brings them back.
        erased = files(out)
        slice_path = next(
            path for path in sorted((out / "manifest").iterdir()) if "erased" in read_manifest_of(path)
        )
        rhombus_dataset.build(plan, out, retry=["failed", "missing", "corrupt"])
        assert files(out) == erased
        slice_path.write_bytes(slice_path.read_bytes()[:-50])
        assert rhombus_dataset.verify(out, repair=True).repaired == (slice_path.stem,)
        before = len(server.asked)
        rhombus_dataset.build(plan, out)
        gone = {(row["camera_uuid"], round(row["timestamp"].timestamp() * 1000)) for row in taken}
        assert not gone & {(a.body["cameraUuid"], a.body["timestampMs"]) for a in server.asked[before:]}
        assert files(out) == erased


def image_of(out: Path, row: dict[str, Any]) -> bytes:
    import pyarrow.parquet as pq

    path = out / str(row["file"])
    if path.suffix == ".jpg":
        return path.read_bytes()
    image: dict[str, bytes] = pq.read_table(path, partitioning=None).column("image")[row["row"]].as_py()
    return image["bytes"]


def test_what_is_erased_before_it_is_built_is_never_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with scripted_server(lambda a: same_for_each_frame(a) if a.number < 25 else Answer(401)) as server:
        plan = plan_of(tmp_path, server, "parquet")
        with pytest.raises(BuildError):
            rhombus_dataset.build(plan, out)
        journals = b"".join(path.read_bytes() for path in (out / ".build" / "journal").iterdir())
        assert journals
        rhombus_dataset.erase(out, "A" * 22)
        server.script = same_for_each_frame
        before = len(server.asked)
        outcome = rhombus_dataset.build(plan, out)
        assert all(asked.body["cameraUuid"][0] != "A" for asked in server.asked[before:])
    assert outcome.counts == {Status.OK: 40, Status.ERASED: 20}
    assert verify(out).problems == ()


def test_an_erasure_that_is_cut_short_is_told_and_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_server(same_for_each_frame) as server:
        plan = plan_of(tmp_path, server, "parquet")
        rhombus_dataset.build(plan, tmp_path / "out")
        rhombus_dataset.build(plan, tmp_path / "other")
        rhombus_dataset.erase(tmp_path / "other", "camera-C")
        with monkeypatch.context() as patch:
            # The disk fails when the second shard is being put in its place.
            real = os.replace
            moved: list[str] = []

            def replace(source: Any, target: Any) -> None:
                if "rewrite" in str(source) and "/.build/" not in str(target):
                    moved.append(str(target))
                    if len(moved) == 4:
                        raise OSError(errno.EIO, "cut short")
                real(source, target)

            patch.setattr(os, "replace", replace)
            with pytest.raises(StorageError, match="reports an error"):
                rhombus_dataset.erase(tmp_path / "out", "camera-C")
        problems = verify(tmp_path / "out").problems
        assert any("replacing shards" in problem.message for problem in problems)
        assert any("erasure was interrupted" in problem.message for problem in problems)
        before = len(server.asked)
        rhombus_dataset.build(plan, tmp_path / "out")
        assert len(server.asked) == before
    assert files(tmp_path / "out") == files(tmp_path / "other")


def test_wrong_erasures_are_told(tmp_path: Path) -> None:
    with scripted_server(same_for_each_frame) as server:
        rhombus_dataset.build(plan_of(tmp_path, server, "parquet"), tmp_path / "out")
    with pytest.raises(UsageError, match="did you mean camera-A"):
        rhombus_dataset.erase(tmp_path / "out", "camera-AA")
    with pytest.raises(UsageError, match="start: expected a date"):
        rhombus_dataset.erase(tmp_path / "out", "camera-A", start="yesterday")
    with pytest.raises(UsageError, match="empty"):
        rhombus_dataset.erase(tmp_path / "out", "camera-A", start="2026-06-02", end="2026-06-01")
    with pytest.raises(DatasetError):
        rhombus_dataset.erase(tmp_path / "nowhere", "camera-A")
    assert verify(tmp_path / "out").problems == ()


@FORMATS
@pytest.mark.parametrize("place", ["manifest", "data"])
def test_a_repaired_dataset_is_what_it_was_and_little_is_asked_again(
    tmp_path: Path, data_format: str, place: str
) -> None:
    out = tmp_path / "out"
    with scripted_server(some(MISSING, 6)) as server:
        plan = plan_of(tmp_path, server, data_format)
        rhombus_dataset.build(plan, out)
        whole = files(out)
        rng = random.Random(4)
        paths = [path for path in sorted((out / place).rglob("*")) if path.is_file()]
        for path in rng.sample(paths, min(3, len(paths))):
            data = bytearray(path.read_bytes())
            data[rng.randrange(len(data))] ^= 16
            path.write_bytes(data)
        report = rhombus_dataset.verify(out, repair=True)
        assert report.problems
        assert report.repaired
        assert report.kept + report.lost == 12 * len(report.repaired)
        before = len(server.asked)
        outcome = rhombus_dataset.build(plan, out)
        assert outcome.requests == len(server.asked) - before == report.lost
        # A damaged slice takes its rows without an image along; damaged data one image or a row group.
        assert report.lost <= 12 * len(report.repaired)
        assert place == "data" or report.lost <= 6 * len(report.repaired)
    assert files(out) == whole
    assert verify(out).problems == ()
