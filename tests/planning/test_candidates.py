"""What a draw chooses from: blocks of an hour, against the same candidates visited one by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rhombus_dataset.plan.local_time import HOUR_MS, MINUTE_MS, Intervals, merged
from rhombus_dataset.planning.lock import Count
from rhombus_dataset.planning.strategies.candidates import CHUNK, Clock, numbers
from rhombus_dataset.planning.strategies.draw import draw
from rhombus_dataset.planning.strategies.hour_blocks import HourBlocks
from rhombus_dataset.planning.strategies.sampled_times import CameraWindows
from tests.locks import JANUARY_MS, uuid

ALL = np.full(24 * 7, np.iinfo(np.uint64).max, np.uint64)
GAPS_MS = [MINUTE_MS, 7 * MINUTE_MS, 1_700_003, HOUR_MS, 5 * HOUR_MS]
QUARTER_MS = 15 * MINUTE_MS
OFFSETS = ((JANUARY_MS - HOUR_MS, QUARTER_MS), (JANUARY_MS + 5 * HOUR_MS, -QUARTER_MS))

intervals = st.lists(st.tuples(st.integers(0, 2 * 24 * 60), st.integers(1, 600)), min_size=1, max_size=4).map(
    lambda pairs: merged((JANUARY_MS + a * MINUTE_MS, JANUARY_MS + (a + n) * MINUTE_MS) for a, n in pairs)
)
clocks = st.builds(Clock, st.booleans(), st.booleans())


def blocks(
    open_time: Intervals, clock: Clock, gap_ms: int, seed: int = 7, offsets: tuple[tuple[int, int], ...] = OFFSETS
) -> HourBlocks:
    segments = clock.segments(open_time, offsets)
    return HourBlocks(uuid(1), segments, clock.count, seed=seed, purpose="test", gap_ms=gap_ms)


@settings(deadline=None, max_examples=60)
@given(intervals, clocks)
def test_segments_are_the_open_time_cut_where_the_column_changes(open_time: Intervals, clock: Clock) -> None:
    segments = clock.segments(open_time, OFFSETS)
    found = list(zip(segments.start_ms.tolist(), segments.end_ms.tolist(), strict=True))
    assert merged(found) == open_time
    assert all(a < b for a, b in found)
    assert sum(b - a for a, b in found) == sum(b - a for a, b in open_time)
    for (start, end), column in zip(found, segments.column.tolist(), strict=True):
        inside = np.arange(start, end, MINUTE_MS, dtype=np.int64)
        assert set(clock.columns(np.append(inside, end - 1), OFFSETS).tolist()) == {column}


@settings(deadline=None, max_examples=60)
@given(intervals, clocks, st.sampled_from(GAPS_MS), st.integers(0, 2**63 - 1))
def test_the_number_available_is_that_of_all_candidates(
    open_time: Intervals, clock: Clock, gap_ms: int, seed: int
) -> None:
    candidates = blocks(open_time, clock, gap_ms, seed)
    everything = candidates.below(ALL)
    assert candidates.available().tolist() == np.bincount(everything.column, minlength=clock.count).tolist()
    assert (everything.column == clock.columns(everything.timestamp_ms, OFFSETS)).all()
    assert (np.diff(np.sort(everything.timestamp_ms)) >= gap_ms).all()
    assert all(any(a <= t < b for a, b in open_time) for t in everything.timestamp_ms.tolist())


def pairs(times: npt.NDArray[np.int64], order: npt.NDArray[np.uint64]) -> set[tuple[int, int]]:
    return set(zip(times.tolist(), order.tolist(), strict=True))


@settings(deadline=None, max_examples=60)
@given(intervals, clocks, st.sampled_from(GAPS_MS), st.lists(st.integers(0, 2**64 - 1), min_size=168, max_size=168))
def test_a_limit_gives_those_up_to_it_and_no_others(
    open_time: Intervals, clock: Clock, gap_ms: int, of_columns: list[int]
) -> None:
    candidates = blocks(open_time, clock, gap_ms)
    limits = np.array(of_columns, np.uint64)
    everything, found = candidates.below(ALL), candidates.below(limits)
    low = everything.order <= limits[everything.column]
    assert pairs(found.timestamp_ms, found.order) == pairs(everything.timestamp_ms[low], everything.order[low])


@settings(deadline=None, max_examples=60)
@given(intervals, intervals, clocks, clocks, st.sampled_from(GAPS_MS))
def test_a_candidate_s_time_and_place_do_not_depend_on_the_windows_or_strata(
    one: Intervals, other: Intervals, clock: Clock, other_clock: Clock, gap_ms: int
) -> None:
    whole = merged([*one, *other])
    before, after = blocks(one, clock, gap_ms).below(ALL), blocks(whole, other_clock, gap_ms).below(ALL)
    kept = np.array([any(a <= t < b for a, b in one) for t in after.timestamp_ms.tolist()], np.bool_)
    assert pairs(before.timestamp_ms, before.order) == pairs(after.timestamp_ms[kept], after.order[kept])


@settings(deadline=None, max_examples=100)
@given(st.integers(1, HOUR_MS), st.integers(-(2**40), 2**40))
@example(HOUR_MS // 2, 0)
@example(HOUR_MS // 4, 0)
@example(HOUR_MS // 6, 0)
def test_the_cells_of_a_block_are_permuted(gap_ms: int, block: int) -> None:
    gap_ms = max(gap_ms, 900)  # up to 2,000 cells
    cells = max(1, HOUR_MS // (2 * gap_ms))
    candidates = blocks((), Clock(False, False), gap_ms)
    nth, of_block = np.arange(cells), np.full(cells, block)
    permuted = candidates._permuted(of_block, nth)
    assert sorted(permuted.tolist()) == nth.tolist()
    assert candidates._permuted(of_block, permuted, inverse=True).tolist() == nth.tolist()


def test_numbers_are_the_same_in_any_chunk() -> None:
    first = np.array([5, -3, 0, 100, 7], np.int64)
    count = np.array([2, 0, CHUNK + 3, 1, CHUNK], np.int64)
    found = [np.concatenate(parts) for parts in zip(*numbers(first, count), strict=True)]
    assert found[0].tolist() == np.repeat(np.arange(5), count).tolist()
    assert found[1].tolist() == [
        n for a, c in zip(first.tolist(), count.tolist(), strict=True) for n in range(a, a + c)
    ]
    assert max(len(owner) for owner, _ in numbers(first, count)) == CHUNK
    assert list(numbers(first[:0], count[:0])) == []


# -- uniform: chi-square, at a chance of one in a million of a false alarm


def chi_square(counts: npt.NDArray[np.int64]) -> float:
    """Return the statistic in standard deviations of its distribution for equal chances."""
    expected = counts.mean()
    freedom = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / (2 * freedom) ** 0.5)


@pytest.mark.parametrize("gap_ms", [5_000, 100_000, 600_000, 900_000])
def test_each_cell_of_an_hour_comes_first_equally_often(gap_ms: int) -> None:
    """And each pair of cells comes as the first two, where there are few cells."""
    cells = HOUR_MS // (2 * gap_ms)
    candidates = blocks((), Clock(False, False), gap_ms)
    block = np.arange(100_000)
    first, second = (candidates._permuted(block, np.full(len(block), n)) for n in (0, min(1, cells - 1)))
    assert chi_square(np.bincount(first, minlength=cells)) < 6
    if 2 < cells <= 18:
        counts = np.bincount(first * cells + second, minlength=cells**2).reshape(cells, cells)
        assert not counts.diagonal().any()
        assert chi_square(counts[~np.eye(cells, dtype=np.bool_)]) < 6


@pytest.mark.parametrize("frames", [2_000, 50_000])
def test_a_draw_is_uniform_over_hours_minutes_and_cameras(frames: int) -> None:
    """With fewer frames than hours, and with more."""
    windows = [
        CameraWindows(uuid(n), f"camera-{n}", ((0, 0),), ((JANUARY_MS, JANUARY_MS + 480 * HOUR_MS),))
        for n in range(10)
    ]
    found = draw(windows, seed=1, purpose="test", strata=[], count=Count(frames, False), gap_ms=5_000, version=2)
    assert len(found.timestamp_ms) == frames
    since = found.timestamp_ms - JANUARY_MS
    for counts in (
        np.bincount(since // HOUR_MS, minlength=480),
        np.bincount(since // MINUTE_MS % 60, minlength=60),
        np.bincount(found.camera, minlength=10),
    ):
        assert chi_square(counts) < 6
