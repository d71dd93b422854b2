"""Laws of choosing: every event first, strata in turn, what is least like the others, and a gap between."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from rhombus_dataset.scout.selection import QUIET, Candidates, choose


@st.composite
def some_candidates(draw: st.DrawFn) -> tuple[Candidates, int]:
    count = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    strata = draw(st.integers(1, 5))
    camera = np.sort(rng.integers(0, draw(st.integers(1, 3)), count)).astype(np.int32)
    # Events are rows in a row; some rows are quiet, some of an event are not sure.
    event = (np.cumsum(rng.random(count) < 0.4) - 1).astype(np.int32)
    quiet = np.isin(event, [QUIET, *rng.integers(0, max(1, event.max()), 3).tolist()])
    score = rng.integers(8, 200, count).astype(np.int32)
    found = Candidates(
        camera=camera,
        timestamp_ms=np.arange(count, dtype=np.int64) * 1000,
        stratum=rng.integers(0, strata, count).astype(np.int32),
        event=np.where(quiet, QUIET, event).astype(np.int32),
        score=score,
        sure=score > draw(st.sampled_from([0, 60, 150])),
        signature_index=np.where(quiet, -1, np.arange(count)).astype(np.int32),
        order=rng.permutation(count).astype(np.uint64),
        signature=rng.integers(-60, 60, (count, 48)).astype(np.int8),
    )
    return found, strata


def every(candidates: Candidates) -> npt.NDArray[np.bool_]:
    return np.ones(len(candidates.camera), np.bool_)


@settings(deadline=None)
@given(some_candidates(), st.sampled_from([0, 1500, 4000]), st.booleans())
def test_each_is_chosen_once_and_the_gap_is_kept(case: tuple[Candidates, int], gap_ms: int, quiet: bool) -> None:
    candidates, strata = case
    taken: dict[int, list[int]] = {0: [500]}
    rows = [
        row for row, _ in choose(candidates, every(candidates), list(range(strata)), gap_ms, taken, quiet=quiet)
    ]
    assert len(set(rows)) == len(rows)
    wanted = np.flatnonzero((candidates.event == QUIET) == quiet)
    assert set(rows) <= set(wanted.tolist())
    for camera, times in taken.items():
        assert times == sorted(times)
        assert all(b - a >= gap_ms for a, b in itertools.pairwise(times)) or gap_ms == 0
        chosen = [int(candidates.timestamp_ms[row]) for row in rows if candidates.camera[row] == camera]
        assert set(times) == {*chosen, *([500] if camera == 0 else [])}
        # Nothing that would fit was left.
        for row in wanted[candidates.camera[wanted] == camera].tolist():
            at = int(candidates.timestamp_ms[row])
            assert row in rows or any(abs(at - other) < gap_ms for other in times)


@settings(deadline=None)
@given(some_candidates())
def test_every_sure_event_comes_first_and_strata_take_turns(case: tuple[Candidates, int]) -> None:
    candidates, strata = case
    chosen = list(choose(candidates, every(candidates), list(range(strata)), 0, {}, quiet=False))
    sure_events = set(candidates.event[candidates.sure & (candidates.event != QUIET)].tolist())
    # An event may lie in two strata, and each gives one frame of it.
    begin = [row for row, first in itertools.takewhile(lambda pair: pair[1], chosen)]
    assert sure_events <= {int(candidates.event[row]) for row in begin}
    for row in begin[: len(sure_events)]:
        of_event = (candidates.event == candidates.event[row]) & (candidates.stratum == candidates.stratum[row])
        assert candidates.score[row] == candidates.score[of_event].max()
    # Then the stratum with the fewest is served, as long as it has something sure.
    counts = np.bincount(candidates.stratum[begin], minlength=strata)
    left = [row for row, _ in chosen[len(begin) :]]
    sure = list(itertools.takewhile(lambda row: candidates.sure[row], left))
    for number, row in enumerate(sure):
        waiting = {int(candidates.stratum[other]) for other in sure[number:]}
        assert counts[candidates.stratum[row]] == min(counts[s] for s in waiting)
        counts[candidates.stratum[row]] += 1


@settings(deadline=None)
@given(some_candidates())
def test_within_a_stratum_what_is_least_like_the_others_is_next(case: tuple[Candidates, int]) -> None:
    candidates, _ = case
    one = Candidates(
        candidates.camera,
        candidates.timestamp_ms,
        np.zeros_like(candidates.stratum),
        np.zeros_like(candidates.event),
        candidates.score,
        np.ones_like(candidates.sure),
        np.arange(len(candidates.camera), dtype=np.int32),
        candidates.order,
        candidates.signature,
    )
    rows = [row for row, _ in choose(one, every(one), [0], 0, {}, quiet=False)]
    assert len(rows) == len(one.camera)
    assert one.score[rows[0]] == one.score.max()
    signature = one.signature.astype(np.int64)
    apart = ((signature[:, None] - signature[None]) ** 2).sum(axis=2)
    for number in range(1, len(rows)):
        nearest = apart[rows[number:]][:, rows[:number]].min(axis=1)
        assert nearest[0] == nearest.max()


@settings(deadline=None)
@given(some_candidates())
def test_quiet_rows_come_in_their_order(case: tuple[Candidates, int]) -> None:
    candidates, _ = case
    rows = [row for row, _ in choose(candidates, every(candidates), [0] * 5, 0, {}, quiet=True)]
    for stratum in set(candidates.stratum.tolist()):
        order = [int(candidates.order[row]) for row in rows if candidates.stratum[row] == stratum]
        assert order == sorted(order)
