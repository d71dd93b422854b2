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
    queue = RowQueue(rows, np.array(cameras, np.int32), per_camera)
    flying: list[Job] = []
    seen: list[int] = []
    while not queue.finished:
        while len(flying) < concurrency and (job := queue.take()) is not None:
            flying.append(job)
            seen.append(job.row)
            assert sum(t.camera == job.camera for t in flying) <= per_camera
        assert flying
        assert queue.answered(flying.pop(order.randrange(len(flying)))) == []
    assert sorted(seen) == rows.tolist()
    assert queue.take() is None


def test_rows_come_in_build_order_where_no_cap_is_in_the_way() -> None:
    rows = np.array([5, 3, 9, 1], np.int32)
    queue = RowQueue(rows, np.array([0, 1, 0, 1], np.int32), 4)
    assert [job.row for job in iter(queue.take, None)] == [5, 3, 9, 1]


def test_a_slow_camera_does_not_hold_the_others_up() -> None:
    queue = RowQueue(np.arange(6, dtype=np.int32), np.array([0, 0, 0, 0, 1, 1], np.int32), 1)
    slow = queue.take()
    assert slow is not None
    assert slow.row == 0
    for row in (4, 5):
        job = queue.take()
        assert job is not None
        assert job.row == row
        queue.answered(job)
    assert queue.take() is None
    assert not queue.finished


def queued(cameras: list[int], per_camera: int = 1) -> tuple[RowQueue, list[Job]]:
    queue = RowQueue(np.arange(len(cameras), dtype=np.int32), np.array(cameras, np.int32), per_camera)
    return queue, list(iter(queue.take, None))


def test_a_refusal_is_the_cameras_own_once_another_answers_later() -> None:
    queue, (first, second) = queued([0, 1, 0, 1])
    assert queue.refused(first, "403") == []
    # This answer was asked for before the refusal: the key may have been revoked in between.
    assert queue.answered(second) == []
    later = queue.take()
    assert later is not None
    assert later.camera == 1
    assert queue.answered(later) == [(first, "403")]
    again = queue.take()
    assert again is not None
    assert again.camera == 0
    assert queue.refused(again, "403 again") == [(again, "403 again")]
    assert queue.finished


def test_when_only_refused_cameras_are_left_there_is_doubt() -> None:
    queue, (first, second) = queued([0, 1, 0])
    queue.refused(first, "403")
    assert queue.unresolved_refusals is None
    queue.answered(second)
    assert queue.take() is None
    assert queue.unresolved_refusals == ({0}, "403")
    assert queue.release_refused() == [(first, "403")]
    assert queue.take() is not None


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 4), st.integers(0, 2**32))
def test_cameras_that_go_down_and_come_up_again_lose_no_row(cameras: list[int], per_camera: int, seed: int) -> None:
    order = random.Random(seed)
    queue = RowQueue(np.arange(len(cameras), dtype=np.int32), np.array(cameras, np.int32), per_camera)
    flying: list[Job] = []
    done: list[int] = []
    down: set[int] = set()
    for _ in range(400):
        while (job := queue.take()) is not None:
            assert job.camera not in down
            flying.append(job)
        if flying:
            job = flying.pop(order.randrange(len(flying)))
            if order.random() < 0.4:
                queue.defer(job, job.attempts + 1)
                down.add(job.camera)
            else:
                queue.answered(job)
                done.append(job.row)
        elif down:
            assert queue.only_down_left or queue.finished
            camera = order.choice(sorted(down))
            if order.random() < 0.5 and (probe := queue.probe(camera)) is not None:
                assert probe.camera == camera
                flying.append(probe)
            else:
                queue.recovered(camera)
                down.remove(camera)
        if queue.finished:
            break
    for camera in set(cameras):
        if not any(job.camera == camera for job in flying):
            queue.recovered(camera)
    for job in flying:
        queue.answered(job)
        done.append(job.row)
    for camera in sorted(set(cameras)):
        done += queue.give_up(camera)
    assert sorted(done) == list(range(len(cameras)))
    assert queue.finished


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 4), st.integers(0, 2**32))
def test_every_row_has_one_outcome_in_whatever_order_the_steps_come(
    cameras: list[int], per_camera: int, seed: int
) -> None:
    """A probe may come before the queue is asked for a row, and an answer of a camera may end its being down."""
    order = random.Random(seed)
    queue = RowQueue(np.arange(len(cameras), dtype=np.int32), np.array(cameras, np.int32), per_camera)
    flying: list[Job] = []
    done: list[int] = []
    down: set[int] = set()
    steps = 0
    while not queue.finished:
        steps += 1
        step = order.choice(["take", "probe", "answer", "answer", "defer" if steps < 200 else "answer", "recover"])
        if step == "take" and (job := queue.take()) is not None:
            assert job.camera not in down
            flying.append(job)
            assert sum(t.camera == job.camera for t in flying) <= per_camera
        elif step == "probe" and down and (probe := queue.probe(order.choice(sorted(down)))) is not None:
            flying.append(probe)
        elif step == "recover" and down:
            camera = order.choice(sorted(down))
            queue.recovered(camera)
            down.remove(camera)
        elif flying and step in ("answer", "defer"):
            job = flying.pop(order.randrange(len(flying)))
            if step == "defer":
                queue.defer(job, job.attempts + 1)
                down.add(job.camera)
            else:
                queue.answered(job)
                done.append(job.row)
    assert sorted(done) == list(range(len(cameras)))
    assert queue.take() is None
