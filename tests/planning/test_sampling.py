"""The strategies, and promise 2: what a plan that grows may change, and what not."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, reject, settings
from hypothesis import strategies as st

from rhombus_dataset.errors import UsageError
from rhombus_dataset.hashing import hash_key, hashes
from rhombus_dataset.plan.local_time import DAY_MS, HOUR_MS, MINUTE_MS, Intervals, local_hours, merged
from rhombus_dataset.planning.lock import (
    SAMPLING_VERSION,
    CameraSplits,
    Count,
    Lock,
    LockedBurst,
    LockedInterval,
    LockedRandom,
    LockedStratified,
    LockedTimestamps,
    Shortfall,
    Strategy,
    Times,
    TimeSplits,
)
from rhombus_dataset.planning.lock_file import load_lock, lock_files
from rhombus_dataset.planning.resolve import inside
from rhombus_dataset.planning.sampling import sample
from rhombus_dataset.planning.schedule import Schedule
from rhombus_dataset.planning.splits import without_embargo
from tests.locks import JANUARY_MS, WEEK, by_camera, camera, lock, sampling, uuid

EVERYTHING = 10_000_000
ZONES = ("Here", "There")

# -- plans of every kind

windows_of_minutes = st.lists(
    st.tuples(st.integers(0, 4 * 1440), st.integers(1, 1440)), min_size=1, max_size=4
).map(lambda pairs: merged((JANUARY_MS + a * MINUTE_MS, JANUARY_MS + (a + n) * MINUTE_MS) for a, n in pairs))

counts = st.integers(1, 60)
gaps = st.sampled_from([7_001, 60_000, 20 * MINUTE_MS])  # the shortest gaps have tests of their own
strata = st.lists(st.sampled_from(["camera", "hour", "weekday"]), min_size=1, max_size=3, unique=True)
time_splits = st.builds(
    lambda block, share: TimeSplits(block, block * share // 100, (("train", 0.6), ("test", 0.4))),
    st.sampled_from([10 * MINUTE_MS, HOUR_MS]),
    st.sampled_from([0, 1, 20, 90]),
)
camera_splits = st.just(CameraSplits((("train", 0.5), ("test", 0.5)), ()))


@st.composite
def strategies(draw: st.DrawFn, each: bool | None = None, limited: bool | None = None) -> Strategy:
    """``each``: with counts per camera (True) or a total (False). ``limited``: with a count at all."""
    names = ["random", "stratified", "burst"] if limited is not False else []
    names += ["interval"] if limited is not True else []
    name = draw(st.sampled_from(names))
    if name == "interval":
        every = draw(st.sampled_from([7 * MINUTE_MS, HOUR_MS, DAY_MS]))
        return sampling(name, every=every, jitter=draw(st.sampled_from([0, 1, every // 3, every])))
    per_camera = draw(st.booleans()) if each is None else each
    what = "bursts" if name == "burst" else "frames"
    given: dict[str, Any] = {
        f"{what}_per_camera" if per_camera else what: draw(counts),
        "min_gap": draw(gaps),
        "version": draw(st.sampled_from([1, SAMPLING_VERSION])),
    }
    if name == "stratified":
        given["strata"] = draw(strata)
    if name == "burst":
        given |= {"frames_per_burst": draw(st.integers(1, 4)), "spacing": draw(st.integers(1, 90_000))}
    return sampling(name, **given)


@st.composite
def locks(draw: st.DrawFn, strategy: st.SearchStrategy[Strategy], cameras: int = 3) -> Lock:
    numbers = draw(st.sets(st.integers(0, 99), min_size=1, max_size=cameras))
    return lock(
        draw(strategy),
        [camera(n, draw(st.sampled_from(ZONES))) for n in sorted(numbers)],
        {zone: draw(windows_of_minutes) for zone in ZONES},
        draw(st.none() | time_splits | camera_splits),
        draw(st.integers(0, 2**63 - 1)),
    )


def planned(plan: Lock) -> dict[str, dict[int, str]]:
    """The split of each planned time, by camera; a plan that is refused is no example."""
    try:
        found = by_camera(sample(plan))
    except UsageError:
        reject()
    return {c.uuid: found.get(c.uuid, {}) for c in plan.cameras}


def is_part(part: dict[int, str], whole: dict[int, str]) -> bool:
    return part.items() <= whole.items()


def is_limited(plan: Lock) -> bool:
    return not isinstance(plan.sampling, LockedInterval | LockedTimestamps)


def with_camera(old: Lock, number: int, zone: str) -> Lock:
    cameras = {c.uuid: c for c in (*old.cameras, camera(number, zone))}
    return dataclasses.replace(old, cameras=tuple(cameras[u] for u in sorted(cameras)))


def with_windows(old: Lock, more: Intervals) -> Lock:
    zones = {
        zone: dataclasses.replace(locked, windows=merged([*locked.windows, *more]))
        for zone, locked in old.zones.items()
    }
    return dataclasses.replace(old, zones=zones)


Counted = LockedRandom | LockedStratified | LockedBurst


def counted_strategy(plan: Lock) -> Counted:
    assert isinstance(plan.sampling, Counted)
    return plan.sampling


def counted(old: Lock, number: int, per_camera: bool | None = None) -> Lock:
    """With another count, of the same kind if ``per_camera`` is None."""
    strategy = counted_strategy(old)
    count = Count(number, strategy.count.per_camera if per_camera is None else per_camera)
    return dataclasses.replace(old, sampling=dataclasses.replace(strategy, count=count))


def burst_of(plan: Lock) -> tuple[int, int]:
    """How many frames a burst has, and the time between two of them in ms; (1, 0) for other strategies."""
    strategy = plan.sampling
    return (strategy.frames_per_burst, strategy.spacing_ms) if isinstance(strategy, LockedBurst) else (1, 0)


def within(times: dict[int, str], old: Lock, zone: str) -> dict[int, str]:
    """Those of ``times`` that the windows of ``old`` could have had; of bursts, those as a whole."""
    size, spacing = burst_of(old)
    bounds = without_embargo(old.zones[zone].windows, old.splits, old.seed)
    ordered = sorted(times)
    groups = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    assert all(g[-1] - g[0] == (size - 1) * spacing for g in groups)
    return {t: times[t] for g in groups if any(a <= g[0] and g[-1] < b for a, b in bounds) for t in g}


# -- promise 2


@settings(deadline=None, max_examples=80)
@given(locks(strategies(each=True)), st.integers(100, 120), st.sampled_from(ZONES))
def test_another_camera_changes_nothing_where_counts_are_per_camera(old: Lock, number: int, zone: str) -> None:
    """Promise 2, with ``frames_per_camera`` and where there is no count."""
    before, after = planned(old), planned(with_camera(old, number, zone))
    assert {u: after[u] for u in before} == before


# One camera's hours have two frames each, or one; of the second camera there is next to nothing.
FULL_ROUNDS_AND_A_PART = lock(
    sampling("stratified", frames=40, min_gap=60_000),
    [camera(1)],
    {"Here": WEEK, "There": ((JANUARY_MS, JANUARY_MS + HOUR_MS),)},
)


@settings(deadline=None, max_examples=120)
@given(
    locks(strategies(each=False, limited=True)),
    st.integers(0, 120),
    st.sampled_from(ZONES),
)
@example(FULL_ROUNDS_AND_A_PART, 2, "There")
def test_another_camera_only_takes_away_from_a_total(old: Lock, number: int, zone: str) -> None:
    """Promise 2, with ``frames``: no frame of the others is added or moved."""
    assume(uuid(number) not in [c.uuid for c in old.cameras])
    before, after = planned(old), planned(with_camera(old, number, zone))
    assert all(is_part(after[u], before[u]) for u in before)


@settings(deadline=None, max_examples=60)
@given(locks(strategies(each=False, limited=True).filter(lambda s: not isinstance(s, LockedStratified))))
def test_what_a_total_leaves_a_camera_is_the_start_of_its_own_order(plan: Lock) -> None:
    """Promise 2: taken away from the end of each one's order, whoever the others are."""
    total = planned(plan)
    size, _ = burst_of(plan)
    for c in plan.cameras:
        if total[c.uuid]:
            by_time = plan.splits if isinstance(plan.splits, TimeSplits) else None
            alone = dataclasses.replace(plan, cameras=(c,), splits=by_time)
            count = len(total[c.uuid]) // size
            own = planned(counted(alone, count, per_camera=True))
            assert own[c.uuid].keys() == total[c.uuid].keys()


@settings(deadline=None, max_examples=120)
@given(locks(strategies()), windows_of_minutes)
def test_a_longer_window_moves_nothing(old: Lock, more: Intervals) -> None:
    """Promise 2: it may take frames away where a count is fixed, and adds none inside the old window."""
    before, after = planned(old), planned(with_windows(old, more))
    for c in old.cameras:
        kept = within(after[c.uuid], old, c.timezone)
        assert is_part(kept, before[c.uuid])
        if not is_limited(old):
            assert kept == before[c.uuid]


@settings(deadline=None, max_examples=80)
@given(locks(strategies(limited=True)), st.integers(1, 50))
def test_a_higher_count_only_adds(old: Lock, more: int) -> None:
    """Promise 2."""
    number = counted_strategy(old).count.number + more
    before, after = planned(old), planned(counted(old, number))
    assert all(is_part(before[u], after[u]) for u in before)


@st.composite
def times_locks(draw: st.DrawFn) -> Lock:
    plan = draw(locks(st.just(sampling("interval"))))
    pairs = draw(
        st.sets(
            st.tuples(st.integers(0, len(plan.cameras) - 1), st.integers(0, 2 * 1440 - 1)),
            min_size=1,
            max_size=40,
        )
    )
    return dataclasses.replace(plan, sampling=LockedTimestamps(times(pairs)))


def times(pairs: set[tuple[int, int]]) -> Times:
    """Of pairs of camera and minute."""
    table = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return Times(table[:, 0].astype(np.int32), JANUARY_MS + table[:, 1] * MINUTE_MS)


@settings(deadline=None, max_examples=60)
@given(times_locks(), st.sets(st.tuples(st.integers(0, 0), st.integers(0, 4 * 1440)), max_size=20))
def test_more_timestamps_move_nothing(old: Lock, more: set[tuple[int, int]]) -> None:
    """Promise 2, and: all of the file's moments are planned, but for those in an embargo."""
    assert old.times is not None
    minutes = (old.times.timestamp_ms - JANUARY_MS) // MINUTE_MS
    pairs = set(zip(old.times.camera.tolist(), minutes.tolist(), strict=True))
    before, after = planned(old), planned(dataclasses.replace(old, sampling=LockedTimestamps(times(pairs | more))))
    assert all(is_part(before[u], after[u]) for u in before)
    everywhere = without_embargo(((JANUARY_MS, JANUARY_MS + 2 * DAY_MS),), old.splits, old.seed)
    left = np.count_nonzero(inside(old.times.timestamp_ms, everywhere))
    assert sum(map(len, before.values())) == left
    embargo = f"{len(pairs) - left} times of the file lie in an embargo between splits: left out"
    assert sample(old).notes == ((embargo,) if left < len(pairs) else ())


# -- promise 1


@settings(deadline=None, max_examples=40)
@given(locks(strategies()))
def test_the_same_lock_gives_the_same_schedule(tmp_path_factory: pytest.TempPathFactory, plan: Lock) -> None:
    """Promise 1, through the disk as well."""
    try:
        digest = sample(plan).digest
    except UsageError:
        reject()
    folder = tmp_path_factory.getbasetemp()
    for name, content in lock_files(plan).items():
        (folder / name).write_bytes(content)
    assert sample(load_lock(folder)).digest == digest


def test_hashes_are_integer_arithmetic_of_64_bits() -> None:
    """The same on every machine: here by Python's own integers."""

    def reference(key: int, value: int) -> int:
        value %= 2**64
        for _ in range(2):
            value = (value * 0x9E3779B97F4A7C15 + key) % 2**64
            value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
            value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
            value ^= value >> 31
        return value

    positions = np.array([0, 1, -1, 2**62, JANUARY_MS, -(2**63)], np.int64)
    key = hash_key(7, "random", uuid(1))
    assert hashes(key, positions).tolist() == [reference(key, p) for p in positions.tolist()]


# -- each strategy


@settings(deadline=None, max_examples=80)
@given(locks(strategies()))
def test_every_frame_lies_in_a_window_and_outside_the_embargoes(plan: Lock) -> None:
    for uuid_, times_ in planned(plan).items():
        zone = next(c.timezone for c in plan.cameras if c.uuid == uuid_)
        assert within(times_, plan, zone) == times_


@settings(deadline=None, max_examples=80)
@given(locks(strategies(limited=True)))
def test_the_minimum_gap_is_kept(plan: Lock) -> None:
    size, spacing = burst_of(plan)
    span = (size - 1) * spacing
    for times_ in planned(plan).values():
        starts = np.array(sorted(times_)[::size])
        assert (np.diff(starts) >= counted_strategy(plan).min_gap_ms + span).all()


@settings(deadline=None, max_examples=80)
@given(locks(strategies(limited=True)))
def test_counts_are_exact_where_there_is_time_enough(plan: Lock) -> None:
    """And where there is not, everything is taken, and the shortfall is told."""
    asked = counted_strategy(plan).count
    count, (size, _) = asked.number, burst_of(plan)
    found = {u: len(t) // size for u, t in planned(plan).items()}
    available = {u: len(t) // size for u, t in planned(counted(plan, EVERYTHING)).items()}
    schedule = sample(plan)
    if asked.per_camera:
        assert found == {u: min(count, n) for u, n in available.items()}
        short = any(n < count for n in available.values())
    else:
        assert sum(found.values()) == min(count, sum(available.values()))
        short = sum(available.values()) < count
    assert schedule.shortfalls or not short


@settings(deadline=None, max_examples=80)
@given(locks(strategies(limited=True).filter(lambda s: not isinstance(s, LockedBurst))))
def test_strata_take_turns(plan: Lock) -> None:
    """All have as many as any other, give or take one; only those that are used up have less."""
    named = plan.sampling.strata if isinstance(plan.sampling, LockedStratified) else ("camera",)
    of_hour, of_weekday = "hour" in named, "weekday" in named
    each = counted_strategy(plan).count.per_camera
    of_camera = each or "camera" in named

    def strata_of(schedule: Schedule) -> dict[tuple[str, int, int], int]:
        found: dict[tuple[str, int, int], int] = {}
        for row in range(len(schedule)):
            clock = schedule.local_time(row)
            time = clock.hour if of_hour else 0, clock.weekday() if of_weekday else 0
            key = (schedule.camera_of(row).name if of_camera else "", *time)
            found[key] = found.get(key, 0) + 1
        return found

    planned(plan)
    taken = strata_of(sample(plan))
    everything = strata_of(sample(counted(plan, EVERYTHING)))
    schedule = sample(plan)
    for name in {key[0] for key in everything} if each else {None}:
        mine = {key: n for key, n in everything.items() if name is None or key[0] == name}
        most = max(taken.get(key, 0) for key in mine)
        used_up = {key for key in mine if taken.get(key, 0) == mine[key]}
        assert all(taken.get(key, 0) >= most - 1 for key in mine.keys() - used_up)
        for s in schedule.shortfalls:
            key = (s.camera_name or "", s.local_hour or 0, s.weekday or 0)
            if name in (None, s.camera_name) and s.available:
                assert key in used_up
                assert s.available == everything[key] < s.wanted


def test_a_stratum_with_too_little_time_is_told() -> None:
    """Two hours, one of them of ten minutes."""
    hour = JANUARY_MS + 8 * HOUR_MS
    plan = lock(
        sampling("stratified", frames=100, strata=["hour"], min_gap=15_000),
        windows=((hour, hour + 70 * MINUTE_MS),),
    )
    schedule = sample(plan)
    (short,) = schedule.shortfalls
    assert len(schedule) == 100
    assert short == Shortfall(None, 1, int((schedule.local_hours() == 1).sum()), 100 - short.available)
    assert 18 <= short.available <= 22


def test_days_of_the_week_are_strata_by_the_cameras_own_clock() -> None:
    """Two weeks; on Wednesdays there are but ten minutes, and on Sundays nothing."""
    local_monday = JANUARY_MS + 4 * DAY_MS + 7 * HOUR_MS  # 2026-01-05, seven hours behind UTC
    days = [(local_monday + n * DAY_MS, local_monday + (n + 1) * DAY_MS) for n in range(14) if n % 7 != 6]
    days = [(a, a + 10 * MINUTE_MS if n % 6 == 2 else b) for n, (a, b) in enumerate(days)]
    plan = lock(sampling("stratified", frames=600, strata=["weekday"], min_gap=30_000), windows=merged(days))
    schedule = sample(plan)
    (short,) = schedule.shortfalls
    counts = np.bincount([schedule.local_time(row).weekday() for row in range(len(schedule))], minlength=7).tolist()
    assert len(schedule) == 600
    assert (short.weekday, short.local_hour, short.available) == (2, None, counts[2])
    assert 18 <= counts[2] <= 22
    assert counts[6] == 0
    assert max(counts) - min(counts[n] for n in (0, 1, 3, 4, 5)) <= 1


def test_a_camera_that_is_never_open_is_told() -> None:
    windows: dict[str, Intervals] = {"Here": WEEK, "There": ()}
    plan = lock(sampling("random", frames_per_camera=10), [camera(1), camera(2, "There")], windows)
    assert sample(plan).shortfalls == (Shortfall("camera-2", None, 0, 10),)
    together = counted(plan, 10, per_camera=False)
    assert sample(together).shortfalls == (Shortfall("camera-2", None, 0, 10),)
    hourly = dataclasses.replace(plan, sampling=sampling("stratified", frames=240))
    assert sample(hourly).shortfalls == (Shortfall("camera-2", None, 0, 10),)


def test_enough_for_all_is_no_shortfall() -> None:
    cameras = [camera(n) for n in range(3)]
    for count in (1, 71, 72, 100):
        assert sample(lock(sampling("stratified", frames=count), cameras)).shortfalls == ()


def test_random_is_uniform_over_open_time() -> None:
    windows = tuple((JANUARY_MS + n * DAY_MS, JANUARY_MS + n * DAY_MS + 12 * HOUR_MS) for n in range(40))
    times_ = sample(lock(sampling("random", frames=24_000), windows=windows)).timestamp_ms
    by_hour = np.bincount((times_ - JANUARY_MS) // HOUR_MS % 24, minlength=24)
    assert by_hour[12:].sum() == 0
    assert (abs(by_hour[:12] - 2000) < 5 * 2000**0.5).all()
    # Nor do the cells show: within their width every offset is as likely, over cameras.
    cameras = [camera(n) for n in range(400)]
    day = ((JANUARY_MS, JANUARY_MS + 6 * HOUR_MS),)
    offsets = sample(lock(sampling("random", frames_per_camera=20), cameras, day)).timestamp_ms % 2000
    assert (abs(np.bincount(offsets // 200) - 800) < 5 * 800**0.5).all()


def test_different_cameras_and_seeds_draw_different_times() -> None:
    plan = lock(sampling("random", frames_per_camera=1000), [camera(1), camera(2)])
    one, two = planned(plan).values()
    other = planned(dataclasses.replace(plan, seed=8))[uuid(1)]
    assert len(one.keys() & two.keys()) < 10
    assert len(one.keys() & other.keys()) < 10


def test_the_smallest_gap_is_a_millisecond() -> None:
    window = ((JANUARY_MS, JANUARY_MS + 10_000),)
    times_ = sample(lock(sampling("random", frames=EVERYTHING, min_gap=0), windows=window)).timestamp_ms
    assert len(times_) in (5000, 5001, 4999)
    assert (np.diff(times_) >= 1).all()


@pytest.mark.parametrize("strategy", ["random", "burst"])
def test_a_window_s_start_is_in_it_and_its_end_is_not(strategy: str) -> None:
    """Of windows of a few milliseconds, over many cameras: every millisecond is drawn, and no other."""
    given = {"bursts": EVERYTHING} if strategy == "burst" else {"frames": EVERYTHING}
    window = ((JANUARY_MS, JANUARY_MS + 10),)
    of_two = {"frames_per_burst": 2, "spacing": 3} if strategy == "burst" else {}
    plan = lock(sampling(strategy, min_gap=0, **given, **of_two), [camera(n) for n in range(100)], window)
    assert set((sample(plan).timestamp_ms - JANUARY_MS).tolist()) == set(range(10))


def test_old_datasets_refuse_a_gap_that_leaves_too_many_moments() -> None:
    """Version 1 visits each of them. Since version 2, the gap costs nothing."""
    windows = ((0, 3000 * DAY_MS),)
    assert len(sample(lock(sampling("random", frames=10, min_gap=0), windows=windows))) == 10
    plan = lock(sampling("random", frames=10, min_gap=0, version=1), windows=windows)
    with pytest.raises(UsageError, match=r"min_gap: 1 ms .* choose at least 7 ms"):
        sample(plan)


def test_a_great_many_small_draws_are_exact() -> None:
    """Of some of these cameras too few candidates are kept at first."""
    cameras = [camera(n) for n in range(1500)]
    window = ((JANUARY_MS, JANUARY_MS + HOUR_MS),)
    schedule = sample(lock(sampling("random", frames_per_camera=1), cameras, window))
    assert np.bincount(schedule.camera).tolist() == [1] * 1500


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3 * DAY_MS), st.integers(1, 3 * DAY_MS), st.integers(1, DAY_MS), st.integers(0, DAY_MS))
def test_interval_counts_from_local_midnight(start: int, length: int, every: int, jitter: int) -> None:
    """In elapsed time, each day anew; here over a day of 23 hours, from a zone of eight hours behind."""
    every, jitter = max(every, 5 * MINUTE_MS), min(jitter, every)
    begin = JANUARY_MS + 2 * DAY_MS + start
    window = ((begin, begin + length),)
    midnights = [JANUARY_MS + n * DAY_MS + (8 if n < 4 else 7) * HOUR_MS for n in range(-1, 12)]
    grid = [
        (t, min(t + every, following))
        for midnight, following in itertools.pairwise(midnights)
        for t in range(midnight, following, every)
    ]
    try:
        exact = sample(lock(sampling("interval", every=every), windows=window)).timestamp_ms.tolist()
    except UsageError:
        exact = []
    assert exact == [t for t, _ in grid if begin <= t < begin + length]
    late = sampling("interval", every=every, jitter=jitter)
    everywhere = ((begin - 2 * DAY_MS, begin + length + 2 * DAY_MS),)
    moments = sample(lock(late, windows=everywhere)).timestamp_ms.tolist()
    cells = [next((t, end) for t, end in reversed(grid) if t <= moment) for moment in moments]
    assert len(set(cells)) == len(cells)
    for moment, (t, end) in zip(moments, cells, strict=True):
        assert t <= moment < min(end, t + max(jitter, 1))
    # A window does not move them, nor lose those whose place in the grid is before it.
    try:
        found = sample(lock(late, windows=window)).timestamp_ms.tolist()
    except UsageError:
        found = []
    assert found == [m for m in moments if begin <= m < begin + length]


def test_a_burst_is_whole_and_its_frames_are_spaced() -> None:
    window = (
        (JANUARY_MS, JANUARY_MS + HOUR_MS),
        (JANUARY_MS + 2 * HOUR_MS, JANUARY_MS + 2 * HOUR_MS + 2000),
    )
    plan = lock(sampling("burst", bursts=EVERYTHING, frames_per_burst=4, spacing=700), windows=window)
    times_ = sample(plan).timestamp_ms.reshape(-1, 4)
    assert (np.diff(times_, axis=1) == 700).all()
    # The second window is shorter than a burst.
    assert times_.max() < JANUARY_MS + HOUR_MS
    assert 500 < len(times_) < 600


def test_a_plan_without_a_frame_is_refused() -> None:
    with pytest.raises(UsageError, match="no frame at all"):
        sample(lock(sampling("burst", bursts=5, spacing=DAY_MS * 10)))


def test_too_many_frames_are_refused_before_they_are_made() -> None:
    with pytest.raises(UsageError, match="choose a longer interval"):
        sample(lock(sampling("interval", every=1), [camera(n) for n in range(100)]))
    with pytest.raises(UsageError, match="expected at most 200,000,000"):
        sample(lock(sampling("burst", bursts=50_000, frames_per_burst=10_000, spacing=1, min_gap=0)))


def test_hours_are_of_the_local_clock() -> None:
    """An hour in UTC, which two zones show as different ones."""
    hour = ((JANUARY_MS + DAY_MS, JANUARY_MS + DAY_MS + HOUR_MS),)
    plan = lock(sampling("stratified", frames=20, strata=["hour"]), windows=hour)
    schedule = sample(plan)
    assert set(schedule.local_hours().tolist()) == {16}
    assert set(local_hours(schedule.timestamp_ms, ((0, 0),)).tolist()) == {0}
