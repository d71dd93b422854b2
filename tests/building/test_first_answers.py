"""A mistake in the plan costs a few requests: an unknown camera, windows without footage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rhombus_dataset
from rhombus_dataset.building.first_answers import FIRST_ROWS, MIN_ROWS, FirstAnswers
from rhombus_dataset.errors import SourceFailing
from rhombus_dataset.frame import Outcome, Status
from rhombus_dataset.planning.lock_file import load_lock
from rhombus_dataset.planning.sampling import sample
from tests.building.test_build import same_for_each_frame, write_plan
from tests.building.test_rerun import MISSING
from tests.scripted_server import Answer, Asked, scripted_server

REJECTED = Answer(400, b'{"msg": "no such camera"}')
START_MS, END_MS = 1_780_272_000_000, 1_780_272_600_000


def plan_of(folder: Path, url: str, **limits: Any) -> Path:
    """60 frames of each of three cameras."""
    path = write_plan(folder, url, sampling={"strategy": "interval", "every": "10s"})
    plan = json.loads(path.read_text())
    plan["source"]["limits"] |= limits
    plan["output"]["frames_per_shard"] = 40
    path.write_text(json.dumps(plan))
    return path


def only(answer: Answer, where: Callable[[Asked], bool]) -> Callable[[Asked], Answer]:
    return lambda asked: answer if where(asked) else same_for_each_frame(asked)


def test_an_unknown_camera_stops_the_build_after_a_few_requests(tmp_path: Path) -> None:
    with scripted_server(only(REJECTED, lambda asked: asked.body["cameraUuid"][0] == "B")) as server:
        plan = plan_of(tmp_path, server.url)
        for _ in range(2):  # the same again
            server.asked.clear()
            with pytest.raises(SourceFailing, match=r"camera-B: none of its first \d+ frames .*no such camera"):
                rhombus_dataset.build(plan, tmp_path / "out")
            assert sum(asked.body["cameraUuid"][0] == "B" for asked in server.asked) < 30
            assert len(server.asked) < 60
        # What other cameras sent is kept, and the build can go on.
        server.asked.clear()
        server.script = same_for_each_frame
        outcome = rhombus_dataset.build(plan, tmp_path / "out")
    assert outcome.counts == {Status.OK: 180}
    assert len(server.asked) < 180 - FIRST_ROWS
    assert rhombus_dataset.verify(tmp_path / "out").problems == ()


def test_windows_without_footage_stop_the_build(tmp_path: Path) -> None:
    with scripted_server(lambda _: MISSING) as server:
        plan = plan_of(tmp_path, server.url)
        with pytest.raises(SourceFailing, match=r"no footage: none of \d+ moments, .* of 3 cameras") as stopped:
            rhombus_dataset.build(plan, tmp_path / "out")
        assert "windows and time zones" in str(stopped.value)
        assert len(server.asked) < 60


def test_a_limit_of_0_builds_it_nevertheless(tmp_path: Path) -> None:
    with scripted_server(lambda _: MISSING) as server:
        outcome = rhombus_dataset.build(plan_of(tmp_path, server.url, min_success_rate=0), tmp_path / "out")
    assert outcome.counts == {Status.MISSING: 180}
    assert outcome.problem() == "only 0 of 180 frames are ok, and --min-ok is 0.5"


@pytest.mark.parametrize("at_ms", [START_MS, END_MS - 10_000])
def test_footage_at_the_first_or_the_last_moment_only_is_footage(tmp_path: Path, at_ms: int) -> None:
    """Old footage is deleted, and a camera may be new."""
    with scripted_server(only(MISSING, lambda asked: asked.body["timestampMs"] != at_ms)) as server:
        outcome = rhombus_dataset.build(plan_of(tmp_path, server.url), tmp_path / "out")
    assert outcome.counts == {Status.OK: 3, Status.MISSING: 177}


def test_a_camera_without_footage_beside_others_is_data(tmp_path: Path) -> None:
    with scripted_server(only(MISSING, lambda asked: asked.body["cameraUuid"][0] == "B")) as server:
        outcome = rhombus_dataset.build(plan_of(tmp_path, server.url), tmp_path / "out")
    assert outcome.counts == {Status.OK: 120, Status.MISSING: 60}
    (why,) = outcome.reasons
    assert (why.status, why.count) == (Status.MISSING, 60)


def test_the_order_of_requests_changes_no_byte(tmp_path: Path) -> None:
    """The rows that are requested first are those of a schedule like any other."""
    with scripted_server(same_for_each_frame) as server:
        plan = plan_of(tmp_path, server.url, concurrency=1, per_camera=1)
        rhombus_dataset.build(plan, tmp_path / "out")
    schedule = sample(load_lock(tmp_path / "out"))
    asked = [asked.body["timestampMs"] for asked in server.asked]
    assert asked[3 * FIRST_ROWS :] == sorted(asked[3 * FIRST_ROWS :])
    assert sorted(asked) == sorted(schedule.timestamp_ms.tolist())
    assert max(asked[: 3 * FIRST_ROWS]) == max(asked)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=200),
    st.sets(st.integers(0, 3)),
    st.randoms(use_true_random=False),
)
def test_every_row_is_recorded_once_or_the_build_stops(cameras: list[int], known: set[int], rng: Any) -> None:
    rows = np.arange(len(cameras), dtype=np.int32) * 3
    judge = FirstAnswers(rows, np.array(cameras, np.int32), ["a", "b", "c", "d"], known)
    assert sorted(judge.rows.tolist()) == rows.tolist()
    good = {camera for camera in range(4) if rng.random() < 0.5}
    recorded: list[int] = []
    order = judge.rows.tolist()
    try:
        for row in order:
            camera = cameras[row // 3]
            if rng.random() < 0.02:
                recorded += [held for held, _ in judge.give_up(camera)]
            bad = rng.choice([Status.MISSING, Status.FAILED])
            status = Status.OK if camera in good and rng.random() < 0.5 else bad
            recorded += [held for held, _ in judge.add(row, camera, Outcome(status, reason="why"))]
        recorded += [held for held, _ in judge.all_held()]
        assert sorted(recorded) == rows.tolist()
    except SourceFailing:
        assert max(cameras.count(camera) for camera in set(cameras) - known) >= MIN_ROWS
