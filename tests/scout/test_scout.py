"""Scouting: real clips with quiet hours between them, and a drawn scene of which the truth is known."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import json
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

import rhombus_dataset
from rhombus_dataset.api import info, verify
from rhombus_dataset.errors import InvalidFile, OtherDataset, UsageError
from rhombus_dataset.imaging.drawn_scene import daylight, draw, visible_objects
from rhombus_dataset.plan.loader import load_plan
from rhombus_dataset.planning.lock import LockedScout
from rhombus_dataset.planning.lock_file import load_lock, lock_files
from rhombus_dataset.scout.events import detect_events
from rhombus_dataset.scout.frames import ScoutFrames
from rhombus_dataset.scout.pass_plan import scout_pass
from rhombus_dataset.scout.strata import night_below
from rhombus_dataset.store.layout import SCOUT_FOLDER
from tests.conftest import CONFIGS, NOW_MS, files_of

START = dt.datetime(2026, 6, 1, 6, tzinfo=dt.timezone(dt.timedelta(hours=-7)))
START_MS = int(START.timestamp() * 1000)
HOURS = 3


@dataclass(frozen=True)
class Clip:
    """When something is in the image, in seconds from the clip's start, as seen by eye; the first of its seconds
    are quiet. ``plays`` are when it is shown, in seconds from the start of the footage."""

    events: tuple[tuple[float, float], ...]
    also: tuple[tuple[float, float], ...]
    quiet_s: float
    plays: tuple[float, ...]


CLIPS = {
    "car-detection": Clip(
        ((4.6, 8.8), (14.3, 19.0), (25.2, 28.1)), ((22.8, 23.5),), 3.9, (400.0, 2500.0, 7500.0, 10_100.0)
    ),
    "one-by-one-person-detection": Clip(
        ((5.7, 20.6), (22.6, 44.9), (49.9, 70.7), (74.1, 87.1), (91.6, 120.6), (123.5, 136.8)),
        (),
        4.7,
        (900.0, 8000.0),
    ),
}


def write_frames(path: Path, frames: list[npt.NDArray[np.uint8]], rate: Fraction) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20"}
        for rgb in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def quiet_start(clip: Path, folder: Path, seconds: float) -> tuple[Path, float, float]:
    """The quiet first seconds of a clip as a clip of their own; how long that is, and the clip itself."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate
        assert rate is not None
        frames: list[npt.NDArray[np.uint8]] = []
        for frame in container.decode(stream):
            if len(frames) == int(seconds * rate):
                break
            frames.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
        duration_s = (container.duration or 0) / 1e6
    path = folder / f"quiet-{clip.name}"
    write_frames(path, frames, rate)
    return path, float(len(frames) / rate), duration_s


def recordings(clip: Path, truth: Clip, folder: Path) -> list[dict[str, Any]]:
    """The clip at its times, and its quiet start over and over in between."""
    quiet, quiet_s, clip_s = quiet_start(clip, folder, truth.quiet_s)
    found: list[dict[str, Any]] = []
    at = 0.0
    for play in (*truth.plays, HOURS * 3600.0):
        repeat = int((play - at) / quiet_s)
        found.append({"path": str(quiet), "start": moment(at), "repeat": repeat})
        if play < HOURS * 3600:
            found.append({"path": str(clip), "start": moment(play)})
        at = play + clip_s + 0.01
    return found


def moment(seconds: float) -> str:
    return (START + dt.timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory, clips: list[Path]) -> Path:
    if not clips:
        pytest.skip("no real clips stand beside this checkout; the drawn scene is tested all the same")
    folder = tmp_path_factory.mktemp("street")
    cameras = [
        {"uuid": f"clip-{i}-AAAAAAAAAAAAAAAA"[:22], "name": clip.stem, "location": "HQ",
         "recordings": recordings(clip, CLIPS[clip.stem], folder)}
        for i, clip in enumerate(clips)
    ]  # fmt: skip
    site = {"locations": [{"uuid": "L" * 22, "name": "HQ", "tz": "America/Los_Angeles"}], "cameras": cameras}
    (folder / "site.yaml").write_text(json.dumps(site))
    return folder


def shown(clip: Clip, second: float) -> list[tuple[float, float]]:
    """Which events of which plays are in the image."""
    every = (*clip.events, *clip.also)
    return [(play, start) for play in clip.plays for start, end in every if play + start <= second <= play + end]


def events_of(clip: Clip) -> set[tuple[float, float]]:
    return {(play, start) for play in clip.plays for start, _ in clip.events}


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows, each with ``at``: its time in UTC ms."""
    found = rows.assign(at=rows["timestamp"].astype("int64")).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in found]


def seconds_of(rows: pd.DataFrame) -> list[float]:
    return ((rows["timestamp"].astype("int64") - START_MS) / 1000).tolist()


STREET = """
version: 1
name: street
source: {type: recordings, site: site.yaml}
cameras: CAMERAS
windows: [{start: 2026-06-01T06:00, end: 2026-06-01T09:00}]
sampling: {strategy: scout, every: 2s, downscale: 8, frames_per_camera: 24}
"""


def test_with_two_frames_an_event_every_event_is_covered(street: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = json.loads((street / "site.yaml").read_text())
    cameras = [{"uuid": c["uuid"], "name": c["name"], "timezone": "America/Los_Angeles"} for c in site["cameras"]]
    (street / "plan.yaml").write_text(STREET.replace("CAMERAS", json.dumps(cameras)))
    rhombus_dataset.build(street / "plan.yaml", street / "out")
    rows = rhombus_dataset.open_dataset(street / "out").to_pandas()
    looked = rhombus_dataset.open_dataset(street / "out" / SCOUT_FOLDER)
    small = sum(len(looked[i].read()) for i in range(0, len(looked), 100)) * 100
    full = [len(frame.read()) for frame in rhombus_dataset.open_dataset(street / "out")]
    everything = sum(full) / len(full) * len(looked)
    for name, clip in CLIPS.items():
        picked = [shown(clip, second) for second in seconds_of(rows[rows["camera_name"] == name])]
        steady = [shown(clip, i * HOURS * 3600 / len(picked)) for i in range(len(picked))]
        covered, covered_steadily = ({event for of_one in found for event in of_one} for found in (picked, steady))
        with capsys.disabled():
            print(
                f"\n{name}: {len(picked)} frames cover {len(covered & events_of(clip))} of {len(events_of(clip))} "
                f"events, {sum(map(bool, picked))} show something; interval with as many: "
                f"{len(covered_steadily & events_of(clip))} events, {sum(map(bool, steady))} show something"
            )
        assert len(events_of(clip)) == 12
        assert covered >= events_of(clip)
        assert sum(map(bool, picked)) >= 0.9 * len(picked)
        assert len(covered_steadily & events_of(clip)) < 6
    with capsys.disabled():
        print(f"{(small + sum(full)) / 1e6:.1f} MB, where all in full were {everything / 1e6:.1f} MB")
    assert small + sum(full) < 0.1 * everything
    assert verify(street / "out").problems == ()


WEATHER_S = 10
WEATHER_HOURS = (18.5, 21.5)
WATCHED = "DEMO-watched-AAAAAAAAA"


def small(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.resize(rgb, (640, 360), interpolation=cv2.INTER_AREA), np.uint8)


def weather(folder: Path) -> Path:
    """Three hours of a drawn scene at dusk, a frame in ten seconds: its clock runs, then it rains, and light sweeps
    over it now and then."""
    frames: list[npt.NDArray[np.uint8]] = []
    rng = np.random.default_rng(5)
    across = np.arange(640)
    for number, at in enumerate(weather_times().tolist()):
        rgb = small(draw(WATCHED, at, -7 * 3_600_000))
        if number % 9 == 4:
            # Headlights from outside of the image: a soft beam that lights what is there, in the dark.
            dark = 1 - daylight((at - 7 * 3_600_000) / 3_600_000 % 24)
            beam = 1 + 1.5 * dark * np.exp(-(((across - rng.integers(0, 640)) / 120) ** 2))
            rgb = np.minimum(rgb * beam[None, :, None], 255).astype(np.uint8)
        if number >= 540:
            for x, y in rng.integers(0, (640, 340), (120, 2)).tolist():
                cv2.line(rgb, (x, y), (x + 2, y + 16), (200, 200, 205), 1, cv2.LINE_AA)
        frames.append(rgb)
    path = folder / "weather.mp4"
    write_frames(path, frames, Fraction(1, WEATHER_S))
    return path


def weather_times() -> npt.NDArray[np.int64]:
    midnight = START_MS - 6 * 3_600_000
    start, end = (midnight + int(hour * 3_600_000) for hour in WEATHER_HOURS)
    return np.arange(start, end, WEATHER_S * 1000, dtype=np.int64)


def test_weather_clocks_and_changing_light_do_not_fool_the_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = weather_times()
    recording = {"path": str(weather(tmp_path)), "start": "2026-06-01T18:30:00-07:00"}
    camera = {"uuid": WATCHED, "name": "watched", "location": "HQ", "recordings": [recording]}
    site = {"locations": [{"uuid": "L" * 22, "name": "HQ", "tz": "America/Los_Angeles"}], "cameras": [camera]}
    (tmp_path / "site.yaml").write_text(json.dumps(site))
    plan = {
        "version": 1, "name": "weather", "source": {"type": "recordings", "site": "site.yaml"},
        "cameras": [{"uuid": WATCHED, "name": "watched", "timezone": "America/Los_Angeles"}],
        "windows": [{"start": "2026-06-01T18:30", "end": "2026-06-01T21:30"}],
        "sampling": {"strategy": "scout", "every": "10s", "downscale": 4, "frames": 100, "quiet": 0.0},
    }  # fmt: skip
    (tmp_path / "plan.yaml").write_text(json.dumps(plan))
    rhombus_dataset.build(tmp_path / "plan.yaml", tmp_path / "out")
    seen = detect_events(ScoutFrames(tmp_path / "out" / SCOUT_FOLDER), 0, WEATHER_S * 1000)
    assert seen.timestamp_ms.tolist() == times.tolist()
    there = np.array([bool(visible_objects(WATCHED, t)) for t in times.tolist()])
    # Of who is just coming in, a sliver is to be seen.
    well = np.array(
        [any(p.x > 0 and p.x + p.width < 10_000 for p in visible_objects(WATCHED, t)) for t in times.tolist()]
    )
    new = seen.event >= 0
    told = []
    for name, part in (("dry", slice(0, 540)), ("rain", slice(540, None)), ("beams", slice(4, None, 9))):
        recall = (new & well)[part].sum() / well[part].sum()
        precision = (new & there)[part].sum() / new[part].sum()
        told.append(f"{name}: recall {recall:.2f}, precision {precision:.2f}")
        assert precision >= 0.9
        assert recall >= (0.6 if name == "dry" else 0.4)
    picks = rhombus_dataset.open_dataset(tmp_path / "out").to_pandas()["timestamp"].astype("int64").tolist()
    right = sum(bool(visible_objects(WATCHED, t)) for t in picks)
    with capsys.disabled():
        print(f"\n{'; '.join(told)}; {right} of {len(picks)} picks show somebody")
    assert right >= 0.95 * len(picks)


YARD = """
version: 1
name: yard
seed: 3
source: {{type: {source}}}
cameras:
{cameras}
views:
  full: {{downscale: 4}}
  door: {{downscale: 4, crop: {{x: 20%, y: 30%, width: 60%, height: 70%}}}}
windows: [{{start: 2026-06-02T12:00, end: 2026-06-02T13:00}}]
sampling: {{strategy: scout, every: 20s, downscale: 8, {count}}}
output: {{frames_per_shard: 20}}
"""
CORNER = "[[0, 0], [900, 0], [0, 900]]"
YARD_CAMERAS = {
    name: f"  - {{uuid: {uuid}, name: {name}, timezone: America/Los_Angeles, masks: [{CORNER}]}}"
    for name, uuid in (
        ("dock-north", "DEMO-dock-north-AAAAAA"),
        ("dock-south", "DEMO-dock-south-AAAAAA"),
        ("gate-east", "DEMO-gate-east-AAAAAAA"),
    )
}


def write_yard(
    folder: Path,
    cameras: tuple[str, ...] = ("dock-north", "gate-east"),
    count: str = "frames: 20",
    source: str = f"recordings, site: {CONFIGS / 'demo-site.yaml'}",
) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "plan.yaml"
    listed = "\n".join(YARD_CAMERAS[name] for name in cameras)
    path.write_text(YARD.format(cameras=listed, count=count, source=source))
    return path


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("yard")
    rhombus_dataset.build(write_yard(folder), folder / "out")
    return folder / "out"


def built_files(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset but for its log, its lock file and the address that it came from."""
    return {
        name: content
        for name, content in files_of(folder).items()
        if ".build/" not in name
        and not name.endswith(("plan.yaml", "plan.lock.json", "README.md", "croissant.json"))
    }


def test_promise_1_the_same_plan_picks_the_same_anywhere(yard: Path, tmp_path: Path, demo_url: str) -> None:
    """Over HTTP or not, with any number of requests in flight."""
    limits = "limits: {requests_per_second: 1000, burst: 1000}"
    plan = write_yard(tmp_path, source=f'rhombus, url: "{demo_url}", {limits}')
    rhombus_dataset.build(plan, tmp_path / "out", concurrency=1)
    assert built_files(tmp_path / "out") == built_files(yard)
    assert "plan.lock.parquet" in built_files(yard)
    assert verify(tmp_path / "out").problems == ()


def test_promise_6_stopped_at_any_time_it_goes_on_to_the_same_bytes(yard: Path, tmp_path: Path) -> None:
    plan, out = write_yard(tmp_path), tmp_path / "out"
    runs = 0
    while True:
        stop = threading.Event()
        timer = threading.Timer(0.7, stop.set)
        timer.start()
        outcome = rhombus_dataset.build(plan, out, stop=stop)
        timer.cancel()
        runs += 1
        if outcome.complete:
            break
        assert outcome.out == out
    assert runs > 2
    assert built_files(out) == built_files(yard)


def test_promise_6_killed_at_any_time_it_goes_on_to_the_same_bytes(yard: Path, tmp_path: Path) -> None:
    plan, out = write_yard(tmp_path), tmp_path / "out"
    command = [sys.executable, "-m", "rhombus_dataset", "build", str(plan), "--out", str(out), "--quiet"]
    kills = 0
    for seconds in itertools.chain((1.2 + 0.45 * i for i in range(8)), itertools.repeat(120.0)):
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=seconds)
            break
        except subprocess.TimeoutExpired:  # and is killed with SIGKILL by it
            kills += 1
    assert kills > 0
    assert built_files(out) == built_files(yard)


def test_promise_2_with_counts_per_camera_a_new_camera_changes_nothing_else(tmp_path: Path) -> None:
    chosen: dict[str, list[Any]] = {}
    for cameras in (("dock-north", "gate-east"), ("dock-north", "dock-south", "gate-east")):
        folder = tmp_path / str(len(cameras))
        rhombus_dataset.build(write_yard(folder, cameras, "frames_per_camera: 8"), folder / "out")
        rows = pd.read_parquet(folder / "out" / "manifest")
        for name, of_camera in rows.groupby("camera_name"):
            columns = of_camera[["timestamp", "score", "chosen_for"]].drop_duplicates()
            chosen.setdefault(str(name), []).append(columns.values.tolist())
    assert set(chosen) == set(YARD_CAMERAS)
    for name in ("dock-north", "gate-east"):
        assert chosen[name][0] == chosen[name][1]
        assert len(chosen[name][0]) == 8


def test_the_manifest_says_why(yard: Path) -> None:
    rows = pd.read_parquet(yard / "manifest")
    assert len(rows) == 40
    assert set(rows["deployment"]) == {"first"}
    quiet = rows[rows["chosen_for"].str.startswith("quiet")]
    new = rows[rows["chosen_for"].str.startswith("new")]
    assert len(quiet) == 2
    assert len(quiet) + len(new) == len(rows)
    assert (quiet["score"] == 0).all()
    assert (new["score"] > 0.001).all()
    for row in records(new):
        assert f"new: {100 * row['score']:.1f} % of the picture" in row["chosen_for"]
        assert visible_objects(row["camera_uuid"], row["at"])
    assert "## Selection" in (yard / "README.md").read_text()
    # The pass is a dataset like any other, with the masks of the plan.
    looked = rhombus_dataset.open_dataset(yard / SCOUT_FOLDER)
    assert len(looked) == 360
    assert looked[0].decode()[:4, :4].max() < 16
    assert load_plan(yard / SCOUT_FOLDER / "plan.yaml", NOW_MS) == scout_pass(load_plan(yard / "plan.yaml", NOW_MS))


def test_what_was_chosen_stands_and_other_settings_are_refused(yard: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(yard, out)
    plan = write_yard(tmp_path)
    renamed = plan.read_text().replace("name: yard", "name: yard-2").replace("name: dock-north", "name: north")
    plan.write_text(renamed)
    assert rhombus_dataset.build(plan, out).requests == 0
    for change in (("frames: 20", "frames: 21"), ("seed: 3", "seed: 4"), ("13:00", "12:50")):
        plan.write_text(renamed.replace(*change))
        with pytest.raises(OtherDataset):
            rhombus_dataset.build(plan, out)
    # What was looked at already is not asked for again by another choice.
    plan.write_text(renamed.replace("frames: 20", "frames: 21"))
    assert rhombus_dataset.build(plan, tmp_path / "more", reuse=out).requests <= 4
    # Without its pass, a dataset stands and is whole.
    shutil.rmtree(out / SCOUT_FOLDER)
    plan.write_text(renamed)
    assert rhombus_dataset.build(plan, out).requests == 0
    assert verify(out).problems == ()


def test_a_lock_with_other_picks_than_its_pass_gives_is_found(yard: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(yard, out)
    lock = load_lock(out)
    assert isinstance(lock.sampling, LockedScout)
    result = lock.sampling.result
    times = dataclasses.replace(result.times, score=result.times.score[::-1].copy())
    result = dataclasses.replace(result, times=times)
    changed = dataclasses.replace(lock, sampling=dataclasses.replace(lock.sampling, result=result))
    for name, content in lock_files(changed).items():
        (out / name).write_bytes(content)
    found = verify(out).problems
    assert any(f.file == "plan.lock.json" and "are not those that are selected" in f.message for f in found)
    assert any("why they were chosen" in f.message for f in found)


def test_damage_to_the_pass_is_found_and_mended(yard: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(yard, out)
    (data,) = (out / SCOUT_FOLDER / "data").glob("*.parquet")
    content = bytearray(data.read_bytes())
    content[5000] ^= 255
    data.write_bytes(content)
    report = rhombus_dataset.verify(out, repair=True)
    assert {fault.file for fault in report.problems} == {f"{SCOUT_FOLDER}/data/{data.name}"}
    assert report.lost <= 1
    assert rhombus_dataset.build(write_yard(tmp_path), out).complete
    assert verify(out).problems == ()
    assert built_files(out) == built_files(yard)


def test_what_is_erased_goes_from_the_pass_too(yard: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(yard, out)
    rhombus_dataset.erase(out, "gate-east")
    for folder in (out, out / SCOUT_FOLDER):
        rows = pd.read_parquet(folder / "manifest")
        assert set(rows.loc[rows["camera_name"] == "gate-east", "status"]) == {"erased"}
        assert set(rows.loc[rows["camera_name"] == "dock-north", "status"]) == {"ok"}
    assert verify(out).problems == ()
    assert rhombus_dataset.build(write_yard(tmp_path), out).requests == 0


def test_the_dry_run_tells_what_looking_costs(yard: Path, tmp_path: Path) -> None:
    plan = write_yard(tmp_path)
    summary = rhombus_dataset.dry_run(plan, tmp_path)
    assert summary.scouting is not None
    assert (summary.requests, summary.scouting.moments, summary.scouting.frames) == (360, 20, 40)
    assert summary.scouting.frames_in_full == 720
    text = summary.to_text()
    assert "then      40 frames of up to 20 moments" in text
    assert "scouting saves bytes below" in text
    assert "WARNING" not in text
    with pytest.raises(UsageError, match="once its scout pass is complete"):
        rhombus_dataset.schedule_of(plan)
    # Once it has looked, it knows.
    assert rhombus_dataset.dry_run(plan, yard).frames == 40
    slow = plan.read_text().replace("2026-06-02T12:00, end: 2026-06-02T13", "2026-05-02T12:00, end: 2026-06-02T13")
    slow = slow.replace(f"recordings, site: {CONFIGS / 'demo-site.yaml'}", "rhombus").replace(
        "every: 20s", "every: 2s"
    )
    plan.write_text(slow)
    text = rhombus_dataset.dry_run(plan, tmp_path).to_text()
    assert "WARNING   the rate limit is low: the scout pass takes 148 h" in text
    assert "With every: 50s it takes 6 h" in text
    plan.write_text(slow.replace("frames: 20", "frames: 2000000"))
    assert "scouting does not pay off: from" in rhombus_dataset.dry_run(plan, tmp_path).to_text()


def test_a_camera_without_any_footage_is_told(tmp_path: Path) -> None:
    plan = write_yard(tmp_path, ("dock-north", "gate-east"), "frames: 20")
    text = (
        plan.read_text()
        .replace("2026-06-02T12:00", "2026-06-03T12:30")
        .replace("2026-06-02T13:00", "2026-06-03T13:30")
    )
    plan.write_text(text.replace("views:", "splits: {by: camera, fractions: {train: 1.0}}\nviews:", 1))
    rhombus_dataset.build(plan, tmp_path / "out")
    found = info(tmp_path / "out")
    assert set(found.by_camera) == {"dock-north"}
    short = [s for s in found.shortfalls if s["stratum"].startswith("gate-east")]
    assert [s["stratum"] for s in short] == ["gate-east, 12:00", "gate-east, 13:00"]
    assert all("90 of its 90 small frames are not there (NO_FOOTAGE" in s["reason"] for s in short)
    text = found.to_text()
    assert "scout     " in text
    assert "gate-east, 12:00: 0 of " in text
    rhombus_dataset.report(tmp_path / "out")


def test_a_preview_shows_what_is_looked_at_with_the_plans_crops(tmp_path: Path, demo_url: str) -> None:
    limits = "limits: {requests_per_second: 1000, burst: 1000}"
    plan = write_yard(tmp_path, source=f'rhombus, url: "{demo_url}", {limits}')
    sheet = rhombus_dataset.preview(plan, 4, tmp_path / "sheet.jpg")
    assert sheet.stat().st_size > 10_000


def test_when_nothing_is_new_that_is_said(tmp_path: Path) -> None:
    plan = write_yard(tmp_path, ("dock-north",), "frames: 5, quiet: 0.0")
    text = plan.read_text().replace("T12:00", "T12:00:00").replace("T13:00", "T12:00:40")
    plan.write_text(text)
    with pytest.raises(UsageError, match="there is nothing to choose: none of its 2 small frames"):
        rhombus_dataset.build(plan, tmp_path / "out")


def test_day_and_night_get_their_shares_by_what_the_pass_sees(tmp_path: Path) -> None:
    plan = write_yard(tmp_path, ("dock-north",), "frames: 12, quiet: 0.0, strata: [light, weekday]")
    text = plan.read_text().replace("every: 20s", "every: 60s")
    plan.write_text(text.replace("T12:00", "T16:00").replace("T13:00", "T23:00"))
    rhombus_dataset.build(plan, tmp_path / "out")
    rows = pd.read_parquet(tmp_path / "out" / "manifest")
    looked = pd.read_parquet(tmp_path / "out" / SCOUT_FOLDER / "manifest").set_index("timestamp")["luma"]
    luma = looked[rows.loc[rows["view"] == "full", "timestamp"]]
    # It is dark from about eight, for three hours of seven; the sun goes down over half an hour of them.
    assert len(luma) == 12
    dusk = night_below(looked.to_numpy())
    assert 80 < dusk < 120
    # Even, but for an event more.
    assert min((luma >= dusk).sum(), (luma < dusk).sum()) >= 5
    text = plan.read_text().replace("strategy: scout, every: 60s, downscale: 8,", "strategy: stratified,")
    plan.write_text(text.replace(", quiet: 0.0", ""))
    with pytest.raises(InvalidFile, match="strata"):
        rhombus_dataset.validate(plan)


# -- where a camera was moved


def write_turned(folder: Path, turned: int, count: int, step_s: int) -> None:
    """A camera that is turned at an image: a drawn scene, and then another part of it, the other way up."""
    frames: list[npt.NDArray[np.uint8]] = []
    for i in range(count):
        at = START_MS + i * step_s * 1000
        rgb = small(draw(WATCHED, at, -7 * 3_600_000))
        frames.append(np.ascontiguousarray(rgb[::-1] if i >= turned else rgb))
    write_frames(folder / "turned.mp4", frames, Fraction(1, step_s))
    camera = {
        "uuid": WATCHED, "name": "watched", "location": "HQ",
        "recordings": [{"path": "turned.mp4", "start": START.isoformat()}],
    }  # fmt: skip
    site = {"locations": [{"uuid": "L" * 22, "name": "HQ", "tz": "America/Los_Angeles"}], "cameras": [camera]}
    (folder / "site.yaml").write_text(json.dumps(site))


TURNED = """
version: 1
name: turned
source: {type: recordings, site: site.yaml}
cameras: [{uuid: DEMO-watched-AAAAAAAAA, name: watched, timezone: America/Los_Angeles}]
windows: [{start: 2026-06-01T06:00, end: 2026-06-01T14:00}]
sampling: {strategy: scout, every: 60s, downscale: 4, frames: 30}
splits: {by: deployment, fractions: {train: 0.5, test: 0.5}, assign: {train: ["watched@first"], test: [watched]}}
"""


def test_a_camera_that_was_turned_is_noticed_and_splits_follow(tmp_path: Path) -> None:
    write_turned(tmp_path, 290, 480, 60)
    (tmp_path / "plan.yaml").write_text(TURNED)
    rhombus_dataset.build(tmp_path / "plan.yaml", tmp_path / "out")
    lock = load_lock(tmp_path / "out")
    turned_ms = START_MS + 290 * 60_000
    assert lock.cameras[0].deployments == (turned_ms,)
    rows = pd.read_parquet(tmp_path / "out" / "manifest")
    assert set(rows["deployment"]) == {"first", "2026-06-01T17:50:00Z"}
    assert ((rows["timestamp"].astype("int64") >= turned_ms) == (rows["deployment"] != "first")).all()
    assert ((rows["split"] == "test") == (rows["deployment"] != "first")).all()
    for row in records(rows[rows["score"] > 0]):
        assert visible_objects(WATCHED, row["at"])
    assert verify(tmp_path / "out").problems == ()
    assert (
        "was moved, turned or blocked at 2026-06-01 17:50:00 UTC"
        in rhombus_dataset.dry_run(tmp_path / "plan.yaml", tmp_path / "out").to_text()
    )


def test_deployments_as_the_plan_says(tmp_path: Path) -> None:
    text = TURNED.replace("America/Los_Angeles}]", "America/Los_Angeles, deployments: [2026-06-01T09:30]}]", 1)
    text = text.replace("strategy: scout, every: 60s, downscale: 4, frames: 30", "strategy: interval, every: 10m")
    write_turned(tmp_path, 290, 480, 60)
    (tmp_path / "plan.yaml").write_text(text)
    rhombus_dataset.build(tmp_path / "plan.yaml", tmp_path / "out")
    rows = pd.read_parquet(tmp_path / "out" / "manifest")
    assert "score" not in rows
    assert rows.groupby("deployment")["split"].agg(["size", "first"]).values.tolist() == [
        [27, "test"],
        [21, "train"],
    ]
    assert set(rows["deployment"]) == {"first", "2026-06-01T16:30:00Z"}
    assert verify(tmp_path / "out").problems == ()
    (tmp_path / "plan.yaml").write_text(text.replace('"watched@first"', '"watched@2026-06-01T09:30"'))
    with pytest.raises(UsageError, match=r"watched has no deployment .*it has first, 2026-06-01T16:30:00Z"):
        rhombus_dataset.schedule_of(tmp_path / "plan.yaml")
    # An earlier start of the window, or a later move, changes no frame's split.
    moved = text.replace("[2026-06-01T09:30]", "[2026-06-01T09:30, 2026-06-01T13:00]").replace("assign", "assign")
    (tmp_path / "plan.yaml").write_text(moved.replace("T06:00", "T05:00"))
    later = rhombus_dataset.schedule_of(tmp_path / "plan.yaml")
    split_of = {int(t): later.splits[s] for t, s in zip(later.timestamp_ms, later.split, strict=True)}
    for row in records(rows):
        assert split_of[row["at"]] == row["split"]
