from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rhombus_dataset.errors import DatasetError, InvalidFile
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.plan.local_time import DAY_MS, HOUR_MS
from rhombus_dataset.plan.model import (
    Camera,
    CameraSplits,
    IntervalSampling,
    LocalTime,
    Plan,
    RandomSampling,
    RhombusSource,
    StratifiedSampling,
    TimestampsSampling,
    Window,
)
from rhombus_dataset.planning import lock as locked
from rhombus_dataset.planning.lock import Lock, LockedCamera, LockedTimestamps, Times
from rhombus_dataset.planning.lock_file import load_lock, lock_files
from rhombus_dataset.planning.resolve import FOOTAGE_LAG_MS, resolve
from rhombus_dataset.planning.sampling import sample
from rhombus_dataset.store import layout
from tests.locks import JANUARY_MS, uuid

NOW_MS = JANUARY_MS + 30 * DAY_MS
BERLIN, LOS_ANGELES = "Europe/Berlin", "America/Los_Angeles"


def plan(**given: Any) -> Plan:
    fields: dict[str, Any] = {
        "version": 1,
        "name": "dock",
        "seed": 7,
        "source": RhombusSource(type="rhombus", url="https://example.com"),
        "cameras": (
            Camera(uuid=uuid(2), name="gate", timezone=BERLIN, views=("full",)),
            Camera(
                uuid=uuid(1),
                name="dock",
                timezone=LOS_ANGELES,
                location="HQ",
                views=("full", "same", "door"),
                masks=(((0, 0), (100, 0), (0, 100)),),
            ),
        ),
        "views": {"full": Geometry(2), "same": Geometry(2), "door": Geometry(1, 0, 0, 5000, 5000)},
        "windows": (
            Window(
                start=LocalTime(local=dt.datetime.fromisoformat("2026-01-05")),
                end=LocalTime(local=dt.datetime.fromisoformat("2026-01-07")),
            ),
        ),
        "sampling": IntervalSampling.model_construct(strategy="interval", every=HOUR_MS, jitter=60_000),
    }
    return Plan.model_construct(**{**fields, **given})


def with_times(file: Path, **given: Any) -> Plan:
    return plan(sampling=TimestampsSampling(strategy="timestamps", file=file), **given)


def csv(folder: Path, text: str) -> Path:
    path = folder / "times.csv"
    path.write_text(text)
    return path


def write(folder: Path, lock: Lock) -> None:
    for name, content in lock_files(lock).items():
        (folder / name).write_bytes(content)


def times_of(lock: Lock) -> list[tuple[str, int]]:
    assert lock.times is not None
    return [
        (lock.cameras[c].name, t)
        for c, t in zip(lock.times.camera.tolist(), lock.times.timestamp_ms.tolist(), strict=True)
    ]


def test_cameras_stand_by_uuid_and_views_by_geometry_each_once() -> None:
    """A frame planned twice is one frame: of views with one geometry, the first stands."""
    lock = resolve(plan(), NOW_MS)
    assert [c.name for c in lock.cameras] == ["dock", "gate"]
    assert lock.cameras[0].views == ("door", "full")
    swapped = plan().cameras[1].model_copy(update={"views": ("same", "full")})
    assert resolve(plan(cameras=(swapped,)), NOW_MS).cameras[0].views == ("same",)


def test_a_camera_without_views_gets_all() -> None:
    bare = plan().cameras[1].model_copy(update={"views": ()})
    assert resolve(plan(cameras=(bare,)), NOW_MS).cameras[0].views == ("door", "full")


def test_windows_are_frozen_in_utc_for_each_zone() -> None:
    lock = resolve(plan(), NOW_MS)
    midnight = JANUARY_MS + 4 * DAY_MS
    assert list(lock.zones) == [LOS_ANGELES, BERLIN]
    assert lock.zones[BERLIN].windows == ((midnight - HOUR_MS, midnight + 47 * HOUR_MS),)
    assert lock.zones[LOS_ANGELES].windows == ((midnight + 8 * HOUR_MS, midnight + 56 * HOUR_MS),)


def test_now_is_frozen_less_the_footage_s_lag() -> None:
    window = Window(start=LocalTime(local=dt.datetime.fromisoformat("2026-01-05")), end=LocalTime(now=True))
    lock = resolve(plan(windows=(window,)), NOW_MS)
    assert {z.windows[-1][1] for z in lock.zones.values()} == {NOW_MS - FOOTAGE_LAG_MS}
    assert lock.now_ms == NOW_MS
    # A day later the same plan has more windows, and the old lock has not.
    assert resolve(plan(windows=(window,)), NOW_MS + DAY_MS).zones != lock.zones


def test_a_lock_does_not_tell_when_it_was_made() -> None:
    """Promise 1: but for what ``end: now`` means, the same plan has the same lock tomorrow."""
    assert lock_files(resolve(plan(), NOW_MS + DAY_MS)) == lock_files(resolve(plan(), NOW_MS))
    assert resolve(plan(), NOW_MS).now_ms is None


def test_cameras_are_assigned_by_uuid() -> None:
    splits = CameraSplits.model_construct(
        by="camera", fractions={"train": 0.5, "test": 0.5}, assign={"test": ("gate",), "train": (uuid(1),)}
    )
    lock = resolve(plan(splits=splits), NOW_MS)
    assert lock.splits == locked.CameraSplits(
        (("train", 0.5), ("test", 0.5)), (("test", (uuid(2),)), ("train", (uuid(1),)))
    )


def test_a_lock_from_disk_is_the_lock_that_was_written(tmp_path: Path) -> None:
    """Promise 1: with the same schedule."""
    strategies = [
        plan().sampling,
        RandomSampling(strategy="random", frames=50),
        StratifiedSampling(strategy="stratified", frames_per_camera=30, strata=("hour",)),
    ]
    for sampling in strategies:
        lock = resolve(plan(sampling=sampling), NOW_MS)
        write(tmp_path, lock)
        loaded = load_lock(tmp_path)
        assert loaded == lock
        assert lock_files(loaded) == lock_files(lock)
        assert sample(loaded).digest == sample(lock).digest
    assert layout.LOCK_TIMES_FILE not in lock_files(lock)


def test_a_lock_needs_no_time_zone_database(tmp_path: Path) -> None:
    lock = resolve(plan(), NOW_MS)
    nowhere = {LOS_ANGELES: "Nowhere/At_All", BERLIN: "Nowhere/Else"}
    moved = dataclasses.replace(
        lock,
        cameras=tuple(dataclasses.replace(c, timezone=nowhere[c.timezone]) for c in lock.cameras),
        zones={nowhere[zone]: locked for zone, locked in lock.zones.items()},
    )
    write(tmp_path, moved)
    assert sample(load_lock(tmp_path)).digest == sample(lock).digest


def test_times_are_read_by_name_or_uuid_in_any_form(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        "camera,timestamp\n"
        "dock,2026-01-05T00:00\n"
        f"{uuid(2)},2026-01-05T00:00+01:00\n"
        f"{uuid(1).removesuffix('.v0')},2026-01-05T08:00:01.5Z\n"
        "gate,2026-01-06\n",
    )
    midnight = JANUARY_MS + 4 * DAY_MS
    lock = resolve(with_times(path), NOW_MS)
    assert times_of(lock) == [
        ("dock", midnight + 8 * HOUR_MS),
        ("dock", midnight + 8 * HOUR_MS + 1500),
        ("gate", midnight - HOUR_MS),
        ("gate", midnight + 23 * HOUR_MS),
    ]
    assert lock.notes == ()


@pytest.mark.parametrize("column", ["timestamp_ms", "timestamp"])
def test_parquet_times(tmp_path: Path, column: str) -> None:
    times = [JANUARY_MS + 5 * DAY_MS + n * 1000 for n in range(3)]
    values = times if column == "timestamp_ms" else pd.to_datetime(times, unit="ms", utc=True)
    path = tmp_path / "times.parquet"
    pd.DataFrame({"camera": "gate", column: values}).to_parquet(path)
    assert times_of(resolve(with_times(path), NOW_MS)) == [("gate", t) for t in times]


def test_times_outside_the_windows_and_repeated_ones_are_counted(tmp_path: Path) -> None:
    inside = JANUARY_MS + 5 * DAY_MS
    rows = [("dock", inside), ("gate", inside), ("dock", inside), ("dock", JANUARY_MS), ("gate", NOW_MS)]
    path = csv(tmp_path, "camera,timestamp_ms\n" + "".join(f"{name},{t}\n" for name, t in [*rows, rows[3]]))
    lock = resolve(with_times(path), NOW_MS)
    assert times_of(lock) == [("dock", inside), ("gate", inside)]
    assert [note.split(" of ")[0] for note in lock.notes] == ["2 times", "2 times"]
    assert sample(lock).notes == lock.notes
    everywhere = resolve(with_times(path, windows=()), NOW_MS)
    assert len(times_of(everywhere)) == 4
    assert len(sample(everywhere)) == 2 * 2 + 2


def test_every_mistake_of_a_times_file_is_told_with_its_line(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        "camera,timestamp\ndok,2026-01-05T00:00\ndock,yesterday\ngate,2026-01-05T00:00\ngate,2027-01-05T00:00\n",
    )
    with pytest.raises(InvalidFile) as caught:
        resolve(with_times(path), NOW_MS)
    problems = caught.value.problems
    assert [p.line for p in problems] == [2, 3, 5]
    assert "did you mean dock" in problems[0].message
    assert "expected ISO 8601" in problems[1].message
    assert "future" in problems[2].message
    assert all(p.file == str(path) for p in problems)


def test_at_most_fifty_mistakes_are_told(tmp_path: Path) -> None:
    path = csv(tmp_path, "camera,timestamp_ms\n" + "dock,soon\n" * 500)
    with pytest.raises(InvalidFile) as caught:
        resolve(with_times(path), NOW_MS)
    assert len(caught.value.problems) == 50


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("camera,timestamp_ms\n", "no rows"),
        ("name,timestamp_ms\ndock,1\n", "expected a column camera"),
        ("camera,time\ndock,1\n", "expected a column timestamp_ms or timestamp"),
    ],
)
def test_a_times_file_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidFile, match=said):
        resolve(with_times(csv(tmp_path, text)), NOW_MS)


def locked_times() -> Lock:
    lock = resolve(plan(), NOW_MS)
    times = Times(np.array([0, 1, 1], np.int32), JANUARY_MS + np.array([5, 6, 7], np.int64))
    return dataclasses.replace(lock, sampling=LockedTimestamps(times))


def test_times_live_beside_the_lock_and_come_back(tmp_path: Path) -> None:
    lock = locked_times()
    write(tmp_path, lock)
    loaded = load_lock(tmp_path)
    assert loaded == lock
    assert sample(loaded).digest == sample(lock).digest
    assert lock.times is not None
    other = dataclasses.replace(
        lock, sampling=LockedTimestamps(Times(lock.times.camera, lock.times.timestamp_ms + 1))
    )
    assert loaded != other
    assert loaded != resolve(plan(), NOW_MS)


def test_nothing_in_a_dataset_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no dataset here"):
        load_lock(tmp_path)


def test_a_missing_or_other_times_file_is_found(tmp_path: Path) -> None:
    write(tmp_path, locked_times())
    path = tmp_path / layout.LOCK_TIMES_FILE
    whole = path.read_bytes()
    others = dataclasses.replace(
        locked_times(), sampling=LockedTimestamps(Times(np.zeros(1, np.int32), np.zeros(1, np.int64)))
    )
    for content in (whole[:-10], b"", lock_files(others)[layout.LOCK_TIMES_FILE]):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=layout.LOCK_TIMES_FILE):
            load_lock(tmp_path)
    path.unlink()
    with pytest.raises(DatasetError, match="missing"):
        load_lock(tmp_path)


def test_every_damaged_lock_is_refused(tmp_path: Path) -> None:
    """Whatever byte of it changes, and however odd the JSON is."""
    whole = lock_files(resolve(plan(), NOW_MS))[layout.LOCK_FILE]
    path = tmp_path / layout.LOCK_FILE
    content = json.loads(whole)
    damaged = [b"", b"[]", b"{}", b'"x"', b"\xff", b"[" * 100_000, whole[: len(whole) // 2]]
    damaged += [json.dumps({**content, key: []}).encode() for key in content if content[key] != []]
    damaged += [json.dumps({k: v for k, v in content.items() if k != key}).encode() for key in content]
    for at in range(0, len(whole), 7):
        if whole[at : at + 1].isalnum():
            damaged.append(whole[:at] + (b"1" if whole[at : at + 1] != b"1" else b"2") + whole[at + 1 :])
    for text in damaged:
        path.write_bytes(text)
        with pytest.raises(DatasetError, match=layout.LOCK_FILE):
            load_lock(tmp_path)
    path.write_bytes(whole)
    assert load_lock(tmp_path).cameras[0] == LockedCamera(
        uuid(1), "dock", "HQ", LOS_ANGELES, ("door", "full"), (((0, 0), (100, 0), (0, 100)),)
    )


def test_a_lock_of_another_version_says_so(tmp_path: Path) -> None:
    content = json.loads(lock_files(resolve(plan(), NOW_MS))[layout.LOCK_FILE])
    (tmp_path / layout.LOCK_FILE).write_text(json.dumps({**content, "lock_version": 2}))
    with pytest.raises(DatasetError, match="expected lock version 1, got 2"):
        load_lock(tmp_path)
