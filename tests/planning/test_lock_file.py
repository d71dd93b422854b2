"""The files of a lock: the same bytes in every version, and no traceback, however they are damaged."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.hashing import json_sha256
from rhombus_dataset.plan.loader import load_plan
from rhombus_dataset.plan.model import Plan
from rhombus_dataset.planning.lock import (
    SAMPLING_VERSION,
    Lock,
    LockedScout,
    ScoutResult,
    ScoutTimes,
    Selection,
    Shortfall,
)
from rhombus_dataset.planning.lock_file import load_lock, lock_files
from rhombus_dataset.planning.resolve import resolve, scout_inputs_sha256
from rhombus_dataset.planning.sampling import sample
from rhombus_dataset.store import layout

NOW_MS = 1_790_000_000_000  # 2026-09-21
NOON_MS = 1_780_315_200_000  # 2026-06-01T12:00Z
DOCK, GATE = f"{'A' * 22}.v0", f"{'B' * 22}.v0"
PLAN = """
version: 1
name: Dock-1
seed: 7
source: {type: rhombus}
cameras:
  - {uuid: BBBBBBBBBBBBBBBBBBBBBB, name: gate, location: Yard, timezone: Europe/Berlin}
  - {uuid: AAAAAAAAAAAAAAAAAAAAAA, name: dock, location: HQ, timezone: America/Los_Angeles,
     masks: [[[0, 0], [900, 0], [0, 900]]], deployments: [2026-06-02T03:00:00.5]}
views: {full: {downscale: 2}, door: {crop: {x: 25%, y: 10%, width: 50%, height: 60%}}}
windows: [{start: 2026-06-01, end: 2026-06-03, daily: ["06:00-20:00"]}]
"""
TIMES = "camera,timestamp_ms,shift\n" + "".join(
    f"{camera},{NOON_MS + minute * 60_000},{shift}\n"
    for minute, (camera, shift) in enumerate(
        [("dock", "early"), ("gate", "night"), ("dock", "late"), ("gate", "früh")]
    )
)
OLD_LOCKS = json.loads((Path(__file__).parent / "old_locks.json").read_text(encoding="utf-8"))
"""Plans, and of the lock file that each had before locks were typed: a part, and the start of its SHA-256. Their
times were drawn by version 1 of sampling, which was not named."""
INTERVAL = "sampling: {strategy: interval, every: 10m, jitter: 30s}"
FROM_FILE = "sampling: {strategy: timestamps, file: times.csv}"
SCOUT = "sampling: {strategy: scout, every: 20s, frames: 3, quiet: 0.0, top_up: true}"


def locked(folder: Path, text: str, version: int = SAMPLING_VERSION) -> Lock:
    (folder / "times.csv").write_text(TIMES)
    (folder / "plan.yaml").write_text(PLAN + text)
    plan = load_plan(folder / "plan.yaml", NOW_MS)
    return resolve(plan, NOW_MS, selection(plan) if "strategy: scout" in text else None, version)


def selection(plan: Plan) -> Selection:
    """Three chosen times and a spare one, as if from a scout pass."""
    times = ScoutTimes(
        np.array([0, 0, 1, 1], np.int32),
        NOON_MS + np.array([0, 20_000, 0, 60_000], np.int64),
        np.array([0.5, 0.25, 0, 0.125]),
        np.array([0, 1, 2, 1], np.int32),
        ("new: a", "new: b", "quiet: nothing is new"),
        np.array([1, 3, 0, 2], np.int32),
    )
    result = ScoutResult(
        times,
        content_sha256="c0",
        pass_frames=360,
        pass_ok=350,
        new=20,
        events=9,
        covered=8,
        chosen=3,
        shortfalls=(Shortfall("dock", 6, 1, 2, None, "night", "nothing more in it is new"),),
        notes=("1 of 2 frames were chosen",),
        inputs_sha256=scout_inputs_sha256(plan, NOW_MS),
    )
    return Selection(result, {DOCK: (5,), GATE: (NOON_MS + 30_000,)})


def write(folder: Path, lock: Lock) -> bytes:
    for name, content in lock_files(lock).items():
        (folder / name).write_bytes(content)
    return (folder / layout.LOCK_FILE).read_bytes()


@pytest.mark.parametrize("old", OLD_LOCKS)
def test_the_same_plan_has_the_same_lock_file_in_every_version(tmp_path: Path, old: dict[str, str]) -> None:
    """Including the order of keys. The digests are of files of an earlier version, so those files are read too."""
    lock = locked(tmp_path, old["plan"], version=1)
    content = write(tmp_path, lock)
    assert json.dumps(json.loads(content)[old["part"]]) == json.dumps(old["written"])
    assert hashlib.sha256(content).hexdigest()[:20] == old["sha256"]
    loaded = load_lock(tmp_path)
    assert loaded == lock
    assert lock_files(loaded) == lock_files(lock)


BURST = "burst, bursts: 6, frames_per_burst: 4, spacing: 250ms"


@pytest.mark.parametrize("strategy", ["random, frames: 50", "stratified, frames: 5", BURST])
def test_the_lock_names_the_version_of_sampling(tmp_path: Path, strategy: str) -> None:
    """Without a version it is 1. A version that this program does not have is refused."""
    lock = locked(tmp_path, f"sampling: {{strategy: {strategy}}}")
    content = write(tmp_path, lock)
    assert json.loads(content)["sampling"]["version"] == lock.sampling_version == SAMPLING_VERSION
    assert load_lock(tmp_path) == lock
    old = locked(tmp_path, f"sampling: {{strategy: {strategy}}}", version=1)
    assert "version" not in json.loads(write(tmp_path, old))["sampling"]
    assert load_lock(tmp_path).sampling_version == 1
    assert sample(old).digest != sample(lock).digest
    later = json.loads(content)
    later["sampling"]["version"] = SAMPLING_VERSION + 1
    later["sha256"] = json_sha256({key: value for key, value in later.items() if key != "sha256"})
    (tmp_path / layout.LOCK_FILE).write_text(json.dumps(later))
    with pytest.raises(DatasetError, match=r"sampling\.version"):
        load_lock(tmp_path)


def test_what_was_scouted_comes_back(tmp_path: Path) -> None:
    write(tmp_path, locked(tmp_path, SCOUT))
    lock = load_lock(tmp_path)
    assert isinstance(lock.sampling, LockedScout)
    assert list(json.loads((tmp_path / layout.LOCK_FILE).read_bytes())["scout"]) == [
        field.name for field in dataclasses.fields(ScoutResult) if field.name != "times"
    ]
    assert lock.selection is not None
    assert lock.selection.deployments == {DOCK: (1_780_394_400_500,), GATE: (NOON_MS + 30_000,)}
    schedule = sample(lock)
    assert len(schedule) == 2 * 3
    assert schedule.more_columns(0, 2)["chosen_for"].to_pylist() == ["new: a"] * 2


# -- damage

EVERYTHING = [
    f"{INTERVAL}\nsplits: {{by: time, block: 1h, embargo: 5m, fractions: {{train: 0.8, test: 0.2}}}}\n"
    "dedup: {within: 5m}",
    "sampling: {strategy: random, frames: 50, top_up: true}\n"
    "splits: {by: camera, fractions: {a: 0.5, b: 0.5}, assign: {a: [gate]}}",
    "sampling: {strategy: stratified, frames_per_camera: 5}\nsplits: {by: location, fractions: {a: 0.5, b: 0.5}}",
    "sampling: {strategy: burst, bursts: 6, frames_per_burst: 4, spacing: 250ms}\n"
    "splits: {by: deployment, fractions: {a: 1.0}}",
    f"{FROM_FILE}\nsplits: {{by: column, column: shift, fractions: {{train: 0.6, test: 0.4}}}}",
    SCOUT,
]


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value of a JSON document."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, part in steps:
        yield (*place, step)
        yield from places(part, (*place, step))


def rewrite(folder: Path, content: dict[str, Any]) -> None:
    """Write a lock file whose checksum matches its content."""
    plain = {name: value for name, value in content.items() if name != "sha256"}
    (folder / layout.LOCK_FILE).write_text(json.dumps({**plain, "sha256": json_sha256(plain)}))


OPTIONAL = {"url", "version", "deployments", "dedup", "top_up", "weekday", "light", "reason"}
NAMED_BY_THE_PLAN = [["views"], ["assign"], ["fractions"]]


@pytest.mark.parametrize("text", EVERYTHING)
def test_a_damaged_lock_with_the_right_checksum_is_refused(tmp_path: Path, text: str) -> None:
    """Whatever value is missing or of another type."""
    content = json.loads(write(tmp_path, locked(tmp_path, text)))
    for *steps, last in list(places(content)):
        if last == "sha256":
            continue
        for change in ("of another type", "missing"):
            damaged = copy.deepcopy(content)
            holder = damaged
            for step in steps:
                holder = holder[step]
            if change == "of another type":
                holder[last] = {"odd": True}
            elif isinstance(holder, dict) and last not in OPTIONAL and steps[-1:] not in NAMED_BY_THE_PLAN:
                del holder[last]
            else:
                continue
            rewrite(tmp_path, damaged)
            with pytest.raises(DatasetError, match=layout.LOCK_FILE):
                load_lock(tmp_path)


@pytest.mark.parametrize(
    ("text", "place", "value", "problem"),
    [
        (INTERVAL, ("sampling", "every"), 0, "sampling.every: expected a whole number from 1 to"),
        (INTERVAL, ("sampling", "every"), 2**63, "sampling.every: expected a whole number from 1 to"),
        (INTERVAL, ("sampling", "every"), True, "sampling.every: expected a whole number"),
        (INTERVAL, ("sampling", "strategy"), "timestamps", "expected the times of a timestamps file"),
        (INTERVAL, ("cameras", 0, "timezone"), "Mars", "dock: no zone 'Mars' in the lock"),
        (INTERVAL, ("cameras", 0, "views"), ["side"], "dock: no view 'side' in the lock"),
        (
            INTERVAL,
            ("cameras", 0, "masks"),
            [[[1, 2, 3]]],
            r"cameras\[0\].masks\[0\]\[0\]: expected two whole numbers",
        ),
        (INTERVAL, ("cameras",), [], "cameras: expected at least one"),
        (INTERVAL, ("zones", "Europe/Berlin", "offsets"), [], "zones: expected at least one offset"),
        (INTERVAL, ("views", "full", "crop_width"), 0, "crop leaves the frame"),
        (INTERVAL, ("data_format",), "tar", "data_format: expected parquet or jpeg, got 'tar'"),
        (EVERYTHING[0], ("splits", "fractions"), {}, "splits.fractions: expected 1 to 255 splits"),
        (EVERYTHING[0], ("splits", "fractions"), {"a": 10**400}, "splits.fractions.a: expected a number"),
        (SCOUT, ("sampling", "quiet"), float("nan"), "sampling.quiet: expected a number, got nan"),
        (EVERYTHING[0], ("splits", "by"), "hour", "splits.by: expected a kind of split|splits.assign is missing"),
        (EVERYTHING[1], ("sampling", "frames_per_camera"), 5, "expected one of frames and frames_per_camera"),
        (FROM_FILE, ("sampling", "strategy"), "scout", "expected the times of a scout pass"),
        (
            FROM_FILE,
            ("splits",),
            {"by": "column", "column": "x", "fractions": {"a": 1}, "assign": {}},
            "the column group",
        ),
        (FROM_FILE, ("cameras",), None, "cameras: expected a list, got None"),
        (SCOUT, ("sampling", "strategy"), "timestamps", "expected the times of a timestamps file"),
        (SCOUT, ("scout", "shortfalls", 0, "weekday"), 7, "weekday: expected a whole number from 0 to 6"),
    ],
)
def test_a_damaged_value_is_told_with_its_place(
    tmp_path: Path, text: str, place: tuple[Any, ...], value: Any, problem: str
) -> None:
    content = json.loads(write(tmp_path, locked(tmp_path, text)))
    holder = content
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value
    rewrite(tmp_path, content)
    with pytest.raises(DatasetError, match=f"{layout.LOCK_FILE}: damaged: .*({problem})"):
        load_lock(tmp_path)


def test_times_of_a_camera_that_the_lock_does_not_have(tmp_path: Path) -> None:
    content = json.loads(write(tmp_path, locked(tmp_path, FROM_FILE)))
    rewrite(tmp_path, {**content, "cameras": content["cameras"][:1]})
    with pytest.raises(DatasetError, match="names a camera that the lock does not have"):
        load_lock(tmp_path)
