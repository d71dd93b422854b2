"""The number of threads that OpenCV uses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import cv2

_lock: Final = threading.Lock()
_active = 0
"""Number of ``single_threaded`` blocks that are open, in all threads."""
_earlier_threads = 1
"""Number of OpenCV threads before the first open block."""


@contextmanager
def single_threaded() -> Iterator[None]:
    """Set OpenCV to one thread inside the block, and restore the earlier number after it, also on exceptions.

    The number belongs to the process. Where blocks of different threads overlap, the first to start saves it and
    the last to end restores it. Use this around code that has its own threads or processes: OpenCV's threads would
    compete with them for the processor.
    """
    global _active, _earlier_threads
    with _lock:
        if _active == 0:
            _earlier_threads = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _active += 1
    try:
        yield
    finally:
        with _lock:
            _active -= 1
            if _active == 0:
                cv2.setNumThreads(_earlier_threads)
