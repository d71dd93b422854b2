from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rhombus_dataset.frame import frame_id
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.plan.local_time import DAY_MS, HOUR_MS
from rhombus_dataset.planning.lock import Lock, LockedSource, LockedZone, Strategy, TimeSplits
from rhombus_dataset.planning.sampling import sample
from rhombus_dataset.planning.schedule import Schedule
from rhombus_dataset.store import schema
from tests.locks import JANUARY_MS, camera, lock, sampling, uuid

BY_TIME = TimeSplits(6 * HOUR_MS, 0, (("train", 0.5), ("val", 0.3), ("test", 0.2)))


def some_lock(**given: Any) -> Lock:
    """Three cameras, one with two views, over all splits."""
    cameras = [camera(3), camera(1, views=("full", "door")), camera(2, views=("door",))]
    return lock(sampling("interval"), given.pop("cameras", cameras), **{"splits": BY_TIME, **given})


def rows(schedule: Schedule) -> list[tuple[int, int, str, Geometry]]:
    requests = [schedule.request(row) for row in range(len(schedule))]
    return [
        (int(split), r.timestamp_ms, r.camera_uuid, r.geometry)
        for split, r in zip(schedule.split, requests, strict=True)
    ]


def test_rows_stand_by_split_time_camera_and_geometry() -> None:
    schedule = sample(some_lock())
    assert rows(schedule) == sorted(set(rows(schedule)))
    assert schedule.splits == ("train", "val", "test")
    assert len(schedule) == 7 * 24 * 4


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 1000))
def test_shards_part_the_rows(frames_per_shard: int) -> None:
    """Every row in one shard, and no shard of two splits."""
    schedule = sample(some_lock(frames_per_shard=frames_per_shard))
    assert [s.start for s in schedule.shards] == [0, *(s.stop for s in schedule.shards[:-1])]
    assert schedule.shards[-1].stop == len(schedule)
    for name, group in itertools.groupby(schedule.shards, key=lambda s: s.split):
        shards = list(group)
        assert [s.index for s in shards] == list(range(len(shards)))
        assert {s.count for s in shards} == {len(shards)}
        assert {s.stop - s.start for s in shards[:-1]} <= {frames_per_shard}
        assert 0 < shards[-1].stop - shards[-1].start <= frames_per_shard
        for s in shards:
            assert {schedule.splits[i] for i in schedule.split[s.start : s.stop]} == {name}


def test_shards_have_names_and_are_built_oldest_footage_first() -> None:
    schedule = sample(some_lock(frames_per_shard=100))
    assert schedule.shards[0].stem == f"train-00000-of-{schedule.shards[0].count:05d}"
    order = schedule.build_order()
    assert sorted(order, key=lambda s: s.start) == list(schedule.shards)
    first = [int(schedule.timestamp_ms[s.start]) for s in order]
    assert first == sorted(first)


def test_the_planned_table_tells_each_row() -> None:
    schedule = sample(some_lock())
    table = schedule.planned_table(10, 90)
    assert table.schema == pa.schema(list(schema.PLANNED))
    for row, found in enumerate(table.to_pylist(), 10):
        request, of = schedule.request(row), schedule.camera_of(row)
        g = request.geometry
        assert found == {
            "frame_id": frame_id(request.camera_uuid, request.timestamp_ms, g),
            "split": schedule.splits[schedule.split[row]],
            "camera_uuid": request.camera_uuid,
            "camera_name": of.name,
            "location": "HQ",
            "timestamp": dt.datetime.fromtimestamp(request.timestamp_ms / 1000, dt.UTC),
            "timezone": "Here",
            "view": "full" if g.downscale == 2 else "door",
            "downscale": g.downscale,
            "crop_x": g.crop_x,
            "crop_y": g.crop_y,
            "crop_width": g.crop_width,
            "crop_height": g.crop_height,
        }
    assert schedule.planned_table(5, 5).num_rows == 0


def test_local_times_come_from_the_lock() -> None:
    """Of a zone that no database knows, on both sides of its change."""
    schedule = sample(some_lock(splits=None))
    assert schedule.local_time(0) == dt.datetime(2025, 12, 31, 16, tzinfo=dt.timezone(dt.timedelta(hours=-8)))
    last = schedule.local_time(len(schedule) - 1)
    assert last.utcoffset() == dt.timedelta(hours=-7)
    assert schedule.local_hours().tolist() == [schedule.local_time(r).hour for r in range(len(schedule))]


def test_local_hours_of_two_zones() -> None:
    two = lock(sampling("interval"), [camera(1), camera(2, "There")])
    there = LockedZone(((two.zones["There"].offsets[0][0], 5 * HOUR_MS),), two.zones["There"].windows)
    schedule = sample(dataclasses.replace(two, zones={**two.zones, "There": there}))
    assert schedule.local_hours().tolist() == [schedule.local_time(r).hour for r in range(len(schedule))]


def renamed(old: Lock) -> Lock:
    """The same frames under other names, from another address."""
    names = {name: f"new-{name}" for name in old.views}
    return dataclasses.replace(
        old,
        name="other",
        now_ms=(old.now_ms or 0) + 1,
        source=LockedSource("recordings"),
        views={names[name]: geometry for name, geometry in reversed(old.views.items())},
        cameras=tuple(
            dataclasses.replace(
                c, name=f"new {c.name}", location=None, views=tuple(names[view] for view in c.views)
            )
            for c in old.cameras
        ),
    )


def test_the_digest_names_the_frames_and_nothing_else() -> None:
    """Not names or addresses, so changing those does not stop a resume."""
    assert sample(renamed(some_lock())).digest == sample(some_lock()).digest


def masked(old: Lock) -> Lock:
    mask = ((0, 0), (100, 0), (0, 100))
    return dataclasses.replace(old, cameras=(dataclasses.replace(old.cameras[0], masks=(mask,)), *old.cameras[1:]))


@pytest.mark.parametrize(
    "other",
    [
        some_lock(seed=8),
        some_lock(splits=None),
        some_lock(frames_per_shard=999),
        some_lock(data_format="jpeg"),
        some_lock(cameras=[camera(1, views=("full", "door")), camera(2, views=("door",)), camera(4)]),
        some_lock(cameras=[camera(1, views=("full", "door")), camera(2, views=("full",)), camera(3)]),
        some_lock(windows=((JANUARY_MS, JANUARY_MS + 6 * DAY_MS),)),
        some_lock(splits=dataclasses.replace(BY_TIME, fractions=(("train", 0.5), ("dev", 0.3), ("test", 0.2)))),
        masked(some_lock()),
    ],
)
def test_the_digest_changes_with_what_is_built(other: Lock) -> None:
    assert sample(other).digest != sample(some_lock()).digest


def test_the_digest_does_not_change_between_versions() -> None:
    """Promise 1. Where this fails, every dataset that is being built can no longer be resumed."""
    assert sample(some_lock()).digest == "b06f16baef61be53c76aa392369813bee17fa16a471341456fa6d8ba75c7a51a"


def test_masks_of_a_row() -> None:
    schedule = sample(masked(some_lock()))
    for row in range(0, len(schedule), 37):
        assert bool(schedule.masks(row)) == (schedule.request(row).camera_uuid == uuid(1))


@pytest.mark.parametrize(
    "strategy",
    [
        sampling("interval", every=1500, jitter=700),
        sampling("random", frames=200_000),
        sampling("stratified", frames_per_camera=100_000),
        sampling("stratified", frames=200_000, strata=["hour"]),
        sampling("burst", bursts=50_000, frames_per_burst=4, spacing=250, min_gap=500),
    ],
    ids=lambda s: s.strategy,
)
def test_planning_takes_at_most_50_bytes_a_frame(strategy: Strategy) -> None:
    """Promise 8: with 8 MB that do not grow with the plan."""
    plan = lock(strategy, [camera(1), camera(2)], splits=dataclasses.replace(BY_TIME, embargo_ms=60_000))
    sample(lock(sampling("interval")))  # whatever is only made once
    tracemalloc.start()
    try:
        schedule = sample(plan)
        assert schedule.digest
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(schedule) > 150_000
    assert peak <= 8_000_000 + 50 * len(schedule)
    columns = (schedule.timestamp_ms, schedule.camera, schedule.view, schedule.split)
    assert [c.dtype for c in columns] == [np.int64, np.int32, np.uint16, np.uint8]
