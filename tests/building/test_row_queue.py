"""Which row comes next: every row once, caps kept, and a refusal put down to the right cause."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rhombus_dataset.building.row_queue import Job, RowQueue


@given(
    st.lists(st.integers(0, 4), max_size=60),
    st.integers(1, 4),
    st.integers(1, 10),
    st.randoms(use_true_random=False),
)
def test_every_row_is_asked_for_once_and_no_camera_is_over_its_cap(
    cameras: list[int], per_camera: int, concurrency: int, order: random.Random
) -> None:
    rows = np.arange(100, 100 + len(cameras), dtype=np.int32)
    dispatch = RowQueue(rows, np.array(cameras, np.int32), per_camera)
    flying: list[Job] = []
    seen: list[int] = []
    while not dispatch.finished:
        while len(flying) < concurrency and (turn := dispatch.take()) is not None:
            flying.append(turn)
            seen.append(turn.row)
            assert sum(t.camera == turn.camera for t in flying) <= per_camera
        assert flying
        assert dispatch.answered(flying.pop(order.randrange(len(flying)))) == []
    assert sorted(seen) == rows.tolist()
    assert dispatch.take() is None


def test_rows_come_in_build_order_where_no_cap_is_in_the_way() -> None:
    rows = np.array([5, 3, 9, 1], np.int32)
    dispatch = RowQueue(rows, np.array([0, 1, 0, 1], np.int32), 4)
    assert [turn.row for turn in iter(dispatch.take, None)] == [5, 3, 9, 1]


def test_a_slow_camera_does_not_hold_the_others_up() -> None:
    dispatch = RowQueue(np.arange(6, dtype=np.int32), np.array([0, 0, 0, 0, 1, 1], np.int32), 1)
    slow = dispatch.take()
    assert slow is not None
    assert slow.row == 0
    for row in (4, 5):
        turn = dispatch.take()
        assert turn is not None
        assert turn.row == row
        dispatch.answered(turn)
    assert dispatch.take() is None
    assert not dispatch.finished


def dispatched(cameras: list[int], per_camera: int = 1) -> tuple[RowQueue, list[Job]]:
    dispatch = RowQueue(np.arange(len(cameras), dtype=np.int32), np.array(cameras, np.int32), per_camera)
    return dispatch, list(iter(dispatch.take, None))


def test_a_refusal_is_the_cameras_own_once_another_answers_later() -> None:
    dispatch, (first, second) = dispatched([0, 1, 0, 1])
    assert dispatch.refused(first, "403") == []
    # This answer was asked for before the refusal: the key may have been revoked in between.
    assert dispatch.answered(second) == []
    later = dispatch.take()
    assert later is not None
    assert later.camera == 1
    assert dispatch.answered(later) == [(first, "403")]
    again = dispatch.take()
    assert again is not None
    assert again.camera == 0
    assert dispatch.refused(again, "403 again") == [(again, "403 again")]
    assert dispatch.finished


def test_when_only_refused_cameras_are_left_there_is_doubt() -> None:
    dispatch, (first, second) = dispatched([0, 1, 0])
    dispatch.refused(first, "403")
    assert dispatch.doubt is None
    dispatch.answered(second)
    assert dispatch.take() is None
    assert dispatch.doubt == ({0}, "403")
    assert dispatch.settle() == [(first, "403")]
    assert dispatch.take() is not None


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 4), st.integers(0, 2**32))
def test_cameras_that_go_down_and_come_up_again_lose_no_row(cameras: list[int], per_camera: int, seed: int) -> None:
    order = random.Random(seed)
    dispatch = RowQueue(np.arange(len(cameras), dtype=np.int32), np.array(cameras, np.int32), per_camera)
    flying: list[Job] = []
    done: list[int] = []
    down: set[int] = set()
    for _ in range(400):
        while (turn := dispatch.take()) is not None:
            assert turn.camera not in down
            flying.append(turn)
        if flying:
            turn = flying.pop(order.randrange(len(flying)))
            if order.random() < 0.4:
                dispatch.defer(turn, turn.tries + 1)
                down.add(turn.camera)
            else:
                dispatch.answered(turn)
                done.append(turn.row)
        elif down:
            assert dispatch.only_down_left or dispatch.finished
            camera = order.choice(sorted(down))
            if order.random() < 0.5 and (probe := dispatch.probe(camera)) is not None:
                assert probe.camera == camera
                flying.append(probe)
            else:
                dispatch.up(camera)
                down.remove(camera)
        if dispatch.finished:
            break
    for camera in set(cameras):
        if not any(turn.camera == camera for turn in flying):
            dispatch.up(camera)
    for turn in flying:
        dispatch.answered(turn)
        done.append(turn.row)
    for camera in sorted(set(cameras)):
        done += dispatch.give_up(camera)
    assert sorted(done) == list(range(len(cameras)))
    assert dispatch.finished
