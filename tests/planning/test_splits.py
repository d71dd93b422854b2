from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rhombus_dataset.errors import InvalidFile, UsageError
from rhombus_dataset.plan.loader import load_plan
from rhombus_dataset.plan.local_time import DAY_MS, HOUR_MS, Intervals, merged
from rhombus_dataset.planning.lock import Assignments, CameraSplits, Fractions, LocationSplits, Lock, TimeSplits
from rhombus_dataset.planning.lock_file import load_lock, lock_files
from rhombus_dataset.planning.resolve import inside, resolve
from rhombus_dataset.planning.sampling import sample
from rhombus_dataset.planning.splits import (
    count_blocks,
    embargoed,
    split_index,
    split_names,
    split_of_group,
    splits_by_time,
    without_embargo,
)
from tests.conftest import NOW_MS
from tests.locks import JANUARY_MS, WEEK, by_camera, camera, lock, sampling, uuid

FRACTIONS = (("train", 0.8), ("validation", 0.1), ("test", 0.1))


def by_time(block_ms: int = HOUR_MS, embargo_ms: int = 0, fractions: Fractions = FRACTIONS) -> TimeSplits:
    return TimeSplits(block_ms, embargo_ms, fractions)


def cameras_apart(fractions: Fractions = FRACTIONS, assign: Assignments = ()) -> CameraSplits:
    return CameraSplits(fractions, assign)


intervals_of_minutes = st.lists(st.tuples(st.integers(-300, 300), st.integers(1, 120)), min_size=1, max_size=5).map(
    lambda pairs: merged((a * 1000, (a + n) * 1000) for a, n in pairs)
)
splits_of_seconds = st.integers(1, 60).flatmap(
    lambda block: st.builds(
        by_time,
        block_ms=st.just(block * 1000),
        embargo_ms=st.integers(0, block * 1000 - 1),
        fractions=st.just((("a", 0.4), ("b", 0.3), ("c", 0.3))),
    )
)


def test_fractions_are_thresholds_of_the_whole_range() -> None:
    ends = np.array([0, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)
    assert split_index(ends, (("a", 0.25), ("b", 0.25), ("c", 0.5))).tolist() == [0, 0, 1, 1, 2, 2]
    assert split_index(ends, (("all_of_it", 1.0),)).tolist() == [0] * 6


def test_blocks_fall_into_the_splits_by_their_fractions() -> None:
    times = np.arange(20_000, dtype=np.int64) * HOUR_MS
    shares = np.bincount(splits_by_time(times, by_time(), seed=3)) / len(times)
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)


@given(st.integers(-10, 10), st.integers(1, 10_000), st.integers(0, 2**63 - 1))
def test_a_block_is_of_one_split(block_index: int, block: int, seed: int) -> None:
    first = block_index * block
    ends = np.array([first, first + block - 1], np.int64)
    assert len(set(splits_by_time(ends, by_time(block), seed).tolist())) == 1


@pytest.mark.slow
@settings(deadline=None)
@given(intervals_of_minutes, splits_of_seconds, st.integers(0, 1000))
def test_times_of_different_splits_are_the_embargo_apart(
    intervals: Intervals, splits: TimeSplits, seed: int
) -> None:
    """No leakage: whatever is drawn from what is left, and nothing is taken out without need."""
    left = without_embargo(intervals, splits, seed)
    assert left == merged(left)
    # The times that matter: the ends of what is left, and of every block in it.
    ends = [t for a, b in left for t in (a, b - 1)]
    ends += [
        t
        for a, b in left
        for edge in range(a // splits.block_ms * splits.block_ms, b + 1, splits.block_ms)
        for t in (edge - 1, edge)
        if a <= t < b
    ]
    times = np.array(sorted(ends), np.int64)
    split = splits_by_time(times, splits, seed)
    apart = np.abs(times[:, None] - times[None, :])
    different = split[:, None] != split[None, :]
    assert not (different & (apart < splits.embargo_ms)).any()
    # What was taken out is near to a change of split.
    half = -(-splits.embargo_ms // 2)
    for a, b in merged(intervals):
        for t in range(a, b, 499):
            if not inside(np.array([t]), left)[0]:
                near = np.arange(t - half, t + half + 1, dtype=np.int64)
                assert len(set(splits_by_time(near, splits, seed).tolist())) > 1


@settings(deadline=None)
@given(intervals_of_minutes, splits_of_seconds, st.integers(0, 1000))
def test_a_time_is_embargoed_where_the_windows_lose_it(intervals: Intervals, splits: TimeSplits, seed: int) -> None:
    times = np.array([t for a, b in intervals for t in range(a, b, 97)], np.int64)
    left = inside(times, without_embargo(intervals, splits, seed))
    assert (embargoed(times, splits, seed) == ~left).all()


@given(intervals_of_minutes, intervals_of_minutes, splits_of_seconds)
def test_a_longer_window_keeps_every_embargo(a: Intervals, b: Intervals, splits: TimeSplits) -> None:
    """Promise 2."""
    both = without_embargo(merged([*a, *b]), splits, 1)
    alone = without_embargo(a, splits, 1)
    times = np.array([t for start, end in a for t in range(start, end, 997)], np.int64)
    assert (inside(times, both) == inside(times, alone)).all()


@given(intervals_of_minutes, st.integers(1, 60_000))
def test_blocks_are_counted_once(intervals: Intervals, block: int) -> None:
    touched = set()
    for a, b in intervals:
        touched |= set(range(a // block, (b - 1) // block + 1))
    assert count_blocks(intervals, block) == len(touched)


def test_far_too_many_blocks_are_refused() -> None:
    with pytest.raises(UsageError, match="choose a longer block"):
        without_embargo(((0, 400 * DAY_MS),), by_time(1000, 500), 1)


def test_cameras_go_where_they_are_assigned_and_the_others_by_hash() -> None:
    splits = cameras_apart(assign=(("test", (uuid(5),)),))
    found = [split_of_group(uuid(n), splits, seed=1) for n in range(2000)]
    assert found[5] == 2
    assert np.bincount(found) / 2000 == pytest.approx([0.8, 0.1, 0.1], abs=0.03)
    others = [split_of_group(uuid(n), cameras_apart(), seed=1) for n in range(2000)]
    assert [n for n in range(2000) if found[n] != others[n]] in ([5], [])


def test_without_splits_all_is_train() -> None:
    schedule = sample(lock(sampling("interval")))
    assert schedule.splits == ("train",)
    assert split_names(None) == ["train"]
    assert set(schedule.split.tolist()) == {0}


def test_a_burst_follows_its_first_frame() -> None:
    """Also over a boundary, where there is no embargo."""
    splits = by_time(10_000, fractions=(("a", 0.5), ("b", 0.5)))
    burst = sampling("burst", bursts=200, frames_per_burst=5, spacing=2000)
    planned = by_camera(sample(lock(burst, splits=splits)))[uuid(1)]
    times = np.array(sorted(planned))
    starts = times[::5]
    assert (np.diff(times.reshape(-1, 5)) == 2000).all()
    expected = [split_names(splits)[i] for i in splits_by_time(starts, splits, 7)]
    assert [planned[t] for t in times.tolist()] == [name for name in expected for _ in range(5)]
    crossing = times.reshape(-1, 5) // 10_000
    assert (crossing[:, 0] != crossing[:, -1]).any()


def test_fewer_groups_than_splits_are_refused() -> None:
    every_hour = sampling("interval")
    with pytest.raises(UsageError, match=r"3 splits .* and the plan has 2"):
        sample(lock(every_hour, [camera(1), camera(2)], splits=cameras_apart()))
    with pytest.raises(UsageError, match=r"3 splits .* and the plan has 2"):
        sample(lock(every_hour, windows=((JANUARY_MS, JANUARY_MS + 2 * DAY_MS),), splits=by_time(DAY_MS)))


def test_blocks_of_all_zones_count() -> None:
    """Two cameras that are open at different times have the blocks of both."""
    days = [(JANUARY_MS + n * DAY_MS, JANUARY_MS + (n + 1) * DAY_MS) for n in range(2)]
    cameras = [camera(1, "Here"), camera(2, "There")]
    windows: dict[str, Intervals] = {"Here": (days[0],), "There": (days[1],)}
    halves = by_time(DAY_MS, fractions=(("a", 0.5), ("b", 0.5)))
    for seed in range(20):
        try:
            schedule = sample(lock(sampling("interval"), cameras, windows, halves, seed))
        except UsageError as error:
            assert "no frame falls into" in str(error)  # noqa: PT017 - of some seeds
        else:
            assert {schedule.camera_of(s.start).name for s in schedule.shards} == {"camera-1", "camera-2"}
            return
    pytest.fail("no seed of twenty puts two days into two splits")


def test_an_empty_split_is_refused_with_what_helps() -> None:
    cameras = [camera(n) for n in range(4)]
    fractions = (("train", 0.999), ("test", 0.001))
    with pytest.raises(UsageError, match=r"no frame falls into test: .*assign: \{test: \[camera-0\]\}"):
        sample(lock(sampling("interval"), cameras, splits=cameras_apart(fractions)))
    with pytest.raises(UsageError, match="no frame falls into test: use a shorter block"):
        sample(lock(sampling("interval"), windows=WEEK, splits=by_time(DAY_MS, fractions=fractions)))


def test_cameras_of_a_location_stay_together_and_new_ones_move_nobody() -> None:
    fractions = (("a", 0.5), ("b", 0.5))
    splits = LocationSplits(fractions, ())

    def planned(count: int) -> dict[str, str]:
        cameras = [dataclasses.replace(camera(n), location=f"site-{n % 20}") for n in range(count)]
        schedule = sample(lock(sampling("interval", every=DAY_MS), cameras, splits=splits))
        split_of = {schedule.camera_of(s).name: schedule.splits[schedule.split[s]] for s in range(len(schedule))}
        for n in range(count):
            assert split_of[f"camera-{n}"] == split_of[f"camera-{n % 20}"]
        return split_of

    few, many = planned(30), planned(60)
    assert set(few.values()) == {"a", "b"}
    assert few.items() <= many.items()


TIMES = """camera,timestamp_ms,shift
dock,1780315200000,early
dock,1780315260000,late
gate,1780315200000,early
gate,1780315320000, night
gate,1780315330000,late
"""
COLUMN_PLAN = """
version: 1
name: shifts
source: {type: rhombus}
cameras:
  - {uuid: AAAAAAAAAAAAAAAAAAAAAA, name: dock, location: HQ, timezone: UTC}
  - {uuid: BBBBBBBBBBBBBBBBBBBBBB, name: gate, timezone: UTC}
sampling: {strategy: timestamps, file: times.csv}
splits: {by: column, column: shift, fractions: {train: 0.6, test: 0.4}, assign: {test: [night], train: [early]}}
"""


def locked(tmp_path: Path, times: str = TIMES, change: tuple[str, str] = ("", "")) -> Lock:
    (tmp_path / "times.csv").write_text(times)
    (tmp_path / "plan.yaml").write_text(COLUMN_PLAN.replace(*change))
    return resolve(load_plan(tmp_path / "plan.yaml", NOW_MS), NOW_MS)


def test_rows_of_a_timestamps_file_that_say_the_same_stay_together(tmp_path: Path) -> None:
    found = locked(tmp_path)
    schedule = sample(found)
    assert len(schedule) == 5
    splits: dict[str, set[str]] = {}
    shifts = {(0, 200): "early", (0, 260): "late", (1, 200): "early", (1, 320): "night", (1, 330): "late"}
    for row in range(len(schedule)):
        key = int(schedule.camera[row]), int(schedule.timestamp_ms[row]) // 1000 % 1000
        splits.setdefault(shifts[key], set()).add(schedule.splits[schedule.split[row]])
    assert all(len(found_in) == 1 for found_in in splits.values())
    assert splits["night"] == {"test"}
    # The lock holds it, whatever becomes of the file and its order.
    for name, content in lock_files(found).items():
        (tmp_path / name).write_bytes(content)
    assert load_lock(tmp_path) == found
    lines = TIMES.splitlines(keepends=True)
    turned = locked(tmp_path, lines[0] + "".join(reversed(lines[1:])))
    assert turned == found
    assert sample(turned).digest == schedule.digest


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("column: shift", "column: shfit"), "no column 'shfit'.*did you mean shift"),
        (
            ("{strategy: timestamps, file: times.csv}", "{strategy: interval, every: 1h}"),
            "need strategy: timestamps",
        ),
        (("{by: column, column: shift,", "{by: location,"), "location is missing: splits are by location"),
        (("test: [night]", "tset: [night]"), "tset.*did you mean.*test"),
        (
            ("train: 0.6, test: 0.4", "a: 0.2, train: 0.2, test: 0.2, c: 0.4"),
            "need at least as many values of the column",
        ),
    ],
)
def test_wrong_groups_are_told(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    with pytest.raises((UsageError, InvalidFile), match=told):
        sample(locked(tmp_path, change=change))


def test_locations_need_names_that_are_there(tmp_path: Path) -> None:
    text = COLUMN_PLAN.replace("name: gate,", "name: gate, location: Yard,")
    text = text.replace("{by: column, column: shift,", "{by: location,").replace(
        "[night], train: [early]", "[Yrad], train: [HQ]"
    )
    (tmp_path / "times.csv").write_text(TIMES)
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(InvalidFile, match=r"Yrad' is not a location of the plan.*did you mean.*Yard"):
        load_plan(tmp_path / "plan.yaml", NOW_MS)
    (tmp_path / "plan.yaml").write_text(text.replace("Yrad", "Yard"))
    schedule = sample(resolve(load_plan(tmp_path / "plan.yaml", NOW_MS), NOW_MS))
    splits = {schedule.camera_of(row).name: schedule.splits[schedule.split[row]] for row in range(len(schedule))}
    assert splits == {"dock": "train", "gate": "test"}
