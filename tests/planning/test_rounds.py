"""A second round for frames that turn out to be missing: others in their place, in shards of their own."""

from __future__ import annotations

import json
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rhombus_dataset
from rhombus_dataset.api import info, verify
from rhombus_dataset.errors import InvalidFile
from rhombus_dataset.plan.local_time import HOUR_MS, local_hours
from rhombus_dataset.planning.lock import Lock, LockedRandom, LockedStratified
from rhombus_dataset.planning.lock_file import load_lock
from rhombus_dataset.planning.rounds import rounds
from rhombus_dataset.planning.sampling import sample, sample_more
from rhombus_dataset.planning.schedule import Schedule
from rhombus_dataset.server.run import running_server
from rhombus_dataset.sources.recordings.site import load_site
from tests.conftest import CONFIGS, files_of
from tests.locks import camera, lock, sampling

pytestmark = pytest.mark.slow

# The gate of the demo cameras is out of order from noon of the third of June.
PLAN = """
version: 1
name: topped-up
seed: 2
source: {{type: recordings, site: {site}}}
cameras:
  - {{uuid: DEMO-dock-north-AAAAAA, name: dock-north, timezone: America/Los_Angeles}}
  - {{uuid: DEMO-gate-east-AAAAAAA, name: gate-east, timezone: America/Los_Angeles}}
views: {{full: {{downscale: 8}}, door: {{downscale: 8, crop: {{x: 20%, y: 30%, width: 60%, height: 70%}}}}}}
windows: [{{start: 2026-06-03T09:00, end: 2026-06-03T13:00}}, {{start: 2026-06-02T12:30, end: 2026-06-02T13:00}}]
sampling: {{strategy: stratified, frames: 80, min_gap: 5s, top_up: true}}
splits: {{by: time, block: 10m, embargo: 10s, fractions: {{train: 0.8, test: 0.2}}}}
output: {{format: FORMAT, frames_per_shard: 50}}
"""


def write_plan(folder: Path, data_format: str = "parquet") -> Path:
    path = folder / "plan.yaml"
    path.write_text(PLAN.format(site=CONFIGS / "demo-site.yaml").replace("FORMAT", data_format))
    return path


@pytest.fixture(scope="module")
def topped_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("topped-up")
    outcome = rhombus_dataset.build(write_plan(folder), folder / "out")
    assert outcome.complete
    assert outcome.planned == sum(outcome.counts.values()) > 160
    return folder / "out"


def test_missing_frames_are_replaced_in_shards_of_their_own(topped_up: Path) -> None:
    rows = pd.read_parquet(topped_up / "manifest")
    first, second = rounds(topped_up, load_lock(topped_up))
    again = rows["frame_id"].isin(second.planned_table(0, len(second)).column("frame_id").to_pylist())
    missing = rows["status"] == "missing"
    assert len(first) == (~again).sum() == 160
    assert again.sum() == len(second) == (missing & ~again).sum() > 10
    names = sorted(path.stem for path in (topped_up / "manifest").glob("*.parquet"))
    assert names == sorted(shard.stem for schedule in (first, second) for shard in schedule.shards)
    assert [name for name in names if "top-up" in name]
    assert rows["frame_id"].is_unique
    # From the same camera and hour, of which there is footage of another day.
    assert set(rows.loc[again, "camera_name"]) == {"gate-east"}
    assert set(rows.loc[again, "status"]) == {"ok", "missing"}
    assert set(rows.loc[again, "split"]) == {"train", "test"}
    assert verify(topped_up).problems == ()
    found = info(topped_up)
    assert found.complete
    assert found.topped_up == len(second)
    assert f"{len(second)} planned frames replace missing ones" in found.to_text()
    rhombus_dataset.report(topped_up)


def test_what_still_lacks_is_told_with_its_reason(topped_up: Path) -> None:
    (shortfall,) = info(topped_up).shortfalls
    assert shortfall["stratum"] == "gate-east, 12:00"
    assert shortfall["wanted"] == 20
    assert 0 < shortfall["available"] < 20
    assert re.fullmatch(r"1 time NO_FOOTAGE_AT_TIMESTAMP|\d+ times NO_FOOTAGE_AT_TIMESTAMP", shortfall["reason"])
    assert f"gate-east, 12:00: {shortfall['available']} of 20: " in info(topped_up).to_text()


def test_a_second_run_draws_nothing_more_and_late_footage_changes_nothing(topped_up: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(topped_up, out)
    again = rhombus_dataset.build(write_plan(tmp_path), out)
    assert (again.requests, again.complete) == (0, True)
    before = rounds(out, load_lock(out))[1].digest
    rhombus_dataset.build(write_plan(tmp_path), out, retry=["missing"])
    assert rounds(out, load_lock(out))[1].digest == before
    assert verify(out).problems == ()
    # ErasedFrames, damaged and repaired, like any other shard.
    rhombus_dataset.erase(out, "dock-north")
    rows = pd.read_parquet(out / "manifest")
    assert set(rows.loc[rows["camera_name"] == "dock-north", "status"]) == {"erased"}
    damaged = max((out / "data").glob("*top-up*"), key=lambda path: path.stat().st_size)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 3] ^= 255
    damaged.write_bytes(content)
    assert rhombus_dataset.verify(out, repair=True).problems
    assert rhombus_dataset.build(write_plan(tmp_path), out).complete
    assert verify(out).problems == ()


@pytest.mark.parametrize("data_format", ["parquet", "jpeg"])
def test_promise_6_stopped_anywhere_it_goes_on_to_the_same_bytes(
    topped_up: Path, tmp_path: Path, data_format: str
) -> None:
    whole = topped_up
    if data_format == "jpeg":
        (tmp_path / "whole").mkdir()
        rhombus_dataset.build(write_plan(tmp_path / "whole", data_format), tmp_path / "whole" / "out")
        whole = tmp_path / "whole" / "out"
    plan, out, runs = write_plan(tmp_path, data_format), tmp_path / "out", 0
    while True:
        stop = threading.Event()
        timer = threading.Timer(0.25, stop.set)
        timer.start()
        outcome = rhombus_dataset.build(plan, out, stop=stop, concurrency=1)
        timer.cancel()
        runs += 1
        if outcome.complete:
            break
    assert runs > 2
    kept = [name for name in files_of(whole) if ".build/" not in name and name != "report.html"]
    assert {name: files_of(out)[name] for name in kept} == {name: files_of(whole)[name] for name in kept}


def test_frames_that_failed_are_not_replaced(tmp_path: Path) -> None:
    site = (CONFIGS / "demo-site.yaml").read_text()
    site += "faults: [{kind: FRAME_RETRIEVAL_FAILED, rate: 1.0, camera: DEMO-gate-east-AAAAAAA}]\n"
    (tmp_path / "site.yaml").write_text(site)
    with running_server(load_site(tmp_path / "site.yaml")) as url:
        limits = "limits: {requests_per_second: 1000, burst: 1000, tries: 1, deadline: 1s}"
        text = PLAN.format(site="x").replace("FORMAT", "parquet")
        text = text.replace("{type: recordings, site: x}", f'{{type: rhombus, url: "{url}", {limits}}}')
        (tmp_path / "plan.yaml").write_text(text.replace("frames: 80", "frames: 12"))
        outcome = rhombus_dataset.build(tmp_path / "plan.yaml", tmp_path / "out")
    assert outcome.complete
    assert outcome.planned == 24
    assert json.loads((tmp_path / "out" / "top-up.json").read_text())["missing"] == {}
    (short,) = [s for s in info(tmp_path / "out").shortfalls if "gate-east, 09:00" in s["stratum"]]
    assert short["available"] == 0


def test_a_strategy_without_a_count_has_no_second_round(tmp_path: Path) -> None:
    text = PLAN.format(site=CONFIGS / "demo-site.yaml").replace("FORMAT", "parquet")
    (tmp_path / "plan.yaml").write_text(
        text.replace("strategy: stratified, frames: 80, min_gap: 5s", "strategy: interval, every: 5m")
    )
    with pytest.raises(InvalidFile, match="top_up"):
        rhombus_dataset.validate(tmp_path / "plan.yaml")


def test_a_damaged_record_is_told(topped_up: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(topped_up, out)
    text = (out / "top-up.json").read_text()
    (out / "top-up.json").write_text(text.replace('"DEMO-gate', '"DEMO-gatf'))
    assert any("top-up.json" in fault.message for fault in verify(out).problems)


# -- laws


def of_camera(schedule: Schedule, count: int) -> list[npt.NDArray[np.int64]]:
    return [np.unique(schedule.timestamp_ms[schedule.camera == i]) for i in range(count)]


@st.composite
def lost_some(draw: st.DrawFn) -> tuple[Lock, list[npt.NDArray[np.int64]]]:
    strategy = draw(st.sampled_from(["random", "stratified"]))
    count = draw(st.integers(5, 120))
    counted = draw(st.sampled_from(["frames", "frames_per_camera"]))
    plan = lock(
        sampling(strategy, **{counted: count}, min_gap=draw(st.sampled_from([1_000, HOUR_MS // 2, 3 * HOUR_MS]))),
        [camera(n) for n in range(draw(st.integers(1, 4)))],
    )
    planned = of_camera(sample(plan), len(plan.cameras))
    share = draw(st.sampled_from([2, 3, 10]))
    # Of the first camera, there may be no footage at all.
    shares = [draw(st.sampled_from([1, share])), *range(share + 1, share + len(planned))]
    return plan, [times[::every] for times, every in zip(planned, shares, strict=True)]


@settings(deadline=None)
@given(lost_some())
def test_others_stand_in_for_what_is_missing(case: tuple[Lock, list[npt.NDArray[np.int64]]]) -> None:
    plan, missing = case
    first, second = sample(plan), sample_more(plan, missing)
    again = sample_more(plan, [times[::-1] for times in missing])
    assert (second is None) == (again is None)
    if second is None or again is None:
        return
    assert second.digest == again.digest
    assert len(second) <= sum(map(len, missing))
    if isinstance(plan.sampling, LockedRandom) and len(missing[0]) == (first.camera == 0).sum():
        assert not (second.camera == 0).any()  # there is no use in asking again
    planned, more = (of_camera(schedule, len(plan.cameras)) for schedule in (first, second))
    assert isinstance(plan.sampling, LockedRandom | LockedStratified)
    gap = plan.sampling.min_gap_ms
    for times, others in zip(planned, more, strict=True):
        assert not np.isin(others, times).any()
        assert (np.diff(np.sort(np.concatenate([times, others]))) >= gap).all()
    # A stratum that has more, and has some, replaces its own.
    if isinstance(plan.sampling, LockedStratified) and gap == 1_000:
        offsets = plan.zones["Here"].offsets
        for lost, times, others in zip(missing, planned, more, strict=True):
            counts = [np.bincount(local_hours(t, offsets), minlength=24) for t in (lost, times, others)]
            assert (counts[2] >= np.where(counts[0] < counts[1], counts[0], 0)).all()
    # It is an order: with more missing, what was drawn for some of it is drawn all the same.
    if isinstance(plan.sampling, LockedRandom):
        fewer = sample_more(plan, [times[: len(times) // 2] for times in missing])
        if fewer is not None:
            few = of_camera(fewer, len(plan.cameras))
            for some, others in zip(few, more, strict=True):
                assert len(some) > len(others) or np.isin(some, others).all()


def test_what_was_scouted_has_spares(tmp_path: Path) -> None:
    """Of a third of all frames there is no footage, of small ones and of full ones."""
    site = (CONFIGS / "demo-site.yaml").read_text() + "faults: [{kind: NO_FOOTAGE_AT_TIMESTAMP, rate: 0.3}]\n"
    (tmp_path / "site.yaml").write_text(site)
    with running_server(load_site(tmp_path / "site.yaml")) as url:
        text = (CONFIGS / "scout.yaml").read_text().replace("quiet: 0.1", "quiet: 0.1, top_up: true")
        (tmp_path / "plan.yaml").write_text(text)
        outcome = rhombus_dataset.build(tmp_path / "plan.yaml", tmp_path / "out", url=url)
    assert outcome.complete
    plan = load_lock(tmp_path / "out")
    first = rounds(tmp_path / "out", plan)[0]
    rows = pd.read_parquet(tmp_path / "out" / "manifest")
    of_first = rows[rows["frame_id"].isin(first.planned_table(0, len(first)).column("frame_id").to_pylist())]
    of_second = rows[~rows["frame_id"].isin(of_first["frame_id"])]
    assert len(of_first) == 30
    lost = of_first[of_first["status"] == "missing"]
    # As far as anything else was new: each camera has a count of its own, and its own spares.
    assert 4 < len(of_second) <= len(lost)
    for name, spares in of_second["camera_name"].value_counts().items():
        assert spares <= (lost["camera_name"] == name).sum()
    assert of_second["chosen_for"].str.match("new|quiet").all()
    assert verify(tmp_path / "out").problems == ()
