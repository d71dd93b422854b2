"""``single_threaded`` leaves the number of OpenCV threads as its caller had it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import cv2
import pytest

from rhombus_dataset.imaging.threads import single_threaded


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    earlier = cv2.getNumThreads()
    cv2.setNumThreads(2)
    yield
    cv2.setNumThreads(earlier)


def test_the_earlier_number_is_restored() -> None:
    with single_threaded():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == 2


def test_the_earlier_number_is_restored_after_an_exception() -> None:
    with pytest.raises(RuntimeError, match="inside"), single_threaded():
        raise RuntimeError("inside the block")
    assert cv2.getNumThreads() == 2


def test_nested_blocks_restore_once() -> None:
    with single_threaded():
        with single_threaded():
            assert cv2.getNumThreads() == 1
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == 2


def test_a_block_that_overlaps_in_another_thread_restores_last() -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with single_threaded():
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=hold)
    with single_threaded():
        other.start()
        assert entered.wait(10)
    assert cv2.getNumThreads() == 1
    leave.set()
    other.join()
    assert cv2.getNumThreads() == 2
